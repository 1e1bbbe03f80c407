"""Teaching a model again what it was to forget: the forget set, or an attribute."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from speechunlearn.audit.metrics import accuracy
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Descent, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.loop import Batch, Work
from speechunlearn.models.training import Recipe, predict, train


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


def attribute_reader(
    model: Classifier, clips: Clips, values: Sequence[str], recipe: Recipe, *, seed: int
) -> Classifier:
    """Train a copy of a model, with a new head, to tell an attribute: the strongest probe.

    The whole encoder is trained, so that a projection before the head is no hindrance, and what is
    left anywhere in the encoder counts. Beside it belongs the same of an encoder that was never
    trained on the task: what that reads in as many steps is not left over, but learnt.

    Args:
        model: with a linear projector and classifier, unchanged
        clips: with the values in place of labels, see `Clips.relabelled`
        values: names of the values
        recipe: how it is trained
        seed: source of the head's weights and of all that is drawn

    Returns:
        a classifier of the values

    """
    reader = copy.deepcopy(model)
    reader.labels = tuple(values)
    with seeded(seed):
        old = reader.network.projector, reader.network.classifier
        reader.network.projector = torch.nn.Linear(old[0].in_features, old[0].out_features)
        reader.network.classifier = torch.nn.Linear(old[1].in_features, len(values))
    train(reader, clips, recipe, seed=seed)
    return reader
