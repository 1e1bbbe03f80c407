"""Clips in memory: normalised waveforms with their labels, and the batches drawn from them."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechunlearn.dataset import audio
from speechunlearn.errors import CorpusError, require

#: zero-padded waveforms, the samples of each without the padding, classes, what a model answers
Waveforms = Float[Tensor, "batch time"]
Lengths = Int[Tensor, " batch"]
Labels = Int[Tensor, " batch"]
Logits = Float[Tensor, "batch classes"]
Batch = tuple[Waveforms, Lengths]


@dataclass(frozen=True)
class Clips:
    """Clips of one manifest, in its order.

    Args:
        waveforms_z: one z-normalised float32 waveform a clip, shape ``[time]``, unequal lengths: a
            list, or `OnDisk`
        labels: class index of each clip, shape ``[clips]``
        hashes: content hash of each clip
        speakers: speaker of each clip

    """

    waveforms_z: Sequence[Tensor]
    labels: Int[Tensor, " clips"]
    hashes: list[str]
    speakers: list[str]

    @classmethod
    def of(
        cls, manifest: pd.DataFrame, labels: Sequence[str], waveforms_z: Sequence[Tensor]
    ) -> Clips:
        """Return the clips of a manifest.

        Args:
            manifest: columns label, hash, speaker
            labels: class names; a clip's label index is its position here
            waveforms_z: of the clips, in the manifest's order

        Raises:
            CorpusError: a label that is not among the class names

        """
        unknown, classes = sorted(set(manifest["label"]) - set(labels)), list(labels)
        told = f"labels {unknown} are not among the classes {classes}"
        require(not unknown, told, CorpusError)
        codes = torch.from_numpy(pd.Index(labels).get_indexer(manifest["label"]).astype(np.int64))
        return cls(waveforms_z, codes, list(manifest["hash"]), list(map(str, manifest["speaker"])))

    def __len__(self) -> int:
        return len(self.waveforms_z)

    @property
    def lengths(self) -> list[int]:
        """Samples in each clip."""
        if isinstance(self.waveforms_z, OnDisk):
            return self.waveforms_z.lengths
        return [len(waveform_z) for waveform_z in self.waveforms_z]

    def at(self, positions: Sequence[int]) -> Clips:
        """Return the clips at these positions, in this order."""
        index = [int(position) for position in positions]
        waveforms_z = [self.waveforms_z[i] for i in index]
        hashes, speakers = ([values[i] for i in index] for values in (self.hashes, self.speakers))
        return Clips(waveforms_z, self.labels[index], hashes, speakers)

    def relabelled(self, labels: Int[Tensor, " clips"]) -> Clips:
        """Return the same clips with other labels."""
        fits = labels.shape == self.labels.shape
        require(fits, f"labels: {tuple(labels.shape)}, but there are {len(self)} clips")
        return replace(self, labels=labels)

    def batch(self, positions: Sequence[int]) -> Batch:
        """Pad the clips at these positions into one batch (waveform_z, lengths in samples)."""
        return audio.pad([self.waveforms_z[int(i)] for i in positions])


class OnDisk(Sequence[Tensor]):
    """Waveforms of which memory holds none: each is read when it is asked for.

    Args:
        lengths: samples of each

    """

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int | slice) -> Any:
        places = range(len(self))[position]
        return self.read(places) if isinstance(places, int) else [self.read(i) for i in places]

    def read(self, position: int) -> Float[Tensor, " time"]:
        """Return the waveform at a position from 0."""
        raise NotImplementedError


class Replaced(OnDisk):
    """Waveforms of which some are replaced, one by one.

    The new ones lie in a file without a name, in ``$TMPDIR``, which is gone when the process is.

    Args:
        waveforms_z: what they are at first

    """

    def __init__(self, waveforms_z: Sequence[Tensor]) -> None:
        super().__init__([len(waveform_z) for waveform_z in waveforms_z])
        self._first, self._replaced = waveforms_z, [False] * len(waveforms_z)
        self._starts = [0, *accumulate(waveform_z.nbytes for waveform_z in waveforms_z)]
        self._file, path = tempfile.mkstemp()
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)

    def read(self, position: int) -> Float[Tensor, " time"]:
        """See `OnDisk`."""
        if not self._replaced[position]:
            return self._first[position]
        waveform_z = torch.empty_like(self._first[position])
        os.preadv(self._file, [waveform_z.numpy().data], self._starts[position])
        return waveform_z

    def __setitem__(self, position: int, waveform_z: Float[Tensor, " time"]) -> None:
        rest = waveform_z.to(self._first[position].dtype).numpy().tobytes()
        start = self._starts[position]
        while rest:  # a disk that fills up takes a part, and then says so
            written = os.pwrite(self._file, rest, start)
            rest, start = rest[written:], start + written
        self._replaced[position] = True


def load(
    manifest: pd.DataFrame, labels: Sequence[str], *, sampling_rate: int = 16000,
    top_db: float | None = None, max_seconds: float | None = None, normalise: bool = True,
) -> Clips:
    """Decode the clips of a manifest into memory.

    Args:
        manifest: columns path, label, hash, speaker
        labels: class names; a clip's label index is its position here
        sampling_rate: in Hz
        top_db: leading and trailing silence this far below the loudest frame is cut, in dB;
            None keeps it
        max_seconds: longer clips are cut to their centre; None keeps them whole
        normalise: to zero mean and unit variance a clip

    Returns:
        the clips, in the manifest's order

    Raises:
        CorpusError: a label that is not among the class names

    """
    waveforms_z = []
    for path in manifest["path"]:
        waveform = audio.trim_silence(audio.read_clip(path, sampling_rate), sampling_rate, top_db)
        if max_seconds is not None:
            longest = int(max_seconds * sampling_rate)
            start = max(len(waveform) - longest, 0) // 2
            waveform = waveform[start : start + longest]
        if normalise:
            waveform = audio.normalise(waveform)
        waveforms_z.append(torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)))
    return Clips.of(manifest, labels, waveforms_z)


def shuffled_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, bucket: int = 8
) -> Iterator[list[int]]:
    """Yield each clip once, in random batches of clips of similar length.

    Clips are shuffled, cut into groups of ``bucket`` batches, sorted by length within a group
    (less padding to compute), and the batches of a group come in random order.

    Args:
        lengths: samples of each clip
        batch_size: clips a batch; the last may be smaller
        generator: source of the order
        bucket: batches a group

    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    for start in range(0, len(order), batch_size * bucket):
        group = sorted(order[start : start + batch_size * bucket], key=lambda i: lengths[i])
        batches = [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[position]


def sorted_batches(
    lengths: Sequence[int], batch_size: int, samples: float | int = math.inf, *, alike: bool = False
) -> Iterator[list[int]]:
    """Yield each clip once, longest first, in batches of clips of similar length.

    Args:
        lengths: samples of each clip
        batch_size: most clips in a batch
        samples: most samples in a batch, padding included; one longer clip is a batch alone
        alike: a batch that is half full takes no shorter clip: where clips have many copies,
            nothing is padded

    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[batch[0]] if batch else 0
        shorter = alike and 2 * len(batch) >= batch_size and lengths[position] < longest
        if batch and (shorter or len(batch) == batch_size or longest * (len(batch) + 1) > samples):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
