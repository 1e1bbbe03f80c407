"""How sure are we? Intervals that respect speakers and training runs, and tests of two models.

Clips of one speaker are alike, so the number of independent observations is nearer to the number
of speakers than to that of clips. The bootstraps here draw whole speakers. The tests that the
field uses (z-test, McNemar) take clips as independent and stand beside them for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportions_ztest

from speechunlearn.audit import loss_membership_attack
from speechunlearn.errors import ParameterError
from speechunlearn.metrics import by_split, check_predictions


class Interval(NamedTuple):
    """A value and its confidence interval.

    Attributes:
        value: value on the clips as they are
        low: lower end of the interval
        high: upper end of the interval

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


class McNemar(NamedTuple):
    """Result of McNemar's test.

    Attributes:
        p_value: two-sided exact p-value
        only_a: number of clips that the first model alone gets right
        only_b: number of clips that the second model alone gets right

    """

    p_value: float
    only_a: int
    only_b: int


class ZTest(NamedTuple):
    """Result of a z-test.

    Attributes:
        z: test statistic
        p_value: one-tailed p-value

    """

    z: float
    p_value: float


# Each statistic is the mean, over the groups present, of the share of correct clips in a group.
# The entry gives the group of every clip: sums by speaker and group are then all a resample needs.
STATISTICS = {
    "uar": lambda clips: clips["label"],
    "accuracy": lambda clips: np.zeros(len(clips)),
}


def cluster_bootstrap(
    predictions: pd.DataFrame,
    statistic: str = "uar",
    *,
    clusters: str = "speaker",
    n_resamples: int = 1000,
    level: float = 0.95,
    generator: np.random.Generator,
) -> Interval:
    """Percentile bootstrap interval of one model's score, resampling speakers.

    As many speakers as there are get drawn with replacement, each with all of its clips (Field and
    Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x). A resample that lacks a class
    has the UAR over the classes it holds. With a handful of speakers the interval is too narrow,
    and with one it has zero width: it says nothing about other speakers.

    Args:
        predictions: per-clip predictions table of one split
        statistic: ``"uar"`` or ``"accuracy"``
        clusters: column to resample by. ``"speaker"`` is right,
            ``"hash"`` takes clips as independent
        n_resamples: number of resamples, at least 100
        level: confidence level in (0, 1)
        generator: source of randomness

    Returns:
        score on the clips as they are, and its interval

    Raises:
        ParameterError: if the table is empty, lacks a column or holds several splits,
            or a parameter is out of range

    Examples:
        >>> clips = pd.DataFrame(
        ...     {
        ...         "split": "forget",
        ...         "speaker": ["01", "01", "02"],
        ...         "label": [0, 1, 1],
        ...         "prediction": [0, 0, 1],
        ...     }
        ... )
        >>> cluster_bootstrap(clips, generator=np.random.default_rng(0))
        Interval(value=0.75, low=0.5, high=1.0)

    """
    return pooled_bootstrap(
        [predictions],
        statistic,
        clusters=clusters,
        n_resamples=n_resamples,
        level=level,
        generator=generator,
    )


def pooled_bootstrap(
    predictions: Sequence[pd.DataFrame],
    statistic: str = "uar",
    *,
    clusters: str = "speaker",
    n_resamples: int = 1000,
    level: float = 0.95,
    generator: np.random.Generator,
) -> Interval:
    """Percentile bootstrap interval of the mean score over several training runs.

    Each entry of ``predictions`` is one pair of training seed and forget draw. A resample draws
    pairs with replacement and speakers with replacement, the score of each pair is that on the
    drawn speakers, and their mean over the drawn pairs is taken (the pigeonhole bootstrap, Owen
    2007, https://doi.org/10.1214/07-AOAS122). The speakers are drawn once for all pairs, not anew
    within each: the pairs are tested on the same speakers, so that more pairs can't average away
    the chance of which speakers were recorded. A drawn pair with no drawn speaker is left out of
    the mean. With few pairs the interval is too narrow.

    Args:
        predictions: per-clip predictions tables of one split, one for each pair
        statistic: ``"uar"`` or ``"accuracy"``
        clusters: column to resample by, a name means the same cluster in every table
        n_resamples: number of resamples, at least 100
        level: confidence level in (0, 1)
        generator: source of randomness

    Returns:
        mean of the pairs' scores on the clips as they are, and its interval

    Raises:
        ParameterError: if there is no table, one is empty, lacks a column or holds several splits,
            or a parameter is out of range

    """
    _check_bootstrap(n_resamples, level)
    _check_tables(predictions, statistic, clusters)
    correct, total = _sums(predictions, statistic, clusters)
    weights = _draw(total, n_resamples, generator)
    value = _mean_score(correct, total, _as_they_are(total))[0]
    resampled = _mean_score(correct, total, weights)
    return Interval(float(value), *_percentiles(resampled, level))


