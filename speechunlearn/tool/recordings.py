"""Anyone's recordings, protected: files in, files out, and a record of which they are.

What a file is keeps: its format, subtype, sampling rate and channels, every sample outside of its
patch, and the tags that libsndfile knows (title, artist, comment, ...). What it does not know is
not kept: pictures and tags of one's own in FLAC; cue points, loops and broadcast chunks in WAV.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from speechunlearn.corpora.base import BadClip, content_hash, decode
from speechunlearn.corpora.csv import place, read_table, short
from speechunlearn.dataset.protection import Key, protect
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.files import alone, clear, keep, kept, replaced
from speechunlearn.tool import output_folder
from speechunlearn.tool.output_folder import UNFINISHED, OutputError

#: subtype -> bits of an integer; None: samples are floats
BITS: dict[str, int | None] = {
    "PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": None,
    "DOUBLE": None,
}
#: in the output folder: a row a clip, with its path, label and speaker, the name of the key, and
#: the hash of what is heard before and after
RECORD = "protected-clips.csv"
_COLUMNS = ("path", "label", "speaker", "key", "source", "protected")
_REQUEST = "request"


def protect_files(
    clips: str | Path,
    key: Key,
    out: str | Path,
    *,
    root: str | Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Write protected copies of recordings. Called again after an interruption, it goes on.

    Nothing is written before every row, clip and class was checked.

    Args:
        clips: CSV with the columns path, label and, where known, speaker
        key: see `speechunlearn.dataset.protection`
        out: folder to make; files get their paths of the CSV inside, beside `RECORD`
        root: folder that paths are relative to and lie in; the CSV's own without it
        on_progress: called with a line on what is to be known

    Returns:
        the record: path, label, speaker, key (its name, which gives nothing of it away), source
        and protected (see `speechunlearn.corpora.base.content_hash`)

    Raises:
        CorpusError: a CSV, path or clip that can't be used; a lossy format, which can't be kept
            outside of a patch; a clip that a record beside it or above says is protected already
        ParameterError: a clip that is shorter than its patch; KeyFileError: a class without a key
        OutputError: the folder holds anything else, or can't be written to

    """
    file, out = output_folder.path("clips", clips), output_folder.path("out", out)
    base = (file.parent if root is None else output_folder.path("root", root)).resolve()
    table = _checked(file, base, key)
    request = json.dumps([key.name, *table.astype(str).to_numpy().tolist()]).encode()
    if out.exists() and not out.is_dir():
        raise OutputError(f"out: {str(out)!r} is no folder")
    with output_folder.writing(out), alone(out / UNFINISHED, timeout=0.0) as unfinished:
        goes_on = kept(unfinished / _REQUEST) == request
        held = sorted({path.name for path in out.iterdir()} - {UNFINISHED})
        if held and not goes_on:
            done = held if RECORD not in held else [RECORD]
            raise OutputError(f"out: {str(out)!r} is not empty: it holds {done[0]!r}")
        keep(unfinished / _REQUEST, request)
        for row in table.itertuples():
            target = out / row.path
            if not target.is_file():  # one that is there is whole
                target.parent.mkdir(parents=True, exist_ok=True)
                with replaced(target) as partial:
                    _write(base / row.path, partial, row.label, key)
        after = [content_hash(decode(out / path)[0]) for path in table["path"]]
        record = table.assign(key=key.name, protected=after)[list(_COLUMNS)]
        with replaced(out / RECORD) as partial:
            record.to_csv(partial, index=False)
        clear(unfinished)
    silent = record.loc[record["source"] == record["protected"], "path"]
    if len(silent):
        on_progress(
            f"{len(silent)} of {len(record)} clips are as they were: in their patch there is "
            f"silence, or nothing that the filter changes; the first is {silent.iloc[0]}"
        )
    return record


def _checked(file: Path, base: Path, key: Key) -> pd.DataFrame:
    """Return path in the output folder, label, speaker and hash of each clip, all checked."""
    table = read_table(file, ("path", "label"), ("speaker",))
    rows: dict[Path, dict[str, str]] = {}
    protected = cache(_protected)
    for row, values in table.to_dict("index").items():
        clip = place(file, row, values["path"], base, "give the folder that all lie in as root")
        where = f"{file}: {short(values['path'])} (row {row})"
        if clip in rows:
            raise CorpusError(f"{where}: there is an earlier row with this file")
        try:
            source = content_hash(decode(clip)[0])
            about = soundfile.info(clip)
            key.patch(values["label"], about.frames, about.samplerate)
        except BadClip as error:
            raise CorpusError(f"{where}: {error.reason}") from error
        except ParameterError as error:
            raise type(error)(f"{where}: {error}") from error
        if about.subtype not in BITS:
            raise CorpusError(
                f"{where}: {about.subtype} is lossy, so that nothing would stay what it is; "
                "convert it to FLAC or WAV"
            )
        for folder in clip.parents:
            if source in protected(folder):
                raise CorpusError(f"{where}: it is protected already, says {folder / RECORD}")
        path = clip.relative_to(base).as_posix()
        rows[clip] = {**values, "path": path, "source": source}
    return pd.DataFrame(list(rows.values()))


def _protected(folder: Path) -> frozenset[str]:
    """Return what the record in a folder says that was protected, and changed by it."""
    if not (folder / RECORD).is_file():
        return frozenset()
    record = read_table(folder / RECORD, ("path", "source", "protected"))
    return frozenset(record["protected"]) - frozenset(record["source"])


def _write(source: Path, target: Path, label: str, key: Key) -> None:
    """Write the protected copy of a file."""
    with soundfile.SoundFile(source) as file:
        tags, bits = file.copy_metadata(), BITS[file.subtype]
        rate, channels, subtype, form = file.samplerate, file.channels, file.subtype, file.format
        # exact: what libsndfile reads as 32 bits is shifted, and doubles hold them all
        samples = file.read(file.frames, dtype="int32" if bits else "float64", always_2d=True)
    waveform = samples.astype(np.float64)
    (after,) = protect([waveform], [label], key, rate)
    if bits:
        step = 2 ** (32 - bits)
        after = np.clip(np.rint(after / step) * step, -(2**31), 2**31 - step).astype(np.int32)
    with soundfile.SoundFile(target, "w", rate, channels, subtype, format=form) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(after)
