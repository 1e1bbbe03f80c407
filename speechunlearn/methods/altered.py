"""Altered copies: what the model says of a clip played otherwise stands for what it never learnt.

Source: ours. The target is a guess, clip by clip, of what a model that never heard the clip would
say: the original's own answer, drawn towards its answers to copies of the clip that are unlike
anything it was trained on (played faster and slower, moved in time). Where these agree the answer
came from what clips have in common, and it stays; where they do not, it hung on the clip. The
answers to the copies themselves are held, so that the model stays as it was around the clips. No
label is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from speechunlearn import audio
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import (
    Descent,
    Method,
    Outcome,
    Progress,
    Request,
    counting,
    descend,
)
from speechunlearn.methods.losses import divergence, logits_of
from speechunlearn.models import Classifier
from speechunlearn.training import Cost, predict


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, and how clips are altered.

    Args:
        epochs: passes over the forget set
        mode: ``eval``: the answers that are to be met are the eval mode's
        weight: how far the target is drawn from the original's answer to the clip (0) to its
            answers to the altered copies (1)
        speeds: rates that copies are played at; they should lie outside of what the model was
            trained on. Pitch changes with them, so they are no copies of a voice
        shifts: parts of its length that copies are moved by, the end coming first
        anchor: weight of the divergence on the copies

    """

    epochs: int = 10
    learning_rate: float = 1e-4
    mode: str = "eval"
    weight: float = 0.6
    speeds: tuple[float, ...] = (0.78, 1.25)
    shifts: tuple[float, ...] = ()
    anchor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1:
            raise ParameterError(f"weight: {self.weight} is not from 0 to 1")
        if not (self.speeds or self.shifts):
            raise ParameterError("speeds and shifts are both empty: no copy is altered")
        if not all(speed > 0 and speed != 1 for speed in self.speeds):
            raise ParameterError(f"speeds: {self.speeds} are not all positive and other than 1")
        if not all(0 < shift < 1 for shift in self.shifts):
            raise ParameterError(f"shifts: {self.shifts} are not all between 0 and 1")
        if not self.anchor >= 0:
            raise ParameterError(f"anchor: {self.anchor} is negative")


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise KL(target || f(x_e)) + anchor * mean KL(f_original(copy) || f(copy))."""
    cost = Cost()
    normalised = model.frontend.do_normalize
    copies = [
        altered(request.forget, speed=speed, normalised=normalised) for speed in parameters.speeds
    ]
    copies += [
        altered(request.forget, shift=shift, normalised=normalised) for shift in parameters.shifts
    ]
    device = next(model.parameters()).device
    answers = [predict(model, own, cost=cost).to(device) for own in copies]
    own_answers = predict(model, request.forget, cost=cost).to(device)
    targets = drawn(own_answers, torch.stack(answers), parameters.weight)

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        logits = logits_of(model, request.forget, positions, cost)
        value = divergence(logits, targets[positions])
        if parameters.anchor:
            for own, answer in zip(copies, answers, strict=True):
                held = divergence(logits_of(model, own, positions, cost), answer[positions])
                value = value + parameters.anchor / len(copies) * held
        return value

    passes = 1 + (len(copies) if parameters.anchor else 0)
    history = descend(
        model, request.forget, loss, parameters, seed=seed, progress=progress,
        resume=request.resume, skip=counting(cost, passes),
    )
    changed = (targets.argmax(1) != own_answers.argmax(1)).float().mean().item()
    return Outcome(model, cost, {"history": history, "targets_changed": changed})


def drawn(
    logits: Float[Tensor, "clips classes"],
    of_copies: Float[Tensor, "copies clips classes"],
    weight: float,
) -> Float[Tensor, "clips classes"]:
    r"""Return the logits of the targets.

    .. math:: \log p^* = (1 - w) \log p(x_e) + \frac{w}{K} \sum_k \log p(a_k(x_e)) + \text{const}

    the geometric mean of the model's answers: a class that one copy rules out is ruled out.

    Args:
        logits: of the clips
        of_copies: of their altered copies
        weight: w, in [0, 1]

    Returns:
        log-probabilities up to a constant for each clip

    """
    mean = log_softmax(of_copies, dim=2).mean(0)
    return (1 - weight) * log_softmax(logits, dim=1) + weight * mean


def altered(
    clips: Clips, *, speed: float = 1.0, shift: float = 0.0, normalised: bool = True
) -> Clips:
    """Return copies of clips.

    Args:
        clips: as the model takes them
        speed: rate that they are played at, as on a tape: 2 halves the length
        shift: part of the length that is moved from the end to the front
        normalised: whether clips have zero mean and unit variance: copies get it anew

    """
    waveforms_z = []
    for waveform_z in clips.waveforms_z:
        samples = waveform_z.numpy()
        if speed != 1.0:
            samples = soxr.resample(samples, speed, 1.0, quality="MQ")
        copy = torch.from_numpy(audio.normalise(samples) if normalised else samples)
        waveforms_z.append(torch.roll(copy, round(shift * len(copy))))
    return Clips(waveforms_z, clips.labels, clips.hashes, clips.speakers)


METHOD = Method("altered", "Altered copies", frozenset({"forget"}), Parameters, run)