def paired_bootstrap(
    a: pd.DataFrame | Sequence[pd.DataFrame],
    b: pd.DataFrame | Sequence[pd.DataFrame],
    statistic: str = "uar",
    *,
    clusters: str = "speaker",
    n_resamples: int = 1000,
    level: float = 0.95,
    generator: np.random.Generator,
) -> Difference:
    r"""Percentile bootstrap of the difference of two models on the same clips.

    Every resample takes the same speakers (and pairs of seed and draw, as in
    :func:`pooled_bootstrap`) for both models. The two-sided p-value inverts the interval, with
    the + 1 of Monte Carlo tests (Davison and Hinkley 1997, chapter 4),

    .. math::

        p = \min\left(1, 2 \cdot \frac{1 + \min(\#\{d^* \le 0\}, \#\{d^* \ge 0\})}{R + 1}\right)

    with the differences :math:`d^*` of the :math:`R` resamples. It is at least 2 / (R + 1).

    Args:
        a: predictions table of one split of the first model, or one for each pair
        b: the same of the second model
        statistic: ``"uar"`` or ``"accuracy"``
        clusters: column to resample by
        n_resamples: number of resamples, at least 100
        level: confidence level in (0, 1)
        generator: source of randomness

    Returns:
        difference a - b, its interval and p-value

    Raises:
        ParameterError: if ``a`` and ``b`` do not hold the same clips in the same order,
            or as in :func:`pooled_bootstrap`

    """
    _check_bootstrap(n_resamples, level)
    tables_a, tables_b = ([x] if isinstance(x, pd.DataFrame) else list(x) for x in (a, b))
    if len(tables_a) != len(tables_b):
        raise ParameterError(f"a has {len(tables_a)} tables and b has {len(tables_b)}")
    for tables in (tables_a, tables_b):
        _check_tables(tables, statistic, clusters)
    for table_a, table_b in zip(tables_a, tables_b, strict=True):
        _check_paired(table_a, table_b, ["split", "hash", "label", clusters])
    correct_a, total = _sums(tables_a, statistic, clusters)
    correct_b, _ = _sums(tables_b, statistic, clusters)
    weights = _draw(total, n_resamples, generator)
    value, resampled = (
        _mean_score(correct_a, total, drawn) - _mean_score(correct_b, total, drawn)
        for drawn in (_as_they_are(total), weights)
    )
    # Equal scores may differ by rounding, they count on both sides.
    resampled = resampled[~np.isnan(resampled)]
    tail = min(np.sum(resampled <= 1e-12), np.sum(resampled >= -1e-12))
    p_value = min(1.0, 2 * (1 + tail) / (len(resampled) + 1))
    return Difference(float(value[0]), *_percentiles(resampled, level), float(p_value))


