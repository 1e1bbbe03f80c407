"""UNSIR: the model is impaired by noise that it gets most wrong, and repaired by the retain set.

Source: Tarun et al. 2024, who forget whole classes. The noise is of the classes that
it is labelled with, so that single clips are forgotten with the class around them, unless the noise
starts from the clips (``start``). The authors learn one batch of noise a class, where here each
clip has its own, and mix it into the retained clips; here one step has both, as in `remain`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn import clips as clips_module
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.bad_teacher import drawn
from speechunlearn.methods.base import (
    Descent,
    Method,
    Outcome,
    Progress,
    Request,
    check_share,
    descend,
    endless,
)
from speechunlearn.methods.layers import moving
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the drawn part of the retain set; the noise goes round beside it.

    Args:
        epochs: passes to impair, and as many again to repair (the authors: 1)
        repair_rate: learning rate of repairing over that of impairing (the authors: 0.5)
        retain_share: part of the retain set that is drawn, once (the authors: 1,000 of the 5,000
            clips of a class)
        start: ``noise`` starts from normal noise of the length of each forget clip (the authors);
            ``clips`` from the forget clips
        noise_steps: Adam's steps on the noise (the authors: 40)
        noise_rate: Adam's learning rate for the noise (the authors: 0.1)
        noise_penalty: weight of the sum of its squared samples (the authors: 0.1)
        noise_batch_size: waveforms that are learned at once

    """

    epochs: int = 1
    repair_rate: float = 0.5
    retain_share: float = 0.2
    start: str = "noise"
    noise_steps: int = 40
    noise_rate: float = 0.1
    noise_penalty: float = 0.1
    noise_batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("retain_share", self.retain_share)
        for name in ("repair_rate", "noise_steps", "noise_rate", "noise_batch_size"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name}: {getattr(self, name)} is not positive")
        if not self.noise_penalty >= 0:
            raise ParameterError(f"noise_penalty: {self.noise_penalty} is negative")
        if self.start not in ("noise", "clips"):
            raise ParameterError(f"start: {self.start!r} is not noise or clips")


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise CE(f(noise), y_e) + CE(f(x_r), y_r), then CE(f(x_r), y_r) alone."""
    assert request.retain is not None  # Method.unlearn has checked it
    kept, cost = request.retain.at(
        drawn(len(request.retain), parameters.retain_share, seed)
    ), Cost()
    noise = learned_noise(model, request.forget, parameters, seed, cost)
    noise_batches = endless(noise, parameters.batch_size, seed)
    repair = replace(
        parameters, learning_rate=parameters.learning_rate * parameters.repair_rate
    )

    def repairing(model: Classifier, positions: list[int]) -> Tensor:
        return true_label_loss(model, kept, positions, cost)

    def impairing(model: Classifier, positions: list[int]) -> Tensor:
        impaired = true_label_loss(model, noise, next(noise_batches), cost)
        return impaired + repairing(model, positions)

    epochs = parameters.epochs

    def half(before: int) -> Progress | None:
        """Report both halves as one piece of work."""
        if progress is None:
            return None
        return lambda done, total, loss: progress(before + done, 2 * epochs, loss)

    history = descend(model, kept, impairing, parameters, seed=seed, progress=half(0))
    # another seed, or the repair would see the order and the dropout of the impairment again
    history += descend(model, kept, repairing, repair, seed=seed + 1, progress=half(epochs))
    return Outcome(model, cost, {"history": history})


def learned_noise(
    model: Classifier, forget: Clips, parameters: Parameters, seed: int, cost: Cost
) -> Clips:
    """Return a waveform for each forget clip that the model is most wrong about, with its label.

    Adam minimises -CE(f(noise), y_e) + penalty ``|noise|^2``; the model stands still in eval mode.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(length, generator=generator) for length in forget.lengths]
    if parameters.start == "clips":
        made = list(forget.waveforms_z)
    start = Clips(made, forget.labels, forget.hashes, forget.speakers)
    found = list(made)
    model.eval()
    with moving(model, ()):
        for positions in clips_module.sorted_batches(start.lengths, parameters.noise_batch_size):
            noise, lengths = (t.to(device) for t in start.batch(positions))
            inside = torch.arange(noise.shape[1], device=device) < lengths[:, None]
            labels = start.labels[positions].to(device)
            noise.requires_grad_(True)
            optimiser = torch.optim.Adam([noise], lr=parameters.noise_rate)
            for _ in range(parameters.noise_steps):
                error = cross_entropy(model(noise, lengths), labels, reduction="sum")
                optimiser.zero_grad()
                (parameters.noise_penalty * noise.square().sum() - error).backward()
                assert noise.grad is not None  # backward has just made it
                noise.grad *= inside  # padding stays zero
                optimiser.step()
            cost.forward_backward += parameters.noise_steps * len(positions)
            for row, position in enumerate(positions):
                found[position] = noise[row, : int(lengths[row])].detach().cpu().clone()
    return Clips(found, forget.labels, forget.hashes, forget.speakers)


METHOD = Method(
    "unsir", "UNSIR", frozenset({"forget", "retain"}), Parameters, run, strength="learning_rate",
    resumes=False,
)
