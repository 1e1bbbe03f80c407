"""Ran. Lab.: fine-tune on the forget set with random wrong labels.

Source: Ren et al. 2025, section 2.1, equation 1.
"""

import torch
from torch import Tensor

from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss
from speechunlearn.methods.pgd import random_wrong_labels


def run(model: Classifier, data: UnlearningData, parameters: Descent, work: Work) -> Outcome:
    """Minimise L_mis = CE(f(x_e), wrong label); one wrong label a clip, drawn once."""
    wrong = data.forget.relabelled(wrong_labels(data, work.seed))

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, wrong, batch.positions)

    return Outcome(model, {"history": descend(model, wrong, loss, parameters, work)})


def wrong_labels(data: UnlearningData, seed: int) -> Tensor:
    """Return the wrong label of each forget clip: the same for every method, given the seed."""
    generator = torch.Generator().manual_seed(seed)
    return random_wrong_labels(data.forget.labels, data.n_classes, generator)


METHOD = Method("ran_lab", "Ran. Lab.", {"forget"}, Descent, run)
