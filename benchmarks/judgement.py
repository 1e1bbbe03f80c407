"""What the scored methods of a pool come to, beside its originals and references, with intervals.

A resample draws sets within their size and kind, then the originals of each set that was drawn,
then unseen speakers, for all methods alike: section 7 of ``data/protocol.md``. The references of a
set stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

#: smaller sets have no distances of their own: what closes their gap is told by size
LEAST = 16
RESAMPLES = 10_000
#: scores of a request and their sign where a model forgets more
CLOSED = ("loss", "UAR", "AUC")


def drawn_speakers(speakers: int) -> Int[np.ndarray, "draws speakers"]:
    """Return every way to draw as many of the speakers with replacement, as counts.

    Examples:
        >>> drawn_speakers(2).tolist()
        [[0, 2], [1, 1], [2, 0]]

    """
    def ways(left: int, places: int) -> list[list[int]]:
        if places == 1:
            return [[left]]
        return [[n, *rest] for n in range(left + 1) for rest in ways(left - n, places - 1)]

    return np.array(ways(speakers, speakers))


def uars(
    predictions: Int[np.ndarray, "models clips"], labels: Int[np.ndarray, " clips"],
    speakers: Int[np.ndarray, " clips"], counts: Int[np.ndarray, "draws speakers"],
) -> Float[np.ndarray, "models draws"]:
    """Return UAR over the classes that are there, of each draw of speakers.

    Args:
        predictions: of each model
        labels: of the clips
        speakers: number of each clip's speaker
        counts: how often each speaker is drawn

    Examples:
        >>> uars(np.array([[0, 1, 1, 1]]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]),
        ...      np.array([[1, 1], [2, 0]])).tolist()
        [[0.75, 1.0]]

    """
    right = predictions == labels
    recalls = []
    for label in np.unique(labels):
        of = [(labels == label) & (speakers == s) for s in range(counts.shape[1])]
        hits = np.stack([right[:, clips].sum(1) for clips in of], axis=1)
        total = counts @ np.array([clips.sum() for clips in of])
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls.append((hits @ counts.T) / total)
    return np.nanmean(np.stack(recalls), axis=0)


def intervals(
    rows: pd.DataFrame, groups: Mapping[str, str], speakers: int,
    resamples: int = RESAMPLES, seed: int = 0,
) -> pd.DataFrame:
    """Return what each method comes to, with 95 % intervals.

    Args:
        rows: of every method the same requests: ``method``, ``set``, ``model``, ``clips``; scores
            and bars of `benchmarks.judged.distances`; ``utilities``: the utility distance under
            each way to draw the unseen speakers, the plain one first
        groups: size and kind of each set
        speakers: how many unseen ones there are
        resamples: how many
        seed: of the draws

    Returns:
        index method; for ``forgetting``, ``utility`` and ``both`` (their sum) of sets of `LEAST`
        clips or more and for what is closed of each gap of all sets: value, low and high

    Raises:
        ValueError: methods with different requests

    """
    requests = None
    tables = {}
    for method, part in rows.groupby("method", sort=False):
        table = part.set_index(["set", "model"]).sort_index()
        requests = table.index if requests is None else requests
        if not requests.equals(table.index):
            raise ValueError(f"{method}: other requests than the first method's")
        tables[method] = table
    assert requests is not None
    weights, ways = _drawn(requests, groups, speakers, resamples, seed)
    found = {}
    for method, table in tables.items():
        large = (table["clips"] >= LEAST).to_numpy()
        utilities = np.stack(table["utilities"].to_list())
        values = {
            "forgetting": _mean(table["forgetting"].to_numpy()[:, None], weights * large),
            "utility": _mean(utilities, weights * large, ways),
        }
        values["both"] = values["forgetting"] + values["utility"]
        for name in CLOSED:
            gap = (table[f"{name}, bar"] - tables["original"][name]).to_numpy()[:, None]
            way = (table[name] - tables["original"][name]).to_numpy()[:, None]
            values[f"{name} closed"] = _mean(way, weights) / _mean(gap, weights)
        row = {}
        for name, drawn in values.items():
            low, high = np.quantile(drawn[1:], [0.025, 0.975])
            row |= {name: drawn[0], f"{name}, low": low, f"{name}, high": high}
        found[method] = row | {"changed": table["changed"].mean()}
    return pd.DataFrame(found).T.rename_axis("method")


def _drawn(
    requests: pd.MultiIndex, groups: Mapping[str, str], speakers: int, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each request is drawn, the plain sample first, and which speakers."""
    generator = np.random.default_rng(seed)
    places = {name: np.flatnonzero(requests.get_level_values(0) == name) for name in groups}
    alike: dict[str, list[str]] = {}
    for name, group in groups.items():
        if len(places[name]):
            alike.setdefault(group, []).append(name)
    weights = np.zeros((1 + resamples, len(requests)))
    weights[0] = 1.0
    for resample in weights[1:]:
        for names in alike.values():
            for name in generator.choice(names, len(names)):
                np.add.at(resample, generator.choice(places[name], len(places[name])), 1.0)
    counts = drawn_speakers(speakers).tolist()
    draws = generator.integers(speakers, size=(resamples, speakers))
    ways = [counts.index(np.bincount(draw, minlength=speakers).tolist()) for draw in draws]
    return weights, np.array([0, *(1 + way for way in ways)])


def _mean(
    values: Float[np.ndarray, "requests ways"], weights: Float[np.ndarray, "draws requests"],
    ways: Sequence[int] | np.ndarray | None = None,
) -> Float[np.ndarray, " draws"]:
    of = values[:, np.zeros(len(weights), int) if ways is None else ways].T
    return (weights * of).sum(1) / weights.sum(1)


def utilities(
    predictions: Int[np.ndarray, "models clips"], labels: Int[np.ndarray, " clips"],
    speakers: Int[np.ndarray, " clips"], retain: float,
) -> list[float]:
    """Return the utility distance of the first model to the others, by draws of unseen speakers.

    Args:
        predictions: of the judged model, then of the references
        labels: of the unseen clips
        speakers: number of each clip's speaker
        retain: distance of the UARs on retained clips

    Returns:
        the plain sample first, then every way of `drawn_speakers`

    """
    n = int(speakers.max()) + 1
    counts = np.concatenate([np.ones((1, n), int), drawn_speakers(n)])
    found = uars(predictions, labels, speakers, counts)
    return ((retain + np.abs(found[0] - found[1:].mean(0))) / 2).tolist()
