"""Teaching a model the forget set again: the curves behind the anamnesis index."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor

from speechunlearn.audit.metrics import accuracy, uar
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Descent, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Batch, Cost, Work
from speechunlearn.models.training import predict

#: scores that a relearning curve is made of
SCORES: dict[str, Callable[..., float]] = {"accuracy": accuracy, "uar": uar}


def relearn(
    model: Classifier,
    forget: Clips,
    descent: Descent,
    *,
    seed: int,
    score: str = "accuracy",
    per: str = "epoch",
    cost: Cost | None = None,
) -> list[float]:
    """Teach a model the forget set again, and score it on the way.

    A copy of the model minimises the cross-entropy of the true labels; the scores are taken in
    eval mode on the clips it learns. Give unlearned and retrained model the same settings and
    seed.

    Args:
        model: unlearned, retrained or original classifier, unchanged
        forget: the forget set with its true labels
        descent: epochs (the budget), learning rate, batch size, mode
        seed: source of the order and of dropout
        score: ``"accuracy"`` or ``"uar"``
        per: a score after each ``"epoch"`` or each ``"step"``
        cost: counted into, if given: the scoring as clips forward

    Returns:
        scores after 0, 1, 2, … epochs or steps, for
        :func:`speechunlearn.audit.closeness.relearn_time`

    Raises:
        ParameterError: no clips, or an unknown ``score`` or ``per``

    """
    if len(forget) == 0:
        raise ParameterError("forget: the forget set is empty")
    if score not in SCORES:
        raise ParameterError(f"score must be one of {list(SCORES)}, got {score!r}")
    if per not in ("epoch", "step"):
        raise ParameterError(f"per must be 'epoch' or 'step', got {per!r}")
    work = Work(seed=seed)
    model = copy.deepcopy(model)
    truth = forget.labels.numpy()
    curve: list[float] = []

    def note() -> None:
        predicted = predict(model, forget, cost=work).argmax(1).numpy()
        curve.append(SCORES[score](truth, predicted, len(model.labels)))

    def loss(model: Classifier, batch: Batch) -> Tensor:
        if per == "step":  # what the steps so far have led to
            note()
        return true_label_loss(model, forget, batch.positions)

    if per == "epoch":
        note()
    descend(
        model, forget, loss, descent, work,
        after_epoch=lambda epoch: note() if per == "epoch" else None,
    )
    if per == "step":
        note()
    if cost is not None:
        cost.forward_backward += work.forward_backward
        cost.forward += work.forward
    return curve
