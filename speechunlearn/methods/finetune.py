"""Fine-tuning on the retain set: what is not rehearsed may fade.

Source: the baseline of Golatkar et al. 2020 and of every comparison since.
"""

from dataclasses import dataclass

from torch import Tensor

from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's; an epoch is one pass over the retain set, and a few are usual."""

    epochs: int = 5


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(x_r), y_r)."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, data.rest, batch.positions)

    return Outcome(model, {"history": descend(model, data.rest, loss, parameters, work)})


METHOD = Method("finetune", "Fine-tune", {"retain"}, Parameters, run)
