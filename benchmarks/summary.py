"""What the rows of `benchmarks.requests` come to; it needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def kept(file: Path) -> pd.DataFrame:
    """Return the rows that are there."""
    return pd.read_csv(file, dtype={"kind": str}) if file.exists() else pd.DataFrame()


def summary(table: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """Return how far requests of each kind get, with intervals.

    Args:
        table: rows of ``forget``; where a column ``set`` says which requests ask for the same
            clips, sets are drawn, then requests of each
        resamples: of the requests of a kind

    Returns:
        by system and kind: requests; for mean forget loss, forget UAR and AUC of the attack on the
        loss the share of the mean gap between original and retrained models that is closed, with
        its 95 % interval; the share of requests in which it lies beyond what the retrained models
        span; UAR on unseen speakers by the original's

    """
    generator = np.random.default_rng(0)
    found = []
    for (system, kind), group in table.groupby(["system", "kind"], sort=False):
        names = ["loss", "uar", "auc", "unseen_uar"]
        who = group["who"].str.split().str[0]
        by = {
            one: group[who == one].groupby("request")[names].mean() for one in who.unique()
        }
        # of several sets, the mean of what the retrained models span
        span = group[who == "retrained"].groupby(["request", "step"])[names].agg(["min", "max"])
        span = span.groupby("request").mean()
        order = by["original"].index
        o, u, r = (by[one].loc[order] for one in ("original", "unlearned", "retrained"))
        row: dict[str, Any] = {"system": system, "kind": kind, "requests": len(order)}
        draws = generator.integers(len(order), size=(resamples, len(order)))
        if "set" in group:
            sets = group.groupby("request")["set"].first().loc[order].to_numpy()
            draws = _of_sets(sets, resamples, generator)
        for name, sign in (("loss", 1), ("uar", -1), ("auc", -1)):
            gap, way = (r - o)[name].to_numpy(), (u - o)[name].to_numpy()
            with np.errstate(divide="ignore", invalid="ignore"):  # there may be no gap
                shares = way[draws].mean(1) / gap[draws].mean(1)
            low, high = np.nanquantile(shares, [0.025, 0.975], method="nearest")
            row[name] = f"{way.mean() / gap.mean():.2f} [{low:.2f}, {high:.2f}]"
            end = span.loc[order, (name, "max" if sign > 0 else "min")]
            row[f"{name} beyond"] = f"{(sign * (u[name] - end) > 0).sum()} of {len(order)}"
        ratio = (u["unseen_uar"] / o["unseen_uar"]).to_numpy()
        low, high = np.quantile(ratio[draws].mean(1), [0.025, 0.975])
        row["utility"] = f"{ratio.mean():.3f} [{low:.3f}, {high:.3f}]"
        found.append(row)
    return pd.DataFrame(found)


def _of_sets(sets: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw sets, then as many requests of each as it has; sets have equally many."""
    places = np.stack([np.flatnonzero(sets == name) for name in np.unique(sets)])
    drawn = places[generator.integers(len(places), size=(resamples, len(places)))]
    within = generator.integers(drawn.shape[2], size=drawn.shape)
    return np.take_along_axis(drawn, within, axis=2).reshape(resamples, -1)
