"""Membership attacks: cases by hand, calibration on scores whose law is known, independent code."""

import itertools
import math
import tracemalloc

import audmetric
import numpy as np
import pandas as pd
import pytest
from scipy.special import logit, softmax
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score, roc_curve

from speechunlearn.audit.membership import (
    Scores,
    auc,
    eer,
    features,
    hold_apart,
    likelihood_ratio,
    logit_confidence,
    loss_membership_attack,
    match,
    performance,
    regression_attack,
    svc_attack,
    to_retrained,
    tpr_at_fpr,
)
from speechunlearn.errors import ParameterError


def gaussian_auc(distance):
    """AUC of two normal scores with one variance, so many standard deviations apart."""
    return norm.cdf(distance / math.sqrt(2))


def tied_scores(seed, n_members=40, n_nonmembers=60):
    generator = np.random.default_rng(seed)
    return Scores(
        generator.normal(0.7, 1, n_members).round(1), generator.normal(0, 1, n_nonmembers).round(1)
    )


def called_members(scores):
    """Share of the members with a score above 0, where the attacks decide."""
    return float((scores.members > 0).mean())


def both(scores):
    """Truth and score of all clips, as scikit-learn takes them."""
    truth = np.repeat([1, 0], [len(scores.members), len(scores.nonmembers)])
    return truth, np.concatenate(scores)


# Features


@pytest.mark.parametrize("seed", range(3))
def test_features_are_what_their_definitions_say(seed):
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(0, 2, (30, 4)), generator.integers(0, 4, 30)
    found = features(logits, labels)
    for i, (p, y) in enumerate(zip(softmax(logits, axis=1), labels, strict=True)):
        others = [p[k] * math.log(1 - p[k]) for k in range(4) if k != y]
        expected = {
            "loss": -math.log(p[y]),
            "confidence": p[y],
            "entropy": -sum(p * np.log(p)),
            "modified_entropy": -(1 - p[y]) * math.log(p[y]) - sum(others),
            "correct": p[y] == max(p),
        }
        assert dict(found.iloc[i]) == pytest.approx(expected, abs=1e-12)
    expected = logit(softmax(logits, axis=1)[np.arange(30), labels])
    assert logit_confidence(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_modified_entropy_tells_certain_and_right_from_certain_and_wrong():
    logits = np.array([[800.0, 0.0], [800.0, 0.0], [0.0, 0.0]])
    found = features(logits, np.array([0, 1, 0]))
    assert found["entropy"].tolist() == pytest.approx([0, 0, math.log(2)])
    # wrong: -1 * log p_y - 1 * log(1 - p_other) = 800 + 800
    assert found["modified_entropy"].tolist() == pytest.approx([0, 1600, math.log(2)])
    assert found["loss"].tolist() == pytest.approx([0, 800, math.log(2)])
    assert found["correct"].tolist() == [True, False, True]
    assert logit_confidence(logits, np.array([0, 1, 0])).tolist() == [800, -800, 0]


def test_features_do_not_depend_on_a_shift_of_the_logits():
    logits, labels = np.random.default_rng(0).normal(0, 2, (10, 3)), np.arange(10) % 3
    moved = features(logits + 1000, labels)
    pd.testing.assert_frame_equal(features(logits, labels), moved, atol=1e-9)


@pytest.mark.parametrize("read", [features, logit_confidence])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.empty((0, 2)), np.empty(0, int), r"shape \(0, 2\)"),
        (np.ones((2, 1)), np.zeros(2, int), r"2 or more columns of each, got the shape \(2, 1\)"),
        (np.array([[0.0, np.inf]]), np.zeros(1, int), "finite, got inf"),
        (np.ones((2, 2)), np.zeros(3, int), "there are 2 clips"),
        (np.ones((2, 2)), np.array([0, 2]), "from 0 to 1, got 2"),
        (np.ones((2, 2)), np.array([0, -1]), "from 0 to 1, got -1"),
    ],
)
def test_features_refuse(read, logits, labels, message):
    with pytest.raises(ParameterError, match=message):
        read(logits, labels)


