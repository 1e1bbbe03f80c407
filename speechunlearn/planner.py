r"""What forgetting will cost: passes counted before one is made, seconds from a short calibration.

A method's batches are known before it runs: how many clips each holds, and how long its longest
clip is. A few of them are timed, several times in turns; for each kind of pass

.. math:: \text{seconds} = a + b \cdot \text{clips} + c \cdot \text{clips} \cdot \text{samples},
          \qquad a, b, c \ge 0

is fitted to the medians, and summed over all batches. The sum is multiplied by the mean of all
times over that of their medians: what else the machine does slows a run as a whole. Lengths are the
request's own, so that nothing is extrapolated over the length of clips; where full batches would
take longer than the budget, smaller ones are timed.

Inside `speechunlearn.fast.fast` some batches are computed at once, each by a worker. As many are
timed at once, and divided by their number; the sum is then multiplied by what workers lose that
have nothing left to do while the last batches of a group are computed.

AMUN attacks a clip under a bound that doubles until its class changes: how often, only the model
can tell. `plan` runs that search on a few of the request's clips, spread over their lengths, and
each of them stands for those closest to it in length. What the search costs is then an estimate,
in passes as in seconds, unless it was run on every clip.

What some methods do once to all weights (draw noise, choose a mask, dampen) is not timed.
"""

from __future__ import annotations

import contextlib
import copy
import heapq
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch.nn.utils import clip_grad_norm_

from speechunlearn import attacks, fast, machine, methods, training
from speechunlearn import clips as clips_module
from speechunlearn.attacks import AttackParameters, adversarial_set
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.importance import elastic_penalty, estimate
from speechunlearn.methods import amun, base, jit, l1_sparse
from speechunlearn.methods.altered import altered, splices
from speechunlearn.methods.bad_teacher import drawn
from speechunlearn.methods.base import Descent, Resume
from speechunlearn.methods.layers import last, moving
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.methods.nearby import Moves, moved
from speechunlearn.models import Classifier, seeded
from speechunlearn.training import Cost, Recipe

#: kinds of pass, each of a batch
FORWARD, WEIGHTS, IMPORTANCE = "forward", "to the weights", "importance"
#: an attack on a batch with one step, its check included; and each further step
ATTACK, ATTACK_STEP = "attack", "to the waveform"
#: a step of `speechunlearn.methods.nearby.moved` on a batch
MOVE = "to a waveform nearby"
#: of a noisy copy of each clip
NOISY = "forward, with noise"
#: and what is no pass: of the optimiser, around an epoch, of altered copies, around a run
STEP, EPOCH, ALTERING, AROUND = "step", "epoch", "altering", "around"

#: what the kinds cost beside a pass to the weights, roughly: decides how much can be timed
_ROUGHLY = {
    FORWARD: 0.4, WEIGHTS: 1.0, IMPORTANCE: 1.2, ATTACK: 2.0, ATTACK_STEP: 1.0, MOVE: 1.0,
    NOISY: 0.5,
}
#: rounds of a calibration, the warm-up not counted
_ROUNDS = (3, 9)
#: steps of the longer of the two attacks that are timed
_STEPS = 4
#: steps of a move that are timed at once
_MOVES = 2
#: the least and the most clips that a search is run on, and its share of the budget
_SEARCHED = (2, 32)
_SEARCH = 0.5

Batches = list[tuple[int, int]]
Group = tuple[tuple[int, int], ...]
Clock = Callable[[], float]


class Line(NamedTuple):
    """What is done to batches of one shape.

    Attributes:
        part: of the method, as a reader calls it
        kind: of pass
        clips: in the batch
        samples: of its longest clip

    """

    part: str
    kind: str
    clips: int
    samples: int


@dataclass
class Work:
    """All that a piece of work does, by the shape of its batches.

    Args:
        lines: how often each line is done
        mode: of the passes to the weights: ``train`` or ``eval``
        together: passes to the weights before each step, whose graphs are held at once: of the
            batch and of those beside it
        elastic: whether every step has an elastic term
        clipped: whether every step clips the gradient
        masked: whether every step masks it
        shrunk: whether every step has the penalty of `speechunlearn.methods.l1_sparse`
        layers: that move, from the top; None moves all
        models: held beside the one that changes and the original
        kept: whether the state is kept after every epoch
        quick: whether it is computed inside `speechunlearn.fast.fast`
        fused: whether a step is a single call for all weights
        attack: how adversarial copies are made
        moves: how clips are moved
        importance: kind and mode of the importance estimate
        altered: speeds and shifts of altered copies
        copies: samples of adversarial, moved and altered copies that are held in memory
        groups: by the kind of pass, the batches that workers share where there are several, by
            their shapes and in their order, and how often: a worker takes the next one when it
            is free, and the next group begins when all are

    """

    lines: Counter[Line] = field(default_factory=Counter)
    mode: str = "train"
    together: int = 1
    elastic: bool = False
    clipped: bool = False
    masked: bool = False
    shrunk: bool = False
    layers: int | None = None
    models: int = 0
    kept: bool = False
    quick: bool = False
    fused: bool = False
    attack: AttackParameters | None = None
    moves: Moves | None = None
    importance: tuple[str, str] = ("fisher", "eval")
    altered: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    copies: int = 0
    groups: dict[str, Counter[Group]] = field(default_factory=dict)

    def add(self, part: str, kind: str, batches: Iterable[tuple[int, int]], times: int = 1) -> None:
        """Count batches, each so many times."""
        for clips, samples in batches:
            self.lines[Line(part, kind, clips, samples)] += times

    def often(self, part: str, kind: str, times: int) -> None:
        """Count what is done to no batch."""
        self.lines[Line(part, kind, 0, 0)] += times

    def share(self, kind: str, batches: Iterable[tuple[int, int]]) -> None:
        """Say that batches which are counted are a group that workers share."""
        self.groups.setdefault(kind, Counter())[tuple(batches)] += 1

    def shapes(self, kind: str) -> Counter[tuple[int, int]]:
        """Return how often each shape of batch gets this kind of pass."""
        found: Counter[tuple[int, int]] = Counter()
        for line, times in self.lines.items():
            if line.kind == kind:
                found[line.clips, line.samples] += times
        return found

    def cost(self, part: str | None = None) -> Cost:
        """Return the clips sent through the model, as the method itself counts them."""
        found = Cost()
        for line, times in self.lines.items():
            if part not in (None, line.part):
                continue
            if line.kind in (WEIGHTS, IMPORTANCE, ATTACK, ATTACK_STEP, MOVE):
                found.forward_backward += times * line.clips
            if line.kind in (FORWARD, ATTACK, NOISY):
                found.forward += times * line.clips
        return found

    @property
    def parts(self) -> list[str]:
        """Names of the parts, in the order of the work."""
        return list(dict.fromkeys(line.part for line in self.lines))


