"""Bootstraps and tests: cases by hand, invariants, coverage, agreement with libraries."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from speechunlearn.audit.statistics import (
    auc_of_resamples,
    cluster_bootstrap,
    draw,
    draw_clips,
    interval,
    mcnemar,
    mean_over_runs,
    p_value,
    paired_bootstrap,
    pooled_bootstrap,
    uar_of_resamples,
    uar_z_test,
    unit,
)
from speechunlearn.errors import ParameterError


def rng(seed=0):
    return np.random.default_rng(seed)


def simulate(generator, n_speakers=30, clips_each=10, n_labels=4, spread=0.25, split="unseen"):
    """Clips whose chance of being right varies by speaker: 0.7 on average."""
    n_clips = n_speakers * clips_each
    speaker = np.repeat(np.arange(n_speakers), clips_each)
    chance = 0.7 + spread * generator.choice([-1, 1], n_speakers)
    label = np.tile(np.arange(n_labels), n_clips)[:n_clips]
    right = generator.random(n_clips) < chance[speaker]
    return pd.DataFrame(
        {
            "split": split,
            "hash": [f"{split}-{i}" for i in range(n_clips)],
            "speaker": [f"{split}-{i}" for i in speaker],
            "label": label,
            "prediction": np.where(right, label, (label + 1) % n_labels),
            "loss": generator.exponential(1 - 0.5 * right) + chance[speaker],
        }
    )


def width(found):
    return found.high - found.low


# the engine


def test_the_first_resample_is_the_clips_as_they_are_and_the_others_draw_as_many():
    counts = draw(5, 200, rng())
    assert counts.shape == (201, 5) and (counts[0] == 1).all()
    assert (counts.sum(axis=1) == 5).all() and len(np.unique(counts[1:], axis=0)) > 50
    # each cluster is drawn once in mean: 1 +- 5 standard errors of sqrt(0.8 / 200)
    assert draw(5, 20_000, rng())[1:].mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    for n, message in ((0, "n must be at least 1, got 0"), (5, "n_resamples .* got 99")):
        with pytest.raises(ParameterError, match=message):
            draw(n, 100 if n == 0 else 99, rng())


def test_the_auc_of_a_resample_is_scikit_learns_of_the_clips_drawn():
    generator = rng(6)
    # rounded, so that members and non-members tie
    members, nonmembers = generator.normal(0.5, 1, 20).round(1), generator.normal(0, 1, 42).round(1)
    assert np.intersect1d(members, nonmembers).size > 0
    times = generator.integers(0, 3, (30, 20)), generator.integers(0, 3, (30, 42))
    found = auc_of_resamples(members, nonmembers, *(t.astype(float) for t in times))
    for value, mine, theirs in zip(found, *times, strict=True):
        scores = np.concatenate([np.repeat(members, mine), np.repeat(nonmembers, theirs)])
        truth = np.repeat([1, 0], [mine.sum(), theirs.sum()])
        assert value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    nobody = auc_of_resamples(members, nonmembers, np.zeros((1, 20)), np.ones((1, 42)))
    assert np.isnan(nobody).all()


def test_pairs_without_a_score_count_for_nothing():
    scores = np.array([[1.0, np.nan, np.nan], [0.0, 0.5, np.nan]])
    weights = np.array([[1.0, 1.0], [5.0, 1.0], [1.0, 1.0]])
    found = mean_over_runs(scores, weights)
    assert found[:2].tolist() == [0.5, 0.5] and np.isnan(found[2])
    both = mean_over_runs(np.stack([scores, 2 * scores], axis=1), weights)
    np.testing.assert_array_equal(both, [found, 2 * found])
    assert mean_over_runs(np.array([[1.0], [0.0]]), np.array([[3.0, 1.0]])) == 0.75


def test_an_interval_leaves_out_resamples_without_a_value():
    values = np.array([0.5, np.nan, *np.linspace(0, 1, 101)])
    assert interval(values, 0.5) == (0.5, 0.25, 0.75)
    none = interval(np.array([0.5, np.nan]))
    assert none.value == 0.5 and np.isnan(none[1:]).all()


def test_of_few_speakers_clips_within_are_drawn_one_fewer_at_both_stages():
    speakers = list("aaaabbbccc")
    drawn = draw_clips(speakers, 2000, rng())
    assert (drawn[0] == 1).all()
    by_speaker = np.stack([part.sum(axis=1) for part in np.split(drawn[1:], [4, 7], axis=1)])
    # two of three speakers, and three of four or two of three clips of each
    sums = {(6, 0, 0), (0, 4, 0), (0, 0, 4), (3, 2, 0), (3, 0, 2), (0, 2, 2)}
    assert {*map(tuple, by_speaker.T.astype(int))} == sums
    # the mean of a clip's value over resamples of one speaker: variance s^2 / n, without bias
    values = rng(1).normal(size=8)
    once = draw_clips(["a"] * 8, 20_000, rng())[1:]
    means = (once @ values) / once.sum(axis=1)
    assert means.var() == pytest.approx(values.var(ddof=1) / 8, rel=0.05)
    # one clip is in no resample, and each of seventeen speakers comes with all of its clips
    assert (draw_clips(["a"], 100, rng())[1:] == 0).all()
    whole = draw_clips(np.repeat(np.arange(17), 2), 100, rng())
    assert (whole[:, ::2] == whole[:, 1::2]).all()
    np.testing.assert_array_equal(whole[:, ::2], draw(17, 100, rng()))
    # where both sides are drawn at once, a pair is drawn whole
    pairs = draw_clips([0, 1, 2, 0, 1, 2], 100, rng(), sides=[0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(pairs[:, :3], pairs[:, 3:])


def test_what_was_drawn_is_said():
    assert unit(list("aabbcc")) == "3 speakers, clips within"
    assert unit(list("abc")) == "3 clips"  # a clip each: there is nothing within
    assert unit(list("aabbccddee")) == "5 speakers, clips within" and unit(["a"]) == "1 clip"
    assert unit(np.repeat(np.arange(17), 2)) == "17 speakers"


def whole_speakers(clusters, n_resamples, generator):
    """The rule that was: however few speakers there are, they alone are drawn."""
    codes, names = pd.factorize(np.asarray(clusters))
    return draw(len(names), n_resamples, generator)[:, codes]


def coverage(n_speakers, rule, chance=None, n_trials=150):
    """How often the 95 % interval holds the truth: an AUC, or with a chance the UAR.

    Speakers differ by .4 standard deviations of a clip. Of fewer than five, the truth is that of
    these speakers' further clips, of more that of further speakers. Clips each: 8.
    """
    generator, covered = rng(n_speakers), 0
    speakers = np.repeat(np.arange(n_speakers), 8)
    unseen = np.repeat(np.arange(16), 8)
    labels = np.arange(len(speakers)) % 2
    for _ in range(n_trials):
        shift, others = (0.4 * generator.normal(size=n) for n in (n_speakers, 16))
        few = len(speakers) if n_speakers < 17 and rule is draw_clips else None
        if chance is None:
            members = 0.8 + shift[speakers] + generator.normal(size=len(speakers))
            nonmembers = others[unseen] + generator.normal(size=len(unseen))
            weights = rule(speakers, 200, generator), draw_clips(unseen, 200, generator)
            values = auc_of_resamples(members, nonmembers, *weights)
            of_these = stats.norm.cdf((0.8 + shift) / np.sqrt(2 + 0.4**2)).mean()
            of_all = stats.norm.cdf(0.8 / np.sqrt(2 + 2 * 0.4**2))
        else:
            rates = stats.norm.cdf(stats.norm.ppf(chance) * np.sqrt(1 + 0.4**2) + shift)
            wrong = generator.random(len(speakers)) > rates[speakers]
            clips = pd.DataFrame({"label": labels, "prediction": labels + 2 * wrong})
            values = uar_of_resamples(clips, rule(speakers, 200, generator))
            of_these, of_all = rates.mean(), chance
        found = interval(values, few=few)
        covered += found.low <= (of_these if n_speakers < 5 else of_all) <= found.high
    return covered / n_trials


@pytest.mark.parametrize(
    ("chance", "speakers"),
    [(None, (1, 2, 4, 5, 8, 16)), (0.8, (1, 3, 5, 8, 16)), (0.95, (1, 4, 6, 12))],
)
def test_intervals_cover_from_one_speaker_on(chance, speakers):
    covered = {n: coverage(n, draw_clips, chance) for n in speakers}
    assert min(covered.values()) >= 0.90, covered


def test_whole_speakers_cover_too_little_below_seventeen():
    # .80 in 400 trials, with a standard error of .02
    assert coverage(5, whole_speakers, 0.95) < 0.90
    assert coverage(24, draw_clips) >= 0.90


@pytest.mark.parametrize("chance", [None, 0.8])
def test_drawing_one_speaker_alone_does_not_cover(chance):
    assert coverage(1, whole_speakers, chance) < 0.65


@pytest.mark.parametrize(
    ("resampled", "expected"),
    [
        ([0.0] * 99, 1.0),  # alike: on both sides
        ([1e-15, -1e-15] * 50, 1.0),  # but for rounding
        ([0.1] * 99, 0.02),
        ([-0.1] * 99, 0.02),
        ([0.1] * 95 + [-0.1] * 4 + [np.nan] * 7, 0.1),
    ],
)
def test_p_value_by_hand(resampled, expected):
    assert p_value(np.array([0.3, *resampled])) == pytest.approx(expected, abs=1e-12)


# cluster_bootstrap


def test_interval_by_enumeration():
    # One right clip each of 18 speakers, but for one who has two wrong ones: UAR of n clips of
    # one class. He is drawn k of 18 times: (18 - k) / (18 + k), with the binomial probabilities.
    clips = pd.DataFrame(
        {
            "split": "forget",
            "speaker": [*range(18), 17],
            "label": 0,
            "prediction": [0] * 17 + [1, 1],
        }
    )
    k = np.arange(19)
    of_k = (18 - k) / (18 + k)
    for level in (0.4, 0.9):
        ends = stats.binom(18, 1 / 18).ppf([(1 + level) / 2, (1 - level) / 2]).astype(int)
        found = cluster_bootstrap(clips, level=level, n_resamples=4000, generator=rng())
        assert found == pytest.approx((17 / 19, *of_k[ends]), abs=1e-12)


def test_resamples_without_a_class_average_over_the_others():
    # Class 1 is right and at speaker b alone: 0 without b, 1 with b alone, and 0.5 with another.
    clips = pd.DataFrame({"label": [0, 1], "prediction": [1, 1]})
    weights = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert uar_of_resamples(clips, weights).tolist() == [0.0, 0.5, 1.0]


def test_agrees_with_resampling_of_rows():
    """The sums by speaker and class give what copying the drawn speakers' clips gives."""
    clips = simulate(rng(), n_speakers=18, clips_each=5, n_labels=3).sample(frac=1, random_state=1)
    clips = clips.iloc[:-4]
    drawn = rng(5).multinomial(18, np.full(18, 1 / 18), size=200)
    by_speaker = {s: clips[clips["speaker"] == s] for s in pd.unique(clips["speaker"])}
    scores = []
    for counts in drawn:
        rows = [
            table for table, n in zip(by_speaker.values(), counts, strict=True) for _ in range(n)
        ]
        rows = pd.concat(rows)
        recalls = rows["label"].eq(rows["prediction"]).groupby(rows["label"]).mean()
        scores.append(recalls.mean())
    found = cluster_bootstrap(clips, n_resamples=200, generator=rng(5))
    assert found[1:] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=1e-12)


