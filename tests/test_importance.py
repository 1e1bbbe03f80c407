"""Importances against what is written down by hand for a linear model."""

import pytest
import tiny
import torch

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.importance import KINDS, elastic_penalty, estimate, one_minus
from speechunlearn.models.training import Cost

torch.set_num_threads(1)

TIME, CLASSES = 6, 3


@pytest.fixture
def model() -> tiny.Linear:
    generator = torch.Generator().manual_seed(0)
    return tiny.Linear(
        torch.randn(CLASSES, TIME, generator=generator), torch.randn(CLASSES, generator=generator)
    ).double()


@pytest.fixture
def clips() -> Clips:
    """Five clips of one length: batches of two are two and a half."""
    generator = torch.Generator().manual_seed(1)
    return Clips(
        [torch.randn(TIME, generator=generator) for _ in range(5)],
        torch.tensor([0, 1, 2, 0, 1]), list("abcde"), list("sstuu"),
    )  # fmt: skip


WRONG = torch.tensor([2, 0, 1, 1, 2])


def gradients(model: tiny.Linear, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of each clip's cross-entropy: (softmax - one-hot) x', and without x."""
    x = torch.stack(clips.waveforms_z).double()
    excess = torch.softmax(x @ model.weight.T + model.bias, 1) - torch.eye(CLASSES)[WRONG]
    return (excess[:, :, None] * x[:, None, :]).detach(), excess.detach()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_fisher_of_each_clip(model, clips):
    weight, bias = gradients(model, clips)
    fisher = estimate("fisher", model, clips, WRONG, per="clip", batch_size=2)
    assert set(fisher) == {"weight", "bias"}
    close(fisher["weight"], weight.square().mean(0))
    close(fisher["bias"], bias.square().mean(0))


def test_fisher_of_each_batch(model, clips):
    weight, bias = gradients(model, clips)
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)]
    fisher = estimate("fisher", model, clips, WRONG, per="batch", batch_size=2)
    close(fisher["weight"], sum(weight[part].mean(0).square() for part in parts) / 3)
    close(fisher["bias"], sum(bias[part].mean(0).square() for part in parts) / 3)
    of_clips = estimate("fisher", model, clips, WRONG, per="clip")
    # they differ, and not by a factor: 1000 means something else
    ratio = fisher["weight"] / of_clips["weight"]
    assert ratio.max() > 1.5 * ratio.min()
    whole = estimate("fisher", model, clips, WRONG, per="batch", batch_size=100)
    close(whole["weight"], weight.mean(0).square())


def test_fisher_depends_on_the_labels_and_mas_does_not(model, clips):
    for kind, same in (("fisher", False), ("mas", True)):
        a = estimate(kind, model, clips, WRONG)
        b = estimate(kind, model, clips, clips.labels)
        assert torch.equal(a["weight"], b["weight"]) == same


def test_mas(model, clips):
    """The gradient of |Wx + b|^2 is 2 (Wx + b) x'."""
    x = torch.stack(clips.waveforms_z).double()
    logits = (x @ model.weight.T + model.bias).detach()
    mas = estimate("mas", model, clips, WRONG)
    close(mas["weight"], (2 * logits[:, :, None] * x[:, None, :]).abs().mean(0))
    close(mas["bias"], (2 * logits).abs().mean(0))


@pytest.mark.parametrize("kind", ["fisher", "mas"])
def test_one_minus_is_the_inverse_of_its_kind(model, clips, kind):
    plain = estimate(kind, model, clips, WRONG)
    inverse = estimate(f"1-{kind}", model, clips, WRONG)
    for name, value in plain.items():
        scaled = (value - value.min()) / (value.max() - value.min())
        close(inverse[name], 1 - scaled)
        assert float(inverse[name].min()) == 0 and float(inverse[name].max()) == 1
        assert int(inverse[name].argmin()) == int(value.argmax())


def test_one_minus_by_hand():
    inverse = one_minus(
        {"a": torch.tensor([2.0, 4.0, 3.0]), "b": torch.tensor([[5.0, 5.0]]), "c": torch.zeros(2)}
    )
    assert inverse["a"].tolist() == [1.0, 0.0, 0.5]
    assert inverse["b"].tolist() == [[1.0, 1.0]]
    assert inverse["c"].tolist() == [1.0, 1.0]


def test_frozen_and_unused_weights(model, clips):
    model.bias.requires_grad_(False)
    model.unused = torch.nn.Parameter(torch.ones(2))
    fisher = estimate("fisher", model, clips, WRONG)
    assert set(fisher) == {"weight", "unused"}
    assert fisher["unused"].tolist() == [0, 0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_model_is_left_as_it_was(mode, training):
    model, clips = tiny.classifier(dropout=0.5).train(training), tiny.clips(4)
    modes = []
    model.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    before, state = tiny.weights(model), torch.get_rng_state()
    labels = torch.tensor([1, 2, 0, 1])
    estimate("fisher", model, clips, labels, mode=mode, per="batch", batch_size=2)
    assert modes == [mode == "train"] * 2
    assert all(module.training == training for module in model.modules())
    assert tiny.equal(before, tiny.weights(model))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    # dropout is drawn from the seed
    first, again, other = (
        estimate("fisher", model, clips, labels, mode=mode, seed=seed) for seed in (0, 0, 1)
    )
    assert tiny.equal(first, again)
    assert tiny.equal(first, other) == (mode == "eval")


def test_the_mode_is_given_back_after_an_error(model, clips):
    model.train()
    with pytest.raises(IndexError):
        estimate("fisher", model, clips, torch.tensor([9, 9, 9, 9, 9]))
    assert model.training


def test_cost_is_one_pass(model, clips):
    cost = Cost(forward_backward=3)
    estimate("fisher", model, clips, WRONG, per="batch", batch_size=2, cost=cost)
    assert cost == Cost(forward_backward=8)


def test_bad_choices_are_named(model, clips):
    with pytest.raises(ParameterError, match="importance: 'ewc'.*fisher.*1-mas"):
        estimate("ewc", model, clips, WRONG)
    with pytest.raises(ParameterError, match="fisher_per: 'epoch'"):
        estimate("fisher", model, clips, WRONG, per="epoch")
    assert KINDS == ("fisher", "1-fisher", "mas", "1-mas", "none")


def test_elastic_penalty_by_hand():
    model = tiny.Linear(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 6.0]))
    anchor = {"weight": torch.tensor([[1.0, 1.0], [1.0, 6.0]]), "bias": torch.tensor([4.0, 6.0])}
    factors = torch.tensor([[9.0, 2.0], [0.5, 1.0]])
    importance = {"weight": factors, "bias": torch.tensor([3.0, 7.0])}
    penalty = elastic_penalty(model, anchor, importance)
    # 9*0 + 2*1 + 0.5*4 + 1*4, and 3*1 + 7*0
    assert penalty.item() == 8 + 3
    penalty.backward()
    assert model.weight.grad.tolist() == [[0, 4], [2, -4]]  # 2 F (theta - theta*)
    assert model.bias.grad.tolist() == [6, 0]
    del importance["bias"]
    assert elastic_penalty(model, anchor, importance).item() == 8


def test_elastic_penalty_needs_a_weight():
    model = tiny.classifier()
    with pytest.raises(ParameterError, match="importance: "):
        elastic_penalty(model, {}, {})


def test_elastic_penalty_is_zero_at_the_anchor(model, clips):
    fisher = estimate("fisher", model, clips, WRONG)
    anchor = tiny.weights(model)
    penalty = elastic_penalty(model, anchor, fisher)
    penalty.backward()
    assert penalty.item() == 0
    assert not model.weight.grad.any()
