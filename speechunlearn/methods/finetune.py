"""Fine-tuning on the retain set: what is not rehearsed may fade.

Source: the baseline of Golatkar et al. 2020 and of every comparison since.
"""

from dataclasses import dataclass

from torch import Tensor

from speechunlearn.methods.base import Batch, Descent, Method, Outcome, Request, Work, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's; an epoch is one pass over the retain set, and a few are usual."""

    epochs: int = 5


def run(model: Classifier, request: Request, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(x_r), y_r)."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, request.rest, batch.positions)

    return Outcome(model, {"history": descend(model, request.rest, loss, parameters, work)})


METHOD = Method(
    "finetune", "Fine-tune on rest", {"retain"}, Parameters, run,
    strength="learning_rate",
)