def test_value_is_the_score_of_the_clips_as_they_are():
    clips = simulate(rng())
    expected = balanced_accuracy_score(clips["label"], clips["prediction"])
    interval = cluster_bootstrap(clips, generator=rng())
    assert interval.value == pytest.approx(expected, abs=1e-12)
    assert interval.low < interval.value < interval.high


def test_one_speaker_has_an_interval_of_his_clips_and_one_clip_none():
    clips = simulate(rng(3), n_speakers=10, clips_each=1)
    assert 0 < clips["label"].eq(clips["prediction"]).mean() < 1
    one = cluster_bootstrap(clips.assign(speaker="x"), generator=rng())
    each = cluster_bootstrap(clips, generator=rng())
    assert width(one) == pytest.approx(width(each), abs=0.15) and width(each) > 0.2
    assert np.isnan(cluster_bootstrap(clips[:1], generator=rng())[1:]).all()
    # all right: nine of ten are lost from 0.025 ** (1 / 10) on (Clopper and Pearson)
    right = clips.assign(speaker="x", prediction=clips["label"])
    assert cluster_bootstrap(right, generator=rng()) == (1.0, 0.025 ** (1 / 10), 1.0)


def test_reproducible_from_the_generator_alone():
    clips = simulate(rng())
    assert cluster_bootstrap(clips, generator=rng(1)) == cluster_bootstrap(clips, generator=rng(1))
    assert cluster_bootstrap(clips, generator=rng(1)) != cluster_bootstrap(clips, generator=rng(2))


