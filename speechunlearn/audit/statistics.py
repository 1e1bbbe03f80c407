"""How sure are we? Intervals that respect speakers and training runs, and tests of two models.

Clips of one speaker are alike, so the number of independent observations is nearer to the number
of speakers than to that of clips. The bootstraps here draw whole speakers; of fewer than `FEW` of
them, clips within as well. The tests that the field uses (z-test, McNemar) take clips as
independent and stand beside them for comparison.

All resampling of the package goes through `draw_clips` (and `draw`, for training runs), whose first
resample is the clips as they are: `uar_of_resamples`, `auc_of_resamples` and `mean_over_runs` give
a score of every resample, `interval` and `p_value` read what they say, and `unit` says what was
drawn.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Num, Shaped

from speechunlearn.audit.metrics import check_predictions, check_same_clips, check_unit
from speechunlearn.errors import require

#: of fewer clusters than this, the clips within are drawn, too
FEW = 17

Clusters = Sequence[object] | Shaped[np.ndarray, " _clips"] | pd.Series
#: how often each clip (speaker, run) is in a resample, a row a resample; a value of each resample
Weights = Float[np.ndarray, "_rows _clips"]
Resamples = Float[np.ndarray, " _rows"]


class Interval(NamedTuple):
    """A value and its confidence interval.

    Attributes:
        value: value on the clips as they are
        low: lower end of the interval; NaN where there is none, as of a single clip
        high: upper end of the interval; NaN as well

    """

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two models, its confidence interval and test.

    Attributes:
        value: difference on the clips as they are, first model minus second
        low: lower end of the interval
        high: upper end of the interval
        p_value: two-sided p-value of no difference

    """

    value: float
    low: float
    high: float
    p_value: float


class ZTest(NamedTuple):
    """Result of a z-test.

    Attributes:
        z: test statistic
        p_value: one-tailed p-value

    """

    z: float
    p_value: float


def draw(n: int, n_resamples: int, generator: np.random.Generator) -> Weights:
    """How often each of n clusters (speakers, runs) occurs when as many are drawn with replacement.

    Args:
        n: number of clusters, at least 1
        n_resamples: number of resamples, at least 100: fewer leave none in the tails that an
            interval cuts off
        generator: source of randomness

    Returns:
        a row a resample, before them one that holds each cluster once: what is computed by row has
        its value on the clips as they are first

    Raises:
        ParameterError: no cluster, or too few resamples

    Examples:
        >>> counts = draw(3, 100, np.random.default_rng(0))
        >>> counts.shape, counts[0], set(counts.sum(axis=1))
        ((101, 3), array([1., 1., 1.]), {np.float64(3.0)})

    """
    require(n_resamples >= 100, f"n_resamples must be at least 100, got {n_resamples}")
    require(n >= 1, f"n must be at least 1, got {n}")
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    return np.concatenate([np.ones((1, n)), drawn])


def draw_clips(
    clusters: Clusters, n_resamples: int, generator: np.random.Generator, *,
    sides: Clusters | None = None,
) -> Weights:
    """How often each clip occurs when clusters (speakers) are drawn: the package's one rule.

    Of `FEW` clusters or more, as many are drawn with replacement, each with all of its clips. The
    spread between fewer is hardly known, and of one not at all. So the clips within each that was
    drawn are drawn as well, and at both stages one fewer than there are, at least one (Rao and Wu
    1988, https://doi.org/10.1080/01621459.1988.10478591). Of five to sixteen speakers the interval
    holds for others, in .95 of simulations and more, where drawing them alone does in .80 to .95.
    Of two to four it holds for further clips of *these* speakers and mostly for others; one says
    nothing of others. `unit` tells a reader which it is. A single clip is in no resample.

    Args:
        clusters: cluster of each clip, one or more
        n_resamples: number of resamples, at least 100
        generator: source of randomness
        sides: side (member or non-member) of each clip, where both are drawn at once: clips within
            are drawn of each side by itself

    Returns:
        a row a resample, before them one that holds each clip once

    Raises:
        ParameterError: as `draw`

    Examples:
        >>> generator = np.random.default_rng(0)
        >>> draw_clips(list("aabbccddeeffgghhiijjkkllmmnnooppqq"), 100, generator).sum(axis=1).max()
        np.float64(34.0)
        >>> draw_clips(list("aaaa"), 100, generator)[1:].sum(axis=1).max()
        np.float64(3.0)

    """
    codes, names = pd.factorize(pd.Series(list(clusters), dtype=object))
    if len(names) >= FEW or len(names) == 0:
        return draw(len(names), n_resamples, generator)[:, codes]
    of_side = np.zeros(len(codes)) if sides is None else pd.factorize(np.asarray(sides))[0]
    drawn = np.zeros_like(draw(1, n_resamples, generator), shape=(n_resamples + 1, len(codes)))
    drawn[0] = 1
    times = generator.multinomial(
        max(len(names) - 1, 1), np.full(len(names), 1 / len(names)), size=n_resamples
    )
    for cluster, side in sorted({*zip(codes.tolist(), of_side.tolist(), strict=True)}):
        within = np.flatnonzero((codes == cluster) & (of_side == side))
        n_within = max(len(within) - 1, 1) if len(codes) > 1 else 0
        drawn[1:, within] = generator.multinomial(
            times[:, cluster] * n_within, np.full(len(within), 1 / len(within))
        )
    return drawn


