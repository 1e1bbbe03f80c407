"""Files that several processes add to, that a kill must not cut off, and what is in them.

Imports nothing of the package.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
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


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
