"""Fine-tuning a classifier, and asking it what it says of clips."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from speechunlearn.dataset import audio
from speechunlearn.dataset import clips as clips_module
from speechunlearn.dataset.clips import Clips, Logits
from speechunlearn.errors import Checked, ParameterError, Positive, one_of
from speechunlearn.models import fast_mode, loop
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Batch, Cost, Work

__all__ = ["Cost", "Recipe", "logits_of", "predict", "train"]


@dataclass(frozen=True)
class Recipe(Checked):
    """How a classifier is fine-tuned. The defaults are the paper's (section 3.2).

    Args:
        epochs: passes over the training clips
        learning_rate: Adam's; the peak when the schedule is one-cycle
        batch_size: clips a step
        schedule: ``constant`` (the paper's) or ``one_cycle`` (Smith & Topin 2018)
        weight_decay: decoupled (AdamW); 0 is Adam
        clip_gradient: largest gradient norm; None leaves it as it is
        frontend_rate: the convolutions' share of the encoder's learning rate
        encoder_rate: the encoder's share of the learning rate, which is the head's
        clean_epochs: number of last epochs that see the clips unaltered, without SpecAugment
        speeds: playback rates, one drawn for each clip and epoch; (1.0,) leaves it unaltered
        encoder: overrides of the transformers config (dropout, SpecAugment)
        fast: computed as `speechunlearn.models.fast_mode.fast` does it: sooner, equal but for
            rounding
        and
            for the numbers that dropout draws

    """

    epochs: Positive[int] = 20
    learning_rate: Positive[float] = 3e-5
    batch_size: Positive[int] = 16
    schedule: Annotated[str, one_of("constant", "one_cycle")] = "constant"
    weight_decay: float = 0.0
    clip_gradient: float | None = None
    frontend_rate: float = 1.0
    encoder_rate: float = 1.0
    clean_epochs: int = 0
    speeds: tuple[float, ...] = (1.0,)
    encoder: dict[str, Any] = field(default_factory=dict)
    fast: bool = False


def train(
    model: Classifier, clips: Clips, recipe: Recipe, *, seed: int, cost: Work | None = None
) -> list[float]:
    """Fine-tune a classifier in place with cross-entropy.

    A run that was killed and goes on gives the same weights as one that was not, see
    `speechunlearn.models.loop`.

    Args:
        model: changed in place; left in eval mode
        clips: training clips
        recipe: hyperparameters
        seed: source of all randomness
        cost: counted into; tells the progress and keeps the state

    Returns:
        mean training loss of each epoch

    Raises:
        ParameterError: no clips, or a loss that is no longer finite

    """
    if len(clips) == 0:
        raise ParameterError("clips: there are none to train on")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        list(_groups(model, recipe)), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    scheduler = None
    if recipe.schedule == "one_cycle":
        steps = -(-len(clips) // recipe.batch_size)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=steps * recipe.epochs + 1, pct_start=0.15, cycle_momentum=False,
        )
    masks, clean = _spec_augment(model), recipe.epochs - recipe.clean_epochs

    def begin(epoch: int) -> None:
        model.train()
        _spec_augment(model, masks and epoch < clean)

    def loss(model: Classifier, batch: Batch) -> Tensor:
        chosen = clips.at(batch.positions)
        if batch.epoch < clean and recipe.speeds != (1.0,):
            draws = batch.generator()
            played = [_change_speed(w, recipe.speeds, draws) for w in chosen.waveforms_z]
            chosen = Clips(played, chosen.labels, chosen.hashes, chosen.speakers)
        logits = logits_of(model, chosen, range(len(chosen)))
        return cross_entropy(logits, chosen.labels.to(logits.device))

    def clip() -> None:
        if recipe.clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_gradient)

    with fast_mode.fast(model) if recipe.fast else contextlib.nullcontext():
        history = loop.epochs(
            model, lambda epoch: clips, loss, optimiser, recipe.epochs, recipe.batch_size,
            seed=seed, cost=cost or Work(), what="training",
            begin=begin, scheduler=scheduler, after_backward=clip,
        )
    _spec_augment(model, masks)
    model.eval()
    return history


def logits_of(model: torch.nn.Module, clips: Clips, positions: Sequence[int]) -> Logits:
    """Return the logits of some clips, with a graph where gradients are enabled.

    Where these are more samples than `at_once` they go through the model in pieces, each of them
    once more on the way back: what is held is the graph of one piece. Not so inside
    `speechunlearn.models.fast_mode.fast`, whose draws could not be made again.
    """

    def ask(piece: Sequence[int]) -> Logits:
        device = next(model.parameters()).device
        waveform_z, lengths = clips.batch(piece)
        return model(waveform_z.to(device), lengths.to(device))

    parts = pieces(model, clips.lengths, positions)
    if len(parts) == 1 or fast_mode.is_on():
        return ask(positions)
    return torch.cat([
        checkpoint(ask, piece, use_reentrant=False, context_fn=_same_draws) for piece in parts
    ])


def _same_draws() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    """Return where a piece is computed, and computed again: SpecAugment draws from numpy's own."""
    state = np.random.get_state()

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        now = np.random.get_state()
        np.random.set_state(state)
        try:
            yield
        finally:
            np.random.set_state(now)

    return contextlib.nullcontext(), again()


#: what a graph may hold, in bytes, on the CPU; of a GPU's memory it may hold a third
_HELD = 3 * 2**30
#: bytes that a sample holds by weight of the model: of wav2vec 2.0 as it was measured, about
_BY_WEIGHT = 1e-4


def at_once(model: torch.nn.Module) -> int:
    """Return how many samples go through a model at once, padding included.

    They are 20 s for a wav2vec 2.0 of 95 million weights on the CPU, and more than any batch has
    for a small model. A single clip is never cut.
    """
    weights = list(model.parameters())
    device, held = weights[0].device, _HELD
    if device.type == "cuda":
        held = torch.cuda.get_device_properties(device).total_memory // 3
    return int(held / _BY_WEIGHT / sum(weight.numel() for weight in weights))


def pieces(
    model: torch.nn.Module, lengths: Sequence[int], positions: Sequence[int]
) -> list[list[int]]:
    """Return a batch, in its order, in pieces that go through a model at once.

    Args:
        model: see `at_once`
        lengths: samples of each clip
        positions: of the batch

    """
    longest = max(lengths[i] for i in positions)
    size = max(1, at_once(model) // longest)
    return [list(positions[first : first + size]) for first in range(0, len(positions), size)]


def predict(
    model: Classifier, clips: Clips, *, batch_size: int = 32, cost: Cost | None = None
) -> Float[Tensor, "clips classes"]:
    """Return the logits of each clip, in eval mode; the model's mode is given back."""
    if len(clips) == 0:
        raise ParameterError("clips: there are none to predict")
    cost = Cost() if cost is None else cost
    was_training = model.training
    model.eval()
    logits = torch.zeros(len(clips), len(model.labels))
    batches = list(clips_module.sorted_batches(clips.lengths, batch_size, at_once(model)))
    try:
        for positions in cost.batches("predictions", clips, batches, forward=1):
            with torch.no_grad():  # not inference_mode: a network may cache a tensor
                answer = logits_of(model, clips, positions)
            logits[positions] = answer.float().cpu()
    finally:
        model.train(was_training)
    return logits


def answers(
    model: Classifier, parts: Mapping[str, Clips], *, batch_size: int = 32
) -> dict[str, Float[np.ndarray, "_clips classes"]]:
    """Return a model's logits of every part, in eval mode."""
    return {
        name: predict(model, clips, batch_size=batch_size).numpy() for name, clips in parts.items()
    }


def _groups(model: Classifier, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the weights to train by their learning rates: front end, the encoder's rest, head.

    A network says by ``front_end`` how the names of its convolutions on the waveform begin, where
    it is not transformers' ``feature_extractor``.

    Raises:
        ParameterError: a rate of its own for a part that the network does not have

    """
    network = getattr(model, "network", None)
    fronts = tuple(f"network.{name}" for name in getattr(network, "front_end", ()))
    encoder = f"network.{getattr(network, 'base_model_prefix', '')}."
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            front = "feature_extractor" in name or name.startswith(fronts)
            groups.setdefault((front, name.startswith(encoder)), []).append(parameter)
    rates = {"frontend_rate": recipe.frontend_rate, "encoder_rate": recipe.encoder_rate}
    for part, (which, rate) in enumerate(rates.items()):
        if rate != 1 and not any(key[part] for key in groups):
            raise ParameterError(f"{which}={rate}, but this network has no such weights")
    for parts, weights in sorted(groups.items(), reverse=True):
        rate = recipe.learning_rate
        for inside, share in zip(parts, rates.values(), strict=True):
            rate *= share if inside else 1.0
        yield {"params": weights, "lr": rate}


def _spec_augment(model: Classifier, switched: bool | None = None) -> bool:
    """Return whether the encoder masks its features in training; switch it if told to.

    An architecture that has no such setting (the Audio Spectrogram Transformer) masks none.
    """
    config = getattr(getattr(model, "network", None), "config", None)
    if config is None or not hasattr(config, "apply_spec_augment"):
        return False
    if switched is not None:
        config.apply_spec_augment = switched
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
