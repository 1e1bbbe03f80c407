"""Does the model still give away that the forget set was trained on? Membership attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm, rankdata

from speechunlearn.errors import ParameterError
from speechunlearn.metrics import SCORES, by_split, distance_to_retrained

#: value by split and metric
Values = dict[tuple[str, str], float]


@dataclass(frozen=True)
class MembershipResult:
    """What a membership attack reached.

    Attributes:
        auc: area under the ROC curve in [0, 1], 0.5 when members can't be told from non-members
        n_members: number of member clips
        n_nonmembers: number of non-member clips

    """

    auc: float
    n_members: int
    n_nonmembers: int

    def advantage_to_retrained(self, retrained: MembershipResult) -> float:
        """What the attack gains over one on the retrained model: abs(AUC - AUC_retrained).

        Forget set and unseen speakers differ even for a model that saw neither. The retrained
        model's AUC holds that difference, so it is the reference, not 0.5.

        Args:
            retrained: the same attack on the model retrained without the forget set

        Returns:
            distance in [0, 1], 0 is perfect unlearning in the eye of this attack

        Examples:
            >>> MembershipResult(0.125, 10, 90).advantage_to_retrained(
            ...     MembershipResult(0.5, 10, 90)
            ... )
            0.375

        """
        return distance_to_retrained(self.auc, retrained.auc)


def loss_membership_attack(
    member_losses: Sequence[float] | Float[np.ndarray, " members"] | pd.Series,
    nonmember_losses: Sequence[float] | Float[np.ndarray, " nonmembers"] | pd.Series,
) -> MembershipResult:
    r"""Membership attack that calls a clip a member when its loss is low.

    The score of a clip is -loss (Yeom et al. 2018, https://arxiv.org/abs/1709.01604, without
    their single threshold). The AUC is the Mann-Whitney statistic, ties counted half:

    .. math::

        \text{AUC} = \frac{1}{nm} \sum_{i=1}^{n} \sum_{j=1}^{m}
            [\ell_i < \ell'_j] + \tfrac{1}{2} [\ell_i = \ell'_j]

    with the losses :math:`\ell` of the members and :math:`\ell'` of the non-members.
    An AUC below 0.5 leaks too: an attacker who flips the score reaches 1 - AUC. It is what a model
    that has forgotten too much shows: its forget set stands out by losses above those of clips
    it never saw. Compare it with the retrained model's, see
    :meth:`MembershipResult.advantage_to_retrained`.

    Args:
        member_losses: cross-entropy in nats of the clips that were trained on (the forget set)
        nonmember_losses: cross-entropy in nats of clips that were not (unseen speakers)

    Returns:
        the AUC and the number of clips on each side

    Raises:
        ParameterError: if a side is empty or holds NaN

    Examples:
        >>> loss_membership_attack([0.1, 0.3], [0.2, 0.3, 0.5, 0.9])
        MembershipResult(auc=0.8125, n_members=2, n_nonmembers=4)

    """
    sides = {"member_losses": member_losses, "nonmember_losses": nonmember_losses}
    for name, losses in sides.items():
        if len(losses) == 0:
            raise ParameterError(f"{name} is empty")
        gaps = int(np.isnan(np.asarray(losses, dtype=float)).sum())
        if gaps:
            raise ParameterError(f"{name} holds {gaps} NaN of {len(losses)} values")
    n_members, n_nonmembers = len(member_losses), len(nonmember_losses)
    ranks = rankdata(np.concatenate([nonmember_losses, member_losses]))
    # Mann-Whitney U of the non-members: pairs in which the non-member has the higher loss.
    wins = ranks[:n_nonmembers].sum() - n_nonmembers * (n_nonmembers + 1) / 2
    return MembershipResult(float(wins / (n_members * n_nonmembers)), n_members, n_nonmembers)


def evaluate(
    predictions: pd.DataFrame, reference: pd.DataFrame | None = None, *, n_labels: int
) -> pd.DataFrame:
    """All scores of one model, and their distances to the retrained model's.

    Each split gets ``uar``, ``accuracy`` and ``mean_loss`` (nats). The forget set also gets
    ``mia_auc`` where the table holds unseen clips: forget clips are the members, unseen clips the
    non-members; where a class was removed, its own unseen clips, or the attack would tell classes
    apart, not members. With a reference, every metric is followed by
    ``<metric>_distance``, the absolute difference of the two models' scores.

    Args:
        predictions: per-clip predictions table of the model
        reference: the same of the model retrained without the forget set, on the same clips
        n_labels: number of classes of the task

    Returns:
        tidy table with the columns ``split``, ``metric``, ``value``

    Raises:
        ParameterError: if a table is empty, lacks a column, holds an unknown split or class,
            or if the two tables are not of the same clips

    Examples:
        >>> clips = pd.DataFrame(
        ...     {
        ...         "split": ["forget", "unseen", "unseen"],
        ...         "hash": ["a", "b", "c"],
        ...         "label": [0, 0, 1],
        ...         "prediction": [0, 0, 0],
        ...         "loss": [0.25, 0.5, 2.0],
        ...     }
        ... )
        >>> scores = evaluate(clips, n_labels=2).set_index(["split", "metric"])["value"]
        >>> float(scores["forget", "mia_auc"]), float(scores["unseen", "uar"])
        (1.0, 0.5)

    """
    found = scores(predictions, n_labels)
    if reference is not None:
        check_same_clips(predictions, reference)
        found = with_distances(found, scores(reference, n_labels))
    rows = [(split, metric, value) for (split, metric), value in found.items()]
    return pd.DataFrame(rows, columns=["split", "metric", "value"])


def with_distances(found: Values, reference: Values) -> Values:
    """Values of a model, each followed by its distance to the retrained model's."""
    return {
        (split, name): number
        for (split, metric), value in found.items()
        for name, number in (
            (metric, value),
            (f"{metric}_distance", distance_to_retrained(value, reference[split, metric])),
        )
    }


