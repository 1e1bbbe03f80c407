"""Teaching a model the forget set again: the curves behind the anamnesis index."""

from __future__ import annotations

import copy

from torch import Tensor

from speechunlearn.audit.metrics import accuracy
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Descent, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Batch, Work
from speechunlearn.models.training import predict


def relearn(model: Classifier, forget: Clips, descent: Descent, *, seed: int) -> list[float]:
    """Teach a model the forget set again, and score it on the way.

    A copy of the model minimises the cross-entropy of the true labels; the accuracy is taken in
    eval mode on the clips it learns. Give unlearned and retrained model the same settings and
    seed.

    Args:
        model: unlearned, retrained or original classifier, unchanged
        forget: the forget set with its true labels
        descent: epochs (the budget), learning rate, batch size, mode
        seed: source of the order and of dropout

    Returns:
        accuracy after 0, 1, 2, … steps, for :func:`speechunlearn.audit.closeness.relearn_time`

    Raises:
        ParameterError: no clips

    """
    if len(forget) == 0:
        raise ParameterError("forget: the forget set is empty")
    model = copy.deepcopy(model)
    truth, curve = forget.labels.numpy(), []

    def note() -> None:
        predicted = predict(model, forget).argmax(1).numpy()
        curve.append(accuracy(truth, predicted, len(model.labels)))

    def loss(model: Classifier, batch: Batch) -> Tensor:
        note()  # what the steps so far have led to
        return true_label_loss(model, forget, batch.positions)

    descend(model, forget, loss, descent, Work(seed=seed))
    note()
    return curve
