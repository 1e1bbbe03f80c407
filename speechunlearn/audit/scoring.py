"""Scores of one model, their distances to a retrained model's, and where one more's would lie."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from speechunlearn.audit.membership import Scores, auc, loss_membership_attack
from speechunlearn.audit.metrics import SCORES, by_split, distance_to_retrained

#: value by split and metric
Values = dict[tuple[str, str], float]


def with_distances(values: Values, reference: Values) -> Values:
    """Values of a model, each followed by its distance to the retrained model's."""
    both: Values = {}
    for (split, metric), value in values.items():
        distance = distance_to_retrained(value, reference[split, metric])
        both |= {(split, metric): value, (split, f"{metric}_distance"): distance}
    return both


def of_one_more(
    values: Float[np.ndarray, " retrained"], chance: float, quantile: float
) -> tuple[float, float]:
    r"""Where the score of one more retrained model would lie.

    Models retrained from several seeds differ. The interval is

    .. math:: \bar{x} \pm z \sqrt{(1 + 1/k) \, \max(s^2, v)}

    with the mean and the variance :math:`s^2` of the k retrained models and the normal quantile z.
    A handful of models may agree by chance, so the variance is taken to be no less than what the
    single clips give: v, see :func:`chance_of_clips`. A model that has forgotten too much lies
    outside as one does that has forgotten nothing. Simulated, one more of models that differ clip
    by clip lies inside in .93 to .98 of cases for z = 1.96, from two references and a few clips on;
    where all answers of a model move together, by as much again, in .90.

    Args:
        values: the score under two or more retrained models
        chance: v, the variance that the clips alone give
        quantile: of the normal distribution

    Returns:
        ends of the interval

    Examples:
        >>> of_one_more(np.array([0.5, 0.5]), 0.0025, 2.0)
        (0.3775..., 0.6224...)

    """
    mean = float(values.mean())
    variance = max(float(values.var(ddof=1)), chance)
    reach = float(quantile * np.sqrt((1 + 1 / len(values)) * variance))
    return mean - reach, mean + reach


def chance_of_clips(shares: Float[np.ndarray, "retrained _clips"], step: float) -> float:
    r"""Variance of a score between retrained models, from how they differ on each clip.

    .. math:: v = \sum_i s_i^2 + \frac{\delta^2}{2k}

    with the variance :math:`s_i^2` over the k models of what clip i adds to the score. It is that
    of *these* clips, asked of another model: what other clips would have given (a binomial
    variance, or Hanley and McNeil's) has .9 to 1.6 times the standard deviation for a UAR, and 1.9
    to 2.4 times for the attack on the loss, on the leaderboards' models, and hides as much of what
    is left of the forget set. The step
    :math:`\delta` is what one clip changes: as if half an error more had been seen in all k models,
    so that a single clip decides nothing where all of them are right.

    Args:
        shares: of `uar_shares` or `auc_shares`: a row a model, two or more
        step: change of the score by one clip

    Examples:
        >>> chance_of_clips(np.array([[0.25, 0.25], [0.25, 0.0]]), 0.25)
        0.046875

    """
    return float(shares.var(axis=0, ddof=1).sum()) + step**2 / (2 * len(shares))


def uar_shares(clips: pd.DataFrame) -> tuple[Float[np.ndarray, " _clips"], float]:
    """What each clip adds to the UAR, and the most that one can: a class's recall by their number.

    Args:
        clips: table with ``label`` and ``prediction``

    Examples:
        >>> uar_shares(pd.DataFrame({"label": [0, 0, 1], "prediction": [0, 1, 1]}))
        (array([0.25, 0.  , 0.5 ]), 0.5)

    """
    labels = clips["label"]
    weights = 1 / (labels.nunique() * labels.map(labels.value_counts()).to_numpy())
    right = (labels == clips["prediction"]).to_numpy()
    return weights * right, float(weights.max())


def auc_shares(attack: Scores, repeats: int = 1) -> tuple[Float[np.ndarray, " _clips"], float]:
    """What each clip adds to an AUC, members and non-members, and what one clip changes.

    A member adds the share of the non-members that it is above, by the number of members, and a
    non-member alike (the placement values of DeLong et al. 1988, https://doi.org/10.2307/2531595).

    Args:
        attack: scores of members and non-members
        repeats: how often each clip is there, all of them one after another

    Returns:
        shares of the members, then of the non-members (each side's are the AUC together), and the
        geometric mean of what a member and a non-member can change

    Examples:
        >>> auc_shares(Scores(np.array([0.9, 0.5]), np.array([0.7])))
        (array([0.5, 0. , 0.5]), 0.70...)

    """
    members = _share_below(attack.members, attack.nonmembers)
    nonmembers = 1 - _share_below(attack.nonmembers, attack.members)
    sides = [side.reshape(repeats, -1).mean(axis=0) for side in (members, nonmembers)]
    n, m = map(len, sides)
    return np.concatenate([sides[0] / n, sides[1] / m]), (n * m) ** -0.5


def _share_below(
    values: Float[np.ndarray, " _values"], others: Float[np.ndarray, " _others"]
) -> Float[np.ndarray, " _values"]:
    """Share of the others that each value is above; where equal, half."""
    ordered = np.sort(others)
    ends = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.add(*ends) / (2 * len(others))


def auc_variance(auc: float, n_members: int, n_nonmembers: int) -> float:
    r"""Variance of an AUC that chance alone gives so many clips.

    .. math:: \frac{A (1 - A) + (n - 1) (Q_1 - A^2) + (m - 1) (Q_2 - A^2)}{n m},
        \qquad Q_1 = \frac{A}{2 - A}, \quad Q_2 = \frac{2 A^2}{1 + A}

    Source: Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747, equation 1 with
    exponential scores.

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
        >>> values = scores(clips, n_labels=2)
        >>> values["unseen", "uar"], values["unseen", "mean_loss"], values["forget", "mia_auc"]
        (0.5, 1.25, 1.0)

    """
    clips = by_split(predictions, ["label", "prediction", "loss"])
    values: Values = {}
    outside = "removed" if "removed" in clips else "unseen"
    for split, part in clips.items():
        for name, score in SCORES.items():
            values[split, name] = score(part, n_labels)
        if split == "forget" and outside in clips:
            attack = loss_membership_attack(part["loss"], clips[outside]["loss"])
            values[split, "mia_auc"] = auc(attack)
    return values
