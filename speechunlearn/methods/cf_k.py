"""CF-k: the last k layers are fine-tuned on the retain set; what they knew may fade.

Source: Goel et al. 2022 (catastrophic forgetting of the last k layers).
"""

from dataclasses import dataclass

from speechunlearn.errors import Positive
from speechunlearn.methods import finetune
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.layers import last, only_trainable
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(finetune.Parameters):
    """Those of `speechunlearn.methods.finetune`, which it is with all layers.

    Args:
        k: layers that move, from the top (see `speechunlearn.methods.layers`): 1 is the head, 2
            the projector too, and then one transformer block each

    """

    k: Positive[int] = 1


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(x_r), y_r) over the last k layers."""
    with only_trainable(model, last(model, parameters.k)):
        return finetune.run(model, data, parameters, work)


METHOD = Method("cf_k", "CF-k", {"retain"}, Parameters, run)
