r"""What forgetting will cost: the method itself, with each of its phases cut to a few items.

A method does its long work in phases (`speechunlearn.models.loop.Cost.phase`), which say
beforehand how many items they have, how large these are, and how many clips each sends through the
model. `estimate` runs the method on a copy of the model, lets each phase do a few items that are
spread over their sizes, and adds what the others would take to a clock and to the count of the
passes. For the items of the phases of one name

.. math:: \text{seconds} = a + b \cdot \text{samples}, \qquad a, b \ge 0

is fitted to those that were timed; the largest is done first, untimed. What a method does outside
of its phases is done in full. Passes are counted, not estimated: a phase announces all of them.

Inside `speechunlearn.models.fast_mode.fast` some items are done at once, each by a worker. As many
are timed at once, and the phase takes as long as the last worker.

AMUN attacks a clip under a bound that doubles until its class changes: how often, only the model
can tell. Such a search (`speechunlearn.models.loop.Cost.search`) is run on a few of the clips,
spread over their lengths, which stand for the rest: its passes are then an estimate, as its
seconds are.
"""

import contextlib
import heapq
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from speechunlearn import methods, provenance
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import UnlearningData
from speechunlearn.models import fast_mode
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost, Item, Work

#: a phase is cut to so many items, or to those that its share of the budget is enough for; where
#: they take this long together, in seconds, to fewer
_LEAST, _SHARE, _LONG = 3, 0.25, 15.0
#: the least and the most clips that a search is run on, and its share of the budget
_SEARCHED, _SEARCH = (2, 32), 0.5
#: name of what is done outside of the phases
REST = "around"


class PhaseCost(NamedTuple):
    """A part of an estimate.

    Attributes:
        name: what a reader calls it
        seconds: predicted, wall-clock
        low: if its items took as long as the quarter of them that was fastest
        high: or as the quarter that was slowest
        forward_backward: clips sent forward and backward
        forward: clips sent forward alone

    """

    name: str
    seconds: float
    low: float
    high: float
    forward_backward: int
    forward: int


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take.

    Args:
        phases: one after another; the last is their sum
        peak_memory_mb: largest resident memory on the CPU, largest allocation on a GPU, in MiB
        calibration_seconds: that it took to find out
        searched: clips on which the search of the method was run, to estimate its passes on all;
            None where it has none, and all passes are counted

    """

    phases: list[PhaseCost]
    peak_memory_mb: float
    calibration_seconds: float
    searched: int | None = None

    @property
    def total(self) -> PhaseCost:
        """All parts together."""
        return self.phases[-1]


def estimate(
    method: str,
    model: Classifier,
    data: UnlearningData,
    parameters: Any,
    *,
    seed: int = 0,
    fast: bool = False,
    kept: bool = False,
    budget: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Say what a method will take on a request.

    Args:
        method: its name
        model: left as it was
        data: what the method is to do; adversarial copies are the method's to make
        parameters: of the method
        seed: of the run
        fast: whether it runs with ``fast``, see `speechunlearn.methods.base.Method.unlearn`
        kept: whether the state is kept after every epoch
        budget: seconds that it should take; a phase takes a quarter of them, or as long as four of
            its items need, but where these are long, as long as one needs; and a search half of
            them, or as long as two clips need
        clock: returns seconds; of the wall where items are done at once

    Raises:
        ParameterError: a budget that is not positive, or what the method refuses

    """
    if not budget > 0:
        raise ParameterError(f"budget: {budget} is not positive")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        resume = Path(folder) / "state.resume" if kept else None
        work = Cut(seed, resume, budget, clock)
        provenance.trim()
        with provenance.measured() as usage:
            start = work.now()
            methods.get(method).unlearn(
                model, replace(data, adversarial=None, resume=None), parameters, seed=seed,
                fast=fast, work=work,
            )
            seconds = work.now() - start
    return Estimate(
        work.estimated(seconds), usage.peak_memory_mb, time.perf_counter() - begun, work.searched
    )


