"""What a model would lose on clips that it never heard, found on the clips themselves.

Source: ours. The loss of clips that were never heard is least at their own speed, and grows with
the square of the logarithm of the speed, as any smooth function does near its least value. Of
clips that were heard it is the same where copies are so far off that nothing of the clip is left
in them. So a parabola through the mean losses of copies at two speeds gives, at speed 1, what a
model that never heard the clips would lose.

How far off that is depends on the model: one that was trained on clips at other speeds knows these
copies, too. Where unheard clips of other speakers are at hand, it is found: the copies lose there
what these clips lose. Else it is taken as a tenth and a fifth faster and slower, and the loss is
guessed too low where a model was trained on altered clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import soxr
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost
from speechunlearn.models.training import predict

#: how much faster, and slower, copies are played, the nearest first
LADDER = (1.05, 1.1, 1.2, 1.35, 1.5, 1.65)
#: places in it of the two that the parabola goes through, where no unheard clips are at hand
NEAR, FAR = 1, 2
#: log speed of the far one over that of the near one, where there are some
_APART = 1.6


class Estimate(NamedTuple):
    """What is known of the forget set by its copies.

    Attributes:
        level: mean loss, in nats, that a model that never heard the clips would have
        losses: mean loss of the copies at each speed of `LADDER` and its inverse
        answers: the model's logits of the copies at each speed, the slower first

    """

    level: float
    losses: list[float]
    answers: list[list[Float[Tensor, "clips classes"]]]


def estimate(
    model: Classifier,
    clips: Clips,
    labels: Int[Tensor, " clips"],
    cost: Cost,
    unseen_loss: float | None = None,
) -> Estimate:
    """Estimate what a model that never heard clips would lose on them.

    It is at least what the nearest copies lose: they were not heard as they are.

    Args:
        model: which heard them
        clips: the forget set
        labels: by which losses are counted; the model's own answers, where no label is to be used
        cost: counted into
        unseen_loss: the model's mean loss, in nats, on clips of other speakers that it never heard;
            None where there are none

    """
    answers, losses, normalised = [], [], model.frontend.do_normalize
    for rate in LADDER:
        both = [
            predict(model, perturb(clips, speed=speed, normalised=normalised), cost=cost)
            for speed in (1 / rate, rate)
        ]
        answers.append(both)
        losses.append(float(np.mean([cross_entropy(logits, labels).item() for logits in both])))
    if unseen_loss is None:
        level = at_rest(LADDER[NEAR], losses[NEAR], LADDER[FAR], losses[FAR])
    else:
        level = from_where_unseen(losses, unseen_loss)
    return Estimate(max(level, losses[0]), losses, answers)


def from_where_unseen(losses: Sequence[float], unseen_loss: float) -> float:
    """Return the loss at speed 1 of a parabola that begins where copies lose what unseen clips do.

    It goes on through the loss of copies at 1.6 times that log speed. Between the speeds of
    `LADDER` losses are interpolated, in the square of the log speed.

    Args:
        losses: mean loss of the copies at each speed of `LADDER` and its inverse
        unseen_loss: mean loss of clips that were never heard, of other speakers

    """
    squares, last = np.log(LADDER) ** 2, len(LADDER) - 2
    above = np.flatnonzero(np.asarray(losses) >= unseen_loss)
    place = min(int(above[0]), last) if len(above) else last
    near = squares[place]
    if len(above) and 0 < above[0] == place:
        part = (unseen_loss - losses[place - 1]) / (losses[place] - losses[place - 1])
        near = squares[place - 1] + part * (squares[place] - squares[place - 1])
    far = min(near * _APART**2, squares[-1])
    speeds = np.exp(np.sqrt([near, far]))
    near_loss, far_loss = np.interp([near, far], squares, losses)
    return at_rest(speeds[0], near_loss, speeds[1], far_loss)


def at_rest(near: float, near_loss: float, far: float, far_loss: float) -> float:
    r"""Return the loss at speed 1 of the parabola in log speed through two mean losses.

    .. math:: \ell(s) = \ell(1) + b \log^2 s

    Args:
        near: a speed, which is not 1
        near_loss: mean loss of copies at it and at its inverse
        far: another, further off
        far_loss: mean loss of copies at it and at its inverse

    """
    x, y = np.log(near) ** 2, np.log(far) ** 2
    return float(near_loss - x * (far_loss - near_loss) / (y - x))


def perturb(
    clips: Clips, *, speed: float = 1.0, shift: float = 0.0, normalised: bool = True
) -> Clips:
    """Return copies of clips.

    Args:
        clips: as the model takes them
        speed: rate that they are played at, as on a tape: 2 halves the length
        shift: part of the length that is moved from the end to the front
        normalised: whether clips have zero mean and unit variance: copies get it anew

    """
    waveforms_z = []
    for waveform_z in clips.waveforms_z:
        samples = waveform_z.numpy()
        if speed != 1.0:
            samples = soxr.resample(samples, speed, 1.0, quality="MQ")
        copy = torch.from_numpy(audio.normalise(samples) if normalised else samples)
        waveforms_z.append(torch.roll(copy, round(shift * len(copy))))
    return Clips(waveforms_z, clips.labels, clips.hashes, clips.speakers)
