"""VoxCeleb1 for identification: celebrities in interview videos (Nagrani et al., 2017).

The layout is that of ``torchaudio.datasets.VoxCeleb1Identification``.
"""

import re
from pathlib import Path

from speechunlearn.corpora.base import SPLITS, BadClip, Clip, described, stored
from speechunlearn.errors import CorpusError, require

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
    file = root / LIST
    require(root.is_dir(), f"{root}: no such folder", CorpusError)
    require(file.is_file(), f"{root}: no {LIST}, the list of the identification split", CorpusError)
    require((root / "wav").is_dir(), f"{root}: no folder wav", CorpusError)
    clips: dict[str, Clip] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        match, at = _LINE.fullmatch(line.strip()), f"{file}: line {number}"
        if match is None:
            raise CorpusError(f"{at} is not <1|2|3> <speaker>/<video>/<file>.wav: {line!r}")
        path, speaker, part = match["path"], match["speaker"], SPLITS[int(match["part"]) - 1]
        require(path not in clips, f"{at} lists {path} again", CorpusError)
        clips[path] = Clip(stored(root / "wav" / path), speaker, "", speaker, part)
    require(clips, f"{file}: an empty list", CorpusError)
    return list(clips.values()), []


CORPUS = described("voxceleb1", read=_read)
