"""Anyone's own clips, described by a CSV file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from speechunlearn.corpora.base import SPLITS, BadClip, Clip, Corpus
from speechunlearn.errors import CorpusError

REQUIRED = ("path", "label", "speaker")
OPTIONAL = ("split", "gender")
_ALLOWED = {"split": ("", *SPLITS), "gender": ("", "female", "male")}


def _read(file: Path) -> tuple[list[Clip], list[BadClip]]:
    """Read a table of clips.

    Rows are numbered as a spreadsheet does: the header is row 1.

    Args:
        file: CSV in UTF-8 with the columns ``path`` (relative to the folder of the CSV, or
            absolute), ``label`` and ``speaker``, optionally ``split`` (train, validation or
            test, or empty in all rows) and ``gender`` (female, male or empty);
            further columns are ignored

    Returns:
        the clips; none is bad by its row alone

    Raises:
        CorpusError: if the file is missing or no CSV, lacks a column or any rows,
            has an empty cell in a required column, an unknown split or gender, or a
            split in some rows only
    """
    if not file.is_file():
        raise CorpusError(f"{file}: no such CSV file")
    try:
        # Every cell is text: a speaker 007 stays 007, and a label 'NA' is no missing value.
        table = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: not a readable CSV ({error})") from error

    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise CorpusError(
            f"{file}: column(s) {', '.join(missing)} missing; found: {', '.join(table.columns)}"
        )
    if table.empty:
        raise CorpusError(f"{file}: no rows below the header")
    # A row with fewer cells than the header has missing values despite keep_default_na.
    table = table.reindex(columns=[*REQUIRED, *OPTIONAL], fill_value="").fillna("")
    for column in table:
        table[column] = table[column].str.strip()
    for row, values in enumerate(table.to_dict("records"), start=2):
        for column in REQUIRED:
            if not values[column]:
                raise CorpusError(f"{file}: column {column!r} is empty in row {row}")
        for column, allowed in _ALLOWED.items():
            if values[column] not in allowed:
                raise CorpusError(
                    f"{file}: unknown {column} {values[column]!r} in row {row};"
                    f" known: {', '.join(filter(None, allowed))}"
                )
    unset = table["split"] == ""
    if unset.any() and not unset.all():
        raise CorpusError(
            f"{file}: column 'split' is empty in row {int(unset.idxmax()) + 2} but not in all rows"
        )
    clips = [
        Clip(
            # An absolute path replaces the folder.
            file.parent / values["path"],
            values["speaker"],
            values["gender"],
            values["label"],
            values["split"],
        )
        for values in table.to_dict("records")
    ]
    return clips, []


CORPUS = Corpus(
    name="csv",
    title="Your own clips, described by a CSV file",
    licence="that of the clips",
    how_to_get="write a CSV with the columns path, label, speaker and optionally split, gender",
    task="any label",
    read=_read,
)
