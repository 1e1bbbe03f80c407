"""The embedded keyword set: synthetic Italian words in the layout of Speech Commands."""

from __future__ import annotations

from pathlib import Path

from speechunlearn.corpora import speech_commands
from speechunlearn.corpora.base import BadClip, Clip, Corpus, read_words

WORDS = (
    "avanti", "destra", "ferma", "giu", "no", "si", "sinistra", "stop", "su", "vai",
)  # fmt: skip


def _read(root: Path) -> tuple[list[Clip], list[BadClip]]:
    return read_words(root, speech_commands.all_words)


CORPUS = Corpus(
    name="embedded_keywords",
    title="Embedded keyword set: synthetic Italian words",
    licence="MIT, as the project",
    how_to_get="part of the repository, in data/embedded_keywords",
    task="keyword",
    read=_read,
    labels=WORDS,
    default_root=Path(__file__).resolve().parents[2] / "data" / "embedded_keywords",
)
