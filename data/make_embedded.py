"""Make, or check, the embedded corpus: short Italian clips from a speech synthesiser.

The corpus lets every chapter and test run without a download.
It is synthetic, and it is not DEMoS:
it borrows the file-name scheme, the speaker numbers and the seven emotion codes of that corpus,
so that the same reader and the same speaker-independent split apply.

eSpeak NG (through the package ``espeakng-loader``) speaks each sentence.
A voice is one of its stock variants
with its own pitch, vocal-tract size, speaking rate, microphone and room.
An emotion is a target for fourteen measures of prosody and voice quality (:data:`TARGETS`).
A clip's measures are

.. math::

    x = b_s + a \\, e_s \\, (t_k + w (t_o - t_k)) + u \\, (h \\, z_{s,k} + c \\, z)

with the voice's own base :math:`b_s`, the clip's intensity :math:`a`,
the voice's expressiveness :math:`e_s`, the emotion's target :math:`t_k`,
the unit of the measure :math:`u` (:data:`UNITS`),
the voice's habit for this emotion :math:`z_{s,k}`, fixed over its clips,
and fresh noise :math:`z`, both standard normal.
In an atypical clip (``NP``) the target moves by :math:`w` towards another emotion's target,
or towards neutral speech (:math:`t_o = 0`); in a prototypical clip (``PR``) :math:`w = 0`.
The habits (``h`` = :data:`HABIT`) are what a model can learn of the training voices
and cannot know of others; the noise (``c`` = :data:`NOISE`) makes the emotions overlap
within a voice.

Usage::

    python data/make_embedded.py --check        # compare the files with data/embedded/CHECKSUMS
    python data/make_embedded.py --out FOLDER   # make the corpus again

A remake with the same library builds gives the same clips (each is spoken in a fresh process,
as the synthesiser keeps state from clip to clip),
but other builds or processors may change bits:
the files in ``data/embedded`` are the corpus, not what a remake gives.
It needs ``espeakng-loader`` 0.2.4 and an operating system that forks (Linux, macOS).
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from jaxtyping import Float, Int16

FOLDER = Path(__file__).resolve().parent / "embedded"
SAMPLING_RATE = 16000  # Hz, of the files
SEED = 2025

HABIT = 0.30  # of a unit: how far a voice's way to express an emotion is from the target
NOISE = 0.20  # of a unit: how far a clip is from its voice's way
BASE = 0.20  # of a unit: how far a voice's neutral speech is from the average
ATYPICAL = 0.15  # share of clips that are pulled towards another emotion
PULL = (0.35, 0.60)  # range of w in an atypical clip
EXPRESSIVENESS = (0.95, 1.30)  # range of e_s
INTENSITY = (0.85, 1.15)  # range of a
CLIPS_PER_EMOTION = (5, 6)  # each voice draws one of the two for each emotion

# The measures, with the unit in which habit and noise are drawn.
UNITS = {
    "rate": 0.12,  # log of the speaking rate relative to the voice's own
    "pitch": 1.5,  # semitones above the voice's own mean
    "span": 0.30,  # log of the pitch range relative to the voice's own
    "tilt": 2.0,  # dB per octave above 500 Hz; positive is brighter
    "ring": 2.5,  # dB in a band around 3 kHz (pressed voice)
    "nasal": 3.0,  # dB around 300 Hz, and as much less around 1 kHz
    "breath": 0.12,  # aspiration noise relative to the speech envelope
    "tremor": 0.15,  # depth of the amplitude modulation at 5 to 8 Hz
    "rough": 0.15,  # depth of the amplitude modulation at 35 to 55 Hz (creak)
    "accent": 0.20,  # exponent: loud parts louder and weak parts weaker when positive
    "decay": 4.0,  # dB that the level falls from the start to the end
    "final": 1.5,  # semitones that the last word lies above the rest
    "pause": 30.0,  # ms of hesitation before the last word
    "tract": 0.025,  # log of the formant frequencies relative to the voice's own (smile)
}

# What an emotion does to neutral speech. Codes: rab anger, dis disgust, pau fear, col guilt,
# gio happiness, tri sadness, sor surprise (Italian: rabbia, disgusto, paura, colpa, gioia,
# tristezza, sorpresa). The directions follow the usual descriptions of acted speech (Scherer,
# 2003, https://doi.org/10.1016/S0167-6393(02)00084-5); the sizes are a choice.
TARGETS = {
    "rab": dict(rate=0.12, pitch=1.5, span=0.3, tilt=4.0, ring=8.0, accent=0.5, decay=-1.0),
    "dis": dict(rate=-0.12, pitch=-1.5, tilt=-1.0, nasal=9.0, rough=0.6, accent=0.15, tract=-0.05),
    "pau": dict(rate=0.18, pitch=3.5, span=-0.4, nasal=-8.0, ring=-2.0, breath=0.1, tremor=0.75),
    "col": dict(rate=-0.10, pitch=-1.0, span=-0.4, tilt=-1.0, breath=0.8, pause=120.0),
    "gio": dict(rate=0.06, pitch=3.0, span=0.5, tilt=4.5, ring=-4.0, accent=-0.3, tract=0.10),
    "tri": dict(rate=-0.28, pitch=-2.5, span=-0.5, tilt=-7.0, accent=-0.1, decay=9.0),
    "sor": dict(rate=-0.02, pitch=3.0, span=0.4, tilt=1.0, ring=3.0, decay=-14.0, final=6.0),
}

LIMITS = {"breath": (0.0, 1.2), "tremor": (0.0, 0.9), "rough": (0.0, 0.8), "pause": (0.0, 250.0)}

# Everyday sentences without emotion words: 5 to 8 syllables, 0.8 to 1.3 s at a normal rate.
SENTENCES = (
    "ho perso le chiavi",
    "è arrivata mia madre",
    "non lo sapevo",
    "guarda questa foto",
    "domani parto presto",
    "il treno è partito",
    "ha chiuso la porta",
    "me l'hai detto ieri",
    "torna a casa stasera",
    "qualcuno ha chiamato",
    "la lettera è qui",
    "ho finito adesso",
    "c'era troppa gente",
    "ti aspetto fuori",
    "prendo il solito caffè",
    "mi ha dato un libro",
)


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker.

    Args:
        speaker: number, in this corpus the DEMoS speaker number, which sets the split
        gender: ``"f"`` or ``"m"``
        variant: stock eSpeak NG voice variant it starts from
        pitch: mean fundamental frequency in Hz of its neutral speech
        tract: factor on the variant's formant frequencies
        rate: speaking rate in words per minute of its neutral speech
    """

    speaker: int
    gender: str
    variant: str
    pitch: float
    tract: float
    rate: float


