"""Closeness to a retrained model: cases by hand, limits, invariants, agreement with scipy."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import confusion_matrix

from speechunlearn.audit.closeness import (
    Anamnesis,
    Confusion,
    activation_distance,
    anamnesis,
    gum,
    gum_bounded,
    interclass_confusion,
    loss_emd,
    loss_ks,
    relearn_time,
    tow,
    tow_mia,
    zrf,
)
from speechunlearn.errors import ParameterError


def distributions(seed, n_clips=20, n_classes=5):
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.3), n_clips)


# Tug of war


@pytest.mark.parametrize(("score", "first"), [(tow, "forget"), (tow_mia, "mia")])
def test_tug_of_war_is_a_product_of_three(score, first):
    retrained = {first: 0.5, "retain": 0.9, "unseen": 0.6}
    assert score(retrained, retrained) == 1.0
    # each set counts, above and below the retrained model alike
    for name in retrained:
        for change in (0.1, -0.1):
            moved = retrained | {name: retrained[name] + change}
            assert score(moved, retrained) == pytest.approx(0.9, abs=1e-12)
    all_moved = {first: 1.0, "retain": 0.7, "unseen": 0.2}
    assert score(all_moved, retrained) == pytest.approx(0.5 * 0.8 * 0.6, abs=1e-12)
    assert score(retrained, all_moved) == score(all_moved, retrained)
    none = {first: 0.0, "retain": 0.7, "unseen": 0.2}
    assert score(none, none | {first: 1.0}) == 0.0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"forget": 0.5, "retain": 0.5}, r"scores must have \['forget', 'retain', 'unseen'\]"),
        ({"mia": 0.5, "retain": 0.5, "unseen": 0.5}, "scores must have"),
        ({"forget": 1.5, "retain": 0.5, "unseen": 0.5}, r"scores\['forget'\] must be .* got 1.5"),
        ({"forget": 0.5, "retain": math.nan, "unseen": 0.5}, r"scores\['retain'\] .* got nan"),
    ],
)
def test_tug_of_war_refuses(scores, message):
    good = {"forget": 0.5, "retain": 0.5, "unseen": 0.5}
    with pytest.raises(ParameterError, match=message):
        tow(scores, good)
    with pytest.raises(ParameterError, match=message.replace("scores", "retrained")):
        tow(good, scores)


# Global unlearning metric


def settings(**changed):
    return {
        "mia_original": 0.9, "mia_unlearned": 0.6, "mia_retrained": 0.5, "score_unlearned": 0.7,
        "score_retrained": 0.8, "seconds_unlearned": 9.0, "seconds_retrained": 99.0,
    } | changed  # fmt: skip


def test_gum_by_hand():
    found = gum(**settings())
    # E = 1 - (.1 / .4)^2, U = 1 - .1, T = 1 - ln 10 / ln 100
    assert found[1:] == pytest.approx((0.9, 0.9375, 0.5), abs=1e-12)
    e, u, t = 0.9375, 0.9, 0.5
    assert found.value == pytest.approx(3 * u * e * t / (e * t + u * t + u * e + 1e-6), abs=1e-15)
    weighted = gum(**settings(a=2.0, b=5.0)).value
    assert weighted == pytest.approx(
        8 * u * e * t / (2 * e * t + 5 * u * t + u * e + 1e-6), abs=1e-15
    )
    assert gum_bounded(**settings(), a=2.0, b=5.0, resolution=0.1).value == pytest.approx(
        8 / (2 / u + 5 / e + 1 / t), abs=1e-15
    )


@pytest.mark.parametrize(
    ("original", "unlearned", "retrained", "efficacy"),
    [
        (0.9, 0.5, 0.5, 1.0),
        (0.9, 0.9, 0.5, 0.0),  # nothing was done
        (0.9, 1.0, 0.5, 0.0),  # above the original
        (0.9, 0.3, 0.5, 0.75),  # forgot too much: the parabola has two sides
        (0.6, 0.2, 0.5, 0.0),  # further below than the original is above: the midpoint is taken
        (0.4, 0.3, 0.5, 0.0),  # an original below the retrained: 0 whatever was done
        (0.4, 0.39, 0.5, 0.0),
        (0.4, 0.5, 0.45, math.nan),  # and 0 / 0 where the unlearned lies above it
    ],
)
def test_efficacy_as_published(original, unlearned, retrained, efficacy):
    found = gum(
        **settings(mia_original=original, mia_unlearned=unlearned, mia_retrained=retrained)
    )
    assert found.efficacy == pytest.approx(efficacy, abs=1e-9, nan_ok=True)


def test_what_is_wrong_with_gum_as_published_and_is_not_with_the_bounded_form():
    near = 0.5 + 1e-9  # an original that memorised next to nothing
    for unlearned, published, bounded in ((0.5, 1.0, 1.0), (near, 0.0, 1.0)):
        scores = settings(mia_original=near, mia_unlearned=unlearned)
        assert gum(**scores).efficacy == pytest.approx(published, abs=1e-6)
        assert gum_bounded(**scores, resolution=0.05).efficacy == pytest.approx(bounded, abs=1e-9)
    equal = settings(mia_original=0.5, mia_unlearned=0.5)
    assert math.isnan(gum(**equal).efficacy) and math.isnan(gum(**equal).value)
    assert gum_bounded(**equal, resolution=0.05).efficacy == 1.0
    # 100 ** 1.9 s where retraining takes 99 s: T = -.9, and the mean exceeds 1
    slow = settings(
        mia_unlearned=0.5, score_unlearned=0.8, seconds_unlearned=100**1.9 - 1
    )
    assert gum(**slow).time == pytest.approx(-0.9, abs=1e-12)
    assert gum(**slow).value == pytest.approx(3 * 0.9 / 0.8, abs=1e-4)
    assert gum_bounded(**slow, resolution=0.05)[0::3] == (0.0, 0.0)


def random_settings(generator):
    names = ("mia_original", "mia_unlearned", "mia_retrained", "score_unlearned", "score_retrained")
    scores = {name: float(value) for name, value in zip(names, generator.random(5), strict=True)}
    return scores | {
        "seconds_unlearned": float(generator.exponential(100)),
        "seconds_retrained": float(generator.exponential(100)),
    }


def test_bounded_gum_is_the_published_one_where_that_is_sound():
    generator = np.random.default_rng(0)
    compared = 0
    while compared < 100:
        scores = random_settings(generator)
        gap = scores["mia_original"] - scores["mia_retrained"]
        if gap < 0.1 or scores["seconds_unlearned"] > scores["seconds_retrained"]:
            continue
        published, bounded = gum(**scores), gum_bounded(**scores, resolution=0.1)
        assert bounded[1:] == pytest.approx(published[1:], abs=1e-9)
        if bounded.value > 0.01:
            assert bounded.value == pytest.approx(published.value, rel=1e-3)
        compared += 1


def test_bounded_gum_is_bounded_between_its_parts_and_blind_to_the_sign():
    generator = np.random.default_rng(1)
    for _ in range(200):
        scores = random_settings(generator)
        found = gum_bounded(**scores, resolution=0.05)
        assert all(0 <= part <= 1 for part in found)
        if found.value > 0:
            assert min(found[1:]) - 1e-12 <= found.value <= max(found[1:]) + 1e-12
        mirrored = {
            name: 1 - value if name.startswith("mia") else value for name, value in scores.items()
        }
        assert gum_bounded(**mirrored, resolution=0.05) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "steepest"), [("mia_unlearned", 2), ("mia_original", 2), ("mia_retrained", 4)]
)
def test_bounded_efficacy_moves_no_faster_than_the_resolution_allows(name, steepest):
    generator = np.random.default_rng(2)
    resolution, step = 0.05, 1e-4
    moves = []
    for _ in range(300):
        scores = random_settings(generator)
        # near one another, where the published form breaks
        for key in ("mia_original", "mia_unlearned"):
            offset = generator.uniform(-0.1, 0.1)
            scores[key] = float(np.clip(scores["mia_retrained"] + offset, 0, 1))
        scores[name] = min(scores[name], 1 - step)
        here = gum_bounded(**scores, resolution=resolution).efficacy
        there = gum_bounded(
            **scores | {name: scores[name] + step}, resolution=resolution
        ).efficacy
        moves.append(abs(here - there))
    assert 0 < max(moves) <= steepest * step / resolution + 1e-6


def test_bounded_gum_at_its_limits():
    nothing_done = settings(mia_unlearned=0.9, score_unlearned=0.8)
    assert gum_bounded(**nothing_done, resolution=0.05).efficacy == 0.0
    # within the resolution the original itself is not told from the retrained: 1 - (.01 / .05)^2
    within = settings(mia_original=0.51, mia_unlearned=0.51)
    assert gum_bounded(**within, resolution=0.05).efficacy == pytest.approx(0.96, abs=1e-12)
    perfect = settings(mia_unlearned=0.5, score_unlearned=0.8, seconds_unlearned=0.0)
    assert gum_bounded(**perfect, resolution=0.05) == (1.0, 1.0, 1.0, 1.0)
    assert gum(**perfect).value == pytest.approx(1.0, abs=1e-6)
    as_slow = settings(seconds_unlearned=99.0)
    assert gum_bounded(**as_slow, resolution=0.05).value == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mia_original", 1.1), ("mia_unlearned", -0.1), ("mia_retrained", math.nan),
        ("score_unlearned", 2.0), ("score_retrained", -1.0), ("seconds_unlearned", -1.0),
        ("seconds_unlearned", math.inf), ("seconds_retrained", 0.0), ("a", 0.0), ("b", math.nan),
    ],
)  # fmt: skip
def test_gum_refuses(name, value):
    with pytest.raises(ParameterError, match=f"^{name} must be .* got {value}$"):
        gum(**settings(**{name: value}))
    with pytest.raises(ParameterError, match=f"^{name} must be .* got {value}$"):
        gum_bounded(**settings(**{name: value}), resolution=0.1)


@pytest.mark.parametrize("resolution", [0.0, -0.1, 1.5, math.nan])
def test_gum_refuses_a_resolution(resolution):
    with pytest.raises(ParameterError, match=f"resolution .* got {resolution}"):
        gum_bounded(**settings(), resolution=resolution)


# Output probabilities


def test_zrf_by_hand():
    certain, even = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    # JS = (log2(4/3) + .5 log2(2/3) + .5 log2(2)) / 2
    expected = 1 - (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5) / 2
    assert zrf(certain, even) == pytest.approx(expected, abs=1e-12)
    assert zrf(certain, certain[:, ::-1]) == 0.0
    # the mean over clips, not over clips and classes
    assert zrf(np.repeat(certain, 3, 0), np.repeat(even, 3, 0)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_zrf_agrees_with_scipy(seed):
    p, q = distributions(seed), distributions(seed + 100)
    expected = 1 - np.mean(jensenshannon(p, q, axis=1, base=2) ** 2)
    assert zrf(p, q) == pytest.approx(expected, abs=1e-12)
    assert zrf(q, p) == pytest.approx(zrf(p, q), abs=1e-12)
    assert 0 <= zrf(p, q) < 1
    assert zrf(p, p) == 1.0


def test_activation_distance_by_hand_and_invariants():
    p = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    q = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    assert activation_distance(p, q) == pytest.approx(math.sqrt(2) / 2, abs=1e-12)
    p, q = distributions(0), distributions(1)
    found = activation_distance(p, q)
    norms = [np.linalg.norm(a - b) for a, b in zip(p, q, strict=True)]
    assert found == pytest.approx(np.mean(norms), abs=1e-12)
    assert activation_distance(q, p) == found
    assert activation_distance(p[::-1], q[::-1]) == pytest.approx(found, abs=1e-12)
    assert activation_distance(p[::-1], q) != pytest.approx(found, abs=1e-3)
    assert activation_distance(p, p) == 0.0
    assert 0 < found <= math.sqrt(2)


@pytest.mark.parametrize("distance", [zrf, activation_distance])
def test_single_precision_is_taken(distance):
    p, q = distributions(0), distributions(1)
    rounded = distance(p.astype(np.float32), q.astype(np.float32))
    assert rounded == pytest.approx(distance(p, q), abs=1e-5)
    same = p.astype(np.float32)
    assert distance(same, same) == (1.0 if distance is zrf else 0.0)


@pytest.mark.parametrize("distance", [zrf, activation_distance])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.empty((0, 3)), r"2 or more columns of each, got the shape \(0, 3\)"),
        (np.ones((2, 1)), r"got the shape \(2, 1\)"),
        (np.array([[0.5, 0.6], [0.5, 0.5]]), "row 0 sums to 1.1, not to 1"),
        (np.array([[2.0, -1.0], [0.5, 0.5]]), "must not be negative, got -1.0"),
        (np.array([[np.nan, 1.0], [0.5, 0.5]]), "must be finite, got nan"),
    ],
)
def test_refuses_what_is_no_probability(distance, bad, message):
    good = np.full((2, 2), 0.5)
    with pytest.raises(ParameterError, match=f"^probabilities.*{message}"):
        distance(bad, good)
    with pytest.raises(ParameterError, match=message):
        distance(good, bad)


@pytest.mark.parametrize("distance", [zrf, activation_distance])
@pytest.mark.parametrize("shape", [(3, 2), (2, 4)])
def test_refuses_other_clips_or_classes(distance, shape):
    with pytest.raises(ParameterError, match=r"the shapes \(2, 2\) and"):
        distance(np.full((2, 2), 0.5), np.full(shape, 1 / shape[1]))


# Losses


def test_loss_distances_by_hand():
    losses = np.random.default_rng(0).exponential(1.0, 30)
    # a shift by more than the range: no overlap, and all mass moves by the shift
    shift = np.ptp(losses) + 1
    assert loss_ks(losses, losses + shift) == 1.0
    assert loss_emd(losses, losses + shift) == pytest.approx(shift, abs=1e-12)
    assert loss_emd(losses, losses + 0.25) == pytest.approx(0.25, abs=1e-12)
    # a quarter of the mass moves by 2
    assert loss_ks([0.0, 0.0, 0.0, 2.0], [0.0]) == 0.25
    assert loss_emd([0.0, 0.0, 0.0, 2.0], [0.0]) == 0.5


@pytest.mark.parametrize("distance", [loss_ks, loss_emd])
def test_loss_distances_look_at_the_distribution_alone(distance):
    generator = np.random.default_rng(1)
    a, b = generator.exponential(1.0, 30), generator.exponential(2.0, 40)
    assert distance(a, a) == 0.0
    assert distance(a, generator.permutation(a)) == 0.0
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12)
    assert distance(a, b) > 0


def test_ks_does_not_see_how_far_and_emd_does():
    a, b = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.4])
    assert loss_ks(a, b) == pytest.approx(loss_ks(a**3, b**3), abs=1e-12)
    assert loss_emd(3 * a, 3 * b) == pytest.approx(3 * loss_emd(a, b), abs=1e-12)


@pytest.mark.parametrize("distance", [loss_ks, loss_emd])
def test_loss_distances_refuse(distance):
    for bad, message in (([], "must hold clips"), ([1.0, math.inf], "must be finite, got inf")):
        with pytest.raises(ParameterError, match=f"^losses {message}"):
            distance(bad, [1.0])
        with pytest.raises(ParameterError, match=f"^retrained {message}"):
            distance([1.0], bad)


# Interclass confusion


def test_interclass_confusion_agrees_with_the_confusion_matrix():
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 5, (2, 200))
    matrix = confusion_matrix(truth, prediction, labels=range(5))
    found = interclass_confusion(truth, prediction, [1, 3])
    assert found.n_confused == matrix[1, 3] + matrix[3, 1]
    assert found.n_clips == matrix[[1, 3]].sum()
    assert found.share == found.n_confused / found.n_clips
    three = interclass_confusion(truth, prediction, [0, 1, 3])
    inner = matrix[np.ix_([0, 1, 3], [0, 1, 3])]
    assert three.n_confused == inner.sum() - np.trace(inner)
    names = np.array(list("abcde"))
    assert interclass_confusion(names[truth], names[prediction], ["b", "d"]) == found


def test_interclass_confusion_by_hand():
    # an error into a third class, and a third class's error, do not count
    assert interclass_confusion([0, 0, 1, 2], [2, 0, 1, 0], [0, 1]) == Confusion(0, 0.0, 3)
    assert interclass_confusion([0, 1], [1, 0], [0, 1]) == Confusion(2, 1.0, 2)


@pytest.mark.parametrize(
    ("truth", "prediction", "classes", "message"),
    [
        ([0, 1], [0], [0, 1], "got 2 and 1"),
        ([0, 1], [0, 1], [0], r"at least two: \[0\]"),
        ([0, 1], [0, 1], [0, 0], "distinct"),
        ([2, 2], [0, 1], [0, 1], r"no clip of the classes \[0, 1\]"),
    ],
)
def test_interclass_confusion_refuses(truth, prediction, classes, message):
    with pytest.raises(ParameterError, match=message):
        interclass_confusion(truth, prediction, classes)


# Relearning


@pytest.mark.parametrize(
    ("curve", "original", "alpha", "steps"),
    [
        ([1.0, 1.0], 1.0, 0.05, 0),
        ([0.0, 0.5, 0.94, 0.95, 0.9], 1.0, 0.05, 3),
        ([0.0, 0.71, 0.72, 0.8], 0.8, 0.1, 2),  # a share of the original's score, not of 1
        ([0.0, 0.5, 0.72, 0.8], 0.8, 0.0, 3),
        ([0.0, 0.5], 0.8, 0.1, math.inf),
        ([0.9, 0.0, 0.0], 0.9, 0.0, 0),
    ],
)
def test_relearn_time_by_hand(curve, original, alpha, steps):
    assert relearn_time(curve, original, alpha=alpha) == steps


def test_relearn_time_grows_as_the_margin_shrinks():
    curve = np.linspace(0, 1, 21)
    times = [relearn_time(curve, 0.9, alpha=alpha) for alpha in (0.5, 0.2, 0.1, 0.0)]
    assert times == sorted(times) and len(set(times)) == 4


@pytest.mark.parametrize(
    ("unlearned", "retrained", "expected"),
    [
        # as fast as the retrained, faster, slower
        ([0, 0, 1], [0, 0, 1], Anamnesis(1.0, 1.0, 1.0, 2.0, 2.0)),
        ([0, 1], [0, 0, 1], Anamnesis(0.5, 0.5, 0.5, 1.0, 2.0)),
        ([0, 0, 0, 1], [0, 0, 1], Anamnesis(1.5, 1.5, 1.5, 3.0, 2.0)),
        # no step needed: by the unlearned, by both, by the retrained alone
        ([1], [0, 1], Anamnesis(0.0, 0.0, 0.0, 0.0, 1.0)),
        ([1], [1], Anamnesis(1.0, 1.0, 1.0, 0.0, 0.0)),
        ([0, 1], [1], Anamnesis(math.inf, math.inf, math.inf, 1.0, 0.0)),
        # curves that end too early: 3 steps or more, 4 or more
        ([0, 0, 0], [0, 1], Anamnesis(math.inf, 3.0, math.inf, math.inf, 1.0)),
        ([0, 1], [0, 0, 0, 0], Anamnesis(0.0, 0.0, 0.25, 1.0, math.inf)),
        ([1], [0, 0], Anamnesis(0.0, 0.0, 0.0, 0.0, math.inf)),
    ],
)
def test_anamnesis_by_hand(unlearned, retrained, expected):
    found = anamnesis(np.array(unlearned, float), np.array(retrained, float), 1.0)
    assert found == expected
    assert found.low <= found.value <= found.high


def test_anamnesis_of_two_curves_that_end_too_early_is_unknown():
    found = anamnesis([0.0, 0.0], [0.0, 0.0], 1.0)
    assert math.isnan(found.value) and (found.low, found.high) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("curve", "original", "alpha", "message"),
    [
        ([], 1.0, 0.1, r"curve must hold clips and a number of each, got the shape \(0,\)"),
        ([0.5, 1.5], 1.0, 0.1, "curve must be .* got 1.5"),
        ([0.5, math.nan], 1.0, 0.1, "curve must be .* got nan"),
        ([0.5], 0.0, 0.1, "original_score is 0"),
        ([0.5], 1.5, 0.1, "original_score must be .* got 1.5"),
        ([0.5], 1.0, 1.0, "alpha must be .* got 1.0"),
        ([0.5], 1.0, -0.1, "alpha must be .* got -0.1"),
    ],
)
def test_relearn_time_refuses(curve, original, alpha, message):
    with pytest.raises(ParameterError, match=message):
        relearn_time(curve, original, alpha=alpha)
    with pytest.raises(ParameterError, match=message):
        anamnesis([1.0], curve, original, alpha=alpha)
