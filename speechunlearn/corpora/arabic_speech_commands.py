"""Arabic Speech Commands: single Arabic words (Ghandoura, Hjabo & Al Dakkak, 2021)."""

import re
from pathlib import Path

from speechunlearn.corpora import base
from speechunlearn.corpora.base import BadClip, Clip, bare_name, described, matched, read_words

NAME = "arabic_speech_commands"
# The names of the folders: English translations, two of which hold a space.
WORDS = tuple(base.card(NAME)["labels"])
_SPEAKERS, _REPETITIONS = 30, 10
_NAME = re.compile(r"(?P<speaker>\d+)_NO_\d+")


def parse(path: Path) -> Clip:
    """Read the name of a spoken word, ``<word>/<speaker>_NO_<repetition>``.

    Args:
        path: path of the file; only its name and that of its folder are looked at

    Returns:
        the clip, whose label is the name of the folder. The gender is not known, and the
        split is empty

    Raises:
        BadClip: if the name does not follow the scheme, or the folder is none of :data:`WORDS`
    """
    match = matched(path, _NAME, bare_name(path), "<speaker>_NO_<repetition>")
    word = path.parent.name
    base.check_clip(word in WORDS, path, f"{word!r} is none of the {len(WORDS)} words")
    return Clip(path, match["speaker"], "", word, "")


def _read(root: Path) -> tuple[list[Clip], list[BadClip]]:
    inner = root / "dataset"
    return read_words(inner if inner.is_dir() else root, parse)


CORPUS = described(
    NAME,
    read=_read,
    expected={"": dict.fromkeys(WORDS, _SPEAKERS * _REPETITIONS)},
    expected_speakers=_SPEAKERS,
)
