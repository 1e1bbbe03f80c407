"""Each method minimises what it says, on a copy of the model, with the data it may see."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import tiny
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from speechunlearn import methods
from speechunlearn.errors import ParameterError
from speechunlearn.methods import METHODS, UnlearningData, adv, adv_ela, ran_lab, remain
from speechunlearn.methods.base import Descent
from speechunlearn.methods.pgd import AttackParameters, adversarial_set
from speechunlearn.models import training
from speechunlearn.models.training import Cost, Recipe, predict, train

torch.set_num_threads(1)

RECIPE = Recipe(epochs=20, learning_rate=2e-2, batch_size=8, schedule="one_cycle")
FORGET, RETAIN, VALIDATION = (tiny.clips(n, seed=n, noise=0.5) for n in (6, 18, 9))
SMALL = {"copies": 2, "steps": 2, "tau": 0.3}
# no weight of six clips matters ten times as much to them as to the 24 they are among
FEW = {
    name: {"epochs": 2, "learning_rate": 1e-3} if issubclass(method.parameters, Descent) else {}
    for name, method in METHODS.items()
}
for _name, _values in {
    "jit": {"draws": 2}, "unsir": {"noise_steps": 2}, "l2ul": {"copies": 2, "steps": 2},
    "amun": {"steps": 2}, "amun_r": {"steps": 2}, "perturbed": {"batch_size": 2},
    "adv": SMALL, "adv_ela": SMALL, "ssd": {"selection": 1.0}, "sisa": {"shards": 2},
    "sisa_plus": {"shards": 2},
}.items():  # fmt: skip
    FEW[_name] |= _values
ALONE = [name for name, method in METHODS.items() if method.needs == {"forget"}]


@pytest.fixture(scope="module")
def original():
    """A classifier that knows the forget set and the retain set."""
    model = tiny.classifier()
    both = tiny.Clips(
        FORGET.waveforms_z + RETAIN.waveforms_z, torch.cat([FORGET.labels, RETAIN.labels]),
        FORGET.hashes + RETAIN.hashes, FORGET.speakers + RETAIN.speakers,
    )  # fmt: skip
    train(model, both, RECIPE, seed=0)
    model.zero_grad(set_to_none=True)
    return model


@pytest.fixture
def request_():
    return UnlearningData(
        FORGET, 3, retain=RETAIN, recipe=RECIPE, fresh=lambda seed: tiny.classifier(seed=seed),
        validation=VALIDATION,
    )


def run(name, model, request, seed=0, **values):
    return METHODS[name].unlearn(model, request, methods.parameters(name, **values), seed=seed)


def loss_of(model, clips, labels):
    return float(cross_entropy(predict(model, clips), labels))


# ---- what all methods share


def test_the_registry():
    for name, method in METHODS.items():
        assert method.name == name and methods.get(name) is method
        assert method.needs <= {"forget", "retain", "validation", "statistic"}
        assert methods.parameters(name) == method.parameters()
    assert len({method.title for method in METHODS.values()}) == len(METHODS)
    first = ["retrain", "remain", "remain_superloss", "ran_lab", "adv", "adv_ela"]
    assert list(METHODS) == first + sorted(set(METHODS) - set(first))
    # the paper's own need the forget set alone; some methods take no notice of it
    assert {"ran_lab", "adv", "adv_ela"} <= set(ALONE)
    assert METHODS["ssd"].needs == {"forget", "statistic"}
    assert METHODS["scrub_r"].needs == {"forget", "retain", "validation"}
    assert METHODS["finetune"].needs == {"retain"}
    assert METHODS["sisa"].trains_anew and not METHODS["scrub"].trains_anew


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"hyperparameter": ""}, "hyperparameter='', untuned=''"),
        (
            {"hyperparameter": "epochs", "untuned": "no reason"},
            "hyperparameter='epochs', untuned='no reason'"
        ),
        ({"hyperparameter": "", "untuned": "no reason", "tried": (1, 2)}, r"tried=\(1, 2\)"),
        (
            {"hyperparameter": "tau"},
            "method 'mine': hyperparameter 'tau' is none of its hyperparameters"
        ),
    ],
)
def test_a_method_has_a_strength_or_says_why_it_has_none(told, message):
    with pytest.raises(ParameterError, match=message):
        methods.Method("mine", "Mine", frozenset({"forget"}), Descent, run, **told)


@pytest.mark.parametrize("name", METHODS)
def test_the_original_is_untouched(name, original, request_):
    before, state = tiny.weights(original), torch.get_rng_state()
    outcome = run(name, original, request_, **FEW[name])
    assert tiny.equal(before, tiny.weights(original))
    assert not tiny.equal(before, tiny.weights(outcome.model))
    assert all(p.grad is None and p.requires_grad for p in original.parameters())
    assert not outcome.model.training
    assert outcome.cost.forward_backward > 0
    assert all(math.isfinite(loss) for loss in outcome.details.get("history", []))
    json.dumps(outcome.details)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(name, original, request_):
    first, again, other = (
        tiny.weights(run(name, original, request_, seed=seed, **FEW[name]).model)
        for seed in (0, 0, 1)
    )
    assert tiny.equal(first, again)
    if issubclass(METHODS[name].parameters, Descent):  # batches in an order that is drawn
        assert not tiny.equal(first, other)
    if name in ("ssd", "influence"):  # they draw nothing
        assert tiny.equal(first, other)


@pytest.mark.parametrize("name", ALONE)
def test_the_forget_set_alone_is_enough(name, original):
    run(name, original, UnlearningData(FORGET, 3), **FEW[name])


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(ALONE)))
def test_needs_are_checked(name, original):
    words = "the statistic of the training set" if name == "ssd" else "the retain set"
    with pytest.raises(ParameterError, match=f"'{name}' needs {words}.*not given"):
        run(name, original, UnlearningData(FORGET, 3, validation=VALIDATION))
    if "validation" in METHODS[name].needs:
        with pytest.raises(ParameterError, match=f"'{name}' needs the validation set"):
            run(name, original, UnlearningData(FORGET, 3, RETAIN))


@pytest.mark.parametrize("name", [name for name, few in FEW.items() if "learning_rate" in few])
def test_a_loss_that_is_no_number_is_an_error(name, request_):
    broken = tiny.classifier()
    with torch.no_grad():
        broken.network.head.bias[0] = float("nan")
    with pytest.raises(ParameterError, match=r"nan after epoch 1.*learning_rate \(0.001\)"):
        run(name, broken, request_, **FEW[name])


def test_progress_is_reported(original, request_):
    reports = []
    METHODS["ran_lab"].unlearn(
        original, request_, methods.parameters("ran_lab", epochs=2), seed=0,
        progress=lambda *report: reports.append(report),
    )  # fmt: skip
    assert [report[:3] for report in reports] == [("epoch", 1, 2), ("epoch", 2, 2)]


def test_an_empty_forget_set_is_an_error():
    with pytest.raises(ParameterError, match="forget.*empty"):
        UnlearningData(tiny.clips(0), 3)


def test_unknown_names_are_errors():
    with pytest.raises(ParameterError, match=r"method: 'forget'.*ran_lab"):
        methods.get("forget")
    with pytest.raises(ParameterError, match=r"'ran_lab'.*\['tau'\].*learning_rate"):
        methods.parameters("ran_lab", tau=0.3)


@pytest.mark.parametrize(
    "name, value, methods_",
    [
        ("epochs", 0, ("ran_lab", "adv")), ("batch_size", 0, ("remain",)),
        ("learning_rate", 0.0, ("adv_ela",)), ("mode", "half", ("ran_lab",)),
        ("curriculum", "focal", ("remain",)), ("superloss_lambda", 0.0, ("remain_superloss",)),
        ("tau", 0.0, ("adv", "adv_ela")), ("copies", 0, ("adv",)), ("projection", "x", ("adv",)),
        ("sets", "twice", ("adv",)), ("importance", "ewc", ("adv_ela",)),
        ("fisher_per", "epoch", ("adv_ela",)),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(name, value, methods_):
    for method in methods_:
        with pytest.raises(ParameterError, match=f"{name}(: '?|=){value}"):
            methods.parameters(method, **{name: value})


def test_the_defaults_are_the_papers():
    ours = asdict(methods.parameters("adv_ela"))
    paper = {
        "epochs": 15, "learning_rate": 3e-5, "lambda_mis": 0.1, "lambda_adv": 1.0,
        "lambda_ewc": 1000.0, "copies": 20, "steps": 50, "importance": "fisher",
    }  # fmt: skip
    assert {name: ours[name] for name in paper} == paper


# ---- the losses, in eval mode and in one batch, where they can be written down


def first_loss(name, original, request, seed=4, **values):
    one_batch = {"epochs": 1, "batch_size": 64, "mode": "eval"}
    outcome = run(name, original, request, seed=seed, **(one_batch | values))
    return outcome.details["history"][0]


def test_every_method_takes_the_same_wrong_labels(original, request_):
    """And minimises what its formula says."""
    wrong = ran_lab.wrong_labels(request_, 4)
    assert (wrong != FORGET.labels).all()
    assert torch.equal(wrong, ran_lab.wrong_labels(UnlearningData(FORGET, 3), 4))
    assert not all(
        torch.equal(wrong, ran_lab.wrong_labels(request_, seed)) for seed in range(5, 9)
    )
    missed = loss_of(original, FORGET, wrong)
    kept = loss_of(original, RETAIN, RETAIN.labels)
    copies = adversarial_set(original, FORGET, 3, AttackParameters(**SMALL), seed=4).clips
    held = loss_of(original, copies, copies.labels)
    losses = cross_entropy(predict(original, FORGET), wrong, reduction="none")
    weighted = float(remain.superloss(losses, math.log(3), 10.0).mean())
    expected = {
        "ran_lab": (missed, {}),
        "remain": (missed + kept, {}),
        "remain_superloss": (weighted + kept, {}),
        "adv": (0.1 * missed + held, SMALL),
        "adv_ela": (0.1 * missed + held, SMALL),  # the penalty is zero at the start
    }
    for name, (value, parameters) in expected.items():
        assert first_loss(name, original, request_, **parameters) == pytest.approx(value, rel=1e-4)
    other = {"lambda_mis": 0.5, "lambda_adv": 0.25} | SMALL
    assert first_loss("adv", original, request_, **other) == pytest.approx(
        0.5 * missed + 0.25 * held, rel=1e-4
    )


# ---- retrain


def test_retrain_sees_no_forget_clip(original, request_, monkeypatch):
    seen, fresh = [], []
    trained = training.train

    def spy(model, clips, recipe, **options):
        seen.extend(clips.hashes)
        assert recipe is RECIPE
        return trained(model, clips, recipe, **options)

    def make(seed):
        fresh.append(seed)
        return tiny.classifier(seed=seed)

    monkeypatch.setattr(training, "train", spy)
    request = UnlearningData(FORGET, 3, retain=RETAIN, recipe=RECIPE, fresh=make)
    outcome = run("retrain", original, request, seed=7)
    assert sorted(seen) == sorted(RETAIN.hashes) and not set(seen) & set(FORGET.hashes)
    assert fresh == [7]
    assert outcome.cost == Cost(forward_backward=RECIPE.epochs * len(RETAIN))


def test_retrain_depends_on_nothing_but_the_retain_set(original, request_):
    expected = tiny.weights(run("retrain", original, request_).model)
    other = UnlearningData(tiny.clips(3, seed=8), 3, RETAIN, request_.fresh, RECIPE)
    assert tiny.equal(expected, tiny.weights(run("retrain", tiny.classifier(seed=5), other).model))
    by_hand = tiny.classifier(seed=0)
    train(by_hand, RETAIN, RECIPE, seed=0)
    assert tiny.equal(expected, tiny.weights(by_hand))


def test_retrain_refuses_a_retain_set_with_forget_clips(original, request_):
    mixed = tiny.Clips(
        RETAIN.waveforms_z + FORGET.waveforms_z[:2],
        torch.cat([RETAIN.labels, FORGET.labels[:2]]),
        RETAIN.hashes + FORGET.hashes[:2], RETAIN.speakers + FORGET.speakers[:2],
    )  # fmt: skip
    with pytest.raises(ParameterError, match="retain: 2 clips"):
        run("retrain", original, UnlearningData(FORGET, 3, mixed, request_.fresh, RECIPE))
    with pytest.raises(ParameterError, match="recipe"):
        run("retrain", original, UnlearningData(FORGET, 3, RETAIN, request_.fresh))


# ---- random labels, with and without the retain set


def test_random_labels_are_learned_and_the_true_ones_lost(original, request_):
    outcome = run("ran_lab", original, request_, epochs=45, learning_rate=1e-2)
    wrong = ran_lab.wrong_labels(request_, 0)
    assert loss_of(outcome.model, FORGET, FORGET.labels) > 2 * loss_of(
        original, FORGET, FORGET.labels
    )
    assert loss_of(outcome.model, FORGET, wrong) < 0.5 * loss_of(original, FORGET, wrong)
    assert outcome.cost == Cost(forward_backward=45 * 6)


@pytest.mark.parametrize("name", ["remain", "remain_superloss"])
def test_the_retain_set_keeps_what_random_labels_lose(name, original, request_):
    # as many steps for both: an epoch of `remain` is one over the retain set
    values = {"learning_rate": 1e-2, "batch_size": 6}
    kept = run(name, original, request_, epochs=15, **values)
    lost = run("ran_lab", original, request_, epochs=45, **values)
    assert loss_of(kept.model, RETAIN, RETAIN.labels) < 0.5 * loss_of(
        lost.model, RETAIN, RETAIN.labels
    )
    assert loss_of(kept.model, FORGET, FORGET.labels) > loss_of(original, FORGET, FORGET.labels)
    # 15 epochs of three steps, six forget clips beside six retain clips in each
    assert kept.cost == Cost(forward_backward=15 * 3 * 12)


def test_remain_superloss_is_remain_with_the_curriculum(original, request_):
    values = {"epochs": 2, "learning_rate": 1e-3}
    a = run("remain_superloss", original, request_, **values)
    b = run("remain", original, request_, curriculum="superloss", **values)
    c = run("remain", original, request_, **values)
    assert tiny.equal(tiny.weights(a.model), tiny.weights(b.model))
    assert not tiny.equal(tiny.weights(a.model), tiny.weights(c.model))


@pytest.mark.parametrize("regularisation", [0.25, 1.0, 10.0])
@pytest.mark.parametrize("threshold", [math.log(3), math.log(7)])
def test_superloss_is_the_minimum_over_sigma(regularisation, threshold):
    losses = torch.tensor([0.0, 0.01, 0.5, 1.0, 1.9, 2.5, 6.0, 30.0]).double()
    values = remain.superloss(losses, threshold, regularisation)
    for loss, value in zip(losses.tolist(), values.tolist(), strict=True):

        def objective(log_sigma: float, excess: float = loss - threshold) -> float:
            return excess * math.exp(log_sigma) + regularisation * log_sigma**2

        # beyond sigma = e the paper's sigma stays: the objective has no minimum for easy clips
        found = minimize_scalar(
            objective, bounds=(-20, 1), method="bounded", options={"xatol": 1e-9}
        )
        assert value == pytest.approx(found.fun, rel=1e-6, abs=1e-7)


def test_superloss_weighs_a_clip_at_the_threshold_as_it_is():
    losses = torch.tensor([2.0, 1.5, 3.0, -50.0], dtype=torch.float64, requires_grad=True)
    values = remain.superloss(losses, 2.0, 1.0)
    (weight,) = torch.autograd.grad(values.sum(), losses)
    assert values[0].item() == 0 and float(weight[0]) == pytest.approx(1)
    # sigma falls with the loss, and ends at e
    assert weight[3] > weight[1] > weight[0] > weight[2] > 0
    assert float(weight[3]) == pytest.approx(math.e, rel=1e-6)
    # the gradient is sigma, of the numerical minimum
    found = minimize_scalar(lambda s: math.exp(s) + s**2, bounds=(-20, 1), method="bounded")
    assert float(weight[2]) == pytest.approx(math.exp(found.x), rel=1e-4)
    # a large lambda weighs all alike
    (weight,) = torch.autograd.grad(remain.superloss(losses, 2.0, 1e6).sum(), losses)
    np.testing.assert_allclose(weight, 1, atol=1e-4)


# ---- adversarial copies


def test_adv_without_its_copies_is_random_labels(original, request_):
    """Where every step sees the whole forget set, only the sum's order differs."""
    values = {"epochs": 3, "learning_rate": 1e-3, "batch_size": 64, "mode": "eval"}
    plain = run("ran_lab", original, request_, **values)
    without = run(
        "adv", original, request_, lambda_adv=0.0, lambda_mis=1.0, **values, **SMALL
    )
    for name, weight in tiny.weights(plain.model).items():
        torch.testing.assert_close(tiny.weights(without.model)[name], weight, rtol=0, atol=1e-4)
    alone = run("adv", original, request_, lambda_adv=1.0, lambda_mis=0.0, **values, **SMALL)
    copies = adversarial_set(original, FORGET, 3, AttackParameters(**SMALL), seed=0).clips
    assert loss_of(alone.model, copies, copies.labels) < loss_of(original, copies, copies.labels)


