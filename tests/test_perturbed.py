"""Self-distillation to perturbed copies: targets, copies and a step, by hand in numpy."""

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

from speechunlearn.dataset import audio
from speechunlearn.errors import ParameterError
from speechunlearn.methods import UnlearningData, never_heard, perturbed
from speechunlearn.models import training
from speechunlearn.models.training import Cost, predict

__all__ = ["original", "plain_steps"]  # fixtures
SHIFT = {"speeds": (), "shifts": (1 / 3,), "weight": 0.5, "splices": 0.0}


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
    found = perturbed.drawn(logits + 3, of_copies - 1, 0.5).softmax(1).numpy()
    shares = [np.array([[0.5, 0.25, 0.25]]), np.array([[0.2, 0.4, 0.4]]),
              np.array([[0.05, 0.9, 0.05]])]
    np.testing.assert_allclose(found, geometric(shares, (0.5, 0.25, 0.25)), rtol=1e-5)


def test_a_target_may_lie_beyond_the_copies_by_hand():
    own = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    copy = torch.log(torch.tensor([[[0.25, 0.5, 0.25]]]))
    # p(copy)^1.5 / p(own)^0.5: in the ratio 0.125 / 0.5^0.5 to 0.5^1.5 / 0.5 to 0.125 / 0.5
    expected = np.array([[0.125 / 0.5**0.5, 0.5**0.5, 0.25]])
    found = perturbed.drawn(own, copy, 1.5).softmax(1).numpy()
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_the_weight_are_the_answer_and_that_of_the_copy(weight, expected):
    own, copy = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[[0.0, 1.0, 3.0]]])
    found = perturbed.drawn(own, copy, weight).softmax(1)
    torch.testing.assert_close(found, (own, copy[0])[expected].softmax(1))


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("anchor", [0.0, 2.0, 8.0])
def test_the_first_step_goes_to_the_target_and_the_second_holds_the_copies(anchor):
    own, copy = softmax(X_E @ WEIGHT.T), softmax(copies_by_hand() @ WEIGHT.T)
    target = geometric([own, copy], (0.5, 0.5))
    outcome = run("perturbed", linear(), UnlearningData(FORGET, 3), anchor=anchor, **SHIFT, **STEP)
    # at first the copies are answered as they were: only the target pulls
    first = WEIGHT - RATE * ce_gradient(WEIGHT, X_E, target)
    close(matrix(outcome), first)
    assert outcome.details["history"] == pytest.approx([kl(target, own)], rel=1e-4)
    two = run("perturbed", linear(), UnlearningData(FORGET, 3), anchor=anchor, **SHIFT,
              **(STEP | {"epochs": 2}))
    gradient = ce_gradient(first, X_E, target)
    # the copies count as so many clips, and at most as the four that are to be forgotten
    gradient = gradient + min(anchor, 4) / 4 * ce_gradient(first, copies_by_hand(), copy)
    close(matrix(two), first - RATE * gradient)
    sent = 4 * (2 if anchor else 1)
    assert outcome.cost == Cost(forward_backward=sent, forward=8)


@pytest.mark.usefixtures("plain_steps")
def test_the_second_step_holds_the_spliced_clips():
    values = SHIFT | STEP | {"anchor": 0.0, "splices": 3.0, "batch_size": 5}
    own, copy = softmax(X_E @ WEIGHT.T), softmax(copies_by_hand() @ WEIGHT.T)
    target = geometric([own, copy], (0.5, 0.5))
    first = WEIGHT - RATE * ce_gradient(WEIGHT, X_E, target)
    close(matrix(run("perturbed", linear(), UnlearningData(FORGET, 3), **values)), first)
    outcome = run("perturbed", linear(), UnlearningData(FORGET, 3), **(values | {"epochs": 2}))
    made = perturbed.splices([3] * 4, 5, 0, 1)  # those of the second step, as many as in a batch
    rows = [np.r_[X_E[s.first, : s.until], X_E[s.second, s.start :]] for s in made]
    rows = np.array([audio.normalise(row.astype(np.float32)) for row in rows], dtype=float)
    gradient = ce_gradient(first, X_E, target)
    gradient = gradient + 3 / 4 * ce_gradient(first, rows, softmax(rows @ WEIGHT.T))
    close(matrix(outcome), first - RATE * gradient)
    # the clips at both steps, and a batch of splices; these and the copies are asked about
    assert outcome.cost == Cost(forward_backward=2 * (4 + 5), forward=8 + 2 * 5)


