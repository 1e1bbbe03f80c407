"""What is asked to be forgotten: clips, everything of some speakers, whole classes, or a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from speechunlearn.dataset import splits
from speechunlearn.errors import CorpusError, ParameterError

#: name of the forget set on which parameters are chosen; reported forget sets share no clip with it
DEVELOPMENT = "development"


@dataclass(frozen=True)
class ForgetSet:
    """A forget set, before it is looked up in a corpus.

    Use `clips`, `speakers`, `classes` and `listed` to make one.

    Args:
        kind: ``clips``, ``speaker``, ``class`` or ``listed``
        n: number of clips, for ``clips``
        forget_id: which random forget set, for ``clips``; what a list is called, for ``listed``
        offset: number of clips left out at the start of its order: earlier requests'
        names: speakers, classes, or the content hashes of a list

    """

    kind: str
    n: int = 0
    forget_id: int | str = ""
    names: tuple[str, ...] = ()
    offset: int = 0

    @property
    def name(self) -> str:
        """What tells this forget set from others of its size, e.g. ``0`` or ``speaker 03``."""
        if self.kind in ("clips", "listed"):
            return str(self.forget_id)
        return f"{self.kind} {', '.join(self.names)}"

    def hashes(self, train: pd.DataFrame, exclude: Collection[str] = frozenset()) -> list[str]:
        """Return the contents that it covers.

        Args:
            train: manifest of the training clips, as the task sees it
            exclude: contents that a random forget set must not take

        Returns:
            content hashes: of ``clips`` in their random order, of a list in its own, else of
            the manifest

        Raises:
            ParameterError: an unknown speaker, class or clip, no clip, every clip, or every clip of
                a class that is not to be removed; a list may take all of a class

        """
        if self.kind == "clips":
            covered = splits.random_forget_set(train, self.n, self.forget_id, exclude=exclude)[
                self.offset :
            ]
        else:
            column = {"speaker": "speaker", "class": "label", "listed": "hash"}[self.kind]
            known = sorted(set(train[column]))
            unknown = sorted(set(self.names) - set(known))
            if unknown or not self.names:
                shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
                raise ParameterError(
                    f"forget set: {self.kind} {unknown[0] if unknown else ''!r} is not in the "
                    f"training set, which has {shown}"
                )
            covered = train["hash"][train[column].isin(self.names)].drop_duplicates().tolist()
            if self.kind == "listed":
                covered = list(dict.fromkeys(self.names))
        kept = train[~train["hash"].isin(covered)]
        if kept.empty:
            raise ParameterError(f"forget set: {self.title} is the whole training set")
        emptied = sorted(set(train["label"]) - set(kept["label"]) - set(self.classes_of(train)))
        if emptied and self.kind != "listed":
            raise ParameterError(
                f"forget set: {self.title} takes every training clip of class {emptied[0]!r}, "
                "which the model is to keep"
            )
        return covered

    def classes_of(self, train: pd.DataFrame) -> list[str]:
        """Return the classes that are to be removed as a whole.

        A speaker's deletion removes a class where speakers are what the model names.
        """
        named = self.kind == "speaker" and (train["label"] == train["speaker"]).all()
        return list(self.names) if named or self.kind == "class" else []

    @property
    def title(self) -> str:
        """In tables and messages, e.g. ``10 clips`` or ``class yes``."""
        return f"{self.n - self.offset} clips" if self.kind == "clips" else self.name


def clips(n: int, forget_id: int | str) -> ForgetSet:
    """Ask for n random clips to be deleted; smaller forget sets are nested in larger ones."""
    return ForgetSet("clips", n=n, forget_id=forget_id)


def in_steps(forget_set: ForgetSet, steps: int) -> list[ForgetSet]:
    """Cut a random forget set into several requests, one after another, of nearly equal size.

    Raises:
        ParameterError: another kind of forget set, or fewer clips than requests

    Examples:
        >>> [(part.offset, part.n) for part in in_steps(clips(7, 0), 3)]
        [(0, 2), (2, 4), (4, 7)]

    """
    if forget_set.kind != "clips" or forget_set.offset or not 1 <= steps <= forget_set.n:
        raise ParameterError(f"steps: {forget_set.title} cannot be cut into {steps} requests")
    ends = [forget_set.n * k // steps for k in range(steps + 1)]
    return [
        ForgetSet("clips", n=end, forget_id=forget_set.forget_id, offset=start)
        for start, end in zip(ends, ends[1:], strict=False)
    ]


def speakers(*names: str) -> ForgetSet:
    """Ask for everything of these speakers to be deleted."""
    return ForgetSet("speaker", names=names)


def classes(*names: str) -> ForgetSet:
    """Ask for everything of these classes to be deleted, and the classes with it."""
    return ForgetSet("class", names=names)


def listed(name: str, hashes: Collection[str]) -> ForgetSet:
    """Ask for these clips to be deleted, in this order, under a name of one's own.

    Args:
        name: in messages and tables
        hashes: content hashes of training clips; all of a class may be among them

    """
    return ForgetSet("listed", n=len(hashes), forget_id=name, names=tuple(hashes))


def apart(train: pd.DataFrame, forget_set: ForgetSet, largest: int) -> list[str]:
    """Return the contents of a forget set; of a random one apart from the development forget set's.

    A class of which the random order would leave no clip keeps its last in that order.

    Args:
        train: manifest of the training clips, as the task sees it
        forget_set: random clips; any other one is as it says
        largest: size of the largest forget set of its number

    Returns:
        content hashes; those of the same number and largest size are nested

    Raises:
        ParameterError: more clips than there are

    """
    if forget_set.kind != "clips":
        return forget_set.hashes(train)
    kept = _last_of_each_class(train, DEVELOPMENT)
    development = splits.random_forget_set(train, largest, DEVELOPMENT, exclude=kept)
    if forget_set.forget_id == DEVELOPMENT:
        return development[forget_set.offset : forget_set.n]
    kept = _last_of_each_class(train, forget_set.forget_id, development)
    return forget_set.hashes(train, exclude={*development, *kept})


def _last_of_each_class(
    train: pd.DataFrame, forget_id: int | str, exclude: Collection[str] = frozenset()
) -> list[str]:
    """Return the last clip in the random order of each class that has no excluded clip."""
    labels = train.drop_duplicates("hash").set_index("hash")["label"]
    order = labels.loc[splits.random_forget_set(train, len(labels), forget_id)]
    last = {label: content for content, label in order.items()}
    for content in exclude:
        last.pop(labels[content], None)
    return list(last.values())


def removable(
    kind: str, train: pd.DataFrame, tested: Collection[str], n: int, *, sequential: bool = False
) -> list[str]:
    """Return the classes or speakers whose removal is reported, chosen by a seed.

    Of the speakers, those with few clips are passed over, where others can be removed: half of all
    come into question. So are who alone says a class, and a class beside which no unseen clip would
    be left.

    Args:
        kind: ``class`` or ``speaker``
        train: manifest of the training clips, as the task sees it
        tested: classes of the unseen clips
        n: how many, if so many can be; of three or more, at least one stays, and another is left to
            develop on
        sequential: all of them are removed, one after another

    Raises:
        CorpusError: none can be removed

    """
    counts = train["label" if kind == "class" else "speaker"].value_counts()
    possible = [name for name in counts.index if _leaves(kind, [name], train, tested)]
    preferred = (  # of a class it is to be seen what becomes of unseen clips
        set(tested) if kind == "class" else set(counts.index[counts >= counts.median()])
    )
    possible = [name for name in possible if name in preferred] or possible
    if not possible:
        raise CorpusError(
            f"no {kind} can be removed whole: of the training clips' {kind}(s), "
            f"{', '.join(sorted(counts.index)[:10])}, one has to be left, and every class to keep; "
            f"add clips of another {kind}"
        )
    chosen = choose_reported(possible, n)
    while sequential and not _leaves(kind, chosen, train, tested):
        chosen.pop()
    return chosen


def _leaves(
    kind: str, names: Sequence[str], train: pd.DataFrame, tested: Collection[str]
) -> bool:
    """Return whether a removal leaves clips to train on and to test, and every class to keep."""
    forget_set = ForgetSet(kind, names=tuple(names))
    try:
        forget_set.hashes(train)
    except ParameterError:
        return False
    return bool(set(tested) - set(forget_set.classes_of(train)))


def choose_reported(values: Collection[str], n: int) -> list[str]:
    """Choose n values to report on, or as many as leave one, and one more to develop on.

    Raises:
        ParameterError: no values, or none asked for

    Examples:
        >>> choose_reported(["a", "b", "c", "d"], 1), choose_reported(["a", "b"], 5)
        (['c'], ['a'])

    """
    ordered = sorted(set(values))
    if n < 1 or not ordered:
        raise ParameterError(f"{n} classes or speakers to remove, of {len(ordered)}")
    order = np.random.default_rng(0).permutation(len(ordered))
    return [ordered[i] for i in order[: max(1, min(n, len(ordered) - 2))]]
