"""The report card: who passes for a retrained model, and by which score."""

import numpy as np
import pandas as pd
import pytest
from answers import N_LABELS, SIZES, answers
from scipy.special import softmax
from scipy.stats import norm

from speechunlearn.audit import closeness, membership, scoring
from speechunlearn.audit.report_card import (
    DISTANCES,
    SCORES,
    Auditor,
    average_gap,
    forgetting_distance,
    utility_distance,
)
from speechunlearn.errors import ParameterError


@pytest.fixture(scope="module")
def auditor():
    retrained = [answers(seed) for seed in range(4)]
    originals = [answers(seed, forget=3) for seed in (11, 12, 13)]
    return Auditor(retrained, originals, n_labels=N_LABELS)


def values(card):
    return card.scores.set_index("score")


def test_an_original_fails_and_a_retrained_model_passes(auditor):
    assert not auditor.card(answers(20, forget=3)).passed
    passed = [auditor.card(answers(seed)).passed for seed in range(20, 60)]
    assert np.mean(passed) >= 0.9
    assert sum(card.passed for card in auditor.cards_of_retrained()) >= 3


def test_a_model_that_was_pushed_too_far_fails(auditor):
    card = auditor.card(answers(20, forget=-3))
    assert not card.passed
    failed = set(card.scores.loc[~card.scores["passed"], "score"])
    assert {"forget_uar", "mia_loss", "mia_matched", "loss_ks"} <= failed


def test_every_score_is_there_and_is_of_its_function(auditor):
    model = answers(20, forget=1)
    found = values(auditor.card(model))
    assert list(found.index) == [*SCORES, *DISTANCES]
    own = scoring.scores(model, N_LABELS)
    assert found.loc["unseen_uar", "value"] == own["unseen", "uar"]
    assert found.loc["mia_loss", "value"] == own["forget", "mia_auc"]
    forget = model[model["split"] == "forget"]
    ks = [
        closeness.loss_ks(forget["loss"], other.loc[other["split"] == "forget", "loss"])
        for other in auditor.retrained
    ]
    assert found.loc["loss_ks", "value"] == pytest.approx(np.mean(ks), abs=1e-12)


def test_the_limit_of_the_judged_distance_is_that_of_one_more_retrained(auditor):
    # by hand: mean, and chance's variance of a share of 60 clips
    found = values(auditor.card(answers(20))).loc["loss_ks"]
    ks = []
    for i in range(len(auditor.retrained)):
        losses = [t.loc[t["split"] == "forget", "loss"] for t in auditor.retrained]
        others = [closeness.loss_ks(losses[i], b) for j, b in enumerate(losses) if j != i]
        ks.append(np.mean(others))
    mean = np.mean(ks)
    variance = max(np.var(ks, ddof=1), mean * (1 - mean) / 60)
    n_judged = len(SCORES) + 1
    reach = norm.ppf(1 - 0.05 / (2 * n_judged)) * np.sqrt(1.25 * variance)
    assert found["high"] == pytest.approx(mean + reach, abs=1e-12)


def test_the_limit_of_a_distance_is_the_largest_of_a_retrained_model(auditor):
    losses = [t.loc[t["split"] == "forget", "loss"] for t in auditor.retrained]
    largest = max(
        np.mean([closeness.loss_emd(a, b) for j, b in enumerate(losses) if j != i])
        for i, a in enumerate(losses)
    )
    found = values(auditor.card(answers(20)))
    assert found.loc["loss_emd", "high"] == pytest.approx(largest, abs=1e-12)
    assert found.loc["loss_emd", "low"] == 0
    own = [scoring.scores(table, N_LABELS) for table in auditor.retrained]
    gaps = [average_gap(one, own[:i] + own[i + 1 :]) for i, one in enumerate(own)]
    assert found.loc["average_gap", "high"] == pytest.approx(max(gaps), abs=1e-12)


def test_cards_that_leave_one_out_are_those_of_an_auditor_without_it(auditor):
    """All models by the same card, the left-out retrained one among them."""
    model = answers(20, forget=1)
    for i, (card, left_out) in enumerate(
        zip(auditor.leave_one_out(model), auditor.cards_of_retrained(), strict=True)
    ):
        rest = auditor.retrained[:i] + auditor.retrained[i + 1 :]
        other = Auditor(rest, auditor.originals, n_labels=N_LABELS)
        pd.testing.assert_frame_equal(card.scores, other.card(model).scores)
        pd.testing.assert_frame_equal(left_out.scores, other.card(auditor.retrained[i]).scores)
        assert list(card.scores["score"]) == list(left_out.scores["score"])
        for one in (card, left_out):
            own = one.scores.set_index("score")
            assert own["judged"].sum() == 8
            # both are judged by the same intervals
            np.testing.assert_array_equal(own["high"], left_out.scores["high"])
            np.testing.assert_array_equal(own["retrained"], left_out.scores["retrained"])
    two = Auditor(auditor.retrained[:2], n_labels=N_LABELS)
    assert two.leave_one_out(model) == [] == two.cards_of_retrained()