def membership_bootstrap(
    predictions: pd.DataFrame,
    *,
    clusters: str = "speaker",
    n_resamples: int = 1000,
    level: float = 0.95,
    generator: np.random.Generator,
) -> Interval:
    """Percentile bootstrap interval of the loss-based membership attack's AUC.

    Forget clips are the members, clips of unseen speakers the non-members. A resample draws
    speakers with replacement on each side by itself: unseen speakers have no forget clips.

    Args:
        predictions: per-clip predictions table with the splits ``"forget"`` and ``"unseen"``,
            other splits are not used
        clusters: column to resample by
        n_resamples: number of resamples, at least 100
        level: confidence level in (0, 1)
        generator: source of randomness

    Returns:
        AUC on the clips as they are, and its interval

    Raises:
        ParameterError: if the table is empty, lacks a column or one of the two splits,
            or a parameter is out of range

    """
    _check_bootstrap(n_resamples, level)
    splits = by_split(predictions, ["loss", clusters])
    for split in ("forget", "unseen"):
        if split not in splits:
            raise ParameterError(f"predictions has no split {split!r}, it has {list(splits)}")
    members, nonmembers = splits["forget"], splits["unseen"]
    value = loss_membership_attack(members["loss"], nonmembers["loss"]).auc
    low_loss = members["loss"].to_numpy()[:, None]
    high_loss = nonmembers["loss"].to_numpy()[None, :]
    wins = (low_loss < high_loss) + 0.5 * (low_loss == high_loss)
    # Wins and clip counts by speaker are all that a resample needs.
    member_sum = _membership(members[clusters])
    nonmember_sum = _membership(nonmembers[clusters])
    wins = member_sum @ wins @ nonmember_sum.T
    n_members, n_nonmembers = member_sum.sum(axis=1), nonmember_sum.sum(axis=1)
    drawn_members = _draw_counts(len(n_members), n_resamples, generator)
    drawn_nonmembers = _draw_counts(len(n_nonmembers), n_resamples, generator)
    won = np.einsum("rm,rm->r", drawn_members @ wins, drawn_nonmembers)
    resampled = won / ((drawn_members @ n_members) * (drawn_nonmembers @ n_nonmembers))
    return Interval(value, *_percentiles(resampled, level))


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> McNemar:
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
        p-value and the numbers of discordant clips

    Raises:
        ParameterError: if ``a`` and ``b`` do not hold the same clips in the same order,
            or a table is empty, lacks a column or holds several splits

    Examples:
        >>> a = pd.DataFrame(
        ...     {"split": "unseen", "hash": list("abcde"), "label": 0, "prediction": 0}
        ... )
        >>> mcnemar(a, a.assign(prediction=[1, 1, 1, 1, 0]))
        McNemar(p_value=0.125, only_a=4, only_b=0)

    """
    for table in (a, b):
        _check_one_split(table, ["hash", "label", "prediction"])
    _check_paired(a, b, ["split", "hash", "label"])
    right_a, right_b = ((x["label"] == x["prediction"]).to_numpy() for x in (a, b))
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    p_value = contingency_tables.mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue
    return McNemar(float(p_value), only_a, only_b)


def uar_z_test(uar_a: float, uar_b: float, n: int) -> ZTest:
    r"""The paper's test: a one-tailed z-test that takes UAR for a share of n clips.

    .. math::

        z = \frac{u_a - u_b}{\sqrt{2 u (1 - u) / n}}, \quad u = \frac{u_a + u_b}{2},
        \quad p = 1 - \Phi(z)

    The field does so, and it is flawed thrice: UAR is a mean of recalls and not a proportion; both
    models are tested on the same clips, so that the two are not independent (Dietterich 1998,
    https://doi.org/10.1162/089976698300017197); the clips of one speaker aren't either. Report it
    beside :func:`paired_bootstrap`, never alone. Where all clips or none are correct the variance
    is 0, and z is set to 0.

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
    for name, value in (("uar_a", uar_a), ("uar_b", uar_b)):
        if not 0 <= value <= 1:
            raise ParameterError(f"{name} must be in [0, 1], got {value}")
    if n < 1:
        raise ParameterError(f"n must be at least 1, got {n}")
    if uar_a + uar_b in (0, 2):
        return ZTest(0.0, 0.5)
    z, p_value = proportions_ztest([uar_a * n, uar_b * n], [n, n], alternative="larger")
    return ZTest(float(z), float(p_value))


def draw_clusters(
    clusters: Sequence[object] | Shaped[np.ndarray, " clips"] | pd.Series,
    n_resamples: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "resample clips"]:
    """How often each clip occurs in resamples that draw whole clusters with replacement.

    Args:
        clusters: cluster (e.g. speaker) of each clip
        n_resamples: number of resamples, at least 100
        generator: source of randomness

    Returns:
        counts, the same for all clips of a cluster

    Raises:
        ParameterError: no clip, or too few resamples

    Examples:
        >>> counts = draw_clusters(["01", "02", "01"], 100, np.random.default_rng(0))
        >>> counts.shape, bool((counts[:, 0] == counts[:, 2]).all())
        ((100, 3), True)

    """
    _check_resamples(n_resamples)
    if len(clusters) == 0:
        raise ParameterError("clusters is empty")
    codes, names = pd.factorize(pd.Series(list(clusters), dtype=object))
    return _draw_counts(len(names), n_resamples, generator)[:, codes]


def percentile_interval(
    value: float, resampled: Float[np.ndarray, " resample"], level: float = 0.95
) -> Interval:
    """Put a value together with the central interval of its resamples.

    Args:
        value: value on the clips as they are
        resampled: the same on each resample; NaN where a resample has none
        level: confidence level in (0, 1)

    Returns:
        value and interval

    Raises:
        ParameterError: a level out of range, or no resample with a value

    Examples:
        >>> percentile_interval(0.5, np.linspace(0, 1, 101), 0.5)
        Interval(value=0.5, low=0.25, high=0.75)

    """
    _check_level(level)
    if np.isnan(resampled).all():
        raise ParameterError("resampled: no resample has a value")
    return Interval(float(value), *_percentiles(resampled, level))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ParameterError(f"level must be in (0, 1), got {level}")


def _check_bootstrap(n_resamples: int, level: float) -> None:
    _check_level(level)
    _check_resamples(n_resamples)


def _check_resamples(n_resamples: int) -> None:
    # Fewer leave no resample in the tails that the interval cuts off.
    if n_resamples < 100:
        raise ParameterError(f"n_resamples must be at least 100, got {n_resamples}")


def _check_one_split(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """One score over several splits means nothing, and is easily computed by mistake."""
    check_predictions(table, columns)
    splits = sorted(set(table["split"]))
    if len(splits) > 1:
        raise ParameterError(f"predictions must hold one split, got {splits}")


def _check_tables(tables: Sequence[pd.DataFrame], statistic: str, clusters: str) -> None:
    if statistic not in STATISTICS:
        raise ParameterError(f"statistic must be one of {list(STATISTICS)}, got {statistic!r}")
    if len(tables) == 0:
        raise ParameterError("predictions holds no table")
    for table in tables:
        _check_one_split(table, ["label", "prediction", clusters])


def _check_paired(a: pd.DataFrame, b: pd.DataFrame, columns: Sequence[str]) -> None:
    """Row i of both tables must be the same clip."""
    for table in (a, b):
        check_predictions(table, columns)
    if len(a) != len(b):
        raise ParameterError(f"a has {len(a)} clips and b has {len(b)}, they must be the same")
    for column in columns:
        differs = a[column].to_numpy() != b[column].to_numpy()
        if differs.any():
            row = int(np.argmax(differs))
            raise ParameterError(
                f"a and b must hold the same clips in the same order, row {row} has {column} "
                f"{a[column].iloc[row]!r} and {b[column].iloc[row]!r}"
            )


def _sums(
    tables: Sequence[pd.DataFrame], statistic: str, clusters: str
) -> tuple[Float[np.ndarray, "pair cluster group"], Float[np.ndarray, "pair cluster group"]]:
    """Correct clips and all clips by pair, cluster and group of the statistic."""
    clips = pd.concat(tables, ignore_index=True)
    pair = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    cluster, cluster_names = pd.factorize(clips[clusters])
    group, group_names = pd.factorize(STATISTICS[statistic](clips))
    shape = len(tables), len(cluster_names), len(group_names)
    cell = np.ravel_multi_index((pair, cluster, group), shape)
    correct = (clips["label"] == clips["prediction"]).to_numpy(dtype=float)
    size = math.prod(shape)
    return (
        np.bincount(cell, weights=correct, minlength=size).reshape(shape),
        np.bincount(cell, minlength=size).astype(float).reshape(shape),
    )


def _draw_counts(
    n: int, n_resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resample n"]:
    """How often each of n units occurs in n draws with replacement."""
    return generator.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(float)


def _draw(
    total: Float[np.ndarray, "pair cluster group"],
    n_resamples: int,
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, "resample cluster"], Float[np.ndarray, "resample pair"]]:
    """How often each cluster and each pair occurs in every resample."""
    n_pairs, n_clusters, _ = total.shape
    clusters = _draw_counts(n_clusters, n_resamples, generator)
    return clusters, _draw_counts(n_pairs, n_resamples, generator)


def _as_they_are(
    total: Float[np.ndarray, "pair cluster group"],
) -> tuple[Float[np.ndarray, "1 cluster"], Float[np.ndarray, "1 pair"]]:
    """The resample that holds each cluster and each pair once."""
    n_pairs, n_clusters, _ = total.shape
    return np.ones((1, n_clusters)), np.ones((1, n_pairs))


def _mean_score(
    correct: Float[np.ndarray, "pair cluster group"],
    total: Float[np.ndarray, "pair cluster group"],
    weights: tuple[Float[np.ndarray, "resample cluster"], Float[np.ndarray, "resample pair"]],
) -> Float[np.ndarray, " resample"]:
    """Mean over the drawn pairs of the mean over the groups present of the share correct.

    NaN where no drawn pair has a drawn cluster.
    """
    cluster_weights, pair_weights = weights
    correct = np.tensordot(cluster_weights, correct, axes=(1, 1))
    total = np.tensordot(cluster_weights, total, axes=(1, 1))
    present = total > 0
    share = np.divide(correct, total, out=np.zeros_like(total), where=present)
    n_groups = present.sum(axis=2)
    score = share.sum(axis=2) / np.maximum(n_groups, 1)
    pair_weights = pair_weights * (n_groups > 0)
    n_drawn = pair_weights.sum(axis=1)
    out = np.full(len(n_drawn), np.nan)
    return np.divide((pair_weights * score).sum(axis=1), n_drawn, out=out, where=n_drawn > 0)


def _membership(clusters: pd.Series) -> Float[np.ndarray, "cluster clip"]:
    """1 where the clip is of the cluster, else 0."""
    codes, names = pd.factorize(clusters)
    return (np.arange(len(names))[:, None] == codes[None, :]).astype(float)


def _percentiles(resampled: Float[np.ndarray, " resample"], level: float) -> tuple[float, float]:
    """Ends of the central interval that holds a share of ``level`` of the resamples."""
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