def test_higher_level_is_wider():
    clips = simulate(rng())
    widths = [
        width(cluster_bootstrap(clips, level=level, generator=rng())) for level in (0.5, 0.9, 0.99)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_speaker_interval_covers_where_the_clip_interval_does_not():
    covered = {"speaker": 0, "hash": 0}
    generator = rng()
    n_trials = 100
    for _ in range(n_trials):
        clips = simulate(generator)
        for clusters in covered:
            interval = cluster_bootstrap(
                clips, clusters=clusters, n_resamples=200, generator=generator
            )
            covered[clusters] += interval.low <= 0.7 <= interval.high
    assert 0.88 <= covered["speaker"] / n_trials <= 0.99
    assert covered["hash"] / n_trials < 0.8


def test_thousand_resamples_of_thousand_clips_take_under_half_a_second():
    clips = simulate(rng(), n_speakers=1000, clips_each=1, n_labels=7)
    start = time.process_time()
    cluster_bootstrap(clips, n_resamples=1000, generator=rng())
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        (lambda t: t.iloc[:0], {}, "no rows"),
        (lambda t: t.drop(columns="speaker"), {}, r"lacks the columns \['speaker'\]"),
        (lambda t: t, {"clusters": "actor"}, r"lacks the columns \['actor'\]"),
        (lambda t: t, {"level": 95.0}, r"level must be in \(0, 1\), got 95.0"),
        (lambda t: t, {"n_resamples": 99}, "n_resamples must be at least 100, got 99"),
        (
            lambda t: pd.concat([t, t.assign(split="forget")]),
            {},
            r"one split, got \['forget', 'unseen'\]",
        ),
    ],
)
def test_cluster_bootstrap_refuses_bad_input(change, parameters, message):
    parameters = {"generator": rng(), **parameters}
    with pytest.raises(ParameterError, match=message):
        cluster_bootstrap(change(simulate(rng())), **parameters)