# Twelve training, six validation and six test voices, half of each female,
# by the reconstructed split of DEMoS.
VOICES = (
    # training
    Voice(1, "f", "f2", 186, 1.00, 185),
    Voice(17, "f", "Annie", 208, 1.03, 200),
    Voice(21, "f", "Alicia", 228, 0.97, 190),
    Voice(22, "f", "f5", 196, 1.00, 175),
    Voice(29, "f", "aunty", 214, 0.97, 205),
    Voice(31, "f", "grandma", 202, 1.02, 190),
    Voice(2, "m", "m1", 104, 1.00, 180),
    Voice(4, "m", "m7", 118, 1.03, 200),
    Voice(6, "m", "Lee", 96, 0.98, 190),
    Voice(8, "m", "Denis", 124, 1.02, 205),
    Voice(11, "m", "pablo", 112, 1.00, 175),
    Voice(14, "m", "Marco", 130, 0.99, 195),
    # validation
    Voice(40, "f", "f3", 198, 1.00, 190),
    Voice(43, "f", "belinda", 220, 0.98, 180),
    Voice(46, "f", "f4", 190, 1.04, 200),
    Voice(19, "m", "m6", 110, 1.00, 195),
    Voice(26, "m", "edward", 100, 1.02, 185),
    Voice(33, "m", "paul", 126, 0.98, 180),
    # test
    Voice(49, "f", "f1", 204, 1.00, 195),
    Voice(55, "f", "linda", 216, 1.02, 185),
    Voice(60, "f", "Andrea", 192, 0.98, 180),
    Voice(42, "m", "m4", 114, 1.02, 190),
    Voice(52, "m", "Mario", 106, 1.00, 200),
    Voice(63, "m", "iven3", 122, 0.98, 185),
)


