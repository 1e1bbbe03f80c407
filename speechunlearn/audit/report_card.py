"""The report card of an unlearned model: every score of the audit beside retrained models' own.

An `Auditor` knows one request: several models retrained without its forget set, from different
seeds, and several that were trained on it. What a model scores is read against what one more
retrained model would score; nothing is read against 0 or 0.5.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import ndtri, softmax

from speechunlearn.audit import closeness, membership, scoring
from speechunlearn.audit.membership import Scores
from speechunlearn.audit.predictions import forget_logits
from speechunlearn.errors import ParameterError

#: what an attack on more than the loss looks at
FEATURES = ("confidence", "entropy", "modified_entropy", "correct")

#: score -> what a reader calls it; those with an interval that one more retrained model's lies in
SCORES = {
    "forget_uar": "UAR, forget set",
    "retain_uar": "UAR, retain set",
    "unseen_uar": "UAR, unseen clips",
    "mia_loss": "attack on the loss, AUC",
    "mia_regression": "logistic-regression attack, AUC",
    "mia_svc": "SVC attack, AUC",
    "mia_matched": "attack on matched clips, AUC",
    "mia_likelihood_ratio": "likeness to the originals, AUC",
}
#: and those with a limit
DISTANCES = {
    "average_gap": "average gap",
    "forgetting_distance": "forgetting distance",
    "utility_distance": "utility distance",
    "loss_ks": "losses, Kolmogorov-Smirnov",
    "loss_emd": "losses, earth mover's",
    "activation_distance": "activation distance",
}
#: the distances that a model has to keep to be taken for a retrained one
JUDGED_DISTANCES = ("loss_ks",)
#: all that a card holds
ON_A_CARD = (*SCORES, *DISTANCES)


#: what is read from an attack's scores, as `membership.performance` names it
_MEASURES: dict[str, Callable[[Scores], float]] = {
    "auc": membership.auc, "eer": membership.eer,
    "tpr": lambda scores: membership.tpr_at_fpr(scores).tpr,
}


class Card(NamedTuple):
    """What became of one model.

    Attributes:
        passed: every judged score is where one more retrained model's would be
        scores: a row a score: ``score``, ``value``, ``retrained`` (mean over these), ``low`` and
            ``high`` (where one more retrained model's would be), ``judged``, ``passed``

    """

    passed: bool
    scores: pd.DataFrame


class _Scored(NamedTuple):
    """A model, and what it scores by itself."""

    table: pd.DataFrame
    values: scoring.Values
    scores: dict[str, float]


class Auditor:
    """Judges models of one request.

    Args:
        retrained: per-clip tables (see `speechunlearn.audit.predictions.table`) of models
            retrained without the forget set, from different seeds; two or more. With four or more,
            the attack by likeness to the originals is made, too. Where there are no clips of the
            retain set, what needs these is left out
        originals: the same of models that were trained on all clips, from seeds other than the
            judged model's; two or more for the attack by likeness to the originals
        n_labels: number of classes
        seed: of the folds and halves of the attacks
        level: chance that one more retrained model passes, in (0, 1)
        chosen: which of `SCORES` and `DISTANCES` are on the card; tables need hold no more than
            what these are made from

    Raises:
        ParameterError: fewer than two retrained models, tables that are not of the same clips, a
            level that is none, or a score that is not known

    """

    def __init__(
        self,
        retrained: Sequence[pd.DataFrame],
        originals: Sequence[pd.DataFrame] = (),
        *,
        n_labels: int,
        seed: int = 0,
        level: float = 0.95,
        chosen: Sequence[str] = ON_A_CARD,
    ) -> None:
        if len(retrained) < 2:
            raise ParameterError(
                f"retrained: {len(retrained)} model(s); their spread needs two or more"
            )
        if not 0 < level < 1:
            raise ParameterError(f"level: {level} is not between 0 and 1")
        unknown = [name for name in chosen if name not in ON_A_CARD]
        if unknown:
            raise ParameterError(f"chosen: no score is named {unknown}")
        self.n_labels, self.seed, self.level, self.chosen = n_labels, seed, level, chosen
        self._first = _ordered(retrained[0])
        self.retrained = [self._checked(table) for table in retrained]
        self.originals = [self._checked(table) for table in originals]
        forget, outside = self._sides(self._first)
        self.n_forget, self.n_outside = len(forget), len(outside)
        self._known = [self._scored(table) for table in self.retrained]
        self._of_retrained = self._each_by_the_others(self._known)

    @cached_property
    def matching(self) -> membership.Matching:
        """Pairs of a forget and an unseen clip that are alike in class and duration."""
        forget, outside = self._sides(self._first)
        return membership.match(forget, outside, exact=["label"], duration="duration")

    @cached_property
    def _held_apart(self) -> Bool[np.ndarray, " outside"]:
        _, outside = self._sides(self._first)
        return membership.hold_apart(list(outside["cluster"]), np.random.default_rng(self.seed))

    def card(self, model: pd.DataFrame) -> Card:
        """Judge a model.

        A score passes where one more retrained model's would lie, see
        `speechunlearn.audit.scoring.of_one_more`, at a level shared between all that is judged
        (Bonferroni). Distances are to the mean scores of the retrained models for the average gap
        and its halves, see `average_gap`, and else the mean over the retrained models; each of
        these has its own to the others. That of the loss distributions passes below the upper end
        of the same interval; the rest is not judged, and shown beside the largest of a retrained
        model.

        Args:
            model: per-clip table of the same clips

        Raises:
            ParameterError: a table of other clips

        """
        own = self._scored(self._checked(model))
        return self._judge(self._beside(own, self._known), self._of_retrained)

    def leave_one_out(self, model: pd.DataFrame) -> list[Card]:
        """Judge a model by all retrained models but one, each left out in turn.

        They ask what `cards_of_retrained` asks of the model left out, the same scores beside as
        many references: only such cards can be counted side by side.

        Args:
            model: per-clip table of the same clips

        Returns:
            a card for each retrained model left out; none where there are but two of them

        Raises:
            ParameterError: a table of other clips

        """
        own = self._scored(self._checked(model))
        return [self._judge(self._beside(own, rest), of_rest) for rest, of_rest in self._rests]

    def cards_of_retrained(self) -> list[Card]:
        """Judge each retrained model by the others; of two there are no cards."""
        return [
            self._judge(self._beside(own, rest), of_rest)
            for own, (rest, of_rest) in zip(self._known, self._rests, strict=False)
        ]

    @cached_property
    def _rests(self) -> list[tuple[list[_Scored], dict[str, Float[np.ndarray, " retrained"]]]]:
        """The retrained models but one, and their scores, for each that is left out."""
        if len(self._known) < 3:
            return []
        rests = [self._known[:i] + self._known[i + 1 :] for i in range(len(self._known))]
        return [(rest, self._each_by_the_others(rest)) for rest in rests]

    def _each_by_the_others(
        self, models: Sequence[_Scored]
    ) -> dict[str, Float[np.ndarray, " retrained"]]:
        """Return every score of each of some retrained models beside the rest of these."""
        found = [self._beside(own, [*models[:i], *models[i + 1 :]]) for i, own in enumerate(models)]
        return {name: np.array([scores[name] for scores in found]) for name in found[0]}

    def _judge(
        self, own: dict[str, float], others: dict[str, Float[np.ndarray, " retrained"]]
    ) -> Card:
        names = [name for name in SCORES if name in own and name in others]
        n_judged = len(names) + sum(name in own for name in JUDGED_DISTANCES)
        if not n_judged:
            raise ParameterError(f"chosen: {list(self.chosen)}, none of which is judged here")
        quantile = float(ndtri(1 - (1 - self.level) / (2 * n_judged)))
        rows = []
        for name in names:
            low, high = scoring.of_one_more(others[name], *self._counts(name), quantile)
            value = own[name]
            rows.append((name, value, others[name].mean(), low, high, True, low <= value <= high))
        for name in (name for name in DISTANCES if name in own):
            value, limit, judged = own[name], others[name].max(), name in JUDGED_DISTANCES
            if judged:  # a distance of shares of clips, which chance moves as it does a UAR
                _, limit = scoring.of_one_more(others[name], self.n_forget, None, quantile)
            rows.append((name, value, others[name].mean(), 0.0, limit, judged, value <= limit))
        columns = ["score", "value", "retrained", "low", "high", "judged", "passed"]
        table = pd.DataFrame(rows, columns=columns)
        return Card(bool(table.loc[table["judged"], "passed"].all()), table)

    def _counts(self, name: str) -> tuple[int, int | None]:
        """Return how many members and non-members, or clips and None, a score is of."""
        if name.endswith("_uar"):
            return int((self._first["split"] == name.removesuffix("_uar")).sum()), None
        if name == "mia_matched":
            return (self.matching.imbalance.n_pairs,) * 2
        others = {
            "mia_likelihood_ratio": lambda: self.n_forget,
            "mia_svc": lambda: int((~self._held_apart).sum()),
        }
        return self.n_forget, others.get(name, lambda: self.n_outside)()

    def attacks(
        self, model: pd.DataFrame, *, n_resamples: int = 1000, generator: np.random.Generator
    ) -> pd.DataFrame:
        """Return what every attack reaches, beside what it reaches on the retrained models.

        Args:
            model: per-clip table of the same clips
            n_resamples: of the bootstrap, which draws speakers (or what the task keeps apart)
            generator: its randomness

        Returns:
            a row an attack and figure (``auc``, ``eer``, ``tpr`` at 1 % false alarms): ``value``,
            ``low``, ``high``, ``retrained`` (mean over these), ``distance`` (mean over these),
            ``spread`` (mean distance between two of these), ``members``, ``nonmembers``

        """
        made = self._attacks(self._checked(model), self.retrained)
        others = [
            self._attacks(table, self.retrained[:i] + self.retrained[i + 1 :])
            for i, table in enumerate(self.retrained)
        ]
        rows = []
        for name, (scores, groups) in made.items():
            found = membership.performance(
                scores, groups, n_resamples=n_resamples, generator=generator
            )
            theirs = [other[name][0] for other in others if name in other]
            for figure, of in _MEASURES.items():
                interval, beside = getattr(found, figure), [of(other) for other in theirs]
                distance, spread = (
                    membership.to_retrained(interval.value, beside) if len(beside) > 1
                    else (np.nan, np.nan)
                )
                rows.append(
                    {
                        "attack": name, "measure": figure, **interval._asdict(),
                        "retrained": float(np.mean(beside)) if beside else np.nan,
                        "distance": distance, "spread": spread,
                        "members": found.n_members, "nonmembers": found.n_nonmembers,
                    }
                )
        return pd.DataFrame(rows)

    def _scored(self, model: pd.DataFrame) -> _Scored:
        values = scoring.scores(model, self.n_labels)
        scores = {
            f"{split}_uar": values[split, "uar"]
            for split in ("forget", "retain", "unseen")
            if (split, "uar") in values and f"{split}_uar" in self.chosen
        }
        for name, (found, _) in self._attacks(model).items():
            scores[name] = membership.auc(found)
        return _Scored(model, values, scores)

    def _beside(self, model: _Scored, retrained: Sequence[_Scored]) -> dict[str, float]:
        """Every chosen score of a model beside these retrained models."""
        tables = [other.table for other in retrained]
        found = dict(model.scores)
        if self._likeness_can_be_told(tables):
            found["mia_likelihood_ratio"] = membership.auc(self._likeness(model.table, tables))
        references = [other.values for other in retrained]
        found["forgetting_distance"] = forgetting_distance(model.values, references)
        if ("retain", "uar") in model.values:
            found["utility_distance"] = utility_distance(model.values, references)
            found["average_gap"] = average_gap(model.values, references)
        for name, distance in _OF_TABLES.items():
            if name in self.chosen:
                found[name] = float(np.mean([distance(model.table, table) for table in tables]))
        return {name: value for name, value in found.items() if name in self.chosen}

    def _attacks(
        self, model: pd.DataFrame, retrained: Sequence[pd.DataFrame] = ()
    ) -> dict[str, tuple[Scores, tuple[list, list]]]:
        """Every chosen attack's scores, and the groups that their bootstrap draws."""
        forget, outside = self._sides(model)
        retain = model[model["split"] == "retain"]
        members, nonmembers = list(forget["cluster"]), list(outside["cluster"])
        by_loss = membership.loss_membership_attack(forget["loss"], outside["loss"])
        found: dict[str, tuple[Scores, tuple[list, list]]] = {}
        if "mia_loss" in self.chosen:
            found["mia_loss"] = by_loss, (members, nonmembers)
        if "mia_regression" in self.chosen:
            regression = membership.regression_attack(
                forget["loss"], outside["loss"], seed=self.seed,
                n_folds=min(10, len(forget), len(outside)),
            )
            found["mia_regression"] = regression, (members, nonmembers)
        if "mia_svc" in self.chosen and len(retain):
            learnt, asked = outside[self._held_apart], outside[~self._held_apart]
            parts = (_features(part) for part in (retain, learnt, forget, asked))
            found["mia_svc"] = membership.svc_attack(*parts), (members, list(asked["cluster"]))
        if "mia_matched" in self.chosen:
            pairs = list(range(self.matching.imbalance.n_pairs))
            found["mia_matched"] = self.matching.apply(by_loss), (pairs, pairs)
        if self._likeness_can_be_told(retrained):
            ratios = self._likeness(model, retrained)
            found["mia_likelihood_ratio"] = ratios, (members * len(retrained),) * 2
        return found

    def _likeness_can_be_told(self, retrained: Sequence[pd.DataFrame]) -> bool:
        wanted = "mia_likelihood_ratio" in self.chosen
        return wanted and len(retrained) >= 3 and len(self.originals) >= 2

    def _likeness(self, model: pd.DataFrame, retrained: Sequence[pd.DataFrame]) -> Scores:
        """How like the originals' the answers to the forget set are: log-likelihood ratios.

        Under the model, and under retrained ones. It is not U-LiRA, whose 'in' shadows unlearned
        the clips by the judged method: these are models that were trained on them and kept them.
        Each retrained model is the non-member once; the others and the originals are the shadows.
        The same clips lie on both sides, so that their difficulty tells nothing.
        """
        inside = [_logit_confidence(table) for table in self.originals]
        outside = [_logit_confidence(table) for table in retrained]
        own = _logit_confidence(model)
        members, nonmembers = [], []
        for i, target in enumerate(outside):
            confidences = np.array(inside + outside[:i] + outside[i + 1 :])
            held = np.zeros(confidences.shape, dtype=bool)
            held[: len(inside)] = True
            members.append(membership.likelihood_ratio(confidences, held, own))
            nonmembers.append(membership.likelihood_ratio(confidences, held, target))
        return Scores(np.concatenate(members), np.concatenate(nonmembers))

    def _sides(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the clips of the forget set, and those an attack sets beside them."""
        outside = "removed" if (table["split"] == "removed").any() else "unseen"
        forget, others = table["split"] == "forget", table["split"] == outside
        return table[forget], table[others]

    def _checked(self, table: pd.DataFrame) -> pd.DataFrame:
        scoring.check_same_clips(table, self._first)
        return _ordered(table)


def _forget_losses(tables: Sequence[pd.DataFrame]) -> list[pd.Series]:
    return [table.loc[table["split"] == "forget", "loss"] for table in tables]


def _activation_distance(*tables: pd.DataFrame) -> float:
    p, q = (softmax(forget_logits(table), axis=1) for table in tables)
    return closeness.activation_distance(p, q)


#: the distances of two tables
_OF_TABLES = {
    "loss_ks": lambda *tables: closeness.loss_ks(*_forget_losses(tables)),
    "loss_emd": lambda *tables: closeness.loss_emd(*_forget_losses(tables)),
    "activation_distance": _activation_distance,
}

#: what the halves of the average gap are made of
FORGETTING = (("forget", "uar"), ("forget", "mia_auc"))
UTILITY = (("retain", "uar"), ("unseen", "uar"))


def average_gap(scores: scoring.Values, retrained: Sequence[scoring.Values]) -> float:
    r"""Mean distance to the mean retrained model in the four scores the field reports.

    .. math:: \text{gap} = \tfrac14 \left( \sum_{s} |u_s - \bar{u}_s| + |a - \bar{a}| \right)

    with the UAR u on s = forget set, retain set and unseen clips, the AUC a of the loss-based
    membership attack, and the means of these over the retrained models. Source: Fan et al. 2024,
    https://arxiv.org/abs/2310.12508, with accuracy and another attack. It is the mean of
    `forgetting_distance` and `utility_distance`, and cannot see which of them is far off, nor
    clips whose errors cancel.

    Args:
        scores: value by split and metric, see `speechunlearn.audit.scoring.scores`
        retrained: the same of each retrained model, one or more

    Returns:
        gap in [0, 1], 0 is best

    Examples:
        >>> one = {("forget", "uar"): 1.0, ("retain", "uar"): 1.0, ("unseen", "uar"): 0.75,
        ...        ("forget", "mia_auc"): 0.75}
        >>> average_gap(one, [one | {("forget", "uar"): 0.5, ("forget", "mia_auc"): 0.5}])
        0.1875

    """
    return (forgetting_distance(scores, retrained) + utility_distance(scores, retrained)) / 2


def forgetting_distance(scores: scoring.Values, retrained: Sequence[scoring.Values]) -> float:
    """Half of `average_gap`: mean distance in the UAR and the membership AUC of the forget set.

    Args:
        scores: see `average_gap`
        retrained: see `average_gap`

    Returns:
        distance in [0, 1]; a model that forgot nothing has a large one

    """
    return _distance_to_mean(scores, retrained, FORGETTING)


def utility_distance(scores: scoring.Values, retrained: Sequence[scoring.Values]) -> float:
    """Half of `average_gap`: mean distance in the UAR on the retain set and on unseen clips.

    Args:
        scores: see `average_gap`
        retrained: see `average_gap`

    Returns:
        distance in [0, 1]; a model to which nothing was done has one near 0

    """
    return _distance_to_mean(scores, retrained, UTILITY)


def _distance_to_mean(
    scores: scoring.Values,
    retrained: Sequence[scoring.Values],
    names: Sequence[tuple[str, str]],
) -> float:
    means = {name: np.mean([other[name] for other in retrained]) for name in names}
    return float(np.mean([abs(scores[name] - mean) for name, mean in means.items()]))


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["split", "hash"], ignore_index=True)


def _features(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(correct=table["label"] == table["prediction"])[list(FEATURES)].astype(float)


def _logit_confidence(table: pd.DataFrame) -> Float[np.ndarray, " clips"]:
    forget = table[table["split"] == "forget"]
    return membership.logit_confidence(forget_logits(table), forget["label"].to_numpy())
