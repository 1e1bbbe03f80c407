"""RAVDESS: acted English emotional speech of 24 actors.

The hash of the archive, in the card, is that of the Zenodo record.
"""

import re
from functools import partial
from pathlib import Path

from speechunlearn.corpora.base import Clip, card, described, matched, read_folder

NAME = "ravdess"
# The code of an emotion in the file names -> label. Calm (02) is left out: it is the one class
# that the corpus's authors added as a second baseline beside neutral.
EMOTIONS = dict(zip(("01", "03", "04", "05", "06", "07", "08"), card(NAME)["labels"], strict=True))
_CALM = "02"
_AUDIO_ONLY, _SPEECH = "03", "01"
_SCHEME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])"
    r"-0[12]-0[12]-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])"  # intensity, statement, repetition
)


def parse(path: Path) -> Clip | None:
    """Read the name of a RAVDESS file.

    Files are named ``modality-channel-emotion-intensity-statement-repetition-actor``,
    two digits each. Actors with an even number are female.

    Args:
        path: path of the file; only its name is looked at

    Returns:
        the clip, or ``None`` for anything but audio-only speech (``03-01``) and for calm
        (emotion ``02``). The split is empty: RAVDESS has no official one

    Raises:
        BadClip: if the name does not follow the scheme
    """
    scheme = "modality-channel-emotion-intensity-statement-repetition-actor"
    match = matched(path, _SCHEME, path.stem, scheme)
    if (match["modality"], match["channel"]) != (_AUDIO_ONLY, _SPEECH) or match["emotion"] == _CALM:
        return None
    gender = "female" if int(match["actor"]) % 2 == 0 else "male"
    return Clip(path, match["actor"], gender, EMOTIONS[match["emotion"]], "")


CORPUS = described(NAME, read=partial(read_folder, parse=parse))
