"""The report card of an unlearned model: every score of the audit beside retrained models' own.

An `Auditor` knows one request: several models retrained without its forget set, from different
seeds, and several that were trained on it. What a model scores is read against what one more
retrained model would score; nothing is read against 0 or 0.5.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import ndtri, softmax

from speechunlearn.audit import closeness, membership, scoring
from speechunlearn.audit.membership import Scores
from speechunlearn.audit.metrics import check_same_clips
from speechunlearn.audit.predictions import forget_logits
from speechunlearn.errors import require

T = TypeVar("T")

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
#: and where models are given that unlearned the same clips by the judged method, judged as well
WITH_SHADOWS = {"mia_u_lira": "U-LiRA, AUC"}
#: what a reader calls each of them
NAMES = SCORES | WITH_SHADOWS | DISTANCES

#: what is read from an attack's scores, as `membership.performance` names it
_MEASURES: dict[str, Callable[[Scores], float]] = {
    "auc": membership.auc, "eer": membership.eer,
    "tpr": lambda scores: membership.tpr_at_fpr(scores).tpr,
}


#: of each clip, and what one clip changes: see `speechunlearn.audit.scoring`
_Shares = tuple[Float[np.ndarray, " _clips"], float]
#: its scores, and the groups that their bootstrap draws
_Attack = tuple[Scores, tuple[list, list]]


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
    """A model, what it scores by itself, and what each clip adds to these scores."""

    table: pd.DataFrame
    values: scoring.Values
    scores: dict[str, float]
    shares: dict[str, _Shares]


class _References(NamedTuple):
    """Retrained models, and what each scores beside the others.

    Attributes:
        models: two or more
        values: score -> that of each model
        chance: judged score -> the variance that the clips alone give it

    """

    models: list[_Scored]
    values: dict[str, Float[np.ndarray, " retrained"]]
    chance: dict[str, float]


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
        unlearned_shadows: tables of models that unlearned the same forget set by the judged method,
            from other originals than the judged model's; with two or more, and three or more
            retrained models to judge beside, U-LiRA (`WITH_SHADOWS`) is on the card

    Raises:
        ParameterError: fewer than two retrained models, tables that are not of the same clips, a
            level that is none, or a score that is not known

    """

    def __init__(
        self, retrained: Sequence[pd.DataFrame], originals: Sequence[pd.DataFrame] = (), *,
        n_labels: int, seed: int = 0, level: float = 0.95, chosen: Sequence[str] = ON_A_CARD,
        unlearned_shadows: Sequence[pd.DataFrame] = (),
    ) -> None:
        n = len(retrained)
        require(n > 1, f"retrained: {n} model(s); their spread needs two or more")
        require(0 < level < 1, f"level: {level} is not between 0 and 1")
        unknown = [name for name in chosen if name not in ON_A_CARD]
        require(not unknown, f"chosen: no score is named {unknown}")
        self.n_labels, self.seed, self.level = n_labels, seed, level
        self.chosen = [*chosen, *(WITH_SHADOWS if unlearned_shadows else ())]
        self._first = _ordered(retrained[0])
        self.retrained = [self._checked(table) for table in retrained]
        self.originals = [self._checked(table) for table in originals]
        self.unlearned_shadows = [self._checked(table) for table in unlearned_shadows]
        forget, outside = self._sides(self._first)
        self.n_forget, self.n_outside = len(forget), len(outside)
        self._references = self._beside_each_other([self._scored(t) for t in self.retrained])

    @cached_property
    def matching(self) -> membership.Matching:
        """Pairs of a forget and an unseen clip that are alike in class and duration."""
        forget, outside = self._sides(self._first)
        return membership.match(forget, outside, exact=["label"], duration="duration")

    @cached_property
    def _held_apart(self) -> Bool[np.ndarray, " outside"]:
        _, outside = self._sides(self._first)
        # the clips of a single speaker are cut, too, as they are resampled
        groups = outside["cluster" if outside["cluster"].nunique() > 1 else "hash"]
        return membership.hold_apart(list(groups), np.random.default_rng(self.seed))

    def card(self, model: pd.DataFrame, *, without: int | None = None) -> Card:
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
            without: number of a retrained model that is left out, of three or more

        Raises:
            ParameterError: a table of other clips

        """
        references = self._references if without is None else self._rests[without]
        return self._judge(self._scored(self._checked(model)), references)

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
        scored = self._scored(self._checked(model))
        return [self._judge(scored, rest) for rest in self._rests]

    def cards_of_retrained(self) -> list[Card]:
        """Judge each retrained model by the others; of two there are no cards."""
        # of two there are no rests
        judged = zip(self._references.models, self._rests, strict=False)
        return [self._judge(one, rest) for one, rest in judged]

    @cached_property
    def _rests(self) -> list[_References]:
        """The retrained models but one, for each that is left out."""
        models = self._references.models if len(self.retrained) > 2 else []
        return [self._beside_each_other(rest) for _, rest in _each_left_out(models)]

    def _beside_each_other(self, models: list[_Scored]) -> _References:
        beside = [self._beside(one, rest) for one, rest in _each_left_out(models)]
        values = {name: np.array([scores[name] for scores, _ in beside]) for name in beside[0][0]}
        chance = {}
        for name, (_, step) in beside[0][1].items():
            by_clip = np.array([shares[name][0] for _, shares in beside])
            chance[name] = scoring.chance_of_clips(by_clip, step)
        for name in values.keys() & JUDGED_DISTANCES:
            # a distance of shares of clips: binomial, for no clip's part of it is known
            mean = values[name].mean()
            chance[name] = float(mean * (1 - mean) / self.n_forget)
        if "mia_regression" in chance:  # what is fitted anew on each model may turn round
            mean = float(values["mia_regression"].mean())
            by_fit = scoring.auc_variance(mean, self.n_forget, self.n_outside)
            chance["mia_regression"] = max(chance["mia_regression"], by_fit)
        return _References(models, values, chance)

    def _judge(self, model: _Scored, references: _References) -> Card:
        scores, _ = self._beside(model, references.models)
        judged = scores.keys() & references.chance
        require(judged, f"chosen: {list(self.chosen)}, none of which is judged here")
        quantile = float(ndtri(1 - (1 - self.level) / (2 * len(judged))))
        rows = []
        for name in (name for name in NAMES if name in scores.keys() & references.values):
            value, others = scores[name], references.values[name]
            low, high = 0.0, others.max()
            if name in judged:
                low, high = scoring.of_one_more(others, references.chance[name], quantile)
                low = 0.0 if name in DISTANCES else low
            passed = low <= value <= high
            rows.append((name, value, others.mean(), low, high, name in judged, passed))
        columns = ["score", "value", "retrained", "low", "high", "judged", "passed"]
        table = pd.DataFrame(rows, columns=columns)
        return Card(bool(table.loc[table["judged"], "passed"].all()), table)

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
        attacks = self._all_attacks(self._checked(model), self.retrained)
        of_retrained = [self._all_attacks(*both) for both in _each_left_out(self.retrained)]
        rows = []
        for name, (scores, groups) in attacks.items():
            reached = membership.performance(
                scores, groups, n_resamples=n_resamples, generator=generator
            )
            others = [attacks[name][0] for attacks in of_retrained if name in attacks]
            for figure, of in _MEASURES.items():
                interval, beside = getattr(reached, figure), [of(other) for other in others]
                row = {"attack": name, "measure": figure, **interval._asdict()}
                row |= dict.fromkeys(("retrained", "distance", "spread"), np.nan)
                if len(beside) > 1:
                    row["retrained"] = float(np.mean(beside))
                    row |= membership.to_retrained(interval.value, beside)._asdict()
                row |= {"members": reached.n_members, "nonmembers": reached.n_nonmembers}
                rows.append(row)
        return pd.DataFrame(rows)

    def _scored(self, model: pd.DataFrame) -> _Scored:
        values = scoring.scores(model, self.n_labels)
        scores: dict[str, float] = {}
        shares: dict[str, _Shares] = {}
        for split in ("forget", "retain", "unseen"):
            name = f"{split}_uar"
            if (split, "uar") in values and name in self.chosen:
                scores[name] = values[split, "uar"]
                shares[name] = scoring.uar_shares(model[model["split"] == split])
        for name, (attack, _) in self._attacks(model).items():
            scores[name], shares[name] = membership.auc(attack), scoring.auc_shares(attack)
        return _Scored(model, values, scores, shares)

    def _beside(
        self, model: _Scored, retrained: list[_Scored]
    ) -> tuple[dict[str, float], dict[str, _Shares]]:
        """Every chosen score of a model beside these retrained models, and the clips' shares."""
        tables = [other.table for other in retrained]
        scores, shares = dict(model.scores), dict(model.shares)
        for name, ratios in self._ratios(model.table, tables).items():
            scores[name] = membership.auc(ratios)
            shares[name] = scoring.auc_shares(ratios, len(tables))
        references = [other.values for other in retrained]
        scores["forgetting_distance"] = forgetting_distance(model.values, references)
        if ("retain", "uar") in model.values:
            scores["utility_distance"] = utility_distance(model.values, references)
            scores["average_gap"] = average_gap(model.values, references)
        for name, distance in _OF_TABLES.items():
            if name in self.chosen:
                scores[name] = float(np.mean([distance(model.table, table) for table in tables]))
        return {name: value for name, value in scores.items() if name in self.chosen}, shares

    def _attacks(self, model: pd.DataFrame) -> dict[str, _Attack]:
        """Every chosen attack's scores, and the groups that their bootstrap draws."""
        forget, outside = self._sides(model)
        retain = model[model["split"] == "retain"]
        members, nonmembers = list(forget["cluster"]), list(outside["cluster"])
        by_loss = membership.loss_membership_attack(forget["loss"], outside["loss"])
        attacks: dict[str, _Attack] = {}
        if "mia_loss" in self.chosen:
            attacks["mia_loss"] = by_loss, (members, nonmembers)
        n_folds = min(10, len(forget), len(outside))
        if "mia_regression" in self.chosen and n_folds > 1:
            regression = membership.regression_attack(
                forget["loss"], outside["loss"], seed=self.seed, n_folds=n_folds
            )
            attacks["mia_regression"] = regression, (members, nonmembers)
        if "mia_svc" in self.chosen and len(retain) and len(outside) > 1:
            learnt, asked = outside[self._held_apart], outside[~self._held_apart]
            parts = (_features(part) for part in (retain, learnt, forget, asked))
            attacks["mia_svc"] = membership.svc_attack(*parts), (members, list(asked["cluster"]))
        if "mia_matched" in self.chosen:
            pairs = list(range(self.matching.imbalance.n_pairs))
            attacks["mia_matched"] = self.matching.apply(by_loss), (pairs, pairs)
        return attacks

    def _all_attacks(self, model: pd.DataFrame, others: list[pd.DataFrame]) -> dict[str, _Attack]:
        members = list(self._sides(model)[0]["cluster"]) * len(others)
        ratios = self._ratios(model, others)
        return self._attacks(model) | {name: (r, (members, members)) for name, r in ratios.items()}

    def _ratios(self, model: pd.DataFrame, retrained: list[pd.DataFrame]) -> dict[str, Scores]:
        """Attacks by log-likelihood ratios of the answers to the forget set: 'in' to 'out'.

        Under the model, and under retrained ones. Each retrained model is the non-member once; the
        others are the 'out' shadows. The same clips lie on both sides, so that their difficulty
        tells nothing. The 'in' shadows are the originals, for likeness to these; or, for U-LiRA
        (Hayes et al. 2024, https://arxiv.org/abs/2403.01218), models that unlearned the clips by
        the judged method: what it finds is the trace of that method.
        """
        shadows = {"mia_likelihood_ratio": self.originals, "mia_u_lira": self.unlearned_shadows}
        ratios = {}
        for name, tables in shadows.items():
            if name not in self.chosen or len(retrained) < 3 or len(tables) < 2:
                continue
            judged, *known = [_logit_confidence(table) for table in (model, *tables, *retrained)]
            inside, outside = known[: len(tables)], known[len(tables) :]
            pairs = []
            for target, others in _each_left_out(outside):
                confidences = np.array(inside + others)
                held = np.zeros(confidences.shape, dtype=bool)
                held[: len(inside)] = True
                ratio = partial(membership.likelihood_ratio, confidences, held)
                pairs.append([ratio(judged), ratio(target)])
            ratios[name] = Scores(*np.concatenate(pairs, axis=1))
        return ratios

    def _sides(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the clips of the forget set, and those an attack sets beside them."""
        outside = "removed" if (table["split"] == "removed").any() else "unseen"
        forget, others = table["split"] == "forget", table["split"] == outside
        return table[forget], table[others]

    def _checked(self, table: pd.DataFrame) -> pd.DataFrame:
        check_same_clips(table, self._first)
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
    scores: scoring.Values, retrained: Sequence[scoring.Values], names: Sequence[tuple[str, str]]
) -> float:
    means = {name: np.mean([other[name] for other in retrained]) for name in names}
    return float(np.mean([abs(scores[name] - mean) for name, mean in means.items()]))


def _each_left_out(several: list[T]) -> Iterator[tuple[T, list[T]]]:
    """Yield each of several, with the others."""
    return ((one, several[:i] + several[i + 1 :]) for i, one in enumerate(several))


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["split", "hash"], ignore_index=True)


def _features(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(correct=table["label"] == table["prediction"])[list(FEATURES)].astype(float)


def _logit_confidence(table: pd.DataFrame) -> Float[np.ndarray, " clips"]:
    forget = table[table["split"] == "forget"]
    return membership.logit_confidence(forget_logits(table), forget["label"].to_numpy())
