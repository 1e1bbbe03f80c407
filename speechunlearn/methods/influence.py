"""Influence: one Newton step to where the loss of the rest would have its minimum.

Source: Koh & Liang 2017 (influence functions); Guo et al. 2020 (as a removal step).
The Hessian of the retain set's loss is replaced by its diagonal empirical Fisher information, which
it is near where the model fits its labels, and nowhere else.
"""

from dataclasses import dataclass

import torch

from speechunlearn.dataset.clips import sorted_batches
from speechunlearn.errors import Checked, ParameterError, Positive
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.importance import estimate
from speechunlearn.methods.losses import Classifier, true_label_loss


@dataclass(frozen=True)
class Parameters(Checked):
    """The step.

    Args:
        damping: is added to each weight's Fisher information, which is near zero for many (Koh &
            Liang add 0.01 to the Hessian of a network)
        scale: of the step; 1 is the Newton step's own
        batch_size: clips of the forget set that are differentiated at once

    """

    damping: Positive[float] = 0.01
    scale: Positive[float] = 1.0
    batch_size: Positive[int] = 16


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Add (N / N_r) g_e / (F_r + damping) to the weights, for N clips of the N + N_r.

    The original is taken to be where the gradient over all training clips is zero, so that the
    retain set's is that of the forget set with the sign turned.
    """
    forget, retain = data.forget, data.rest
    fisher = estimate("fisher", model, retain, retain.labels, cost=work)
    model.eval()
    model.zero_grad(set_to_none=True)
    batches = list(sorted_batches(forget.lengths, parameters.batch_size))
    for positions in work.batches("gradient", forget, batches, forward_backward=1):
        # gradients add up to the sum over the forget set
        true_label_loss(model, forget, positions, reduction="sum").backward()
    weights = dict(model.named_parameters())
    moved = 0.0
    with torch.no_grad():
        for name, curvature in fisher.items():
            gradient = weights[name].grad
            if gradient is None:
                continue
            step = gradient / len(retain) / (curvature + parameters.damping) * parameters.scale
            if not step.isfinite().all():
                raise ParameterError(f"the step of {name!r} is not finite")
            weights[name].add_(step)
            moved += float(step.square().sum())
    model.zero_grad(set_to_none=True)
    return Outcome(model, {"moved": moved**0.5})


METHOD = Method(
    "influence", "Influence", {"forget", "retain"}, Parameters, run, hyperparameter="scale"
)
