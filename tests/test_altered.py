"""Altered copies: the target, the copies and a step, worked out by hand in numpy."""

import numpy as np
import pytest
import tiny
import torch
from test_methods_more import (
    CLIPS,
    FORGET,
    RATE,
    STEP,
    WEIGHT,
    X_E,
    ce_gradient,
    close,
    kl,
    linear,
    matrix,
    original,
    plain_steps,
    request_of,
    run,
    same,
    softmax,
)

from speechunlearn import audio
from speechunlearn.errors import ParameterError
from speechunlearn.methods import Request, altered
from speechunlearn.training import Cost, predict

__all__ = ["original", "plain_steps"]  # fixtures
SHIFT = {"speeds": (), "shifts": (1 / 3,), "weight": 0.5}


def geometric(shares, weights):
    """Weighted geometric mean of distributions, a row a clip."""
    product = np.exp(sum(w * np.log(p) for w, p in zip(weights, shares, strict=True)))
    return product / product.sum(1, keepdims=True)


def copies_by_hand():
    """Each clip normalised, its last sample first."""
    rows = [np.roll(audio.normalise(row.astype(np.float32)), 1) for row in X_E]
    return np.array(rows, dtype=float)


def test_the_target_is_the_geometric_mean_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    of_copies = torch.log(torch.tensor([[[0.2, 0.4, 0.4]], [[0.05, 0.9, 0.05]]]))
    found = altered.drawn(logits + 3, of_copies - 1, 0.5).softmax(1).numpy()
    shares = [np.array([[0.5, 0.25, 0.25]]), np.array([[0.2, 0.4, 0.4]]),
              np.array([[0.05, 0.9, 0.05]])]
    np.testing.assert_allclose(found, geometric(shares, (0.5, 0.25, 0.25)), rtol=1e-5)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_the_weight_are_the_answer_and_that_of_the_copy(weight, expected):
    own, copy = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[[0.0, 1.0, 3.0]]])
    found = altered.drawn(own, copy, weight).softmax(1)
    torch.testing.assert_close(found, (own, copy[0])[expected].softmax(1))


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("anchor", [0.0, 1.0])
def test_the_first_step_goes_to_the_target_and_the_second_holds_the_copies(anchor):
    own, copy = softmax(X_E @ WEIGHT.T), softmax(copies_by_hand() @ WEIGHT.T)
    target = geometric([own, copy], (0.5, 0.5))
    outcome = run("altered", linear(), Request(FORGET, 3), anchor=anchor, **SHIFT, **STEP)
    # at first the copies are answered as they were: only the target pulls
    first = WEIGHT - RATE * ce_gradient(WEIGHT, X_E, target)
    close(matrix(outcome), first)
    assert outcome.details["history"] == pytest.approx([kl(target, own)], rel=1e-4)
    two = run("altered", linear(), Request(FORGET, 3), anchor=anchor, **SHIFT,
              **(STEP | {"epochs": 2}))
    gradient = ce_gradient(first, X_E, target)
    gradient = gradient + anchor * ce_gradient(first, copies_by_hand(), copy)
    close(matrix(two), first - RATE * gradient)
    sent = 4 * (2 if anchor else 1)
    assert outcome.cost == Cost(forward_backward=sent, forward=8)


def test_a_weight_of_nought_changes_nothing(original):
    outcome = run("altered", original, request_of(), weight=0.0, epochs=3, learning_rate=1e-3)
    after, before = (predict(m, CLIPS).softmax(1) for m in (outcome.model, original))
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert outcome.details["targets_changed"] == 0


def test_the_answers_come_to_the_targets_and_those_to_copies_stay(original):
    values = {"weight": 1.0, "speeds": (0.5, 2.0), "epochs": 60, "learning_rate": 3e-3}
    outcome = run("altered", original, request_of(), **values)
    copies = [altered.altered(CLIPS, speed=speed) for speed in (0.5, 2.0)]
    before = torch.stack([predict(original, own) for own in copies])
    target = altered.drawn(predict(original, CLIPS), before, 1.0).softmax(1).numpy()

    def distance(model):
        return kl(target, predict(model, CLIPS).softmax(1).numpy())

    assert distance(outcome.model) < 0.3 * distance(original)
    loose = run("altered", original, request_of(), anchor=0.0, **values)

    def moved(model):
        after = torch.stack([predict(model, own) for own in copies])
        return (after.softmax(2) - before.softmax(2)).abs().mean()

    assert moved(outcome.model) < moved(loose.model)


def test_no_label_and_no_other_clip_is_looked_at(original):
    values = {"learning_rate": 1e-3, "epochs": 2}
    there = run("altered", original, request_of(), **values)
    relabelled = CLIPS.relabelled((CLIPS.labels + 1) % 3)
    assert same(there, run("altered", original, request_of(forget=relabelled), **values))
    assert same(there, run("altered", original, Request(CLIPS, 3), **values))


def test_copies_are_as_long_as_their_speed_says_and_normalised():
    clips = tiny.clips(4)
    fast = altered.altered(clips, speed=1.25)
    for clip, copy in zip(clips.waveforms_z, fast.waveforms_z, strict=True):
        assert len(copy) == pytest.approx(len(clip) / 1.25, abs=1)
        assert float(copy.mean()) == pytest.approx(0, abs=1e-4)
        assert float(copy.std(correction=0)) == pytest.approx(1, abs=1e-3)
    moved = altered.altered(clips, shift=0.25).waveforms_z[0]
    clip = torch.from_numpy(audio.normalise(clips.waveforms_z[0].numpy()))
    n = round(0.25 * len(clip))
    torch.testing.assert_close(moved, torch.cat([clip[-n:], clip[:-n]]))
    assert fast.hashes == clips.hashes


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight", -0.1), ("weight", 1.1), ("speeds", (1.0,)), ("speeds", (0.0,)), ("speeds", ()),
     ("shifts", (1.0,)), ("shifts", (0.0,)), ("anchor", -1.0), ("anchor", float("nan"))],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=name):
        altered.Parameters(**{name: value})
