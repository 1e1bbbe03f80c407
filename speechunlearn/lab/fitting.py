"""A profile's sizes, as far as a corpus goes: the one place where the two meet.

A profile sets sizes for the corpora that it names. Of any other, however small, those that are too
large come down to what is there, and `Fit.sentence` says to what. Sizes that a person asks for stay
as they are: where they do not fit, a study refuses them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import NamedTuple

import pandas as pd

from speechunlearn import methods
from speechunlearn.corpora import Corpus
from speechunlearn.dataset import tasks
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.lab import forget_sets, tuning
from speechunlearn.lab.profiles import Profile
from speechunlearn.lab.study import as_seen, ranked_size_of, sizes_of

#: number of requests that a forget set of the leaderboard is cut into, where it has as many clips
N_REQUESTS = 5
#: a forget set of fewer clips cannot be audited, nor cut into two requests
_LEAST = 2


class Fit(NamedTuple):
    """What a profile is for a corpus.

    Attributes:
        profile: with sizes that the corpus allows
        sentence: what is smaller than the profile has it, and why; empty where nothing is

    """

    profile: Profile
    sentence: str


def fit(
    profile: Profile, table: pd.DataFrame, corpus: Corpus, asked: Collection[str] = frozenset()
) -> Fit:
    """Return what a profile is for a corpus.

    Args:
        profile: of the chapter's task
        table: manifest of the corpus
        corpus: that it was read by
        asked: sizes that are not changed

    Raises:
        CorpusError: a corpus that no chapter can be run on: what it lacks, and what to do

    """
    if table["label"].nunique() < 2:
        raise CorpusError(
            f"its clips have one label only, {table['label'].iloc[0]!r}: a model needs two to tell "
            "apart; give the clips of another class, too"
        )
    seen = _split(profile, table, corpus)
    train, unseen = (seen[seen["split"] == part] for part in ("train", "validation"))
    classes = set(train["label"])
    untrained = sorted(set(seen["label"]) - classes)
    if untrained or unseen.empty:
        what = f"training clip of {untrained[0]!r}" if untrained else "validation clip"
        raise CorpusError(
            f"its split leaves no {what}: name one in the column 'split', or leave that empty, and "
            "a split is drawn"
        )
    values: dict[str, object] = {}
    changes: list[str] = []
    if "test" not in set(seen["split"]):
        values |= {"splits": _two_parts(profile), "settings": ("validation",)}
        if "test" in profile.settings:
            changes.append("no setting 'test', for no clip is left for it")
        if profile.trials > 1 and "trials" not in asked:
            values["trials"] = 1
            changes.append(
                f"1 trial of each method, not {profile.trials}: no unseen clip is left to choose by"
            )
    spare = seen[~seen["split"].isin(["train", "validation"])]
    if classes - set(spare["label"]):  # no clip to validate by
        for name in {"compared", "sequence_methods", "ranked"} - set(asked):
            chosen = getattr(profile, name)
            chosen = tuning.names(chosen) if name == "ranked" else chosen
            able = tuple(m for m in chosen if "validation" not in methods.get(m).needs)
            if able != chosen:
                values[name] = able
    of_forget_sets, said = _forget_sets(profile, train, asked)
    changes += said
    sentence = (
        f"Fitted to this corpus ({len(train)} training clips of {len(classes)} classes and "
        f"{train['speaker'].nunique()} speakers, and {unseen['cluster'].nunique()} unseen "
        f"{tasks.get(profile.task or corpus.task).apart}(s)): {'; '.join(changes)}."
    )
    return Fit(profile.with_values(**values, **of_forget_sets), sentence if changes else "")


def _split(profile: Profile, table: pd.DataFrame, corpus: Corpus) -> pd.DataFrame:
    """Return the manifest in three parts, or in two where three leave one speaker to train on."""
    two = profile.with_values(splits=_two_parts(profile))
    try:
        whole = as_seen(table, corpus, profile)
    except CorpusError:
        with contextlib.suppress(CorpusError):
            return as_seen(table, corpus, two)
        raise
    if whole.loc[whole["split"] == "train", "cluster"].nunique() > 1:
        return whole
    with contextlib.suppress(CorpusError):
        return as_seen(table, corpus, two)
    return whole


def _two_parts(profile: Profile) -> dict[str, float]:
    kept = {name: share for name, share in profile.splits.items() if name != "test"}
    return {name: share / sum(kept.values()) for name, share in kept.items()}


def _forget_sets(
    profile: Profile, train: pd.DataFrame, asked: Collection[str]
) -> tuple[dict[str, object], list[str]]:
    """Return sizes of random forget sets in place of the profile's, and what is said of them."""
    available = len(train)
    sizes, ranked = sizes_of(profile, available), ranked_size_of(profile, available)
    most = min(max(*sizes, ranked, N_REQUESTS), (available - 1) // 2)
    while most and not _is_possible(profile, train, most):
        most -= 1
    if most < _LEAST:
        raise CorpusError(
            f"its {available} training clips of {train['label'].nunique()} classes are too few: "
            f"{_LEAST} to forget and {_LEAST} to tune on have to leave a clip of every class; add "
            "more clips of each"
        )
    values: dict[str, object] = {}
    changes = []
    if max(sizes) > most and not {"n_values", "shares"} & set(asked):
        fitted = sorted({min(n, most) for n in sizes})
        values = {"n_values": fitted, "shares": ()}
        changes.append(f"N = {_listed(fitted)}, not {_listed(sizes)}")
    n = min(max(ranked, min(N_REQUESTS, most)), most)
    if n != ranked and "ranked_size" not in asked:
        values["ranked_size"] = float(n)
        changes.append(f"{n} clips, not {ranked}, to forget for audit, leaderboard and request")
    return values, changes


def _is_possible(profile: Profile, train: pd.DataFrame, n: int) -> bool:
    """Return whether the random forget sets of all runs can have n clips."""
    try:
        for _, forget_id in profile.runs:
            forget_sets.apart(train, forget_sets.clips(n, forget_id), n)
    except ParameterError:
        return False
    return True


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, numbers))