@dataclass(frozen=True)
class Case:
    """What a method is to do.

    Args:
        forget: samples of each clip to forget
        retain: of each retained clip; None where there are none
        parameters: of the method
        seed: of the run
        piece: adversarial copies are made in pieces of so many clips; None makes them in one
        kept: whether the state is kept after every epoch, by methods that can
        quick: whether it runs with ``quick``, see `speechunlearn.methods.base.Method.unlearn`
        attacks: under how many bounds `speechunlearn.methods.amun.nearest` attacks each clip to
            forget; None where that is not known, and methods that search can't be planned

    """

    forget: Sequence[int]
    retain: Sequence[int] | None
    parameters: Any
    seed: int = 0
    piece: int | None = None
    kept: bool = False
    quick: bool = False
    attacks: Sequence[int] | None = None


def _epoch(lengths: Sequence[int], batch_size: int, seed: int) -> Batches:
    """Return the shapes of the batches of a first epoch; those of others differ by chance."""
    with seeded(seed, 0) as generator:
        chosen = list(clips_module.shuffled_batches(lengths, batch_size, generator))
    return _shapes(chosen, lengths)


def _asked(lengths: Sequence[int]) -> Batches:
    """Return the shapes of the batches that `speechunlearn.training.predict` makes."""
    return _shapes(clips_module.sorted_batches(lengths, 32), lengths)


def _beside(lengths: Sequence[int], batch_size: int, seed: int, steps: int) -> Batches:
    """Return the shapes of batches that go round beside others, one a step."""
    generator = torch.Generator().manual_seed(seed)
    endless = clips_module.cycle(
        lambda: clips_module.shuffled_batches(lengths, batch_size, generator)
    )
    return _shapes(itertools.islice(endless, steps), lengths)


def _shapes(chosen: Iterable[Sequence[int]], lengths: Sequence[int]) -> Batches:
    return [(len(batch), max(lengths[i] for i in batch)) for batch in chosen]


def _begin(case: Case, **values: Any) -> Work:
    mode = getattr(case.parameters, "mode", "eval")
    work = Work(mode=mode, quick=case.quick, fused=case.quick, **values)
    work.often("copy of the model", AROUND, 1)
    return work


def _descend(
    work: Work, lengths: Sequence[int], descent: Descent, seed: int, passes: int = 1
) -> int:
    """Count a descent over clips; return its number of steps."""
    own = _epoch(lengths, descent.batch_size, seed)
    work.add("descent", WEIGHTS, own, descent.epochs * passes)
    work.often("descent", STEP, descent.epochs * len(own))
    work.often("descent", EPOCH, descent.epochs)
    return descent.epochs * len(own)


def _on_forget(case: Case) -> Work:
    r"""Epochs * N clips to the weights."""
    work = _begin(case, kept=case.kept, clipped=hasattr(case.parameters, "clip_gradient"))
    _descend(work, case.forget, case.parameters, case.seed)
    return work


def _delete(case: Case) -> Work:
    """N clips forward, epochs * N to the weights."""
    work = _begin(case, kept=case.kept)
    work.add("asking the original", FORWARD, _asked(case.forget))
    _descend(work, case.forget, case.parameters, case.seed)
    return work


def _altered(case: Case) -> Work:
    """(K + 1) * N clips forward, epochs * (K + 1) * N to the weights, with K copies a clip.

    And a batch of spliced clips both ways at each step.
    """
    own = case.parameters
    work = _begin(
        case, kept=case.kept, altered=(tuple(own.speeds), tuple(own.shifts)),
        models=int(own.splices > 0),
    )
    rates = [*own.speeds, *(1.0 for _ in own.shifts)]
    copies = [[max(1, round(n / rate)) for n in case.forget] for rate in rates]
    work.copies = sum(map(sum, copies))
    work.add("altered copies", ALTERING, ((1, n) for n in case.forget))
    for lengths in (*copies, case.forget):
        work.add("asking the original", FORWARD, _asked(lengths))
    steps = _epoch(case.forget, own.batch_size, case.seed)
    rounds = own.epochs
    held = copies if own.anchor else []
    work.together = 1 + len(held) + (own.splices > 0)
    for lengths in (case.forget, *held):
        scale = sum(lengths) / sum(case.forget)
        shapes = ((clips, max(1, round(samples * scale))) for clips, samples in steps)
        work.add("descent", WEIGHTS, shapes, rounds)
    if own.splices:
        for step in range(rounds * len(steps)):
            made = splices(case.forget, own.batch_size, case.seed, step)
            longest = max(s.until + case.forget[s.second] - s.start for s in made)
            for kind in (WEIGHTS, FORWARD):
                work.add("descent", kind, [(len(made), longest)])
    work.often("descent", STEP, rounds * len(steps))
    work.often("descent", EPOCH, rounds)
    return work


