"""The methods that complete the comparison, each against a step worked out by hand in numpy."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import tiny
import torch
from test_methods_more import (
    CLIPS,
    FORGET,
    OTHER,
    RATE,
    REST,
    RETAIN,
    STEP,
    WEIGHT,
    X_E,
    X_R,
    Y_E,
    Y_R,
    ce,
    ce_gradient,
    close,
    fresh,
    linear,
    loss_of,
    matrix,
    original,
    plain_steps,
    request_of,
    run,
    same,
    softmax,
    squares,
)

from speechunlearn import methods
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ModelError, ParameterError
from speechunlearn.methods import (
    METHODS,
    UnlearningData,
    amun,
    eu_k,
    fisher_forgetting,
    l2ul,
    sisa,
    unsir,
)
from speechunlearn.methods.layers import head, last, layers, only_trainable
from speechunlearn.methods.pgd import pgd_copies, strongest_wrong
from speechunlearn.models import classifier
from speechunlearn.models.loop import Batch, Work
from speechunlearn.models.training import Cost, Recipe, predict, train

__all__ = ["original", "plain_steps"]  # fixtures
torch.set_num_threads(1)

QUICK = Recipe(2, 1e-2, 8)
HEAD = {"network.head.weight", "network.head.bias"}


def request_with_recipe(**changes):
    return request_of(**({"recipe": QUICK} | changes))


def input_gradient(weight, x, y):
    """Of the cross-entropy of each clip, by its samples."""
    return (softmax(x @ weight.T) - y) @ weight


# ---- what several share

ALONE = {
    "boundary_shrink": {},
    "boundary_expand": {},
    "jit": {"draws": 2},
    "l2ul": {"copies": 2, "steps": 2},
    "amun": {"steps": 2, "doublings": 3},
}


@pytest.mark.parametrize("name", ALONE)
def test_the_retain_set_is_not_looked_at_where_it_is_not_needed(name, original):
    values = {"learning_rate": 1e-3, "epochs": 2} | ALONE[name]
    there = run(name, original, request_of(), **values)
    gone = run(name, original, UnlearningData(CLIPS, 3), **values)
    assert same(there, gone) and there.cost == gone.cost


@pytest.mark.parametrize("name", ["cf_k", "eu_k", "l1_sparse", "fisher_forgetting"])
def test_the_forget_set_is_not_looked_at_where_it_is_not_needed(name, original):
    first, second = (
        run(name, original, request_with_recipe(forget=forget)) for forget in (CLIPS, OTHER)
    )
    assert same(first, second) and METHODS[name].needs == {"retain"}


RAISING = {
    "boundary_shrink": {"learning_rate": 1e-2, "epochs": 15},
    "boundary_expand": {"learning_rate": 1e-2, "epochs": 30},
    "l2ul": {"learning_rate": 3e-3, "epochs": 10, "copies": 2, "steps": 3, "lambda_imp": 0.1},
    "amun": {"learning_rate": 1e-2, "epochs": 20, "steps": 5},
}


@pytest.mark.parametrize("name", RAISING)
def test_what_was_known_of_the_forget_set_is_lost(name, original):
    outcome = run(name, original, request_of(), **RAISING[name])
    assert loss_of(outcome.model, CLIPS) > 1.5 * loss_of(original, CLIPS)


@pytest.mark.parametrize(
    "method, name, value",
    [
        ("cf_k", "k", 0), ("eu_k", "k", -1), ("eu_k", "epochs", 0), ("l1_sparse", "gamma", -1.0),
        ("l1_sparse", "epochs", 0), ("fisher_forgetting", "alpha", 0.0),
        ("fisher_forgetting", "largest", -1.0), ("fisher_forgetting", "largest_in_head", 0.0),
        ("fisher_forgetting", "labels", "false"), ("influence", "damping", 0.0),
        ("influence", "scale", -1.0), ("influence", "batch_size", 0), ("unsir", "start", "clip"),
        ("unsir", "noise_steps", 0), ("unsir", "noise_rate", 0.0), ("unsir", "repair_rate", 0.0),
        ("unsir", "noise_penalty", -0.1), ("unsir", "retain_share", 1.5),
        ("boundary_shrink", "steps", 0), ("boundary_shrink", "learning_rate", 0.0),
        ("boundary_expand", "mode", "half"), ("jit", "draws", 0), ("jit", "sigma", 0.0),
        ("l2ul", "copies", 0), ("l2ul", "radius", math.nan), ("l2ul", "lambda_imp", -1.0),
        ("l2ul", "steps", 0), ("amun", "bound", 0.0), ("amun", "doublings", -1),
        ("amun_r", "steps", 0), ("sisa", "shards", 0), ("sisa_plus", "shards", -1),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(method, name, value):
    with pytest.raises(ParameterError, match=f"{name}(: '?|=){value}"):
        methods.parameters(method, **{name: value})


def test_the_defaults_are_the_sources():
    sources = {
        "cf_k": {"k": 1},
        "eu_k": {"k": 1, "epochs": None},
        "l1_sparse": {"epochs": 10, "gamma": 5e-4},
        "fisher_forgetting": {"largest": 1e3, "largest_in_head": 1e2, "labels": "drawn"},
        "influence": {"damping": 0.01, "scale": 1.0},
        "unsir": {
            "epochs": 1, "repair_rate": 0.5, "noise_steps": 40, "noise_rate": 0.1,
            "noise_penalty": 0.1, "start": "noise", "retain_share": 0.2,
        },
        "boundary_shrink": {"epochs": 10, "tau": 0.1, "steps": 1},
        "boundary_expand": {"epochs": 10},
        "jit": {"epochs": 1, "draws": 25},
        "l2ul": {"steps": 100, "step_fraction": 0.05, "lambda_imp": 10.0},
        "amun": {"epochs": 10, "steps": 50, "keep_forget": False},
    }
    for name, values in sources.items():
        assert values.items() <= asdict(methods.parameters(name)).items()


# ---- layers


@pytest.mark.parametrize("on_top", [True, False])
def test_the_layers_of_a_transformer_from_the_top(on_top):
    model = tiny.wav2vec2(
        num_hidden_layers=2, do_stable_layer_norm=on_top, use_weighted_layer_sum=True
    )
    found = layers(model)
    names = [name for layer in found for name in layer]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(found) == 5
    assert all(".classifier." in name for name in found[0])
    assert {name.split(".")[1] for name in found[1]} == {"projector", "layer_weights"}
    norm = "network.wav2vec2.encoder.layer_norm.weight"
    assert {name.split("layers.")[1][0] for name in found[2] if "layers." in name} == {"1"}
    assert {name.split("layers.")[1][0] for name in found[3]} == {"0"}
    assert norm in found[2 if on_top else 4]
    assert any("feature_extractor" in name for name in found[4])
    assert last(model, 2) == found[0] + found[1] and head(model) is model.network.classifier
    with pytest.raises(ParameterError, match="k: 6, but the classifier has 5 layers"):
        last(model, 6)


def test_weights_that_are_held_are_let_go_again():
    model = linear()
    with only_trainable(model, ["network.linear.bias"]):
        assert not any(weight.requires_grad for weight in model.parameters())
    # the bias of this model was held before
    assert [name for name, w in model.named_parameters() if w.requires_grad] == [
        "network.linear.weight"
    ]


# ---- CF-k and EU-k


@pytest.mark.usefixtures("plain_steps")
def test_cf_k_descends_on_the_retain_set():
    outcome = run("cf_k", linear(), UnlearningData(FORGET, 3, RETAIN), **STEP)
    close(matrix(outcome), WEIGHT - RATE * ce_gradient(WEIGHT, X_R, Y_R))
    assert outcome.cost == Cost(forward_backward=5)


def test_cf_k_moves_the_head_alone(original):
    values = {"epochs": 2, "learning_rate": 1e-3}
    outcome = run("cf_k", original, request_of(), k=1, **values)
    before, after = tiny.weights(original), tiny.weights(outcome.model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == HEAD
    assert all(weight.requires_grad for weight in outcome.model.parameters())
    # the head and what is below it: all
    whole = run("cf_k", original, request_of(), k=2, **values)
    assert same(whole, run("finetune", original, request_of(), **values))


def test_eu_k_trains_the_head_again_and_leaves_the_rest(original):
    outcome = run("eu_k", original, request_with_recipe(), seed=3, k=1)
    before, after = tiny.weights(original), tiny.weights(outcome.model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == HEAD
    assert outcome.cost == Cost(forward_backward=2 * len(REST))
    assert all(weight.requires_grad for weight in outcome.model.parameters())


def test_eu_k_starts_where_fine_tuning_did(original):
    still = Recipe(1, 1e-9, 8)
    outcome = run("eu_k", original, request_of(recipe=still), seed=3)
    start = tiny.weights(fresh(3 + eu_k.START_SEED))
    for name in HEAD:
        torch.testing.assert_close(
            tiny.weights(outcome.model)[name], start[name], rtol=0, atol=1e-6
        )
    assert not tiny.equal(start, tiny.weights(fresh(3)))


def test_eu_k_with_all_layers_is_retraining(original):
    whole = run("eu_k", original, request_with_recipe(), k=2, epochs=3)
    by_hand = fresh(eu_k.START_SEED)
    train(by_hand, REST, Recipe(3, 1e-2, 8), seed=0)
    assert tiny.equal(tiny.weights(whole.model), tiny.weights(by_hand))
    with pytest.raises(ParameterError, match="eu_k needs .*recipe"):
        run("eu_k", original, request_of())


# ---- l1-sparse


@pytest.mark.usefixtures("plain_steps")
def test_l1_sparse_shrinks_by_less_in_the_second_epoch():
    gamma = 0.2
    outcome = run(
        "l1_sparse", linear(), UnlearningData(FORGET, 3, RETAIN), gamma=gamma,
        **(STEP | {"epochs": 2})
    )
    weight, losses = WEIGHT, []
    for share in (1.0, 0.5):
        losses.append(ce(weight, X_R, Y_R) + gamma * share * np.abs(weight).sum())
        gradient = ce_gradient(weight, X_R, Y_R) + gamma * share * np.sign(weight)
        weight = weight - RATE * gradient
    close(matrix(outcome), weight)
    assert outcome.details["history"] == pytest.approx(losses, rel=1e-5)
    assert outcome.details["size_over_before"] == pytest.approx(
        np.abs(weight).sum() / np.abs(WEIGHT).sum(), rel=1e-5
    )


def test_l1_sparse_shrinks(original):
    values = {"epochs": 3, "learning_rate": 1e-3}
    none = run("l1_sparse", original, request_of(), gamma=0.0, **values)
    assert same(none, run("finetune", original, request_of(), **values))
    some, more = (
        run("l1_sparse", original, request_of(), gamma=gamma, **values).details["size_over_before"]
        for gamma in (1e-2, 1.0)
    )
    assert more < some < none.details["size_over_before"] and more < 0.99


# ---- Fisher forgetting


@pytest.mark.parametrize("limit", [100.0, 5.0])
def test_fisher_forgetting_adds_noise_of_the_variance_it_says(limit):
    outcome = run(
        "fisher_forgetting", linear(), UnlearningData(FORGET, 3, RETAIN), seed=7, alpha=0.01,
        largest=1e9, largest_in_head=limit, labels="true",
    )
    fisher = np.mean(squares(X_R, Y_R, 1), 0)
    variance = 0.01 * np.minimum(1 / (fisher + 1e-8), limit)
    assert (1 / fisher > 5.0).any() and (1 / fisher < 100.0).any()  # both are seen to act
    noise = torch.randn(3, 3, generator=torch.Generator().manual_seed(7)).double().numpy()
    close(matrix(outcome), WEIGHT + np.sqrt(variance) * noise)
    assert outcome.details == {"noise": pytest.approx(math.sqrt(variance.mean()), rel=1e-4)}
    assert outcome.cost == Cost(forward_backward=5)


def test_the_head_has_a_bound_of_its_own(original):
    outcome = run(
        "fisher_forgetting", original, request_of(), alpha=1.0, largest=1e-14, labels="true"
    )
    for name, value in tiny.weights(original).items():
        change = float((tiny.weights(outcome.model)[name] - value).abs().max())
        assert (change > 1e-3) == (name in HEAD), name


def test_labels_are_drawn_from_what_the_model_says(original):
    logits = torch.tensor([[0.0, math.log(3), -torch.inf]]).nan_to_num(neginf=-1e4).repeat(4000, 1)
    generator = torch.Generator().manual_seed(0)
    shares = torch.bincount(fisher_forgetting.drawn_labels(logits, generator), minlength=3) / 4000
    close(shares[2], 0)
    assert float(shares[1]) == pytest.approx(0.75, abs=0.03)
    drawn = run("fisher_forgetting", original, request_of())
    assert drawn.cost == Cost(forward_backward=len(REST), forward=len(REST))


@pytest.mark.parametrize(
    "name, values",
    [("fisher_forgetting", {}), ("fisher_forgetting", {"labels": "true"}), ("influence", {})],
)
def test_what_is_no_number_is_an_error(name, values):
    broken = tiny.classifier()
    with torch.no_grad():
        broken.network.head.bias[0] = float("nan")
    with pytest.raises(ParameterError, match="not finite"):
        run(name, broken, request_of(), **values)


# ---- influence


@pytest.mark.parametrize("damping, scale", [(0.01, 1.0), (0.5, 0.3)])
def test_influence_is_a_newton_step(damping, scale):
    outcome = run(
        "influence", linear(), UnlearningData(FORGET, 3, RETAIN), damping=damping, scale=scale,
        batch_size=3,
    )
    total = 4 * ce_gradient(WEIGHT, X_E, Y_E)
    hessian = 5 * (np.mean(squares(X_R, Y_R, 1), 0) + damping)
    step = scale * total / hessian
    close(matrix(outcome), WEIGHT + step)
    assert outcome.details == {"moved": pytest.approx(np.sqrt((step**2).sum()), rel=1e-4)}
    assert outcome.cost == Cost(forward_backward=9)
    assert all(weight.grad is None for weight in outcome.model.parameters())


# ---- UNSIR


def noise_by_hand(start, steps, rate, penalty):
    noise = start
    for _ in range(steps):
        noise = noise - rate * (2 * penalty * noise - input_gradient(WEIGHT, noise, Y_E))
    return noise


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("start", ["noise", "clips"])
def test_unsir_learns_noise_impairs_and_repairs(start):
    outcome = run(
        "unsir", linear(), UnlearningData(FORGET, 3, RETAIN), seed=5, start=start, retain_share=1.0,
        noise_steps=2, noise_rate=0.3, noise_penalty=0.2, repair_rate=0.25, **STEP,
    )
    generator = torch.Generator().manual_seed(5)
    drawn = np.stack([torch.randn(3, generator=generator).double().numpy() for _ in range(4)])
    noise = noise_by_hand(X_E if start == "clips" else drawn, 2, 0.3, 0.2)
    first = WEIGHT - RATE * (ce_gradient(WEIGHT, noise, Y_E) + ce_gradient(WEIGHT, X_R, Y_R))
    close(matrix(outcome), first - 0.25 * RATE * ce_gradient(first, X_R, Y_R))
    losses = [ce(WEIGHT, noise, Y_E) + ce(WEIGHT, X_R, Y_R), ce(first, X_R, Y_R)]
    assert outcome.details["history"] == pytest.approx(losses, rel=1e-4)
    # two steps of noise for four waveforms; nine clips to impair, five to repair
    assert outcome.cost == Cost(forward_backward=8 + 9 + 5)


def test_the_noise_is_what_the_model_gets_wrong(original):
    state = tiny.weights(original)

    def learned(**values):
        parameters = methods.parameters("unsir", **values)
        return unsir.learned_noise(original, CLIPS, parameters, Work(seed=0))

    start, end = (learned(noise_steps=1, noise_rate=1e-9), learned(noise_penalty=0.0))
    assert end.lengths == CLIPS.lengths and end.labels.tolist() == CLIPS.labels.tolist()
    assert loss_of(original, end) > loss_of(original, start) + 1
    size = [
        sum(float(w.square().sum()) for w in learned(noise_penalty=penalty).waveforms_z)
        for penalty in (0.0, 0.1)
    ]
    assert size[1] < 0.1 * size[0]
    assert tiny.equal(state, tiny.weights(original))
    assert all(weight.requires_grad for weight in original.parameters())


def unequal():
    """Clips of three samples and of two, for a model that does not know what is padding."""
    waveforms_z = [FORGET.waveforms_z[0], FORGET.waveforms_z[1][:2]]
    return Clips(waveforms_z, FORGET.labels[:2], FORGET.hashes[:2], ["s"] * 2)


def test_the_noise_of_a_clip_depends_on_no_batch():
    alone, together = (
        unsir.learned_noise(
            linear(), unequal(), methods.parameters("unsir", noise_batch_size=size),
            Work(),
        )
        for size in (1, 2)
    )
    assert together.lengths == [3, 2]
    for one, other in zip(alone.waveforms_z, together.waveforms_z, strict=True):
        torch.testing.assert_close(one, other)


def test_unsir_reports_both_halves(original):
    reports = []
    METHODS["unsir"].unlearn(
        original, request_of(), methods.parameters("unsir", epochs=2, noise_steps=1), seed=0,
        progress=lambda *report: reports.append(report[:3]),
    )
    assert reports == [("noise", 1, 1)] + 2 * [("epoch", 1, 2), ("epoch", 2, 2)]


# ---- clips moved a little


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_step_by_hand(norm, targeted):
    cost = Cost()
    moved = pgd_copies(linear(), FORGET, cost, 0.4, norm, 1, 0.5, targeted=targeted)
    found = torch.stack([*moved.waveforms_z]).numpy()
    gradient = input_gradient(WEIGHT, X_E, Y_E) * (-1 if targeted else 1)
    if norm == "linf":
        step = 0.2 * np.sign(gradient)
    else:
        step = 0.2 * np.sqrt(3) * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    close(found, X_E + step)
    assert cost == Cost(forward_backward=4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_three_steps_stay_inside(norm):
    moved = pgd_copies(linear(), FORGET, Cost(), 0.3, norm, 3, 0.8)
    found = torch.stack([*moved.waveforms_z]).numpy()
    delta = np.zeros_like(X_E)
    for _ in range(3):
        gradient = input_gradient(WEIGHT, X_E + delta, Y_E)
        if norm == "linf":
            delta = np.clip(delta + 0.24 * np.sign(gradient), -0.3, 0.3)
        else:
            bound = 0.3 * np.sqrt(3)
            delta = delta + 0.8 * bound * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
            delta = delta * np.minimum(1, bound / np.linalg.norm(delta, axis=1, keepdims=True))
    close(found, X_E + delta)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_size_of_a_move_depends_on_no_batch(norm, original):
    state = tiny.weights(original)
    alone, together = (
        pgd_copies(original, CLIPS, Cost(), 0.2, norm, 3, 0.5, batch_size=size, seed=3)
        for size in (1, 6)
    )
    for clean, one, other in zip(
        CLIPS.waveforms_z, alone.waveforms_z, together.waveforms_z, strict=True
    ):
        assert one.shape == clean.shape
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
        delta = one - clean
        size = delta.abs().max() if norm == "linf" else delta.square().mean().sqrt()
        assert 0.1 < float(size) <= 0.2 + 1e-6
    assert tiny.equal(state, tiny.weights(original)) and not original.training
    assert all(weight.requires_grad for weight in original.parameters())
    plain = pgd_copies(original, CLIPS, Cost(), 0.2, norm, 3, 0.5)
    assert not torch.equal(plain.waveforms_z[0], together.waveforms_z[0])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_padding_does_not_move(norm):
    alone, together = (
        pgd_copies(linear(), unequal(), Cost(), 0.5, norm, 4, 0.3, batch_size=size)
        for size in (1, 2)
    )
    for one, other in zip(alone.waveforms_z, together.waveforms_z, strict=True):
        torch.testing.assert_close(one, other)


def test_a_waveform_has_no_range():
    loud = Clips([100 * w for w in FORGET.waveforms_z], FORGET.labels, FORGET.hashes, ["s"] * 4)
    found = pgd_copies(linear(), loud, Cost(), 0.5)
    for clean, there in zip(loud.waveforms_z, found.waveforms_z, strict=True):
        assert float((there - clean).abs().max()) <= 0.5 + 1e-4
    assert max(float(w.abs().max()) for w in found.waveforms_z) > 50


def test_the_strongest_wrong_class():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-1.0, -9.0, -2.0]])
    assert strongest_wrong(logits, torch.tensor([0, 1, 2])).tolist() == [1, 0, 0]
    assert strongest_wrong(logits, torch.tensor([0, 0, 0])).tolist() == [1, 1, 2]


# ---- boundary shrink and expand


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("tau", [1e-6, 0.5, 2.0])
def test_boundary_shrink_steps_towards_the_nearest_wrong_class(tau):
    outcome = run("boundary_shrink", linear(), UnlearningData(FORGET, 3), tau=tau, **STEP)
    there = X_E + tau * np.sign(input_gradient(WEIGHT, X_E, Y_E))
    logits = there @ WEIGHT.T
    nearest = np.eye(3)[np.where(Y_E == 1, -np.inf, logits).argmax(1)]
    assert (nearest * Y_E).sum() == 0
    close(matrix(outcome), WEIGHT - RATE * ce_gradient(WEIGHT, X_E, nearest))
    left = (logits.argmax(1) != Y_E.argmax(1)).mean()
    assert outcome.details["left_their_class"] == pytest.approx(left)
    assert outcome.cost == Cost(forward_backward=8, forward=4)


def test_the_nearest_class_depends_on_the_bound():
    """Else the test before would not see whether the clips were moved."""
    labels = [
        np.where(
            Y_E == 1, -np.inf,
            (X_E + tau * np.sign(input_gradient(WEIGHT, X_E, Y_E))) @ WEIGHT.T,
        ).argmax(1).tolist()
        for tau in (1e-6, 2.0)
    ]  # fmt: skip
    assert labels[0] != labels[1]


@pytest.mark.usefixtures("plain_steps")
def test_boundary_expand_fills_the_shadow_class():
    outcome = run(
        "boundary_expand", linear(), UnlearningData(FORGET, 3), seed=4, **(STEP | {"epochs": 2})
    )
    with classifier.seeded(4):
        drawn = torch.nn.Linear(3, 1)
    shadow = drawn.weight.detach().double().numpy()
    bias = drawn.bias.item()
    weight, losses = WEIGHT, []
    for _ in range(2):
        shares = softmax(np.hstack([X_E @ weight.T, X_E @ shadow.T + bias]))
        losses.append(-np.log(shares[:, 3]).mean())
        error = shares - np.eye(4)[[3] * 4]
        gradient = error.T @ X_E / 4
        weight = weight - RATE * gradient[:3]
        shadow = shadow - RATE * gradient[3:]
        bias = bias - RATE * error[:, 3].mean()
    close(matrix(outcome), weight)
    assert outcome.details["history"] == pytest.approx(losses, rel=1e-4)
    assert outcome.cost == Cost(forward_backward=8)


def test_the_shadow_class_is_gone(original):
    outcome = run("boundary_expand", original, request_of(), learning_rate=1e-2, epochs=2)
    assert tiny.weights(outcome.model).keys() == tiny.weights(original).keys()
    assert predict(outcome.model, CLIPS).shape == (len(CLIPS), 3)
    assert outcome.model.labels == original.labels
    assert not hasattr(outcome.model, "shadow")
    assert not outcome.model.network.head._forward_pre_hooks
    nowhere = tiny.classifier()
    nowhere.network.head = torch.nn.Conv1d(1, 3, 1)
    with pytest.raises(ParameterError, match="head is a Conv1d, not linear"):
        run("boundary_expand", nowhere, request_of())


# ---- JiT


@pytest.mark.usefixtures("plain_steps")
def test_jit_moves_the_answer_towards_those_to_noisy_copies():
    one = FORGET.at([0])
    outcome = run("jit", linear(), UnlearningData(one, 3), seed=6, draws=3, sigma=0.4, **STEP)
    generator = Batch([0], (), epoch=0, step=0, seed=6).generator()
    gradient, slopes = np.zeros((3, 3)), []
    for _ in range(3):
        noise = 0.4 * torch.randn(3, generator=generator).double().numpy()
        distance = -WEIGHT @ noise  # f(x) - f(x + noise)
        slopes.append(np.linalg.norm(distance) / np.linalg.norm(noise))
        # the answer to the copy stands still
        direction = distance / np.linalg.norm(distance)
        gradient += np.outer(direction, X_E[0]) / np.linalg.norm(noise) / 3
    close(matrix(outcome), WEIGHT - RATE * gradient)
    assert outcome.details["history"] == pytest.approx([np.mean(slopes)], rel=1e-4)
    assert outcome.cost == Cost(forward_backward=1, forward=3)


def test_jit_looks_at_no_label(original):
    values = {"learning_rate": 1e-3, "draws": 2}
    other = CLIPS.relabelled((CLIPS.labels + 1) % 3)
    assert same(
        run("jit", original, request_of(), **values),
        run("jit", original, request_of(forget=other), **values),
    )


# ---- L2UL


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("lambda_imp", [0.0, 4.0])
def test_l2ul_ascends_holds_and_springs_back(lambda_imp):
    """Two steps by hand; in the first, the elastic term has no gradient."""
    values = {"copies": 2, "radius": 0.4, "steps": 3, "lambda_imp": lambda_imp}
    request = UnlearningData(FORGET, 3)
    outcome = run("l2ul", linear(), request, seed=2, **values, **(STEP | {"epochs": 2}))
    copies = l2ul.adversarial_copies(
        linear(), request, methods.parameters("l2ul", **values), Work(seed=2)
    )
    x, y = torch.stack([*copies.waveforms_z]).double().numpy(), np.eye(3)[copies.labels.numpy()]
    z = X_E @ WEIGHT.T
    omega = np.mean([np.abs(2 * np.outer(a, b)) for a, b in zip(z, X_E, strict=True)], 0)
    held = 1 - (omega - omega.min()) / (omega.max() - omega.min())
    weight, losses = WEIGHT, []
    for _ in range(2):
        # four forget clips beside eight copies
        spring = lambda_imp / 2 * (held * (weight - WEIGHT) ** 2).sum()
        losses.append(2 / 3 * ce(weight, x, y) - 1 / 3 * ce(weight, X_E, Y_E) + spring)
        gradient = 2 / 3 * ce_gradient(weight, x, y) - 1 / 3 * ce_gradient(weight, X_E, Y_E)
        weight = weight - RATE * (gradient + lambda_imp * held * (weight - WEIGHT))
    close(matrix(outcome), weight)
    assert outcome.details["history"] == pytest.approx(losses, rel=1e-4)
    assert outcome.cost == Cost(8 * 3 + (4 if lambda_imp else 0) + 2 * 12, forward=8)


def test_the_copies_have_wrong_targets_and_reach_them(original):
    parameters = methods.parameters("l2ul", copies=3, radius=1.0, steps=20)
    copies = l2ul.adversarial_copies(original, request_of(), parameters, Work(seed=0))
    true = CLIPS.labels.repeat_interleave(3)
    assert copies.hashes == [h for h in CLIPS.hashes for _ in range(3)]
    assert (copies.labels != true).all() and len(set(copies.labels.tolist())) == 3
    reached = (predict(original, copies).argmax(1) == copies.labels).double().mean()
    repeated = CLIPS.at([i for i in range(6) for _ in range(3)])
    before = (predict(original, repeated).argmax(1) == copies.labels).double().mean()
    assert reached > before + 0.5
    for clean, copy in zip(repeated.waveforms_z, copies.waveforms_z, strict=True):
        assert float((copy - clean).square().mean().sqrt()) <= 1 + 1e-5


# ---- AMUN


def test_the_nearest_example_is_within_a_factor_of_two(original):
    parameters = methods.parameters("amun", steps=10, bound=1e-2, doublings=8)
    examples, bounds = amun.nearest(original, CLIPS, parameters, Cost())
    assert predict(original, examples).argmax(1).tolist() == examples.labels.tolist()
    assert (examples.labels != CLIPS.labels).all()
    assert len(set(bounds)) > 1  # each clip has its own
    for i, bound in enumerate(bounds):
        size = float((examples.waveforms_z[i] - CLIPS.waveforms_z[i]).square().mean().sqrt())
        assert size <= bound * (1 + 1e-5) and math.log2(bound / 1e-2) % 1 == 0
        if bound > 1e-2:
            half = pgd_copies(original, CLIPS.at([i]), Cost(), bound / 2, "l2", 10, 0.1)
            assert predict(original, half).argmax(1).item() == CLIPS.labels[i]


def test_a_clip_that_keeps_its_class_gets_the_strongest_wrong_one(original):
    is_right = predict(original, CLIPS).argmax(1) == CLIPS.labels
    right = CLIPS.at(is_right.nonzero().flatten().tolist())
    parameters = methods.parameters("amun", steps=1, bound=1e-9, doublings=0)
    examples, bounds = amun.nearest(original, right, parameters, Cost())
    assert bounds == [None] * len(right)
    logits = predict(original, right)
    logits[torch.arange(len(right)), right.labels] = -torch.inf
    assert examples.labels.tolist() == logits.argmax(1).tolist()


ATTACK = {"steps": 2, "bound": 0.1, "doublings": 4}


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("keep_forget", [False, True])
@pytest.mark.parametrize("name", ["amun", "amun_r"])
def test_amun_learns_the_examples(name, keep_forget):
    request = UnlearningData(FORGET, 3, RETAIN)
    outcome = run(name, linear(), request, keep_forget=keep_forget, **ATTACK, **STEP)
    cost = Cost()
    examples, bounds = amun.nearest(linear(), FORGET, methods.parameters("amun", **ATTACK), cost)
    x, y = torch.stack(examples.waveforms_z).double().numpy(), np.eye(3)[examples.labels.numpy()]
    gradient, counted = ce_gradient(WEIGHT, x, y), 4
    if keep_forget:
        gradient, counted = gradient + ce_gradient(WEIGHT, X_E, Y_E), counted + 4
    if name == "amun_r":
        gradient, counted = gradient + ce_gradient(WEIGHT, X_R, Y_R), counted + 5
    close(matrix(outcome), WEIGHT - RATE * gradient)
    assert outcome.details["bounds"] == bounds
    assert outcome.cost == Cost(cost.forward_backward + counted, cost.forward)
    assert ("retain" in METHODS[name].needs) == (name == "amun_r")


# ---- SISA and SISA++

ALL = Clips(
    CLIPS.waveforms_z + REST.waveforms_z, torch.cat([CLIPS.labels, REST.labels]),
    CLIPS.hashes + REST.hashes, CLIPS.speakers + REST.speakers,
)  # fmt: skip


def forgetting(*positions, **changes):
    kept = [i for i in range(len(ALL)) if i not in positions]
    return request_with_recipe(**{"forget": ALL.at(positions), "retain": ALL.at(kept)} | changes)


def shard(position, shards=3):
    return sisa.shard_of(ALL.hashes[position], shards, 0)


def test_a_request_retrains_the_shards_it_touches(original):
    first = next(i for i in range(len(ALL)) if shard(i) == 0)
    second = next(i for i in range(len(ALL)) if shard(i) == 1)
    a, b = (run("sisa", original, forgetting(i), shards=3) for i in (first, second))
    members = [[tiny.weights(m) for m in outcome.model.network] for outcome in (a, b)]
    assert [tiny.equal(x, y) for x, y in zip(*members, strict=True)] == [False, False, True]
    for outcome, gone in ((a, first), (b, second)):
        parts = [[i for i in range(len(ALL)) if shard(i) == s and i != gone] for s in range(3)]
        for member, part in zip(outcome.model.network, parts, strict=True):
            by_hand = fresh(0)
            train(by_hand, ALL.at(part), QUICK, seed=0)
            assert tiny.equal(tiny.weights(by_hand), tiny.weights(member))
        assert outcome.details == {
            "clips": [len(part) for part in parts], "touched": [shard(gone)],
            "trained_before": {"forward_backward": 2 * len(ALL)},
        }
        assert outcome.cost.forward_backward == 2 * len(parts[shard(gone)])
        assert outcome.cost.forward == 0


def test_shards_that_are_not_touched_cost_the_request_no_second(original, monkeypatch):
    ticks = iter(range(0, 10**6, 10))
    monkeypatch.setattr(Work, "now", lambda work: next(ticks))
    # of two shards, each with a look at the clock where its descent begins
    assert run("sisa", original, forgetting(0), shards=3).cost.kept_seconds == -2 * 20
    everywhere = [next(i for i in range(len(ALL)) if shard(i) == s) for s in range(3)]
    whole = run("sisa", original, forgetting(*everywhere), shards=3)
    assert whole.cost == Cost(forward_backward=2 * (len(ALL) - 3))


@pytest.mark.parametrize("name", ["sisa", "sisa_plus"])
def test_what_the_forget_set_sounds_like_makes_no_difference(name, original):
    request = forgetting(0, 5, 9)
    silent = [torch.zeros_like(w) for w in request.forget.waveforms_z]
    forget = Clips(
        silent, 1 - request.forget.labels.clamp(max=1), request.forget.hashes, ["s"] * 3
    )
    assert same(
        run(name, original, request, shards=2),
        run(name, tiny.classifier(seed=9), forgetting(0, 5, 9, forget=forget), shards=2),
    )
    with pytest.raises(ParameterError, match="retain: 3 clips of the forget set"):
        run(name, original, forgetting(0, 5, 9, retain=ALL))
    with pytest.raises(ParameterError, match="sisa needs .*recipe"):
        run(name, original, forgetting(0, recipe=None))


def test_a_clip_is_in_the_shard_of_its_content():
    shards = [sisa.shard_of(f"clip {i}", 4, 0) for i in range(400)]
    assert shards == [sisa.shard_of(f"clip {i}", 4, 0) for i in range(400)]
    assert shards != [sisa.shard_of(f"clip {i}", 4, 1) for i in range(400)]
    assert min(np.bincount(shards, minlength=4)) > 70


def test_a_shard_of_which_nothing_is_left_drops_out(original):
    gone = [i for i in range(len(ALL)) if shard(i) == 1]
    outcome = run("sisa", original, forgetting(*gone), shards=3)
    assert len(outcome.model.network) == 2 and outcome.details["clips"][1] == 0
    assert outcome.cost.forward_backward == 0 and outcome.details["touched"] == [1]


def test_the_shards_probabilities_are_averaged(original):
    model = run("sisa", original, forgetting(0), shards=3).model
    shares = [torch.softmax(predict(member, OTHER), 1) for member in model.network]
    close(torch.softmax(predict(model, OTHER), 1), torch.stack(shares).mean(0))
    close(predict(model, OTHER).exp().sum(1), np.ones(len(OTHER)))


def test_sisa_plus_averages_the_shards_weights(original):
    shards = run("sisa", original, forgetting(0), shards=3)
    one = run("sisa_plus", original, forgetting(0), shards=3)
    for name, value in tiny.weights(one.model).items():
        close(value, np.mean([tiny.weights(m)[name].numpy() for m in shards.model.network], 0))
    assert one.cost.forward_backward == shards.cost.forward_backward
    assert one.model.labels == original.labels and one.details == shards.details


def test_an_ensemble_is_no_checkpoint(tmp_path):
    model = sisa.Sharded([tiny.wav2vec2(seed=seed) for seed in (0, 1)])
    with pytest.raises(ModelError, match="ensemble of shards is no checkpoint"):
        model.save(tmp_path, {})
    assert not list(tmp_path.iterdir())
