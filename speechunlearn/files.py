"""Files that several processes add to, that a kill must not cut off, and what is in them.

Imports nothing of the package.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

#: file in a folder that is being added to
LOCK = ".lock"


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and wait in it for others that add to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        yield


@contextlib.contextmanager
def alone(folder: Path, timeout: float = -1.0) -> Iterator[Path]:
    """Hold a folder of unfinished work for this process alone.

    Args:
        folder: made if it is not there, for this user alone; removed at the end if it is empty
        timeout: seconds to wait for another process; below 0 as long as it takes

    Raises:
        Timeout: another process still works there

    """
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / LOCK, timeout=timeout)
        try:
            lock.acquire()
        except FileNotFoundError:  # it was removed a moment ago
            continue
        try:
            held = os.fstat(lock._context.lock_file_fd)  # type: ignore[arg-type]
            if not _is(folder / LOCK, held):  # of another process that has ended here meanwhile
                continue
            try:
                yield folder
            finally:
                (folder / LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return
        finally:
            lock.release()


def _is(path: Path, held: os.stat_result) -> bool:
    """Return whether a path leads to an open file."""
    try:
        return os.path.samestat(held, os.stat(path))
    except FileNotFoundError:
        return False


def clear(folder: Path) -> None:
    """Remove all that is in a folder but who holds it: see `alone`."""
    for path in folder.glob("*"):
        if path.name != LOCK:
            remove(path)


def settle(written: Path, place: Path) -> None:
    """Move a file or a folder to its place in one step, once all that is in it is on the disk.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "new").mkdir()
        >>> settle(folder / "new", folder / "place")
        >>> [path.name for path in folder.iterdir()]
        ['place']

    """
    for path in (*written.rglob("*"), written):
        to_disk(path)
    os.replace(written, place)
    to_disk(place.parent)


@contextlib.contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the file's place at the end of the block.

    What is in it is on the disk before it does: a power cut leaves the one or the other.

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
        settle(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or what a folder says is in it, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def keep(file: Path, content: bytes | memoryview) -> None:
    """Keep a state, which `kept` gives back, in one step.

    Args:
        file: its name tells what the state is of
        content: of the file, behind a line with the hash of both

    """
    with replaced(file) as partial, partial.open("wb") as opened:
        opened.write(_seal(file, content))
        opened.write(content)


def kept(file: Path) -> bytes | None:
    """Return what was kept in a file; None, with a warning, where it is not that any more.

    Examples:
        >>> import tempfile
        >>> state = Path(tempfile.mkdtemp()) / "state"
        >>> keep(state, b"whole")
        >>> kept(state)
        b'whole'
        >>> _ = state.write_bytes(state.read_bytes().replace(b"whole", b"whale"))
        >>> kept(state) is None
        True

    """
    try:
        seal, newline, content = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read, what it was kept of begins anew: %s", file, error)
        return None
    if seal + newline != _seal(file, content):
        log.warning("%s is damaged, or of something else: it begins anew", file)
        return None
    return content


def _seal(file: Path, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(file.name.encode() + b"\0")
    digest.update(content)
    return digest.hexdigest().encode() + b"\n"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
