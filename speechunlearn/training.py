"""Fine-tuning a classifier, and asking it what it says of clips."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn import audio, fast
from speechunlearn import clips as clips_module
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.models import Classifier, seeded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a classifier is fine-tuned. The defaults are the paper's (section 3.2).

    Args:
        epochs: passes over the training clips
        learning_rate: Adam's; the peak when the schedule is one-cycle
        batch_size: clips a step
        schedule: ``constant`` (the paper's) or ``one_cycle`` (Smith & Topin 2018)
        weight_decay: decoupled (AdamW); 0 is Adam
        clip_gradient: largest gradient norm; None leaves it as it is
        frontend_rate: the convolutions' share of the learning rate
        clean_epochs: so many last epochs see the clips unaltered, without SpecAugment
        speeds: playback rates, one drawn for each clip and epoch; (1.0,) leaves it unaltered
        encoder: overrides of the transformers config (dropout, SpecAugment)
        quick: computed as `speechunlearn.fast.fast` does it: sooner, equal but for rounding and
            for the numbers that dropout draws

    """

    epochs: int = 20
    learning_rate: float = 3e-5
    batch_size: int = 16
    schedule: str = "constant"
    weight_decay: float = 0.0
    clip_gradient: float | None = None
    frontend_rate: float = 1.0
    clean_epochs: int = 0
    speeds: tuple[float, ...] = (1.0,)
    encoder: dict[str, Any] = field(default_factory=dict)
    quick: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ParameterError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, "
                f"learning_rate={self.learning_rate}: each must be positive"
            )
        if self.schedule not in ("constant", "one_cycle"):
            raise ParameterError(f"schedule: {self.schedule!r} is not constant or one_cycle")


@dataclass
class Cost:
    """What a piece of work cost, besides its time and memory.

    Args:
        forward_backward: clips sent forward and backward (a clip in two epochs counts twice)
        forward: clips sent forward alone
        kept_seconds: seconds that parts of the work took when they were made, where they were
            found in the artefact cache instead

    """

    forward_backward: int = 0
    forward: int = 0
    kept_seconds: float = 0.0


def train(
    model: Classifier,
    clips: Clips,
    recipe: Recipe,
    *,
    seed: int,
    cost: Cost | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    resume: Path | None = None,
) -> list[float]:
    """Fine-tune a classifier in place with cross-entropy.

    Every epoch draws its order, augmentation and dropout from (seed, epoch), so a run that was
    killed and resumed gives the same weights as one that was not.

    Args:
        model: changed in place; left in eval mode
        clips: training clips
        recipe: hyperparameters
        seed: source of all randomness
        cost: counted into, if given
        progress: called after each epoch with (epochs done, epochs, mean loss)
        resume: file that holds the state after the last finished epoch; read if it is there,
            removed by the caller once the result is safe

    Returns:
        mean training loss of each epoch

    Raises:
        ParameterError: no clips, or a loss that is no longer finite

    """
    if len(clips) == 0:
        raise ParameterError("clips: there are none to train on")
    with fast.fast(model) if recipe.quick else contextlib.nullcontext():
        return _train(model, clips, recipe, seed, cost, progress, resume)