# The loss


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
def test_auc_of_the_loss_by_hand(members, nonmembers, expected):
    assert auc(loss_membership_attack(members, nonmembers)) == expected


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_mann_whitneys_u_and_only_the_order_counts(seed):
    members, nonmembers = (np.exp(-side) for side in tied_scores(seed))
    area = auc(loss_membership_attack(members, nonmembers))
    assert area == pytest.approx(mannwhitneyu(nonmembers, members).statistic / 2400, abs=1e-12)
    assert auc(loss_membership_attack(nonmembers, members)) == pytest.approx(1 - area, abs=1e-12)
    assert auc(loss_membership_attack(members[::-1] ** 2, np.sort(nonmembers) ** 2)) == area != 0.5


# Regression


@pytest.mark.parametrize("sign", [1, -1])
def test_regression_reaches_the_closed_form_whichever_side_is_lower(sign):
    generator = np.random.default_rng(0)
    members, nonmembers = sign * generator.normal(0, 1, 1500), sign * generator.normal(1, 1, 1500)
    scores = regression_attack(members, nonmembers)
    assert auc(scores) == pytest.approx(gaussian_auc(1), abs=0.03)
    # the threshold is half-way
    assert called_members(scores) == pytest.approx(norm.cdf(0.5), abs=0.04)


def test_regression_is_not_tilted_by_the_larger_side():
    generator = np.random.default_rng(1)
    scores = regression_attack(generator.normal(0, 1, 100), generator.normal(2, 1, 1500))
    assert called_members(scores) == pytest.approx(norm.cdf(1), abs=0.1)
    assert (scores.nonmembers > 0).mean() == pytest.approx(norm.cdf(-1), abs=0.05)


def test_regression_scores_are_out_of_fold():
    generator = np.random.default_rng(2)
    noise = generator.normal(0, 1, (80, 40))  # enough to tell any 80 clips apart by heart
    assert 0.3 < auc(regression_attack(noise[:40], noise[40:])) < 0.7


def test_regression_repeats_itself():
    losses = np.random.default_rng(3).exponential(1, (2, 40))
    first, again = (regression_attack(*losses, seed=7) for _ in range(2))
    assert np.array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.array_equal(first.members, regression_attack(*losses, seed=8).members)


@pytest.mark.parametrize(
    ("members", "nonmembers", "options", "message"),
    [
        ([], [1.0, 2.0], {}, "members must hold clips"),
        ([1.0, 2.0], [1.0, math.inf], {}, "nonmembers must be finite, got inf"),
        ([1.0, 2.0], np.ones((2, 2)), {}, "the same features, got {'members': 1, 'nonmembers': 2}"),
        ([1.0, 2.0], [1.0, 2.0], {"n_folds": 3}, "n_folds .* got 3"),
        ([1.0, 2.0], [1.0, 2.0], {"n_folds": 1}, "n_folds .* got 1"),
    ],
)
def test_regression_refuses(members, nonmembers, options, message):
    with pytest.raises(ParameterError, match=message):
        regression_attack(members, nonmembers, **options)


# Support vectors


def test_support_vectors_call_a_forget_set_by_what_it_is_like():
    generator = np.random.default_rng(0)
    retain, heldout = generator.normal(0, 1, 600), generator.normal(2, 1, 150)
    unseen = generator.normal(2, 1, 300)
    remembered = svc_attack(retain, heldout, generator.normal(0, 1, 300), unseen)
    assert called_members(remembered) == pytest.approx(norm.cdf(1), abs=0.08)
    assert auc(remembered) == pytest.approx(gaussian_auc(2), abs=0.05)
    forgotten = svc_attack(retain, heldout, generator.normal(2, 1, 300), unseen)
    assert called_members(forgotten) == pytest.approx(norm.cdf(-1), abs=0.08)
    assert auc(forgotten) == pytest.approx(0.5, abs=0.08)
    assert (remembered.nonmembers > 0).mean() == pytest.approx(norm.cdf(-1), abs=0.08)


