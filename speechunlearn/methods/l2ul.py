"""L2UL: ascent on the forget set, held by adversarial copies and by the weights it needs least.

Source: Cha et al. 2024, the parent of `adv_ela`, whose elastic weights hold what this
one frees. The authors' code stops once every clip of the forget set is answered wrongly, which a
retrained model would not do; here the epochs and the learning rate say where it ends. Its
importance is the gradient of the mean norm of a batch's logits; here it is that of the squared
norm, clip by clip, as MAS has it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import NotNegative, Positive
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.importance import elastic_penalty, estimate
from speechunlearn.methods.losses import Batch, Classifier, predict, true_label_loss
from speechunlearn.methods.pgd import pgd_copies, random_wrong_labels


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the adversarial copies, with forget batches going round beside.

    Args:
        learning_rate: Adam's; that of `neggrad`, whose loss has no bound either
        copies: adversarial copies a clip, each with a random target, made once; as many as `adv`
            (the authors: 20 to 300)
        radius: root mean square of the perturbation, in units of the z-normalised waveform; the
            Euclidean bound of 2 on an image, the default of the authors' code (its scripts have 2
            and 4), is 0.15 a pixel in its standard deviations
        steps: attack steps (the authors: 100)
        step_fraction: size of a step over the bound (the authors: 0.1 of 2)
        lambda_imp: weight of the elastic term (the default of the authors' code: 10, in its
            scripts: 1); 0 leaves it out
        attack_batch_size: copies attacked at once

    """

    learning_rate: float = 5e-6
    copies: Positive[int] = 20
    radius: Positive[float] = 0.15
    steps: Positive[int] = 100
    step_fraction: Positive[float] = 0.05
    lambda_imp: NotNegative[float] = 10.0
    attack_batch_size: Positive[int] = 32


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise -w CE(f(x_e), y_e) + (1 - w) CE(f(x~_e), y~) + lambda/2 sum (1 - Omega)(move)^2.

    w is the share of the forget clips among the clips of a step. Omega is the importance of the
    forget set (MAS), scaled to [0, 1] in each tensor.
    """
    forget = data.forget
    copies = adversarial_copies(model, data, parameters, work)
    reached = predict(model, copies, cost=work).argmax(1) == copies.labels
    elastic = None
    if parameters.lambda_imp > 0:
        elastic = estimate("1-mas", model, forget, forget.labels, cost=work)
    anchor = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def loss(model: Classifier, batch: Batch) -> Tensor:
        (chosen,) = batch.beside
        share = len(chosen) / len(batch)
        lost = true_label_loss(model, forget, chosen)
        held = true_label_loss(model, copies, batch.positions)
        total = (1 - share) * held - share * lost
        if elastic is None:
            return total
        return total + parameters.lambda_imp / 2 * elastic_penalty(model, anchor, elastic)

    history = descend(model, copies, loss, parameters, work, beside=[forget])
    rate = float(reached.double().mean())
    return Outcome(model, {"history": history, "reached_target": rate})


def adversarial_copies(
    model: Classifier, data: UnlearningData, parameters: Parameters, work: Work
) -> Clips:
    """Return copies of the forget set, moved towards random wrong classes, labelled with them."""
    forget = data.forget
    repeated = forget.at([i for i in range(len(forget)) for _ in range(parameters.copies)])
    generator = torch.Generator().manual_seed(work.seed)
    targets = random_wrong_labels(repeated.labels, data.n_classes, generator)
    return pgd_copies(
        model, repeated.relabelled(targets), work, parameters.radius, "l2", parameters.steps,
        parameters.step_fraction, targeted=True, batch_size=parameters.attack_batch_size,
        seed=work.seed,
    )


METHOD = Method("l2ul", "L2UL", {"forget"}, Parameters, run)
