"""Which clips a request is about: CSV files, checked to the last row before any work begins."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from speechunlearn.corpora.base import BadClip, content_hash, decode
from speechunlearn.corpora.csv import place, read_table, short
from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import CorpusError
from speechunlearn.files import nfc
from speechunlearn.tool import output_folder

REQUIRED, OPTIONAL = ("path", "label"), ("speaker",)
_NAMED = 12  # labels in a message


@dataclass(frozen=True)
class ClipSet:
    """The clips of one CSV.

    Args:
        name: ``forget``, ``retain`` or ``unseen``
        file: the CSV
        sha256: of its bytes
        listed: see `listed`
        about: a row a clip: path (as written), label, speaker, unit (the speaker, or the clip
            where the CSV names none), seconds, hash
        clips: the same, decoded, as the model takes them
        duplicates: rows left out, since an earlier one names the same recording
        beyond: paths of clips with samples beyond full scale, which are taken as they are

    """

    name: str
    file: Path
    sha256: str
    listed: str
    about: pd.DataFrame
    clips: Clips
    duplicates: int
    beyond: tuple[str, ...] = ()

    @property
    def has_speakers(self) -> bool:
        """Whether every clip has a speaker."""
        return bool((self.about["speaker"] != "").all())


def read_csv(file: Path) -> pd.DataFrame:
    """Read the rows of a list of clips.

    Args:
        file: UTF-8, comma-separated, with the columns ``path`` and ``label`` and optionally
            ``speaker``; others are ignored

    Returns:
        these three columns, see `speechunlearn.corpora.csv.read_table`

    Raises:
        CorpusError: see `speechunlearn.corpora.csv.read_table`

    """
    return read_table(file, REQUIRED, OPTIONAL)


def listed(file: Path) -> str:
    """Return a hash of which clips a CSV asks for, however it is written.

    Two CSVs that differ in the order of their rows, in line ends, in other columns or in rows that
    are there twice ask for the same.

    Args:
        file: see `read_csv`

    Raises:
        CorpusError: see `read_csv`

    """
    rows = read_csv(file)[list(REQUIRED)].itertuples(index=False)
    clips = {(os.path.normpath(nfc(path)), label) for path, label in rows}
    return output_folder.digest({"rows": sorted(clips)})


def read(
    name: str,
    file: str | Path,
    labels: Sequence[str],
    *,
    sampling_rate: int,
    normalise: bool,
    root: str | Path | None = None,
    allow_outside: bool = False,
    progress: bool = False,
) -> ClipSet:
    """Read, check and decode the clips of a CSV.

    Args:
        name: ``forget``, ``retain`` or ``unseen``
        file: see `read_csv`
        labels: class names of the model
        sampling_rate: in Hz
        normalise: to zero mean and unit variance a clip
        root: folder that paths are relative to and lie in; the CSV's own without it
        allow_outside: let paths lead out of the root
        progress: show a bar on a terminal

    Raises:
        CorpusError: see `read_csv`; a label the model does not know, a path that leads out of the
            root, a clip that is bad, or one recording with two labels

    """
    file = output_folder.path(name, file)
    table = read_csv(file)
    base = (file.parent if root is None else output_folder.path("root", root)).resolve()
    if not base.is_dir():
        raise CorpusError(f"root: {str(base)!r} is no folder")
    permission = None if allow_outside else "allow_outside permits it"
    spelt = {nfc(label): label for label in labels}
    for row, label in table.loc[~table["label"].isin(list(spelt)), "label"].items():
        known = ", ".join(short(label) for label in labels[:_NAMED])
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        raise CorpusError(
            f"{file}: the model has no class {short(label)} (row {row}); it has {known}{more}"
        )
    places = {
        path: place(file, int(str(row)), path, base, permission)
        for row, path in table["path"].drop_duplicates().items()
    }
    cells = table.to_dict("index")
    rows, waveforms, beyond = [], [], []
    first: dict[str, int] = {}
    decoded: dict[Path, str] = {}
    shown = tqdm(cells.items(), desc=f"reading {name}", disable=None if progress else True)
    for row, values in shown:
        clip = places[values["path"]]
        try:
            if clip not in decoded:
                waveform, seconds = decode(clip, sampling_rate, full_scale=normalise)
                peak = max(1.0, float(np.abs(waveform).max()))
                decoded[clip] = content_hash(waveform / np.float32(peak))
                if peak > 1:
                    beyond.append(values["path"])
        except BadClip as error:
            raise CorpusError(
                f"{file}: {short(values['path'])} (row {row}): {error.reason}"
            ) from error
        heard = decoded[clip]
        before = first.setdefault(heard, row)
        if before != row:
            if cells[before]["label"] != values["label"]:
                raise CorpusError(
                    f"{file}: rows {before} and {row} are one recording with two labels"
                )
            continue
        label = spelt[values["label"]]
        rows.append({**values, "label": label, "seconds": seconds, "hash": heard})
        waveforms.append(torch.from_numpy(audio.normalise(waveform) if normalise else waveform))
    about = pd.DataFrame(rows)
    about["cluster"] = about["speaker"].where(about["speaker"] != "", about["hash"])
    clips = Clips.of(about.assign(speaker=about["cluster"]), labels, waveforms)
    return ClipSet(
        name, file, output_folder.sha256(file), listed(file), about, clips,
        len(cells) - len(rows), tuple(beyond),
    )


def in_units(parts: Mapping[str, ClipSet], of: str = "forget") -> tuple[dict[str, ClipSet], float]:
    """Divide waveforms by the power of two next to their typical standard deviation.

    A model that is given waveforms as they are takes them so, and the bound of an attack means
    what it means for normalised clips. A power of two rounds nothing.

    Args:
        parts: clips that are not normalised
        of: the part whose median decides

    Returns:
        the parts, and what their waveforms were divided by

    """
    spreads = [float(w.double().std(correction=0)) for w in parts[of].clips.waveforms_z]
    unit = float(2.0 ** round(float(np.log2(np.median(spreads)))))

    def divided(part: ClipSet) -> ClipSet:
        return replace(
            part, clips=replace(part.clips, waveforms_z=[w / unit for w in part.clips.waveforms_z])
        )

    return {name: divided(part) for name, part in parts.items()}, unit


def check_apart(parts: Mapping[str, ClipSet]) -> None:
    """Refuse a recording that lies in two of the sets: it can't be forgotten and kept.

    Raises:
        CorpusError: there is one

    """
    seen: dict[str, tuple[str, str]] = {}
    for part in parts.values():
        for heard, path in zip(part.about["hash"], part.about["path"], strict=True):
            other, known = seen.setdefault(heard, (part.name, path))
            if other != part.name:
                raise CorpusError(
                    f"{part.file}: {path!r} is the same recording as {known!r} of the {other} clips"
                )


def of_same_speakers(parts: Mapping[str, ClipSet]) -> dict[str, list[str] | None]:
    """Return the clips of the other sets whose speaker has clips in the forget set.

    Args:
        parts: the sets of a request, the forget set among them

    Returns:
        set -> paths of its clips; None where it, or the forget set, names no speakers

    """
    asked = parts["forget"]
    speakers = set(asked.about["speaker"]) - {""}
    return {
        name: part.about.loc[part.about["speaker"].isin(speakers), "path"].tolist()
        if asked.has_speakers and part.has_speakers else None
        for name, part in parts.items() if name != "forget"
    }