@dataclass(frozen=True)
class Verdict:
    """Whether a model passes for one that never saw the forget set.

    Attributes:
        passed: every score lies where one more retrained model's would
        scores: one row a score: ``metric``, ``value``, ``low`` and ``high`` (where one more
            retrained model's value would lie), ``passed``

    """

    passed: bool
    scores: pd.DataFrame


#: the scores that a verdict rests on: what the model says of the forget set, and what an attack
#: reads from it
JUDGED = ("uar", "mia_auc")


def verdict(
    predictions: pd.DataFrame,
    retrained: Sequence[pd.DataFrame],
    *,
    n_labels: int,
    level: float = 0.95,
) -> Verdict:
    r"""Ask whether a model is one of the retrained, as far as the forget set shows.

    Models retrained from several seeds differ. A model passes if its forget UAR and its membership
    AUC both lie where those of one more retrained model would:

    .. math:: \bar{x} \pm \Bigl( z \sqrt{(1 + 1/k) \, \max(s^2, v)} + \tfrac{1}{2n} \Bigr)

    with the mean and the variance :math:`s^2` of the k retrained models, the normal quantile z at
    the level shared between the two scores (Bonferroni), and half a clip of n, since scores come in
    steps. A handful of models may agree by chance, so the variance is taken to be no less than
    what chance gives n clips: :math:`v = \bar{x} (1 - \bar{x}) / n` for the UAR, Hanley and
    McNeil's (1982, https://doi.org/10.1148/radiology.143.1.7063747) for the AUC. A model that has
    forgotten too much fails as one does that has forgotten nothing.

    Args:
        predictions: per-clip predictions table of the model
        retrained: the same of at least two models retrained without the forget set
        n_labels: number of classes of the task
        level: chance that one more retrained model passes, in (0, 1)

    Returns:
        the verdict with its scores

    Raises:
        ParameterError: fewer than two retrained models, a level that is none, or tables that
            are not of the same clips

    """
    if len(retrained) < 2:
        raise ParameterError(
            f"retrained: {len(retrained)} model(s); their spread needs two or more"
        )
    if not 0 < level < 1:
        raise ParameterError(f"level: {level} is not between 0 and 1")
    for reference in retrained:
        check_same_clips(predictions, reference)
    own = scores(predictions, n_labels)
    others = [scores(reference, n_labels) for reference in retrained]
    counts = predictions["split"].value_counts()
    n_outside = int(counts["removed" if "removed" in counts else "unseen"])
    n = int(counts["forget"])
    quantile = norm.ppf(1 - (1 - level) / (2 * len(JUDGED)))
    rows = []
    for metric in JUDGED:
        values = np.array([other["forget", metric] for other in others])
        low, high = of_one_more(values, n, None if metric == "uar" else n_outside, quantile)
        value = own["forget", metric]
        rows.append((metric, value, low, high, bool(low <= value <= high)))
    table = pd.DataFrame(rows, columns=["metric", "value", "low", "high", "passed"])
    return Verdict(bool(table["passed"].all()), table)


