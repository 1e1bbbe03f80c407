"""Which clips a request is about: CSV files, checked to the last row before any work begins."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from speechunlearn import audio
from speechunlearn.clips import Clips
from speechunlearn.corpora.base import BadClip, content_hash, decode
from speechunlearn.errors import CorpusError

REQUIRED, OPTIONAL = ("path", "label"), ("speaker",)

#: a CSV larger than this is no list of clips
MAX_CSV_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """The clips of one CSV.

    Args:
        name: ``forget``, ``retain`` or ``unseen``
        file: the CSV
        sha256: of its bytes
        about: a row a clip: path (as written), label, speaker, unit (the speaker, or the clip
            where the CSV names none), seconds, hash
        clips: the same, decoded, as the model takes them
        repeated: rows left out, since an earlier one names the same recording

    """

    name: str
    file: Path
    sha256: str
    about: pd.DataFrame
    clips: Clips
    repeated: int

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
        these three columns, see `read_table`

    Raises:
        CorpusError: see `read_table`

    """
    return read_table(file, REQUIRED, OPTIONAL)


def read_table(file: Path, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """Read a CSV.

    Args:
        file: UTF-8, comma-separated
        required: columns it must have, without an empty cell
        optional: columns that are empty where it has none

    Returns:
        these columns, as text without blanks around it; the index is the row, as a
        spreadsheet counts: the header is row 1

    Raises:
        CorpusError: a file that is missing or no such CSV, or a cell that is empty or holds a NUL

    """
    if not file.is_file():
        raise CorpusError(f"{file}: no such CSV file")
    if file.stat().st_size > MAX_CSV_BYTES:
        raise CorpusError(f"{file}: {file.stat().st_size} bytes are no such list")
    try:
        table = pd.read_csv(
            file, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError, csv.Error) as error:
        raise CorpusError(f"{file}: not a readable CSV ({_first_line(error)})") from error
    missing = [column for column in required if column not in table]
    if missing:
        found = ", ".join(map(str, table.columns))[:200]
        raise CorpusError(f"{file}: column(s) {', '.join(missing)} missing; found: {found}")
    if table.empty:
        raise CorpusError(f"{file}: no rows below the header")
    table = table.reindex(columns=[*required, *optional], fill_value="").fillna("")
    table.index = pd.RangeIndex(2, len(table) + 2)
    for column in table:
        table[column] = table[column].str.strip()
        odd = table.index[table[column].str.contains("\0", regex=False)]
        if len(odd):
            raise CorpusError(f"{file}: column {column!r} holds a NUL character in row {odd[0]}")
    for column in required:
        empty = table.index[table[column] == ""]
        if len(empty):
            raise CorpusError(f"{file}: column {column!r} is empty in row {empty[0]}")
    return table


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
) -> Part:
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
    file = Path(file).expanduser()
    table = read_csv(file)
    base = (file.parent if root is None else Path(root).expanduser()).resolve()
    if not base.is_dir():
        raise CorpusError(f"root: {str(base)!r} is no folder")
    number = {label: i for i, label in enumerate(labels)}
    places = {}
    for row, values in table.iterrows():
        if values["label"] not in number:
            raise CorpusError(
                f"{file}: the model has no class {values['label']!r} (row {row}); "
                f"it has {_shortened(labels)}"
            )
        place = base / values["path"]
        try:
            resolved = place.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise CorpusError(f"{file}: {values['path']!r} (row {row}): {error}") from error
        if not allow_outside and not resolved.is_relative_to(base):
            raise CorpusError(
                f"{file}: {values['path']!r} (row {row}) leads out of {str(base)!r}; "
                "allow_outside permits it"
            )
        places[row] = resolved
    rows, waveforms, repeated = [], [], 0
    first: dict[str, int] = {}
    shown = tqdm(places.items(), desc=f"reading {name}", disable=None if progress else True)
    for row, place in shown:
        values = table.loc[row]
        try:
            waveform, seconds = decode(place, sampling_rate)
        except BadClip as error:
            raise CorpusError(f"{file}: {values['path']!r} (row {row}): {error.reason}") from error
        heard = content_hash(waveform)
        if heard in first:
            before = first[heard]
            if table.loc[before, "label"] != values["label"]:
                raise CorpusError(
                    f"{file}: rows {before} and {row} are one recording with two labels"
                )
            repeated += 1
            continue
        first[heard] = row
        rows.append({**values.to_dict(), "seconds": seconds, "hash": heard})
        waveforms.append(torch.from_numpy(audio.normalise(waveform) if normalise else waveform))
    about = pd.DataFrame(rows)
    about["unit"] = about["speaker"].where(about["speaker"] != "", about["hash"])
    clips = Clips(
        waveforms, torch.tensor([number[label] for label in about["label"]], dtype=torch.long),
        list(about["hash"]), list(about["unit"]),
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Part(name, file, digest, about, clips, repeated)


def in_units(parts: Mapping[str, Part], of: str = "forget") -> tuple[dict[str, Part], float]:
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

    def divided(part: Part) -> Part:
        own = part.clips
        waveforms = [w / unit for w in own.waveforms_z]
        return replace(part, clips=Clips(waveforms, own.labels, own.hashes, own.speakers))

    return {name: divided(part) for name, part in parts.items()}, unit


def check_apart(parts: Mapping[str, Part]) -> None:
    """Refuse a recording that lies in two of the sets: it can't be forgotten and kept.

    Raises:
        CorpusError: there is one

    """
    seen: dict[str, tuple[str, str]] = {}
    for part in parts.values():
        for heard, path in zip(part.about["hash"], part.about["path"], strict=True):
            if heard in seen:
                other, place = seen[heard]
                raise CorpusError(
                    f"{part.file}: {path!r} is the same recording as {place!r} of the "
                    f"{other} clips"
                )
        seen |= {
            heard: (part.name, path)
            for heard, path in zip(part.about["hash"], part.about["path"], strict=True)
        }


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _shortened(labels: Sequence[str], most: int = 12) -> str:
    named = ", ".join(repr(label) for label in labels[:most])
    return named + (f" and {len(labels) - most} more" if len(labels) > most else "")

