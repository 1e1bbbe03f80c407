"""NegGrad: gradient ascent on the forget set.

Source: the negative gradient of Golatkar et al. 2020, on the forget set alone and with the gradient
clipped, as in the code of Koudounas et al. 2025. The cross-entropy has no upper bound, so that
nothing but the number of steps and their size ends the ascent.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from speechunlearn.errors import Positive
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, at a smaller learning rate: an unbounded loss runs away at the usual one.

    Args:
        learning_rate: Adam's; Koudounas et al. 2025 find 1e-6 to 5e-6 best for speech encoders
        clip_gradient: largest norm of the gradient of all weights together. Adam divides by the
            size of past gradients, so that clipping limits what one batch changes in that
            memory, not the length of every step

    """

    learning_rate: float = 5e-6
    clip_gradient: Positive[float] = 1.0


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise -CE(f(x_e), y_e)."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return -true_label_loss(model, data.forget, batch.positions)

    history = descend(
        model, data.forget, loss, parameters, work,
        after_backward=lambda: clip_grad_norm_(model.parameters(), parameters.clip_gradient),
    )
    return Outcome(model, {"history": history})


METHOD = Method("neggrad", "NegGrad", {"forget"}, Parameters, run)