# pooled_bootstrap


def test_more_runs_on_the_same_speakers_do_not_average_the_speakers_away():
    clips = simulate(rng())
    one = cluster_bootstrap(clips, generator=rng())
    assert pooled_bootstrap([clips] * 8, generator=rng()) == pytest.approx(one, abs=1e-12)


def test_pooled_value_is_the_mean_of_the_pairs_and_the_interval_holds_their_spread():
    right = simulate(rng()).assign(prediction=lambda t: t["label"])
    wrong = right.assign(prediction=right["label"] + 1)
    # No spread by speaker within a pair: a resample is the share of right pairs.
    interval = pooled_bootstrap([right, wrong, right, right], generator=rng())
    assert interval.value == 0.75
    assert interval.high == 1.0
    assert interval.low == 0.25
    # P(0 right of 4) = 1/256 and P(1 right) = 12/256: the 5 % quantile is 0.5, the 4 % one 0.25
    shares = stats.binom(4, 0.75).ppf([0.1, 0.9]) / 4
    wide = pooled_bootstrap(
        [right, wrong, right, right], level=0.8, n_resamples=5000, generator=rng()
    )
    assert wide[1:] == tuple(shares)


def test_pooled_covers_with_shared_speakers_and_runs():
    """Truth 0.7: speakers shared by all runs, each run with a shift of its own."""
    generator = rng(4)
    covered, n_trials, n_runs = 0, 100, 6
    for _ in range(n_trials):
        by_speaker = 0.2 * generator.choice([-1, 1], 30)
        runs = []
        for shift in 0.08 * generator.choice([-1, 1], n_runs):
            right = generator.random((30, 10)) < (0.7 + by_speaker + shift)[:, None]
            runs.append(
                pd.DataFrame(
                    {
                        "split": "unseen",
                        "speaker": np.repeat(np.arange(30), 10),
                        "label": 0,
                        "prediction": np.where(right.ravel(), 0, 1),
                    }
                )
            )
        interval = pooled_bootstrap(runs, n_resamples=200, generator=generator)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.88 <= covered / n_trials <= 1.0


