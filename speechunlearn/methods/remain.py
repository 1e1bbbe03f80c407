"""Remain. Unl.: random wrong labels on the forget set, true labels on the retain set.

Source: Ren et al. 2025, section 3.2 (L_mis + CE(f(x_r), y_r)), after Cheng & Amiri 2025; the
optional curriculum weights the forget clips by SuperLoss (Castells et al. 2020).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import lambertw
from torch import Tensor

from speechunlearn.errors import Positive, one_of
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss
from speechunlearn.methods.ran_lab import wrong_labels


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the retain set, with forget batches going round beside it.

    Args:
        curriculum: ``none`` or ``superloss`` (weights the forget clips' losses)
        superloss_lambda: regularisation of SuperLoss (MU-Bench: 10)

    """

    curriculum: Annotated[str, one_of("none", "superloss")] = "none"
    superloss_lambda: Positive[float] = 10.0


def run(
    model: Classifier,
    data: UnlearningData,
    parameters: Parameters,
    work: Work,
    after_backward: Callable[[], None] = lambda: None,
) -> Outcome:
    """Minimise L_mis + CE(f(x_r), y_r), where SalUn masks the gradients."""
    wrong = data.forget.relabelled(wrong_labels(data, work.seed))

    def loss(model: Classifier, batch: Batch) -> Tensor:
        missed = true_label_loss(model, wrong, batch.beside[0], reduction="none")
        if parameters.curriculum == "superloss":
            missed = superloss(missed, math.log(data.n_classes), parameters.superloss_lambda)
        return missed.mean() + true_label_loss(model, data.rest, batch.positions)

    history = descend(
        model, data.rest, loss, parameters, work, beside=[wrong],
        after_backward=after_backward,
    )
    return Outcome(model, {"history": history})


def superloss(
    losses: Float[Tensor, " clips"], threshold: float, regularisation: float
) -> Float[Tensor, " clips"]:
    r"""Weight each clip by how easy it is.

    .. math:: (\ell - \tau)\,\sigma^* + \lambda (\log \sigma^*)^2, \qquad
              \sigma^* = \exp(-W(\tfrac12 \max(-\tfrac2e, \tfrac{\ell - \tau}{\lambda})))

    with Lambert's W. Source: Castells et al. 2020; tau = log(classes). MU-Bench has the same
    weights with the running mean of the losses for tau, and multiplies the losses by them alone.

    Args:
        losses: in nats
        threshold: tau, above which a clip counts as hard
        regularisation: lambda, towards equal weights

    """
    excess = losses - threshold
    beta = (excess.detach().double() / regularisation).clamp_min(-2 / math.e).cpu().numpy()
    # at the branch point itself, and a hair below it, scipy's W is not a number
    weight = np.exp(-lambertw(np.maximum(beta / 2, np.nextafter(-1 / math.e, 0))).real)
    sigma = torch.from_numpy(weight).to(losses)
    return excess * sigma + regularisation * sigma.log().square()


METHOD = Method("remain", "Remain. Unl.", {"forget", "retain"}, Parameters, run)
