"""Self-distillation to speed-perturbed copies: their answers stand for what was never learnt.

Source: ours. The target is a guess, clip by clip, of what a model that never heard the clip would
say: the original's own answer, drawn towards, and beyond, its answers to copies of the clip that
are played faster and slower, or moved in time. Where these agree the answer came from what clips
have in common, and it stays; where they do not, it depended on the clip. How far, is found on the
clips (`speechunlearn.methods.never_heard`). The answers to copies are held, and those to clips
spliced from two, made anew at every step, so that the model stays as it was on speech like theirs.
What is held counts as so many clips, and at most as those that are to be forgotten. The descent
ends where the targets are reached. No label is used.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError, Positive
from speechunlearn.methods import never_heard
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, divergence, logits_of, predict
from speechunlearn.methods.never_heard import perturb
from speechunlearn.models.training import pieces

#: a target further beyond the copies than this is a guess: copies further off are taken
_FURTHEST = 2.5
#: nats of divergence from which a start counts as one: what is next to its target stays there
_NO_WAY = 0.01


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, and how clips are perturbed.

    Args:
        epochs: passes over the forget set, at most
        mode: ``eval``: the answers that are to be met are the eval mode's
        weight: how far the target is drawn from the original's answer to the clip (0) to its
            answers to the perturbed copies (1), and beyond them: what copies still have of the clip
            lies between the two. None: it is found on the clips, see `aim`, with copies at
            speeds of its own
        speeds: rates that copies are played at; they should lie outside of what the model was
            trained on. Pitch changes with them, so they are no copies of a voice
        shifts: parts of its length that copies are moved by, the end coming first
        anchor: weight of the output distillation on the copies, in clips, and at most as the
            forget set itself
        splices: weight of the output distillation on concatenated clips, in clips, and at most
            as the forget set itself
        until: the descent ends when so small a share is left of the divergence from the targets
            that there was in its first epoch; 0: after all epochs
        steps: the budget: no epoch begins after so many

    """

    epochs: int = 800
    learning_rate: float = 1e-4
    mode: str = "eval"
    weight: float | None = None
    speeds: tuple[float, ...] = (0.78, 1.25)
    shifts: tuple[float, ...] = ()
    anchor: float = 100.0
    splices: float = 100.0
    until: float = 0.03
    steps: Positive[int] = 2400

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            raise ParameterError(f"weight: {self.weight} is negative or not finite")
        if not (self.speeds or self.shifts):
            raise ParameterError("speeds and shifts are both empty: no copy is perturbed")
        if not all(speed > 0 and speed != 1 for speed in self.speeds):
            raise ParameterError(f"speeds: {self.speeds} are not all positive and other than 1")
        if not all(0 < shift < 1 for shift in self.shifts):
            raise ParameterError(f"shifts: {self.shifts} are not all between 0 and 1")
        for name in ("anchor", "splices"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ParameterError(f"{name}: {getattr(self, name)} is negative or not finite")
        if not 0 <= self.until < 1:
            raise ParameterError(f"until: {self.until} is not a share from 0 to below 1")


def run(
    model: Classifier, data: UnlearningData, parameters: Parameters, work: Work
) -> Outcome:
    r"""Minimise the divergence from the targets, with the answers to copies and splices held.

    With N clips x_e, K copies a_k of each, and a batch of concatenated clips s at each step, it is

    .. math:: \operatorname{mean}_e \mathrm{KL}(p^*_e \,\|\, f(x_e))
              + \frac{\min(\lambda_a, N)}{N K} \sum_k \operatorname{mean}_e
                \mathrm{KL}(f_0(a_k(x_e)) \,\|\, f(a_k(x_e)))
              + \frac{\min(\lambda_s, N)}{N} \operatorname{mean}_s \mathrm{KL}(f_0(s) \,\|\, f(s))

    until a share of the first term is left.
    """
    forget, n, normalised = data.forget, len(data.forget), model.frontend.do_normalize
    before = predict(model, forget, cost=work)
    targets, copies, answers, details = aim(model, data, before, parameters, work)
    original = copy.deepcopy(model).eval() if parameters.splices else None
    kept: dict[str, Any] = {"divergences": []}
    sums = [0.0, 0]  # of the divergence from the targets in this epoch, and clips

    def loss(model: Classifier, batch: Batch) -> Iterator[Tensor]:
        for at in pieces(model, forget.lengths, batch.positions):
            share = len(at) / len(batch.positions)
            value = divergence(logits_of(model, forget, at), targets[at])
            sums[0] += value.item() * len(at)
            sums[1] += len(at)
            yield share * value
        held = min(parameters.anchor, n) / n
        for played, answer in zip(copies, answers, strict=True) if held else ():
            for at in pieces(model, played.lengths, batch.positions):
                share = len(at) / len(batch.positions) / len(copies)
                yield share * held * divergence(logits_of(model, played, at), answer[at])
        if original is not None:
            cuts = splices(forget.lengths, parameters.batch_size, batch.seed, batch.step)
            clips = spliced(forget, cuts, normalised=normalised)
            for at in pieces(model, clips.lengths, range(len(clips))):
                with torch.no_grad():
                    answer = logits_of(original, clips, at)
                share = min(parameters.splices, n) / n * len(at) / len(clips)
                yield share * divergence(logits_of(model, clips, at), answer)

    def passes(batch: Batch) -> tuple[int, int]:
        spliced_clips = parameters.batch_size if parameters.splices else 0
        held = len(copies) * bool(parameters.anchor)
        return len(batch) * (1 + held) + spliced_clips, spliced_clips

    def after_epoch(epoch: int) -> None:
        kept["divergences"] = [*kept["divergences"], sums[0] / max(sums[1], 1)]
        sums[:] = [0.0, 0]

    def reached(model: Classifier) -> bool:
        divergences = kept["divergences"]
        return bool(divergences[-1] <= parameters.until * max(divergences[0], _NO_WAY))

    work.enough = reached
    steps = -(-n // parameters.batch_size)
    epochs = min(parameters.epochs, -(-parameters.steps // steps))
    history = descend(
        model, forget, loss, replace(parameters, epochs=epochs), work, passes=passes,
        after_epoch=after_epoch, kept=kept,
    )
    changed = (targets.argmax(1) != before.argmax(1)).float().mean().item()
    return Outcome(model, details | {
        "history": history, "targets_changed": changed, "steps": len(history) * steps,
        "left": kept["divergences"][-1] / max(kept["divergences"][0], _NO_WAY),
    })


def aim(
    model: Classifier, data: UnlearningData, before: Float[Tensor, "clips classes"],
    parameters: Parameters, work: Work,
) -> tuple[Float[Tensor, "clips classes"], list[Clips], list[Tensor], dict[str, Any]]:
    """Return what the answers to the forget set are to become, and which answers are held.

    A weight that is not given is found on the clips: it is that at which the targets' mean loss is
    the level of the request, or else what a model that never heard the clips would lose, see
    `speechunlearn.methods.never_heard`, with the nearest copies that need no weight above 2.5.

    Args:
        model: the original
        data: its forget set
        before: the original's logits of the forget set
        parameters: of the method
        work: its account

    Returns:
        logits of the targets, copies whose answers are held, the original's logits of these, and
        how it was found

    """
    forget, normalised = data.forget, model.frontend.do_normalize
    if parameters.weight is not None:
        copies = [perturb(forget, speed=rate, normalised=normalised) for rate in parameters.speeds]
        copies += [perturb(forget, shift=part, normalised=normalised) for part in parameters.shifts]
        logits = [predict(model, clips, cost=work) for clips in copies]
        targets = drawn(before, torch.stack(logits), parameters.weight)
        return targets, copies, logits, {"weight": parameters.weight}
    said = before.argmax(1)
    heard = never_heard.estimate(model, forget, said, work, data.unseen_loss)
    answers, level = heard.answers, heard.level if data.level is None else data.level
    weights = [_weight(before, torch.stack(answer), said, level) for answer in answers]
    rung = next((i for i, weight in enumerate(weights) if weight <= _FURTHEST), len(weights) - 1)
    weight, far = min(weights[rung], _FURTHEST), max(rung, never_heard.FAR)
    targets = drawn(before, torch.stack(answers[rung]), weight)
    rate, held = never_heard.LADDER[rung], never_heard.LADDER[far]
    copies = [perturb(forget, speed=speed, normalised=normalised) for speed in (1 / held, held)]
    return targets, copies, answers[far], {
        "weight": weight, "speeds": [1 / rate, rate], "never_heard": level,
        "losses": [_loss(before, said), *heard.losses], "targets_loss": _loss(targets, said),
    }


def _loss(logits: Float[Tensor, "clips classes"], labels: Tensor) -> float:
    return cross_entropy(logits, labels).item()


def _weight(
    before: Float[Tensor, "clips classes"], of_copies: Float[Tensor, "copies clips classes"],
    labels: Tensor, level: float,
) -> float:
    """Return the least weight at which the targets' mean loss is a level, to one in a thousand."""
    low, high = 0.0, 8.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if _loss(drawn(before, of_copies, middle), labels) < level:
            low = middle
        else:
            high = middle
    return high


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
        of_copies: of their perturbed copies
        weight: w, 0 or more

    Returns:
        log-probabilities up to a constant for each clip

    """
    mean = log_softmax(of_copies, dim=2).mean(0)
    return (1 - weight) * log_softmax(logits, dim=1) + weight * mean


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
    cuts = []
    for _ in range(count):
        first, second = generator.choice(len(lengths), 2, replace=len(lengths) < 2).tolist()
        at = generator.uniform(0.3, 0.7)
        cuts.append(Splice(first, int(at * lengths[first]), second, int(at * lengths[second])))
    return cuts


def spliced(clips: Clips, cuts: Sequence[Splice], *, normalised: bool = True) -> Clips:
    """Return the clips that splices describe; they have no label, and none is told.

    Args:
        clips: as the model takes them
        cuts: of `splices`
        normalised: whether clips have zero mean and unit variance: splices get it anew

    """
    waveforms_z = []
    for first, until, second, start in cuts:
        parts = [clips.waveforms_z[first][:until], clips.waveforms_z[second][start:]]
        joined = torch.cat(parts if first != second else parts[::-1])
        waveforms_z.append(
            torch.from_numpy(audio.normalise(joined.numpy())) if normalised else joined
        )
    unknown = torch.full((len(cuts),), -1)
    return Clips(waveforms_z, unknown, [""] * len(cuts), [""] * len(cuts))


METHOD = Method(
    "perturbed", "Self-distillation to perturbed copies", frozenset({"forget"}), Parameters, run,
    hyperparameter="weight",
    tried=(1.0, 1.25, 0.75, 1.5, 0.5),
)