def test_pairs_without_a_drawn_speaker_are_left_out():
    # One speaker each, none shared. Both right: whatever is drawn, the mean is 1, not NaN or less.
    clips = simulate(rng(), n_speakers=1).assign(prediction=lambda t: t["label"])
    other = clips.assign(speaker="other")
    found = pooled_bootstrap([clips, other], generator=rng())
    assert found == pytest.approx((1.0, 0.025 ** (1 / 20), 1.0), abs=1e-12)


def test_pooled_refuses_no_table():
    with pytest.raises(ParameterError, match="no table"):
        pooled_bootstrap([], generator=rng())


# paired_bootstrap


def other_model(clips, generator, share=0.3, right=True):
    """The same clips, a share of them changed to right or wrong."""
    changed = generator.random(len(clips)) < share
    target = clips["label"] if right else (clips["label"] + 1) % 4
    return clips.assign(prediction=np.where(changed, target, clips["prediction"]))


def test_paired_difference_of_a_model_with_itself_is_nil():
    clips = simulate(rng())
    assert paired_bootstrap(clips, clips.copy(), generator=rng()) == (0.0, 0.0, 0.0, 1.0)


def test_paired_is_antisymmetric():
    clips = simulate(rng())
    better = other_model(clips, rng(1), share=0.1)
    forth = paired_bootstrap(better, clips, generator=rng())
    back = paired_bootstrap(clips, better, generator=rng())
    assert forth.value > 0
    assert (forth.value, forth.low, forth.high) == pytest.approx(
        (-back.value, -back.high, -back.low), abs=1e-12
    )
    assert forth.p_value == back.p_value


def test_paired_p_value_is_smallest_for_a_model_better_at_every_speaker():
    clips = simulate(rng()).assign(prediction=9)
    better = clips.assign(prediction=clips["label"])
    result = paired_bootstrap(better, clips, n_resamples=199, generator=rng())
    assert result == (1.0, 1.0, 1.0, 0.01)


def test_pairing_narrows_the_interval():
    clips = simulate(rng())
    better = other_model(clips, rng(1), share=0.05)
    paired = paired_bootstrap(better, clips, generator=rng())
    single = cluster_bootstrap(clips, generator=rng())
    assert width(paired) < 0.5 * width(single)


def test_paired_p_value_is_calibrated():
    generator = rng(2)
    rejected, n_trials = 0, 120
    for _ in range(n_trials):
        a, b = (
            simulate(generator, spread=0.0).assign(speaker=np.repeat(np.arange(30), 10))
            for _ in range(2)
        )
        result = paired_bootstrap(a, b, n_resamples=200, generator=generator)
        rejected += result.p_value < 0.1
    assert 0.05 <= rejected / n_trials <= 0.17


def test_paired_over_several_pairs():
    runs = [simulate(rng(seed)) for seed in range(3)]
    better = [other_model(run, rng(9), share=0.2) for run in runs]
    result = paired_bootstrap(better, runs, generator=rng())
    expected = np.mean(
        [
            balanced_accuracy_score(x["label"], x["prediction"])
            - balanced_accuracy_score(y["label"], y["prediction"])
            for x, y in zip(better, runs, strict=True)
        ]
    )
    assert result.value == pytest.approx(expected, abs=1e-12)
    assert 0 < result.low < result.value < result.high
    single = paired_bootstrap(better[0], runs[0], generator=rng())
    assert paired_bootstrap(better[:1], runs[:1], generator=rng()) == single


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(hash=t["hash"] + "x"), "'unseen' differs in hash, label"),
        (lambda t: t.iloc[1:], r"300 clips, 299 in reference"),
        (lambda t: t.assign(label=0), "'unseen' differs in hash, label"),
        (lambda t: t.assign(split="forget"), r"splits \['unseen'\], reference \['forget'\]"),
        (lambda t: t.drop(columns="hash"), r"lacks the columns \['hash'\]"),
    ],
)
@pytest.mark.parametrize("test", [mcnemar, lambda a, b: paired_bootstrap(a, b, generator=rng())])
def test_paired_tests_refuse_other_clips(test, change, message):
    clips = simulate(rng())
    with pytest.raises(ParameterError, match=message):
        test(clips, change(clips))


