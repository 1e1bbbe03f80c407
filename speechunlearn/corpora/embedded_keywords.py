"""The embedded keyword set: synthetic Italian words in the layout of Speech Commands."""

from functools import partial

from speechunlearn.corpora import speech_commands
from speechunlearn.corpora.base import DATA, described, read_words

CORPUS = described(
    "embedded_keywords",
    read=partial(read_words, parse=speech_commands.all_words),
    default_root=DATA / "embedded_keywords",
)
