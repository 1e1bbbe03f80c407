"""One loop and one account of work, for training and for unlearning.

Every long piece of work is a phase (`Cost.phase`): it counts the clips that are sent through the
model, says how far it is, and can be cut short to find out what the whole takes
(`speechunlearn.methods.planner`). `epochs` is the loop that changes weights. Whatever is drawn in
it is a function of the seed, the epoch and the step, so that it goes on after a kill at its first
unfinished epoch, to the same weights, bit for bit.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips, shuffled_batches
from speechunlearn.errors import ParameterError
from speechunlearn.files import keep
from speechunlearn.files import kept as read_kept
from speechunlearn.models import fast_mode
from speechunlearn.models.classifier import Classifier, seeded

log = logging.getLogger(__name__)

Item = TypeVar("Item")
#: called with the name of a phase, its items done, all its items, and the mean loss of an epoch
#: (no number for other items)
Progress = Callable[[str, int, int, float], None]

#: keep what is drawn for a step, and the order of sets that go round beside, apart
_STEP, _BESIDE = 1_000_003, 1_000_033


@dataclass
class Cost:
    """What a piece of work cost, besides its time and memory.

    Args:
        forward_backward: clips sent forward and backward (a clip in two epochs counts twice)
        forward: clips sent forward alone
        kept_seconds: seconds that parts of the work took when they were made, where they were
            found in the artefact cache instead, or in the state that a kill left

    """

    forward_backward: int = 0
    forward: int = 0
    kept_seconds: float = field(default=0.0, compare=False)

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
        """Yield the items of a long piece of work, or what is made of each, and count them.

        A phase that is cut short does not yield all of its items, and some twice: the work must
        not fail where an item is missing.

        Args:
            name: what a reader calls it; phases of one name do the same
            items: one after another
            act: makes what is yielded; of several items at once inside
                `speechunlearn.models.fast_mode.fast`, see
                `speechunlearn.models.fast_mode.in_parallel`
            samples: size of an item, which its time grows with
            passes: clips that an item sends forward and backward, and forward alone
            quiet: whether its progress is not told

        """
        results: Iterator[Any] = iter(items) if act is None else fast_mode.in_parallel(act, items)
        for done, (item, result) in enumerate(zip(items, results, strict=True), 1):
            yield result
            self._count(passes(item))
            if not quiet:
                self.notify(name, done, len(items))

    def batches(
        self, name: str, clips: Clips, batches: Sequence[Sequence[int]],
        act: Callable[[Any], Any] | None = None, *, forward_backward: int = 0, forward: int = 0,
    ) -> Iterator[Any]:
        """Return the phase whose items are batches of clips.

        Args:
            name: see `phase`
            clips: of which they are
            batches: positions of clips
            act: see `phase`
            forward_backward: times that each clip is sent forward and backward
            forward: times that each is sent forward alone

        """
        return self.phase(
            name, batches, act, samples=padded(clips.lengths),
            passes=lambda batch: (forward_backward * len(batch), forward * len(batch)),
        )

    def search(
        self, name: str, batches: Sequence[list[int]], lengths: Sequence[int]
    ) -> Iterator[list[int]]:
        """Yield batches of clips, for work whose passes only the model can tell.

        What is done with a batch is counted by its own phases.

        Args:
            name: see `phase`
            batches: positions of clips
            lengths: samples of each clip

        """
        yield from self.phase(name, batches)

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.perf_counter()

    def notify(self, name: str, done: int, total: int, loss: float = math.nan) -> None:
        """Say how far a phase is."""

    def counted(self) -> Cost:
        """Return the numbers alone."""
        return Cost(self.forward_backward, self.forward, self.kept_seconds)

    def _count(self, passes: tuple[int, int]) -> None:
        self.forward_backward += passes[0]
        self.forward += passes[1]


@dataclass
class Work(Cost):
    """The account of some work that tells how far it is, and goes on where it was left.

    Args:
        seed: source of everything that is drawn
        progress: told after each item of a phase and after each epoch
        resume: file where the first descent keeps its state after each epoch, to go on from there
            after a kill; those that follow have files of their own beside it. They are read if they
            are there, and replaced in one step; None keeps none
        enough: asked before each epoch of a descent but its first whether it is over; by what is
            kept, or the model, so that it ends where it would have after a kill

    """

    seed: int = 0
    progress: Progress | None = field(default=None, repr=False, compare=False)
    resume: Path | None = field(default=None, repr=False, compare=False)
    enough: Callable[[Classifier], bool] | None = field(default=None, repr=False, compare=False)
    _descent: int = field(default=-1, repr=False, compare=False)
    _begun: tuple[float, Cost] = field(default=(0.0, Cost()), repr=False, compare=False)

    def ends(self, model: Classifier) -> bool:
        """Return whether a descent is over before its last epoch, by what the model has become."""
        return self.enough is not None and self.enough(model)

    def notify(self, name: str, done: int, total: int, loss: float = math.nan) -> None:
        """Say how far a phase is."""
        if self.progress is not None:
            self.progress(name, done, total, loss)

    def go_on(self, parts: dict[str, Any], kept: dict[str, Any]) -> list[float]:
        """Put a descent back to where it was left; return the losses of its finished epochs.

        Descents are told apart by their order. A file that is damaged is not gone on from.

        Args:
            parts: name -> what has a state: the model, its optimiser
            kept: filled with what the method keeps beside

        """
        self._descent += 1
        self._begun = (self.now(), self.counted())
        path = self._file()
        content = None if path is None else read_kept(path)
        if content is None:
            return []
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            seconds, spent = float(state["seconds"]), Cost(**state["cost"])
            history, beside = list(state["history"]), dict(state["kept"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
        except (
            EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError,
        ) as error:  # of another version of this code: nothing is damaged
            raise ParameterError(f"{path} is of other work: {error}") from error
        kept.update(beside)
        self._count((spent.forward_backward, spent.forward))
        self.kept_seconds += seconds + spent.kept_seconds
        log.info("resumed after epoch %d", len(history))
        return history

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Count nothing of what is done inside, neither clips nor seconds."""
        before, started = self.counted(), self.now()
        yield
        self.forward_backward, self.forward = before.forward_backward, before.forward
        self.kept_seconds = before.kept_seconds - (self.now() - started)

    def _file(self) -> Path | None:
        """Return the file of the descent that is under way."""
        if self.resume is None or self._descent == 0:
            return self.resume
        return self.resume.with_name(f"{self.resume.stem}-{self._descent}{self.resume.suffix}")

    def keep(self, parts: dict[str, Any], kept: dict[str, Any], history: list[float]) -> None:
        """Write the state of a descent beside its place, then move it there in one step."""
        path = self._file()
        if path is None:
            return
        started, before = self._begun
        state = {name: part.state_dict() for name, part in parts.items()} | {
            "history": history, "kept": kept, "seconds": self.now() - started,
            "cost": {
                name: value - getattr(before, name) for name, value in vars(self.counted()).items()
            },
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)  # in memory first: a full disk is then an OSError
        keep(path, buffer.getbuffer())


