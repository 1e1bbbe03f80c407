"""What every unlearning method shares: the request, the outcome, and the loop that fine-tunes."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechunlearn import clips as clips_module
from speechunlearn import fast
from speechunlearn.attacks import AdversarialSet, AttackParameters
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.models import Classifier, seeded
from speechunlearn.training import Cost, Recipe

log = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]


@dataclass
class Resume:
    """Where a descent keeps its state after each epoch, to go on from there after a kill.

    Args:
        path: file; read if it is there, replaced in one step
        seconds: that the epochs took which were found there

    """

    path: Path
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request to forget, and what a method may look at to fulfil it.

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
        resume: where methods whose steps can be gone back to keep their state; None keeps none

    """

    forget: Clips
    n_classes: int
    retain: Clips | None = None
    fresh: Callable[[int], Classifier] | None = None
    recipe: Recipe | None = None
    adversarial: (
        Callable[[Classifier, AttackParameters, int, Cost], AdversarialSet] | None
    ) = None
    validation: Clips | None = None
    statistic: Callable[[Classifier], dict[str, Tensor]] | None = None
    resume: Resume | None = None

    def __post_init__(self) -> None:
        if len(self.forget) == 0:
            raise ParameterError("forget: the forget set is empty")

    @property
    def missing(self) -> dict[str, str]:
        """What a method may need and does not find here, in words, by its name."""
        absent = {}
        if self.retain is None:
            absent["retain"] = "the retain set"
        if self.validation is None:
            absent["validation"] = "the validation set"
        if self.statistic is None and self.retain is None:
            absent["statistic"] = "the statistic of the training set, or the retain set"
        return absent


@dataclass
class Outcome:
    """What a method leaves behind.

    Args:
        model: the unlearned classifier; the original is untouched
        cost: clips sent forward and backward, attack and importance included
        details: what else is worth knowing, e.g. the share of copies that reached their target

    """

    model: Classifier
    cost: Cost
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A named unlearning method.

    Args:
        name: in results and on the command line
        title: in tables; the paper's name where it has one
        needs: what it looks at: ``forget``, ``retain``, ``validation`` (clips not trained on),
            ``statistic`` (of the training set, in place of its clips)
        parameters: dataclass of its hyperparameters
        run: ``run(model, request, parameters, seed, progress) -> Outcome``
        strength: the hyperparameter that decides how far it goes, which it is tuned by
        tried: values of its strength that tuning tries, in this order; none are the profile's own
            times `speechunlearn.tuning.FACTORS`
        untuned: why it has no strength, where it has none
        trains_anew: by the recipe that made the model, which a checkpoint does not tell
        resumes: goes on after a kill where it was, to the same weights

    Raises:
        ParameterError: no strength and no reason for it, both, or a strength that is none of its
            hyperparameters

    """

    name: str
    title: str
    needs: frozenset[str]
    parameters: type
    run: Callable[..., Outcome]
    strength: str = ""
    tried: tuple[float | int, ...] = ()
    untuned: str = ""
    trains_anew: bool = False
    resumes: bool = True

    def __post_init__(self) -> None:
        if bool(self.strength) == bool(self.untuned) or (self.tried and not self.strength):
            raise ParameterError(
                f"method {self.name!r}: it has either a strength, or in untuned why it has none: "
                f"strength={self.strength!r}, untuned={self.untuned!r}, tried={self.tried}"
            )
        known = [own.name for own in fields(self.parameters)]
        if self.strength and self.strength not in known:
            raise ParameterError(
                f"method {self.name!r}: strength {self.strength!r} is none of its hyperparameters "
                f"{known}"
            )

    def unlearn(
        self,
        model: Classifier,
        request: Request,
        parameters: Any,
        *,
        seed: int,
        progress: Progress | None = None,
        quick: bool = False,
    ) -> Outcome:
        """Run the method on a copy of the model.

        Args:
            model: the original, which is left as it is
            request: what is to be forgotten, and what may be looked at
            parameters: the method's hyperparameters
            seed: source of everything that is drawn
            progress: called after each epoch with (epochs done, epochs, mean loss)
            quick: computed as `speechunlearn.fast.fast` does it: sooner, equal but for rounding
                and for the numbers that dropout draws

        Raises:
            ParameterError: the request lacks data the method needs

        """
        for need, words in request.missing.items():
            if need in self.needs:
                raise ParameterError(f"method {self.name!r} needs {words}, which is not given")
        copied = copy.deepcopy(model)
        with fast.fast(copied) if quick else contextlib.nullcontext():
            outcome = self.run(copied, request, parameters, seed, progress)
        outcome.model.eval()
        return outcome


@dataclass(frozen=True)
class Descent:
    """How the weights move during unlearning.

    The defaults are those of Ren et al. (2025), section 3.2, for their method. They give no batch
    size for it, and fine-tune with 16; nor do they say whether dropout is on.

    Args:
        epochs: passes over the clips that are counted through
        learning_rate: Adam's
        batch_size: clips a step
        mode: ``train`` (dropout on) or ``eval``

    """

    epochs: int = 15
    learning_rate: float = 3e-5
    batch_size: int = 16
    mode: str = "train"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ParameterError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, "
                f"learning_rate={self.learning_rate}: each must be positive"
            )
        if self.mode not in ("train", "eval"):
            raise ParameterError(f"mode: {self.mode!r} is not train or eval")


def check_share(name: str, value: float) -> None:
    """Raise ParameterError unless a parameter is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise ParameterError(f"{name}: {value} is not above 0 and at most 1")


