"""What probes found, as counts by speaker, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn.audit import statistics
from speechunlearn.lab.results import COMMITTED, with_interval

RESULTS = COMMITTED.parent / "benchmarks" / "attribute.csv"
#: a model of the table as a reader calls it
NAMES = {
    "original": "Original", "leace": "LEACE", "reversal 1": "gradient reversal",
    "reversal 0": "as long, not reversed", "before": "before emotions",
    "delete angry": "DELETE, angry",
}
#: a probe as a reader calls it
READERS = {"mlp": "MLP", "": "–"}
#: what a cell is of
CELL = ["target", "level", "probe", "trained_on", "model"]


def counts(
    speakers: Sequence[str], truth: Sequence[str], said: Sequence[str], **about: Any
) -> list[dict[str, Any]]:
    """Return the rows of some answers: clips and right ones by speaker and true value."""
    table = pd.DataFrame({"speaker": speakers, "value": truth, "right": np.equal(truth, said)})
    grouped = table.groupby(["speaker", "value"])["right"].agg(clips="size", right="sum")
    return [about | row for row in grouped.reset_index().to_dict("records")]


def kept(path: Path) -> pd.DataFrame:
    """Return the rows so far."""
    if not path.exists():
        return pd.DataFrame({"run": [], "model": [], "probe": []})
    return pd.read_csv(path, dtype={"speaker": str}, keep_default_na=False)


def answers(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return rows of one cell as tables of predictions, one for each run."""
    tables = []
    for _, run in rows.groupby("run"):
        wrong = run.assign(times=run["clips"] - run["right"], prediction="another")
        right = run.assign(times=run["right"], prediction=run["value"])
        table = pd.concat([right, wrong]).sort_values(["speaker", "value"], kind="stable")
        table = table.iloc[np.repeat(np.arange(len(table)), table["times"])].reset_index(drop=True)
        table["hash"] = table["speaker"] + "/" + table.groupby("speaker").cumcount().astype(str)
        tables.append(table.assign(split="unseen", label=table["value"]))
    return tables


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the UAR of each cell with the interval of a bootstrap over runs and speakers.

    Returns:
        columns of `CELL`, ``uar``, ``low``, ``high``, ``difference`` (to the original's, of the
        same runs), ``difference_low``, ``difference_high``, ``runs``, ``speakers``, ``clips``

    """
    summarised = []
    for cell, group in rows.groupby(CELL, sort=False):
        tables = answers(group)
        of = statistics.pooled_bootstrap(tables, generator=np.random.default_rng(0))
        row = dict(zip(CELL, cell, strict=True))
        row |= {"uar": of.value, "low": of.low, "high": of.high}
        same = (rows[CELL[:-1]] == pd.Series(row)[CELL[:-1]]).all(axis=1)
        beside = rows[same & (rows["model"] == "original") & rows["run"].isin(group["run"])]
        if row["model"] != "original" and len(beside):
            by = statistics.paired_bootstrap(
                tables, answers(beside), generator=np.random.default_rng(0)
            )
            row |= {"difference": by.value, "difference_low": by.low, "difference_high": by.high}
        summarised.append(row | {
            "runs": group["run"].nunique(), "speakers": group["speaker"].nunique(),
            "clips": int(group["clips"].sum()),
        })
    return pd.DataFrame(summarised)


@cache
def committed() -> pd.DataFrame:
    """Return the `summary` of `RESULTS`."""
    return summary(kept(RESULTS))


def readable(summarised: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return one target's UARs of `summary` with their intervals: a row a probe, a column a model.

    A model that was not asked by a probe has none there. The last column, ``n``, says how many
    answers each UAR of a row is of, in how many runs.
    """
    shown = summarised[summarised["target"] == target]
    uars = [with_interval(*row) for row in shown[["uar", "low", "high"]].to_numpy()]
    rows, models = shown[CELL[1:-1]].drop_duplicates(), shown["model"].unique()
    table = shown.assign(uar=uars).pivot(index=CELL[1:-1], columns="model", values="uar")
    table = table.loc[list(rows.itertuples(index=False, name=None)), models].fillna("–")
    sizes = shown["clips"].astype(str) + " in " + shown["runs"].astype(str)
    table["n"] = sizes.groupby([shown[name] for name in CELL[1:-1]]).agg(
        lambda of_models: "; ".join(dict.fromkeys(of_models))
    )
    named = table.rename(columns=NAMES).rename(index=READERS)
    return named.rename_axis(index=["level", "probe", "trained on"], columns=None)
