"""Altered copies: what the model says of a clip played otherwise stands for what it never learnt.

Source: ours. The target is a guess, clip by clip, of what a model that never heard the clip would
say: the original's own answer, drawn towards its answers to copies of the clip that are unlike
anything it was trained on (played faster and slower, moved in time). Where these agree the answer
came from what clips have in common, and it stays; where they do not, it hung on the clip. The
answers to the copies themselves are held, and those to clips spliced from two, made anew at every
step, so that the model stays as it was on speech like theirs. What is held counts as so many
clips, whatever the size of the request: of few clips each moves the model little, and requests one
after another come to what one request for all of them would. No label is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Batch, Descent, Method, Outcome, Request, Work, descend
from speechunlearn.methods.losses import divergence, logits_of
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.training import predict


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, and how clips are altered.

    Args:
        epochs: passes over the forget set
        mode: ``eval``: the answers that are to be met are the eval mode's
        weight: how far the target is drawn from the original's answer to the clip (0) to its
            answers to the altered copies (1), and beyond them: what copies still have of the clip
            lies between the two
        speeds: rates that copies are played at; they should lie outside of what the model was
            trained on. Pitch changes with them, so they are no copies of a voice
        shifts: parts of its length that copies are moved by, the end coming first
        anchor: so many clips the copies, whose answers are held, count as
        splices: so many clips the spliced ones count as, whose answers are held, too

    """

    epochs: int = 10
    learning_rate: float = 1e-4
    mode: str = "eval"
    weight: float = 1.0
    speeds: tuple[float, ...] = (0.78, 1.25)
    shifts: tuple[float, ...] = ()
    anchor: float = 100.0
    splices: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < float("inf"):
            raise ParameterError(f"weight: {self.weight} is negative or not finite")
        if not (self.speeds or self.shifts):
            raise ParameterError("speeds and shifts are both empty: no copy is altered")
        if not all(speed > 0 and speed != 1 for speed in self.speeds):
            raise ParameterError(f"speeds: {self.speeds} are not all positive and other than 1")
        if not all(0 < shift < 1 for shift in self.shifts):
            raise ParameterError(f"shifts: {self.shifts} are not all between 0 and 1")
        for name in ("anchor", "splices"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ParameterError(f"{name}: {getattr(self, name)} is negative or not finite")


def run(
    model: Classifier, request: Request, parameters: Parameters, work: Work
) -> Outcome:
    r"""Minimise the divergence from the targets, with the answers to copies and splices held.

    With N clips x_e, K copies a_k of each, and a batch of spliced clips s at each step, it is

    .. math:: \operatorname{mean}_e \mathrm{KL}(p^*_e \,\|\, f(x_e))
              + \frac{\lambda_a}{N K} \sum_k \operatorname{mean}_e
                \mathrm{KL}(f_0(a_k(x_e)) \,\|\, f(a_k(x_e)))
              + \frac{\lambda_s}{N} \operatorname{mean}_s \mathrm{KL}(f_0(s) \,\|\, f(s))
    """
    forget, n, normalised = request.forget, len(request.forget), model.frontend.do_normalize
    copies = [altered(forget, speed=speed, normalised=normalised) for speed in parameters.speeds]
    copies += [altered(forget, shift=shift, normalised=normalised) for shift in parameters.shifts]
    answers = [predict(model, own, cost=work) for own in copies]
    own_answers = predict(model, forget, cost=work)
    targets = drawn(own_answers, torch.stack(answers), parameters.weight)
    original = copy.deepcopy(model).eval() if parameters.splices else None

    def loss(model: Classifier, batch: Batch) -> Tensor:
        at = batch.positions
        value = divergence(logits_of(model, forget, at), targets[at])
        if parameters.anchor:
            for own, answer in zip(copies, answers, strict=True):
                held = divergence(logits_of(model, own, at), answer[at])
                value = value + parameters.anchor / n / len(copies) * held
        if original is not None:
            made = splices(forget.lengths, parameters.batch_size, batch.seed, batch.step)
            clips = spliced(forget, made, normalised=normalised)
            with torch.no_grad():
                answer = logits_of(original, clips, range(len(clips)))
            held = divergence(logits_of(model, clips, range(len(clips))), answer)
            value = value + parameters.splices / n * held
        return value

    def passes(batch: Batch) -> tuple[int, int]:
        made = parameters.batch_size if parameters.splices else 0
        return len(batch) * (1 + len(copies) * bool(parameters.anchor)) + made, made

    history = descend(model, forget, loss, parameters, work, passes=passes)
    changed = (targets.argmax(1) != own_answers.argmax(1)).float().mean().item()
    return Outcome(model, {"history": history, "targets_changed": changed})


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
        weight: w, 0 or more

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


class Splice(NamedTuple):
    """The beginning of one clip before the end of another.

    Attributes:
        first: position of the clip that is heard first
        until: samples of it
        second: position of the other; the same where there is but one clip, end before beginning
        start: sample of it where its part begins

    """

    first: int
    until: int
    second: int
    start: int


def splices(lengths: Sequence[int], count: int, seed: int, step: int) -> list[Splice]:
    """Draw where clips are cut and joined.

    Both are cut between 3 and 7 tenths of their length.

    Args:
        lengths: samples of each clip
        count: splices to draw
        seed: of the run
        step: of the descent: each has splices of its own

    """
    generator = np.random.default_rng((seed, step))
    found = []
    for _ in range(count):
        first, second = generator.choice(len(lengths), 2, replace=len(lengths) < 2).tolist()
        at = generator.uniform(0.3, 0.7)
        found.append(Splice(first, int(at * lengths[first]), second, int(at * lengths[second])))
    return found


def spliced(clips: Clips, made: Sequence[Splice], *, normalised: bool = True) -> Clips:
    """Return the clips that splices describe; they have no label, and none is told.

    Args:
        clips: as the model takes them
        made: of `splices`
        normalised: whether clips have zero mean and unit variance: splices get it anew

    """
    waveforms_z = []
    for first, until, second, start in made:
        parts = [clips.waveforms_z[first][:until], clips.waveforms_z[second][start:]]
        joined = torch.cat(parts if first != second else parts[::-1])
        waveforms_z.append(
            torch.from_numpy(audio.normalise(joined.numpy())) if normalised else joined
        )
    unknown = torch.full((len(made),), -1)
    return Clips(waveforms_z, unknown, [""] * len(made), [""] * len(made))


METHOD = Method(
    "altered", "Altered copies", frozenset({"forget"}), Parameters, run, strength="weight",
    tried=(1.0, 1.25, 0.75, 1.5, 0.5),
)
