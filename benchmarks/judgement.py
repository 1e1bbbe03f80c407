"""What the scored methods of a pool come to, beside its originals and references, with intervals.

A resample draws sets within their size and kind, then the originals of each set that was drawn,
then unseen speakers, for all methods alike: section 7 of ``data/protocol.md``. The references of a
set stay. Which method is best, which are on the Pareto front, and which are in the model confidence
set is asked of methods alone: originals and references do not compete, nor do methods that were not
tuned to anything useful, which keep utility by doing nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

#: smaller sets have no distances of their own: what closes their gap is told by size
LEAST = 16
RESAMPLES = 10_000
#: scores of a request and their sign where a model forgets more
CLOSED = ("loss", "UAR", "AUC")
#: rows that are no methods
APART = ("original", "references")
#: the two that methods compete in
DISTANCES = ("forgetting", "utility")


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


def at_forgetting(forget: Iterable[float], unseen: np.ndarray, bar: float) -> np.ndarray:
    """Return the unseen UAR where the forget UAR is a bar, between neighbouring values of a curve.

    Args:
        forget: forget UAR at each value of a hyperparameter
        unseen: unseen UAR there: a row a value, of one draw or many
        bar: a forget UAR

    Returns:
        by interpolation, the largest where the curve is at the bar more than once; not a number
        where it never is

    Examples:
        >>> at_forgetting([1.0, 0.6, 0.2], np.array([[0.5], [0.4], [0.1]]), 0.7).round(3)
        array([0.425])

    """
    reached = [np.full(unseen.shape[1:], np.nan)]
    for place, (start, end) in enumerate(pairwise(forget)):
        if min(start, end) <= bar <= max(start, end):
            share = (bar - start) / (end - start) if end != start else 0.0
            reached.append(unseen[place] + share * (unseen[place + 1] - unseen[place]))
    return np.fmax.reduce(reached)


def intervals(
    rows: pd.DataFrame, groups: Mapping[str, str], speakers: int,
    resamples: int = RESAMPLES, seed: int = 0, apart: Collection[str] = APART,
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
        apart: those that do not compete

    Returns:
        index method; for ``forgetting``, ``utility`` and ``both`` (their sum) of sets of `LEAST`
        clips or more and for what is closed of each gap of all sets: value, low and high. Of who
        competes also, for each of the two distances, ``best``, the probability over the resamples
        that it is the smallest, and ``MCS p``, of `confidence_set`; ``front``: of `on_front`

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
    found: dict[str, dict[str, float]] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
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
            with np.errstate(divide="ignore", invalid="ignore"):  # there may be no gap
                values[f"{name} closed"] = _mean(way, weights) / _mean(gap, weights)
        row = {}
        for name, drawn in values.items():
            low, high = np.quantile(drawn[1:], [0.025, 0.975])
            row |= {name: drawn[0], f"{name}, low": low, f"{name}, high": high}
        found[method] = row | {"changed": table["changed"].mean()}
        samples[method] = values
    competing = {method: table for method, table in tables.items() if method not in apart}
    compared = _compared(competing, samples, seed) if competing else pd.DataFrame()
    return pd.DataFrame(found).T.rename_axis("method").join(compared)


def _compared(
    tables: Mapping[str, pd.DataFrame], samples: Mapping[str, Mapping[str, np.ndarray]], seed: int
) -> pd.DataFrame:
    """Return of each method the columns of `intervals` that compare it with the others."""
    columns: dict[str, np.ndarray] = {}
    drawn = {name: np.stack([samples[method][name][1:] for method in tables]) for name in DISTANCES}
    for name in DISTANCES:
        columns[f"{name}, best"] = shared_wins(drawn[name])
        losses = []
        for all_sets in tables.values():
            table = all_sets[all_sets["clips"] >= LEAST]
            values = table.assign(utility=[plain for plain, *_ in table["utilities"]])[name]
            losses.append(values.groupby(level="set").mean())
        resamples = drawn[name].shape[1]
        columns[f"{name}, MCS p"] = confidence_set(np.stack(losses), resamples, seed)
    columns["front"] = on_front(*drawn.values()).mean(1)
    return pd.DataFrame(columns, index=pd.Index(tables, name="method"))


def shared_wins(losses: Float[np.ndarray, "methods draws"]) -> Float[np.ndarray, " methods"]:
    """Return the share of draws in which each method has the smallest loss; a tie is shared.

    Examples:
        >>> shared_wins(np.array([[1.0, 2.0], [3.0, 2.0]])).tolist()
        [0.75, 0.25]

    """
    smallest = losses == losses.min(axis=0)
    return (smallest / smallest.sum(axis=0)).mean(axis=1)


def on_front(
    first: Float[np.ndarray, "methods draws"], second: Float[np.ndarray, "methods draws"]
) -> Bool[np.ndarray, "methods draws"]:
    """Return where no other method has losses that are both as small, and one of them smaller.

    Examples:
        >>> on_front(np.array([[1.0], [2.0], [2.0]]), np.array([[2.0], [1.0], [1.5]])).T.tolist()
        [[True, True, False]]

    """
    def beaten(k: int) -> np.ndarray:
        as_good = (first <= first[k]) & (second <= second[k])
        return (as_good & ((first < first[k]) | (second < second[k]))).any(axis=0)

    return np.stack([~beaten(k) for k in range(len(first))])


def confidence_set(
    losses: Float[np.ndarray, "methods blocks"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, " methods"]:
    """Return each method's p-value of the model confidence set: it is in that of 90 % from .1 on.

    The equality of all methods that are left is tested by T_max, the largest t = d / sd(d), where d
    is a method's mean loss less the mean of all that are left; the method with this t leaves, and
    its p-value is the largest of all tests so far. That of the last one is 1. Spread and
    distribution of T_max come from a bootstrap that draws whole blocks: here the sets of a pool, of
    all sizes alike. Unseen speakers stay. With ten blocks the test is eager: where five methods are
    equal, all stay in 84 % of 300 simulations, and each of them in 96 %.

    Source: Hansen, Lunde and Nason 2011, Econometrica 79, section 3.1.2 and definition 4.

    Args:
        losses: mean loss of each method on each block
        resamples: how many
        seed: of the draws

    Examples:
        >>> losses = np.array([[0.1, 0.2, 0.1, 0.2], [0.1, 0.2, 0.1, 0.2], [0.8, 0.9, 0.7, 0.9]])
        >>> confidence_set(losses, 100).tolist()
        [1.0, 1.0, 0.0]

    """
    n = losses.shape[1]
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    means, drawn = losses.mean(axis=1), losses @ draws.T
    left, largest, p_values = list(range(len(losses))), 0.0, np.ones(len(losses))
    while len(left) > 1:
        # rounded: what is 0 but for the last bits has no t of its own
        apart = np.round(means[left] - means[left].mean(), 12)
        off = np.round(drawn[left] - drawn[left].mean(axis=0) - apart[:, None], 12)
        spread = np.sqrt((off**2).mean(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.nan_to_num(apart / spread, nan=0.0)
            most = np.nan_to_num(off / spread[:, None], nan=0.0).max(axis=0)
        worst = int(t.argmax())
        largest = max(largest, float((most >= t[worst]).mean()))
        p_values[left.pop(worst)] = largest
    return p_values


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