def _adversarial(case: Case) -> Work:
    """M * N * P clips to the waveform, M * N forward; then epochs * M * N and those beside."""
    own = case.parameters
    attack = own.attack
    anew = own.epochs if own.sets == "anew" else 1
    work = _begin(case, kept=case.kept and anew == 1, attack=attack, together=2)
    for first in range(anew):
        step = len(case.forget) if first or case.piece is None else case.piece
        for start in range(0, len(case.forget), step):
            lengths = [n for n in case.forget[start : start + step] for _ in range(attack.copies)]
            made = attacks.batches(
                lengths, attack.batch_size, attacks.CHUNK_SAMPLES, alike=case.quick
            )
            shapes = _shapes(made, lengths)
            work.add("adversarial copies", ATTACK, shapes)
            work.share(ATTACK, shapes)
            if attack.steps > 1:
                work.add("adversarial copies", ATTACK_STEP, shapes, attack.steps - 1)
                work.share(ATTACK_STEP, shapes)
    repeated = [n for n in case.forget for _ in range(attack.copies)]
    work.copies = sum(repeated)
    steps = _descend(work, repeated, own, case.seed)
    beside = _beside(case.forget, own.batch_size, case.seed, steps)
    work.add("descent", WEIGHTS, beside)
    for pair in zip(itertools.cycle(_epoch(repeated, own.batch_size, case.seed)), beside):
        work.share(WEIGHTS, pair)
    return work


def _elastic(case: Case) -> Work:
    """Adv.'s, and N clips to the weights for their importance."""
    own = case.parameters
    work = _adversarial(case)
    if own.importance == "none":
        return work
    size = 1 if own.fisher_per == "clip" else own.batch_size
    _estimate(work, case.forget, own.importance, size, own.importance_mode)
    work.elastic = True
    return work


def _estimate(
    work: Work, lengths: Sequence[int], kind: str, size: int = 1, mode: str = "eval"
) -> None:
    """Count an importance estimate, of so many clips a batch."""
    ordered = range(len(lengths))
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    work.add("importance of weights", IMPORTANCE, _shapes(batches, lengths))
    work.importance = (kind, mode)


def _on_retain(case: Case) -> Work:
    """Epochs * R clips to the weights."""
    work = _begin(case)
    _descend(work, case.retain or (), case.parameters, case.seed)
    return work


def _on_both(case: Case) -> Work:
    """Epochs * R clips to the weights, and as many batches of the forget set beside."""
    work = _begin(case, together=2)
    steps = _descend(work, case.retain or (), case.parameters, case.seed)
    beside = _beside(case.forget, case.parameters.batch_size, case.seed, steps)
    work.add("descent", WEIGHTS, beside)
    return work


def _scrub(case: Case) -> Work:
    """N + R clips forward, epochs * R and max_epochs * N to the weights."""
    own, retain = case.parameters, case.retain or ()
    if own.rewind:
        raise ParameterError("rewind: what it costs is not planned")
    work = _begin(case)
    for lengths in (case.forget, retain):
        work.add("asking the original", FORWARD, _asked(lengths))
    _descend(work, retain, own, case.seed)
    most = min(own.max_epochs, own.epochs)
    if most:
        _descend(work, case.forget, replace(own, epochs=most), case.seed)
    return work


def _move(work: Work, part: str, lengths: Sequence[int], moves: Moves) -> None:
    """Count clips that are moved, and then asked about."""
    work.moves = moves
    made = clips_module.sorted_batches(lengths, moves.batch_size)
    work.add(part, MOVE, _shapes(made, lengths), moves.steps)
    work.add(part, FORWARD, _asked(lengths))


def _amun(case: Case, retain: Sequence[int] = ()) -> Work:
    """A * P clips to the waveform, A forward, with A the attacks of all clips; then the descent.

    That is epochs * N clips to the weights; with the retain set epochs * R, and as many batches
    of the examples beside.
    """
    own = case.parameters
    if case.attacks is None:
        raise ParameterError("how often a clip is attacked only the model can tell: see plan")
    beside = int(bool(retain)) + own.keep_forget
    work = _begin(case, together=1 + beside)
    for doubling in range(own.doublings + 1):
        waiting = [
            n for n, count in zip(case.forget, case.attacks, strict=True) if count > doubling
        ]
        _move(work, "nearest examples", waiting, own.moves(doubling))
    work.copies = sum(case.forget)
    steps = _descend(work, retain or case.forget, own, case.seed)
    work.add("descent", WEIGHTS, _beside(case.forget, own.batch_size, case.seed, steps), beside)
    return work


def _amun_r(case: Case) -> Work:
    """AMUN's, with the retain set."""
    return _amun(case, case.retain or ())