@dataclass(frozen=True)
class Clip:
    """All that decides one file.

    Args:
        name: file name in the scheme of the corpus, relative to the folder of its clips
        voice: who speaks
        text: what is said
        measures: value of each measure in :data:`UNITS`; also ``"noise"``, by how many dB the
            microphone noise is above its usual level, if it is not there as usual
        seed: of the noise in this clip
    """

    name: str
    voice: Voice
    text: str
    measures: dict[str, float]
    seed: int


def plan() -> list[Clip]:
    """Draw all clips of the corpus from :data:`SEED`.

    Returns:
        clips, sorted by name

    """
    clips = []
    units = np.array(list(UNITS.values()))
    neutral = np.zeros(len(UNITS))
    targets = {
        emotion: np.array([target.get(measure, 0.0) for measure in UNITS])
        for emotion, target in TARGETS.items()
    }
    for voice in VOICES:
        rng = np.random.default_rng([SEED, voice.speaker])
        base = BASE * units * rng.standard_normal(len(UNITS))
        expressiveness = rng.uniform(*EXPRESSIVENESS)
        for emotion in TARGETS:
            habit = rng.standard_normal(len(UNITS))
            number = rng.integers(CLIPS_PER_EMOTION[0], CLIPS_PER_EMOTION[1] + 1)
            # A first take of each sentence, then second takes of some ("b"), as in DEMoS.
            drawn = rng.choice(len(SENTENCES), number - 1, replace=False)
            takes = sorted([(i, "a") for i in drawn] + [(rng.choice(drawn), "b")])
            for sentence, take in takes:
                atypical = rng.random() < ATYPICAL
                target = targets[emotion]
                if atypical:
                    others = [t for e, t in targets.items() if e != emotion] + [neutral]
                    other = others[rng.integers(len(others))]
                    target = target + rng.uniform(*PULL) * (other - target)
                values = (
                    base
                    + rng.uniform(*INTENSITY) * expressiveness * target
                    + units * (HABIT * habit + NOISE * rng.standard_normal(len(UNITS)))
                )
                kind = "NP" if atypical else "PR"
                name = f"{kind}_{voice.gender}_{voice.speaker:02d}_{emotion}{sentence:02d}{take}"
                measures = {
                    measure: float(np.clip(value, *LIMITS.get(measure, (-np.inf, np.inf))))
                    for measure, value in zip(UNITS, values, strict=True)
                }
                clip_seed = int(rng.integers(2**31))
                clips.append(Clip(f"{name}.flac", voice, SENTENCES[sentence], measures, clip_seed))
    return sorted(clips, key=lambda clip: clip.name)


