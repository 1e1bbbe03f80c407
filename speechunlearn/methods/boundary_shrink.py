"""Boundary shrink: each clip of the forget set gets the nearest wrong class as its label.

Source: Chen et al. 2023, who forget whole classes. Nearest is the class that an
untargeted step away from the true one leads to. Where that step does not leave the true class, the
authors' code trains on the true label; here it is the strongest of the wrong ones.
"""

from dataclasses import dataclass

from torch import Tensor

from speechunlearn.errors import Positive
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, predict, true_label_loss
from speechunlearn.methods.pgd import pgd_copies, strongest_wrong


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, an epoch being one pass over the forget set, and the attack's.

    Args:
        epochs: passes over the forget set (the authors: 10)
        tau: bound on abs(delta) in units of the z-normalised waveform (the authors: 0.1, of
            another scale)
        steps: signed steps; 1 is the fast gradient sign method, which the authors use
        step_fraction: size of a step over tau, where there are several
        attack_batch_size: clips attacked at once

    """

    epochs: int = 10
    tau: Positive[float] = 0.1
    steps: Positive[int] = 1
    step_fraction: Positive[float] = 0.25
    attack_batch_size: Positive[int] = 32


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise CE(f(x_e), nearest wrong class); the classes are found once, on the original."""
    forget, steps = data.forget, parameters.steps
    moved = pgd_copies(
        model, forget, work, parameters.tau, "linf", steps,
        1.0 if steps == 1 else parameters.step_fraction, batch_size=parameters.attack_batch_size,
    )
    answers = predict(model, moved, cost=work)
    crossed = float((answers.argmax(1) != forget.labels).double().mean())
    nearest = forget.relabelled(strongest_wrong(answers, forget.labels))

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return true_label_loss(model, nearest, batch.positions)

    history = descend(model, nearest, loss, parameters, work)
    return Outcome(model, {"history": history, "left_their_class": crossed})


METHOD = Method("boundary_shrink", "Boundary shrink", {"forget"}, Parameters, run)
