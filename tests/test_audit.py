"""The scores of a model, their distances to another's, and where one more retrained's would lie."""

import numpy as np
import pandas as pd
import pytest

from speechunlearn.audit import metrics, scoring
from speechunlearn.audit.membership import Scores, auc
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
        (lambda table: table.assign(hash=["a", "b", "c", "d", "x"]), "'unseen' differs"),
        (lambda table: table.assign(label=[0, 0, 0, 0, 1]), "'forget' differs"),
        (lambda table: table.iloc[1:], "1 in reference"),
        (lambda table: table[table["split"] != "retain"], r"reference \['forget', 'unseen'\]"),
        (lambda table: table.drop(columns="hash"), r"lacks the columns \['hash'\]"),
    ],
)
def test_a_reference_on_other_clips_is_refused(predictions, change, message):
    metrics.check_same_clips(predictions, predictions.iloc[::-1])
    with pytest.raises(ParameterError, match=message):
        metrics.check_same_clips(predictions, change(predictions))


def test_the_interval_is_that_of_a_prediction():
    # .2, .5, .8: s = .3, above the .1 of the clips; and the other way round
    values = np.array([0.2, 0.5, 0.8])
    for chance, spread in ((0.01, 0.3), (0.16, 0.4)):
        reach = 2.2414 * spread * (4 / 3) ** 0.5
        found = scoring.of_one_more(values, chance, 2.2414)
        assert found == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-12)


def test_what_each_clip_adds_is_the_score_together(predictions):
    shares, step = scoring.uar_shares(predictions[predictions["split"] == "forget"])
    assert (shares.tolist(), step) == ([0.5, 0.0], 0.5)
    generator = np.random.default_rng(0)
    attack = Scores(generator.integers(0, 9, 8).astype(float), generator.integers(0, 7, 5) + 0.0)
    shares, step = scoring.auc_shares(attack)
    for side in (shares[:8], shares[8:]):
        assert side.sum() == pytest.approx(auc(attack), abs=1e-12)
    assert step == pytest.approx(1 / np.sqrt(40))
    above = [np.mean(m > attack.nonmembers) + np.mean(m == attack.nonmembers) / 2
             for m in attack.members]
    assert shares[:8] * 8 == pytest.approx(above, abs=1e-12)
    # clips that are there twice count once
    twice = Scores(*(np.tile(side, 2) for side in attack))
    assert scoring.auc_shares(twice, 2)[0] == pytest.approx(shares, abs=1e-12)


def test_the_chance_of_clips_by_hand():
    # two models, of which one errs on one of three clips: 2 (1/6)^2 = 1/18; and half an error more
    shares = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]) / 3
    assert scoring.chance_of_clips(shares, 1 / 3) == pytest.approx(1 / 18 + 1 / 36)
    # all 200 right in three models: one more may err on one clip, and not on two
    values, shares = np.ones(3), np.full((3, 200), 1 / 200)
    low, _ = scoring.of_one_more(values, scoring.chance_of_clips(shares, 1 / 200), 2.77)
    assert 0.99 < low < 0.995


def passing(n_references, clips, margin, n_unseen=0, n_trials=700):
    """How often one more of exchangeable models lies in the 95 % interval of the others.

    Each clip is as hard for all models, which differ by .7 of that spread: the UAR of six classes,
    or with unseen clips the AUC.
    """
    generator, inside = np.random.default_rng([n_references, clips]), 0
    models = n_references + 1
    for _ in range(n_trials):
        members, others = (
            generator.normal(at, 1, n) + 0.7 * generator.normal(size=(models, n))
            for at, n in ((margin, clips), (0, n_unseen))
        )
        if n_unseen:
            above = members[:, :, None] > others[:, None, :]
            sides = above.mean(axis=2) / clips, above.mean(axis=1) / n_unseen
            shares, step = np.concatenate(sides, axis=1), (clips * n_unseen) ** -0.5
        else:
            _, label, sizes = np.unique(
                generator.integers(6, size=clips), return_inverse=True, return_counts=True
            )
            weights = 1 / (len(sizes) * sizes[label])
            shares, step = weights * (members > 0), weights.max()
        values = shares[:, :clips].sum(axis=1)
        chance = scoring.chance_of_clips(shares[1:], step)
        low, high = scoring.of_one_more(values[1:], chance, 1.96)
        inside += low - 1e-9 <= values[0] <= high + 1e-9
    return inside / n_trials


@pytest.mark.parametrize(
    ("clips", "margin", "n_unseen"),
    [(100, 0.8, 0), (100, 3.2, 0), (12, 0.8, 0), (30, 0.3, 60), (4, 0.3, 60)],
)
def test_one_more_retrained_model_passes_as_often_as_it_should(clips, margin, n_unseen):
    """Also saturated (margin 3.2: 99.6 % are right), of few clips, and of few references."""
    passed = {k: passing(k, clips, margin, n_unseen) for k in (3, 4, 6, 10)}
    assert 0.93 <= np.mean(list(passed.values())) <= 0.97, passed


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
