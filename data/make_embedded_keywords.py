"""Make, or check, the embedded keyword set: Italian words from a speech synthesiser.

Ten words, twenty voices, two takes of each word by each voice, in the layout of Speech Commands.
The synthesis is that of the embedded corpus (``make_embedded.py``): eSpeak NG speaks, and a clip
has measures of prosody and voice quality. Here nothing is acted; a clip's measures are

.. math::

    x = u \\, (b \\, z_s + h \\, z_{s,k} + c \\, z)

with the unit of the measure :math:`u`, the voice's own manner :math:`z_s`, its habit for
word :math:`k` and fresh noise :math:`z`, all standard normal. So words are apart,
and so are voices: by manner, pitch, vocal-tract size, rate, microphone and room.
The habits are what a model can learn of the training voices and cannot know of others.
Some clips are atypical: mispronounced, or very noisy.

Usage::

    python data/make_embedded_keywords.py --check        # compare the files with their CHECKSUMS
    python data/make_embedded_keywords.py --out FOLDER   # make the set again

A remake needs ``espeakng-loader``; as for the embedded corpus, the files are the set,
not what a remake gives.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from make_embedded import LIMITS, UNITS, Clip, Voice, main

FOLDER = Path(__file__).resolve().parent / "embedded_keywords"
SEED = 2026
TAKES = 2

MANNER = 1.10  # b, of a unit: how far a voice's speech is from the average
HABIT = 0.20  # h, of a unit: how far a voice's way to say a word is from its manner
NOISE = 0.20  # c, of a unit: how far a clip is from its voice's way
MISPRONOUNCED = 0.08  # share of clips
NOISY = 0.08  # share of clips
NOISE_LEVEL = (32.0, 40.0)  # dB above the microphone's own noise, in a noisy clip

# Isolated words have no phrase to hesitate in, and one word's rise is the voice's pitch.
UNUSED = ("pause", "final")

# Folder -> how it is said, and how it is mispronounced.
WORDS = {
    "avanti": ("avanti", "vanti"),
    "destra": ("destra", "desta"),
    "ferma": ("ferma", "fema"),
    "giu": ("giù", "ciù"),
    "no": ("no", "nou"),
    "si": ("sì", "scì"),
    "sinistra": ("sinistra", "sinista"),
    "stop": ("stop", "stoppe"),
    "su": ("su", "suo"),
    "vai": ("vai", "va"),
}

# Numbers above those of the embedded corpus: other microphones, other rooms.
# Pitches and vocal tracts are further apart than there.
VOICES = (
    Voice(101, "f", "f1", 172, 0.94, 167),
    Voice(102, "f", "Annie", 236, 1.08, 194),
    Voice(103, "f", "Alicia", 204, 0.98, 179),
    Voice(104, "f", "f5", 258, 1.04, 160),
    Voice(105, "f", "aunty", 182, 1.06, 187),
    Voice(106, "f", "grandma", 216, 0.92, 151),
    Voice(107, "f", "belinda", 246, 0.96, 175),
    Voice(108, "f", "linda", 192, 1.10, 163),
    Voice(109, "f", "Andrea", 226, 1.02, 202),
    Voice(110, "f", "f3", 268, 1.10, 183),
    Voice(111, "m", "m1", 88, 0.94, 171),
    Voice(112, "m", "m7", 118, 1.06, 190),
    Voice(113, "m", "Lee", 102, 1.00, 156),
    Voice(114, "m", "Denis", 136, 0.96, 199),
    Voice(115, "m", "pablo", 94, 1.08, 183),
    Voice(116, "m", "Marco", 126, 0.92, 163),
    Voice(117, "m", "m6", 144, 1.04, 175),
    Voice(118, "m", "edward", 80, 0.98, 160),
    Voice(119, "m", "Mario", 110, 0.90, 187),
    Voice(120, "m", "iven3", 152, 1.10, 167),
)


def speaker(voice: Voice) -> str:
    """Name of a voice in the files.

    Args:
        voice: one of :data:`VOICES`

    Returns:
        the first eight hexadecimal digits of the SHA-256 of ``"voice <number>"``

    """
    return hashlib.sha256(f"voice {voice.speaker}".encode()).hexdigest()[:8]


def plan() -> list[Clip]:
    """Draw all clips of the set from :data:`SEED`.

    Returns:
        clips, sorted by name

    """
    clips = []
    units = np.array([0.0 if measure in UNUSED else unit for measure, unit in UNITS.items()])
    for voice in VOICES:
        rng = np.random.default_rng([SEED, voice.speaker])
        manner = rng.standard_normal(len(units))
        for word, (text, mispronounced) in WORDS.items():
            habit = rng.standard_normal(len(units))
            for take in range(TAKES):
                values = units * (
                    MANNER * manner + HABIT * habit + NOISE * rng.standard_normal(len(units))
                )
                measures = {
                    measure: float(np.clip(value, *LIMITS.get(measure, (-np.inf, np.inf))))
                    for measure, value in zip(UNITS, values, strict=True)
                }
                odd, noisy = rng.random() < MISPRONOUNCED, rng.random() < NOISY
                level = float(rng.uniform(*NOISE_LEVEL))
                if noisy:
                    measures["noise"] = level
                name = f"{word}/{speaker(voice)}_nohash_{take}.flac"
                spoken = mispronounced if odd else text
                clips.append(Clip(name, voice, spoken, measures, int(rng.integers(2**31))))
    return sorted(clips, key=lambda clip: clip.name)


if __name__ == "__main__":
    sys.exit(main("the embedded keyword set", FOLDER, plan))
