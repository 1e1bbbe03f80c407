"""Anyone's own clips, described by a CSV file."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from speechunlearn.corpora.base import SPLITS, BadClip, Clip, described
from speechunlearn.errors import CONTROL, CorpusError, require
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

    def check(holds: object, problem: str) -> None:
        require(holds, f"{file}: {problem}", CorpusError)

    check(os.path.isfile(file), "no such CSV file")
    try:
        n_bytes = os.path.getsize(file)
        check(n_bytes <= MAX_BYTES, f"{n_bytes} bytes are no list of clips")
        data = file.read_bytes()
    except OSError as error:
        raise CorpusError(f"{file}: cannot be read ({error.strerror})") from error
    check(b"\0" not in data, "not a readable CSV (it holds NUL bytes: is it UTF-16?)")
    check(data.strip(), "not a readable CSV (it is empty)")
    columns, table = [*required, *optional], {}
    try:
        # Every cell is text: a speaker 007 stays 007, and a label 'NA' is no missing value.
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(rows, [])]
        missing = ", ".join(column for column in required if column not in header)
        hint = "".join(
            f": its cells are parted by {name}, and commas are needed"
            for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in "".join(header)
        )
        names = ", ".join(header)[:_SHOWN]
        check(not missing, f"column(s) {missing} missing; found: {names}{hint}")
        for column in columns:
            check(header.count(column) < 2, f"more than one column {column!r}")
        for row, cells in enumerate(rows, start=2):
            n, most = len(cells), len(header)
            check(n <= most, f"row {row} has {n} cells, the header {most}")
            if any(cells):
                named = dict(zip(header, cells, strict=False))
                table[row] = [named.get(column, "").strip() for column in columns]
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CorpusError(f"{file}: line {line} is not UTF-8: save it in that encoding") from error
    except csv.Error as error:
        raise CorpusError(f"{file}: not a readable CSV ({error})") from error
    check(table, "no rows below the header")
    for row, cells in table.items():
        for column, cell in zip(columns, cells, strict=True):
            at = f"column {column!r}"
            check(cell or column not in required, f"{at} is empty in row {row}")
            check(not CONTROL.search(cell), f"a control character in {at}, row {row}")
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
    told = f"{file}: {short(path)} (row {row}) leads out of {str(base)!r}; {permission}"
    require(permission is None or target.is_relative_to(base), told, CorpusError)
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
            known = ", ".join(filter(None, allowed))
            told = f"unknown {column} {short(values[column])} in row {row}; known: {known}"
            require(values[column] in allowed, f"{file}: {told}", CorpusError)
        if not Path(values["path"]).is_absolute():
            place(file, row, values["path"], base, "an absolute path may")
    unset = table["split"] == ""
    told = f"{file}: column 'split' is empty in row {int(unset.idxmax())} but not in all rows"
    require(unset.nunique() == 1, told, CorpusError)
    # An absolute path replaces the folder.
    paths = [as_stored(file.parent / path) for path in table["path"]]
    clips = [Clip(**row) for row in table.assign(path=paths).to_dict("records")]
    return clips, []


CORPUS = described("csv", read=_read)