def few_clips(clusters: Clusters) -> int | None:
    """Return the number of clips where they are of fewer than `FEW` clusters, else None."""
    return len(clusters) if len(set(clusters)) < FEW else None


def unit(clusters: Clusters) -> str:
    """Say what `draw_clips` draws, to be written beside an interval.

    Args:
        clusters: cluster (speaker) of each clip

    Examples:
        >>> unit(["01", "01", "02"]), unit(["01"] * 6), unit(list("abcdef"))
        ('2 speakers, clips within', '1 speaker, clips within', '6 clips')

    """
    n = len(set(clusters))
    name, within = ("clip", "") if n == len(clusters) else ("speaker", ", clips within")
    return f"{n} {name}{'s' if n != 1 else ''}{within if n < FEW else ''}"


def uar_of_resamples(clips: pd.DataFrame, weights: Weights) -> Resamples:
    """UAR of one model on every resample: the mean recall over the classes that it holds.

    Args:
        clips: table with ``label`` and ``prediction``
        weights: of `draw_clips`: how often each of these is in a resample

    Returns:
        UAR of each resample; NaN where it holds none of the clips

    Examples:
        >>> clips = pd.DataFrame({"label": [0, 1], "prediction": [0, 0]})
        >>> uar_of_resamples(clips, np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
        array([0.5, 1. , 0. ])

    """
    of_class = pd.get_dummies(clips["label"]).to_numpy(float)
    right = (clips["label"] == clips["prediction"]).to_numpy()
    correct, count = weights @ (of_class * right[:, None]), weights @ of_class
    with np.errstate(invalid="ignore"):
        return np.nansum(correct / count, axis=1) / (count > 0).sum(axis=1)


def auc_of_resamples(
    members: Num[np.ndarray, " _members"],
    nonmembers: Num[np.ndarray, " _nonmembers"],
    drawn_members: Weights,
    drawn_nonmembers: Weights,
) -> Resamples:
    """Area under the ROC curve of an attack on every resample: the share of pairs it gets right.

    Args:
        members: score of each member; a pair counts where the member's is the higher, and half
            where they are equal
        nonmembers: of each non-member
        drawn_members: how often each member is in a resample
        drawn_nonmembers: the same of the non-members

    Returns:
        AUC of each resample; NaN where it lacks a side

    Examples:
        >>> once = np.ones((1, 2)), np.ones((1, 4))
        >>> auc_of_resamples(np.array([0.9, 0.7]), np.array([0.8, 0.7, 0.5, 0.1]), *once)
        array([0.8125])

    """
    order = np.argsort(nonmembers)
    running = np.pad(np.cumsum(drawn_nonmembers[:, order], axis=1), ((0, 0), (1, 0)))
    below, not_above = (
        running[:, np.searchsorted(nonmembers[order], members, side)] for side in ("left", "right")
    )
    won = (drawn_members * (below + not_above)).sum(axis=1) / 2
    with np.errstate(invalid="ignore"):
        return won / (drawn_members.sum(axis=1) * running[:, -1])