def _train(
    model: Classifier,
    clips: Clips,
    recipe: Recipe,
    seed: int,
    cost: Cost | None,
    progress: Callable[[int, int, float], None] | None,
    resume: Path | None,
) -> list[float]:
    """Do what `train` does."""
    device = next(model.parameters()).device
    parameters = [p for p in model.parameters() if p.requires_grad]
    convolutions = {id(p) for n, p in model.named_parameters() if "feature_extractor" in n}
    groups = [
        {
            "params": [p for p in parameters if (id(p) in convolutions) == inside],
            "lr": recipe.learning_rate * (recipe.frontend_rate if inside else 1.0),
        }
        for inside in (True, False)
    ]
    optimiser = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
    )
    steps = -(-len(clips) // recipe.batch_size)
    scheduler = None
    if recipe.schedule == "one_cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=steps * recipe.epochs + 1, pct_start=0.15, cycle_momentum=False,
        )
    history: list[float] = []
    masks = _spec_augment(model)
    if resume is not None and resume.exists():
        state = torch.load(resume, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
        history = list(state["history"])
        if cost is not None:
            cost.forward_backward += len(history) * len(clips)
        log.info("resumed after epoch %d of %d", len(history), recipe.epochs)

    for epoch in range(len(history), recipe.epochs):
        altered = epoch < recipe.epochs - recipe.clean_epochs
        total = 0.0
        with seeded(seed, epoch) as generator:
            model.train()
            _spec_augment(model, masks and altered)
            for positions in clips_module.shuffled_batches(
                clips.lengths, recipe.batch_size, generator
            ):
                loss = _batch_loss(model, clips, positions, recipe, altered, generator, device)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                if recipe.clip_gradient is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_gradient)
                optimiser.step()
                if scheduler is not None:
                    scheduler.step()
                total += loss.item() * len(positions)
        history.append(total / len(clips))
        if not np.isfinite(history[-1]):
            raise ParameterError(
                f"training loss is {history[-1]} after epoch {epoch + 1}: "
                f"lower learning_rate ({recipe.learning_rate})"
            )
        if cost is not None:
            cost.forward_backward += len(clips)
        if resume is not None:
            _save_state(resume, model, optimiser, scheduler, history)
        if progress is not None:
            progress(epoch + 1, recipe.epochs, history[-1])
    _spec_augment(model, masks)
    model.eval()
    return history


def predict(
    model: Classifier, clips: Clips, *, batch_size: int = 32, cost: Cost | None = None
) -> Float[Tensor, "clips classes"]:
    """Return the logits of each clip, in eval mode; the model's mode is given back."""
    if len(clips) == 0:
        raise ParameterError("clips: there are none to predict")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits: dict[int, Tensor] = {}
    try:
        with torch.inference_mode():
            for positions in clips_module.sorted_batches(clips.lengths, batch_size):
                waveform_z, lengths = clips.batch(positions)
                answer = model(waveform_z.to(device), lengths.to(device)).float().cpu()
                logits.update(zip(positions, answer, strict=True))
    finally:
        model.train(was_training)
    if cost is not None:
        cost.forward += len(clips)
    return torch.stack([logits[i] for i in range(len(clips))]).clone()


def _batch_loss(
    model: Classifier,
    clips: Clips,
    positions: list[int],
    recipe: Recipe,
    altered: bool,
    generator: torch.Generator,
    device: torch.device,
) -> Float[Tensor, ""]:
    """Cross-entropy of one batch, on altered copies of its clips or on the clips themselves."""
    chosen = clips.at(positions)
    if altered and recipe.speeds != (1.0,):
        played = [_change_speed(w, recipe.speeds, generator) for w in chosen.waveforms_z]
        chosen = Clips(played, chosen.labels, chosen.hashes, chosen.speakers)
    waveform_z, lengths = chosen.batch(range(len(chosen)))
    logits = model(waveform_z.to(device), lengths.to(device))
    return cross_entropy(logits, chosen.labels.to(device))


def _spec_augment(model: Classifier, wanted: bool | None = None) -> bool:
    """Return whether the encoder masks its features in training; switch it if told to."""
    config = getattr(getattr(model, "network", None), "config", None)
    if config is None:
        return False
    if wanted is not None:
        config.apply_spec_augment = wanted
    return bool(config.apply_spec_augment)


def _change_speed(
    waveform_z: Float[Tensor, " time"], speeds: tuple[float, ...], generator: torch.Generator
) -> Float[Tensor, " shorter"]:
    """Play a clip at a drawn rate: tempo and pitch change together, as on a tape."""
    speed = speeds[int(torch.randint(len(speeds), (1,), generator=generator))]
    if speed == 1.0:
        return waveform_z
    import soxr

    played = soxr.resample(waveform_z.numpy(), speed, 1.0, quality="MQ")
    return torch.from_numpy(audio.normalise(played))


def _save_state(
    path: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    history: list[float],
) -> None:
    """Write the state of training beside its final place, then move it there in one step."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler is not None else {},
        "history": history,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
