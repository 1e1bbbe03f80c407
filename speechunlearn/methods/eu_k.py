"""EU-k: the last k layers are trained again from the start, on the retain set.

Source: Goel et al. 2022 (exact unlearning of the last k layers). The layers below
still hold what the forget set taught them.
"""

from dataclasses import dataclass, replace

import torch

from speechunlearn.errors import Checked, Positive
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.layers import last, only_trainable
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier

#: from the seed that the original was trained from, the head would start as the original's did
START_SEED = 2_000_000


@dataclass(frozen=True)
class Parameters(Checked):
    """What is trained again; how, is the recipe of fine-tuning, as it is for `retrain`.

    Args:
        k: layers that start again, from the top (see `speechunlearn.methods.layers`): 1 is the
            head, 2 the projector too, and then one transformer block each
        epochs: passes over the retain set; None is as many as the recipe has

    """

    k: Positive[int] = 1
    epochs: Positive[int | None] = None


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Put the last k layers back to before fine-tuning, and train them on the retain set.

    Before fine-tuning, the head and the projector are random, and so is the whole of an encoder
    that was not pre-trained; the blocks of one that was are as its pre-training left them.
    """
    fresh, recipe = data.anew("eu_k")
    if parameters.epochs is not None:
        recipe = replace(recipe, epochs=parameters.epochs)
    names = last(model, parameters.k)
    start = dict(fresh(work.seed + START_SEED).named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in names:
                weight.copy_(start[name])
    with only_trainable(model, names):
        history = training.train(model, data.rest, recipe, seed=work.seed, cost=work)
    return Outcome(model, {"history": history})


METHOD = Method(
    "eu_k", "EU-k", {"retain"}, Parameters, run, hyperparameter="k", tried=(1, 2, 3, 4, 5),
    trains_anew=True
)