def mean_over_runs(
    scores: Float[np.ndarray, "_pairs *what _rows"], weights: Weights
) -> Float[np.ndarray, "*what _rows"]:
    """Mean score over the drawn runs (a training seed and a forget set each), on every resample.

    Args:
        scores: of each run on every resample; NaN where it has none
        weights: of `draw`: how often each run is drawn

    Returns:
        mean over the drawn runs that have a score; NaN where none has

    """
    times = weights.T.reshape(scores.shape[0], *(1,) * (scores.ndim - 2), -1)
    with np.errstate(invalid="ignore"):
        return np.nansum(times * scores, axis=0) / (times * ~np.isnan(scores)).sum(axis=0)


def interval(values: Resamples, level: float = 0.95, few: int | None = None) -> Interval:
    r"""Read the central interval of a value's resamples.

    Where all clips of a few speakers are answered rightly, all resamples have the value 1, and
    nothing of the clips that a model errs on. The end that is then taken is the least share that
    so many clips leave possible, :math:`((1 - \text{level}) / 2)^{1 / n}` (Clopper and Pearson
    1934, https://doi.org/10.1093/biomet/26.4.404); at 0 alike.

    Args:
        values: on the clips as they are, then on each resample; NaN where a resample has none
        level: confidence level in (0, 1)
        few: number of clips n of a share where these were drawn within a few clusters, see
            `few_clips`; None where whole clusters were, or the value is not a share in [0, 1]

    Returns:
        value and interval, whose ends are NaN where no resample has a value

    Raises:
        ParameterError: a level out of range

    Examples:
        >>> interval(np.array([0.5, *np.linspace(0, 1, 101)]), 0.5)
        Interval(value=0.5, low=0.25, high=0.75)
        >>> interval(np.ones(101), few=3).low.__round__(4)
        0.2924

    """
    require(0 < level < 1, f"level must be in (0, 1), got {level}")
    if np.isnan(values[1:]).all():
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    if few is not None:
        least = ((1 - level) / 2) ** (1 / few)
        low, high = least if low == 1 else low, 1 - least if high == 0 else high
    return Interval(float(values[0]), float(low), float(high))


def p_value(differences: Resamples) -> float:
    r"""Two-sided p-value of no difference, the inversion of the percentile interval.

    .. math::

        p = \min\left(1, 2 \cdot \frac{1 + \min(\#\{d^* \le 0\}, \#\{d^* \ge 0\})}{R + 1}\right)

    with the differences :math:`d^*` of the :math:`R` resamples and the + 1 of Monte Carlo tests
    (Davison and Hinkley 1997, chapter 4). It is at least 2 / (R + 1).

    Args:
        differences: on the clips as they are, then on each resample; NaN where there is none

    Examples:
        >>> p_value(np.array([0.1, *[0.1] * 98, -0.1]))
        0.04

    """
    resampled = differences[1:][~np.isnan(differences[1:])]
    # Equal scores may differ by rounding, they count on both sides.
    tail = min(np.sum(resampled <= 1e-12), np.sum(resampled >= -1e-12))
    return float(min(1.0, 2 * (1 + tail) / (len(resampled) + 1)))


def cluster_bootstrap(predictions: pd.DataFrame, **options: Any) -> Interval:
    """Percentile bootstrap interval of one model's score, resampling speakers.

    As many speakers as there are get drawn with replacement, each with all of its clips (Field and
    Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x); of a few, clips within as well,
    see `draw_clips`. A resample that lacks a class has the UAR over the classes it holds.

    Args:
        predictions: per-clip predictions table of one split
        **options: of :func:`pooled_bootstrap`. The cluster ``"speaker"`` is right, ``"hash"`` takes
            clips as independent

    Returns:
        score on the clips as they are, and its interval

    Raises:
        ParameterError: if the table is empty, lacks a column or holds several splits,
            or a parameter is out of range

    Examples:
        >>> clips = pd.DataFrame({"speaker": [*range(20)] * 4, "split": "unseen", "label": 0})
        >>> clips["prediction"] = (clips["speaker"] == 7).astype(int)
        >>> cluster_bootstrap(clips, generator=np.random.default_rng(0))
        Interval(value=0.95, low=0.85, high=1.0)

    """
    return pooled_bootstrap([predictions], **options)


