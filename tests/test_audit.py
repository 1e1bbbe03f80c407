"""Membership attack and the table of all scores."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from speechunlearn import audit
from speechunlearn.audit import MembershipResult, evaluate, loss_membership_attack
from speechunlearn.errors import ParameterError
from speechunlearn.metrics import SCORES


def random_losses(seed):
    generator = np.random.default_rng(seed)
    # Rounded, so that members and non-members tie.
    return (
        generator.exponential(0.5, 30).round(1),
        generator.exponential(1.0, 50).round(1),
    )


@pytest.mark.parametrize(
    ("members", "nonmembers", "expected"),
    [
        ([0.1, 0.2], [0.3, 0.4], 1.0),
        ([0.3, 0.4], [0.1, 0.2], 0.0),
        ([0.5], [0.5, 0.5], 0.5),
        ([0.1, 0.3], [0.2], 0.5),
        ([0.0], [0.0, np.inf], 0.75),
    ],
)
def test_auc_by_hand(members, nonmembers, expected):
    assert loss_membership_attack(members, nonmembers).auc == expected


@pytest.mark.parametrize("seed", range(5))
def test_auc_agrees_with_scikit_learn_and_scipy(seed):
    members, nonmembers = random_losses(seed)
    assert np.intersect1d(members, nonmembers).size > 0
    result = loss_membership_attack(members, nonmembers)
    is_member = np.repeat([1, 0], [30, 50])
    scores = -np.concatenate([members, nonmembers])
    assert result.auc == pytest.approx(roc_auc_score(is_member, scores), abs=1e-12)
    u_statistic = mannwhitneyu(-members, -nonmembers).statistic
    assert result.auc == pytest.approx(u_statistic / (30 * 50), abs=1e-12)
    assert (result.n_members, result.n_nonmembers) == (30, 50)


def test_auc_invariants():
    members, nonmembers = random_losses(0)
    auc = loss_membership_attack(members, nonmembers).auc
    assert auc != 0.5
    assert loss_membership_attack(nonmembers, members).auc == pytest.approx(1 - auc, abs=1e-12)
    assert loss_membership_attack(members[::-1], np.sort(nonmembers)).auc == auc
    # Only the order of the losses counts.
    assert loss_membership_attack(members**2, nonmembers**2).auc == auc


def test_advantage_counts_over_forgetting():
    retrained = MembershipResult(0.5, 10, 10)
    assert MembershipResult(0.125, 10, 10).advantage_to_retrained(retrained) == 0.375
    assert MembershipResult(0.875, 10, 10).advantage_to_retrained(retrained) == 0.375


@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [
        ([], [0.1], "member_losses is empty"),
        ([0.1], [], "nonmember_losses is empty"),
        ([0.1], [0.2, np.nan, np.nan], "nonmember_losses holds 2 NaN of 3"),
    ],
)
def test_attack_refuses_bad_losses(members, nonmembers, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        loss_membership_attack(members, nonmembers)


@pytest.fixture
def predictions():
    return pd.DataFrame(
        {
            "split": ["forget", "forget", "retain", "unseen", "unseen"],
            "hash": ["a", "b", "c", "d", "e"],
            "label": [0, 1, 0, 0, 1],
            "prediction": [0, 0, 0, 0, 1],
            "loss": [1.0, 2.0, 0.25, 0.5, 1.5],
        }
    )


def values(table):
    return table.set_index(["split", "metric"])["value"]


def test_evaluate_holds_every_split_and_metric_once(predictions):
    table = evaluate(predictions, n_labels=2)
    assert list(table.columns) == ["split", "metric", "value"]
    known = {
        ("forget", "uar"): 0.5,
        ("forget", "accuracy"): 0.5,
        ("forget", "mean_loss"): 1.5,
        ("forget", "mia_auc"): 0.25,
        ("retain", "uar"): 1.0,
        ("retain", "accuracy"): 1.0,
        ("retain", "mean_loss"): 0.25,
        ("unseen", "uar"): 1.0,
        ("unseen", "accuracy"): 1.0,
        ("unseen", "mean_loss"): 1.0,
    }
    assert values(table).to_dict().items() >= known.items()
    assert len(table) == 3 * len(SCORES) + 1
    assert not table.duplicated(["split", "metric"]).any()


def test_evaluate_measures_distances_to_the_reference(predictions):
    # Below, equal to and above the reference, which lists the clips in another order.
    reference = predictions.assign(
        prediction=[0, 1, 0, 1, 1], loss=[0.5, 1.0, 0.25, 0.75, 2.0]
    ).iloc[::-1]
    both = values(evaluate(predictions, reference, n_labels=2))
    assert both["forget", "uar_distance"] == 0.5
    assert both["unseen", "uar_distance"] == 0.5
    assert both["retain", "uar_distance"] == 0.0
    assert both["forget", "accuracy_distance"] == 0.5
    assert both["forget", "mean_loss_distance"] == 0.75
    assert both["unseen", "mean_loss_distance"] == 0.375
    # reference: of the pairs (.5, .75), (.5, 2), (1, .75), (1, 2) the member is lower in 3
    assert both["forget", "mia_auc_distance"] == 0.5
    alone = values(evaluate(predictions, n_labels=2))
    assert len(both) == 2 * len(alone)
    pd.testing.assert_series_equal(both[alone.index], alone)


def test_evaluate_attacks_only_where_both_sides_are_there(predictions):
    table = evaluate(predictions[predictions["split"] != "forget"], n_labels=2)
    assert set(table["metric"]) == set(SCORES)
    assert set(table["split"]) == {"retain", "unseen"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(hash=["a", "b", "c", "d", "x"]), "split 'unseen' differs"),
        (lambda table: table.assign(label=[0, 0, 0, 0, 1]), "split 'forget' differs"),
        (lambda table: table.iloc[1:], "1 in reference"),
        (lambda table: table[table["split"] != "retain"], r"reference \['forget', 'unseen'\]"),
        (lambda table: table.drop(columns="hash"), r"lacks the columns \['hash'\]"),
    ],
)
def test_evaluate_refuses_a_reference_on_other_clips(predictions, change, message):
    with pytest.raises(ParameterError, match=message):
        evaluate(predictions, change(predictions), n_labels=2)


def _table(losses, right, unseen=(0.5, 1.5)):
    """Forget clips of one class with these losses; the first ``right`` are classified right."""
    n = len(losses)
    return pd.DataFrame(
        {
            "split": ["forget"] * n + ["unseen"] * len(unseen),
            "hash": [f"f{i}" for i in range(n)] + [f"u{i}" for i in range(len(unseen))],
            "label": 0,
            "prediction": [0 if i < right else 1 for i in range(n)] + [0] * len(unseen),
            "loss": [*losses, *unseen],
        }
    )


def test_a_verdict_is_the_prediction_interval_of_one_more_retrained_model():
    # forget UAR .2, .5, .8: s = .3, above the .5 / sqrt(10) of chance; z at .9875 = 2.2414
    losses = [1.0] * 10
    retrained = [_table(losses, right) for right in (2, 5, 8)]
    judged = audit.verdict(_table(losses, 5), retrained, n_labels=2)
    row = judged.scores.set_index("metric").loc["uar"]
    reach = 2.2414 * 0.3 * (4 / 3) ** 0.5 + 0.05
    assert row["low"] == pytest.approx(0.5 - reach, abs=1e-4)
    assert row["high"] == pytest.approx(0.5 + reach, abs=1e-4)
    assert judged.passed and row["passed"]


def test_retrained_models_that_agree_by_chance_leave_room_for_chance():
    retrained = [_table([1.0] * 10, 5) for _ in range(3)]
    scores = audit.verdict(_table([1.0] * 10, 5), retrained, n_labels=2).scores
    by_metric = scores.set_index("metric")
    binomial = 2.2414 * (0.25 / 10 * 4 / 3) ** 0.5 + 0.05
    assert by_metric.loc["uar", "high"] == pytest.approx(0.5 + binomial, abs=1e-4)
    # AUC .5 of 10 and 2 clips: (1/4 + 9/12 + 1/12) / 20
    hanley = 2.2414 * ((1 / 4 + 9 / 12 + 1 / 12) / 20 * 4 / 3) ** 0.5 + 0.05
    assert by_metric.loc["mia_auc", "high"] == pytest.approx(0.5 + hanley, abs=1e-4)


def test_a_model_that_forgot_nothing_fails_and_so_does_one_that_forgot_too_much():
    unseen = (0.5, 1.5) * 20
    retrained = [_table([1.0] * 40, right, unseen) for right in (20, 20, 20)]
    assert audit.verdict(_table([1.0] * 40, 20, unseen), retrained, n_labels=2).passed
    remembers = audit.verdict(_table([0.1] * 40, 40, unseen), retrained, n_labels=2)
    assert not remembers.passed and not remembers.scores["passed"].any()
    hates = audit.verdict(_table([9.0] * 40, 0, unseen), retrained, n_labels=2)
    assert not hates.passed and not hates.scores["passed"].any()


def test_a_verdict_needs_two_retrained_models_of_the_same_clips():
    table = _table([1.0] * 4, 2)
    with pytest.raises(ParameterError, match="1 model"):
        audit.verdict(table, [table], n_labels=2)
    with pytest.raises(ParameterError, match="split 'forget' differs"):
        audit.verdict(table, [table, _table([1.0] * 5, 2)], n_labels=2)
    with pytest.raises(ParameterError, match="level: 1.5"):
        audit.verdict(table, [table, table], n_labels=2, level=1.5)


def test_where_a_class_was_removed_its_own_unseen_clips_are_the_non_members():
    table = _table([1.0, 3.0], 1, unseen=(0.0, 0.0))
    removed = table.iloc[:2].assign(split="removed", hash=["r0", "r1"], loss=[2.0, 4.0])
    both = pd.concat([table, removed], ignore_index=True)
    auc = audit.evaluate(both, n_labels=2).query("metric == 'mia_auc'")["value"].item()
    assert auc == 0.75  # 1 < 2, 1 < 4, 3 < 4, and 3 > 2
    without = audit.evaluate(table, n_labels=2).query("metric == 'mia_auc'")["value"].item()
    assert without == 0.0
