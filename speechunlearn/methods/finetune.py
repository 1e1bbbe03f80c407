"""Fine-tuning on the retain set: what is not rehearsed may fade.

Source: the baseline of Golatkar et al. 2020 and of every comparison since.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from speechunlearn.methods.base import Descent, Method, Outcome, Progress, Request, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's; an epoch is one pass over the retain set, and a few are usual."""

    epochs: int = 5


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise CE(f(x_r), y_r)."""
    retain, cost = request.retain, Cost()
    assert retain is not None  # Method.unlearn has checked it

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        return true_label_loss(model, retain, positions, cost)

    history = descend(model, retain, loss, parameters, seed=seed, progress=progress)
    return Outcome(model, cost, {"history": history})


METHOD = Method(
    "finetune", "Fine-tune on rest", frozenset({"retain"}), Parameters, run,
    strength="learning_rate", resumes=False,
)
