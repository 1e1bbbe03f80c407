"""Ran. Lab.: fine-tune on the forget set with random wrong labels.

Source: Ren et al. 2025, section 2.1, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.attacks import random_wrong_labels
from speechunlearn.methods.base import (
    Descent,
    Method,
    Outcome,
    Progress,
    Request,
    counting,
    descend,
)
from speechunlearn.methods.losses import logits_of
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's; one wrong label a clip, drawn once."""


def run(
    model: Classifier,
    request: Request,
    parameters: Parameters,
    seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise L_mis = CE(f(x_e), wrong label)."""
    cost = Cost()
    wrong = wrong_labels(request, seed).to(next(model.parameters()).device)

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        return cross_entropy(logits_of(model, request.forget, positions, cost), wrong[positions])

    history = descend(
        model, request.forget, loss, parameters, seed=seed, progress=progress,
        resume=request.resume, skip=counting(cost),
    )
    return Outcome(model, cost, {"history": history})


def wrong_labels(request: Request, seed: int) -> Tensor:
    """Return the wrong label of each forget clip: the same for every method, given the seed."""
    generator = torch.Generator().manual_seed(seed)
    return random_wrong_labels(request.forget.labels, request.n_classes, generator)


METHOD = Method(
    "ran_lab", "Ran. Lab.", frozenset({"forget"}), Parameters, run, strength="learning_rate"
)
