"""What is asked to be forgotten: clips, everything of some speakers, whole classes, or a list."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from speechunlearn.dataset import splits
from speechunlearn.errors import ParameterError


@dataclass(frozen=True)
class ForgetSet:
    """A request for deletion, before it is looked up in a corpus.

    Use `clips`, `speakers`, `classes` and `listed` to make one.

    Args:
        kind: ``clips``, ``speaker``, ``class`` or ``listed``
        n: number of clips, for ``clips``
        draw: which draw of clips, for ``clips``; what a list is called, for ``listed``
        after: so many clips of the draw are left out at its start: earlier requests'
        names: speakers, classes, or the content hashes of a list

    """

    kind: str
    n: int = 0
    draw: int | str = ""
    names: tuple[str, ...] = ()
    after: int = 0

    @property
    def name(self) -> str:
        """What tells this request from others of its size, e.g. ``0`` or ``speaker 03``."""
        if self.kind in ("clips", "listed"):
            return str(self.draw)
        return f"{self.kind} {', '.join(self.names)}"

    def hashes(self, train: pd.DataFrame, exclude: Collection[str] = frozenset()) -> list[str]:
        """Return the contents that it covers.

        Args:
            train: manifest of the training clips, as the task sees it
            exclude: contents that a draw of clips must not take

        Returns:
            content hashes: of ``clips`` in the order of the draw, of a list in its own, else of
            the manifest

        Raises:
            ParameterError: an unknown speaker, class or clip, no clip, every clip, or every clip of
                a class that is not to be removed; a list may take all of a class

        """
        if self.kind == "clips":
            found = splits.forget_draw(train, self.n, self.draw, exclude=exclude)[self.after :]
        else:
            column = {"speaker": "speaker", "class": "label", "listed": "hash"}[self.kind]
            known = sorted(set(train[column]))
            unknown = sorted(set(self.names) - set(known))
            if unknown or not self.names:
                shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
                raise ParameterError(
                    f"request: {self.kind} {unknown[0] if unknown else ''!r} is not in the "
                    f"training set, which has {shown}"
                )
            found = train["hash"][train[column].isin(self.names)].drop_duplicates().tolist()
            if self.kind == "listed":
                found = list(dict.fromkeys(self.names))
        kept = train[~train["hash"].isin(found)]
        if kept.empty:
            raise ParameterError(f"request: {self.title} is the whole training set")
        if self.kind == "listed":
            return found
        emptied = sorted(set(train["label"]) - set(kept["label"]) - set(self.classes_of(train)))
        if emptied:
            raise ParameterError(
                f"request: {self.title} takes every training clip of class {emptied[0]!r}, "
                "which the model is to keep"
            )
        return found

    def classes_of(self, train: pd.DataFrame) -> list[str]:
        """Return the classes that are to be removed as a whole.

        A speaker's deletion removes a class where speakers are what the model names.
        """
        named = self.kind == "speaker" and (train["label"] == train["speaker"]).all()
        return list(self.names) if named or self.kind == "class" else []

    @property
    def title(self) -> str:
        """In tables and messages, e.g. ``10 clips`` or ``class yes``."""
        return f"{self.n - self.after} clips" if self.kind == "clips" else self.name


def clips(n: int, draw: int | str) -> ForgetSet:
    """Ask for n random clips to be deleted; smaller draws are nested in larger ones."""
    return ForgetSet("clips", n=n, draw=draw)


def in_parts(deletion: ForgetSet, parts: int) -> list[ForgetSet]:
    """Cut a draw of clips into several requests, one after another, of nearly equal size.

    Raises:
        ParameterError: another kind of request, or fewer clips than parts

    Examples:
        >>> [(part.after, part.n) for part in in_parts(clips(7, 0), 3)]
        [(0, 2), (2, 4), (4, 7)]

    """
    if deletion.kind != "clips" or deletion.after or not 1 <= parts <= deletion.n:
        raise ParameterError(f"parts: {deletion.title} cannot be cut into {parts} requests")
    ends = [deletion.n * k // parts for k in range(parts + 1)]
    return [
        ForgetSet("clips", n=end, draw=deletion.draw, after=start)
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
    return ForgetSet("listed", n=len(hashes), draw=name, names=tuple(hashes))


def chosen(values: Collection[str], n: int) -> list[str]:
    """Choose n values to report on; one more is kept to develop on.

    Raises:
        ParameterError: fewer than n + 2 values: nothing would be left

    """
    ordered = sorted(set(values))
    if n < 1 or n + 2 > len(ordered):
        raise ParameterError(
            f"{n} classes or speakers to remove and one to develop on, of {len(ordered)}: "
            "at least one must stay"
        )
    order = np.random.default_rng(0).permutation(len(ordered))
    return [ordered[i] for i in order[:n]]
