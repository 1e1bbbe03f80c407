"""Retraining from the start without the forget set: exact unlearning, and every table's reference.

Source: the definition of exact unlearning (Bourtoule et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from speechunlearn import training
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Method, Outcome, Progress, Request
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Parameters:
    """Retraining has none of its own: it repeats the recipe of fine-tuning."""


def run(
    model: Classifier,
    request: Request,
    parameters: Parameters,
    seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Train a fresh classifier on the retain set with the recipe of fine-tuning."""
    if request.fresh is None or request.recipe is None or request.retain is None:
        raise ParameterError("retrain needs the retain set, a fresh classifier and the recipe")
    shared = set(request.forget.hashes) & set(request.retain.hashes)
    if shared:
        raise ParameterError(f"retain: {len(shared)} clips of the forget set are among them")
    cost = Cost()
    retrained = request.fresh(seed).to(next(model.parameters()).device)
    history = training.train(
        retrained, request.retain, request.recipe, seed=seed, cost=cost, progress=progress
    )
    return Outcome(retrained, cost, {"history": history})


METHOD = Method(
    "retrain", "Retrained", frozenset({"forget", "retain"}), Parameters, run,
    untuned="it is what the others are compared with", trains_anew=True, resumes=False,
)
