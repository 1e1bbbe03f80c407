"""Scores of a predictions table: cases by hand, invariants, agreement with reference libraries."""

import warnings

import audmetric
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from speechunlearn.audit.metrics import accuracy, distance_to_retrained, uar
from speechunlearn.audit.scoring import scores
from speechunlearn.errors import ParameterError


def random_clips(seed, n_clips=40, n_labels=7):
    generator = np.random.default_rng(seed)
    # The last two classes never occur in the truth, and are predicted.
    truth = generator.integers(0, n_labels - 2, n_clips)
    wrong = generator.integers(0, n_labels, n_clips)
    return truth, np.where(generator.random(n_clips) < 0.6, truth, wrong)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ([0, 0], [0, 1], 0.5),
        ([0, 0], [6, 6], 0.0),
        ([3], [3], 1.0),
        ([0, 1, 2], [0, 1, 1], 2 / 3),
        # recalls 3/4 and 0/1: the rare class weighs as much as the frequent one
        ([0, 0, 0, 0, 1], [0, 0, 0, 2, 0], 0.375),
    ],
)
def test_uar_by_hand(truth, prediction, expected):
    assert uar(truth, prediction, 7) == expected


@pytest.mark.parametrize("seed", range(5))
def test_uar_agrees_with_scikit_learn_and_audmetric(seed):
    truth, prediction = random_clips(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        assert uar(truth, prediction, 7) == pytest.approx(
            balanced_accuracy_score(truth, prediction), abs=1e-12
        )
    recalls = audmetric.recall_per_class(truth, prediction, list(range(7)))
    present = np.unique(truth)
    assert max(present) < 5
    assert uar(truth, prediction, 7) == pytest.approx(
        np.mean([recalls[k] for k in present]), abs=1e-12
    )
    assert accuracy(truth, prediction, 7) == pytest.approx(accuracy_score(truth, prediction))


def test_uar_does_not_depend_on_order_or_size_of_the_label_set():
    truth, prediction = random_clips(0)
    expected = uar(truth, prediction, 7)
    order = np.random.default_rng(1).permutation(len(truth))
    assert uar(truth[order], prediction[order], 7) == expected
    assert uar(truth, prediction, 100) == expected


@pytest.mark.parametrize(
    ("truth", "prediction", "labels", "message"),
    [
        ([], [], 7, "truth is empty"),
        ([0, 1], [0], 7, "got 2 and 1"),
        ([7], [0], 7, "truth holds 7"),
        ([0], [-1], 7, "prediction holds -1"),
        ([0], [np.nan], 7, "prediction holds .*nan"),
        ([0], [0], 0, r"truth holds 0, which is not in \[\]"),
    ],
)
@pytest.mark.parametrize("score", [uar, accuracy])
def test_refuses_bad_input(score, truth, prediction, labels, message):
    with pytest.raises(ParameterError, match=message):
        score(truth, prediction, labels)


@pytest.fixture
def predictions():
    return pd.DataFrame(
        {
            "split": ["unseen", "forget", "unseen", "forget", "unseen", "retain"],
            "label": [0, 0, 0, 1, 1, 2],
            "prediction": [0, 0, 2, 0, 1, 2],
            "loss": [0.5, 0.25, 1.0, 0.75, 1.5, 0.125],
        }
    )


def test_by_split(predictions):
    found = scores(predictions, 3)
    by_metric = {
        name: {split: value for (split, metric), value in found.items() if metric == name}
        for name in ("uar", "accuracy", "mean_loss")
    }
    assert list(by_metric["uar"].items()) == [("forget", 0.5), ("retain", 1.0), ("unseen", 0.75)]
    assert by_metric["accuracy"] == {"forget": 0.5, "retain": 1.0, "unseen": 2 / 3}
    assert by_metric["mean_loss"] == {"forget": 0.5, "retain": 0.125, "unseen": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[:0], "no rows"),
        (lambda table: table.drop(columns="label"), r"lacks the columns \['label'\]"),
        (lambda table: table.assign(split="train"), r"splits \['train'\]"),
        (lambda table: table.assign(label=3), "truth holds 3"),
        (lambda table: table.assign(prediction=np.nan), "6 missing values in column 'prediction'"),
    ],
)
def test_by_split_refuses_bad_tables(predictions, change, message):
    with pytest.raises(ParameterError, match=message):
        scores(change(predictions), 3)


def test_mean_loss_refuses_nan(predictions):
    predictions.loc[2, "loss"] = np.nan
    with pytest.raises(ParameterError, match="1 missing values in column 'loss'"):
        scores(predictions, 3)


def test_distance_is_symmetric():
    assert distance_to_retrained(0.25, 0.75) == distance_to_retrained(0.75, 0.25) == 0.5