def _boundary_shrink(case: Case) -> Work:
    """N * P clips to the waveform, N forward; then epochs * N to the weights."""
    work = _begin(case)
    _move(work, "nearest classes", case.forget, case.parameters.moves)
    _descend(work, case.forget, case.parameters, case.seed)
    return work


def _boundary_expand(case: Case) -> Work:
    """Epochs * N clips to the weights: one more class costs nothing beside the rest."""
    work = _begin(case)
    _descend(work, case.forget, case.parameters, case.seed)
    return work


def _jit(case: Case) -> Work:
    """Epochs * N clips to the weights, and as many forward for each draw of noise."""
    own = case.parameters
    work = _begin(case)
    _descend(work, case.forget, own, case.seed)
    shapes = _epoch(case.forget, own.batch_size, case.seed)
    work.add("descent", NOISY, shapes, own.epochs * own.draws)
    return work


def _l2ul(case: Case) -> Work:
    """M * N * P clips to the waveform, M * N forward, N to the weights for their importance.

    Then epochs * M * N to the weights, and as many batches of the forget set beside.
    """
    own = case.parameters
    work = _begin(case, together=2, elastic=own.lambda_imp > 0)
    repeated = [n for n in case.forget for _ in range(own.copies)]
    _move(work, "adversarial copies", repeated, own.moves)
    work.copies = sum(repeated)
    if work.elastic:
        _estimate(work, case.forget, "1-mas")
    steps = _descend(work, repeated, own, case.seed)
    work.add("descent", WEIGHTS, _beside(case.forget, own.batch_size, case.seed, steps))
    return work


def _salun(case: Case) -> Work:
    """N clips to the weights for the mask; then those of the descent on both sets."""
    work = _on_both(case)
    work.masked = True
    _estimate(work, case.forget, "saliency")
    return work


def _bad_teacher(case: Case) -> Work:
    """N clips and those that are drawn forward, and epochs times these to the weights.

    To make the incompetent teacher is counted as one more copy of the model.
    """
    own = case.parameters
    work = _begin(case, models=1)
    work.often("copy of the model", AROUND, 1)
    kept = _drawn(case)
    for lengths in (case.forget, kept):
        work.add("asking the teachers", FORWARD, _asked(lengths))
    _descend(work, [*case.forget, *kept], own, case.seed)
    return work


def _drawn(case: Case) -> list[int]:
    """Return the lengths of the retained clips that are drawn."""
    retain = case.retain or ()
    return [retain[i] for i in drawn(len(retain), case.parameters.retain_share, case.seed)]


def _cf_k(case: Case) -> Work:
    """Epochs * R clips to the weights of the last layers."""
    work = _on_retain(case)
    work.layers = case.parameters.k
    return work


def _l1_sparse(case: Case) -> Work:
    """Epochs * R clips to the weights."""
    work = _on_retain(case)
    work.shrunk = True
    return work


def _fisher_forgetting(case: Case) -> Work:
    """R clips to the weights for their importance; with drawn labels, R forward."""
    work, retain = _begin(case), case.retain or ()
    if case.parameters.labels == "drawn":
        work.add("asking the original", FORWARD, _asked(retain))
    _estimate(work, retain, "fisher")
    return work


def _influence(case: Case) -> Work:
    """R clips to the weights for their importance, and N for the step."""
    work = _begin(case)
    _estimate(work, case.retain or (), "fisher")
    made = clips_module.sorted_batches(case.forget, case.parameters.batch_size)
    work.add("step", WEIGHTS, _shapes(made, case.forget))
    return work


def _unsir(case: Case) -> Work:
    """N * P clips to the waveform; then 2 * epochs times those drawn, and N beside in one half."""
    own = case.parameters
    work, kept = _begin(case, together=2), _drawn(case)
    work.moves = Moves(1.0, steps=own.noise_steps, batch_size=own.noise_batch_size)
    made = clips_module.sorted_batches(case.forget, own.noise_batch_size)
    work.add("noise", MOVE, _shapes(made, case.forget), own.noise_steps)
    work.copies = sum(case.forget)
    steps = _descend(work, kept, own, case.seed)
    work.add("descent", WEIGHTS, _beside(case.forget, own.batch_size, case.seed, steps))
    _descend(work, kept, own, case.seed + 1)
    return work


def _ssd(case: Case) -> Work:
    """N + R clips to the weights for their importance."""
    own, work = case.parameters, _begin(case)
    size = 1 if own.fisher_per == "clip" else own.batch_size
    for lengths in (case.forget, case.retain or ()):
        _estimate(work, lengths, "fisher", size, own.mode)
    return work


#: what each method that is planned will do, in the order of the book
WORK: dict[str, Callable[[Case], Work]] = {
    "remain": _on_both,
    "remain_superloss": _on_both,
    "ran_lab": _on_forget,
    "adv": _adversarial,
    "adv_ela": _elastic,
    "finetune": _on_retain,
    "neggrad": _on_forget,
    "neggrad_plus": _on_both,
    "scrub": _scrub,
    "salun": _salun,
    "bad_teacher": _bad_teacher,
    "delete": _delete,
    "ssd": _ssd,
    "cf_k": _cf_k,
    "l1_sparse": _l1_sparse,
    "fisher_forgetting": _fisher_forgetting,
    "influence": _influence,
    "unsir": _unsir,
    "boundary_shrink": _boundary_shrink,
    "boundary_expand": _boundary_expand,
    "jit": _jit,
    "l2ul": _l2ul,
    "amun": _amun,
    "amun_r": _amun_r,
    "altered": _altered,
}