def test_copies_hold_the_model_in_place(original, request_):
    """They carry the labels that the original gives them."""
    attack = {"copies": 4, "steps": 10, "tau": 0.8}
    values = {"learning_rate": 5e-3, "epochs": 4}
    outcome = run("adv", original, request_, **values, **attack)
    # as many steps on wrong labels alone
    plain = run("ran_lab", original, request_, learning_rate=5e-3, epochs=8)
    made = adversarial_set(original, FORGET, 3, AttackParameters(**attack), seed=0)
    assert outcome.details["reached_target"] == [made.success_rate]
    assert loss_of(outcome.model, made.clips, made.clips.labels) < loss_of(
        plain.model, made.clips, made.clips.labels
    )


@pytest.mark.parametrize("sets, makes", [("once", 1), ("anew", 3)])
def test_copies_are_made_as_often_as_asked(sets, makes, original, request_):
    # 6 clips x 2 copies in batches of 6: two steps an epoch, each beside the 6 forget clips
    outcome = run(
        "adv", original, request_, epochs=3, learning_rate=1e-3, batch_size=6, sets=sets, **SMALL
    )
    attack, descent = makes * 2 * 2 * 6, 3 * 2 * (6 + 6)
    assert outcome.cost == Cost(forward_backward=attack + descent, forward=makes * 12)
    assert len(outcome.details["reached_target"]) == makes


