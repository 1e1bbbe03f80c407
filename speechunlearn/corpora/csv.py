"""Anyone's own clips, described by a CSV file."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from speechunlearn.corpora.base import SPLITS, BadClip, Clip, described
from speechunlearn.errors import CONTROL, CorpusError
from speechunlearn.files import as_stored, nfc

REQUIRED = ("path", "label", "speaker")
OPTIONAL = ("split", "gender")
_ALLOWED = {"split": ("", *SPLITS), "gender": ("", "female", "male")}

#: a CSV larger than this is no list of clips
MAX_BYTES = 256 * 2**20
#: what is compared is in one Unicode form: a path is as the disk has it
_NAMES = ("label", "speaker")
_SHOWN = 200  # characters of what a message cites


def read_table(file: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of a CSV as text.

    Args:
        file: UTF-8, comma-separated; empty lines and further columns are ignored
        required: columns without an empty cell
        optional: columns that are empty where the file lacks them

    Returns:
        these columns, without blanks around the cells, labels and speakers in Unicode's composed
        form; the index is the row, as a spreadsheet counts: the header is row 1

    Raises:
        CorpusError: a file that is missing or no such CSV, a column that is missing or there
            twice, no rows, an empty cell, or one with a line end or other control character
    """
    if not os.path.isfile(file):
        raise CorpusError(f"{file}: no such CSV file")
    try:
        if os.path.getsize(file) > MAX_BYTES:
            raise CorpusError(f"{file}: {os.path.getsize(file)} bytes are no list of clips")
        data = file.read_bytes()
    except OSError as error:
        raise CorpusError(f"{file}: cannot be read ({error.strerror})") from error
    if b"\0" in data:
        raise CorpusError(f"{file}: not a readable CSV (it holds NUL bytes: is it UTF-16?)")
    if not data.strip():
        raise CorpusError(f"{file}: not a readable CSV (it is empty)")
    table: dict[int, list[str]] = {}
    try:
        # Every cell is text: a speaker 007 stays 007, and a label 'NA' is no missing value.
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(rows, [])]
        missing = [column for column in required if column not in header]
        if missing:
            names = ", ".join(header)[:_SHOWN]
            hint = "".join(
                f": its cells are parted by {name}, and commas are needed"
                for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in "".join(header)
            )
            raise CorpusError(
                f"{file}: column(s) {', '.join(missing)} missing; found: {names}{hint}"
            )
        columns = [*required, *optional]
        for column in columns:
            if header.count(column) > 1:
                raise CorpusError(f"{file}: more than one column {column!r}")
        places = {column: header.index(column) for column in columns if column in header}
        for row, cells in enumerate(rows, start=2):
            if len(cells) > len(header):
                raise CorpusError(
                    f"{file}: row {row} has {len(cells)} cells, the header {len(header)}"
                )
            if any(cells):
                cells += [""] * (len(header) - len(cells))
                table[row] = [cells[places[c]].strip() if c in places else "" for c in columns]
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CorpusError(f"{file}: line {line} is not UTF-8: save it in that encoding") from error
    except csv.Error as error:
        raise CorpusError(f"{file}: not a readable CSV ({error})") from error
    if not table:
        raise CorpusError(f"{file}: no rows below the header")
    for row, cells in table.items():
        for column, cell in zip(columns, cells, strict=True):
            if not cell and column in required:
                raise CorpusError(f"{file}: column {column!r} is empty in row {row}")
            if CONTROL.search(cell):
                raise CorpusError(f"{file}: a control character in column {column!r}, row {row}")
    frame = pd.DataFrame.from_dict(table, orient="index", columns=columns, dtype=str)
    for column in set(_NAMES) & set(columns):
        frame[column] = frame[column].map(nfc)
    return frame


def place(file: Path, row: int, path: str, base: Path, permission: str | None) -> Path:
    """Return where a path of a CSV leads to.

    Args:
        file: the CSV
        row: of the path
        path: as written there
        base: folder that it is relative to, and lies in; absolute and without links
        permission: said to permit it to lead out; None permits it

    Returns:
        the path, absolute and without links

    Raises:
        CorpusError: it leads out, or its links lead nowhere
    """
    try:
        target = as_stored(base / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise CorpusError(f"{file}: {short(path)} (row {row}): {error}") from error
    if permission is not None and not target.is_relative_to(base):
        raise CorpusError(
            f"{file}: {short(path)} (row {row}) leads out of {str(base)!r}; {permission}"
        )
    return target


def short(cell: str) -> str:
    """Return a cell as a message cites it."""
    return repr(cell) if len(cell) <= _SHOWN else f"{cell[:_SHOWN]!r}… ({len(cell)} characters)"


def _read(file: Path) -> tuple[list[Clip], list[BadClip]]:
    """Read a table of clips.

    Rows are numbered as a spreadsheet does: the header is row 1.

    Args:
        file: CSV in UTF-8 with the columns ``path`` (absolute, or relative to the folder of the
            CSV, which it then does not leave), ``label`` and ``speaker``, optionally ``split``
            (train, validation or test, or empty in all rows) and ``gender`` (female, male or
            empty); further columns are ignored

    Returns:
        the clips; none is bad by its row alone

    Raises:
        CorpusError: if the file is missing or no CSV, lacks a column or any rows,
            has an empty cell in a required column, an unknown split or gender, a
            split in some rows only, or a relative path that leads out of its folder
    """
    table = read_table(file, REQUIRED, OPTIONAL)
    base = file.parent.resolve()
    for row, values in table.to_dict("index").items():
        for column, allowed in _ALLOWED.items():
            if values[column] not in allowed:
                raise CorpusError(
                    f"{file}: unknown {column} {short(values[column])} in row {row};"
                    f" known: {', '.join(filter(None, allowed))}"
                )
        if not Path(values["path"]).is_absolute():
            place(file, row, values["path"], base, "an absolute path may")
    unset = table["split"] == ""
    if unset.any() and not unset.all():
        raise CorpusError(
            f"{file}: column 'split' is empty in row {int(unset.idxmax())} but not in all rows"
        )
    clips = [
        # An absolute path replaces the folder.
        Clip(
            as_stored(file.parent / row["path"]), row["speaker"], row["gender"], row["label"],
            row["split"],
        )
        for row in table.to_dict("records")
    ]
    return clips, []


CORPUS = described("csv", read=_read)
