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
from speechunlearn.errors import CorpusError, require
from speechunlearn.files import alone, clear, remove, settle

_BLOCK = 2**16  # bytes; a connection that breaks loses what came of the last block
_TIMEOUT = 60  # s without a byte


def download(corpus: Corpus, root: Path | str, version: str | None = None) -> Path:
    """Download and unpack a corpus.

    Until it is whole, all lies in the hidden folder ``.<root>.download`` beside the root, which
    appears by a single renaming at the end: a root that is there is complete. What an
    interruption leaves is continued by the next call. A second process waits for the first.

    Args:
        corpus: what to download
        root: folder to make; its parents are made, too
        version: one of the versions in ``corpus.archives``; ``None`` takes the first

    Returns:
        the absolute root

    Raises:
        CorpusError: if the corpus has no archive (of that version), if the root holds
            anything, if the download breaks off or has the wrong hash, or if the archive is
            damaged or has a member that does not belong inside the root
    """
    archive = _choose(corpus, version)
    root = Path(os.path.abspath(Path(root).expanduser()))
    require(not _is_taken(root), f"{root}: there already, and not an empty folder", CorpusError)
    work = root.with_name(f".{root.name}.download")
    unpacked = work / "unpacked"
    try:
        with alone(work):
            if not _is_taken(root):  # by another process that downloaded it meanwhile
                file = fetch(archive, work)
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
    name, known = repr(corpus.name), {archive.version: archive for archive in corpus.archives}
    by_hand = f"corpus {name} cannot be downloaded from here; to get it: {corpus.how_to_get}"
    require(known, by_hand, CorpusError)
    version = corpus.archives[0].version if version is None else version
    known_ones = ", ".join(known)
    told = f"version: corpus {name} has no {version!r}; known: {known_ones}"
    require(version in known, told, CorpusError)
    return known[version]


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive, unless it is there with the right hash.

    Args:
        archive: what to download
        folder: where to; what has come so far is kept there as ``<name>.part``

    Returns:
        the file, whose hash is right

    Raises:
        CorpusError: if the download breaks off, or if its hash is wrong: then the file is removed
    """

    def resume(url: str, output: str, _pooch: object) -> None:
        part = folder / f"{archive.name}.part"
        _continue(url, part)
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


def _continue(url: str, part: Path) -> None:
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
        size = have + int(left) if left else None
        bar = tqdm(None, part.stem, size, initial=have, unit="B", unit_scale=True, disable=None)
        with part.open("ab" if have else "wb") as file, bar:  # shown on a terminal only
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
    inside = not path.anchor and ".." not in path.parts
    require(inside, f"{file}: member {name!r} would lie outside of the folder", CorpusError)
    require(plain, f"{file}: member {name!r} is neither file nor folder", CorpusError)
