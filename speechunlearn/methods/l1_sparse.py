"""l1-sparse: fine-tuning on the retain set while the weights shrink, less so each epoch.

Source: Jia et al. 2023. The penalty falls linearly over the epochs, as in the authors' code; it is
that of all weights together, and part of the gradient that Adam scales (the authors: SGD), so that
a weight that the retain set does not hold moves towards zero at the full rate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.errors import NotNegative
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, an epoch being one pass over the retain set, and the penalty's.

    Args:
        epochs: passes over the retain set (the authors: 10)
        gamma: weight of the sum of abs(weight) in the first epoch. The authors' scripts leave it
            open; the code of Ebrahimpour-Boroojeny et al. 2025, who compare with it, has 5e-4

    """

    epochs: int = 10
    gamma: NotNegative[float] = 5e-4


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(x_r), y_r) + gamma_t L1(theta); gamma_t falls from gamma to gamma / epochs."""
    before = float(size(model).detach())

    def loss(model: Classifier, batch: Batch) -> Tensor:
        gamma = parameters.gamma * (1 - batch.epoch / parameters.epochs)
        return true_label_loss(model, data.rest, batch.positions) + gamma * size(model)

    history = descend(model, data.rest, loss, parameters, work)
    shrunk = float(size(model).detach()) / before
    return Outcome(model, {"history": history, "size_over_before": shrunk})


def size(model: torch.nn.Module) -> Tensor:
    """Return the sum of abs(weight) over all weights that are trained."""
    return torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad]).sum()


METHOD = Method("l1_sparse", "l1-sparse", {"retain"}, Parameters, run)
