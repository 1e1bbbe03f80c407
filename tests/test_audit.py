"""The scores of a model, their distances to another's, and where one more retrained's would lie."""

import numpy as np
import pandas as pd
import pytest

from speechunlearn.audit import scoring
from speechunlearn.audit.metrics import SCORES
from speechunlearn.errors import ParameterError


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


def test_every_split_has_every_metric(predictions):
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
    found = scoring.scores(predictions, 2)
    assert found.items() >= known.items()
    assert len(found) == 3 * len(SCORES) + 1


def test_distances_to_the_reference(predictions):
    # Below, equal to and above the reference, which lists the clips in another order.
    reference = predictions.assign(
        prediction=[0, 1, 0, 1, 1], loss=[0.5, 1.0, 0.25, 0.75, 2.0]
    ).iloc[::-1]
    alone = scoring.scores(predictions, 2)
    both = scoring.with_distances(alone, scoring.scores(reference, 2))
    assert both["forget", "uar_distance"] == 0.5
    assert both["unseen", "uar_distance"] == 0.5
    assert both["retain", "uar_distance"] == 0.0
    assert both["forget", "accuracy_distance"] == 0.5
    assert both["forget", "mean_loss_distance"] == 0.75
    assert both["unseen", "mean_loss_distance"] == 0.375
    # reference: of the pairs (.5, .75), (.5, 2), (1, .75), (1, 2) the member is lower in 3
    assert both["forget", "mia_auc_distance"] == 0.5
    assert len(both) == 2 * len(alone)
    assert {key: both[key] for key in alone} == alone


def test_there_is_an_attack_only_where_both_sides_are_there(predictions):
    found = scoring.scores(predictions[predictions["split"] != "forget"], 2)
    assert {metric for _, metric in found} == {*SCORES}
    assert {split for split, _ in found} == {"retain", "unseen"}


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
def test_a_reference_on_other_clips_is_refused(predictions, change, message):
    scoring.check_same_clips(predictions, predictions.iloc[::-1])
    with pytest.raises(ParameterError, match=message):
        scoring.check_same_clips(predictions, change(predictions))


def test_the_interval_is_that_of_a_prediction():
    # .2, .5, .8: s = .3, above the .5 / sqrt(10) of chance
    reach = 2.2414 * 0.3 * (4 / 3) ** 0.5 + 0.05
    found = scoring.of_one_more(np.array([0.2, 0.5, 0.8]), 10, None, 2.2414)
    assert found == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-12)


def test_retrained_models_that_agree_by_chance_leave_room_for_chance():
    alike = np.full(3, 0.5)
    binomial = 2.2414 * (0.25 / 10 * 4 / 3) ** 0.5 + 0.05
    assert scoring.of_one_more(alike, 10, None, 2.2414)[1] == pytest.approx(0.5 + binomial)
    # AUC .5 of 10 and 2 clips: (1/4 + 9/12 + 1/12) / 20
    hanley = 2.2414 * ((1 / 4 + 9 / 12 + 1 / 12) / 20 * 4 / 3) ** 0.5 + 0.05
    assert scoring.of_one_more(alike, 10, 2, 2.2414)[1] == pytest.approx(0.5 + hanley)


def test_where_a_class_was_removed_its_own_unseen_clips_are_the_non_members():
    table = pd.DataFrame(
        {
            "split": ["forget", "forget", "unseen", "removed", "removed"],
            "label": 0, "prediction": 0, "loss": [1.0, 3.0, 0.0, 2.0, 4.0],
        }
    )
    # 1 < 2, 1 < 4, 3 < 4, and 3 > 2
    assert scoring.scores(table, 2)["forget", "mia_auc"] == 0.75
    assert scoring.scores(table[:3], 2)["forget", "mia_auc"] == 0.0