def test_paired_tests_take_the_clips_in_any_order():
    a, b = simulate(rng()), other_model(simulate(rng()), rng(9), share=0.2)
    shuffled = b.sample(frac=1, random_state=3)
    assert mcnemar(a, shuffled) == mcnemar(a, b) < 1
    mixed, usual = (paired_bootstrap(a, x, generator=rng()) for x in (shuffled, b))
    assert mixed == pytest.approx(usual, abs=1e-12) and usual.value != 0


def test_paired_refuses_other_speakers_and_other_numbers_of_pairs():
    clips = simulate(rng())
    with pytest.raises(ParameterError, match="differs in hash, label, speaker"):
        paired_bootstrap(clips, clips.assign(speaker="x"), generator=rng())
    with pytest.raises(ParameterError, match="a has 2 tables and b has 1"):
        paired_bootstrap([clips, clips], [clips], generator=rng())


# mcnemar


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_agrees_with_the_binomial_law(seed):
    a = simulate(rng(seed))
    b = other_model(other_model(a, rng(seed + 10), share=0.1), rng(seed + 20), 0.1, right=False)
    right_a, right_b = a["label"] == a["prediction"], b["label"] == b["prediction"]
    alone = (right_a & ~right_b).sum(), (right_b & ~right_a).sum()
    assert min(alone) > 0
    expected = min(1, 2 * stats.binom.cdf(min(alone), sum(alone), 0.5))
    assert mcnemar(a, b) == pytest.approx(expected, abs=1e-12) == mcnemar(b, a)


def test_mcnemar_by_hand():
    a = simulate(rng()).head(6).assign(prediction=lambda t: t["label"])
    assert mcnemar(a, a) == 1.0
    # 2 * 0.5**6
    assert mcnemar(a, a.assign(prediction=a["label"] + 1)) == pytest.approx(0.03125, abs=1e-15)


# z-test


@pytest.mark.parametrize(("a", "b", "n"), [(0.9, 0.8, 100), (0.6, 2 / 3, 50), (1.0, 0.3, 20)])
def test_uar_z_test_by_the_formula(a, b, n):
    pooled = (a + b) / 2
    z = (a - b) / np.sqrt(2 * pooled * (1 - pooled) / n)
    assert uar_z_test(a, b, n) == pytest.approx((z, stats.norm.sf(z)), abs=1e-12)
    assert uar_z_test(b, a, n) == pytest.approx((-z, stats.norm.cdf(z)), abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_equal_uars_are_no_evidence_with_or_without_variance(value):
    assert uar_z_test(value, value, 10) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("adversarial", "random_labels", "n_clips"),
    [
        (0.855, 0.746, 3024),
        (0.856, 0.634, 3317),
        (0.796, 0.440, 3024),
        (0.747, 0.506, 3317),
        (0.739, 0.546, 3024),
        (0.727, 0.519, 3317),
        (0.429, 0.276, 3024),
    ],
)
def test_uar_z_test_marks_what_the_paper_marks(adversarial, random_labels, n_clips):
    """The starred entries of Table 1 of Ren et al. 2025 (p < 0.001), and not their reverse."""
    assert uar_z_test(adversarial, random_labels, n_clips).p_value < 0.001
    assert uar_z_test(random_labels, adversarial, n_clips).p_value > 0.999


def test_uar_z_test_leaves_unmarked_what_the_paper_leaves_unmarked():
    """Test UAR for N = 100: both proposed methods are below Ran. Lab. there."""
    assert uar_z_test(0.384, 0.482, 3317).p_value > 0.5
    assert uar_z_test(0.331, 0.482, 3317).p_value > 0.5


def test_uar_z_test_refuses_percent():
    with pytest.raises(ParameterError, match=r"uar_b must be in \[0, 1\], got 74.6"):
        uar_z_test(0.855, 74.6, 3024)
    with pytest.raises(ParameterError, match="n must be at least 1, got 0"):
        uar_z_test(0.5, 0.4, 0)
