"""Fisher forgetting: noise on every weight, the more the less the retain set needs it.

Source: Golatkar et al. 2020, in the form of the authors' code. Nothing is trained. That code also
averages the variance over the inputs of a unit, multiplies that of the last layer and of vectors by
ten, and zeroes the last layer's weights of a class that is forgotten whole: none of it is done
here.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from speechunlearn.errors import Checked, ParameterError, Positive, one_of
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.importance import estimate
from speechunlearn.methods.layers import layers
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.training import predict


@dataclass(frozen=True)
class Parameters(Checked):
    """How strong the noise is.

    Args:
        alpha: variance of the noise is alpha / F. The authors' code has 1e-6, for another kind of
            network, that of Kurmanji et al. 2023 has 1e-7; it must be found for each
        largest: 1 / F is at most this (the authors: 1000): a weight without a gradient would
            else be lost in noise
        largest_in_head: the same in the classification head (the authors: 100)
        labels: whose squared gradient F is: ``drawn`` from the model's own answers, one a clip, as
            the Fisher information is defined (the authors sum over all classes by their
            probability, of which this is an unbiased estimate), or ``true``

    """

    alpha: Positive[float] = 1e-7
    largest: Positive[float] = 1e3
    largest_in_head: Positive[float] = 1e2
    labels: Annotated[str, one_of("drawn", "true")] = "drawn"


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Add normal noise of variance alpha min(1 / F_r, largest) to each weight."""
    retain = data.rest
    generator = torch.Generator().manual_seed(work.seed)
    labels = retain.labels
    if parameters.labels == "drawn":
        labels = drawn_labels(predict(model, retain, cost=work), generator)
    fisher = estimate("fisher", model, retain, labels, cost=work)
    in_head = set(layers(model)[0])
    total = count = 0.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name not in fisher:
                continue
            if not fisher[name].isfinite().all():
                raise ParameterError(f"the Fisher information of {name!r} is not finite")
            limit = parameters.largest_in_head if name in in_head else parameters.largest
            variance = parameters.alpha * (1 / (fisher[name] + 1e-8)).clamp(max=limit)
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            weight.add_(variance.sqrt() * noise)
            total, count = total + float(variance.sum()), count + variance.numel()
    return Outcome(model, {"noise": (total / count) ** 0.5})


def drawn_labels(logits: Float[Tensor, "clips classes"], generator: torch.Generator) -> Tensor:
    """Draw a label for each clip by the probabilities that the model gives the classes."""
    if not logits.isfinite().all():
        raise ParameterError("the Fisher information is not finite: the model's answers are not")
    return torch.multinomial(logits.double().softmax(1), 1, generator=generator)[:, 0]


METHOD = Method(
    "fisher_forgetting", "Fisher forgetting", {"retain"}, Parameters, run, hyperparameter="alpha",
    tried=(1e-7, 1e-8, 1e-6, 1e-9, 1e-5)
)