def test_support_vectors_take_several_features_and_correctness():
    generator = np.random.default_rng(1)
    right, wrong = generator.random(80) < 0.95, generator.random(80) < 0.3
    scores = svc_attack(right[:40], wrong[:40], right[40:], wrong[40:])
    share = right[40:].mean()  # the only feature there is decides
    assert called_members(scores) == share
    table = pd.DataFrame({"correct": right, "entropy": generator.random(80)})
    again = svc_attack(table[:40], table[40:], table[:5], table[5:9])
    assert (len(again.members), len(again.nonmembers)) == (5, 4)


def test_support_vectors_refuse():
    with pytest.raises(ParameterError, match="heldout must hold clips"):
        svc_attack([1.0], [], [1.0], [1.0])
    with pytest.raises(ParameterError, match="forget must be finite, got nan"):
        svc_attack([1.0], [2.0], [math.nan], [1.0])


def test_half_of_the_speakers_are_held_apart():
    groups = np.repeat(list("abcdefg"), [5, 1, 2, 3, 1, 1, 4])
    draws = [hold_apart(groups, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    for apart in draws:
        assert set(groups[apart]).isdisjoint(groups[~apart])
        assert len(set(groups[apart])) == 3
    assert np.array_equal(draws[0], draws[1])
    assert len({draw.tobytes() for draw in draws}) > 1
    with pytest.raises(ParameterError, match=r"groups must hold two or more, got \['a'\]"):
        hold_apart(["a", "a"], np.random.default_rng(0))


# Matching


def random_clips(generator, n):
    return pd.DataFrame(
        {
            "label": generator.integers(0, 2, n),
            "speaker": generator.choice(list("abc"), n),
            "seconds": generator.uniform(0.5, 3, n),
        }
    )


@pytest.mark.parametrize(("n", "m"), [(4, 5), (5, 4), (5, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_pairing_is_better(n, m, seed):
    generator = np.random.default_rng(seed)
    members, others = random_clips(generator, n), random_clips(generator, m)

    def quality(pairs):
        a, b = (
            table.iloc[list(side)].reset_index(drop=True)
            for table, side in zip((members, others), zip(*pairs, strict=True), strict=True)
        )
        return (
            -(a["label"] == b["label"]).sum(),
            -(a["speaker"] == b["speaker"]).sum(),
            (a["seconds"] - b["seconds"]).abs().sum(),
        )

    if n <= m:
        every = (list(enumerate(p)) for p in itertools.permutations(range(m), n))
    else:
        every = ([(i, j) for j, i in enumerate(p)] for p in itertools.permutations(range(n), m))
    best = min(quality(pairs) for pairs in every)
    found = match(members, others)
    assert quality(list(zip(found.members, found.nonmembers, strict=True))) == pytest.approx(best)
    k = min(n, m)
    assert len(set(found.members)) == len(set(found.nonmembers)) == k
    agreement = {"label": -best[0] / k, "speaker": -best[1] / k}
    assert found.imbalance.agreement == pytest.approx(agreement)
    assert (found.imbalance.n_pairs, found.imbalance.n_unmatched) == (k, n - k)


def test_imbalance_by_hand():
    members = pd.DataFrame({"seconds": [1.0, 3.0]})
    others = pd.DataFrame({"seconds": [2.0, 10.0, 5.0]})
    found = match(members, others, exact=[])
    assert found.nonmembers.tolist() == [0, 2]
    # -1 and -2; variances 1 and 98 / 9
    assert found.imbalance.mean_difference == -1.5
    assert found.imbalance.standardised == pytest.approx(-1.5 / math.sqrt((1 + 98 / 9) / 2))
    assert found.imbalance.agreement == {}
    same = match(members[:1], members[:1], exact=[])
    assert same.imbalance[2:4] == (0.0, 0.0)


def test_matched_clips_leave_nothing_to_an_attack_on_the_duration():
    generator = np.random.default_rng(0)
    members = pd.DataFrame({"label": 0, "seconds": generator.normal(1.0, 0.3, 150)})
    others = pd.DataFrame({"label": 0, "seconds": generator.normal(1.3, 0.3, 900)})
    # the loss depends on the duration alone, so that nobody is a member
    scores = Scores(-members["seconds"].to_numpy(), -others["seconds"].to_numpy())
    assert auc(scores) == pytest.approx(gaussian_auc(1), abs=0.05)
    found = match(members, others, exact=["label"])
    assert auc(found.apply(scores)) == pytest.approx(0.5, abs=0.02)
    assert abs(found.imbalance.standardised) < 0.1
    assert found.apply(scores).members.tolist() == scores.members[found.members].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[:0], "nonmembers has no rows"),
        (lambda table: table.drop(columns="speaker"), "nonmembers lacks the columns .*speaker"),
        (lambda table: table.assign(seconds=np.nan), "missing values in column 'seconds'"),
    ],
)
def test_match_refuses(change, message):
    table = random_clips(np.random.default_rng(0), 4)
    with pytest.raises(ParameterError, match=message):
        match(table, change(table))
    wide = pd.concat([table] * 3).assign(**{f"c{i}": 0 for i in range(12)})
    with pytest.raises(ParameterError, match="exact: 12 columns are too many for 12 pairs"):
        match(wide, wide, exact=[f"c{i}" for i in range(12)])


# Likelihood ratio


def shadows(generator, n_clips, n_shadows, hardness=3.0, gain=1.0):
    """Confidences of clips that differ in hardness; half of the shadow models hold a clip."""
    inside = np.zeros((n_shadows, n_clips), bool)
    inside[: n_shadows // 2] = True
    inside = generator.permuted(inside, axis=0)
    hard = generator.normal(0, hardness, n_clips)
    return hard + gain * inside + generator.normal(0, 1, inside.shape), inside, hard


def test_likelihood_ratio_by_hand():
    generator = np.random.default_rng(0)
    confidences, inside, _ = shadows(generator, 6, 10)
    inside[0, 0] = not inside[0, 0]  # unequal numbers of shadow models
    target = generator.normal(0, 1, 6)

    def side(mask, clip):
        return confidences[mask[:, clip], clip]

    def pooled(mask):
        parts = [side(mask, clip) for clip in range(6)]
        return sum(((x - x.mean()) ** 2).sum() for x in parts) / sum(len(x) - 1 for x in parts)

    for prior in (0.0, 8.0, math.inf):
        found = likelihood_ratio(confidences, inside, target, prior=prior)
        for clip in range(6):
            log_density = []
            for mask in (inside, ~inside):
                x = side(mask, clip)
                weight = 1.0 if math.isinf(prior) else prior / (prior + len(x) - 1)
                own = x.var(ddof=1)
                variance = weight * pooled(mask) + (1 - weight) * own
                log_density.append(
                    -0.5 * math.log(2 * math.pi * variance)
                    - (target[clip] - x.mean()) ** 2 / (2 * variance)
                )
            assert found[clip] == pytest.approx(log_density[0] - log_density[1], abs=1e-9)


def test_likelihood_ratio_knows_how_hard_a_clip_is():
    generator = np.random.default_rng(1)
    confidences, inside, hard = shadows(generator, 3000, 64)
    member = generator.random(3000) < 0.5
    target = hard + member + generator.normal(0, 1, 3000)
    plain = auc(Scores(target[member], target[~member]))
    assert plain == pytest.approx(gaussian_auc(1 / math.sqrt(10)), abs=0.03)
    ratio = likelihood_ratio(confidences, inside, target)
    scores = Scores(ratio[member], ratio[~member])
    assert auc(scores) == pytest.approx(gaussian_auc(1), abs=0.03)
    assert called_members(scores) == pytest.approx(norm.cdf(0.5), abs=0.04)
    # a model that saw none of them
    ratio = likelihood_ratio(confidences, inside, hard + generator.normal(0, 1, 3000))
    assert auc(Scores(ratio[member], ratio[~member])) == pytest.approx(0.5, abs=0.03)


def test_few_shadow_models_need_a_shared_variance():
    generator = np.random.default_rng(2)
    confidences, inside, hard = shadows(generator, 2000, 4)
    member = generator.random(2000) < 0.5
    target = hard + member + generator.normal(0, 1, 2000)
    areas = {}
    for prior in (0.0, 32.0, math.inf):
        ratio = likelihood_ratio(confidences, inside, target, prior=prior)
        areas[prior] = auc(Scores(ratio[member], ratio[~member]))
    assert areas[32.0] > areas[0.0] + 0.03
    assert areas[math.inf] == pytest.approx(areas[32.0], abs=0.02)


def test_likelihood_ratio_takes_no_side():
    confidences, inside, hard = shadows(np.random.default_rng(3), 20, 8)
    ratio = likelihood_ratio(confidences, inside, hard)
    assert likelihood_ratio(confidences, ~inside, hard) == pytest.approx(-ratio, abs=1e-12)
    moved = likelihood_ratio(5 * confidences + 2, inside, 5 * hard + 2)
    assert moved == pytest.approx(ratio, abs=1e-9)
    order = np.random.default_rng(4).permutation(8)
    assert likelihood_ratio(confidences[order], inside[order], hard) == pytest.approx(ratio)


def good_shadows():
    return {
        "confidences": np.array([[2.0, 1.0], [4.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]),
        "inside": np.array([[True, True], [True, True], [False, False], [False, False]]),
        "target": np.array([0.0, 1.0]),
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"confidences": np.empty((0, 2))}, r"shape \(0, 2\)"),
        ({"inside": np.ones((4, 3), bool)}, r"inside \(4, 3\) and target \(2,\) must fit"),
        ({"target": np.zeros(3)}, r"target \(3,\) must fit"),
        ({"target": np.array([0.0, np.nan])}, "target must be finite, got nan"),
        ({"prior": -1.0}, "prior must be 0 or more, got -1.0"),
        ({"prior": math.nan}, "prior must be 0 or more, got nan"),
        ({"inside": np.ones((4, 2), bool)}, "clip 0 has 0 shadow models out, needs 1"),
        (
            {"inside": np.array([[1, 1], [1, 0], [0, 0], [0, 0]], bool), "prior": 0.0},
            "clip 1 has 1 shadow models in, needs 2",
        ),
        (
            {"inside": np.array([[1, 1], [0, 0], [0, 0], [0, 0]], bool)},
            "no clip has two shadow models in",
        ),
        (
            {"confidences": np.array([[2.0, 1], [4, 1], [-1, 0], [1, 1]]), "prior": 0.0},
            "the shadow models in agree on clip 1, its variance is 0",
        ),
    ],
)
def test_likelihood_ratio_refuses(changed, message):
    with pytest.raises(ParameterError, match=message):
        likelihood_ratio(**good_shadows() | changed)


# Figures


@pytest.mark.parametrize("seed", range(10))
def test_figures_agree_with_scikit_learn_and_audmetric(seed):
    scores = tied_scores(seed, n_members=40 + seed, n_nonmembers=150)
    truth, score = both(scores)
    assert np.intersect1d(*scores).size > 0
    assert auc(scores) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert eer(scores) == pytest.approx(audmetric.equal_error_rate(truth, score)[0], abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    for allowed in (0.0, 0.01, 0.1, 1.0):
        found = tpr_at_fpr(scores, allowed)
        assert found.tpr == pytest.approx(tpr[fpr <= allowed].max(), abs=1e-12)
        assert found.fpr == pytest.approx(fpr[fpr <= allowed].max(), abs=1e-12)


@pytest.mark.parametrize(
    ("members", "nonmembers", "area", "equal_error", "hits"),
    [
        ([3.0, 4.0], [1.0, 2.0], 1.0, 0.0, (1.0, 0.0)),
        ([1.0, 2.0], [3.0, 4.0], 0.0, 1.0, (0.0, 0.0)),
        ([1.0, 1.0], [1.0], 0.5, 0.5, (0.0, 0.0)),
        ([1.0, 3.0], [2.0, 0.0], 0.75, 0.5, (0.5, 0.0)),
        ([math.inf, 0.0], [1.0], 0.5, 0.25, (0.5, 0.0)),
    ],
)
def test_figures_by_hand(members, nonmembers, area, equal_error, hits):
    scores = Scores(np.array(members), np.array(nonmembers))
    assert auc(scores) == area
    assert eer(scores) == equal_error
    assert tpr_at_fpr(scores) == hits


def test_few_nonmembers_allow_no_false_alarm_and_many_allow_some():
    members = np.arange(0.0, 200) + 0.5
    # 99 non-members: none may be accused; 100: one may, of 199: still one
    for n, fpr in ((99, 0.0), (100, 0.01), (199, 1 / 199), (200, 0.01)):
        found = tpr_at_fpr(Scores(members, np.arange(200.0 - n, 200)))
        assert found.fpr == pytest.approx(fpr, abs=1e-12)
        # non-members end at 199: one member is above it, two above the next
        assert found.tpr == pytest.approx((1 + round(fpr * n)) / 200, abs=1e-12)


def test_equal_error_rate_of_two_gaussians():
    generator = np.random.default_rng(0)
    scores = Scores(generator.normal(2, 1, 4000), generator.normal(0, 1, 3000))
    assert eer(scores) == pytest.approx(norm.cdf(-1), abs=0.02)
    assert auc(scores) == pytest.approx(gaussian_auc(2), abs=0.02)
    assert tpr_at_fpr(scores).tpr == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=0.06)


@pytest.mark.parametrize("shared", [False, True])
def test_each_resample_is_the_figure_of_the_clips_drawn(shared):
    scores = tied_scores(1, n_members=40, n_nonmembers=45)
    ours, others = [i % 17 for i in range(40)], [i % 18 + 20 * (not shared) for i in range(45)]
    found = performance(
        scores, (ours, others), max_fpr=0.1, n_resamples=100, generator=np.random.default_rng(5)
    )
    generator = np.random.default_rng(5)
    n = (18,) if shared else (17, 18)
    drawn = [generator.multinomial(k, np.full(k, 1 / k), size=100) for k in n]
    # shared: speaker 17 has no member
    times = drawn[0][:, np.arange(40) % 17], drawn[-1][:, np.arange(45) % 18]
    resamples = [
        Scores(*(np.repeat(x, n.astype(int)) for x, n in zip(scores, pair, strict=True)))
        for pair in zip(*times, strict=True)
        if min(n.sum() for n in pair) > 0
    ]
    for interval, figure in (
        (found.auc, auc), (found.eer, eer), (found.tpr, lambda x: tpr_at_fpr(x, 0.1).tpr)
    ):  # fmt: skip
        expected = np.quantile([figure(resample) for resample in resamples], [0.025, 0.975])
        assert interval.value == pytest.approx(figure(scores), abs=1e-12)
        assert interval[1:] == pytest.approx(expected, abs=1e-12)
    assert found.fpr == tpr_at_fpr(scores, 0.1).fpr
    assert (found.n_members, found.n_nonmembers) == (40, 45)


def test_pairs_are_drawn_together():
    generator = np.random.default_rng(6)
    hardness = generator.normal(0, 10, 50)  # of a pair, both of whose clips are alike
    scores = Scores(hardness + 0.01, hardness)
    pairs = range(50)
    together = performance(scores, (pairs, pairs), generator=np.random.default_rng(0)).auc
    apart = performance(scores, (pairs, range(50, 100)), generator=np.random.default_rng(0)).auc
    assert together.high - together.low < 0.1 * (apart.high - apart.low)


def test_members_and_nonmembers_drawn_alike_are_covered():
    generator = np.random.default_rng(7)
    covered = []
    for _ in range(60):
        speakers = generator.normal(0, 0.5, 24)
        score = np.repeat(speakers, 5) + generator.normal(0, 1, 120)
        scores = Scores(score[:60], score[60:])
        groups = np.repeat(np.arange(24), 5)
        found = performance(
            scores, (groups[:60], groups[60:]), n_resamples=200, generator=generator
        )
        covered.append(found.auc.low <= 0.5 <= found.auc.high)
    # 95 % but for the few speakers; .8 is four standard errors below
    assert np.mean(covered) >= 0.8


def test_an_attack_without_anything_to_find_covers_chance():
    generator = np.random.default_rng(8)
    losses = generator.exponential(1.0, (2, 150))
    for scores in (
        regression_attack(*losses),
        svc_attack(losses[0, :75], losses[1, :75], losses[0, 75:], losses[1, 75:]),
    ):
        clips = np.arange(len(scores.members)), -1 - np.arange(len(scores.nonmembers))
        found = performance(scores, clips, generator=generator)
        assert found.auc.low <= 0.5 <= found.auc.high
        assert found.eer.low <= 0.5 <= found.eer.high


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (Scores(np.empty(0), np.ones(2)), {}, r"scores.members is empty"),
        (Scores(np.ones(2), np.array([1.0, np.nan])), {}, "scores.nonmembers holds 1 NaN of 2"),
        (Scores(np.ones(2), np.ones(2)), {"max_fpr": 1.5}, "max_fpr must be .* got 1.5"),
        (Scores(np.ones(3), np.ones(2)), {}, "groups: 2 and 2, but there are 3 members and 2"),
        (Scores(np.ones(2), np.ones(2)), {"n_resamples": 10}, "n_resamples .* got 10"),
        (Scores(np.ones(2), np.ones(2)), {"level": 1.0}, "level must be .* got 1.0"),
    ],
)
def test_figures_refuse(scores, options, message):
    with pytest.raises(ParameterError, match=message):
        performance(scores, ("ab", "cd"), generator=np.random.default_rng(0), **options)