class Synthesiser:
    """eSpeak NG with a writable folder for voice variants.

    The library reads a variant's pitch and formants from a file only,
    so each clip gets its own variant file in a copy of the data folder made of links.

    Args:
        folder: empty folder for that copy

    Raises:
        ImportError: if ``espeakng_loader`` is not installed
        RuntimeError: if the library does not start

    """

    def __init__(self, folder: Path):
        import espeakng_loader

        stock = Path(espeakng_loader.get_data_path())
        data = folder / "espeak-ng-data"
        self.stock_variants = stock / "voices" / "!v"
        self.variants = data / "voices" / "!v"
        self.variants.mkdir(parents=True)
        for path in [*stock.iterdir(), *(stock / "voices").iterdir()]:
            link = data / path.relative_to(stock)
            if not link.exists():
                link.symlink_to(path)
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        # Values from speak_lib.h: 2 is AUDIO_OUTPUT_SYNCHRONOUS.
        self.sampling_rate = self.library.espeak_Initialize(2, 0, str(folder).encode(), 0)
        if self.sampling_rate <= 0:
            raise RuntimeError(f"eSpeak NG did not start with data folder {data}")
        self._blocks: list[np.ndarray] = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = callback(self._receive)  # kept: the library holds only its address
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, number: int, _events) -> int:
        if samples and number > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, shape=(number,)).copy())
        return 0

    def speak(self, clip: Clip) -> Float[np.ndarray, " time"]:
        """Speak a clip's text with its rate, pitch, formants and pause.

        Args:
            clip: what to say, and how

        Returns:
            waveform in [-1, 1] at :data:`SAMPLING_RATE`

        Raises:
            RuntimeError: if the synthesiser gives no sound

        """
        voice, measures = clip.voice, clip.measures
        centre = voice.pitch * 2 ** (measures["pitch"] / 12)
        span = 0.32 * centre * math.exp(measures["span"])
        lines = []
        for line in (self.stock_variants / voice.variant).read_text().splitlines():
            words = line.split()
            if words[:1] == ["formant"] and len(words) >= 3:
                words[2] = str(round(float(words[2]) * voice.tract * math.exp(measures["tract"])))
                lines.append(" ".join(words))
            elif words and words[0] not in ("pitch", "flutter", "echo"):
                lines.append(line)
        lines.append(f"pitch {centre - span / 2:.0f} {centre + span / 2:.0f}")
        lines.append(f"flutter {2 + 20 * measures['tremor']:.0f}")
        (self.variants / "clip").write_text("\n".join(lines) + "\n")

        first, _, last = clip.text.rpartition(" ")
        # Measured: a relative pitch of +40 % lifts the word by about 4 semitones.
        last = f"<prosody pitch='{10 * measures['final']:+.0f}%'>{last}</prosody>"
        if measures["pause"] >= 20:  # a break ends a phrase, however short it is
            last = f"<break time='{measures['pause']:.0f}ms'/>{last}"
        library = self.library
        if library.espeak_SetVoiceByName(b"it+clip") != 0:
            raise RuntimeError(f"{clip.name}: eSpeak NG has no Italian voice")
        # Values from speak_lib.h: 1 is espeakRATE; in espeak_Synth, 1 is POS_CHARACTER
        # and 0x11 is espeakCHARS_UTF8 with espeakSSML.
        library.espeak_SetParameter(1, round(voice.rate * math.exp(measures["rate"])), 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(clip.seed))
        self._blocks.clear()
        text = f"<speak>{first} {last}.</speak>".encode()
        library.espeak_Synth(text, len(text) + 1, 0, 1, 0, 0x11, None, None)
        library.espeak_Synchronize()
        if not self._blocks:
            raise RuntimeError(f"{clip.name}: eSpeak NG gave no sound")
        waveform = np.concatenate(self._blocks) / 2**15
        factor = math.gcd(SAMPLING_RATE, self.sampling_rate)
        waveform = scipy.signal.resample_poly(
            waveform, SAMPLING_RATE // factor, self.sampling_rate // factor
        )
        loud = np.flatnonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())
        margin = int(0.03 * SAMPLING_RATE)
        return waveform[max(loud[0] - margin, 0) : loud[-1] + margin]


