"""SISA++: the shards of SISA as one classifier, by the mean of their weights.

Source: Phukan et al. 2025, after Bourtoule et al. 2021 (the shards). The weights are averaged in
place of the answers, so that one classifier answers at the price of one.
"""

import torch

from speechunlearn.methods import sisa
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.models.classifier import Classifier


def run(
    model: Classifier, data: UnlearningData, parameters: sisa.Parameters, work: Work
) -> Outcome:
    """Return a classifier whose weights are the mean of the shards'.

    All shards start from the same weights. That the mean of networks is a network as good
    holds where they stay near each other, as from one pre-trained encoder; from random weights,
    it need not.
    """
    members, details = sisa.trained_shards(model, data, parameters, work)
    states = [member.state_dict() for member in members]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    members[0].load_state_dict(mean)
    return Outcome(members[0], details)


METHOD = Method(
    "sisa_plus", "SISA++", {"forget", "retain"}, sisa.Parameters, run, hyperparameter="",
    untuned="how the training set is cut is decided before the request", trains_anew=True
)
