"""Adv.: wrong labels on the forget set, held in place by its targeted adversarial copies.

Source: Ren et al. 2025, section 2.2.1, equation 5 with lambda_3 = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn import fast
from speechunlearn.attacks import AdversarialSet, AttackParameters, adversarial_set
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Descent, Method, Outcome, Progress, Request, descend, endless
from speechunlearn.methods.losses import logits_of
from speechunlearn.methods.ran_lab import wrong_labels
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


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
        sets: adversarial copies are made ``once``, before unlearning, or ``anew`` each epoch
            against the current weights (not said in the paper; its parent makes them once)

    """

    lambda_mis: float = 0.1
    lambda_adv: float = 1.0
    tau: float = 0.3
    copies: int = 20
    steps: int = 50
    step_fraction: float = 0.25
    projection: str = "step"
    attack_mode: str = "eval"
    attack_batch_size: int = 32
    attack_precision: str = "float32"
    sets: str = "once"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sets not in ("once", "anew"):
            raise ParameterError(f"sets: {self.sets!r} is not once or anew")
        self.attack  # noqa: B018  (refuses bad values now)

    @property
    def attack(self) -> AttackParameters:
        """The attack's share of the parameters."""
        return AttackParameters(
            tau=self.tau, copies=self.copies, steps=self.steps,
            step_fraction=self.step_fraction, projection=self.projection,
            mode=self.attack_mode, batch_size=self.attack_batch_size,
            precision=self.attack_precision,
        )


def run(
    model: Classifier,
    request: Request,
    parameters: Parameters,
    seed: int,
    progress: Progress | None = None,
    penalty: Callable[[Classifier], Tensor] | None = None,
    cost: Cost | None = None,
) -> Outcome:
    """Minimise lambda_1 L_mis + lambda_2 L_adv (+ a penalty on the weights, for Adv. + Ela.)."""
    cost = cost or Cost()
    device = next(model.parameters()).device
    wrong = wrong_labels(request, seed).to(device)
    forget_batches = endless(request.forget, parameters.batch_size, seed)
    rates: list[float] = []
    copies: AdversarialSet

    def remake(epoch: int) -> Clips:
        nonlocal copies
        if epoch == 0 and request.adversarial is not None:
            copies = request.adversarial(model, parameters.attack, seed, cost)
        elif epoch == 0 or parameters.sets == "anew":
            copies = adversarial_set(
                model, request.forget, request.n_classes, parameters.attack,
                seed=seed + epoch, cost=cost,
            )
        else:
            return copies.clips
        rates.append(copies.success_rate)
        return copies.clips

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        targets = copies.clips.labels[positions].to(device)
        chosen = next(forget_batches)
        cost.forward_backward += len(positions) + len(chosen)

        def held() -> Tensor:
            answers = logits_of(model, copies.clips, positions, Cost())
            return parameters.lambda_adv * cross_entropy(answers, targets)

        def missed() -> Tensor:
            answers = logits_of(model, request.forget, chosen, Cost())
            return parameters.lambda_mis * cross_entropy(answers, wrong[chosen])

        total = fast.total([held, missed], model)
        return total if penalty is None else total + penalty(model)

    def skip(positions: list[int]) -> None:
        cost.forward_backward += len(positions) + len(next(forget_batches))

    history = descend(
        model, request.forget, loss, parameters, seed=seed, progress=progress,
        before_epoch=remake, skip=skip,
        resume=request.resume if parameters.sets == "once" else None,
    )
    return Outcome(model, cost, {"history": history, "reached_target": rates})


METHOD = Method(
    "adv", "Adv.", frozenset({"forget"}), Parameters, run, strength="learning_rate"
)