def envelope(waveform: Float[np.ndarray, " time"], seconds: float) -> Float[np.ndarray, " time"]:
    """Level of a waveform over time, relative to its maximum.

    Args:
        waveform: speech
        seconds: length of the averaging window

    Returns:
        root mean square in a sliding Hann window, in [0, 1]

    """
    window = np.hanning(int(seconds * SAMPLING_RATE))
    power = scipy.signal.fftconvolve(waveform**2, window / window.sum(), mode="same")
    level = np.sqrt(np.maximum(power, 0))
    return level / level.max()


def shape_spectrum(
    waveform: Float[np.ndarray, " time"], gain: Float[np.ndarray, " frequency"]
) -> Float[np.ndarray, " time"]:
    """Filter a waveform with a zero-phase gain.

    Args:
        waveform: speech
        gain: dB at the frequencies of the real transform of ``waveform``

    Returns:
        filtered waveform of the same length

    """
    return np.fft.irfft(np.fft.rfft(waveform) * 10 ** (gain / 20), len(waveform))


def colour(clip: Clip, waveform: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Add a clip's voice quality, and its speaker's microphone and room.

    Args:
        clip: gives the measures
        waveform: what the synthesiser spoke

    Returns:
        waveform in [-1, 1], quieter for soft emotions

    """
    measures = clip.measures
    rng = np.random.default_rng([clip.seed])
    time = np.arange(len(waveform)) / SAMPLING_RATE
    frequency = np.maximum(np.fft.rfftfreq(len(waveform), 1 / SAMPLING_RATE), 50)
    octaves = np.log2(np.maximum(frequency, 500) / 500)

    # Voice quality. Tremor and creak are irregular: their phases walk at random.
    for depth, low, high in (("tremor", 5, 8), ("rough", 35, 55)):
        step = rng.uniform(low, high) + 1.5 * low * rng.standard_normal(len(waveform))
        phase = 2 * np.pi * np.cumsum(step) / SAMPLING_RATE + rng.uniform(0, 2 * np.pi)
        waveform = waveform * (1 - measures[depth] * 0.5 * (1 + np.cos(phase)))
    level = envelope(waveform, 0.04)
    waveform = waveform * np.maximum(level, 0.05) ** measures["accent"]
    waveform = waveform * 10 ** (-measures["decay"] * time / time[-1] / 20)
    waveform = waveform / np.abs(waveform).max()
    noise = shape_spectrum(rng.standard_normal(len(waveform)), -3 * np.abs(octaves - 2))
    speech_rms, noise_rms = np.std(waveform), np.std(noise)
    waveform = waveform + measures["breath"] * envelope(waveform, 0.08) * noise * (
        speech_rms / noise_rms
    )
    bands = {
        centre: np.exp(-0.5 * (np.log2(frequency / centre) / 0.4) ** 2)
        for centre in (300, 1000, 3000)
    }
    gain = measures["tilt"] * octaves + measures["ring"] * bands[3000]
    waveform = shape_spectrum(waveform, gain + measures["nasal"] * (bands[300] - bands[1000]))

    # Microphone (two broad bands) and a small room, the same in all clips of the speaker.
    speaker = np.random.default_rng([SEED, clip.voice.speaker, 1])
    gain = np.zeros(len(frequency))
    for low, high in ((150, 1000), (1000, 6000)):
        middle, height = np.exp(speaker.uniform(np.log(low), np.log(high))), speaker.normal(0, 1.5)
        gain += height * np.exp(-0.5 * (np.log2(frequency / middle) / 0.7) ** 2)
    waveform = shape_spectrum(waveform, gain)
    decay = np.arange(int(0.2 * SAMPLING_RATE)) / SAMPLING_RATE / speaker.uniform(0.02, 0.05)
    room = speaker.standard_normal(len(decay)) * np.exp(-decay)
    room *= 10 ** (speaker.uniform(-18, -10) / 20) / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    waveform = scipy.signal.fftconvolve(waveform, room)[: len(waveform)]

    # Level: louder when bright and accented. The noise is that of the microphone.
    waveform = waveform / np.std(waveform)
    loudness = 0.035 * 10 ** ((measures["tilt"] + 5 * measures["accent"]) / 20)
    floor = 10 ** ((speaker.uniform(-52, -42) + measures.get("noise", 0.0)) / 20)
    floor = floor * rng.standard_normal(len(waveform))
    waveform = (waveform + floor) * min(loudness, 0.9 / np.abs(waveform).max())
    return waveform


def quantise(waveform: Float[np.ndarray, " time"]) -> Int16[np.ndarray, " time"]:
    """16-bit samples with the three lowest bits empty, which FLAC does not store.

    Args:
        waveform: in [-1, 1]

    Returns:
        samples, multiples of 8, a step below the microphone noise

    """
    return (np.clip(np.round(waveform * 2**12), -(2**12), 2**12 - 1) * 8).astype(np.int16)


_synthesiser: Synthesiser | None = None  # set before the worker processes fork


def make(clip: Clip) -> tuple[str, Int16[np.ndarray, " time"]]:
    """Synthesise one clip with the synthesiser of this process.

    Args:
        clip: what to make

    Returns:
        file name, and samples

    """
    return clip.name, quantise(colour(clip, _synthesiser.speak(clip)))


def make_all(out: Path, clips: list[Clip], folder: str) -> None:
    """Write clips as FLAC files, and their checksums.

    Args:
        out: root of the corpus; checksums go to ``out/CHECKSUMS``
        clips: what to make
        folder: where the clips go below the root

    """
    global _synthesiser
    for clip in clips:
        (out / folder / clip.name).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as variants:
        _synthesiser = Synthesiser(Path(variants))
        # One process a clip: the synthesiser's state after a clip changes the next.
        # One at a time: they share the variant file.
        with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
            for name, samples in pool.imap(make, clips, chunksize=1):
                soundfile.write(out / folder / name, samples, SAMPLING_RATE, subtype="PCM_16")
    (out / "CHECKSUMS").write_text(
        "".join(f"{digest}  {name}\n" for name, digest in checksums(out).items())
    )


def checksums(root: Path) -> dict[str, str]:
    """SHA-256 of each clip file.

    Args:
        root: folder of the corpus

    Returns:
        digest by path relative to ``root``, sorted by path

    """
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.flac"))
    }


def check(root: Path) -> list[str]:
    """Compare a corpus folder with its checksums.

    Args:
        root: folder with ``CHECKSUMS`` and the clips

    Returns:
        one line for each file that is missing, changed or not listed; empty if all is well

    """
    lines = (root / "CHECKSUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = checksums(root)
    problems = {name: "missing" for name in listed.keys() - found.keys()}
    problems |= {name: "not listed" for name in found.keys() - listed.keys()}
    for name in listed.keys() & found.keys():
        if listed[name] != found[name]:
            problems[name] = "changed"
    return [f"{root / name}: {problem}" for name, problem in sorted(problems.items())]


def main(description: str, root: Path, plan: Callable[[], list[Clip]], folder: str = "") -> int:
    """Run the command line of a corpus.

    Args:
        description: what the corpus is
        root: where it is kept
        plan: draws its clips
        folder: where the clips lie below the root

    Returns:
        the exit status

    """
    parser = argparse.ArgumentParser(description=f"Make or check {description}.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help=f"check the files in {root}")
    action.add_argument("--out", type=Path, metavar="FOLDER", help="make it in a new folder")
    arguments = parser.parse_args()
    if arguments.check:
        problems = check(root)
        print("\n".join(problems) or f"{len(checksums(root))} clips as listed")
        return bool(problems)
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"--out: {arguments.out} is there already, and not empty")
    clips = plan()
    make_all(arguments.out, clips, folder)
    print(f"{len(clips)} clips in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main("the embedded corpus", FOLDER, plan, "DEMOS"))
