"""The faster computation is the same computation: equal numbers, the model left as it was."""

import copy
import threading

import pytest
import tiny
import torch
from torch.nn.functional import conv1d, cross_entropy

from speechunlearn.errors import ParameterError
from speechunlearn.methods import METHODS
from speechunlearn.methods.base import UnlearningData
from speechunlearn.methods.pgd import AttackParameters, adversarial_set
from speechunlearn.models import classifier, fast_mode
from speechunlearn.models.classifier import Classifier, Frontend
from speechunlearn.models.training import predict

torch.set_num_threads(1)

SMALL = {
    "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "conv_dim": (8, 16, 16),
    "num_feat_extract_layers": 3, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16, "num_labels": 3,
}  # fmt: skip


def network(kind: str, norm: str = "layer", bias: bool = True, mask: bool = True) -> Classifier:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        **SMALL, feat_extract_norm=norm, conv_bias=bias, do_stable_layer_norm=norm == "layer",
    )  # fmt: skip
    with classifier.seeded(0):
        made = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    return Classifier(made, ["a", "b", "c"], Frontend(return_attention_mask=mask)).eval()


def state(model: torch.nn.Module) -> list[tuple[str, bool, object]]:
    """Where functions may have been put, and the attention that is chosen."""
    return [
        (name, "forward" in vars(module), getattr(module.config, "_attn_implementation", None))
        if hasattr(module, "config")
        else (name, "forward" in vars(module), None)
        for name, module in model.named_modules()
    ]


def gradients(model: Classifier, waveform_z, lengths) -> list[torch.Tensor]:
    """Logits, and gradients of the samples and of every weight."""
    x = waveform_z.clone().requires_grad_(True)
    weights = [w for w in model.parameters() if w.requires_grad]
    logits = model(x, lengths)
    targets = torch.arange(len(x)) % logits.shape[1]
    loss = cross_entropy(logits, targets, reduction="sum")
    found = torch.autograd.grad(loss, [x, *weights], allow_unused=True)
    return [logits.detach(), *(g for g in found if g is not None)]