@dataclass
class _Rate:
    """What the items of the phases of one name take.

    Args:
        timed: samples and seconds of each item that was timed
        spent: seconds that this took
        warm: whether an item was done before

    """

    timed: list[tuple[float, float]] = field(default_factory=list)
    spent: float = 0.0
    warm: bool = False

    def seconds(self, samples: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return what items of these sizes take.

        By least squares of relative errors; those that were timed take, together, what they took:
        what else the machine does slows a run as a whole, and is in no median.
        """
        sizes, seconds = np.array(self.timed).T
        seconds = np.maximum(seconds, 1e-9)
        rows, asked = np.stack([np.ones_like(sizes), sizes], 1), np.asarray(samples, float)
        if len(set(sizes)) == 1:  # nothing tells a from b
            fit = np.array([0.0, 1.0])
        else:
            from scipy.optimize import nnls  # takes a second to import

            fit = nnls(rows / seconds[:, None], np.ones(len(rows)))[0]
        scale = seconds.sum() / (rows @ fit).sum()
        return scale * (fit[0] + fit[1] * asked)

    def quartiles(self) -> tuple[float, float]:
        """Return what the fastest and the slowest quarter took, as shares of what was fitted."""
        sizes, seconds = np.array(self.timed).T
        low, high = np.quantile(seconds / self.seconds(sizes), [0.25, 0.75])
        return min(low, 1.0), max(high, 1.0)


class Cut(Work):
    """An account whose phases are cut to a few items, and whose clock counts them all.

    Args:
        seed: of the run
        resume: file where descents keep their state
        budget: seconds, see `estimate`
        clock: returns seconds

    """

    def __init__(
        self, seed: int, resume: Path | None, budget: float, clock: Callable[[], float]
    ) -> None:
        super().__init__(seed=seed, resume=resume)
        self.budget, self.clock = budget, clock
        self.rates: dict[str, _Rate] = defaultdict(_Rate)
        self.phases: dict[str, tuple[float, Cost]] = {}
        self.searched: int | None = None
        self._own = threading.local()  # .ahead: seconds that a thread's clock was put on
        self._depth, self._whole = 0, False

    def now(self) -> float:
        """Return the seconds of a clock that was put on by what was left out."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return self.clock() + getattr(self._own, "ahead", 0.0)

    def phase(
        self,
        name: str,
        items: Sequence[Item],
        act: Callable[[Item], Any] | None = None,
        *,
        samples: Callable[[Item], float] = lambda item: 1.0,
        passes: Callable[[Item], tuple[int, int]] = lambda item: (0, 0),
        quiet: bool = False,
    ) -> Iterator[Any]:
        """Yield some of the items, or what is made of each, and count all."""
        if self._whole or not len(items):
            yield from super().phase(name, items, act, samples=samples, passes=passes, quiet=True)
            return
        rate, sizes = self.rates[name], [samples(item) for item in items]
        workers = fast_mode.workers() if act is not None else 1
        timed: dict[int, float] = {}

        begun, before = self.now(), self.counted()
        outermost = threading.current_thread() is threading.main_thread() and self._depth == 0
        self._depth += outermost
        waiting = deque(_evenly(sizes))
        share = _SHARE * self.budget
        while waiting and rate.spent < (share if len(rate.timed) >= _LEAST else max(share, _LONG)):
            places = [waiting.popleft() for _ in range(min(workers, len(waiting)))]
            started = self.clock()
            yield from self._do(items, act, places, timed)
            took = self.clock() - started
            if rate.warm or took >= _LONG:  # in so long an item the warming up is lost
                rate.spent += took
                rate.timed += [(sizes[place], timed[place]) for place in places]
            else:  # to be done once more
                waiting.extend(places)
                timed.clear()
                self._set(begun)
            rate.warm = True
        seconds = rate.seconds(sizes)
        for place, taken in timed.items():
            seconds[place] = taken
        self._set(begun + _until(seconds.tolist(), workers))
        for item in items:
            self._count(passes(item))
        self._depth -= outermost
        if outermost:
            self._add(name, begun, before)

    def ends(self, model: Classifier) -> bool:
        """Return False: what is predicted is what all epochs take."""
        return False

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Count nothing of what is done inside, neither clips nor seconds."""
        begun, before, phases = self.now(), self.counted(), dict(self.phases)
        yield
        self.forward_backward, self.forward = before.forward_backward, before.forward
        self.phases = phases
        self._set(begun)

    def _do(
        self, items: Sequence[Any], act: Callable[[Any], Any] | None, places: list[int],
        timed: dict[int, float],
    ) -> Iterator[Any]:
        """Yield some items, or what is made of each, and note what they take."""
        def acted(place: int) -> Any:
            assert act is not None
            started = self.now()  # of this thread
            result = act(items[place])
            timed[place] = self.now() - started
            return result

        if act is not None:
            yield from fast_mode.in_parallel(acted, places)
            return
        for place in places:
            started = self.now()
            yield items[place]
            timed[place] = self.now() - started

    def search(
        self, name: str, batches: Sequence[list[int]], lengths: Sequence[int]
    ) -> Iterator[list[int]]:
        """Yield batches of a few clips, and count all, as if the rest were like these."""
        order = sorted((i for batch in batches for i in batch), key=lambda i: lengths[i])
        fewest, most = (min(len(order), count) for count in _SEARCHED)
        begun, before, count = self.now(), self.counted(), fewest
        self._whole = True
        while True:
            started = self.now()
            groups = np.array_split(order, count)
            chosen = [int(group[len(group) // 2]) for group in groups][::-1]
            for first in range(0, count, len(batches[0])):
                yield chosen[first : first + len(batches[0])]
            took = max(self.now() - started, 1e-9)
            affordable = min(most, int((_SEARCH * self.budget - took) / took * count))
            if count > fewest or affordable <= fewest:
                break
            count = affordable
            self.forward_backward, self.forward = before.forward_backward, before.forward
        self._whole, self.searched = False, count
        share = len(order) / count
        for kind in ("forward_backward", "forward"):
            earlier = getattr(before, kind)
            setattr(self, kind, earlier + round(share * (getattr(self, kind) - earlier)))
        whole = sum(lengths[i] for i in order) / sum(lengths[i] for i in chosen)
        self.rates[name].timed.append((1.0, took * whole))
        self._set(begun + took * whole)
        self._add(name, begun, before)

    def estimated(self, seconds: float) -> list[PhaseCost]:
        """Return the parts of a run of so many seconds, and all together."""
        parts = []
        for name, (taken, cost) in self.phases.items():
            low, high = (share * taken for share in self.rates[name].quartiles())
            parts.append(PhaseCost(name, taken, low, high, cost.forward_backward, cost.forward))
        rest = max(seconds - sum(part.seconds for part in parts), 0.0)
        parts.append(PhaseCost(REST, rest, rest, rest, 0, 0))
        sums = (sum(column) for column in zip(*(part[1:] for part in parts), strict=True))
        return [*parts, PhaseCost("in all", *sums)]

    def _set(self, now: float) -> None:
        """Set this thread's clock."""
        self._own.ahead = now - self.clock()

    def _add(self, name: str, begun: float, before: Cost) -> None:
        seconds, cost = self.phases.get(name, (0.0, Cost()))
        self.phases[name] = seconds + self.now() - begun, Cost(
            cost.forward_backward + self.forward_backward - before.forward_backward,
            cost.forward + self.forward - before.forward,
        )


def _evenly(sizes: Sequence[float]) -> list[int]:
    """Return the places of all items: the largest, and then spread over the sizes.

    However many are taken from the front, they are as evenly spread as can be: at the quantiles
    1/2, 1/4, 3/4, 1/8, … (van der Corput's sequence).
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    bits = max(1, len(order) - 1).bit_length()
    turned = (int(f"{i:0{bits}b}"[::-1], 2) / 2**bits for i in range(1, 2**bits))
    return list(dict.fromkeys([order[-1], *(order[int(q * len(order))] for q in turned), *order]))


def _until(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of some workers ends, each of which takes the next item when free."""
    free = [0.0] * workers
    for taken in seconds:
        heapq.heapreplace(free, free[0] + taken)
    return float(max(free))