def test_splices_are_two_clips_cut_and_joined():
    clips = tiny.clips(4)
    made = perturbed.splices(clips.lengths, 50, 3, 7)
    assert made == perturbed.splices(clips.lengths, 50, 3, 7)
    assert made != perturbed.splices(clips.lengths, 50, 3, 8)
    assert made != perturbed.splices(clips.lengths, 50, 4, 7)
    assert {s.first for s in made} == {s.second for s in made} == set(range(4))
    parts = []
    for s in made:
        assert s.first != s.second
        parts.append(s.until / clips.lengths[s.first])
        assert s.start / clips.lengths[s.second] == pytest.approx(parts[-1], abs=1 / 400)
    assert 0.299 < min(parts) < 0.4 and 0.6 < max(parts) < 0.701
    joined = perturbed.spliced(clips, made, normalised=False)
    for s, waveform in zip(made, joined.waveforms_z, strict=True):
        one, other = clips.waveforms_z[s.first], clips.waveforms_z[s.second]
        assert torch.equal(waveform, torch.cat([one[: s.until], other[s.start :]]))
    assert (joined.labels == -1).all()
    for waveform in perturbed.spliced(clips, made).waveforms_z:
        assert float(waveform.mean()) == pytest.approx(0, abs=1e-4)
        assert float(waveform.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_a_single_clip_is_spliced_with_itself_its_end_first():
    clips = tiny.clips(1)
    (made,) = perturbed.splices(clips.lengths, 1, 0, 0)
    (waveform,) = perturbed.spliced(clips, [made], normalised=False).waveforms_z
    own = clips.waveforms_z[0]
    assert torch.equal(waveform, torch.cat([own[made.until :], own[: made.until]]))
    assert 0 < made.until == made.start < len(own)


def test_held_splices_keep_the_model_where_it_was_on_speech_like_theirs(original):
    values = {"weight": 1.0, "speeds": (0.5, 2.0), "epochs": 40, "learning_rate": 3e-3,
              "anchor": 0.0}
    fresh = perturbed.spliced(CLIPS, perturbed.splices(CLIPS.lengths, 60, 99, 0))
    before = predict(original, fresh).softmax(1)

    def moved(splices):
        model = run("perturbed", original, request_of(), splices=splices, **values).model
        return float((predict(model, fresh).softmax(1) - before).abs().mean())

    assert moved(100.0) < 0.6 * moved(0.0)


def test_a_weight_of_nought_changes_nothing(original):
    outcome = run("perturbed", original, request_of(), weight=0.0, until=0.0, epochs=3,
                  learning_rate=1e-3)
    after, before = (predict(m, CLIPS).softmax(1) for m in (outcome.model, original))
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert outcome.details["targets_changed"] == 0


def test_the_answers_come_to_the_targets_and_those_to_copies_stay(original):
    values = {"weight": 1.0, "speeds": (0.5, 2.0), "epochs": 60, "learning_rate": 3e-3,
              "anchor": float(len(CLIPS)), "splices": 0.0}
    outcome = run("perturbed", original, request_of(), **values)
    copies = [perturbed.perturb(CLIPS, speed=speed) for speed in (0.5, 2.0)]
    before = torch.stack([predict(original, own) for own in copies])
    target = perturbed.drawn(predict(original, CLIPS), before, 1.0).softmax(1).numpy()

    def distance(model):
        return kl(target, predict(model, CLIPS).softmax(1).numpy())

    assert distance(outcome.model) < 0.3 * distance(original)
    loose = run("perturbed", original, request_of(), **(values | {"anchor": 0.0}))

    def moved(model):
        after = torch.stack([predict(model, own) for own in copies])
        return (after.softmax(2) - before.softmax(2)).abs().mean()

    assert moved(outcome.model) < moved(loose.model)


def test_no_label_and_no_other_clip_is_looked_at(original):
    values = {"learning_rate": 1e-3, "epochs": 2}
    there = run("perturbed", original, request_of(), **values)
    relabelled = CLIPS.relabelled((CLIPS.labels + 1) % 3)
    assert same(there, run("perturbed", original, request_of(forget=relabelled), **values))
    assert same(there, run("perturbed", original, UnlearningData(CLIPS, 3), **values))


def test_copies_are_as_long_as_their_speed_says_and_normalised():
    clips = tiny.clips(4)
    fast = perturbed.perturb(clips, speed=1.25)
    for clip, copy in zip(clips.waveforms_z, fast.waveforms_z, strict=True):
        assert len(copy) == pytest.approx(len(clip) / 1.25, abs=1)
        assert float(copy.mean()) == pytest.approx(0, abs=1e-4)
        assert float(copy.std(correction=0)) == pytest.approx(1, abs=1e-3)
    moved = perturbed.perturb(clips, shift=0.25).waveforms_z[0]
    clip = torch.from_numpy(audio.normalise(clips.waveforms_z[0].numpy()))
    n = round(0.25 * len(clip))
    torch.testing.assert_close(moved, torch.cat([clip[-n:], clip[:-n]]))
    assert fast.hashes == clips.hashes


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight", -0.1), ("weight", float("inf")), ("speeds", (1.0,)),
     ("speeds", (0.0,)), ("speeds", ()),
     ("shifts", (1.0,)), ("shifts", (0.0,)), ("anchor", -1.0), ("anchor", float("nan")),
     ("splices", -1.0), ("splices", float("inf")), ("until", 1.0), ("until", -0.1),
     ("steps", 0)],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=name):
        perturbed.Parameters(**{name: value})


