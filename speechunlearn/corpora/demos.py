"""DEMoS, the Italian emotional speech corpus of the paper, and the embedded corpus.

The authors never published the speaker lists of their split. The one here is
*reconstructed*: among all splits that are contiguous by speaker id within each
gender, exactly one has the published sizes of 3,024 training, 3,024 validation
and 3,317 test clips. It is a deduction, not the authors' list.
"""

import re
from functools import partial
from pathlib import Path

from speechunlearn.corpora.base import DATA, Clip, card, check_clip, described, matched, read_folder

# The code of an emotion in the file names (the first letters of its Italian name: rabbia, disgusto,
# paura, colpa, gioia, tristezza, sorpresa) -> label, in the order of the classes.
_CODES = ("rab", "dis", "pau", "col", "gio", "tri", "sor")
EMOTIONS = dict(zip(_CODES, card("demos")["labels"], strict=True))

# The reconstructed split: split -> gender -> speaker ids. There is no speaker 35.
SPEAKERS: dict[str, dict[str, list[int]]] = card("demos")["ids"]

_BY_SPEAKER = {
    f"{number:02d}": (gender, split)
    for split, genders in SPEAKERS.items()
    for gender, numbers in genders.items()
    for number in numbers
}
_GENDERS = {"f": "female", "m": "male"}
_NAME = re.compile(
    r"(?:(?:PR|NP)_(?P<gender>[fm])_(?P<speaker>\d\d)_(?P<emotion>[a-z]{3})\d\d[abc]"
    r"|[fm]_\d\d_neu\d\d[abc])"
)


def parse(path: Path) -> Clip | None:
    """Read the name of a DEMoS file.

    Emotional clips are named ``{PR,NP}_{f,m}_{speaker}_{emotion}{NN}{a,b,c}``
    (PR prototypical, NP not), neutral ones ``{f,m}_{speaker}_neu{NN}{a,b,c}``.

    Args:
        path: path of the file; only its name is looked at

    Returns:
        the clip, its speaker as two digits, or ``None`` for a neutral clip: as in the
        paper, those are left out

    Raises:
        BadClip: if the name does not follow the scheme, or names a speaker that
            DEMoS does not have or has with the other gender
    """
    scheme = "{PR,NP}_{f,m}_{speaker}_{emotion}{NN}{a,b,c}"
    match = matched(path, _NAME, path.stem, scheme)
    if match["emotion"] is None:
        return None
    gender, speaker, emotion = _GENDERS[match["gender"]], match["speaker"], match["emotion"]
    known = ", ".join(EMOTIONS)
    check_clip(emotion in EMOTIONS, path, f"unknown emotion {emotion!r}, not in {known}")
    check_clip(speaker in _BY_SPEAKER, path, f"DEMoS has no speaker {speaker!r}")
    known_gender, split = _BY_SPEAKER[speaker]
    check_clip(gender == known_gender, path, f"speaker {speaker!r} is {known_gender}, not {gender}")
    return Clip(path, speaker, gender, EMOTIONS[emotion], split)


CORPUS = described(
    "demos",
    read=partial(read_folder, parse=parse),
    expected=card("demos")["expected"],
    expected_speakers=len(_BY_SPEAKER),
)

EMBEDDED = described(
    "embedded", read=partial(read_folder, parse=parse), default_root=DATA / "embedded"
)
