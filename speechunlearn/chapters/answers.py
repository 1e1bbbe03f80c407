"""What the chapters' answers share: a sentence or two, computed from committed results.

Beside a share stand its 95 % interval and its number of runs, and after an answer what it was
made from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from speechunlearn import corpora
from speechunlearn.lab import leaderboard, results
from speechunlearn.lab.results import TITLES, Results

SETTING = "validation"


def emotions() -> Results:
    """Return the committed results of the paper's methods."""
    return results.committed("cpu", "ravdess").reported().select(setting=SETTING)


def table(shown: Results, kind: str = "clips") -> pd.DataFrame:
    """Return UARs by method and part: of the largest forget sets, where there are several sizes."""
    rows = results.table_of_methods(
        shown, SETTING, forget_kind=kind, generator=np.random.default_rng(0)
    )
    return rows[rows["n_forget"] == rows["n_forget"].max()].set_index(["method", "split"])


def about(shown: Results, table: pd.DataFrame | None = None) -> str:
    """Return what an answer is of: of a table, also how many clips and runs."""
    evaluations = shown.evaluations
    titles = " and ".join(
        corpora.get(name).title.partition(":")[0] for name in evaluations["corpus"].unique()
    )
    runs, size = len(evaluations[["seed", "forget_id"]].drop_duplicates()), ""
    if table is not None:
        runs, n = int(table["runs"].max()), int(table["n_forget"].iloc[0])
        size = f"N = {n} clips to forget, " if n else ""
    return (
        f" ({titles}, profile `cpu`, encoder `{evaluations['encoder'].iloc[0]}`, {size}"
        f"n = {runs} {'run' if runs == 1 else 'runs'}.)"
    )


def uar(table: pd.DataFrame, method: str, split: str = "forget") -> str:
    """Return a method's UAR with its interval."""
    return results.with_interval(*table.loc[(method, split), ["value", "low", "high"]])


def difference(shown: Results, other: str, method: str) -> str:
    """Return by how much a method's UAR on unseen speakers differs from another's."""
    tests = results.tests_against(
        shown, SETTING, other, (method,), generator=np.random.default_rng(0)
    )
    row = tests.loc[tests["n_forget"].idxmax()]
    return results.with_interval(row["difference"], row["low"], row["high"])


def counted(verdicts: pd.Series) -> str:
    """Return how often each verdict is there.

    Examples:
        >>> counted(pd.Series(["no", "yes", "no"]))
        'no: 2, yes: 1'

    """
    return ", ".join(f"{word}: {count}" for word, count in verdicts.value_counts().items())


def closest(shown: Results, kind: str) -> str:
    """Return which method comes closest to retraining in UAR, and how close."""
    rows = table(shown, kind)
    apart = rows["distance"].unstack()[["forget", "unseen"]].sum(axis=1)
    apart = apart.drop(index=["original", "retrain"])
    best = str(apart.idxmin())
    return (
        f"Of {len(apart)} methods, {TITLES[best]} comes closest, picked by these same runs: its "
        f"UAR on the forget set is {uar(rows, best)}, where models retrained without it have "
        f"{uar(rows, 'retrain')} and the original has {uar(rows, 'original')}; on what is "
        f"unseen {uar(rows, best, 'unseen')}, {uar(rows, 'retrain', 'unseen')} and "
        f"{uar(rows, 'original', 'unseen')}.{about(shown.select(forget_kind=kind), rows)}"
    )


def leaderboards() -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield corpus and task of each committed leaderboard, and its ranking."""
    for folder in sorted(path.parent for path in leaderboard.FOLDER.glob("*/ranking.csv")):
        board = leaderboard.committed(folder.name)
        corpus, task = board.results.evaluations[["corpus", "task"]].iloc[0]
        yield f"{corpora.get(corpus).title.partition(':')[0]}, {task}", board.ranking
