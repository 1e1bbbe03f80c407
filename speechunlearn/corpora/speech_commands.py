"""Speech Commands: single English words (Warden, 2018, https://arxiv.org/abs/1804.03209).

Three corpora are read from the same folders: all words, the ten command words, and those ten
with the two further classes of the usual benchmark, unknown words and silence; a fourth is the
embedded set of synthetic Italian words in the same layout. The folder is
that of version 0.01 or 0.02, or of the test archive, which is published on its own and holds
the ten words, unknown words and silence only. The hashes of the archives, in the cards, are those
in torchaudio.datasets.speechcommands and in the url_checksums of TensorFlow Datasets.
"""

import logging
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from speechunlearn.corpora import base
from speechunlearn.corpora.base import BadClip, Clip, Parse, Read, bare_name, described, matched
from speechunlearn.errors import CorpusError, require

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN = "_unknown_"
SILENCE = "_silence_"
# The lists of the official split; what neither names is training data.
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

# In the test archive the word of an unknown clip stands before the speaker.
_NAME = re.compile(r"(?:[a-z]+_)?(?P<speaker>[0-9a-f]+)_nohash_\d+")

logger = logging.getLogger(__name__)


def parse(path: Path) -> Clip:
    """Read the name of a spoken word, ``<word>/<speaker>_nohash_<n>``.

    Args:
        path: path of the file; only its name and that of its folder are looked at

    Returns:
        the clip, whose label is the name of the folder and whose speaker is a hash of
        hexadecimal digits. The gender is not known, and the split is empty

    Raises:
        BadClip: if the name does not follow the scheme
    """
    match = matched(path, _NAME, bare_name(path), "<speaker>_nohash_<n>")
    return Clip(path, match["speaker"], "", path.parent.name, "")


def all_words(path: Path) -> Clip | None:
    """The clip of any word; ``None`` in folders with a leading underscore, which are no words.

    Args:
        path: see :func:`parse`

    Raises:
        BadClip: see :func:`parse`
    """
    return None if path.parent.name.startswith("_") else parse(path)


def ten_words(path: Path) -> Clip | None:
    """The clip of a command word, ``None`` for anything else.

    Args:
        path: see :func:`parse`

    Raises:
        BadClip: see :func:`parse`
    """
    return parse(path) if path.parent.name in TEN else None


def twelve_classes(path: Path) -> Clip | None:
    """The clip as one of twelve classes: a command word, an unknown word or silence.

    Silence is what lies in a folder ``_silence_``, as in the test archive: nothing is cut
    from the long recordings in ``_background_noise_``. Nobody speaks there, so each such
    clip counts as a speaker of its own and any split may hold it.

    Args:
        path: see :func:`parse`

    Returns:
        the clip, ``None`` for a recording of background noise

    Raises:
        BadClip: see :func:`parse`
    """
    folder = path.parent.name
    if folder == SILENCE:
        return Clip(path, f"{SILENCE}{bare_name(path)}", "", SILENCE, "")
    if folder.startswith("_") and folder != UNKNOWN:
        return None
    clip = parse(path)
    return clip if folder in TEN else clip._replace(label=UNKNOWN)


def _read(root: Path, select: Parse, needed: tuple[str, ...] = ()) -> Read:
    clips, bad = base.read_words(root, select)
    missing = [word for word in needed if not (root / word).is_dir()]
    words = ", ".join(missing)
    require(not missing, f"{root}: no folder for the word(s) {words}", CorpusError)
    listed = _official_split(root)
    if listed:
        names = [(clip.path.parent.name, bare_name(clip.path)) for clip in clips]
        parts = [listed.get(name, "train") for name in names]
        clips = [clip._replace(split=part) for clip, part in zip(clips, parts, strict=True)]
        bad += _missing(root, listed)
    elif (root / UNKNOWN).is_dir():
        logger.warning(
            "%s: the layout of the test archive, one part of Speech Commands: name it so", root
        )
    return clips, bad


def _official_split(root: Path) -> dict[tuple[str, str], str]:
    """Part of each (word, file name without suffix) that is listed; empty without lists."""
    missing = [name for name in LISTS.values() if not (root / name).is_file()]
    if len(missing) == len(LISTS):
        return {}
    if missing:
        raise CorpusError(f"{root}: no {missing[0]}, which the official split needs")
    listed: dict[tuple[str, str], str] = {}
    for split, name in LISTS.items():
        for number, line in enumerate((root / name).read_text("utf-8").splitlines(), start=1):
            path, at = Path(line.strip()), f"{root / name}: line {number}"
            require(len(path.parts) == 2, f"{at} is not <word>/<file>: {line!r}", CorpusError)
            before = listed.setdefault((path.parent.name, bare_name(path)), split)
            require(before == split, f"{at} is also in {LISTS[before]}", CorpusError)
    return listed


def _missing(root: Path, listed: Iterable[tuple[str, str]]) -> list[BadClip]:
    """Listed clips that are not there, of the words whose folder is there."""
    return [
        BadClip(path, "listed in the official split, but no such file")
        for word, name in listed
        if (root / word).is_dir() and not base.stored(path := root / word / f"{name}.wav").exists()
    ]


CORPUS = described("speech_commands", read=partial(_read, select=all_words))
TEN_WORDS = described("speech_commands_10", read=partial(_read, select=ten_words, needed=TEN))
TWELVE_CLASSES = described(
    "speech_commands_12", read=partial(_read, select=twelve_classes, needed=TEN)
)
EMBEDDED = described(
    "embedded_keywords", read=partial(base.read_words, parse=all_words),
    default_root=base.DATA / "embedded_keywords",
)
