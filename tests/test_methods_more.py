"""The methods beside the paper's own, each against a step worked out by hand in numpy."""

import copy
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import cross_entropy

from speechunlearn import methods
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods import METHODS, UnlearningData, bad_teacher, delete, salun, scrub, ssd
from speechunlearn.methods.importance import estimate
from speechunlearn.methods.losses import divergence
from speechunlearn.models.classifier import Classifier, Frontend
from speechunlearn.models.training import Cost, Recipe, predict, train

torch.set_num_threads(1)

# ---- a linear classifier of three samples, whose gradients can be written down

RATE = 0.1
STEP = {"epochs": 1, "learning_rate": RATE, "batch_size": 64, "mode": "eval"}
WEIGHT = np.array([[0.5, -1.0, 0.3], [0.2, 0.4, -0.6], [-0.7, 0.1, 0.8]])
TEACHER = np.array([[0.1, 0.3, -0.2], [0.6, -0.5, 0.2], [-0.1, 0.9, 0.4]])


class Linear(torch.nn.Module):
    """A network of one matrix, called as transformers' are."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.linear = tiny.Linear(torch.tensor(weight, dtype=torch.float32))
        self.linear.bias.requires_grad_(False)

    def forward(self, waveform_z: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.linear(waveform_z, attention_mask))


def linear(weight: np.ndarray = WEIGHT) -> Classifier:
    return Classifier(Linear(weight), ["a", "b", "c"], Frontend()).eval()


def some(n: int, seed: int) -> tuple[Clips, np.ndarray, np.ndarray]:
    """Clips of three samples, their samples as rows, and their labels one-hot."""
    samples = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    labels = torch.arange(n) % 3
    names = [f"{seed}-{i}" for i in range(n)]
    clips = Clips([torch.from_numpy(row) for row in samples], labels, names, ["s"] * n)
    return clips, samples.astype(float), np.eye(3)[labels.numpy()]


FORGET, X_E, Y_E = some(4, seed=1)
RETAIN, X_R, Y_R = some(5, seed=2)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def ce(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log((softmax(x @ weight.T) * y).sum(1)).mean())


def ce_gradient(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Also of KL(y || softmax) for a target distribution y: they differ by a constant."""
    return (softmax(x @ weight.T) - y).T @ x / len(x)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Mean over rows of KL(p || q), with 0 log 0 = 0."""
    ratio = np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1))
    return float((p * ratio).sum(1).mean())


@pytest.fixture
def plain_steps(monkeypatch):
    """Steps against the gradient itself, so that a step shows it; Adam would show its sign."""
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)


def run(name, model, request, seed=0, **values):
    return METHODS[name].unlearn(model, request, methods.parameters(name, **values), seed=seed)


def matrix(outcome) -> np.ndarray:
    return outcome.model.network.linear.weight.detach().double().numpy()


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# ---- a classifier that knows its clips

CLIPS, REST, OTHER = (tiny.clips(n, seed=n, noise=0.5) for n in (6, 18, 9))


def fresh(seed: int) -> Classifier:
    return tiny.classifier(seed=seed)


def request_of(**changes):
    return UnlearningData(
        **({"forget": CLIPS, "n_classes": 3, "retain": REST, "fresh": fresh} | changes)
    )


@pytest.fixture(scope="module")
def original():
    model = tiny.classifier()
    both = bad_teacher._joined(CLIPS, REST)
    train(model, both, Recipe(20, 2e-2, 8, schedule="one_cycle"), seed=0)
    return model


def loss_of(model, clips):
    return float(cross_entropy(predict(model, clips), clips.labels))


def same(a, b):
    return tiny.equal(tiny.weights(a.model), tiny.weights(b.model))


RAISING = {
    "neggrad": {"learning_rate": 1e-2, "epochs": 5},
    "neggrad_plus": {"learning_rate": 1e-2, "epochs": 5, "alpha": 0.5},
    "scrub": {"learning_rate": 1e-2, "epochs": 3, "alpha": 0.1, "gamma": 0.1},
    "salun": {"learning_rate": 1e-2, "epochs": 10},
    "bad_teacher": {"learning_rate": 1e-2, "epochs": 10},
    "delete": {"learning_rate": 1e-2, "epochs": 10},
    "ssd": {"selection": 1.0, "dampening": 0.1},
}


@pytest.mark.parametrize("name", RAISING)
def test_what_was_known_of_the_forget_set_is_lost(name, original):
    outcome = run(name, original, request_of(), **RAISING[name])
    assert loss_of(outcome.model, CLIPS) > 1.5 * loss_of(original, CLIPS)


@pytest.mark.parametrize(
    "name, helper", [("neggrad_plus", "neggrad"), ("salun", "ran_lab"), ("scrub", "neggrad")]
)
def test_the_retain_set_is_held_by_those_who_see_it(name, helper, original):
    held = run(name, original, request_of(), **RAISING[name])
    lost = run(helper, original, request_of(), learning_rate=1e-2, epochs=30)
    assert loss_of(held.model, REST) < 0.5 * loss_of(lost.model, REST)


@pytest.mark.parametrize("name", ["neggrad", "delete"])
def test_the_retain_set_is_not_looked_at_where_it_is_not_needed(name, original):
    values = {"learning_rate": 1e-3, "epochs": 2}
    there = run(name, original, request_of(), **values)
    gone = run(name, original, request_of(retain=None, fresh=None), **values)
    assert same(there, gone) and there.cost == gone.cost


@pytest.mark.parametrize(
    "method, name, value",
    [
        ("finetune", "epochs", 0), ("finetune", "mode", "half"),
        ("neggrad", "clip_gradient", 0.0), ("neggrad", "learning_rate", -1.0),
        ("neggrad_plus", "alpha", 0.0), ("neggrad_plus", "alpha", 1.5),
        ("scrub", "max_epochs", -1), ("scrub", "alpha", -0.5), ("scrub", "gamma", -1.0),
        ("scrub", "temperature", 0.0), ("scrub_r", "gamma", math.nan), ("scrub_r", "epochs", 0),
        ("salun", "saliency", 0.0), ("salun", "saliency", 1.1), ("salun", "curriculum", "focal"),
        ("bad_teacher", "retain_share", 0.0), ("bad_teacher", "retain_share", 1.1),
        ("bad_teacher", "temperature", -1.0), ("delete", "temperature", 0.0),
        ("delete", "batch_size", 0), ("ssd", "selection", 0.0), ("ssd", "dampening", -1.0),
        ("ssd", "batch_size", 0), ("ssd", "fisher_per", "epoch"), ("ssd", "mode", "half"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(method, name, value):
    with pytest.raises(ParameterError, match=f"{name}(: '?|=){value}"):
        methods.parameters(method, **{name: value})


def test_the_defaults_are_the_sources():
    sources = {
        "neggrad": {"clip_gradient": 1.0, "learning_rate": 5e-6},
        "neggrad_plus": {"alpha": 0.95},
        "scrub": {
            "epochs": 10, "max_epochs": 3, "alpha": 0.5, "gamma": 1.0, "temperature": 2.0,
            "rewind": False,
        },
        "scrub_r": {"max_epochs": 3, "temperature": 2.0, "rewind": True},
        "salun": {"saliency": 0.5, "curriculum": "none"},
        "bad_teacher": {"retain_share": 0.3, "temperature": 1.0},
        "delete": {"temperature": 1.0},
        "ssd": {"selection": 10.0, "dampening": 1.0},
    }
    for name, values in sources.items():
        assert values.items() <= asdict(methods.parameters(name)).items()


# ---- fine-tuning and ascent


@pytest.mark.usefixtures("plain_steps")
def test_finetune_descends_on_the_retain_set():
    outcome = run("finetune", linear(), UnlearningData(FORGET, 3, RETAIN), **STEP)
    close(matrix(outcome), WEIGHT - RATE * ce_gradient(WEIGHT, X_R, Y_R))
    assert outcome.details["history"] == pytest.approx([ce(WEIGHT, X_R, Y_R)], rel=1e-5)
    assert outcome.cost == Cost(forward_backward=5)


def test_finetune_takes_no_notice_of_the_forget_set(original):
    values = {"epochs": 2, "learning_rate": 1e-3}
    assert same(
        run("finetune", original, request_of(), **values),
        run("finetune", original, request_of(forget=OTHER), **values),
    )


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("bound", [0.05, 1.0, 1e6])
def test_neggrad_climbs_the_clipped_gradient(bound):
    outcome = run("neggrad", linear(), UnlearningData(FORGET, 3), clip_gradient=bound, **STEP)
    gradient = ce_gradient(WEIGHT, X_E, Y_E)
    norm = np.sqrt((gradient**2).sum())
    assert 0.05 < norm < 1e6
    close(matrix(outcome), WEIGHT + RATE * gradient * min(1, bound / norm))
    assert outcome.details["history"] == pytest.approx([-ce(WEIGHT, X_E, Y_E)], rel=1e-5)
    assert outcome.cost == Cost(forward_backward=4)


def test_neggrad_under_adam_steps_up_by_the_sign():
    outcome = run("neggrad", linear(), UnlearningData(FORGET, 3), **STEP)
    close(matrix(outcome), WEIGHT + RATE * np.sign(ce_gradient(WEIGHT, X_E, Y_E)))


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("alpha", [0.95, 0.3])
def test_neggrad_plus_weighs_the_two(alpha):
    outcome = run("neggrad_plus", linear(), UnlearningData(FORGET, 3, RETAIN), alpha=alpha, **STEP)
    up, down = ce_gradient(WEIGHT, X_E, Y_E), ce_gradient(WEIGHT, X_R, Y_R)
    close(matrix(outcome), WEIGHT - RATE * (alpha * down - (1 - alpha) * up))
    value = alpha * ce(WEIGHT, X_R, Y_R) - (1 - alpha) * ce(WEIGHT, X_E, Y_E)
    assert outcome.details["history"] == pytest.approx([value], rel=1e-4)
    assert outcome.cost == Cost(forward_backward=9)


def test_neggrad_plus_with_all_on_the_retain_set_is_finetune(original):
    values = {"epochs": 3, "learning_rate": 1e-3, "mode": "eval"}
    plus = run("neggrad_plus", original, request_of(), alpha=1.0, **values)
    plain = run("finetune", original, request_of(), **values)
    assert same(plus, plain)
    # two batches of the retain set an epoch, each beside the six forget clips
    assert plus.cost.forward_backward == plain.cost.forward_backward + 3 * 2 * 6


# ---- the divergence


def test_the_divergence_by_hand():
    """KL((.5, .5) || (.8, .2)) = .5 ln(.5/.8) + .5 ln(.5/.2); the other way round, .193."""
    student, teacher = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert divergence(student, teacher).item() == pytest.approx(0.2231436, abs=1e-6)
    assert divergence(teacher, student).item() == pytest.approx(0.1927450, abs=1e-6)
    # logits are normalised, and the mean is over clips, not over clips and classes
    two = torch.cat([student + 7, student])
    assert divergence(two, torch.cat([teacher, student]) - 3).item() == pytest.approx(
        0.2231436 / 2, abs=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_divergence_is_torchs(temperature):
    student, teacher = (
        torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    theirs = kl_divergence(
        Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
    )
    assert divergence(student, teacher, temperature).item() == pytest.approx(
        temperature**2 * theirs.mean().item(), rel=1e-5
    )


def test_the_divergence_has_no_gradient_where_it_is_zero():
    logits = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    divergence(logits, logits.detach(), 2.0).backward()
    assert logits.grad.abs().max() < 1e-6


# ---- DELETE


def test_the_true_class_is_struck_out():
    logits = torch.tensor([[2.0, 1.0, 0.0], [3.0, 3.0, -1.0]])
    target = torch.softmax(delete.masked(logits, torch.tensor([0, 2])), 1)
    e = math.e
    close(target, [[0, e / (e + 1), 1 / (e + 1)], [0.5, 0.5, 0]])
    assert logits[0, 0] == 2  # a copy


@pytest.mark.usefixtures("plain_steps")
def test_delete_steps_towards_the_masked_answer():
    outcome = run("delete", linear(), UnlearningData(FORGET, 3), **STEP)
    others = softmax(X_E @ WEIGHT.T) * (1 - Y_E)
    target = others / others.sum(1, keepdims=True)
    close(matrix(outcome), WEIGHT - RATE * ce_gradient(WEIGHT, X_E, target))
    expected = kl(target, softmax(X_E @ WEIGHT.T))
    assert outcome.details["history"] == pytest.approx([expected], rel=1e-4)
    # it is -log(1 - p_true), and the original was asked once
    held = (softmax(X_E @ WEIGHT.T) * Y_E).sum(1)
    assert expected == pytest.approx(-np.log(1 - held).mean())
    assert outcome.cost == Cost(forward_backward=4, forward=4)


def test_delete_keeps_what_the_original_says_of_the_other_classes():
    one = FORGET.at([0])
    outcome = run(
        "delete", linear(), UnlearningData(one, 3), epochs=300, learning_rate=0.05, mode="eval"
    )
    before, after = (
        torch.softmax(predict(m, one), 1)[0] for m in (linear(), outcome.model)
    )
    assert after[0] < 0.01 < before[0]
    assert float(after[1] / after[2]) == pytest.approx(float(before[1] / before[2]), rel=0.02)


# ---- SCRUB


@pytest.mark.usefixtures("plain_steps")
def test_scrub_alternates_its_two_losses():
    """Two epochs by hand, the second without a max pass."""
    t, alpha, gamma = 2.0, 0.5, 0.8
    outcome = run(
        "scrub", linear(), UnlearningData(FORGET, 3, RETAIN), **(STEP | {"epochs": 3}),
        max_epochs=2,
        temperature=t, alpha=alpha, gamma=gamma,
    )
    weight, losses = WEIGHT, []

    def disobey(weight, x):
        """KL(teacher || student) times T^2, and its gradient."""
        teacher, student = (softmax(x @ w.T / t) for w in (WEIGHT, weight))
        return t**2 * kl(teacher, student), t * (student - teacher).T @ x / len(x)

    for part in ("max", "min", "max", "min", "min"):
        value, gradient = disobey(weight, X_E if part == "max" else X_R)
        if part == "max":
            value, gradient = -value, -gradient
        else:
            value = alpha * value + gamma * ce(weight, X_R, Y_R)
            gradient = alpha * gradient + gamma * ce_gradient(weight, X_R, Y_R)
        losses.append(value)
        weight = weight - RATE * gradient
    close(matrix(outcome), weight)
    assert outcome.details["passes"] == ["max", "min", "max", "min", "min"]
    assert outcome.details["history"] == pytest.approx(losses, rel=1e-3, abs=1e-6)
    # while the student is its teacher, there is nothing to disobey
    assert losses[0] == 0 > losses[2]
    assert outcome.cost == Cost(forward_backward=2 * 4 + 3 * 5, forward=4 + 5)


def test_scrub_without_its_teacher_is_finetune(original):
    values = {"epochs": 3, "learning_rate": 1e-3}
    obedient = run(
        "scrub", original, request_of(), max_epochs=0, alpha=0.0, gamma=1.0, **values
    )
    assert same(obedient, run("finetune", original, request_of(), **values))
    assert obedient.cost.forward == len(CLIPS) + len(REST)


def test_scrub_r_returns_the_epoch_whose_error_is_the_references(original):
    # a max pass every epoch, at a rate that makes mistakes
    values = {"learning_rate": 3e-2, "max_epochs": 6, "alpha": 0.0, "gamma": 0.2, "batch_size": 3}
    rewound = run(
        "scrub_r", original, request_of(validation=OTHER), epochs=6, **values
    )
    each = [
        run("scrub", original, request_of(), epochs=epochs, **values) for epochs in range(1, 7)
    ]
    errors = [
        float((predict(o.model, CLIPS).argmax(1) != CLIPS.labels).double().mean()) for o in each
    ]
    assert rewound.details["forget_errors"] == errors
    # both sets have the three classes in equal parts, so the weighted error is the plain one
    wrong = predict(each[-1].model, OTHER).argmax(1) != OTHER.labels
    assert rewound.details["reference_error"] == pytest.approx(float(wrong.double().mean()))
    distance = [abs(error - float(wrong.double().mean())) for error in errors]
    best = distance.index(min(distance))
    assert best < 5 and len(set(errors)) > 1  # else there is nothing to rewind
    assert rewound.details["rewound_to"] == best + 1
    assert same(rewound, each[best])
    assert rewound.details["history"] == each[-1].details["history"]
    looked = 6 * len(CLIPS) + len(OTHER)
    assert rewound.cost == Cost(each[-1].cost.forward_backward, each[-1].cost.forward + looked)


def test_the_reference_has_the_classes_of_the_forget_set():
    forget = tiny.clips(3).relabelled(torch.tensor([0, 0, 1]))
    validation = tiny.clips(4, seed=1).relabelled(torch.tensor([0, 1, 1, 2]))
    weights = scrub.matching_weights(UnlearningData(forget, 3, validation=validation))
    close(weights, [2 / 3, 1 / 6, 1 / 6, 0])
    with pytest.raises(ParameterError, match=r"validation: .*classes \[1\]"):
        scrub.matching_weights(UnlearningData(forget, 3, validation=validation.at([0, 3])))
    with pytest.raises(ParameterError, match="validation: 2 training clips"):
        scrub.matching_weights(UnlearningData(forget, 3, validation=forget.at([0, 2])))
    with pytest.raises(ParameterError, match="validation: 1 training clips"):
        scrub.matching_weights(
            UnlearningData(forget, 3, validation=validation, retain=validation.at([1]))
        )


def test_rewinding_needs_clips_that_were_not_seen(original):
    with pytest.raises(ParameterError, match="rewind: it needs the validation set"):
        run("scrub", original, request_of(), rewind=True)


# ---- SalUn


@pytest.mark.parametrize(
    "share, a, b",
    [
        (0.5, [False, True], [[True], [False]]),
        (0.25, [False, True], [[False], [False]]),
        (0.74, [False, True], [[True], [False]]),
        (0.75, [False, True], [[True], [True]]),
        (1.0, [True, True], [[True], [True]]),
    ],
)
def test_the_salient_weights_are_the_top_of_all_tensors_together(share, a, b):
    importance = {"a": torch.tensor([0.1, 5.0]), "b": torch.tensor([[3.0], [0.2]])}
    masks = salun.salient(importance, share)
    assert masks["a"].tolist() == a and masks["b"].tolist() == b


def test_one_threshold_may_leave_a_whole_tensor_out():
    masks = salun.salient({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.5)
    assert masks["a"].tolist() == [False, False] and masks["b"].tolist() == [True, True]


def test_gradients_of_clips_that_disagree_cancel_in_the_saliency():
    close(
        estimate("saliency", linear(), FORGET, FORGET.labels)["network.linear.weight"],
        np.abs(ce_gradient(WEIGHT, X_E, Y_E)),
    )
    # a clip and its mirror image, of the one class at logits of zero
    x = torch.tensor([1.0, -2.0, 0.5])
    mirrored = Clips([x, -x], torch.tensor([1, 1]), ["+", "-"], ["s", "s"])
    still = linear(np.zeros((3, 3)))
    assert not estimate("saliency", still, mirrored, mirrored.labels)[
        "network.linear.weight"
    ].any()
    assert estimate("fisher", still, mirrored, mirrored.labels)["network.linear.weight"].any()


def test_salun_moves_the_salient_weights_alone():
    request = UnlearningData(FORGET, 3, RETAIN)
    outcome = run("salun", linear(), request, **(STEP | {"epochs": 5}), saliency=0.5)
    # four of nine: 4.5 rounded down, from the gradient of the true labels at the original
    top, other, another = (
        size >= np.sort(size.ravel())[-4]
        for size in (np.abs(ce_gradient(WEIGHT, X_E, np.roll(Y_E, k, axis=1))) for k in range(3))
    )
    assert (top != other).any() and (top != another).any()  # wrong labels have other masks
    moved = matrix(outcome) != linear().network.linear.weight.detach().double().numpy()
    np.testing.assert_array_equal(moved, top)
    descent = outcome.cost.forward_backward - len(FORGET)
    assert descent == 5 * (len(FORGET) + len(RETAIN))


def test_salun_without_a_mask_is_random_labels_with_the_retain_set(original):
    values = {"epochs": 3, "learning_rate": 1e-3}
    whole = run("salun", original, request_of(), saliency=1.0, **values)
    assert same(whole, run("remain", original, request_of(), **values))


# ---- bad teacher


def test_a_share_of_the_retain_set_is_drawn():
    drawn = bad_teacher.drawn(18, 0.3, seed=0)
    assert len(drawn) == 5 and drawn == sorted(set(drawn)) and set(drawn) <= set(range(18))
    assert drawn == bad_teacher.drawn(18, 0.3, seed=0) != bad_teacher.drawn(18, 0.3, seed=1)
    assert bad_teacher.drawn(2, 0.1, seed=0) in ([0], [1])
    assert bad_teacher.drawn(4, 1.0, seed=0) == [0, 1, 2, 3]


@pytest.mark.usefixtures("plain_steps")
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_bad_teacher_is_heard_on_the_forget_set_alone(temperature):
    """At the start the student is the good teacher, whose part has no gradient."""
    request = UnlearningData(FORGET, 3, RETAIN, fresh=lambda seed: linear(TEACHER))
    outcome = run(
        "bad_teacher", linear(), request, retain_share=0.6, temperature=temperature, **STEP
    )
    student, teacher = (softmax(X_E @ w.T / temperature) for w in (WEIGHT, TEACHER))
    # the mean over the 4 clips and 3 = .6 * 5 retained ones
    gradient = temperature * (student - teacher).T @ X_E / 7
    close(matrix(outcome), WEIGHT - RATE * gradient)
    value = temperature**2 * kl(teacher, student) * 4 / 7
    assert outcome.details["history"] == pytest.approx([value], rel=1e-4)
    assert outcome.cost == Cost(forward_backward=7, forward=7)


@pytest.mark.usefixtures("plain_steps")
def test_the_good_teacher_pulls_back_what_has_moved():
    """The second step, by hand: by now the student is neither teacher."""
    request = UnlearningData(FORGET, 3, RETAIN, fresh=lambda seed: linear(TEACHER))
    outcome = run("bad_teacher", linear(), request, retain_share=1.0, **(STEP | {"epochs": 2}))
    x = np.concatenate([X_E, X_R])
    wanted = np.concatenate([softmax(X_E @ TEACHER.T), softmax(X_R @ WEIGHT.T)])
    weight = WEIGHT
    for _ in range(2):
        weight = weight - RATE * ce_gradient(weight, x, wanted)
    close(matrix(outcome), weight)


@pytest.mark.usefixtures("plain_steps")
def test_a_bad_teacher_that_is_the_good_one_teaches_nothing(original):
    request = request_of(fresh=lambda seed: copy.deepcopy(original))
    outcome = run("bad_teacher", original, request, mode="eval", learning_rate=1.0, epochs=2)
    assert outcome.details["history"] == pytest.approx([0, 0], abs=1e-6)
    for name, weight in tiny.weights(original).items():
        torch.testing.assert_close(tiny.weights(outcome.model)[name], weight, rtol=0, atol=1e-5)


def test_the_bad_teacher_is_not_what_the_original_was_trained_from(original):
    seeds = []

    def spy(seed):
        seeds.append(seed)
        return fresh(seed)

    run("bad_teacher", original, request_of(fresh=spy), seed=3, epochs=1)
    assert len(seeds) == 1 and seeds[0] > 1000
    with pytest.raises(ParameterError, match="'bad_teacher' needs a fresh classifier"):
        run("bad_teacher", original, request_of(fresh=None))


# ---- SSD


@pytest.mark.parametrize(
    "selection, dampening, expected, share",
    [
        # 1 = 1: not selected; 20 > 10: 1/20; 0 = 0: not; 5 > 0: 0
        (10.0, 1.0, [2.0, 0.1, 2.0, 0.0], 0.5),
        # a weight never grows: min(30 * 1/20, 1)
        (10.0, 30.0, [2.0, 2.0, 2.0, 0.0], 0.5),
        (20.0, 1.0, [2.0, 2.0, 2.0, 0.0], 0.25),
        (0.5, 0.5, [1.0, 0.05, 2.0, 0.0], 0.75),
    ],
)
def test_dampening_by_hand(selection, dampening, expected, share):
    model = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    of_forget, of_all = (
        {"weight": torch.tensor(f).view(2, 2)} for f in ([1.0, 20, 0, 5], [1.0, 1, 0, 0])
    )
    assert ssd.dampen_(model, of_forget, of_all, selection, dampening) == share
    assert model.weight.flatten().tolist() == pytest.approx(expected)
    assert of_all["weight"].flatten().tolist() == [1, 1, 0, 0]


def squares(x: np.ndarray, y: np.ndarray, size: int) -> list[np.ndarray]:
    starts = range(0, len(x), size)
    return [ce_gradient(WEIGHT, x[s : s + size], y[s : s + size]) ** 2 for s in starts]


@pytest.mark.parametrize("per, size, selection", [("clip", 1, 1.1), ("batch", 2, 0.6)])
def test_ssd_compares_the_forget_set_with_the_whole(per, size, selection):
    """The training set is both sets: four and five clips, or two and three batches."""
    lost, kept = squares(X_E, Y_E, size), squares(X_R, Y_R, size)
    of_forget, of_all = np.mean(lost, 0), np.mean(lost + kept, 0)
    chosen = of_forget > selection * of_all
    assert 0 < chosen.mean() < 1
    expected = np.where(chosen, WEIGHT * np.minimum(0.4 * of_all / of_forget, 1), WEIGHT)
    outcome = run(
        "ssd", linear(), UnlearningData(FORGET, 3, RETAIN), selection=selection, dampening=0.4,
        fisher_per=per, batch_size=2,
    )
    close(matrix(outcome), expected)
    assert outcome.details == {"dampened": pytest.approx(chosen.mean())}
    assert outcome.cost == Cost(forward_backward=9)


def test_ssd_takes_the_statistic_in_place_of_the_clips(original):
    both = bad_teacher._joined(CLIPS, REST)
    asked = []

    def statistic(model):
        asked.append(tiny.equal(tiny.weights(model), tiny.weights(original)))
        return estimate("fisher", original, both, both.labels)

    kept = run("ssd", original, request_of(retain=None, statistic=statistic), selection=1.0)
    made = run("ssd", original, request_of(), selection=1.0)
    assert asked == [True]
    for name, weight in tiny.weights(made.model).items():
        torch.testing.assert_close(tiny.weights(kept.model)[name], weight, rtol=1e-4, atol=1e-6)
    # its pass over the training set is not this request's
    assert (kept.cost.forward_backward, made.cost.forward_backward) == (6, 24)
    # it is of single clips in eval mode, and stands for nothing else
    for other in ({"fisher_per": "batch"}, {"mode": "train"}):
        with pytest.raises(ParameterError, match="fisher_per: .*mode: .*need the retain set"):
            run("ssd", original, request_of(retain=None, statistic=statistic), **other)
        run("ssd", original, request_of(statistic=statistic), **other)
    assert asked == [True]


def test_a_forget_set_of_one_in_a_selects_nothing(original):
    """Six of 24 clips: no mean over the six is more than four times the mean over all."""
    none = run("ssd", original, request_of(), selection=4.01)
    assert none.details == {"dampened": 0.0}
    assert tiny.equal(tiny.weights(none.model), tiny.weights(original))
    assert run("ssd", original, request_of(), selection=2.0).details["dampened"] > 0


def test_a_fisher_that_is_no_number_is_an_error():
    broken = tiny.classifier()
    with torch.no_grad():
        broken.network.head.bias[0] = float("nan")
    with pytest.raises(ParameterError, match="Fisher information of 'network.* is not finite"):
        run("ssd", broken, request_of())