def test_likeness_to_the_originals_sees_what_a_threshold_cannot(auditor):
    # the easy half remembered, the hard half pushed away: as many low losses as before
    model, forgotten = answers(20, forget=1.2), answers(20, forget=-1.2)
    half = (np.arange(len(model)) % 2 == 0) & (model["split"] == "forget").to_numpy()
    mixed = model.copy()
    mixed.loc[half] = forgotten.loc[half]
    found = values(auditor.card(mixed))
    original = values(auditor.card(answers(20, forget=3)))
    assert found.loc["mia_loss", "passed"]
    assert original.loc["mia_likelihood_ratio", "value"] > original.loc["mia_loss", "value"]
    assert found.loc["activation_distance", "value"] > found.loc["activation_distance", "retrained"]


def test_likeness_to_the_originals_is_at_chance_on_a_retrained_model(auditor):
    found = [
        values(auditor.card(answers(seed))).loc["mia_likelihood_ratio", "value"]
        for seed in range(20, 40)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_too_few_models_leave_likeness_to_the_originals_out():
    auditor = Auditor([answers(0), answers(1)], n_labels=N_LABELS)
    assert "mia_likelihood_ratio" not in set(auditor.card(answers(2)).scores["score"])


def pushed_and_pulled(seed):
    """A model whose method leaves its mark: the easy half remembered, the hard half pushed away."""
    model, forgotten = answers(seed, forget=1.2), answers(seed, forget=-1.2)
    half = (np.arange(len(model)) % 2 == 0) & (model["split"] == "forget").to_numpy()
    model.loc[half] = forgotten.loc[half]
    return model


def test_models_unlearned_by_the_same_method_show_what_it_leaves_behind(auditor):
    shadows = [pushed_and_pulled(seed) for seed in (41, 42, 43, 44)]
    common = {"n_labels": N_LABELS, "chosen": ("mia_loss", "mia_likelihood_ratio")}
    given = (auditor.retrained, auditor.originals)
    knowing = Auditor(*given, **common, unlearned_shadows=shadows)
    model = pushed_and_pulled(20)
    without, found = values(Auditor(*given, **common).card(model)), values(knowing.card(model))
    # the attack on the loss is passed, and so is likeness to the originals
    assert found.loc[["mia_loss", "mia_likelihood_ratio"], "passed"].all()
    assert not found.loc["mia_u_lira", "passed"] and found.loc["mia_u_lira", "judged"]
    assert found.loc["mia_u_lira", "value"] > 0.7
    assert list(without.index) == [name for name in found.index if name != "mia_u_lira"]
    assert without["value"].to_dict() == found.drop("mia_u_lira")["value"].to_dict()
    # retrained models are at chance, and pass
    passed = [values(knowing.card(answers(seed))).loc["mia_u_lira"] for seed in range(20, 28)]
    assert np.mean([row["value"] for row in passed]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([row["passed"] for row in passed]) >= 0.85
    attack = knowing.attacks(model, generator=np.random.default_rng(0)).set_index("attack")
    assert attack.loc["mia_u_lira", "value"].iloc[0] == found.loc["mia_u_lira", "value"]
    # one model that unlearned by the method has no spread
    alone = Auditor(*given, **common, unlearned_shadows=shadows[:1])
    assert "mia_u_lira" not in values(alone.card(model)).index


def test_u_lira_by_hand(auditor):
    """A ratio of two normal densities for each clip, and each retrained model left out once."""
    shadows = [pushed_and_pulled(seed) for seed in (41, 42)]
    found = Auditor(
        auditor.retrained, n_labels=N_LABELS, chosen=("forget_uar",), unlearned_shadows=shadows
    ).card(pushed_and_pulled(20))

    def confidence(table):
        part = table[table["split"] == "forget"].sort_values("hash")
        logits = part[[f"logit_{k}" for k in range(N_LABELS)]].to_numpy(float)
        p = softmax(logits, axis=1)[np.arange(len(part)), part["label"]]
        return np.log(p / (1 - p))

    def density(value, models):
        models = np.array(models)
        own, freedom = models.var(axis=0, ddof=1), len(models) - 1
        variance = (freedom * own + 32 * own.mean()) / (freedom + 32)
        return norm.logpdf(value, models.mean(axis=0), np.sqrt(variance))

    inside, outside = ([confidence(t) for t in tables] for tables in (shadows, auditor.retrained))
    members, others = [], []
    for i, target in enumerate(outside):
        rest = outside[:i] + outside[i + 1 :]
        for value, side in ((confidence(pushed_and_pulled(20)), members), (target, others)):
            side.extend(density(value, inside) - density(value, rest))
    expected = np.mean(np.greater.outer(members, others))
    assert values(found).loc["mia_u_lira", "value"] == pytest.approx(expected, abs=1e-9)


def test_matched_pairs_are_of_one_class_and_close_in_duration(auditor):
    assert auditor.matching.imbalance.n_pairs == SIZES["forget"]
    assert auditor.matching.imbalance.agreement["label"] == 1.0
    members, others = (
        auditor.retrained[0].query("split == @split")["duration"].to_numpy()
        for split in ("forget", "unseen")
    )
    pairs = members[auditor.matching.members] - others[auditor.matching.nonmembers]
    assert np.abs(pairs).mean() < 0.2


def test_the_order_of_the_clips_does_not_matter(auditor):
    model = answers(20, forget=1)
    shuffled = model.sample(frac=1, random_state=0, ignore_index=True)
    pd.testing.assert_frame_equal(auditor.card(shuffled).scores, auditor.card(model).scores)


def test_attacks_have_intervals_and_their_distance_to_the_retrained(auditor):
    generator = np.random.default_rng(0)
    table = auditor.attacks(answers(20, forget=3), generator=generator)
    assert set(table["measure"]) == {"auc", "eer", "tpr"}
    area = table[table["measure"] == "auc"].set_index("attack")
    assert list(area.index) == [name for name in SCORES if name.startswith("mia")]
    assert (area["low"] <= area["value"]).all() and (area["value"] <= area["high"]).all()
    assert area.loc["mia_loss", "distance"] > 3 * area.loc["mia_loss", "spread"]
    card = values(auditor.card(answers(20, forget=3)))
    for name in area.index:
        assert area.loc[name, "value"] == pytest.approx(card.loc[name, "value"], abs=1e-12)


def test_the_average_gap_by_hand():
    own = {("forget", "uar"): 0.9, ("retain", "uar"): 1.0, ("unseen", "uar"): 0.8,
           ("forget", "mia_auc"): 0.7}
    other = {("forget", "uar"): 0.8, ("retain", "uar"): 0.9, ("unseen", "uar"): 0.9,
             ("forget", "mia_auc"): 0.5}
    assert average_gap(own, [other]) == pytest.approx(0.5 / 4)
    assert forgetting_distance(own, [other]) == pytest.approx(0.3 / 2)
    assert utility_distance(own, [other]) == pytest.approx(0.2 / 2)
    # of several it is the distance to their mean, not the mean of distances: here 0, not 0.1
    around = [{key: value + by for key, value in own.items()} for by in (-0.1, 0.1)]
    assert average_gap(own, around) == pytest.approx(0, abs=1e-12)


def test_a_card_of_two_scores_shares_the_level_between_these_alone():
    """And it needs no more of a table than what the two are made from."""
    columns = ["split", "hash", "cluster", "label", "prediction", "loss"]
    retrained = [answers(seed)[columns] for seed in range(4)]
    auditor = Auditor(retrained, n_labels=N_LABELS, chosen=("forget_uar", "mia_loss"))
    card = auditor.card(answers(20)[columns])
    assert list(card.scores["score"]) == ["forget_uar", "mia_loss"] and card.passed
    quantile = norm.ppf(1 - 0.05 / 4)
    sides = [
        [table[table["split"] == split] for table in retrained] for split in ("forget", "unseen")
    ]
    uars = [scoring.uar_shares(table) for table in sides[0]]
    aucs = [
        scoring.auc_shares(membership.loss_membership_attack(forget["loss"], unseen["loss"]))
        for forget, unseen in zip(*sides, strict=True)
    ]
    for row, of_models in zip(card.scores.itertuples(), (uars, aucs), strict=True):
        shares, (step, *_) = np.array([s for s, _ in of_models]), [d for _, d in of_models]
        values = shares[:, : SIZES["forget"]].sum(axis=1)
        expected = scoring.of_one_more(values, scoring.chance_of_clips(shares, step), quantile)
        assert (row.low, row.high) == pytest.approx(expected, abs=1e-12)
    for forget in (3, -3):
        assert not auditor.card(answers(20, forget=forget)[columns]).passed
    shown_alone = Auditor(retrained, n_labels=N_LABELS, chosen=("loss_emd",))
    with pytest.raises(ParameterError, match=r"\['loss_emd'\], none of which is judged"):
        shown_alone.card(retrained[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chosen": ("forget_uar", "f1")}, r"no score is named \['f1'\]"),
        ({"retrained": [answers(0)]}, "1 model"),
        ({"level": 1.0}, "level: 1.0"),
        ({"retrained": [answers(0), answers(1, forget_id=1)]}, "must have the clips"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments, message):
    given = {"retrained": [answers(0), answers(1)], "n_labels": N_LABELS} | arguments
    with pytest.raises(ParameterError, match=message):
        Auditor(**given)


def test_a_model_of_other_clips_is_refused(auditor):
    with pytest.raises(ParameterError, match="must have the clips"):
        auditor.card(answers(0, forget_id=1))