def test_copies_made_anew_are_made_against_the_current_weights(original, request_):
    values = {"epochs": 3, "learning_rate": 5e-3} | SMALL
    once, anew = (run("adv", original, request_, sets=sets, **values) for sets in ("once", "anew"))
    # the first epoch is the same
    assert once.details["history"][0] == anew.details["history"][0]
    assert once.details["history"][1] != anew.details["history"][1]


def test_copies_may_come_from_elsewhere(original, request_):
    asked = []

    def kept(model, parameters, seed, cost):
        asked.append((parameters, seed))
        return adversarial_set(model, FORGET, 3, parameters, seed=seed, cost=cost)

    expected = run("adv", original, request_, seed=3, **FEW["adv"])
    outcome = run(
        "adv", original, UnlearningData(FORGET, 3, adversarial=kept), seed=3, **FEW["adv"]
    )
    assert asked == [(AttackParameters(**SMALL), 3)]
    assert tiny.equal(tiny.weights(expected.model), tiny.weights(outcome.model))
    assert outcome.cost == expected.cost


# ---- elastic weights


def test_no_importance_is_adv_bit_for_bit(original, request_):
    plain = run("adv", original, request_, **FEW["adv"])
    none = run("adv_ela", original, request_, importance="none", **FEW["adv_ela"])
    assert tiny.equal(tiny.weights(plain.model), tiny.weights(none.model))
    assert plain.cost == none.cost
    zero = run("adv_ela", original, request_, lambda_ewc=0.0, **FEW["adv_ela"])
    assert zero.details["history"] == pytest.approx(plain.details["history"], rel=1e-5)
    # the importance is paid for: one pass over the forget set
    assert zero.cost.forward_backward == plain.cost.forward_backward + 6


