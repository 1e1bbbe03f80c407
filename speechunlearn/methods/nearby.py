"""Clips moved a little, towards a class or away from one, for methods that learn from these.

Source: Goodfellow et al. 2015 (one signed step), Madry et al. 2018 (projected steps). The attack of
the paper is `speechunlearn.attacks`; here are its untargeted form, without a random start, and
that in the Euclidean norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn import clips as clips_module
from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.layers import moving
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


@dataclass(frozen=True)
class Moves:
    """How clips are moved.

    Args:
        bound: largest size of delta, in units of the z-normalised waveform: of ``linf`` its
            largest sample, of ``l2`` its root mean square over the clip, so that a long clip may
            move as far a sample as a short one
        norm: ``linf`` or ``l2``
        steps: how many
        step_fraction: size of a step over the bound
        targeted: towards the labels of the clips, or away from them
        batch_size: clips moved at once

    """

    bound: float
    norm: str = "linf"
    steps: int = 1
    step_fraction: float = 1.0
    targeted: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("bound", "steps", "step_fraction", "batch_size"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name}: {getattr(self, name)} is not positive")
        if self.norm not in ("linf", "l2"):
            raise ParameterError(f"norm: {self.norm!r} is not linf or l2")


def moved(
    model: Classifier, clips: Clips, moves: Moves, cost: Cost, seed: int | None = None
) -> Clips:
    r"""Return the clips, moved along the gradient of the cross-entropy of their labels.

    .. math:: \delta_{t+1} = \Pi\bigl(\delta_t \pm \sigma\,
              g(\nabla_x \mathrm{CE}(f(x + \delta_t), y))\bigr)

    with g the sign, or the gradient over its norm. Padding is not touched, and nothing is clipped
    to the range of a waveform: after z-normalisation it has none. The model is in eval mode; its
    mode is given back.

    Args:
        model: its weights are left as they were
        clips: with the labels to move towards, or away from
        moves: how far and in how many steps
        cost: counted into
        seed: of a random start on the bound, one a clip and whatever its batch; None starts at
            the clip

    """
    device = next(model.parameters()).device
    sign = -1.0 if moves.targeted else 1.0
    found: list[Tensor] = [torch.empty(0)] * len(clips)
    was_training = model.training
    model.eval()
    with moving(model, ()):
        for positions in clips_module.sorted_batches(clips.lengths, moves.batch_size):
            waveform_z, lengths = (t.to(device) for t in clips.batch(positions))
            labels = clips.labels[positions].to(device)
            inside = torch.arange(waveform_z.shape[1], device=device) < lengths[:, None]
            bound = torch.full_like(lengths[:, None], moves.bound, dtype=waveform_z.dtype)
            if moves.norm == "l2":
                bound = bound * lengths[:, None].sqrt()  # on the length of a clip's delta
            delta = torch.zeros_like(waveform_z)
            if seed is not None:
                starts = [_noise(clips.lengths[p], seed, p) for p in positions]
                start = torch.nn.utils.rnn.pad_sequence(starts, batch_first=True).to(device)
                delta = bound * _unit(start, moves.norm)
            for _ in range(moves.steps):
                there = (waveform_z + delta).requires_grad_(True)
                # summed, not averaged: a clip's gradient does not depend on its batch
                loss = cross_entropy(model(there, lengths).float(), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, there)
                step = moves.step_fraction * bound * _unit(gradient * inside, moves.norm)
                delta = _within(delta + sign * step, bound, moves.norm)
            for row, position in enumerate(positions):
                length = int(lengths[row])
                found[position] = (waveform_z + delta)[row, :length].cpu().clone()
            cost.forward_backward += moves.steps * len(positions)
    model.train(was_training)
    return Clips(found, clips.labels, clips.hashes, clips.speakers)


def strongest_wrong(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Int[Tensor, " clips"]:
    """Return the class with the largest logit among those that are not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def _noise(length: int, seed: int, position: int) -> Tensor:
    """Normal noise for one clip, whatever its batch."""
    (state,) = np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return torch.randn(length, generator=generator)


def _unit(direction: Tensor, norm: str) -> Tensor:
    """The sign of each sample, or the clip's direction at length one; zero stays zero."""
    if norm == "linf":
        return direction.sign()
    return torch.nn.functional.normalize(direction, dim=1)


def _within(delta: Tensor, bound: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return delta.clamp(-bound, bound)
    length = delta.norm(dim=1, keepdim=True)
    return delta * (bound / length.clamp_min(1e-12)).clamp(max=1)