@dataclass(frozen=True)
class Distillation(Descent):
    """A descent on the divergence from a teacher's answers.

    Args:
        temperature: T of `speechunlearn.methods.losses.divergence`

    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ParameterError(f"temperature: {self.temperature} is not positive")


def descend(
    model: Classifier,
    counted: Clips,
    loss: Callable[[Classifier, list[int]], Tensor],
    descent: Descent,
    *,
    seed: int,
    progress: Progress | None = None,
    before_epoch: Callable[[int], Clips] | None = None,
    after_backward: Callable[[], None] | None = None,
    after_epoch: Callable[[int], None] | None = None,
    resume: Resume | None = None,
    skip: Callable[[list[int]], None] | None = None,
) -> list[float]:
    """Minimise a loss with Adam, batch by batch.

    Args:
        model: changed in place
        counted: clips whose one pass is an epoch
        loss: called with the model and the positions of a batch among them
        descent: epochs, learning rate, batch size, mode
        seed: source of the order and of dropout
        progress: called after each epoch with (epochs done, epochs, mean loss)
        before_epoch: returns the clips to count through in this epoch, for sets made anew
        after_backward: called before each step, to change the gradients in place
        after_epoch: called after each epoch with its number, from 0
        resume: keeps the state after each epoch; a descent that is found there goes on, to the
            same weights
        skip: called with each batch of an epoch that is found there, in place of the loss, to
            count it and to move on what the loss draws from

    Returns:
        mean loss of each epoch

    Raises:
        ParameterError: the loss is no longer finite

    """
    optimiser = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=descent.learning_rate,
        fused=True if fast.is_on() else None,
    )
    history: list[float] = []
    state = _found(resume)
    done = state["history"] if state else []
    started = time.perf_counter()
    for epoch in range(descent.epochs):
        if before_epoch is not None:
            counted = before_epoch(epoch)
        if state and epoch == len(done):
            _put_back(state, model, optimiser)
        total = 0.0
        with seeded(seed, epoch) as generator:
            model.train(descent.mode == "train")
            for positions in clips_module.shuffled_batches(
                counted.lengths, descent.batch_size, generator
            ):
                if epoch < len(done):
                    if skip is not None:
                        skip(positions)
                    continue
                value = loss(model, positions)
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                if after_backward is not None:
                    after_backward()
                optimiser.step()
                total += value.item() * len(positions)
        if epoch < len(done):
            history.append(done[epoch])
            continue
        history.append(total / len(counted))
        if history[-1] != history[-1] or abs(history[-1]) == float("inf"):
            raise ParameterError(
                f"unlearning loss is {history[-1]} after epoch {epoch + 1}: "
                f"lower learning_rate ({descent.learning_rate})"
            )
        if after_epoch is not None:
            after_epoch(epoch)
        if resume is not None:
            spent = resume.seconds + time.perf_counter() - started
            _keep(resume.path, model, optimiser, history, spent)
        if progress is not None:
            progress(epoch + 1, descent.epochs, history[-1])
    if state and len(done) == descent.epochs:
        _put_back(state, model, optimiser)
    return history


def _keep(
    path: Path, model: Classifier, optimiser: torch.optim.Optimizer, history: list[float],
    seconds: float,
) -> None:
    """Write the state of a descent beside its place, then move it there in one step."""
    buffer = io.BytesIO()
    state = {
        "model": model.state_dict(), "optimiser": optimiser.state_dict(), "history": history,
        "seconds": seconds,
    }
    torch.save(state, buffer)  # in memory first: a full disk is then an OSError
    partial = path.with_suffix(".partial")
    partial.write_bytes(buffer.getbuffer())
    os.replace(partial, path)


def _found(resume: Resume | None) -> dict[str, Any] | None:
    """Return the state of a descent that was left, if there is one."""
    if resume is None or not resume.path.exists():
        return None
    try:
        state = torch.load(resume.path, map_location="cpu", weights_only=True)
        resume.seconds = float(state["seconds"])
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        log.warning("%s is damaged, its descent begins anew: %s", resume.path, error)
        return None
    return state


def _put_back(
    state: dict[str, Any], model: Classifier, optimiser: torch.optim.Optimizer
) -> None:
    """Put a descent back to where it was: not before all that is asked of the original was."""
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])


def counting(cost: Cost, passes: int = 1) -> Callable[[list[int]], None]:
    """Return a ``skip`` of `descend` for a loss that draws nothing and sends each clip so often."""

    def skip(positions: list[int]) -> None:
        cost.forward_backward += passes * len(positions)

    return skip


def endless(clips: Clips, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of clips for ever, in a new order on each pass."""
    generator = torch.Generator().manual_seed(seed)
    return clips_module.cycle(
        lambda: clips_module.shuffled_batches(clips.lengths, batch_size, generator)
    )
