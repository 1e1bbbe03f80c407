"""NegGrad+: descent on the retain set and ascent on the forget set, in one loss.

Source: Kurmanji et al. 2023, the authors' stronger form of the negative gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from speechunlearn.methods.base import (
    Descent,
    Method,
    Outcome,
    Progress,
    Request,
    check_share,
    descend,
    endless,
)
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the retain set, with forget batches going round beside it.

    Args:
        alpha: share of the retain set's loss, above 0 and at most 1. The authors' code has 0.95
            in its small experiments and 0.9999 in those on membership inference

    """

    alpha: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("alpha", self.alpha)


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise alpha CE(f(x_r), y_r) - (1 - alpha) CE(f(x_e), y_e)."""
    retain, cost = request.retain, Cost()
    assert retain is not None  # Method.unlearn has checked it
    forget_batches = endless(request.forget, parameters.batch_size, seed)

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        kept = true_label_loss(model, retain, positions, cost)
        lost = true_label_loss(model, request.forget, next(forget_batches), cost)
        return parameters.alpha * kept - (1 - parameters.alpha) * lost

    history = descend(model, retain, loss, parameters, seed=seed, progress=progress)
    return Outcome(model, cost, {"history": history})


METHOD = Method(
    "neggrad_plus", "NegGrad+", frozenset({"forget", "retain"}), Parameters, run,
    strength="learning_rate", resumes=False,
)