def check(method: str) -> None:
    """Refuse a method whose cost is not planned.

    Raises:
        ParameterError: it is not

    """
    if method not in WORK:
        raise ParameterError(
            f"method: {method!r} is not one of those whose cost is planned: {', '.join(WORK)}"
        )


def work_of(method: str, case: Case) -> Work:
    """Return what a method will do.

    Raises:
        ParameterError: a method that is not planned, or one that lacks the retain set or what
            only `plan` finds out

    """
    check(method)
    if methods.get(method).needs & {"retain", "statistic"} and not case.retain:
        raise ParameterError(f"method {method!r} needs the retain set, which is not given")
    return WORK[method](case)


def work_of_training(lengths: Sequence[int], recipe: Recipe, seed: int = 0) -> Work:
    """Return what training from the start does: epochs * R clips to the weights.

    Args:
        lengths: samples of each training clip
        recipe: hyperparameters
        seed: of the run

    Raises:
        ParameterError: no clips, or a recipe that plays them at other speeds

    """
    if not lengths:
        raise ParameterError("retain: there are no clips to train on")
    if recipe.speeds != (1.0,):
        raise ParameterError(f"speeds: {recipe.speeds}: clips that are altered are not planned")
    work = Work(mode="train", clipped=recipe.clip_gradient is not None, quick=recipe.quick)
    work.often("new model", AROUND, 1)
    own = _epoch(lengths, recipe.batch_size, seed)
    work.add("training", WEIGHTS, own, recipe.epochs)
    work.often("training", STEP, recipe.epochs * len(own))
    return work


class Part(NamedTuple):
    """A part of an estimate.

    Attributes:
        name: what a reader calls it
        seconds: predicted, wall-clock
        low: the least that a round of the calibration predicts
        high: the most
        forward_backward: clips sent forward and backward
        forward: clips sent forward alone

    """

    name: str
    seconds: float
    low: float
    high: float
    forward_backward: int
    forward: int