def of_one_more(
    values: Float[np.ndarray, " retrained"], n: int, n_outside: int | None, quantile: float
) -> tuple[float, float]:
    """Where the score of one more retrained model would lie: the interval of `verdict`.

    Args:
        values: the score under two or more retrained models
        n: number of clips, or of members
        n_outside: number of non-members, where the score is an AUC; None for a UAR
        quantile: of the normal distribution

    Returns:
        ends of the interval

    Examples:
        >>> low, high = of_one_more(np.array([0.5, 0.5]), 100, None, 2.0)
        >>> round(low, 4), round(high, 4)
        (0.3725, 0.6275)

    """
    mean = float(values.mean())
    chance = mean * (1 - mean) / n if n_outside is None else auc_variance(mean, n, n_outside)
    spread = np.sqrt((1 + 1 / len(values)) * max(values.var(ddof=1), chance))
    reach = float(quantile * spread + 0.5 / n)
    return mean - reach, mean + reach


def auc_variance(auc: float, n_members: int, n_nonmembers: int) -> float:
    r"""Variance of an AUC that chance alone gives so many clips.

    .. math:: \frac{A (1 - A) + (n - 1) (Q_1 - A^2) + (m - 1) (Q_2 - A^2)}{n m},
        \qquad Q_1 = \frac{A}{2 - A}, \quad Q_2 = \frac{2 A^2}{1 + A}

    Source: Hanley and McNeil 1982, equation 1 with exponential scores.

    Args:
        auc: A, in [0, 1]
        n_members: n
        n_nonmembers: m

    Examples:
        >>> round(auc_variance(0.5, 10, 20), 6)
        0.012917

    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return (
        auc * (1 - auc) + (n_members - 1) * (q1 - auc**2) + (n_nonmembers - 1) * (q2 - auc**2)
    ) / (n_members * n_nonmembers)


def scores(predictions: pd.DataFrame, n_labels: int) -> Values:
    """All scores of one model, without distances: see `evaluate`."""
    clips = by_split(predictions, ["label", "prediction", "loss"])
    found: Values = {}
    outside = "removed" if "removed" in clips else "unseen"
    for split, part in clips.items():
        for name, score in SCORES.items():
            found[split, name] = score(part, n_labels)
        if split == "forget" and outside in clips:
            attack = loss_membership_attack(part["loss"], clips[outside]["loss"])
            found[split, "mia_auc"] = attack.auc
    return found


def check_same_clips(predictions: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Refuse two tables that are not of the same clips, in any order: no distance means anything.

    Raises:
        ParameterError: splits, clips or labels that differ

    """
    columns = ["split", "hash", "label"]
    if all(column in predictions and column in reference for column in columns) and all(
        predictions[column].array.equals(reference[column].array) for column in columns
    ):
        return
    own = by_split(predictions, ["hash", "label"])
    others = by_split(reference, ["hash", "label"])
    if list(own) != list(others):
        raise ParameterError(f"predictions has the splits {list(own)}, reference {list(others)}")
    for split, clips in own.items():
        ours, theirs = (
            table[columns[1:]].sort_values(columns[1:], ignore_index=True)
            for table in (clips, others[split])
        )
        if not ours.equals(theirs):
            raise ParameterError(
                f"reference must have the clips and labels of predictions, split {split!r} differs "
                f"({len(ours)} clips in predictions, {len(theirs)} in reference)"
            )
