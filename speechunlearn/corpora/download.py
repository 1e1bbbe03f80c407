"""Download a corpus: by its hash, to be continued after an interruption, unpacked safely."""

import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

import pooch
import requests
from tqdm import tqdm

from speechunlearn.corpora.base import Archive, Corpus
from speechunlearn.errors import CorpusError
from speechunlearn.files import alone, clear, remove, settle

_BLOCK = 2**16  # bytes; a connection that breaks loses what came of the last block
_TIMEOUT = 60  # s without a byte


def download(
    corpus: Corpus, root: Path | str, version: str | None = None, progress: bool = True
) -> Path:
    """Download and unpack a corpus.

    Until it is whole, all lies in the hidden folder ``.<root>.download`` beside the root, which
    appears by a single renaming at the end: a root that is there is complete. What an
    interruption leaves is continued by the next call. A second process waits for the first.

    Args:
        corpus: what to download
        root: folder to make; its parents are made, too
        version: one of the versions in ``corpus.archives``; ``None`` takes the first
        progress: show a progress bar on stderr (only on a terminal)

    Returns:
        the absolute root

    Raises:
        CorpusError: if the corpus has no archive (of that version), if the root holds
            anything, if the download breaks off or has the wrong hash, or if the archive is
            damaged or has a member that does not belong inside the root
    """
    archive = _choose(corpus, version)
    root = Path(os.path.abspath(Path(root).expanduser()))
    if _is_taken(root):
        raise CorpusError(f"{root}: there already, and not an empty folder")
    work = root.with_name(f".{root.name}.download")
    unpacked = work / "unpacked"
    try:
        with alone(work):
            if not _is_taken(root):  # by another process that downloaded it meanwhile
                file = fetch(archive, work, progress)
                remove(unpacked)  # of an extraction that was interrupted
                unpack(file, unpacked)
                settle(unpacked, root)
            clear(work)
    except OSError as error:
        raise CorpusError(f"{root}: {error}") from error
    return root


def _is_taken(root: Path) -> bool:
    return root.exists() and not (root.is_dir() and not any(root.iterdir()))


def _choose(corpus: Corpus, version: str | None) -> Archive:
    if not corpus.archives:
        raise CorpusError(
            f"corpus {corpus.name!r} cannot be downloaded from here; to get it: {corpus.how_to_get}"
        )
    known = {archive.version: archive for archive in corpus.archives}
    if version is not None and version not in known:
        raise CorpusError(
            f"version: corpus {corpus.name!r} has no {version!r}; known: {', '.join(known)}"
        )
    return corpus.archives[0] if version is None else known[version]


def fetch(archive: Archive, folder: Path, progress: bool = True) -> Path:
    """Download an archive, unless it is there with the right hash.

    Args:
        archive: what to download
        folder: where to; what has come so far is kept there as ``<name>.part``
        progress: show a progress bar on stderr (only on a terminal)

    Returns:
        the file, whose hash is right

    Raises:
        CorpusError: if the download breaks off, or if its hash is wrong: then the file is removed
    """

    def resume(url: str, output: str, _pooch: object) -> None:
        part = folder / f"{archive.name}.part"
        _continue(url, part, progress)
        part.replace(output)

    try:
        return Path(
            pooch.retrieve(archive.url, archive.hash, archive.name, folder, downloader=resume)
        )
    except requests.RequestException as error:
        raise CorpusError(
            f"{archive.url}: the download broke off and can be continued ({error})"
        ) from error
    except ValueError as error:  # pooch's message names the file and both hashes
        raise CorpusError(f"{archive.url}: {error}") from error


def _continue(url: str, part: Path, progress: bool) -> None:
    """Append to ``part`` what it lacks; a server that sends all anyway is taken from the start."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a range of a compressed stream would be no use
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to send: the hash tells whether the part is the whole
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        left = response.headers.get("Content-Length")
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                initial=have,
                total=have + int(left) if left else None,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,  # None: shown on a terminal only
            ) as bar,
        ):
            for block in response.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))


def unpack(file: Path, folder: Path) -> None:
    """Unpack a tar or zip archive after a look at all its members.

    Args:
        file: archive
        folder: where to

    Raises:
        CorpusError: if the archive is damaged, or if a member would lie outside of the folder
            or is neither file nor folder (such as a link): then nothing is unpacked
    """
    try:
        if tarfile.is_tarfile(file):
            with tarfile.open(file) as tar:
                for member in tar:
                    _check_member(file, member.name, member.isfile() or member.isdir())
                tar.extractall(folder, filter="data")
        else:
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    # The upper half is the mode on Unix, zero where the archive has none.
                    kind = stat.S_IFMT(info.external_attr >> 16)
                    _check_member(file, info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                archive.extractall(folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise CorpusError(f"{file}: cannot be unpacked ({error})") from error


def _check_member(file: Path, name: str, plain: bool) -> None:
    path = PureWindowsPath(name)  # splits at both kinds of slash, and knows drives
    if path.anchor or ".." in path.parts:
        raise CorpusError(f"{file}: member {name!r} would lie outside of the folder")
    if not plain:
        raise CorpusError(f"{file}: member {name!r} is neither file nor folder")
