"""Adv. + Ela.: adversarial copies and elastic weights, the paper's proposal.

Source: Ren et al. 2025, section 2.2.2, equations 4 and 5; Kirkpatrick et al. 2017.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from speechunlearn.errors import one_of
from speechunlearn.methods import adv
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.importance import KINDS, elastic_penalty, estimate
from speechunlearn.methods.ran_lab import wrong_labels
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(adv.Parameters):
    """Adv.'s, and those of the elastic term.

    Args:
        lambda_ewc: weight of the elastic term (the paper: 1000)
        importance: ``fisher`` (the paper's), ``1-fisher``, ``mas``, ``1-mas`` (its parent's)
            or ``none``
        fisher_per: ``clip`` squares each clip's gradient, ``batch`` that of a batch's mean;
            the paper does not say, and it changes what lambda_ewc means
        importance_mode: ``eval`` or ``train``

    """

    lambda_ewc: float = 1000.0
    importance: Annotated[str, one_of(*KINDS)] = "fisher"
    fisher_per: Annotated[str, one_of("clip", "batch")] = "clip"
    importance_mode: str = "eval"


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise lambda_1 L_mis + lambda_2 L_adv + lambda_3 L_ewc."""
    if parameters.importance == "none":
        return adv.run(model, data, parameters, work)
    importance = estimate(
        parameters.importance, model, data.forget, wrong_labels(data, work.seed),
        per=parameters.fisher_per, batch_size=parameters.batch_size,
        mode=parameters.importance_mode, seed=work.seed, cost=work,
    )
    anchor = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def penalty(model: Classifier) -> Tensor:
        return parameters.lambda_ewc * elastic_penalty(model, anchor, importance)

    return adv.run(model, data, parameters, work, penalty)


METHOD = Method("adv_ela", "Adv. + Ela.", {"forget"}, Parameters, run)
