"""Retraining from the start without the forget set: exact unlearning, and every table's reference.

Source: the definition of exact unlearning (Bourtoule et al. 2021).
"""

from dataclasses import dataclass

from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters:
    """Retraining has none of its own: it repeats the recipe of fine-tuning."""


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Train a fresh classifier on the retain set with the recipe of fine-tuning."""
    fresh, recipe = data.anew("retrain")
    retrained = fresh(work.seed).to(next(model.parameters()).device)
    history = training.train(retrained, data.rest, recipe, seed=work.seed, cost=work)
    return Outcome(retrained, {"history": history})


METHOD = Method(
    "retrain", "Retrained", {"forget", "retain"}, Parameters, run, hyperparameter="",
    untuned="it is what the others are compared with", trains_anew=True
)