class Speed(NamedTuple):
    """What a kind of pass takes on this machine.

    Attributes:
        kind: of pass
        clips: in the largest batch that was timed
        samples: of its longest clip
        seconds: median; of batches that are computed at once, divided by their number
        rounds: so often it was timed

    """

    kind: str
    clips: int
    samples: int
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take.

    Args:
        parts: one after another; the last is their sum
        speeds: of the kinds of pass
        peak_memory_mb: largest resident memory on the CPU, largest allocation on a GPU, in MiB
        calibration_seconds: that it took to find out
        searched: clips on which the search of the method was run, to estimate its passes on all;
            None where it has none, and all passes are counted

    """

    parts: list[Part]
    speeds: list[Speed]
    peak_memory_mb: float
    calibration_seconds: float
    searched: int | None = None

    @property
    def total(self) -> Part:
        """All parts together."""
        return self.parts[-1]


def plan(
    method: str,
    case: Case,
    model: Classifier,
    clips: Clips,
    *,
    budget: float = 10.0,
    clock: Clock = time.perf_counter,
) -> Estimate:
    """Say what a method will take on a request: its passes, and the seconds of `predict`.

    Passes are exact, but for those of a search that could not be run on all clips.

    Args:
        method: its name
        case: what it is to do; its ``attacks`` are found out here
        model: left as it was
        clips: to forget
        budget: seconds that it should take; a search takes half of them, or as long as two
            clips need
        clock: returns seconds

    Raises:
        ParameterError: see `work_of` and `predict`

    """
    if not budget > 0:
        raise ParameterError(f"budget: {budget} is not positive")
    check(method)
    begun, searched = clock(), None
    if isinstance(case.parameters, amun.Parameters):
        case, searched = search(case, model, clips, budget=_SEARCH * budget, clock=clock)
    spent = clock() - begun
    found = predict(
        work_of(method, case), model, clips, budget=max(budget - spent, budget / 2), clock=clock
    )
    return replace(
        found, calibration_seconds=found.calibration_seconds + spent, searched=searched
    )


def search(
    case: Case, model: Classifier, clips: Clips, *, budget: float,
    clock: Clock = time.perf_counter,
) -> tuple[Case, int]:
    """Find out how often AMUN attacks clips, from a few of them.

    Args:
        case: of a method with the parameters of `speechunlearn.methods.amun`
        model: left as it was
        clips: to forget
        budget: seconds; two clips are searched whatever they take, and 32 at most
        clock: returns seconds

    Returns:
        the case with its ``attacks``, and the number of clips that were searched

    """
    copied = copy.deepcopy(model)
    fewest, most = (min(len(clips), count) for count in _SEARCHED)

    def attacks_of(positions: Sequence[int]) -> list[int]:
        own = case.parameters
        tried = [own.moves(doubling).bound for doubling in range(own.doublings + 1)]
        _, bounds = amun.nearest(copied, clips.at(positions), own, Cost())
        return [len(tried) if bound is None else tried.index(bound) + 1 for bound in bounds]

    with fast.fast(copied) if case.quick else contextlib.nullcontext():
        begun = clock()
        count, found = fewest, spread(attacks_of, clips.lengths, fewest)
        spent = max(clock() - begun, 1e-9)
        affordable = int(min(most, (budget - spent) / spent * fewest))
        if affordable > fewest:
            count, found = affordable, spread(attacks_of, clips.lengths, affordable)
    return replace(case, attacks=found), count


def spread(
    ask: Callable[[Sequence[int]], Sequence[int]], lengths: Sequence[int], count: int
) -> list[int]:
    """Return a number for each clip, asked for a few.

    Clips are sorted by length and divided into as many groups of the same size, but for one clip;
    that in the middle of a group stands for all of it.

    Args:
        ask: returns the numbers of the clips at some positions, which are in order
        lengths: samples of each clip
        count: of clips that are asked for

    """
    groups = np.array_split(np.argsort(lengths, kind="stable"), count)
    chosen = sorted(int(group[len(group) // 2]) for group in groups)
    numbers = dict(zip(chosen, ask(chosen), strict=True))
    found = {int(i): numbers[int(group[len(group) // 2])] for group in groups for i in group}
    return [found[i] for i in range(len(lengths))]


def predict(
    work: Work,
    model: Classifier,
    clips: Clips,
    *,
    budget: float = 10.0,
    around: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
) -> Estimate:
    """Time a few batches of some work, and say what all of it will take.

    Args:
        work: see `work_of`
        model: left as it was
        clips: what batches are taken from; cut or repeated to the length that is wanted
        budget: seconds that the timing should take; at least three rounds are made
        around: what is done once around the work; a copy of the model without it
        clock: returns seconds; of the wall where batches are computed at once

    Raises:
        ParameterError: a budget that is not positive

    """
    if not budget > 0:
        raise ParameterError(f"budget: {budget} is not positive")
    begun = clock()
    copied = copy.deepcopy(model)
    with (
        fast.fast(copied) if work.quick else contextlib.nullcontext(),
        moving(copied, last(copied, work.layers)) if work.layers else contextlib.nullcontext(),
        tempfile.TemporaryDirectory() as folder,
    ):
        timed = _Timed(work, copied, clips, around or (lambda: copy.deepcopy(model)), clock)
        plan = timed.choose(budget)
        timed.resume = Resume(Path(folder) / "state.pt") if work.kept else None
        for point in plan:
            timed.once(point)  # warm-up
        warm = clock()
        for point in plan:
            timed.once(point)
        left = budget - (clock() - begun)
        rounds = int(np.clip(left / max(clock() - warm, 1e-9), *_ROUNDS))
        times: dict[_Point, list[float]] = {point: [] for point in plan}
        for _ in range(rounds):
            for point in plan:
                times[point].append(timed.once(point))
    medians = {point: float(np.median(found)) for point, found in times.items()}
    by_round = [{point: found[i] for point, found in times.items()} for i in range(rounds)]
    # a run is a sum, which holds the slow passes, too: they are in means, and in no median
    slowed = sum(map(sum, times.values())) / max(rounds * sum(medians.values()), 1e-9)
    fits = [_seconds(work, own) for own in (medians, *by_round)]
    parts = []
    for name in (*work.parts, "in all"):
        found = [sum(fit.values()) if name == "in all" else fit[name] for fit in fits]
        found[0] *= slowed
        cost = work.cost(None if name == "in all" else name)
        # the interval holds what is predicted
        parts.append(
            Part(
                name, found[0], min(found), max(found), cost.forward_backward, cost.forward
            )
        )
    speeds = []
    for kind in dict.fromkeys(point.kind for point in plan):
        largest = max((p for p in plan if p.kind == kind), key=lambda p: (p.clips * p.samples))
        speeds.append(
            Speed(kind, largest.clips, largest.samples, _net(work, medians, largest), rounds)
        )
    return Estimate(
        parts, speeds,
        timed.start_mb + _growth(work, timed.growth) + work.copies * 4 / 2**20
        + work.models * _size_mb(model),
        clock() - begun,
    )


class _Point(NamedTuple):
    """A batch that is timed.

    Attributes:
        kind: of pass
        clips: in the batch
        samples: of its longest clip
        steps: of an attack or a move, 1 where there is none
        at_once: batches of this shape that are computed at once, each by a worker

    """

    kind: str
    clips: int
    samples: int
    steps: int = 1
    at_once: int = 1


class _Timed:
    """Does each kind of pass once, and says how long it took."""

    def __init__(
        self, work: Work, model: Classifier, clips: Clips, around: Callable[[], object],
        clock: Clock,
    ) -> None:
        self.work, self.clips, self.around, self.clock = work, clips, around, clock
        self.model = model.train(work.mode == "train")
        self.device = next(self.model.parameters()).device
        self.n_classes = len(model.labels)
        self.resume: Resume | None = None
        self.growth: dict[_Point, float] = {}
        named = dict(self.model.named_parameters())
        self.weights = [p for p in named.values() if p.requires_grad]
        # it does all of its work, and moves no weight
        self.optimiser = torch.optim.Adam(
            self.weights, lr=0.0, fused=True if work.fused else None
        )
        self.anchor = {n: p.detach().clone() for n, p in named.items()} if work.elastic else {}
        self.importance = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        self.at_once: dict[str, int] = {}
        if work.attack is not None:
            # dropout in an attack is drawn batch after batch
            self.at_once[ATTACK] = 1 if work.attack.mode == "train" else fast.workers()
            self.at_once[ATTACK_STEP] = self.at_once[ATTACK]
            if fast.splits(self.model):
                self.at_once[WEIGHTS] = min(work.together, fast.workers())
        held = self.weights if work.masked else []
        self.masks = [torch.ones_like(weight, dtype=torch.bool) for weight in held]
        if work.shapes(STEP):
            for weight in self.weights:
                weight.grad = torch.zeros_like(weight)
            self.optimiser.step()
        machine.trim()
        with machine.measured() as usage:
            pass
        self.start_mb = usage.start_memory_mb

    def choose(self, budget: float) -> list[_Point]:
        """Return the batches to time: the least, a middling and the largest of each kind."""
        wanted: dict[str, list[tuple[int, int]]] = {}
        for kind in dict.fromkeys(line.kind for line in self.work.lines):
            shapes = self.work.shapes(kind)
            ordered = sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape))
            chosen = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
            wanted[kind] = list(dict.fromkeys(chosen))
        most = self._affordable(wanted, budget)
        points = []
        for kind, shapes_ in wanted.items():
            smaller = [(min(clips, most), samples) for clips, samples in shapes_]
            if smaller != shapes_:
                smaller.insert(0, (1, shapes_[-1][1]))  # two sizes, or nothing can be extrapolated
            for clips, samples in dict.fromkeys(smaller):
                steps = min(_STEPS, self.work.attack.steps) if self.work.attack else 1
                if kind == ATTACK_STEP:
                    points.append(self._point(kind, clips, samples, max(2, steps)))
                elif kind == MOVE:
                    assert self.work.moves is not None
                    steps = min(_MOVES, self.work.moves.steps)
                    points.append(self._point(kind, clips, samples, steps))
                else:
                    points.append(self._point(kind, clips, samples))
        return list(dict.fromkeys(points))

    def _point(self, kind: str, clips: int, samples: int, steps: int = 1) -> _Point:
        return _Point(kind, clips, samples, steps, self.at_once.get(kind, 1))

    def _affordable(self, wanted: Mapping[str, list[tuple[int, int]]], budget: float) -> int:
        """Return how many clips a batch may hold, for a warm-up and all rounds to fit.

        Two are the least, unless no batch has as many: from one nothing can be extrapolated.
        """
        passes = [
            (kind, *shape) for kind, shapes in wanted.items() if kind in _ROUGHLY
            for shape in shapes
        ]
        most = max((clips for _, clips, _ in passes), default=1)
        if most == 1:
            return 1
        samples = max(samples for _, _, samples in passes)
        # more batches may be attacked at once than there are passes to the weights together
        own = ATTACK if self.at_once.get(ATTACK, 1) > 1 else WEIGHTS
        probes = [self._point(own, 1, samples)]
        self.once(probes[0])
        found = {probes[0]: self.once(probes[0])}
        if most >= 4 and found[probes[0]] < budget / 16:
            probes.append(self._point(own, 4, samples))
            self.once(probes[1])
            found[probes[1]] = self.once(probes[1])
        of = _fit(found) if len(probes) > 1 else np.array([0, found[probes[0]], 0])
        while most > 2:
            seconds = 0.0
            for kind, clips, length in passes:
                # a probe holds all graphs, too
                steps = {ATTACK_STEP: _STEPS + 1, MOVE: _MOVES}.get(kind, 1)
                one = float(_features(min(clips, most), length) @ of)
                seconds += steps * _ROUGHLY[kind] / _ROUGHLY[own] * one
            if seconds * (_ROUNDS[0] + 1) <= budget:
                break
            most = max(2, most // 2)
        return most

    def once(self, point: _Point) -> float:
        """Do what a point is about; return the seconds it took."""
        self.prepare(point)
        act = getattr(self, "_" + _ACTS[point.kind])
        part = self._batch(point)
        if point not in self.growth:
            machine.trim()
        with seeded(0), machine.measured() as usage:
            begun = self.clock()
            act(part, point)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            spent = self.clock() - begun
        self.growth.setdefault(point, usage.peak_memory_mb - usage.start_memory_mb)
        return spent

    def prepare(self, point: _Point) -> None:
        """Set the mode, and leave gradients only to a step."""
        self.model.train(self.work.mode == "train")
        for weight in self.weights:
            weight.grad = torch.zeros_like(weight) if point.kind == STEP else None

    def _batch(self, point: _Point) -> Clips:
        if point.clips == 0:
            return self.clips.at([0])
        # the clips that are closest in length, cut or repeated to the longest
        lengths = self.clips.lengths
        order = sorted(range(len(lengths)), key=lambda i: abs(lengths[i] - point.samples))
        chosen = self.clips.at(list(itertools.islice(itertools.cycle(order), point.clips)))
        waveforms = [
            wave.repeat(-(-point.samples // len(wave)))[: point.samples]
            for wave in chosen.waveforms_z
        ]
        return Clips(waveforms, chosen.labels, chosen.hashes, chosen.speakers)

    def _forward(self, part: Clips, point: _Point) -> None:
        training.predict(self.model, part, batch_size=len(part))

    def _weights(self, part: Clips, point: _Point) -> None:
        every = list(range(len(part)))

        def loss() -> torch.Tensor:
            return true_label_loss(self.model, part, every, Cost())

        losses = [loss] * self.work.together
        if self.work.attack is not None:  # as methods with an attack sum theirs
            fast.total(losses, self.model).backward()
        else:
            torch.stack([own() for own in losses]).sum().backward()

    def _noisy(self, part: Clips, point: _Point) -> None:
        jit.to_noise(self.model, part, 1.0, torch.Generator(), Cost())

    def _importance(self, part: Clips, point: _Point) -> None:
        kind, mode = self.work.importance
        estimate(
            kind, self.model, part, part.labels, per="batch", batch_size=len(part), mode=mode
        )

    def _attack(self, part: Clips, point: _Point) -> None:
        assert self.work.attack is not None
        own = replace(self.work.attack, copies=1, steps=point.steps, batch_size=len(part))
        every = part.at([*range(len(part))] * point.at_once)
        adversarial_set(self.model, every, self.n_classes, own, seed=0)

    def _move(self, part: Clips, point: _Point) -> None:
        assert self.work.moves is not None
        moved(
            self.model, part, replace(self.work.moves, steps=point.steps, batch_size=len(part)),
            Cost(),
        )

    def _step(self, part: Clips, point: _Point) -> None:
        if self.work.elastic:
            elastic_penalty(self.model, self.anchor, self.importance).backward()
        if self.work.shrunk:
            l1_sparse.size(self.model).backward()
        if self.work.masked:
            for weight, mask in zip(self.weights, self.masks, strict=True):
                assert weight.grad is not None  # prepare has just made it
                weight.grad *= mask
        if self.work.clipped:
            clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()

    def _epoch(self, part: Clips, point: _Point) -> None:
        def loss(model: Classifier, positions: list[int]) -> torch.Tensor:
            return torch.stack([weight.flatten()[0] for weight in self.weights]).sum() * 0.0

        if self.resume is not None:
            self.resume.path.unlink(missing_ok=True)
        base.descend(
            self.model, part, loss, Descent(epochs=1, learning_rate=1e-30), seed=0,
            resume=self.resume,
        )

    def _altering(self, part: Clips, point: _Point) -> None:
        speeds, shifts = self.work.altered
        for speed in speeds:
            altered(part, speed=speed, normalised=self.model.frontend.do_normalize)
        for shift in shifts:
            altered(part, shift=shift, normalised=self.model.frontend.do_normalize)

    def _around(self, part: Clips, point: _Point) -> None:
        self.around()


_ACTS = {
    FORWARD: "forward", WEIGHTS: "weights", IMPORTANCE: "importance", ATTACK: "attack",
    ATTACK_STEP: "attack", MOVE: "move", NOISY: "noisy", STEP: "step", EPOCH: "epoch",
    ALTERING: "altering", AROUND: "around",
}


def _features(clips: int, samples: int) -> np.ndarray:
    return np.array([1.0, clips, clips * samples / 16000])


def _fit(found: Mapping[_Point, float]) -> np.ndarray:
    """Return a, b and c: least squares of relative errors, none of them negative."""
    rows = np.stack([_features(point.clips, point.samples) for point in found])
    seconds = np.maximum(np.array(list(found.values())), 1e-9)
    return nnls(rows / seconds[:, None], np.ones(len(rows)))[0]


def _net(work: Work, seconds: Mapping[_Point, float], point: _Point) -> float:
    """Return what a pass takes: one of an attack's further steps, or of those done together."""
    if point.kind == WEIGHTS:
        return seconds[point] / work.together
    if point.kind == MOVE:
        return seconds[point] / point.steps
    if point.kind != ATTACK_STEP:
        return seconds[point] / point.at_once
    first = seconds[point._replace(kind=ATTACK, steps=1)]
    return max(seconds[point] - first, 0.0) / (point.steps - 1) / point.at_once


