"""A request to try the tool on: a study's models and clips, written as anyone would hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import soundfile

from speechunlearn.dataset.clips import Clips
from speechunlearn.lab.forget_sets import ForgetSet
from speechunlearn.lab.study import Study

_PEAK = 0.9  # of full scale


class Example(NamedTuple):
    """Names in the folder that `write` was given.

    Attributes:
        model: checkpoint that was trained on everything
        forget: CSV of the clips to forget
        retain: CSV of a sample of those it keeps
        unseen: CSV of clips it was not trained on
        references: checkpoints that were trained without the clips to forget

    """

    model: str
    forget: str
    retain: str
    unseen: str
    references: tuple[str, ...]


def write(
    study: Study, forget_set: ForgetSet, seed: int, folder: Path, *, references: Sequence[int] = ()
) -> Example:
    """Write a study's models as checkpoints, and its clips as audio files with their CSVs.

    Clips are as the model takes them (trimmed, normalised), at nine tenths of full scale.

    Args:
        study: of one corpus
        forget_set: what is to be forgotten
        seed: training seed of the model
        folder: to write to
        references: training seeds of retrained models

    """
    study.original(seed).save(folder / "model", {})
    names = []
    for other in references:
        names.append(f"retrained-{other}")
        study.retrained(other, forget_set).save(folder / names[-1], {})
    clusters = study.manifest.set_index("hash")["cluster"].astype(str)
    files = {
        name: _clips(folder, name, clips, study.labels, clusters)
        for name, clips in study.scored_clips(forget_set).items()
    }
    return Example("model", files["forget"], files["retain"], files["unseen"], tuple(names))


def _clips(
    folder: Path, name: str, clips: Clips, labels: Sequence[str], clusters: pd.Series
) -> str:
    (folder / name).mkdir()
    rows = []
    for heard, waveform_z, label in zip(
        clips.hashes, clips.waveforms_z, clips.labels.tolist(), strict=True
    ):
        path = f"{name}/{heard}.wav"
        samples = (waveform_z / waveform_z.abs().max() * _PEAK).numpy()
        soundfile.write(folder / path, samples, 16000, subtype="FLOAT")
        rows.append({"path": path, "label": labels[label], "speaker": clusters[heard]})
    file = f"{name}.csv"
    pd.DataFrame(rows).to_csv(folder / file, index=False)
    return file