@dataclass(frozen=True)
class Batch:
    """What one step of a descent looks at.

    Args:
        positions: clips of the set whose one pass is an epoch
        beside: of each set that goes round beside it
        epoch: from 0
        step: of the whole descent, from 0
        seed: of the descent

    """

    positions: list[int]
    beside: tuple[list[int], ...]
    epoch: int
    step: int
    seed: int

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @property
    def sets(self) -> tuple[list[int], ...]:
        """Positions in each set."""
        return (self.positions, *self.beside)

    def generator(self) -> torch.Generator:
        """Return the source of what this step draws."""
        return generator(self.seed, _STEP, self.epoch, self.step)


def generator(*seed: int) -> torch.Generator:
    """Return a generator of its own for each tuple of numbers."""
    (state,) = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def padded(lengths: Sequence[int]) -> Callable[[Sequence[int]], float]:
    """Return what gives the samples of a batch, padding included, by the positions of its clips."""
    return lambda positions: float(len(positions) * max(lengths[i] for i in positions))


def _together(sizes: Sequence[Callable[[Sequence[int]], float]]) -> Callable[[Batch], float]:
    return lambda batch: sum(size(part) for size, part in zip(sizes, batch.sets, strict=True))


def sized(batch: Tensor) -> Callable[[Any], float]:
    """Return what gives the samples of a batch for each step that is taken with it."""
    return lambda step: float(batch.numel())