def test_a_parabola_through_two_speeds_tells_the_loss_at_rest_by_hand():
    # 0.5 + 3 log(s)^2
    losses = [0.5 + 3 * np.log(speed) ** 2 for speed in (1.1, 1.2)]
    assert never_heard.at_rest(1.1, losses[0], 1.2, losses[1]) == pytest.approx(0.5, abs=1e-9)
    assert never_heard.at_rest(1 / 1.1, losses[0], 1.2, losses[1]) == pytest.approx(0.5, abs=1e-9)


def test_the_parabola_begins_where_copies_lose_what_unseen_clips_do():
    squares = np.log(never_heard.LADDER) ** 2
    unheard = (0.5 + 3 * squares).tolist()
    # the clips and their copies up to the one at 1.35 are known by heart
    heard = np.where(squares < squares[3], 0.01 * squares, unheard).tolist()
    for unseen_loss in (*unheard[3:], 9.0):
        level = never_heard.from_where_unseen(heard, unseen_loss)
        assert level == pytest.approx(0.5, abs=1e-9)
    # a model that remembers nothing: wherever it begins, at the slowest copies, too
    for unseen_loss in (0.1, 0.5, 0.55, 0.8, 9.0):
        level = never_heard.from_where_unseen(unheard, unseen_loss)
        assert level == pytest.approx(0.5, abs=1e-9)
    # half way between two speeds: by hand, through the losses at their mean square and the last
    half = (heard[2] + unheard[3]) / 2
    near = float(squares[2] + squares[3]) / 2
    far = 1.6**2 * near
    assert squares[3] < far < squares[4]
    by_hand = half - near * (0.5 + 3 * far - half) / (far - near)
    assert never_heard.from_where_unseen(heard, half) == pytest.approx(by_hand, abs=1e-9)


