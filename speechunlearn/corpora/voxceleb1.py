"""VoxCeleb1 for identification: celebrities in interview videos (Nagrani et al., 2017).

The layout is that of ``torchaudio.datasets.VoxCeleb1Identification``.
"""

import re
from pathlib import Path

from speechunlearn.corpora.base import SPLITS, BadClip, Clip, described, stored
from speechunlearn.errors import CorpusError

LIST = "iden_split.txt"
_LINE = re.compile(r"(?P<part>[123])\s+(?P<path>(?P<speaker>id\d+)/[^/\s]+/[^/\s]+\.wav)")


def _read(root: Path) -> tuple[list[Clip], list[BadClip]]:
    """Read the list of the official identification split.

    Args:
        root: folder that holds ``iden_split.txt``, with lines ``<1|2|3> <path>`` for training,
            validation and test, and the files in ``wav/<speaker>/<video>/<number>.wav``, or
            as ``.flac`` in the same place

    Returns:
        the clips, labelled with their speaker, whether they exist or not: a missing one is
        found when it is decoded

    Raises:
        CorpusError: if the folder or the list is missing, or the list is empty, has a
            line that cannot be parsed, or names a clip twice
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    if not (root / LIST).is_file():
        raise CorpusError(f"{root}: no {LIST}, the list of the identification split")
    if not (root / "wav").is_dir():
        raise CorpusError(f"{root}: no folder wav")
    clips: dict[str, Clip] = {}
    for number, line in enumerate((root / LIST).read_text("utf-8").splitlines(), start=1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise CorpusError(
                f"{root / LIST}: line {number} is not"
                f" <1|2|3> <speaker>/<video>/<file>.wav: {line!r}"
            )
        if match["path"] in clips:
            raise CorpusError(f"{root / LIST}: line {number} lists {match['path']} again")
        path = stored(root / "wav" / match["path"])
        speaker = match["speaker"]
        clips[match["path"]] = Clip(path, speaker, "", speaker, SPLITS[int(match["part"]) - 1])
    if not clips:
        raise CorpusError(f"{root / LIST}: an empty list")
    return list(clips.values()), []


CORPUS = described("voxceleb1", read=_read)
