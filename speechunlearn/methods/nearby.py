"""Clips moved a little, towards a class or away from one, for methods that learn from these.

Source: Goodfellow et al. 2015 (one signed step), Madry et al. 2018 (projected steps). The attack of
the paper is `speechunlearn.methods.pgd`; here are its untargeted form, without a random start, and
that in the Euclidean norm.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechunlearn.dataset import clips as clips_module
from speechunlearn.dataset.clips import Clips, Replaced
from speechunlearn.errors import Checked, Positive, one_of
from speechunlearn.methods.pgd import frozen, projected_step_
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost, generator, padded, sized


@dataclass(frozen=True)
class PGDParameters(Checked):
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

    bound: Positive[float]
    norm: Annotated[str, one_of("linf", "l2")] = "linf"
    steps: Positive[int] = 1
    step_fraction: Positive[float] = 1.0
    targeted: bool = False
    batch_size: Positive[int] = 32


def pgd_copies(
    model: Classifier, clips: Clips, moves: PGDParameters, cost: Cost, seed: int | None = None
) -> Clips:
    r"""Return the clips, moved along the gradient of the cross-entropy of their labels.

    By `speechunlearn.methods.pgd.projected_step_`. Padding is not touched, and nothing is clipped
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
    moved = Replaced(clips.waveforms_z)
    with frozen(model):
        for positions in cost.phase(
            "PGD copies", list(clips_module.sorted_batches(clips.lengths, moves.batch_size)),
            samples=padded(clips.lengths),
            passes=lambda positions: (moves.steps * len(positions), 0),
        ):
            waveform_z, lengths = (t.to(device) for t in clips.batch(positions))
            labels = clips.labels[positions].to(device)
            delta = torch.zeros_like(waveform_z)
            if seed is not None:
                starts = [
                    torch.randn(clips.lengths[p], generator=generator(seed, p)) for p in positions
                ]
                start = torch.nn.utils.rnn.pad_sequence(starts, batch_first=True).to(device)
                if moves.norm == "linf":
                    delta = moves.bound * start.sign()
                else:
                    start = torch.nn.functional.normalize(start, dim=1)
                    delta = moves.bound * lengths[:, None].sqrt() * start
            for _ in cost.phase(
                "steps of a move", range(moves.steps), samples=sized(delta), quiet=True,
            ):
                projected_step_(
                    delta, model, waveform_z, lengths, labels, bound=moves.bound,
                    fraction=moves.step_fraction, norm=moves.norm, targeted=moves.targeted,
                )
            for row, position in zip((waveform_z + delta).cpu(), positions, strict=True):
                moved[position] = row[: moved.lengths[position]]
    return Clips(moved, clips.labels, clips.hashes, clips.speakers)


def strongest_wrong(
    logits: Float[Tensor, "clips classes"], labels: Int[Tensor, " clips"]
) -> Int[Tensor, " clips"]:
    """Return the class with the largest logit among those that are not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