def moved(before, after):
    return math.sqrt(sum(float((after[n] - before[n]).square().sum()) for n in before))


@pytest.mark.parametrize("kind", ["fisher", "1-fisher", "mas", "1-mas"])
def test_elastic_weights_hold(kind, original, request_):
    values = {"epochs": 20, "learning_rate": 1e-3} | SMALL
    before = tiny.weights(original)
    free = moved(before, tiny.weights(run("adv", original, request_, **values).model))
    held = run("adv_ela", original, request_, importance=kind, lambda_ewc=1e8, **values)
    assert moved(before, tiny.weights(held.model)) < 0.4 * free


def test_importance_is_that_of_the_wrong_labels(original, request_, monkeypatch):
    calls = []
    estimate = adv_ela.estimate

    def spy(kind, model, clips, labels, **options):
        assert tiny.equal(tiny.weights(model), tiny.weights(original))
        calls.append((kind, labels.tolist(), clips.hashes, options))
        return estimate(kind, model, clips, labels, **options)

    monkeypatch.setattr(adv_ela, "estimate", spy)
    run(
        "adv_ela", original, request_, seed=4, fisher_per="batch", importance_mode="train",
        batch_size=5, **SMALL, epochs=1,
    )  # fmt: skip
    ((kind, labels, hashes, options),) = calls
    assert kind == "fisher" and hashes == FORGET.hashes
    assert labels == ran_lab.wrong_labels(request_, 4).tolist()
    assert (options["per"], options["mode"], options["batch_size"]) == ("batch", "train", 5)


def test_the_penalty_is_the_elastic_one(original, request_):
    """The second loss is the first method's, plus lambda times sum F (theta - theta*)^2."""
    one_batch = {"batch_size": 64, "mode": "eval", "learning_rate": 1e-3} | SMALL
    # after one step both models are at the same place, as the penalty has no gradient yet
    stepped = run("adv", original, request_, epochs=1, **one_batch).model
    fisher = adv_ela.estimate("fisher", original, FORGET, ran_lab.wrong_labels(request_, 0))
    penalty = 1e6 * adv_ela.elastic_penalty(stepped, tiny.weights(original), fisher).item()
    plain = run("adv", original, request_, epochs=2, **one_batch).details["history"]
    elastic = run(
        "adv_ela", original, request_, epochs=2, lambda_ewc=1e6, **one_batch
    ).details["history"]
    assert elastic[0] == pytest.approx(plain[0], rel=1e-6)
    assert penalty > 0.1
    assert elastic[1] - plain[1] == pytest.approx(penalty, rel=1e-2)


def test_modules_share_one_default(original):
    """Adv. + Ela. without its own parameters is Adv."""
    shared = asdict(adv.Parameters())
    assert shared.items() <= asdict(adv_ela.Parameters()).items()