@pytest.mark.parametrize("figure", [auc, eer, tpr_at_fpr])
def test_a_figure_refuses_an_empty_side(figure):
    with pytest.raises(ParameterError, match="scores.nonmembers is empty"):
        figure(Scores(np.ones(2), np.empty(0)))


def test_distance_to_retrained_by_hand():
    found = to_retrained(0.7, [0.4, 0.5, 0.8])
    assert found.distance == pytest.approx((0.3 + 0.2 + 0.1) / 3, abs=1e-12)
    assert found.spread == pytest.approx((0.1 + 0.4 + 0.3) / 3, abs=1e-12)
    # far below leaks as far above does
    below, above = (to_retrained(value, [0.45, 0.55]) for value in (0.1, 0.9))
    assert below.distance == pytest.approx(above.distance, abs=1e-12)
    assert to_retrained(0.5, [0.5, 0.5]) == (0.0, 0.0)


def test_distance_to_retrained_refuses():
    with pytest.raises(ParameterError, match=r"retrained: 1 figure\(s\)"):
        to_retrained(0.5, [0.5])
    with pytest.raises(ParameterError, match="retrained must be finite, got nan"):
        to_retrained(0.5, [0.5, math.nan])
    with pytest.raises(ParameterError, match="value must be finite, got inf"):
        to_retrained(math.inf, [0.5, 0.5])


def test_the_memory_of_intervals_is_less_than_the_clips_own():
    """A clip of half a second holds 32,000 bytes; its share of the resamples, less."""
    generator, peaks = np.random.default_rng(0), []
    for n in (200, 800):
        scores = Scores(generator.normal(size=n), generator.normal(size=n))
        tracemalloc.start()
        performance(scores, (range(n), range(n, 2 * n)), generator=generator)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / (2 * 800 - 2 * 200) < 32_000
