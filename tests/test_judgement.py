"""What scored methods come to: values by hand, and intervals of what is drawn."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import judgement
from speechunlearn.audit import metrics


def test_every_draw_of_speakers_is_there_once():
    ways = judgement.drawn_speakers(4)
    assert len(ways) == 35 == len({tuple(way) for way in ways}) and (ways.sum(1) == 4).all()


def test_a_uar_of_drawn_speakers_is_that_of_their_clips_repeated():
    generator = np.random.default_rng(0)
    labels, speakers = generator.integers(3, size=60), np.repeat([0, 1, 2], 20)
    predictions = generator.integers(3, size=(2, 60))
    counts = judgement.drawn_speakers(3)
    found = judgement.uars(predictions, labels, speakers, counts)
    for draw, count in enumerate(counts):
        places = np.concatenate([np.repeat(np.flatnonzero(speakers == s), count[s])
                                 for s in range(3)])  # fmt: skip
        for model in range(2):
            expected = metrics.uar(labels[places], predictions[model][places], 3)
            assert found[model, draw] == pytest.approx(expected)


def rows(method, shift):
    """Two sets of 20 clips with two originals each, and one of a single clip."""
    requests = [("a", 0), ("a", 1), ("b", 0), ("b", 2), ("c", 1)]
    return pd.DataFrame(
        {"method": method, "set": name, "model": model, "clips": 1 if name == "c" else 20,
         "forgetting": shift * (1 + model), "changed": 0.5,
         "utilities": [0.1 * shift] * (1 + len(judgement.drawn_speakers(2))),
         **{score: 0.25 * shift for score in judgement.CLOSED},
         **{f"{score}, bar": 1.0 for score in judgement.CLOSED}}
        for name, model in requests
    )  # fmt: skip


def test_values_are_means_over_large_sets_and_gaps_ratios_of_means_over_all():
    table = pd.concat([rows("original", 0.0), rows("half", 2.0)])
    found = judgement.intervals(table, {"a": "20", "b": "20", "c": "1"}, 2, resamples=200)
    half = found.loc["half"]
    assert half["forgetting"] == pytest.approx(2 * (1 + 2 + 1 + 3) / 4)
    assert half["utility"] == half["utility, low"] == half["utility, high"] == pytest.approx(0.2)
    assert half["both"] == pytest.approx(3.5 + 0.2)
    for score in judgement.CLOSED:
        assert half[f"{score} closed"] == half[f"{score} closed, low"] == pytest.approx(0.5)
        assert found.loc["original", f"{score} closed"] == 0
    # sets {a, a}, {a, b}, {b, b}, and originals within: from 2 * 1 to 2 * 3
    assert 2 <= half["forgetting, low"] < 3.5 < half["forgetting, high"] <= 6


def test_speakers_are_drawn_alike_for_all_methods():
    one, other = rows("original", 0.0), rows("other", 0.0)
    ways = [0.0, *np.arange(1, 1 + len(judgement.drawn_speakers(2))).tolist()]
    for table in (one, other):
        table["utilities"] = [ways] * len(table)
    both = pd.concat([one, other])
    found = judgement.intervals(both, {"a": "20", "b": "20", "c": "1"}, 2, resamples=500)
    ends = found[["utility", "utility, low", "utility, high"]].to_numpy()
    assert (ends[0] == ends[1]).all() and ends[0].tolist() == [0, 1, 3]


def test_methods_with_other_requests_are_refused():
    table = pd.concat([rows("original", 0.0), rows("other", 1.0).iloc[1:]])
    with pytest.raises(ValueError, match="other: other requests"):
        judgement.intervals(table, {"a": "20", "b": "20", "c": "1"}, 2, resamples=2)


def test_only_methods_compete_and_a_better_one_wins_every_draw():
    table = pd.concat([rows("original", 0.0), rows("near", 1.0), rows("far", 2.0)])
    found = judgement.intervals(table, {"a": "20", "b": "20", "c": "1"}, 2, resamples=50)
    compared = ["forgetting, best", "utility, best", "front"]
    assert found.loc["original", [*compared, "utility, MCS p"]].isna().all()
    assert (found.loc["near", compared] == 1).all() and (found.loc["far", compared] == 0).all()
    # both distances are larger on every set: no draw undoes it
    for name in judgement.DISTANCES:
        assert found.loc["near", f"{name}, MCS p"] == 1 and found.loc["far", f"{name}, MCS p"] == 0
    without = judgement.intervals(table, {"a": "20", "b": "20", "c": "1"}, 2, resamples=5,
                                  apart={"original", "near"})  # fmt: skip
    assert (without.loc["far", compared] == 1).all() and without.loc["near", compared].isna().all()
    alone = judgement.intervals(table[table["method"] == "original"],
                                {"a": "20", "b": "20", "c": "1"}, 2, resamples=5)  # fmt: skip
    assert list(alone.index) == ["original"] and "front" not in alone


def test_methods_that_trade_one_distance_for_the_other_are_both_on_the_front():
    first, second = np.array([[1.0], [2.0], [3.0]]), np.array([[3.0], [2.0], [2.5]])
    assert judgement.on_front(first, second).T.tolist() == [[True, True, False]]
    assert judgement.on_front(first[[0, 0]], second[[0, 0]]).all()  # none is better


def test_identical_methods_stay_and_a_clearly_worse_one_leaves():
    losses = np.random.default_rng(0).normal(size=10)
    worse = losses + 1 + 0.1 * np.random.default_rng(1).normal(size=10)
    p_values = judgement.confidence_set(np.stack([losses, worse, losses, losses]), 500)
    assert p_values[[0, 2, 3]].tolist() == [1, 1, 1] and p_values[1] < 0.01
    # worse by the same everywhere: there is no spread, and no doubt
    assert judgement.confidence_set(np.stack([losses, losses + 0.1]), 500).tolist() == [1, 0]


def test_of_two_methods_it_is_the_bootstrap_test_of_their_difference():
    losses = np.random.default_rng(3).normal(size=(2, 12)) + np.array([[0.0], [0.4]])
    difference = losses[1] - losses[0]
    draws = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=400)
    drawn = np.array([np.repeat(difference, counts).mean() for counts in draws])
    mean = difference.mean()
    share = (np.abs(drawn - mean) >= abs(mean)).mean()
    assert mean > 0 and 0 < share < 1
    assert judgement.confidence_set(losses, 400, seed=5).tolist() == [1, pytest.approx(share)]


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_the_best_method_is_in_the_confidence_set_nine_times_in_ten(gap):
    generator, sets, simulations = np.random.default_rng(1), 10, 200
    means, stays, left = np.linspace(0, gap, 5)[:, None], 0, 0
    for seed in range(simulations):
        losses = means + generator.normal(size=(5, sets)) + 2 * generator.normal(size=sets)
        p_values = judgement.confidence_set(losses, 200, seed)
        stays += p_values[0] >= 0.1
        left += (p_values < 0.1).sum()
    # by chance: a standard error of .02
    assert stays / simulations >= 0.9
    # and it is not by keeping everything where methods differ
    assert (left / simulations > 0.5) == (gap > 0)