def _seconds(work: Work, found: Mapping[_Point, float]) -> dict[str, float]:
    """Return seconds by part, from those of the points."""
    fits = {}
    for kind in {point.kind for point in found}:
        own = {point: _net(work, found, point) for point in found if point.kind == kind}
        fits[kind] = _fit(own)
    if EPOCH in fits and STEP in fits:  # an epoch of one step was timed
        fits[EPOCH] = np.maximum(fits[EPOCH] - fits[STEP], 0.0)
    at_once = {point.kind: point.at_once for point in found}
    for kind, groups in work.groups.items():
        fits[kind] = fits[kind] * _idle(groups, fits[kind], at_once[kind])
    total: dict[str, float] = dict.fromkeys(work.parts, 0.0)
    for line, times in work.lines.items():
        total[line.part] += times * float(_features(line.clips, line.samples) @ fits[line.kind])
    return total


def _idle(groups: Mapping[Group, int], fit: np.ndarray, workers: int) -> float:
    """Return how many times as long batches take as if no worker ran out of them before others.

    Args:
        groups: shapes of batches, in the order in which they are taken -> how often
        fit: a, b and c of a batch
        workers: that take them

    """
    until = busy = 0.0
    for shapes, times in groups.items():
        free = [0.0] * workers  # when each worker is
        for shape in shapes:
            heapq.heapreplace(free, free[0] + float(_features(*shape) @ fit))
        until += times * max(free)
        busy += times * sum(free)
    return workers * until / busy


def _size_mb(model: torch.nn.Module) -> float:
    """Return the memory of the weights, in MiB."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20


def _growth(work: Work, found: Mapping[_Point, float]) -> float:
    """Return by how much the memory of the largest batch exceeds what lies there before, in MiB."""
    most = 0.0
    for kind in {point.kind for point in found} & set(_ROUGHLY):
        own = {point: value for point, value in found.items() if point.kind == kind}
        rows = np.stack([_features(point.clips, point.samples) for point in own])
        fit = nnls(rows, np.maximum(np.array(list(own.values())), 0.0))[0]
        most = max([most, *(float(_features(*shape) @ fit) for shape in work.shapes(kind))])
    return most
