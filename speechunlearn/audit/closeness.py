"""How close is an unlearned model to one that was retrained without the forget set?

The functions take scores, per-clip losses or output probabilities, not models; the curves of
:func:`anamnesis` come from :func:`speechunlearn.lab.relearning.relearn`. The
pages of the metrics in the book explain them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Num, Shaped
from scipy.special import rel_entr

from speechunlearn.audit.metrics import check_as_many, check_unit, distance_to_retrained, numbers
from speechunlearn.errors import require

# An underscore: two arguments need not agree in the axis, or are refused with a message.
Losses = Sequence[float] | Num[np.ndarray, " _clips"] | pd.Series
Probabilities = Num[np.ndarray, "_clips _classes"]
Curve = Sequence[float] | Num[np.ndarray, " _steps"]
Labels = Sequence[object] | Shaped[np.ndarray, " _clips"] | pd.Series


class Gum(NamedTuple):
    """A global unlearning metric and the three parts it is the mean of.

    Attributes:
        value: weighted harmonic mean of the parts
        utility: closeness of the task's score to the retrained model's
        efficacy: closeness of the membership score to the retrained model's
        time: time saved against retraining, on a logarithmic scale

    """

    value: float
    utility: float
    efficacy: float
    time: float


class Confusion(NamedTuple):
    """Clips of some classes that are taken for another of these classes.

    Attributes:
        n_confused: number of such clips
        share: the same as a share of the clips of these classes
        n_clips: number of clips of these classes

    """

    n_confused: int
    share: float
    n_clips: int


class Anamnesis(NamedTuple):
    """How fast a model relearns the forget set, relative to the retrained model.

    Attributes:
        value: the index, steps of the unlearned model by those of the retrained; NaN where
            neither of them came back within its curve
        low: the least that the index can be, given where the curves end
        high: the most that it can be; ``low`` where both curves reached the target
        unlearned: steps of the unlearned model, infinite where its curve ends too early
        retrained: the same of the retrained model

    """

    value: float
    low: float
    high: float
    unlearned: float
    retrained: float


def tow(scores: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    r"""Tug of war: closeness to the retrained model on three sets of clips at once.

    .. math:: \text{ToW} = \prod_{s \in \{\text{forget}, \text{retain}, \text{unseen}\}}
        \left(1 - |a_s - a_s^\text{retrained}|\right)

    Source: Zhao et al. 2024, https://arxiv.org/abs/2406.01257. It cannot see which factor is
    low, nor two models that have one score on different clips.

    Args:
        scores: accuracy (or UAR) in [0, 1] of the unlearned model on ``"forget"``, ``"retain"``
            and ``"unseen"``
        retrained: the same of the retrained model

    Returns:
        ToW in [0, 1], 1 where all three scores are the retrained model's

    Raises:
        ParameterError: a set that is missing or unknown, or a score out of [0, 1]

    Examples:
        >>> retrained = {"forget": 0.5, "retain": 1.0, "unseen": 0.5}
        >>> tow(retrained, retrained)
        1.0
        >>> tow({"forget": 1.0, "retain": 1.0, "unseen": 0.75}, retrained)
        0.375

    """
    return _product_of_closeness(scores, retrained, ("forget", "retain", "unseen"))


def tow_mia(scores: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    r"""Tug of war with the membership score in the place of the forget set's accuracy.

    .. math:: \text{ToW-MIA} = \prod_{s \in \{\text{mia}, \text{retain}, \text{unseen}\}}
        \left(1 - |m_s - m_s^\text{retrained}|\right)

    Source: Zhao et al. 2024, https://arxiv.org/abs/2406.01257. As :func:`tow`, it cannot see
    which factor is low; nor anything of the forget set that its attack does not.

    Args:
        scores: ``"mia"`` (e.g. the AUC of a membership attack on the forget set) and the accuracy
            on ``"retain"`` and ``"unseen"`` of the unlearned model, each in [0, 1]
        retrained: the same of the retrained model

    Returns:
        ToW-MIA in [0, 1], 1 where all three scores are the retrained model's

    Raises:
        ParameterError: a score that is missing or unknown, or out of [0, 1]

    Examples:
        >>> retrained = {"mia": 0.5, "retain": 1.0, "unseen": 0.5}
        >>> tow_mia({"mia": 0.25, "retain": 1.0, "unseen": 0.5}, retrained)
        0.75

    """
    return _product_of_closeness(scores, retrained, ("mia", "retain", "unseen"))


def gum(
    *,
    mia_original: float, mia_unlearned: float, mia_retrained: float,
    score_unlearned: float, score_retrained: float,
    seconds_unlearned: float, seconds_retrained: float,
    a: float = 1.0, b: float = 1.0, resolution: float | None = None,
) -> Gum:
    r"""Global unlearning metric as it was published.

    .. math::

        m_u' &= \min(m_u, m_o), \quad m_r' = \min\left(\tfrac{m_u' + m_o}{2}, m_r\right) \\
        E &= 1 - \left(\frac{m_u' - m_r'}{\max(m_o, m_u') - m_r'}\right)^2, \quad
        U = 1 - |s_u - s_r|, \quad
        T = 1 - \frac{\ln(t_u + 1)}{\ln(t_r + 1)} \\
        \text{GUM} &= \frac{(1 + a + b)\, U E T}{a E T + b U T + U E + 10^{-6}}

    with the membership score m, the task's score s and the seconds t of the original (o),
    unlearned (u) and retrained (r) model. Source: Koudounas et al. 2025,
    https://arxiv.org/abs/2505.15700. It is here to compare with what was published; what to
    report is :func:`gum_bounded`. Its authors advise another one since, CGUM (Savelli et al.
    2026), whose parts are bounded, too. What is wrong with it:

    - where the original's membership score comes near the retrained model's, the width of the
      parabola E goes to 0: the chance of a few clips moves E from 1 to 0. At equality
      a model that equals both gets 0 / 0.
    - where the original's lies below, E is 0 for every model.
    - T is negative for a method slower than retraining, and the mean then means nothing: it
      passes a pole, behind which it is positive and may exceed 1.

    Args:
        mia_original: membership score in [0, 1] of the model before unlearning, on the forget set
        mia_unlearned: the same of the unlearned model
        mia_retrained: the same of the retrained model
        score_unlearned: score of the task (the source takes F1) in [0, 1] of the unlearned model
        score_retrained: the same of the retrained model
        seconds_unlearned: time that unlearning took
        seconds_retrained: time that retraining took, more than 0
        a: weight of the utility, positive
        b: weight of the efficacy, positive; that of the time is 1
        resolution: see :func:`gum_bounded`; None is the published form

    Returns:
        GUM and its parts; 1 is best. E and GUM are NaN where the formula is 0 / 0

    Raises:
        ParameterError: a score out of [0, 1], a time that is negative (retraining: or 0),
            or a weight that is not positive

    Examples:
        >>> same = dict(score_unlearned=0.75, score_retrained=0.75)
        >>> time = dict(seconds_unlearned=0.0, seconds_retrained=100.0)
        >>> scores = gum(mia_original=0.9, mia_unlearned=0.5, mia_retrained=0.5, **same, **time)
        >>> round(scores.value, 6), scores.efficacy
        (1.0, 1.0)
        >>> gum(mia_original=0.5, mia_unlearned=0.5, mia_retrained=0.5, **same, **time).efficacy
        nan

    """
    shares = {
        "mia_original": mia_original, "mia_unlearned": mia_unlearned,
        "mia_retrained": mia_retrained, "score_unlearned": score_unlearned,
        "score_retrained": score_retrained,
    }
    for name, value in shares.items():
        check_unit(name, value)
    positive = {"seconds_retrained": seconds_retrained, "a": a, "b": b}
    for name, value in positive.items():
        require(0 < value < math.inf, f"{name} must be positive, got {value}")
    seconds = seconds_unlearned
    require(0 <= seconds < math.inf, f"seconds_unlearned must be 0 or more, got {seconds}")
    utility = 1 - distance_to_retrained(score_unlearned, score_retrained)
    time = 1 - math.log1p(seconds) / math.log1p(seconds_retrained)
    if resolution is not None:
        in_range = 0 < resolution <= 1
        require(in_range, f"resolution must be above 0 and at most 1, got {resolution}")
        time, width = max(0.0, time), max(abs(mia_original - mia_retrained), resolution)
        efficacy = max(0.0, 1 - ((mia_unlearned - mia_retrained) / width) ** 2)
        if min(utility, efficacy, time) == 0:
            return Gum(0.0, utility, efficacy, time)
        value = (1 + a + b) / (a / utility + b / efficacy + 1 / time)
        return Gum(value, utility, efficacy, time)
    unlearned = min(mia_unlearned, mia_original)
    retrained = min((unlearned + mia_original) / 2, mia_retrained)
    width = max(mia_original, unlearned) - retrained
    efficacy = math.nan if width == 0 else 1 - ((unlearned - retrained) / width) ** 2
    denominator = a * efficacy * time + b * utility * time + utility * efficacy + 1e-6
    value = (1 + a + b) * utility * efficacy * time / denominator
    return Gum(value, utility, efficacy, time)


def gum_bounded(*, resolution: float, **arguments: float) -> Gum:
    r"""Global unlearning metric that is defined, bounded and continuous for all scores.

    .. math::

        E &= \max\left(0,\; 1 - \left(\frac{m_u - m_r}{\max(|m_o - m_r|, \rho)}\right)^2\right),
        \quad U = 1 - |s_u - s_r|, \quad
        T = \max\left(0,\; 1 - \frac{\ln(t_u + 1)}{\ln(t_r + 1)}\right) \\
        \text{GUM} &= \frac{1 + a + b}{a / U + b / E + 1 / T},
        \quad 0 \text{ where } U, E \text{ or } T \text{ is } 0

    After :func:`gum`, with three changes. The resolution :math:`\rho` is the difference of two
    membership scores that means nothing: the spread between retrained models, or the standard
    deviation that chance gives so many clips
    (:func:`speechunlearn.audit.scoring.auc_variance`). No gap narrower than it is divided by,
    so that E varies no faster than that. The sign of a gap does not count: a model that forgot too
    much is as far off as one that forgot too little. T stops at 0. Where the original's membership
    score exceeds the retrained model's by the resolution or more, and retraining is slower, the
    parts are those of :func:`gum`, and the mean differs by the source's 1e-6 alone.

    Where the original is within the resolution, no model can be told apart by its membership
    score, and even the original has an efficacy above 0, 1 at equality: there was nothing to
    forget. It cannot see what its membership attack does not, and the retrained model itself
    gets 0, for it takes as long as retraining does.

    Args:
        resolution: difference of two membership scores that means nothing, above 0, at most 1
        arguments: scores, times and weights of :func:`gum`

    Returns:
        GUM and its parts, each in [0, 1], 1 is best

    Raises:
        ParameterError: as :func:`gum`, or a resolution that is not above 0 and at most 1

    Examples:
        >>> same = dict(score_unlearned=0.75, score_retrained=0.75, resolution=0.125)
        >>> time = dict(seconds_unlearned=0.0, seconds_retrained=100.0)
        >>> gum_bounded(mia_original=0.5, mia_unlearned=0.5, mia_retrained=0.5, **same, **time)
        Gum(value=1.0, utility=1.0, efficacy=1.0, time=1.0)
        >>> part = gum_bounded(
        ...     mia_original=1.0, mia_unlearned=0.25, mia_retrained=0.5, **same, **time
        ... )
        >>> part.efficacy, round(part.value, 6)
        (0.75, 0.9)

    """
    return gum(resolution=resolution, **arguments)


def zrf(probabilities: Probabilities, random_probabilities: Probabilities) -> float:
    r"""Zero retrain forgetting: closeness on the forget set to a network that learned nothing.

    .. math::

        \text{ZRF} = 1 - \frac{1}{n} \sum_{i=1}^{n} \text{JS}(p_i, q_i), \quad
        \text{JS}(p, q) = \tfrac{1}{2} \text{KL}(p \,\|\, \tfrac{p + q}{2})
            + \tfrac{1}{2} \text{KL}(q \,\|\, \tfrac{p + q}{2})

    with the logarithm to the base 2, so that JS is in [0, 1]. The mean is over clips; a division
    by the number of classes as well, as in the authors' code, brings every model near 1. That code
    also turns the arguments of KL round.
    Source: Chundawat et al. 2023, https://doi.org/10.1609/aaai.v37i6.25879. The target is not 1
    but the retrained model's ZRF, which needs a retrained model after all. It cannot see
    membership: a model that answers all clips at random has ZRF near 1 and is of no use.

    Args:
        probabilities: the unlearned model's softmax probabilities of each clip
        random_probabilities: those of a randomly initialised network of the same architecture

    Returns:
        ZRF in [0, 1], 1 where the model answers as the random network does

    Raises:
        ParameterError: arrays of unequal shape, without clips or classes, or rows that are no
            probabilities

    Examples:
        >>> random = np.array([[0.5, 0.5], [0.5, 0.5]])
        >>> zrf(random, random)
        1.0
        >>> zrf(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]))
        0.5
        >>> zrf(np.array([[1.0, 0.0], [0.5, 0.5]]), random).__round__(4)
        0.8444

    """
    p, q = _check_pair_of_probabilities(probabilities, random_probabilities, "random_probabilities")
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / (2 * math.log(2))
    return float(np.clip(1 - divergence.mean(), 0, 1))


def activation_distance(probabilities: Probabilities, retrained: Probabilities) -> float:
    r"""Mean distance between the output probabilities of two models on the same clips.

    .. math:: d = \frac{1}{n} \sum_{i=1}^{n} \lVert p_i - q_i \rVert_2

    Source: Chundawat et al. 2023, https://doi.org/10.1609/aaai.v37i6.25879, with the Euclidean
    norm, after Golatkar et al. 2021, https://arxiv.org/abs/2012.13431 (the code of their earlier
    work sums absolute differences). It cannot see what lies below the outputs; two retrained
    models differ by it too, and that is its floor.

    Args:
        probabilities: the unlearned model's softmax probabilities of each clip
        retrained: the retrained model's, of the same clips in the same order

    Returns:
        distance in [0, sqrt(2)], 0 where the models answer alike

    Raises:
        ParameterError: as :func:`zrf`

    Examples:
        >>> activation_distance(np.array([[0.9, 0.1], [1, 0]]), np.array([[0.6, 0.5], [1, 0]]))
        Traceback (most recent call last):
        speechunlearn.errors.ParameterError: retrained: row 0 sums to 1.1, not to 1
        >>> activation_distance(
        ...     np.array([[0.8, 0.0, 0.2]]), np.array([[0.5, 0.4, 0.1]])
        ... ).__round__(6)
        0.509902

    """
    p, q = _check_pair_of_probabilities(probabilities, retrained, "retrained")
    return float(np.sqrt(((p - q) ** 2).sum(axis=1)).mean())


def loss_ks(losses: Losses, retrained: Losses) -> float:
    r"""Kolmogorov-Smirnov statistic of two models' losses on the forget set.

    .. math:: D = \sup_x |F(x) - F_\text{retrained}(x)|

    with the empirical distribution functions F of the per-clip losses
    (:func:`scipy.stats.ks_2samp`). No p-value: the two samples are of the same clips, so that they
    are not independent. It cannot see how far apart the losses are, nor whose loss is whose.

    Args:
        losses: cross-entropy in nats of each clip of the forget set, unlearned model
        retrained: the same of the retrained model

    Returns:
        D in [0, 1], 0 where the losses are distributed alike

    Raises:
        ParameterError: no losses, or one that is not finite

    Examples:
        >>> loss_ks([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
        0.5

    """
    from scipy.stats import ks_2samp  # takes a second to import

    sides = numbers("losses", losses), numbers("retrained", retrained)
    return float(ks_2samp(*sides).statistic)


def loss_emd(losses: Losses, retrained: Losses) -> float:
    r"""Earth mover's distance between two models' losses on the forget set.

    .. math:: W_1 = \int |F(x) - F_\text{retrained}(x)|\, dx

    with the empirical distribution functions F of the per-clip losses
    (:func:`scipy.stats.wasserstein_distance`). It is large where a few clips are wrong with
    certainty. It cannot see whose loss is whose.

    Args:
        losses: cross-entropy in nats of each clip of the forget set, unlearned model
        retrained: the same of the retrained model

    Returns:
        distance in nats, at least 0, 0 where the losses are distributed alike

    Raises:
        ParameterError: no losses, or one that is not finite

    Examples:
        >>> loss_emd([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
        2.0

    """
    from scipy.stats import wasserstein_distance

    sides = numbers("losses", losses), numbers("retrained", retrained)
    return float(wasserstein_distance(*sides))


def interclass_confusion(truth: Labels, prediction: Labels, classes: Sequence[object]) -> Confusion:
    r"""Clips of the confused classes that are taken for one another.

    .. math:: c = \sum_{a \in S} \sum_{b \in S, b \ne a} C_{ab}, \qquad
        \text{share} = c \,/ \sum_{a \in S} \sum_{k} C_{ak}

    with the number :math:`C_{ab}` of clips of class a that are taken for class b and the
    confused classes S. Source: Goel et al. 2022, https://arxiv.org/abs/2201.06640, who swap
    labels between two classes in training, unlearn the clips whose labels they swapped, and
    count what of the confusion is left. The target is the retrained model's count. It cannot see
    errors into other classes, and says nothing where no labels were swapped.

    Args:
        truth: true class of every clip, not the swapped one
        prediction: predicted class of every clip
        classes: the two or more classes whose labels were swapped

    Returns:
        number confused, share and number of clips

    Raises:
        ParameterError: lengths that differ, fewer than two classes, one named twice, or no clip
            of these classes

    Examples:
        >>> interclass_confusion([0, 0, 1, 1, 2], [1, 2, 1, 0, 0], [0, 1])
        Confusion(n_confused=2, share=0.5, n_clips=4)

    """
    check_as_many(truth, prediction)
    chosen = list(classes)
    n_classes = len(set(chosen))
    require(1 < n_classes == len(chosen), f"classes must be distinct and at least two: {chosen}")
    true, predicted = (pd.Series(list(values), dtype=object) for values in (truth, prediction))
    inside = true.isin(chosen)
    n_clips = int(inside.sum())
    require(n_clips, f"truth holds no clip of the classes {chosen}")
    count = int((inside & predicted.isin(chosen) & (true != predicted)).sum())
    return Confusion(count, count / n_clips, n_clips)


def relearn_time(curve: Curve, original_score: float, *, alpha: float = 0.05) -> float:
    r"""Steps until a model has come back to near the original's score on the forget set.

    .. math:: r_\alpha = \min \{t : a_t \ge (1 - \alpha)\, a_\text{original}\}

    The first step counts, even where the score falls again. Sources: Chundawat et al. 2023,
    https://arxiv.org/abs/2201.05629, whose code has the margin as a share of the original's
    accuracy, too, and Tarun et al. 2024, https://arxiv.org/abs/2111.08947. That code trains on all
    training clips and scores unseen clips of the class that was forgotten; here both are the
    forget set. It cannot see how sure the model is, and depends on the learning rate.

    Args:
        curve: score in [0, 1] on the forget set after 0, 1, 2, … steps (or epochs) of relearning
        original_score: the original model's, above 0
        alpha: margin as a share of the original's score, in [0, 1)

    Returns:
        number of steps, an integer from 0 to ``len(curve) - 1``; infinity where the curve ends
        before the score is reached: the time is then censored, that is, at least ``len(curve)``

    Raises:
        ParameterError: no curve, a score out of [0, 1], an original score of 0 or a margin out of
            [0, 1)

    Examples:
        >>> relearn_time([0.25, 0.5, 0.75, 0.5], 1.0, alpha=0.25)
        2.0
        >>> relearn_time([0.25, 0.5], 1.0)
        inf

    """
    scores = numbers("curve", curve)
    for score in scores:
        check_unit("curve", score)
    check_unit("original_score", original_score)
    require(original_score, "original_score is 0: every model is there from the start")
    require(0 <= alpha < 1, f"alpha must be in [0, 1), got {alpha}")
    # Shares of clips differ by more than rounding.
    reached = scores >= (1 - alpha) * original_score - 1e-12
    return float(np.argmax(reached)) if reached.any() else math.inf


def anamnesis(
    unlearned: Curve, retrained: Curve, original_score: float, *, alpha: float = 0.05
) -> Anamnesis:
    r"""Anamnesis index: relearn time of the unlearned model by that of the retrained.

    .. math:: \text{AIN} = r_\alpha(\text{unlearned}) / r_\alpha(\text{retrained})

    with :func:`relearn_time`. Below 1 the unlearned model comes back faster: traces are left.
    Above 1 it comes back slower than a model that never saw the clips: it was pushed too far.
    Source: Chundawat et al. 2023, https://arxiv.org/abs/2201.05629. It cannot see traces that
    relearning does not use, and is coarse: with a few steps each, one step is much.

    A model that needs no step at all gives 0; where neither needs one, the index is 1; where the
    retrained model alone needs none, it is infinite, and the forget set shows nothing that could
    be relearned. A curve that ends too early gives an infinite number of steps; ``low`` and
    ``high`` then say between what the index lies.

    Args:
        unlearned: relearning curve of the unlearned model, see :func:`relearn_time`
        retrained: relearning curve of the retrained model, under the same settings
        original_score: the original model's score on the forget set, above 0
        alpha: margin as a share of the original's score, in [0, 1)

    Returns:
        index in [0, infinity], 1 is best, with its bounds and both relearn times

    Raises:
        ParameterError: as :func:`relearn_time`

    Examples:
        >>> anamnesis([0.5, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0], 1.0)
        Anamnesis(value=0.25, low=0.25, high=0.25, unlearned=1.0, retrained=4.0)
        >>> index = anamnesis([0.0, 0.25, 0.5], [0.5, 1.0], 1.0)
        >>> index.value, index.low
        (inf, 3.0)

    """
    steps = relearn_time(unlearned, original_score, alpha=alpha)
    steps_retrained = relearn_time(retrained, original_score, alpha=alpha)
    # A curve of n scores that ends too early says: n steps or more.
    least = float(len(unlearned)) if math.isinf(steps) else steps
    least_retrained = float(len(retrained)) if math.isinf(steps_retrained) else steps_retrained
    return Anamnesis(
        _ratio(steps, steps_retrained), _ratio(least, steps_retrained),
        _ratio(steps, least_retrained), steps, steps_retrained,
    )


def _product_of_closeness(
    scores: Mapping[str, float], retrained: Mapping[str, float], names: Sequence[str]
) -> float:
    """Product over the names of 1 - distance."""
    for argument, values in (("scores", scores), ("retrained", retrained)):
        fits = set(values) == set(names)
        require(fits, f"{argument} must have {list(names)}, got {list(values)}")
        for name in names:
            check_unit(f"{argument}[{name!r}]", values[name])
    return math.prod(1 - distance_to_retrained(scores[name], retrained[name]) for name in names)


def _check_pair_of_probabilities(
    probabilities: Probabilities, others: Probabilities, name: str
) -> list[Float[np.ndarray, "_clips _classes"]]:
    """The rows in double precision, each of which is a distribution."""
    exact = []
    for argument, values in (("probabilities", probabilities), (name, others)):
        rows = numbers(argument, values, classes=2)
        require(rows.min() >= 0, f"{argument} must not be negative, got {rows.min()}")
        sums = rows.sum(axis=1)
        off = np.abs(sums - 1)
        row = int(off.argmax())
        # what single precision leaves of the sum
        require(off[row] <= 1e-4, f"{argument}: row {row} sums to {sums[row]:.6g}, not to 1")
        exact.append(rows / sums[:, None])  # so that what it left over is no distance
    shapes = [rows.shape for rows in exact]
    require(
        shapes[0] == shapes[1], f"probabilities and {name} must be of the same clips and classes, "
        f"got the shapes {shapes[0]} and {shapes[1]}",
    )
    return exact


def _ratio(steps: float, others: float) -> float:
    """Quotient of two times, where none at all is as fast as none at all."""
    if steps == others:
        return math.nan if math.isinf(steps) else 1.0
    return math.inf if others == 0 else steps / others
