"""How much each weight matters: the importance estimates behind elastic weights."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.models.classifier import seeded
from speechunlearn.models.loop import Cost
from speechunlearn.models.training import logits_of

Importance = dict[str, Tensor]

#: of the elastic term
KINDS = ("fisher", "1-fisher", "mas", "1-mas", "none")

#: the loss, what is averaged of its gradients by clip (or batch), and what is taken of their mean
_RULES: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "fisher": (cross_entropy, torch.square, torch.clone),
    "saliency": (cross_entropy, torch.clone, torch.abs),
    "mas": (lambda logits, _: logits.square().sum(1).mean(), torch.abs, torch.clone),
}


def estimate(
    kind: str,
    model: torch.nn.Module,
    clips: Clips,
    labels: Int[Tensor, " clips"],
    *,
    per: str = "clip",
    batch_size: int = 16,
    mode: str = "eval",
    seed: int = 0,
    cost: Cost | None = None,
) -> Importance:
    """Return the importance of each weight, by its name.

    ``fisher`` is the paper's (section 2.2.2: squared gradient of the cross-entropy of the wrong
    labels). ``mas`` is Aljundi et al. 2018. ``1-fisher`` and ``1-mas`` scale each tensor to
    [0, 1] and take it from one, as the paper's parent does (Cha et al. 2024): they free the
    weights that the forget set needs.

    ``saliency``, which is no choice of the elastic term, is the size of the mean gradient of the
    cross-entropy: gradients of clips that disagree cancel (Fan et al. 2024).

    Args:
        kind: one of `KINDS` but ``none``, or ``saliency``
        model: called as ``model(waveform_z, lengths)``
        clips: forget set
        labels: label of each clip, wrong for elastic weights, true for the Fisher of Foster
            et al. 2024 and for saliency (MAS does not use them)
        per: ``clip`` squares each clip's gradient, ``batch`` the gradient of a batch's mean
        batch_size: clips a batch when per is ``batch``
        mode: ``eval``, or ``train`` (dropout on)
        seed: of what the train mode draws
        cost: counted into, if given

    Returns:
        tensors shaped as the weights

    """
    rule = _RULES.get(kind.removeprefix("1-"))
    if rule is None:
        raise ParameterError(f"importance: {kind!r} is not one of {', '.join(KINDS[:-1])}")
    size = {"clip": 1, "batch": batch_size}.get(per)
    if size is None:
        raise ParameterError(f"fisher_per: {per!r} is not clip or batch")
    loss, each, last = rule
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    device = next(iter(named.values())).device
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    batches = [range(i, min(i + size, len(clips))) for i in range(0, len(clips), size)]
    cost, was_training = Cost() if cost is None else cost, model.training
    model.train(mode == "train")
    try:
        with seeded(seed):
            for positions in cost.batches(
                "importance of weights", clips, batches, forward_backward=1
            ):
                value = loss(logits_of(model, clips, positions), labels[list(positions)].to(device))
                gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True)
                for name, gradient in zip(named, gradients, strict=True):
                    if gradient is not None:
                        total[name] += each(gradient)
    finally:
        model.train(was_training)
    importance = {name: last(value / len(batches)) for name, value in total.items()}
    return one_minus(importance) if kind.startswith("1-") else importance


def one_minus(importance: Importance) -> Importance:
    """Scale each tensor to [0, 1] by its own extremes and subtract it from one.

    A constant tensor says nothing of which of its weights matter and becomes all ones.
    """
    inverted = {}
    for name, value in importance.items():
        span = value.max() - value.min()
        inverted[name] = 1 - (value - value.min()) / torch.where(span > 0, span, 1)
    return inverted


def elastic_penalty(
    model: torch.nn.Module, anchor: Mapping[str, Tensor], importance: Importance
) -> Float[Tensor, ""]:
    r"""Return :math:`\sum_k F_k (\theta_k - \theta_k^*)^2` (the paper's equation 4).

    Args:
        model: its weights are theta
        anchor: the weights before unlearning, theta*, by name
        importance: F, by name

    """
    terms = [
        (importance[name] * (weight - anchor[name]).square()).sum()
        for name, weight in model.named_parameters() if name in importance
    ]
    if not terms:
        raise ParameterError("importance: it names no weight of the model")
    return torch.stack(terms).sum()
