"""Membership attacks beyond a threshold on the loss, and what one says of them.

Each attack gives a score to every clip, the higher the more it takes the clip for one that was
trained on: :class:`Scores`. :func:`performance` reads area, equal error rate and hits at few false
alarms from them, and :func:`to_retrained` compares a figure with that of retrained models. The
functions take arrays, not models; the pages of the metrics in the book explain them.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num
from scipy.special import log_softmax, logsumexp

from speechunlearn.audit import statistics
from speechunlearn.audit.metrics import check_columns, check_unit, distance_to_retrained, numbers
from speechunlearn.audit.statistics import Clusters, Interval, Resamples, Weights, draw_clips
from speechunlearn.errors import ParameterError, require

# An underscore: two arguments need not agree in the axis, or are refused with a message.
Values = Sequence[float] | Num[np.ndarray, " _clips"] | Bool[np.ndarray, " _clips"] | pd.Series
Features = Values | Num[np.ndarray, "_clips _features"] | pd.DataFrame
Logits = Num[np.ndarray, "clips classes"]
Labels = Int[np.ndarray, " _clips"]
LogProbabilities = Float[np.ndarray, "clips classes"]
Curve = Float[np.ndarray, "resample points"]
OfClips = Float[np.ndarray, " _clips"]
#: resamples whose curves are held at a time
_ROWS = 50


class Scores(NamedTuple):
    """What an attack says of each clip: the higher, the more it takes it for a member.

    Attributes:
        members: scores of the clips that were trained on (the forget set)
        nonmembers: scores of clips that were not

    """

    members: Float[np.ndarray, " members"]
    nonmembers: Float[np.ndarray, " nonmembers"]


class Imbalance(NamedTuple):
    """What still tells members from non-members after :func:`match`.

    Attributes:
        n_pairs: number of pairs
        n_unmatched: number of members without a partner
        mean_difference: mean over pairs of member's minus non-member's duration, seconds
        standardised: ``mean_difference`` by the standard deviation of the durations before
            matching (root mean of the two sides' variances); 0 where durations do not vary
        agreement: share of pairs that agree in each column asked for

    """

    n_pairs: int
    n_unmatched: int
    mean_difference: float
    standardised: float
    agreement: dict[str, float]


class Matching(NamedTuple):
    """Pairs of a member and a non-member that are alike.

    Attributes:
        members: position of each pair's member
        nonmembers: position of each pair's non-member, no clip twice
        imbalance: what the pairs still differ in

    """

    members: Int[np.ndarray, " pairs"]
    nonmembers: Int[np.ndarray, " pairs"]
    imbalance: Imbalance

    def apply(self, scores: Scores) -> Scores:
        """Scores of the matched clips alone, pair by pair."""
        return Scores(scores.members[self.members], scores.nonmembers[self.nonmembers])


class Hits(NamedTuple):
    """Members found at few false alarms.

    Attributes:
        tpr: share of the members found
        fpr: share of the non-members called members there: at most what was allowed

    """

    tpr: float
    fpr: float


class Performance(NamedTuple):
    """What an attack reached, with intervals.

    Attributes:
        auc: area under the ROC curve
        eer: equal error rate
        tpr: share of the members found at few false alarms, see :func:`tpr_at_fpr`
        fpr: the share of false alarms at which ``tpr.value`` was read
        n_members: number of members
        n_nonmembers: number of non-members
        resampled: what the intervals' resamples draw of members and of non-members, in words

    """

    auc: Interval
    eer: Interval
    tpr: Interval
    fpr: float
    n_members: int
    n_nonmembers: int
    resampled: tuple[str, str]


class ToRetrained(NamedTuple):
    """An attack's figure beside that of retrained models.

    Attributes:
        distance: mean absolute difference to the retrained models' figures
        spread: mean absolute difference between two retrained models: the distance's floor

    """

    distance: float
    spread: float


def features(logits: Logits, labels: Labels) -> pd.DataFrame:
    r"""What a membership attack looks at, clip by clip.

    With the softmax probabilities p of a clip and its true class y:

    .. math::

        \text{loss} &= -\log p_y, \quad \text{confidence} = p_y, \quad
        \text{entropy} = -\sum_k p_k \log p_k \\
        \text{modified entropy} &= -(1 - p_y) \log p_y
            - \sum_{k \ne y} p_k \log (1 - p_k)

    The modified entropy is 0 for certainty of the true class and without bound for certainty of a
    wrong one, where the entropy is 0 for both. Source: Song and Mittal 2021,
    https://arxiv.org/abs/2003.10595. All logarithms are taken of the logits, so that none is of a
    probability that was rounded to 0.

    Args:
        logits: of each clip, finite
        labels: true class of each clip, from 0

    Returns:
        a row a clip with the columns ``loss``, ``entropy``, ``modified_entropy`` (nats),
        ``confidence`` (in [0, 1]) and ``correct`` (whether the true class has the highest logit)

    Raises:
        ParameterError: no clips, fewer than two classes, a logit that is not finite, or labels
            that are not of these clips and classes

    Examples:
        >>> features(np.log([[0.5, 0.25, 0.25]]), np.array([0])).round(4).to_dict("records")
        [{'loss': 0.6931, 'confidence': 0.5, 'entropy': 1.0397, 'modified_entropy': 0.4904,
          'correct': True}]

    """
    log_p, log_rest = _log_probabilities(logits, labels)
    clips = np.arange(len(labels))
    p = np.exp(log_p)
    others = p * log_rest
    others[clips, labels] = 0
    loss = -log_p[clips, labels]
    return pd.DataFrame({
        "loss": loss, "confidence": np.exp(-loss), "entropy": -(p * log_p).sum(axis=1),
        "modified_entropy": np.exp(log_rest[clips, labels]) * loss - others.sum(axis=1),
        "correct": log_p.argmax(axis=1) == labels,
    })


def logit_confidence(logits: Logits, labels: Labels) -> Float[np.ndarray, " clips"]:
    r"""Logit-scaled confidence of the true class, for :func:`likelihood_ratio`.

    .. math:: \phi = \log \frac{p_y}{1 - p_y} = z_y - \log \sum_{k \ne y} e^{z_k}

    with the logits z. Over models it is about normal, which the confidence itself is not
    (Carlini et al. 2022, https://arxiv.org/abs/2112.03570).

    Args:
        logits: of each clip, finite
        labels: true class of each clip, from 0

    Returns:
        logit-scaled confidence of each clip, finite

    Raises:
        ParameterError: as :func:`features`

    Examples:
        >>> logit_confidence(np.array([[1.0, -2.0], [800.0, 0.0]]), np.array([0, 1]))
        array([   3., -800.])

    """
    log_p, log_rest = _log_probabilities(logits, labels)
    clips = np.arange(len(labels))
    return log_p[clips, labels] - log_rest[clips, labels]


def loss_membership_attack(member_losses: Values, nonmember_losses: Values) -> Scores:
    r"""Membership attack that calls a clip a member when its loss is low.

    The score of a clip is -loss (Yeom et al. 2018, https://arxiv.org/abs/1709.01604, without
    their single threshold). An :func:`auc` below 0.5 leaks too: an attacker who flips the score
    reaches 1 - AUC. It is what a model that has forgotten too much shows: its forget set stands
    out by losses above those of clips it never saw. Compare it with the retrained models', see
    :func:`to_retrained`.

    Args:
        member_losses: cross-entropy in nats of the clips that were trained on (the forget set)
        nonmember_losses: cross-entropy in nats of clips that were not (unseen speakers)

    Returns:
        a score for each clip

    Examples:
        >>> auc(loss_membership_attack([0.1, 0.3], [0.2, 0.3, 0.5, 0.9]))
        0.8125

    """
    sides = (member_losses, nonmember_losses)
    return Scores(*(-np.asarray(losses, dtype=float) for losses in sides))


def regression_attack(
    members: Features, nonmembers: Features, *, n_folds: int = 10, seed: int = 0
) -> Scores:
    """Membership attack by a logistic regression that knows who of the other clips is a member.

    The clips are cut into folds, stratified by membership; each fold's score is the log-odds
    under a regression that was fitted on the other folds, on standardised features and with
    both sides weighing alike. Source: the kit of the NeurIPS 2023 unlearning challenge
    (Triantafillou et al. 2024, https://arxiv.org/abs/2406.09073), which takes the loss alone,
    draws random splits and reports accuracy; here each clip gets one score. Unlike a threshold on
    the loss, it finds out by itself which side has the lower loss, so that its AUC does not fall
    far below 0.5 for a model that forgot too much. Where nothing tells the sides apart, the AUC
    is a little below 0.5 in mean: what a fold has too much of, the others have too little of.
    It cannot see a clip's own difficulty.

    Args:
        members: features of the clips that were trained on (e.g. the loss), a row a clip
        nonmembers: the same of clips that were not
        n_folds: number of folds, at least 2
        seed: of the folds

    Returns:
        out-of-fold scores

    Raises:
        ParameterError: features that are not finite or not alike in number, or fewer clips on a
            side than folds

    Examples:
        >>> scores = regression_attack([0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4], n_folds=2)
        >>> auc(scores)
        1.0

    """
    sides = _check_features({"members": members, "nonmembers": nonmembers})
    sizes = {name: len(side) for name, side in sides.items()}
    enough = 2 <= n_folds <= min(sizes.values())
    require(enough, f"n_folds must be from 2 to the clips of a side, {sizes}, got {n_folds}")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    is_member = np.repeat([1, 0], list(sizes.values()))
    log_odds = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")),
        np.concatenate(list(sides.values())),
        is_member,
        cv=StratifiedKFold(n_folds, shuffle=True, random_state=seed),
        method="decision_function",
    )
    return Scores(log_odds[is_member == 1], log_odds[is_member == 0])


def svc_attack(retain: Features, heldout: Features, forget: Features, unseen: Features) -> Scores:
    """Membership attack by a support vector machine that never saw the clips it is asked about.

    It learns to tell retained clips, which the model was trained on, from clips held apart, which
    it was not, and is then asked about the forget set and about further unseen clips. One feature
    at a time, as in the source, or several. Source: Fan et al. 2024,
    https://arxiv.org/abs/2310.12508, with their radial kernel and C = 3; here on standardised
    features and with both sides weighing alike, or a large retain set would make it call all
    clips members. The source reports the share of the forget set with a score below 0 ('MIA
    efficacy'). It cannot see traces that retained clips do not show, such as losses above those of
    unseen clips.

    Args:
        retain: features of retained clips, a row a clip
        heldout: the same of clips not trained on, to learn from
        forget: the same of the forget set, to be asked about
        unseen: the same of other clips not trained on, to be asked about: see :func:`hold_apart`

    Returns:
        scores of the forget set as members and of the unseen clips as non-members

    Raises:
        ParameterError: features that are empty, not finite or not alike in number

    Examples:
        >>> scores = svc_attack([0.1, 0.2, 0.3], [1.1, 1.2, 1.3], [0.2, 1.2], [1.2])
        >>> scores.members > 0
        array([ True, False])

    """
    of_sides = {"retain": retain, "heldout": heldout, "forget": forget, "unseen": unseen}
    sides = _check_features(of_sides)
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    known = np.concatenate([sides["retain"], sides["heldout"]])
    is_member = np.repeat([1, 0], [len(sides["retain"]), len(sides["heldout"])])
    classifier = SVC(C=3, kernel="rbf", gamma="auto", class_weight="balanced")
    machine = make_pipeline(StandardScaler(), classifier).fit(known, is_member)
    return Scores(*(machine.decision_function(sides[side]) for side in ("forget", "unseen")))


def hold_apart(groups: Clusters, generator: np.random.Generator) -> Bool[np.ndarray, " clips"]:
    """Cut clips into two halves that share no speaker.

    Args:
        groups: speaker of each clip, at least two
        generator: source of the order

    Returns:
        whether each clip is held apart: those of half of the speakers, rounded down

    Raises:
        ParameterError: fewer than two groups

    Examples:
        >>> hold_apart(["01", "01", "02"], np.random.default_rng(0))
        array([ True,  True, False])

    """
    codes, names = pd.factorize(pd.Series(list(groups), dtype=object))
    require(len(names) > 1, f"groups must hold two or more, got {list(names)}")
    chosen = generator.permutation(len(names))[: len(names) // 2]
    return np.isin(codes, chosen)


def match(
    members: pd.DataFrame, nonmembers: pd.DataFrame, *,
    exact: Sequence[str] = ("label", "speaker"), duration: str = "seconds",
) -> Matching:
    r"""Give each member a non-member that is like it, so that an attack has less else to go by.

    Of all ways to pair the clips, none twice, the one is taken in which the most pairs agree in
    the first column of ``exact``, then in the second, and so on, and of these the one with the
    least sum of absolute differences of duration (an assignment problem, solved by
    :func:`scipy.optimize.linear_sum_assignment`). With it, an attack is *informed*: an AUC off
    0.5 is not owed to classes or durations. Agreement is sought, not forced: unseen speakers
    never agree in the speaker. Read the imbalance that is left before the attack's figures. It
    cannot match what is not in the tables, such as noise or dialect.

    Args:
        members: table of the forget set, a row a clip
        nonmembers: table of clips that were not trained on
        exact: columns that should agree, the first weighs more than all others together
        duration: column of durations in seconds

    Returns:
        pairs in the order of the members, and the imbalance that is left. Where there are more
        members than non-members, some stay without a partner

    Raises:
        ParameterError: an empty table, a missing column, a value missing in one, or so many
            clips and columns that their order of precedence is lost in rounding

    Examples:
        >>> members = pd.DataFrame({"label": [0, 1], "seconds": [1.0, 2.0]})
        >>> others = pd.DataFrame({"label": [1, 1, 0], "seconds": [1.0, 2.5, 3.0]})
        >>> pairs = match(members, others, exact=["label"])
        >>> pairs.nonmembers
        array([2, 1])
        >>> pairs.imbalance.mean_difference, pairs.imbalance.agreement
        (-1.25, {'label': 1.0})

    """
    for name, table in (("members", members), ("nonmembers", nonmembers)):
        check_columns(name, table, [*exact, duration])
    n_pairs, n_exact = min(len(members), len(nonmembers)), len(exact)
    few_enough = float(n_pairs + 1) ** (n_exact + 1) <= 1e12
    require(few_enough, f"exact: {n_exact} columns are too many for {n_pairs} pairs: leave one out")
    seconds, others = (table[duration].to_numpy(float) for table in (members, nonmembers))
    distance = np.abs(seconds[:, None] - others[None, :])
    # All distances together cost no more than n_pairs, so that one more agreement of the last
    # column outweighs them, and one of the column before it all of those.
    cost = distance / max(float(distance.max()), np.finfo(float).tiny)
    alike = {
        column: members[column].to_numpy()[:, None] == nonmembers[column].to_numpy()
        for column in exact
    }
    for power, same in enumerate(reversed(alike.values()), start=1):
        cost = cost + ~same * float(n_pairs + 1) ** power
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    rows, columns = linear_sum_assignment(cost)
    difference = seconds[rows] - others[columns]
    scale = math.sqrt((seconds.var() + others.var()) / 2)
    mean = float(difference.mean())
    agreement = {column: float(same[rows, columns].mean()) for column, same in alike.items()}
    imbalance = Imbalance(
        n_pairs, len(members) - n_pairs, mean, mean / scale if scale > 0 else 0.0, agreement
    )
    return Matching(rows, columns, imbalance)


def likelihood_ratio(
    confidences: Num[np.ndarray, "shadows clips"],
    inside: Bool[np.ndarray, "_shadows _clips"],
    target: Num[np.ndarray, " _clips"],
    *,
    prior: float = 32.0,
) -> Float[np.ndarray, " clips"]:
    r"""Membership attack that knows how hard each clip is: a likelihood ratio from shadow models.

    .. math:: s_i = \log \mathcal{N}(\phi_i; \mu_i^\text{in}, \sigma_i^\text{in})
                  - \log \mathcal{N}(\phi_i; \mu_i^\text{out}, \sigma_i^\text{out})

    with the logit-scaled confidence :math:`\phi_i` of clip i under the attacked model, and mean
    and standard deviation of it over the shadow models whose training held the clip (in) and over
    those whose training did not (out). Source: Carlini et al. 2022,
    https://arxiv.org/abs/2112.03570. What an unlearned model leaves behind is found by 'in' models
    that were trained on the clip and then unlearned it by the same method (U-LiRA, Hayes et al.
    2024, https://arxiv.org/abs/2403.01218). The report card makes that attack where it is given
    such models; else its 'in' are originals, and what it tells is likeness to these.

    A variance from a few shadow models is unsure. It is shrunken towards the mean variance of all
    clips of its side, as if that were known from ``prior`` more degrees of freedom:

    .. math:: \sigma_i^2 = \frac{(n_i - 1)\, s_i^2 + d\, \bar{s}^2}{n_i - 1 + d}, \quad
        \bar{s}^2 = \frac{\sum_i (n_i - 1)\, s_i^2}{\sum_i (n_i - 1)}

    with n shadow models of the clip's side and d the prior. The default gives both about equal
    weight at 64 shadow models, half of them in.

    It cannot see more than the shadow models show: made by another recipe than the attacked
    model's, they mislead it.

    Args:
        confidences: :func:`logit_confidence` of each clip under each shadow model
        inside: whether the shadow model's training held the clip
        target: logit-scaled confidence of each clip under the attacked model
        prior: degrees of freedom d of the variance common to all clips; 0 takes each clip's own,
            infinity the common one alone

    Returns:
        log-likelihood ratio of each clip; above 0 it is more likely a member

    Raises:
        ParameterError: arrays of unequal shape or with values that are not finite, a clip with
            too few shadow models on a side (one is needed, two if ``prior`` is 0), a side on
            which no clip has two, or a variance of 0

    Examples:
        >>> confidences = np.array([[2.0], [4.0], [-1.0], [1.0]])
        >>> inside = np.array([[True], [True], [False], [False]])
        >>> likelihood_ratio(confidences, inside, np.array([3.0]))
        array([2.25])

    """
    confidences, target = numbers("confidences", confidences, 1), numbers("target", target)
    shapes = inside.shape, target.shape
    fit = shapes == (confidences.shape, confidences.shape[1:])
    require(fit, "inside {} and target {} must fit confidences".format(*shapes))
    require(prior >= 0, f"prior must be 0 or more, got {prior}")
    from scipy.stats import norm

    densities = []
    for side, mask in (("in", inside), ("out", ~inside)):
        mean, sd = _shrunken_normal(confidences, mask, prior, side)
        densities.append(norm.logpdf(target, mean, sd))
    return densities[0] - densities[1]


def auc(scores: Scores) -> float:
    r"""Area under the ROC curve of an attack.

    .. math:: \text{AUC} = P(s_\text{member} > s_\text{non-member})
                  + \tfrac12 P(s_\text{member} = s_\text{non-member})

    Args:
        scores: of members and non-members

    Returns:
        AUC in [0, 1], 0.5 where members cannot be told from non-members

    Raises:
        ParameterError: a side that is empty or holds NaN

    Examples:
        >>> auc(Scores(np.array([0.9, 0.7]), np.array([0.8, 0.7, 0.5, 0.1])))
        0.8125

    """
    return float(statistics.auc_of_resamples(*scores, *_once(scores))[0])


def eer(scores: Scores) -> float:
    """Equal error rate of an attack: where as many members are missed as non-members accused.

    The shares of both errors change in steps. Where none of the thresholds makes them equal, of
    the last before and the first after the crossing that with the lesser sum is taken, and the
    mean of its two shares (Maio et al. 2002, https://doi.org/10.1109/34.990140).

    Args:
        scores: of members and non-members

    Returns:
        EER in [0, 1], 0.5 where members cannot be told from non-members, 0 where all can

    Raises:
        ParameterError: a side that is empty or holds NaN

    Examples:
        >>> eer(Scores(np.array([0.8, 0.5]), np.array([0.2, 0.4, 0.5]))).__round__(6)
        0.166667

    """
    return float(_eers(*_curves(scores, *_once(scores)))[0])


def tpr_at_fpr(scores: Scores, max_fpr: float = 0.01) -> Hits:
    """Share of the members found where hardly any non-member is called one.

    Source: Carlini et al. 2022, https://arxiv.org/abs/2112.03570: an attack that is sure of a
    few clips leaks more than one that is a little better than chance on all. The threshold is the
    lowest score that calls no more than ``max_fpr`` of the non-members members; nothing is
    interpolated. With n non-members the share of false alarms goes in steps of 1 / n: below
    1 / ``max_fpr`` of them (100 at 1 %), the result is the share of members that score above
    *every* non-member, at no false alarm, and depends on a single clip. The ``fpr`` that is
    returned says so.

    Args:
        scores: of members and non-members
        max_fpr: largest share of false alarms, in [0, 1]

    Returns:
        share of members found, and of false alarms

    Raises:
        ParameterError: a side that is empty or holds NaN, or a share out of [0, 1]

    Examples:
        >>> scores = Scores(np.array([0.9, 0.7, 0.3, 0.2]), np.array([0.8, 0.5, 0.4, 0.1]))
        >>> tpr_at_fpr(scores)
        Hits(tpr=0.25, fpr=0.0)
        >>> tpr_at_fpr(scores, 0.3)
        Hits(tpr=0.5, fpr=0.25)

    """
    check_unit("max_fpr", max_fpr)
    tpr, fpr = _hits(*_curves(scores, *_once(scores)), max_fpr)
    return Hits(float(tpr[0]), float(fpr[0]))


def performance(
    scores: Scores, groups: tuple[Clusters, Clusters], *, generator: np.random.Generator,
    max_fpr: float = 0.01, n_resamples: int = 1000, level: float = 0.95,
) -> Performance:
    """AUC, equal error rate and hits at few false alarms, each with a bootstrap interval.

    Groups are drawn with replacement, each with its clips, by the rule of
    :func:`speechunlearn.audit.statistics.draw_clips`. The two sides are drawn each by itself,
    unless they have a group in common: then the groups of both are drawn together, so that a
    speaker (or a matched pair) comes with its members and its non-members. Resamples without a
    side are left out: of a single clip there is no interval. The attack is not fitted anew. The
    interval of the hits at few false alarms is to be distrusted: it depends on the few highest
    non-members.

    Args:
        scores: of members and non-members
        groups: group (e.g. speaker, or number of the pair) of each member and non-member
        max_fpr: see :func:`tpr_at_fpr`
        n_resamples: number of resamples, at least 100
        level: confidence level in (0, 1)
        generator: source of randomness

    Returns:
        figures with intervals

    Raises:
        ParameterError: as :func:`tpr_at_fpr`; groups that are not of these clips; a parameter
            out of range

    Examples:
        >>> scores = Scores(np.array([0.9, 0.7, 0.3, 0.2]), np.array([0.8, 0.5, 0.4, 0.1]))
        >>> reached = performance(scores, ("aabb", "cdef"), generator=np.random.default_rng(0))
        >>> reached.auc.value, reached.tpr.value, reached.fpr
        (0.5625, 0.25, 0.0)

    """
    check_unit("max_fpr", max_fpr)
    n_members, n_nonmembers = (side.shape[1] for side in _once(scores))
    of_members, of_others = list(groups[0]), list(groups[1])
    require(
        (len(of_members), len(of_others)) == (n_members, n_nonmembers),
        f"groups: {len(of_members)} and {len(of_others)}, but there are {n_members} members "
        f"and {n_nonmembers} non-members",
    )
    if set(of_members) & set(of_others):
        sides = np.repeat([0, 1], [n_members, n_nonmembers])
        together = of_members + of_others
        drawn = draw_clips(together, n_resamples, generator, sides=sides)
        members, nonmembers = drawn[:, :n_members], drawn[:, n_members:]
    else:
        members, nonmembers = (
            draw_clips(side, n_resamples, generator) for side in (of_members, of_others)
        )
    both = np.flatnonzero((members.sum(axis=1) > 0) & (nonmembers.sum(axis=1) > 0))
    of_rows = []
    for first in range(0, len(both), _ROWS):  # the curves of all are as long as clips are many
        rows = both[first : first + _ROWS]
        curves = _curves(scores, members[rows], nonmembers[rows])
        aucs = statistics.auc_of_resamples(*scores, members[rows], nonmembers[rows])
        of_rows.append([aucs, _eers(*curves), *_hits(*curves, max_fpr)])
    *shares, fpr = np.concatenate(of_rows, axis=1)
    few = min(filter(None, map(statistics.few_clips, (of_members, of_others))), default=None)
    areas, errors, hits = (statistics.interval(values, level, few) for values in shares)
    resampled = statistics.unit(of_members), statistics.unit(of_others)
    return Performance(areas, errors, hits, float(fpr[0]), n_members, n_nonmembers, resampled)


def to_retrained(value: float, retrained: Sequence[float]) -> ToRetrained:
    r"""Compare an attack's figure with those of models retrained from several seeds.

    .. math:: d = \frac{1}{k} \sum_i |v - r_i|, \qquad
        \text{spread} = \frac{2}{k (k - 1)} \sum_{i < j} |r_i - r_j|

    Neither 0.5 nor 0 is the target: forget set and unseen clips differ even for a model that saw
    neither. Whether a figure lies where one more retrained model's would, the report card says, see
    :func:`speechunlearn.audit.scoring.of_one_more`.

    Args:
        value: AUC, equal error rate or hits under the unlearned model
        retrained: the same under two or more retrained models

    Returns:
        distance and spread

    Raises:
        ParameterError: fewer than two retrained models, or a value that is not finite

    Examples:
        >>> to_retrained(0.75, [0.5, 0.625])
        ToRetrained(distance=0.1875, spread=0.125)

    """
    n = len(retrained)
    require(n > 1, f"retrained: {n} figure(s); a spread needs two or more")
    numbers("value", [value])
    numbers("retrained", retrained)
    between = [distance_to_retrained(a, b) for a, b in itertools.combinations(retrained, 2)]
    to_each = [distance_to_retrained(value, other) for other in retrained]
    return ToRetrained(float(np.mean(to_each)), float(np.mean(between)))


def _log_probabilities(logits: Logits, labels: Labels) -> tuple[LogProbabilities, LogProbabilities]:
    """log p and log(1 - p) of every class, exact near 0 and 1."""
    log_p = log_softmax(numbers("logits", logits, classes=2), axis=1)
    n_clips, n_classes = log_p.shape
    require(labels.shape == (n_clips,), f"labels: {labels.shape}, but there are {n_clips} clips")
    for label in labels[(labels < 0) | (labels >= n_classes)]:
        raise ParameterError(f"labels must be from 0 to {n_classes - 1}, got {label}")
    # No class but the likeliest has p above 1/2, where 1 - p would be rounded.
    clips, top = np.arange(n_clips), log_p.argmax(axis=1)
    rest = log_p.copy()
    rest[clips, top] = -np.inf
    p = np.exp(log_p)
    p[clips, top] = 0
    log_rest = np.log1p(-p)
    log_rest[clips, top] = logsumexp(rest, axis=1)
    return log_p, log_rest


def _check_features(sides: dict[str, Features]) -> dict[str, Float[np.ndarray, "clips features"]]:
    """Features as columns of numbers, as many for each side."""
    tables = {name: pd.DataFrame(values, copy=False) for name, values in sides.items()}
    tables = {name: numbers(name, table, 1) for name, table in tables.items()}
    widths = {name: table.shape[1] for name, table in tables.items()}
    require(len({*widths.values()}) == 1, f"all sides must have the same features, got {widths}")
    return tables


def _shrunken_normal(
    confidences: Num[np.ndarray, "shadows clips"], mask: Bool[np.ndarray, "shadows clips"],
    prior: float, side: str,
) -> tuple[OfClips, OfClips]:
    """Mean and standard deviation of each clip over the shadow models of one side."""
    count = mask.sum(axis=0)
    least, needed = int(count.argmin()), 2 if prior == 0 else 1
    n = count[least]
    require(n >= needed, f"inside: clip {least} has {n} shadow models {side}, needs {needed}")
    mean = np.where(mask, confidences, 0).sum(axis=0) / count
    squares = np.where(mask, confidences - mean, 0) ** 2
    freedom = count - 1
    require(freedom.sum(), f"inside: no clip has two shadow models {side}")
    common = squares.sum() / freedom.sum()
    variance = np.full(len(mean), common)
    if prior < math.inf:
        variance = (squares.sum(axis=0) + prior * common) / (freedom + prior)
    least = int(variance.argmin())
    alike = f"the shadow models {side} agree on clip {least}, its variance is 0"
    require(variance[least] > 0, f"confidences: {alike}")
    return mean, np.sqrt(variance)


def _once(scores: Scores) -> list[Float[np.ndarray, "1 _clips"]]:
    """The resample that holds each clip once; scores of no clips, or that are NaN, are refused."""
    for name, values in scores._asdict().items():
        require(len(values), f"scores.{name} is empty")
        gaps = int(np.isnan(values).sum())
        require(not gaps, f"scores.{name} holds {gaps} NaN of {len(values)} values")
    return [np.ones((1, len(side))) for side in scores]


def _curves(scores: Scores, members: Weights, nonmembers: Weights) -> tuple[Curve, Curve]:
    """ROC curve of every resample: shares of non-members and of members at or above a threshold.

    The first threshold is above all scores, the last is the lowest score.
    """
    thresholds = np.unique(np.concatenate(scores))[::-1]
    shares = []
    for values, weights in ((scores.nonmembers, nonmembers), (scores.members, members)):
        order = np.argsort(-values, kind="stable")
        running = np.pad(np.cumsum(weights[:, order], axis=1), ((0, 0), (1, 0)))
        above = np.searchsorted(-values[order], -thresholds, side="right")
        points = running[:, np.concatenate([[0], above])]
        shares.append(points / running[:, -1:])
    return shares[0], shares[1]


def _eers(fpr: Curve, tpr: Curve) -> Resamples:
    """Equal error rate of each curve, see `eer`."""
    missed = 1 - tpr
    rows = np.arange(len(fpr))
    # Counts are whole, so that shares which differ do so by more than rounding.
    after = np.argmax(fpr - missed > -1e-12, axis=1)
    sums = fpr + missed
    equal = np.abs(fpr[rows, after] - missed[rows, after]) < 1e-12
    least = np.minimum(sums[rows, after - 1], sums[rows, after])
    return np.where(equal, sums[rows, after], least) / 2


def _hits(fpr: Curve, tpr: Curve, max_fpr: float) -> tuple[Resamples, Resamples]:
    """Shares of members and of non-members at the last threshold that accuses few enough."""
    rows = np.arange(len(fpr))
    last = (fpr <= max_fpr + 1e-12).sum(axis=1) - 1
    return tpr[rows, last], fpr[rows, last]
