"""DELETE: the original's own answer, with the true class struck out.

Source: Zhou et al. 2025 (decoupled distillation to erase).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechunlearn.methods.base import (
    Distillation,
    Method,
    Outcome,
    Progress,
    Request,
    counting,
    descend,
)
from speechunlearn.methods.losses import divergence, logits_of
from speechunlearn.models import Classifier
from speechunlearn.training import Cost, predict


@dataclass(frozen=True)
class Parameters(Distillation):
    """The distillation's; the temperature is 1, as the authors' is."""


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise KL(softmax(masked original logits) || f(x_e)); the original is asked once."""
    cost = Cost()
    answers = masked(predict(model, request.forget, cost=cost), request.forget.labels)
    answers = answers.to(next(model.parameters()).device)

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        logits = logits_of(model, request.forget, positions, cost)
        return divergence(logits, answers[positions], parameters.temperature)

    history = descend(
        model, request.forget, loss, parameters, seed=seed, progress=progress,
        resume=request.resume, skip=counting(cost),
    )
    return Outcome(model, cost, {"history": history})


def masked(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Float[Tensor, "clips classes"]:
    """Return logits whose true class is minus infinity: softmax shares its mass in proportion."""
    return logits.scatter(1, labels[:, None], -torch.inf)


METHOD = Method(
    "delete", "DELETE", frozenset({"forget"}), Parameters, run, strength="learning_rate"
)
