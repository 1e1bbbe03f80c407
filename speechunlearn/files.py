"""Files that several processes add to, that a kill must not cut off, and what is in them.

Imports nothing of the package.
"""

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

#: file in a folder that is being added to
LOCK = ".lock"


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and wait in it for others that add to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        yield


@contextlib.contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the file's place at the end of the block.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replaced(folder / "a.txt") as partial:
        ...     _ = partial.write_text("whole")
        >>> [(path.name, path.read_text()) for path in folder.iterdir()]
        [('a.txt', 'whole')]

    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def as_stored(path: Path) -> Path:
    """Return a path as its folders spell it, where they use another Unicode form.

    A list that was written on macOS spells ``è`` in two characters (NFD), most else in one (NFC).

    Args:
        path: as it was written; returned unchanged where just one such file is not there

    """
    spelt = Path()
    for part in path.parts:
        if not os.path.lexists(spelt / part):
            try:
                names = _spelt(spelt, os.stat(spelt).st_mtime_ns).get(nfc(part), [])
            except OSError:
                return path
            if len(names) != 1:
                return path
            (part,) = names
        spelt /= part
    return spelt


@lru_cache(maxsize=64)
def _spelt(folder: Path, changed: int) -> dict[str, list[str]]:
    """Return the names in a folder by their composed form."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(nfc(name), []).append(name)
    return names


def nfc(text: str) -> str:
    """Return a text in its composed Unicode form, in which texts alike to the eye are mostly equal.

    Examples:
        >>> nfc("perche\u0301") == "perch\u00e9"
        True

    """
    return unicodedata.normalize("NFC", text)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
