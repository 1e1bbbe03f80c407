"""UNSIR: the model is impaired by noise that it gets most wrong, and repaired by the retain set.

Source: Tarun et al. 2024, who forget whole classes. The noise is of the classes that
it is labelled with, so that single clips are forgotten with the class around them, unless the noise
starts from the clips (``start``). The authors learn one batch of noise a class, where here each
clip has its own, and mix it into the retained clips; here one step has both, as in `remain`.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips, sorted_batches
from speechunlearn.errors import NotNegative, Positive, Share, one_of
from speechunlearn.methods.bad_teacher import drawn
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss
from speechunlearn.methods.pgd import frozen, input_gradient
from speechunlearn.models.loop import sized


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
    repair_rate: Positive[float] = 0.5
    retain_share: Share = 0.2
    start: Annotated[str, one_of("noise", "clips")] = "noise"
    noise_steps: Positive[int] = 40
    noise_rate: Positive[float] = 0.1
    noise_penalty: NotNegative[float] = 0.1
    noise_batch_size: Positive[int] = 32


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(noise), y_e) + CE(f(x_r), y_r), then CE(f(x_r), y_r) alone."""
    kept = data.rest.at(drawn(len(data.rest), parameters.retain_share, work.seed))
    noise = learned_noise(model, data.forget, parameters, work)
    rate = parameters.learning_rate * parameters.repair_rate

    def repairing(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, kept, batch.positions)

    def impairing(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, noise, batch.beside[0]) + repairing(model, batch)

    history = descend(model, kept, impairing, parameters, work, beside=[noise])
    # another seed, or the repair would see the order and the dropout of the impairment again
    history += descend(
        model, kept, repairing, replace(parameters, learning_rate=rate), work, seed=work.seed + 1
    )
    return Outcome(model, {"history": history})


def learned_noise(model: Classifier, forget: Clips, parameters: Parameters, work: Work) -> Clips:
    """Return a waveform for each forget clip that the model is most wrong about, with its label.

    Adam minimises -CE(f(noise), y_e) + penalty ``|noise|^2``; the model stands still in eval mode.
    """
    device, steps = next(model.parameters()).device, parameters.noise_steps
    generator = torch.Generator().manual_seed(work.seed)
    waveforms_z = [torch.randn(length, generator=generator) for length in forget.lengths]
    if parameters.start == "clips":
        waveforms_z = [waveform_z.clone() for waveform_z in forget.waveforms_z]
    batches = list(sorted_batches(forget.lengths, parameters.noise_batch_size))
    start = Clips(waveforms_z, forget.labels, forget.hashes, forget.speakers)
    with frozen(model):
        for positions in work.batches("noise", start, batches, forward_backward=steps):
            noise, lengths = (t.to(device) for t in start.batch(positions))
            labels = start.labels[positions].to(device)
            optimiser = torch.optim.Adam([noise], lr=parameters.noise_rate)
            for _ in work.phase("noise steps", range(steps), samples=sized(noise), quiet=True):
                # padding stays zero
                wrong, _ = input_gradient(model, noise, lengths, labels)
                noise.grad = 2 * parameters.noise_penalty * noise - wrong
                optimiser.step()
            for row, position in zip(noise.cpu(), positions, strict=True):
                waveforms_z[position].copy_(row[: len(waveforms_z[position])])
    return start


METHOD = Method("unsir", "UNSIR", {"forget", "retain"}, Parameters, run)
