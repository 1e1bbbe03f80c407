"""DELETE: the original's own answer, with the true class struck out.

Source: Zhou et al. 2025 (decoupled distillation to erase).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechunlearn.methods.base import Distillation, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, divergence, logits_of, predict


def run(model: Classifier, data: UnlearningData, parameters: Distillation, work: Work) -> Outcome:
    """Minimise KL(softmax(masked original logits) || f(x_e)); the original is asked once.

    The temperature is 1, as the authors' is.
    """
    answers = masked(predict(model, data.forget, cost=work), data.forget.labels)

    def loss(model: Classifier, batch: Batch) -> Tensor:
        logits = logits_of(model, data.forget, batch.positions)
        return divergence(logits, answers[batch.positions], parameters.temperature)

    return Outcome(model, {"history": descend(model, data.forget, loss, parameters, work)})


def masked(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Float[Tensor, "clips classes"]:
    """Return logits whose true class is minus infinity: softmax shares its mass in proportion."""
    return logits.scatter(1, labels[:, None], -torch.inf)


METHOD = Method("delete", "DELETE", {"forget"}, Distillation, run)
