"""From a file to what an encoder takes: read, trim, normalise, pad."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from speechunlearn.corpora.base import MIN_SECONDS, SAMPLING_RATE, decode
from speechunlearn.errors import require

_FRAME_SECONDS = 0.025
_HOP_SECONDS = 0.010
_MARGIN_SECONDS = 0.050  # weak onsets and releases lie below the threshold
_EPSILON = 1e-7  # of transformers' Wav2Vec2FeatureExtractor


def read_clip(path: Path | str, sampling_rate: int = SAMPLING_RATE) -> Float32[np.ndarray, "time"]:
    """Read one clip.

    Args:
        path: audio file of any sampling rate and number of channels
        sampling_rate: sampling rate of the result in Hz

    Returns:
        mono waveform in [-1, 1], the average of the channels

    Raises:
        CorpusError: if the clip is bad, see :func:`speechunlearn.corpora.base.decode`
    """
    waveform, _ = decode(path, sampling_rate)
    return waveform


def trim_silence(
    waveform: Float32[np.ndarray, "time"], sampling_rate: int, top_db: float | None
) -> Float32[np.ndarray, "trimmed"]:
    """Cut leading and trailing silence.

    A frame (25 ms, every 10 ms) is silent if its energy lies more than ``top_db`` below that of
    the loudest frame. What lies between the first and the last frame that is not silent is kept,
    with 50 ms on either side, and never less than 0.1 s.

    Args:
        waveform: mono waveform
        sampling_rate: sampling rate in Hz
        top_db: threshold below the loudest frame in dB; ``None`` keeps everything

    Returns:
        the kept part, a view of ``waveform``

    Raises:
        ParameterError: if ``top_db`` is not positive
    """
    if top_db is None:
        return waveform
    require(top_db > 0, f"top_db must be positive or None, not {top_db}")
    length = len(waveform)
    frame = round(_FRAME_SECONDS * sampling_rate)
    margin = round(_MARGIN_SECONDS * sampling_rate)
    shortest = math.ceil(MIN_SECONDS * sampling_rate)

    starts = np.arange(0, length, round(_HOP_SECONDS * sampling_rate))
    ends = np.minimum(starts + frame, length)
    cumulated = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    energy = cumulated[ends] - cumulated[starts]
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-top_db / 10))
    first = max(starts[loud[0]] - margin, 0)
    last = min(max(ends[loud[-1]] + margin, first + shortest), length)
    first = max(min(first, last - shortest), 0)
    return waveform[first:last]


def normalise(waveform: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
    """Give a waveform zero mean and unit variance.

    .. math:: z = (x - mean(x)) / sqrt(var(x) + 10^{-7})

    as ``transformers.Wav2Vec2FeatureExtractor`` does it: what the published encoders
    were trained on.

    Args:
        waveform: mono waveform

    Returns:
        ``waveform_z``: it has no bounds and is never clamped

    Examples:
        >>> print(normalise(np.array([0.0, 0.1, 0.2], dtype=np.float32)).round(3))
        [-1.225  0.     1.225]
    """
    # A sum of 100,000 samples in single precision would lose digits.
    mean, variance = waveform.mean(dtype=np.float64), waveform.var(dtype=np.float64)
    return ((waveform - mean) / np.sqrt(variance + _EPSILON)).astype(np.float32)


def pad(
    waveforms: Sequence[Float[Tensor, "_"]],
) -> tuple[Float[Tensor, "batch time"], Int64[Tensor, "batch"]]:
    """Stack waveforms of unequal length.

    Args:
        waveforms: one-dimensional tensors

    Returns:
        ``waveform_z``, filled with zeros (the mean of a normalised waveform) to the longest, and
        the lengths in samples

    Raises:
        ParameterError: if there are no waveforms

    Examples:
        >>> pad([torch.ones(2), torch.ones(3)])
        (tensor([[1., 1., 0.],
                [1., 1., 1.]]), tensor([2, 3]))
    """
    require(waveforms, "pad needs at least one waveform, got none")
    lengths = torch.tensor([len(waveform) for waveform in waveforms], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), lengths