# ---- convolutions


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel, stride", [(3, 2), (2, 2), (5, 2), (4, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_product_of_windows_is_the_convolution(channels, kernel, stride, bias):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        made = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.requires_grad_(True)

    x, weight = draw(2, channels, 23), draw(4, channels, kernel)
    shift = draw(4) if bias else None
    given = [x, weight, *([shift] if shift is not None else [])]
    outer = torch.randn(2, 4, (23 - kernel) // stride + 1, generator=generator).double()

    expected = conv1d(x, weight, shift, stride=stride)
    answer = fast_mode.Windows.apply(x.transpose(1, 2).contiguous(), weight, shift, stride)
    torch.testing.assert_close(answer.transpose(1, 2), expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(answer.transpose(1, 2), given, outer),
        torch.autograd.grad(expected, given, outer), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# ---- networks


@pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning")  # WavLM's own
@pytest.mark.parametrize("lengths", [(700, 700, 700), (700, 512, 640)])
@pytest.mark.parametrize(
    "kind, norm, bias, mask",
    [
        ("Wav2Vec2", "layer", True, True), ("Wav2Vec2", "group", False, True),
        ("Wav2Vec2", "layer", True, False), ("Hubert", "layer", True, True),
        ("Hubert", "group", False, False), ("WavLM", "layer", True, True),
    ],
)  # fmt: skip
def test_logits_and_gradients_are_equal_but_for_rounding(kind, norm, bias, mask, lengths):
    model = network(kind, norm, bias, mask).double()
    generator = torch.Generator().manual_seed(1)
    waveform_z = torch.randn(3, 700, generator=generator).double()
    for row, length in enumerate(lengths):
        waveform_z[row, length:] = 0
    before = gradients(model, waveform_z, torch.tensor(lengths))
    with fast_mode.fast(model):
        inside = gradients(model, waveform_z, torch.tensor(lengths))
    after = gradients(model, waveform_z, torch.tensor(lengths))
    assert len(before) == len(inside) > 30
    assert all(map(torch.equal, before, after))
    for ours, theirs in zip(inside, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_in_float32_they_are_equal_to_a_hundred_thousandth():
    model = tiny.wav2vec2()
    waveform_z, lengths = tiny.clips(5).batch(range(5))
    before = gradients(model, waveform_z, lengths)
    with fast_mode.fast(model):
        inside = gradients(model, waveform_z, lengths)
    for ours, theirs in zip(inside, before, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max()) + 1e-7


def test_faster_parts_are_in_use():
    """Else the tests above compare a network with itself."""
    model = tiny.wav2vec2()
    with fast_mode.fast(model):
        changed = [name for name, module in model.named_modules() if "forward" in vars(module)]
        assert model.network.config._attn_implementation == fast_mode.ATTENTION
        assert {"", "conv", "dropout"} <= {name.rsplit(".", 1)[-1] for name in changed}
        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
        assert len(convolutions) == 3 and all("forward" in vars(m) for m in convolutions)


@pytest.mark.parametrize("fail", [False, True])
def test_the_model_is_given_back(fail):
    model = tiny.wav2vec2()
    before = state(model)
    try:
        with fast_mode.fast(model):
            assert fast_mode.is_on() and state(model) != before
            with fast_mode.fast(model):
                inside = state(model)
            assert fast_mode.is_on() and state(model) == inside
            if fail:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert fail
    assert state(model) == before and not fast_mode.is_on()


def test_a_copy_made_inside_computes_with_its_own_weights():
    model, other = tiny.wav2vec2(), tiny.wav2vec2(seed=1)
    waveform_z, lengths = tiny.clips(2).batch(range(2))
    with torch.no_grad():
        expected = other(waveform_z, lengths)
        with fast_mode.fast(model):
            made = copy.deepcopy(model)
            made.load_state_dict(other.state_dict())
            torch.testing.assert_close(made(waveform_z, lengths), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(made(waveform_z, lengths), expected, rtol=0, atol=1e-5)


def test_models_that_are_not_known_may_be_given():
    model = tiny.Linear(torch.randn(3, 800))
    waveform_z, lengths = tiny.clips(2).batch(range(2))
    with fast_mode.fast(model):
        inside = model(waveform_z, lengths)
    assert torch.equal(inside, model(waveform_z, lengths))


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_positive(workers):
    with (
        pytest.raises(ParameterError, match=f"workers: {workers}"),
        fast_mode.fast(tiny.classifier(), workers),
    ):
        pass


# ---- dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_at_its_rate(rate):
    layer = torch.nn.Sequential(torch.nn.Dropout(rate)).train()
    x = torch.ones(401, 1003)
    torch.manual_seed(0)
    with fast_mode.fast(layer):
        answer = layer(x)
    kept = answer != 0
    deviation = (rate * (1 - rate) / x.numel()) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(1 - rate, abs=4 * deviation + 2**-16)
    assert float(answer.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - rate))
    assert answer[kept].unique().numel() == 1
    # neighbours, of which four come from one number, are independent
    flat = kept.flatten().double()
    for shift in (1, 2, 3, 4):
        together = float((flat[shift:] * flat[:-shift]).mean())
        assert together == pytest.approx((1 - rate) ** 2, abs=6 * deviation)
    # each of the four is as likely
    for first in range(4):
        assert float(flat[first::4].mean()) == pytest.approx(1 - rate, abs=8 * deviation + 2**-16)


def test_dropout_at_its_extremes():
    x = torch.randn(50)
    for rate, expected in ((0.0, x), (1.0, 0 * x)):
        layer = torch.nn.Sequential(torch.nn.Dropout(rate)).train()
        with fast_mode.fast(layer):
            assert torch.equal(layer(x), expected)
            assert torch.equal(layer.eval()(x), x)


def test_dropout_passes_the_gradient_of_what_it_keeps():
    layer = torch.nn.Sequential(torch.nn.Dropout(0.25)).train()
    x = torch.ones(1000, requires_grad=True)
    with fast_mode.fast(layer):
        answer = layer(x)
        answer.sum().backward()
    assert torch.equal(x.grad, answer.detach())


# ---- several at once


def test_workers_are_as_many_as_threads_or_as_was_said():
    model = tiny.classifier()
    torch.set_num_threads(2)
    try:
        with fast_mode.fast(model):
            assert fast_mode.workers() == 2 and fast_mode.splits(model)
        with fast_mode.fast(model, workers=3):
            assert fast_mode.workers() == 3 and fast_mode.splits(model)
        with fast_mode.fast(model, workers=1):
            assert fast_mode.workers() == 1 and not fast_mode.splits(model)
    finally:
        torch.set_num_threads(1)
    assert fast_mode.workers() == 1 and not fast_mode.splits(model)


def test_items_are_computed_at_once_and_come_in_order():
    barrier = threading.Barrier(2, timeout=20)

    def function(item: int) -> int:
        barrier.wait()  # passes where two calls run at the same time
        assert torch.get_num_threads() == 1
        return 10 * item

    torch.set_num_threads(2)
    try:
        with fast_mode.fast(tiny.classifier(), workers=2):
            assert list(fast_mode.in_parallel(function, range(6))) == [0, 10, 20, 30, 40, 50]
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert list(fast_mode.in_parallel(lambda i: 10 * i, range(3))) == [0, 10, 20]


def test_an_error_in_a_worker_is_raised_and_the_others_end():
    running = []

    def function(item: int) -> int:
        running.append(item)
        if item == 1:
            raise RuntimeError("out of memory")
        return item

    with (
        fast_mode.fast(tiny.classifier(), workers=2),
        pytest.raises(RuntimeError, match="out of memory"),
    ):
        list(fast_mode.in_parallel(function, range(1000)))
    count = len(running)
    assert count < 1000 and threading.active_count() < 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_total_is_the_sum_of_its_parts_and_so_is_its_gradient(workers):
    model = tiny.wav2vec2().double()
    batches = [tiny.clips(3, seed=seed).batch(range(3)) for seed in (0, 1, 2)]

    def part(position: int):
        waveform_z, lengths = batches[position]
        return lambda: cross_entropy(model(waveform_z.double(), lengths), torch.tensor([0, 1, 2]))

    parts = [part(0), lambda: 0.1 * part(1)(), part(2)]
    found = []
    for on in (False, True):
        model.zero_grad(set_to_none=True)
        if on:
            with fast_mode.fast(model, workers):
                value = 3 * fast_mode.total(parts, model)
                value.backward()
        else:
            value = 3 * (parts[0]() + parts[1]() + parts[2]())
            value.backward()
        found.append([value.detach(), *(w.grad for w in model.parameters() if w.grad is not None)])
    assert len(found[0]) == len(found[1]) > 20
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_what_is_drawn_in_threads_depends_on_the_seed_alone():
    model = tiny.wav2vec2(hidden_dropout=0.3, attention_dropout=0.3).train()
    waveform_z, lengths = tiny.clips(4).batch(range(4))

    def part() -> torch.Tensor:
        return cross_entropy(model(waveform_z, lengths), torch.tensor([0, 1, 2, 0]))

    with fast_mode.fast(model, workers=2):
        values = []
        for seed in (3, 3, 3, 3, 4):
            torch.manual_seed(seed)
            values.append(float(fast_mode.total([part, part, part], model).detach()))
    assert values[0] == values[1] == values[2] == values[3] != values[4]


@pytest.mark.parametrize(
    "config",
    [
        {"layerdrop": 0.5},
        {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2},
    ],
)
def test_a_network_that_draws_more_than_dropout_is_not_shared_out(config):
    model = tiny.wav2vec2(**config).train()
    waveform_z, lengths = tiny.clips(4).batch(range(4))
    threads = set()

    def part() -> torch.Tensor:
        threads.add(threading.get_ident())
        return cross_entropy(model(waveform_z, lengths), torch.tensor([0, 1, 2, 0]))

    with fast_mode.fast(model, workers=2):
        fast_mode.total([part, part], model)
        assert threads == {threading.get_ident()}
        model.eval()
        threads.clear()
        fast_mode.total([part, part], model)
        assert threading.get_ident() not in threads


# ---- the attack and the method


@pytest.mark.parametrize("workers", [1, 2])
def test_the_copies_are_the_same_and_keep_tau(workers):
    model, clips = tiny.wav2vec2(), tiny.clips(6)
    parameters = AttackParameters(tau=0.3, copies=4, steps=5, batch_size=5)
    expected = adversarial_set(model, clips, 3, parameters, seed=0)
    with fast_mode.fast(model, workers):
        made = adversarial_set(model, clips, 3, parameters, seed=0)
    assert torch.equal(made.clips.labels, expected.clips.labels)
    assert torch.equal(made.reached, expected.reached)
    # a gradient near zero may turn its sign on the last bit
    ours, theirs = (torch.cat([*copies.clips.waveforms_z]) for copies in (made, expected))
    assert float(((ours - theirs).abs() > 1e-6).double().mean()) < 2e-3
    for i, copied in enumerate(made.clips.waveforms_z):
        source = clips.waveforms_z[i // 4]
        assert copied.shape == source.shape
        assert float((copied.double() - source.double()).abs().max()) <= 0.3


def test_an_attack_with_dropout_is_repeatable():
    model, clips = tiny.wav2vec2(hidden_dropout=0.3), tiny.clips(4)
    parameters = AttackParameters(copies=2, steps=2, batch_size=2, mode="train")
    with fast_mode.fast(model, workers=2):
        a, b = (adversarial_set(model, clips, 3, parameters, seed=0) for _ in range(2))
    assert all(map(torch.equal, a.clips.waveforms_z, b.clips.waveforms_z))


def unlearned(mode: str, fast: bool, method: str = "adv_ela", **values: object) -> Classifier:
    method_ = METHODS[method]
    parameters = method_.parameters(
        epochs=2, mode=mode, batch_size=4, learning_rate=1e-3, **values
    )
    model = tiny.wav2vec2(hidden_dropout=0.1, attention_dropout=0.1)
    before, weights = state(model), tiny.weights(model)
    outcome = method_.unlearn(
        model, UnlearningData(tiny.clips(5), 3), parameters, seed=0, fast=fast
    )
    assert state(model) == before == state(outcome.model) and not outcome.model.training
    assert tiny.equal(weights, tiny.weights(model))
    assert not tiny.equal(weights, tiny.weights(outcome.model))
    return outcome.model


def test_a_quick_request_in_eval_mode_gives_the_same_answers():
    values = {"copies": 3, "steps": 3, "attack_batch_size": 4}
    torch.set_num_threads(2)  # which makes two workers
    try:
        exact, fast = (
            predict(unlearned("eval", q, **values), tiny.clips(9)) for q in (False, True)
        )
    finally:
        torch.set_num_threads(1)
    assert float((exact - fast).abs().max()) < 1e-3 * float(exact.abs().max())
    assert torch.equal(exact.argmax(1), fast.argmax(1))


def test_a_quick_request_with_dropout_is_repeatable():
    torch.set_num_threads(2)
    try:
        a, b = (tiny.weights(unlearned("train", True, copies=2, steps=2)) for _ in range(2))
    finally:
        torch.set_num_threads(1)
    assert tiny.equal(a, b)


def test_other_methods_may_be_quick():
    exact, fast = (
        predict(unlearned("eval", q, method="ran_lab"), tiny.clips(9)) for q in (False, True)
    )
    assert float((exact - fast).abs().max()) < 1e-3 * float(exact.abs().max())