def seldom(progress: Progress, seconds: float = 5.0) -> Progress:
    """Return what passes on every epoch, and other items once in so many seconds."""
    last = time.monotonic()

    def notify(name: str, done: int, total: int, loss: float) -> None:
        nonlocal last
        if name == "epoch" or time.monotonic() - last > seconds:
            last = time.monotonic()
            progress(name, done, total, loss)

    return notify


def epochs(
    model: Classifier,
    counted: Callable[[int], Clips],
    loss: Callable[[Classifier, Batch], Tensor | Iterable[Tensor]],
    optimiser: torch.optim.Optimizer,
    count: int,
    batch_size: int,
    *,
    seed: int,
    cost: Work,
    what: str,
    beside: Sequence[Clips] = (),
    begin: Callable[[int], object] = lambda epoch: None,
    passes: Callable[[Batch], tuple[int, int]] = lambda batch: (len(batch), 0),
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    after_backward: Callable[[], object] = lambda: None,
    after_epoch: Callable[[int], object] = lambda epoch: None,
    kept: dict[str, Any] | None = None,
) -> list[float]:
    """Minimise a loss, batch by batch and epoch by epoch.

    Args:
        model: changed in place
        counted: returns the clips whose one pass is an epoch, by its number from 0
        loss: called with the model and a batch; its terms one after another hold one graph at a
            time, and come to the gradient of their sum
        optimiser: of the model's weights
        count: of epochs
        batch_size: clips a step of each set
        seed: source of the order and of all that is drawn
        cost: counted into; told the progress, and keeps the state
        what: name of the work
        beside: sets that go round beside, a batch of each at every step, in a new order each round
        begin: called at the start of each epoch
        passes: clips that a step sends forward and backward, and forward alone
        scheduler: of the learning rate, moved on after each step
        after_backward: called before each step, to change the gradients in place
        after_epoch: called after each epoch with its number
        kept: JSON types and tensors, kept with the state

    Returns:
        mean loss of each epoch

    Raises:
        ParameterError: the loss is no longer finite

    """
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser}
    if scheduler is not None:
        parts["scheduler"] = scheduler
    kept = {} if kept is None else kept
    history = cost.go_on(parts, kept)
    for epoch in range(len(history), count):
        if epoch and cost.ends(model):
            break
        clips = counted(epoch)
        samples = _together([padded(part.lengths) for part in (clips, *beside)])
        total = 0.0
        with seeded(seed, epoch) as order:
            begin(epoch)
            batches = _batches(clips, beside, batch_size, seed, epoch, order)
            for batch in cost.phase(what, batches, samples=samples, passes=passes, quiet=True):
                optimiser.zero_grad(set_to_none=True)
                value, terms = 0.0, loss(model, batch)
                for term in (terms,) if isinstance(terms, Tensor) else terms:
                    term.backward()
                    value += term.item()
                after_backward()
                optimiser.step()
                if scheduler is not None:
                    scheduler.step()
                total += value * len(batch.positions)
        history.append(total / len(clips))
        if not math.isfinite(history[-1]):
            raise ParameterError(
                f"{what} loss is {history[-1]} after epoch {epoch + 1}: "
                f"lower learning_rate ({optimiser.defaults['lr']})"
            )
        after_epoch(epoch)
        for _ in cost.phase("keeping the state", [epoch], quiet=True):
            cost.keep(parts, kept, history)
        cost.notify("epoch", epoch + 1, count, history[-1])
    return history


def _batches(
    clips: Clips, beside: Sequence[Clips], size: int, seed: int, epoch: int, order: torch.Generator
) -> list[Batch]:
    """Return the steps of an epoch.

    Step t of a descent has batch t mod b of round t div b of a set beside of b batches, and a
    round's order depends on the seed and its number alone.
    """
    def going(number: int, lengths: Sequence[int]) -> Iterator[list[int]]:
        first, skipped = divmod(epoch * len(batches), -(-len(lengths) // size))
        turns = (generator(seed, _BESIDE, number, turn) for turn in itertools.count(first))
        rounds = (shuffled_batches(lengths, size, turn) for turn in turns)
        return itertools.islice(itertools.chain.from_iterable(rounds), skipped, None)

    batches = list(shuffled_batches(clips.lengths, size, order))
    parts = [going(number, part.lengths) for number, part in enumerate(beside)]
    return [
        Batch(positions, tuple(next(part) for part in parts), epoch, step, seed)
        for step, positions in enumerate(batches, epoch * len(batches))
    ]
