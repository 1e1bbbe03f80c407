"""SalUn: random wrong labels and the retain set, for the weights that matter to the forget set.

Source: Fan et al. 2024. As in the authors' code, the threshold is one for all
tensors together, so that whole layers may stay as they are, and a weight outside the mask keeps
its value exactly. Their code moves on forget batches and on retain batches in turn (or mixed);
here one step has both, as in `remain`, whose loss this is. Their code also draws labels from all
classes, the true one included, anew in each epoch; here a wrong label is wrong, and drawn once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.errors import Share
from speechunlearn.methods import remain
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.importance import Importance, estimate
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(remain.Parameters):
    """Those of `speechunlearn.methods.remain`, and the mask's.

    Args:
        saliency: share of all weights that may move, above 0 and at most 1 (the authors: 0.5)

    """

    saliency: Share = 0.5


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise L_mis + CE(f(x_r), y_r) over the salient weights."""
    gradients = estimate("saliency", model, data.forget, data.forget.labels, cost=work)
    masks = salient(gradients, parameters.saliency)

    def mask_gradients() -> None:
        # Adam does not move a weight whose gradient has always been zero
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                weight.grad *= masks[name]

    return remain.run(model, data, parameters, work, mask_gradients)


def salient(importance: Importance, share: float) -> dict[str, Tensor]:
    """Return masks, true at the most important weights of all tensors together.

    Args:
        importance: by the name of the weight
        share: of all weights; their number is rounded down

    """
    together = torch.cat([value.flatten() for value in importance.values()])
    kept = torch.zeros_like(together, dtype=torch.bool)
    kept[together.topk(int(share * len(together))).indices] = True
    parts = kept.split([value.numel() for value in importance.values()])
    return {
        name: part.view_as(value)
        for (name, value), part in zip(importance.items(), parts, strict=True)
    }


METHOD = Method("salun", "SalUn", {"forget", "retain"}, Parameters, run)
