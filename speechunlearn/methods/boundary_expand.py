"""Boundary expand: the forget set gets a class of its own, which is then taken away.

Source: Chen et al. 2023, who forget whole classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.layers import head
from speechunlearn.methods.losses import Batch, logits_of
from speechunlearn.models.classifier import Classifier, seeded


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's; an epoch is one pass over the forget set (the authors: 10)."""

    epochs: int = 10


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE of the shadow class over all classes and it; return the model without it.

    The logit of the shadow class is a new row of the classification head, drawn as torch draws
    one. It is kept beside the head while it is there, so that the head itself never changes shape.
    """
    answers = head(model)
    weight = getattr(answers, "weight", None)
    if weight is None or weight.ndim != 2:
        raise ParameterError(f"the classification head is a {type(answers).__name__}, not linear")
    with seeded(work.seed):
        shadow = torch.nn.Linear(weight.shape[1], 1).to(weight)
    features: list[Tensor] = []
    hook = answers.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    model.add_module("shadow", shadow)  # among the model's weights, so that it is trained

    def loss(model: Classifier, batch: Batch) -> Tensor:
        features.clear()
        logits = logits_of(model, data.forget, batch.positions)
        widened = torch.cat([logits, shadow(features[0])], dim=1)
        # the shadow class is the last one
        targets = torch.full((len(logits),), logits.shape[1], device=logits.device)
        return cross_entropy(widened, targets)

    try:
        history = descend(model, data.forget, loss, parameters, work)
    finally:
        hook.remove()
        del model.shadow
    return Outcome(model, {"history": history})


METHOD = Method("boundary_expand", "Boundary expand", {"forget"}, Parameters, run)
