"""What every unlearning method shares: the data, the outcome, and the loop that fine-tunes."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import Checked, ParameterError, Positive, one_of
from speechunlearn.methods.pgd import AdversarialSet, AttackParameters
from speechunlearn.models import fast_mode, loop
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Batch, Cost, Progress, Work
from speechunlearn.models.training import Recipe, predict

__all__ = [
    "Batch", "Descent", "Distillation", "Method", "Outcome", "Progress",
    "UnlearningData", "Work", "descend",
]


#: what a method may need beside the forget set
_NEEDS = {
    "retain": "the retain set", "validation": "the validation set",
    "statistic": "the statistic of the training set, or the retain set",
}


@dataclass(frozen=True)
class UnlearningData:
    """The data that a method may see: the forget set, and what there is beside it.

    Args:
        forget: the clips to forget, with their true labels
        n_classes: number of classes
        retain: the other training clips; None where they are gone
        fresh: makes the classifier as it was before fine-tuning, from a seed; for retraining
        recipe: how the classifier was fine-tuned; for retraining
        adversarial: returns the adversarial set of the forget set under these parameters and
            seed, and may keep it for other methods that ask for the same
        validation: clips that were not trained on and that the model is not scored on
        statistic: returns the diagonal Fisher of the training set, forget set included, under
            the original model, by the name of the weight: the mean over clips of the squared
            gradient of the cross-entropy of the true label, in eval mode. It may be older than
            the request, so that its cost is not the request's
        resume: file where descents keep their state; None keeps none
        level: mean loss of the forget set, in nats, at which a descent ends, or that its targets
            are to have; None goes on to its last epoch, or finds targets of its own
        unseen_loss: the original's mean loss, in nats, on clips of other speakers that it never
            heard; None where there are none

    """

    forget: Clips
    n_classes: int
    retain: Clips | None = None
    fresh: Callable[[int], Classifier] | None = None
    recipe: Recipe | None = None
    adversarial: (Callable[[Classifier, AttackParameters, int, Cost], AdversarialSet] | None) = None
    validation: Clips | None = None
    statistic: Callable[[Classifier], dict[str, Tensor]] | None = None
    resume: Path | None = None
    level: float | None = None
    unseen_loss: float | None = None

    def __post_init__(self) -> None:
        if len(self.forget) == 0:
            raise ParameterError("forget: the forget set is empty")

    @property
    def rest(self) -> Clips:
        """The retain set, which `Method.unlearn` has checked to be there."""
        assert self.retain is not None
        return self.retain

    def anew(self, method: str) -> tuple[Callable[[int], Classifier], Recipe]:
        """Return what training from the start needs.

        Raises:
            ParameterError: it is not given, or a clip of the forget set is in the retain set

        """
        if self.fresh is None or self.recipe is None or self.retain is None:
            raise ParameterError(
                f"{method} needs the retain set, a fresh classifier and the recipe"
            )
        shared = set(self.forget.hashes) & set(self.rest.hashes)
        if shared:
            raise ParameterError(f"retain: {len(shared)} clips of the forget set are among them")
        return self.fresh, self.recipe


@dataclass
class Outcome:
    """What a method leaves behind.

    Args:
        model: the unlearned classifier; the original is untouched
        details: what else is worth knowing, e.g. the share of copies that reached their target
        cost: clips sent forward and backward, attack and importance included; filled in by
            `Method.unlearn`

    """

    model: Classifier
    details: dict[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, eq=False)
class Method:
    """A named unlearning method.

    Args:
        name: in results and on the command line
        title: in tables; the paper's name where it has one
        needs: what data it uses: ``forget``, ``retain``, ``validation`` (clips not trained on),
            ``statistic`` (of the training set, in place of its clips)
        parameters: dataclass of its hyperparameters
        run: ``run(model, data, parameters, work) -> Outcome``
        hyperparameter: the hyperparameter that decides how far it goes, by which it is tuned; empty
            where it has none
        tried: values of its hyperparameter that tuning tries, in this order; none are the profile's
            own times `speechunlearn.lab.tuning.FACTORS`
        untuned: why it has no hyperparameter, where it has none
        trains_anew: by the recipe that made the model, which a checkpoint does not tell

    Raises:
        ParameterError: no hyperparameter and no reason for it, both, or one that it does not
            have

    """

    name: str
    title: str
    needs: Set[str]
    parameters: type
    run: Callable[..., Outcome]
    hyperparameter: str = "learning_rate"
    tried: tuple[float | int, ...] = ()
    untuned: str = ""
    trains_anew: bool = False

    def __post_init__(self) -> None:
        if bool(self.hyperparameter) == bool(self.untuned) or (
            self.tried and not self.hyperparameter
        ):
            raise ParameterError(
                f"method {self.name!r}: it is tuned by a hyperparameter, or untuned says why not: "
                f"hyperparameter={self.hyperparameter!r}, untuned={self.untuned!r}, "
                f"tried={self.tried}"
            )
        known = [item.name for item in fields(self.parameters)]
        if self.hyperparameter and self.hyperparameter not in known:
            raise ParameterError(
                f"method {self.name!r}: hyperparameter {self.hyperparameter!r} is none of its "
                f"hyperparameters {known}"
            )

    def finds(self, parameters: Any) -> bool:
        """Return whether its hyperparameter is left to be found on the clips of a request."""
        return bool(self.hyperparameter) and getattr(parameters, self.hyperparameter) is None

    def unlearn(
        self,
        model: Classifier,
        data: UnlearningData,
        parameters: Any,
        *,
        seed: int,
        progress: Progress | None = None,
        fast: bool = False,
        work: Work | None = None,
    ) -> Outcome:
        """Run the method on a copy of the model.

        Args:
            model: the original, which is left as it is
            data: what is to be forgotten, and what data may be used
            parameters: the method's hyperparameters
            seed: source of everything that is drawn
            progress: see `speechunlearn.models.loop.Progress`
            fast: computed as `speechunlearn.models.fast_mode.fast` does it: sooner, equal but for
            rounding
                and for the numbers that dropout draws
            work: the account that is kept of it, in place of one of its own

        Raises:
            ParameterError: it lacks data that the method needs

        """
        for need, words in _NEEDS.items():
            instead = data.retain if need == "statistic" else None
            if need in self.needs and getattr(data, need) is None and instead is None:
                raise ParameterError(f"method {self.name!r} needs {words}, which is not given")
        if work is None:
            work = Work(seed=seed, progress=progress, resume=data.resume)
        forget, level = data.forget, data.level
        if level is not None:
            work.enough = lambda model: (
                cross_entropy(predict(model, forget), forget.labels).item() >= level
            )
        copied = copy.deepcopy(model)
        with fast_mode.fast(copied) if fast else contextlib.nullcontext():
            outcome = self.run(copied, data, parameters, work)
        outcome.model.eval()
        outcome.cost = work.counted()
        return outcome


@dataclass(frozen=True)
class Descent(Checked):
    """How the weights move during unlearning.

    The defaults are those of Ren et al. (2025), section 3.2, for their method. They give no batch
    size for it, and fine-tune with 16; nor do they say whether dropout is on.

    Args:
        epochs: passes over the clips that are counted through
        learning_rate: Adam's
        batch_size: clips a step
        mode: ``train`` (dropout on) or ``eval``

    """

    epochs: Positive[int] = 15
    learning_rate: Positive[float] = 3e-5
    batch_size: Positive[int] = 16
    mode: Annotated[str, one_of("train", "eval")] = "train"


@dataclass(frozen=True)
class Distillation(Descent):
    """A descent on the divergence from a teacher's answers.

    Args:
        temperature: T of `speechunlearn.methods.losses.divergence`

    """

    temperature: Positive[float] = 1.0


def descend(
    model: Classifier,
    counted: Clips | Callable[[int], Clips],
    loss: Callable[[Classifier, Batch], Tensor | Iterable[Tensor]],
    descent: Descent,
    work: Work,
    *,
    beside: Sequence[Clips] = (),
    seed: int | None = None,
    **options: Any,
) -> list[float]:
    """Minimise a loss with Adam, see `speechunlearn.models.loop.epochs`.

    Args:
        model: changed in place
        counted: clips whose one pass is an epoch; or what returns them, by the number of the epoch
        loss: called with the model and a batch
        descent: epochs, learning rate, batch size, mode
        work: its account
        beside: sets that go round beside
        seed: of the order and of all that is drawn; None is that of the work
        **options: of `speechunlearn.models.loop.epochs`

    Returns:
        mean loss of each epoch

    """
    optimiser = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=descent.learning_rate,
        fused=True if fast_mode.is_on() else None,
    )
    return loop.epochs(
        model, (lambda epoch: counted) if isinstance(counted, Clips) else counted, loss,
        optimiser, descent.epochs, descent.batch_size,
        seed=work.seed if seed is None else seed, cost=work, what="unlearning",
        beside=beside, begin=lambda epoch: model.train(descent.mode == "train"), **options,
    )