def pooled_bootstrap(
    predictions: Sequence[pd.DataFrame], *, level: float = 0.95, **options: Any
) -> Interval:
    """Percentile bootstrap interval of the mean score over several training runs.

    Each entry of ``predictions`` is one run: a training seed and a forget set. A resample draws
    runs with replacement and speakers with replacement, the score of each run is that on the
    drawn speakers, and their mean over the drawn runs is taken (the pigeonhole bootstrap, Owen
    2007, https://doi.org/10.1214/07-AOAS122). The speakers are drawn once for all runs, not anew
    within each: the runs are tested on the same speakers, so that more runs can't average away
    the chance of which speakers were recorded. A drawn run with no drawn speaker is left out of
    the mean. With few runs the interval is too narrow.

    Args:
        predictions: per-clip predictions tables of one split, one for each run
        level: confidence level in (0, 1)
        **options: ``generator``, the source of randomness; ``clusters``, column to resample by (by
            default ``"speaker"``), where a name means the same cluster in every table; and
            ``n_resamples``, at least 100 (1000)

    Returns:
        mean of the runs' scores on the clips as they are, and its interval

    Raises:
        ParameterError: if there is no table, one is empty, lacks a column or holds several splits,
            or a parameter is out of range

    """
    (means,), few = _means([predictions], **options)
    return interval(means, level, few)


def paired_bootstrap(
    a: pd.DataFrame | Sequence[pd.DataFrame],
    b: pd.DataFrame | Sequence[pd.DataFrame],
    *, clusters: str = "speaker", level: float = 0.95, **options: Any,
) -> Difference:
    """Percentile bootstrap of the difference of two models on the same clips.

    Every resample takes the same speakers (and runs, as in
    :func:`pooled_bootstrap`) for both models. The two-sided p-value is that of :func:`p_value`.

    Args:
        a: predictions table of one split of the first model, or one for each run
        b: the same of the second model
        clusters: column to resample by
        level: confidence level in (0, 1)
        **options: of :func:`pooled_bootstrap`

    Returns:
        difference a - b, its interval and p-value

    Raises:
        ParameterError: if ``a`` and ``b`` do not hold the same clips, in any order,
            or as in :func:`pooled_bootstrap`

    """
    tables_a, tables_b = ([x] if isinstance(x, pd.DataFrame) else list(x) for x in (a, b))
    n_a, n_b = len(tables_a), len(tables_b)
    require(n_a == n_b, f"a has {n_a} tables and b has {n_b}")
    for table_a, table_b in zip(tables_a, tables_b, strict=True):
        check_same_clips(table_a, table_b, ["hash", "label", clusters])
    (means_a, means_b), _ = _means([tables_a, tables_b], clusters=clusters, **options)
    return Difference(*interval(means_a - means_b, level), p_value(means_a - means_b))


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    r"""Exact McNemar test of two models' accuracy on the same clips.

    Of the :math:`n` clips that one model alone gets right, each is as likely the first model's as
    the second's if the models are equally accurate (McNemar 1947,
    https://doi.org/10.1007/BF02295996):

    .. math::

        p = \min\left(1, 2 \cdot P(X \le \min(n_a, n_b))\right),
        \quad X \sim \text{Binomial}(n_a + n_b, 0.5)

    It takes clips as independent, that is, it ignores speakers.

    Args:
        a: per-clip predictions table of one split of the first model
        b: the same of the second model

    Returns:
        two-sided p-value

    Raises:
        ParameterError: if ``a`` and ``b`` do not hold the same clips, in any order,
            or a table is empty, lacks a column or holds several splits

    Examples:
        >>> a = pd.DataFrame(
        ...     {"split": "unseen", "hash": list("abcde"), "label": 0, "prediction": 0}
        ... )
        >>> mcnemar(a, a.assign(prediction=[1, 1, 1, 1, 0]))
        0.125

    """
    for table in (a, b):
        _check_one_split(table, ["hash", "label", "prediction"])
    check_same_clips(a, b)
    ordered = (table.sort_values("hash") for table in (a, b))
    right_a, right_b = ((table["label"] == table["prediction"]).to_numpy() for table in ordered)
    # imported where it is used: the engine above serves those who have no need of it
    from statsmodels.stats.contingency_tables import mcnemar as exact

    alone = [[0, np.sum(right_a & ~right_b)], [np.sum(right_b & ~right_a), 0]]
    return float(exact(alone).pvalue)