def test_what_unseen_clips_lose_moves_the_level(original):
    low = never_heard.estimate(original, CLIPS, CLIPS.labels, Cost(), 0.0)
    by_hand = never_heard.from_where_unseen(low.losses, 0.0)
    assert low.level == pytest.approx(max(by_hand, low.losses[0]), rel=1e-6)


def test_the_level_is_at_least_what_the_nearest_copies_lose(original):
    heard = never_heard.estimate(original, CLIPS, CLIPS.labels, Cost())
    by_hand = [
        np.mean([
            float(torch.nn.functional.cross_entropy(
                predict(original, never_heard.perturb(CLIPS, speed=speed)), CLIPS.labels
            )) for speed in (1 / rate, rate)
        ]) for rate in never_heard.LADDER
    ]
    assert heard.losses == pytest.approx(by_hand, rel=1e-5)
    x, y = np.log(1.1) ** 2, np.log(1.2) ** 2
    parabola = (by_hand[1] * y - by_hand[2] * x) / (y - x)
    assert heard.level == pytest.approx(max(parabola, by_hand[0]), rel=1e-5)


def test_the_weight_that_is_found_brings_the_targets_to_the_level(original):
    outcome = run("perturbed", original, request_of(), epochs=1, splices=0.0)
    details, own = outcome.details, predict(original, CLIPS)
    assert 0 < details["weight"] <= 2.5
    of_copies = torch.stack([
        predict(original, never_heard.perturb(CLIPS, speed=speed)) for speed in details["speeds"]
    ])
    targets = perturbed.drawn(own, of_copies, details["weight"])
    loss = float(torch.nn.functional.cross_entropy(targets, own.argmax(1)))
    assert loss == pytest.approx(details["targets_loss"], rel=1e-4)
    assert details["weight"] == 2.5 or loss == pytest.approx(details["never_heard"], rel=0.02)


def test_it_ends_where_its_targets_are_reached_and_not_before(original):
    values = {"weight": 1.0, "speeds": (0.5, 2.0), "learning_rate": 3e-3, "anchor": 0.0,
              "splices": 0.0, "until": 0.5}
    outcome = run("perturbed", original, request_of(), epochs=200, **values)
    history = outcome.details["history"]  # with nothing held it is the divergence
    assert len(history) < 200
    assert history[-1] <= 0.5 * history[0] < min(history[:-1])
    assert outcome.details["left"] == pytest.approx(history[-1] / history[0])
    whole = run("perturbed", original, request_of(), epochs=len(history), **values | {"until": 0.0})
    assert same(outcome, whole)


def test_no_epoch_begins_after_the_budget_of_steps(original):
    outcome = run("perturbed", original, request_of(), weight=1.0, until=0.0, batch_size=2,
                  steps=2 * -(-len(CLIPS) // 2) + 1)
    assert len(outcome.details["history"]) == 3
    assert outcome.details["steps"] == 3 * -(-len(CLIPS) // 2)


def test_a_batch_in_pieces_comes_to_the_same_weights(original, monkeypatch):
    values = {"weight": 1.0, "epochs": 2, "learning_rate": 1e-3, "batch_size": 8}
    whole = run("perturbed", original, request_of(), **values).model
    monkeypatch.setattr(training, "at_once", lambda model: 1)
    pieces = run("perturbed", original, request_of(), **values).model
    for one, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_other_methods_end_at_a_level_of_the_request(original):
    before = float(torch.nn.functional.cross_entropy(predict(original, CLIPS), CLIPS.labels))
    request = UnlearningData(CLIPS, 3, level=before + 0.3)
    model = run("neggrad", original, request, epochs=300, learning_rate=1e-3).model
    after = float(torch.nn.functional.cross_entropy(predict(model, CLIPS), CLIPS.labels))
    assert before + 0.3 <= after < before + 1.5
