"""Adv.: wrong labels on the forget set, held in place by its targeted adversarial copies.

Source: Ren et al. 2025, section 2.2.1, equation 5 with lambda_3 = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import Positive, one_of
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, true_label_loss
from speechunlearn.methods.pgd import AdversarialSet, AttackParameters, adversarial_set
from speechunlearn.methods.ran_lab import wrong_labels
from speechunlearn.models import fast_mode


@dataclass(frozen=True)
class Parameters(Descent):
    """An epoch is one pass over the adversarial copies, with forget batches going round beside.

    Args:
        lambda_mis: weight of the wrong labels' loss (the paper: 0.1)
        lambda_adv: weight of the adversarial copies' loss (the paper: 1)
        tau: bound on abs(delta) in units of the z-normalised waveform (the paper: 0.1 to 0.7)
        copies: M, adversarial copies a clip (the paper: 20)
        steps: P, attack steps (the paper: 50)
        step_fraction: sigma / tau (not given in the paper)
        projection: ``step`` or ``end``
        attack_mode: ``eval`` or ``train``
        attack_batch_size: copies attacked at once, at most
        attack_precision: ``float32``, or ``bfloat16`` for the products inside the model
        attack_margin: a copy is finished when the logit of its target is so far above every other.
            None: it takes P steps, as in the paper
        sets: adversarial copies are made ``once``, before unlearning, or ``anew`` each epoch
            against the current weights (not said in the paper; its parent makes them once)

    """

    lambda_mis: float = 0.1
    lambda_adv: float = 1.0
    tau: Positive[float] = 0.3
    copies: Positive[int] = 20
    steps: Positive[int] = 50
    step_fraction: Positive[float] = 0.25
    projection: Annotated[str, one_of("step", "end")] = "step"
    attack_mode: Annotated[str, one_of("eval", "train")] = "eval"
    attack_batch_size: Positive[int] = 32
    attack_precision: Annotated[str, one_of("float32", "bfloat16")] = "float32"
    attack_margin: Positive[float | None] = None
    sets: Annotated[str, one_of("once", "anew")] = "once"

    @property
    def attack(self) -> AttackParameters:
        """The attack's share of the parameters."""
        return AttackParameters(
            self.tau, self.copies, self.steps, self.step_fraction, self.projection,
            self.attack_mode, self.attack_batch_size, self.attack_precision, self.attack_margin,
        )


def run(
    model: Classifier,
    data: UnlearningData,
    parameters: Parameters,
    work: Work,
    penalty: Callable[[Classifier], Tensor] | None = None,
) -> Outcome:
    """Minimise lambda_1 L_mis + lambda_2 L_adv (+ a penalty on the weights, for Adv. + Ela.)."""
    wrong = data.forget.relabelled(wrong_labels(data, work.seed))

    def make_copies(epoch: int) -> AdversarialSet:
        if epoch == 0 and data.adversarial is not None:
            return data.adversarial(model, parameters.attack, work.seed, work)
        return adversarial_set(
            model, data.forget, data.n_classes, parameters.attack,
            seed=work.seed + epoch, cost=work,
        )

    copies = make_copies(0)
    kept = {"reached": [copies.success_rate]}

    def of_epoch(epoch: int) -> Clips:
        nonlocal copies
        if epoch > 0 and parameters.sets == "anew":
            copies = make_copies(epoch)
            kept["reached"].append(copies.success_rate)
        return copies.clips

    def loss(model: Classifier, batch: Batch) -> Tensor:
        def held() -> Tensor:
            return parameters.lambda_adv * true_label_loss(model, copies.clips, batch.positions)

        def missed() -> Tensor:
            return parameters.lambda_mis * true_label_loss(model, wrong, batch.beside[0])

        total = fast_mode.total([held, missed], model)
        return total if penalty is None else total + penalty(model)

    history = descend(model, of_epoch, loss, parameters, work, beside=[wrong], kept=kept)
    return Outcome(model, {"history": history, "reached_target": kept["reached"]})


METHOD = Method("adv", "Adv.", {"forget"}, Parameters, run)