def uar_z_test(uar_a: float, uar_b: float, n: int) -> ZTest:
    r"""The paper's test: a one-tailed z-test that takes UAR for a share of n clips.

    .. math::

        z = \frac{u_a - u_b}{\sqrt{2 \bar u (1 - \bar u) / n}},
        \quad \bar u = \frac{u_a + u_b}{2}, \quad p = 1 - \Phi(z)

    (:func:`statsmodels.stats.proportion.proportions_ztest`). The field does so, and it is flawed
    thrice: UAR is a mean of recalls and not a proportion; both models are tested on the same
    clips, so that the two are not independent (Dietterich 1998,
    https://doi.org/10.1162/089976698300017197); the clips of one speaker aren't either. Report it
    beside :func:`paired_bootstrap`, never alone. Equal UARs have z = 0, also without variance.

    Args:
        uar_a: UAR in [0, 1] of the model thought to be better
        uar_b: UAR in [0, 1] of the other model
        n: number of clips that both were tested on

    Returns:
        z and the p-value of a not being better than b

    Raises:
        ParameterError: if a UAR is not in [0, 1] or ``n`` is below 1

    Examples:
        The smallest difference that Ren et al. 2025 mark with p < 0.001, on their 3,024
        validation clips, N = 10:

        >>> z, p_value = uar_z_test(0.855, 0.746, 3024)
        >>> f"{z:.2f} {p_value < 0.001}"
        '10.61 True'

    """
    check_unit("uar_a", uar_a)
    check_unit("uar_b", uar_b)
    require(n >= 1, f"n must be at least 1, got {n}")
    if uar_a == uar_b:
        return ZTest(0.0, 0.5)
    from statsmodels.stats.proportion import proportions_ztest

    z, p = proportions_ztest([uar_a * n, uar_b * n], [n, n], alternative="larger")
    return ZTest(float(z), float(p))


def _means(
    models: Sequence[Sequence[pd.DataFrame]], *, generator: np.random.Generator,
    clusters: str = "speaker", n_resamples: int = 1000,
) -> tuple[list[Resamples], int | None]:
    """Mean UAR of each model over its tables, on the same draws; and `few_clips` of these."""
    require(models[0], "predictions holds no table")
    for table in (table for tables in models for table in tables):
        _check_one_split(table, ["label", "prediction", clusters])
    clips = clips_of(models[0], clusters)
    of_clips = list(clips.get_level_values(0))
    weights = draw_clips(of_clips, n_resamples, generator)
    runs = draw(len(models[0]), n_resamples, generator)
    means = []
    for tables in models:
        uars = [
            uar_of_resamples(table, weights[:, clips.get_indexer(clips_of([table], clusters))])
            for table in tables
        ]
        means.append(mean_over_runs(np.array(uars), runs))
    return means, few_clips(of_clips)


def clips_of(tables: Sequence[pd.DataFrame], clusters: str) -> pd.MultiIndex:
    """Return the clips of some tables, each once, for `draw_clips`: runs share speakers and clips.

    Args:
        tables: per-clip predictions tables
        clusters: column of the clusters

    Returns:
        cluster and hash (or row, in tables without hashes) of each clip, in the order of the tables

    """
    keys = [pd.MultiIndex.from_arrays([t[clusters], t.get("hash", t.index)]) for t in tables]
    return keys[0].append(keys[1:]).unique()


def _check_one_split(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """One score over several splits means nothing, and is easily computed by mistake."""
    check_predictions(table, columns)
    splits = sorted(set(table["split"]))
    require(len(splits) == 1, f"predictions must hold one split, got {splits}")


def t_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean of independent values and its t-interval; of one value it is not known.

    Examples:
        >>> tuple(round(end, 3) for end in t_interval([0.7, 0.8, 0.9]))
        (0.8, 0.552, 1.048)

    """
    from scipy.stats import t

    n, mean, half = len(values), float(np.mean(values)), math.nan
    if n > 1:
        half = float(t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half)
