"""Scores of one model, their distances to a retrained model's, and where one more's would lie."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from speechunlearn.audit.membership import auc, loss_membership_attack
from speechunlearn.audit.metrics import SCORES, by_split, distance_to_retrained
from speechunlearn.errors import ParameterError

#: value by split and metric
Values = dict[tuple[str, str], float]


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


def of_one_more(
    values: Float[np.ndarray, " retrained"], n: int, n_outside: int | None, quantile: float
) -> tuple[float, float]:
    r"""Where the score of one more retrained model would lie.

    Models retrained from several seeds differ. The interval is

    .. math:: \bar{x} \pm \Bigl( z \sqrt{(1 + 1/k) \, \max(s^2, v)} + \tfrac{1}{2n} \Bigr)

    with the mean and the variance :math:`s^2` of the k retrained models, the normal quantile z,
    and half a clip of n, since scores come in steps. A handful of models may agree by chance, so
    the variance is taken to be no less than what chance gives n clips:
    :math:`v = \bar{x} (1 - \bar{x}) / n` for the UAR, Hanley and McNeil's (1982,
    https://doi.org/10.1148/radiology.143.1.7063747) for the AUC: see :func:`auc_variance`. A model
    that has forgotten too much lies outside as one does that has forgotten nothing.

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
    """All scores of one model.

    Each split gets ``uar``, ``accuracy`` and ``mean_loss`` (nats). The forget set also gets
    ``mia_auc`` where the table holds unseen clips: forget clips are the members, unseen clips the
    non-members; where a class was removed, its own unseen clips, or the attack would tell classes
    apart, not members.

    Args:
        predictions: per-clip predictions table of the model
        n_labels: number of classes of the task

    Raises:
        ParameterError: a table that is empty, lacks a column, holds an unknown split or class

    Examples:
        >>> clips = pd.DataFrame(
        ...     {
        ...         "split": ["forget", "unseen", "unseen"],
        ...         "label": [0, 0, 1],
        ...         "prediction": [0, 0, 0],
        ...         "loss": [0.25, 0.5, 2.0],
        ...     }
        ... )
        >>> found = scores(clips, n_labels=2)
        >>> found["unseen", "uar"], found["unseen", "mean_loss"], found["forget", "mia_auc"]
        (0.5, 1.25, 1.0)

    """
    clips = by_split(predictions, ["label", "prediction", "loss"])
    found: Values = {}
    outside = "removed" if "removed" in clips else "unseen"
    for split, part in clips.items():
        for name, score in SCORES.items():
            found[split, name] = score(part, n_labels)
        if split == "forget" and outside in clips:
            attack = loss_membership_attack(part["loss"], clips[outside]["loss"])
            found[split, "mia_auc"] = auc(attack)
    return found


def check_same_clips(predictions: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Refuse two tables that are not of the same clips, in any order: no distance means anything.

    Raises:
        ParameterError: splits, clips or labels that differ

    """
    columns = ["split", "hash", "label"]
    if all(
        column in predictions and column in reference
        and predictions[column].array.equals(reference[column].array) for column in columns
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
