"""Pre-training the ``nano`` encoder on recordings of single words.

From random weights, RAVDESS or DEMoS teach an encoder of 0.6 M parameters little: first it would
have to learn what speech is. Here it learns that from words, without any emotion label: it
predicts what signal processing measures in each frame (spectrum, energy, pitch, voicing) and over
the clip, and which word is said by whom. Several such tasks at once, solved by small heads that
are thrown away, are the idea of PASE (Pascual et al. 2019); the first layer starts near a filter
bank, as in LEAF (Zeghidour et al. 2021).

- Boersma, P. (1993). Accurate short-term analysis of the fundamental frequency and the
  harmonics-to-noise ratio of a sampled sound. Proceedings of the Institute of Phonetic Sciences,
  17, 97-110.
- Eyben, F., Wöllmer, M., & Schuller, B. (2010). openSMILE: The Munich versatile and fast
  open-source audio feature extractor. ACM Multimedia.
- Pascual, S., Ravanelli, M., Serrà, J., Bonafonte, A., & Bengio, Y. (2019). Learning
  problem-agnostic speech representations from multiple self-supervised tasks. Interspeech.
- Zeghidour, N., Teboul, O., de Chaumont Quitry, F., & Tagliasacchi, M. (2021). LEAF: A learnable
  frontend for audio classification. ICLR.

The encoder is made by ``python data/make_encoders.py --words ROOT --out FOLDER``; killed, the same
command goes on after its last whole epoch.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import scipy.fft
import soxr
import torch
import typer
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn.functional import avg_pool1d, cross_entropy, pad

from speechunlearn import provenance
from speechunlearn.corpora.base import AUDIO_SUFFIXES, SAMPLING_RATE, content_hash
from speechunlearn.dataset import audio, clips
from speechunlearn.errors import CorpusError, ParameterError, SpeechUnlearnError
from speechunlearn.models import classifier, loop
from speechunlearn.models.loop import Batch as Step
from speechunlearn.models.loop import Work

log = logging.getLogger(__name__)

#: ``nano`` while it is pre-trained: masked frames make its transformer use what lies around them
CONFIG: dict[str, Any] = classifier.NANO | {
    "hidden_dropout": 0.05,
    "attention_dropout": 0.05,
    "activation_dropout": 0.05,
    "feat_proj_dropout": 0.05,
    "apply_spec_augment": True,
    "mask_time_prob": 0.3,
    "mask_time_length": 4,  # frames of 40 ms: about a syllable
}

TOP_DB = 30.0  # words lie in silence: what is this far below the loudest frame is cut
MIN_SAMPLES = 4000  # 0.25 s; less holds no word
MIN_CLIPS = 8  # a voice heard less often is not learnt, only memorised
SPEEDS = (0.85, 1.0, 1.15)  # playback rates: they move pitch and formants as other voices would

BATCH_SIZE = 32  # mixtures of two clips
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # share of the steps with a rising learning rate
GRADIENT_NORM = 1.0
#: of each term of the loss; word and speaker are kept small: they are not what is transferred
WEIGHTS = {
    "convolutions": {"spectrum": 1.0, "pitch": 1.0, "voicing": 1.0},
    "context": {"spectrum": 1.0, "pitch": 1.0, "voicing": 1.0},
    "clip": {"word": 0.3, "speaker": 0.3, "functionals": 1.0},
}

HOP = math.prod(classifier.NANO["conv_stride"])  # samples from one frame of the encoder to the next
RECEPTIVE_FIELD = 1 + sum(  # samples that one frame of the convolutions sees
    (kernel - 1) * math.prod(classifier.NANO["conv_stride"][:layer])
    for layer, kernel in enumerate(classifier.NANO["conv_kernel"])
)
SLICE = 160  # samples from one spectrum to the next: 10 ms
SLICES = HOP // SLICE  # spectra in one frame of the encoder
WINDOW = 512  # samples of a spectrum
BANDS = 40
SPECTRUM = SLICES * (BANDS + 1)  # log-mel bands and log energy of a frame
PITCHES = 2  # pitch values in one frame of the encoder: one every 20 ms
_FLOOR = 1e-3  # of energies before the logarithm: 30 dB below a normalised waveform

_PITCH_RATE = SAMPLING_RATE // 4  # Hz; pitch needs no high frequencies
_PITCH_WINDOW = 256  # samples at the pitch rate: 64 ms, four periods of the lowest voice
_PITCH_HOP = HOP // PITCHES // 4
_LAGS = (7, 68)  # samples at the pitch rate: 571 to 60 Hz
_REFERENCE_HZ = 200  # pitch is in octaves above it

_FEWEST = 4  # clips: two mixtures, the fewest that have a spread
_UNKNOWN = -100  # the class of a speaker that is not learnt; cross-entropy passes over it

#: what is known of a corpus whose folder has this name
SOURCES = {
    "arabic_speech_commands": {
        "title": "Arabic Speech Commands",
        "licence": "CC BY 4.0",
        "attribution": (
            "Ghandoura, A., Hjabo, F., & Al Dakkak, O. (2021). Building and benchmarking an Arabic"
            " Speech Commands dataset for small-footprint keyword spotting. Engineering"
            " Applications of Artificial Intelligence, 102, 104267."
        ),
    },
    "speech_commands": {
        "title": "Speech Commands v0.02, the test archive",
        "licence": "CC BY 4.0",
        "attribution": (
            "Warden, P. (2018). Speech Commands: A dataset for limited-vocabulary speech"
            " recognition. arXiv:1804.03209."
        ),
    },
}
NEVER_SEEN = [
    "any emotional corpus or emotion label",
    "RAVDESS",
    "DEMoS",
    "the embedded corpus",
]


class Frames(NamedTuple):
    """What signal processing measures in each frame of the encoder (40 ms).

    Args:
        spectrum: log-mel energies of four spectra, then their four log energies
        pitch: octaves above 200 Hz; of no meaning where the voicing is not positive
        voicing: -1 (noise or silence) to 1 (periodic)

    """

    spectrum: Float[Tensor, "batch frames spectrum"]
    pitch: Float[Tensor, "batch frames pitches"]
    voicing: Float[Tensor, "batch frames pitches"]


@dataclass(frozen=True)
class Words:
    """Word clips in memory, those of all corpora together.

    Args:
        waveforms_z: trimmed and z-normalised
        words: class of each clip
        speakers: class of each clip; -100 for a speaker with fewer than eight clips
        n_words: number of word classes
        n_speakers: number of speaker classes
        data: what each corpus gave, for the card

    """

    waveforms_z: list[Float32[np.ndarray, " _"]]
    words: Int[Tensor, " clips"]
    speakers: Int[Tensor, " clips"]
    n_words: int
    n_speakers: int
    data: list[dict[str, Any]]


def read_words(roots: Sequence[Path]) -> Words:
    """Read corpora of word clips, ``<root>/**/<word>/<speaker>_<anything>.flac`` or ``.wav``.

    Silence is trimmed at 30 dB. A bad clip, one shorter than 0.25 s after that, and one with the
    content of another are left out. The same word in two corpora is two words. (In the folder
    ``_unknown_`` of Speech Commands the names begin with the word that is said: there the
    "speakers" are words.)

    Args:
        roots: one folder a corpus

    Raises:
        CorpusError: a missing folder; one without clips or with a single word; too few clips, or
            no two speakers with eight clips, in all of them

    """
    waveforms_z: list[np.ndarray] = []
    words: list[tuple[int, str]] = []
    speakers: list[tuple[int, str]] = []
    data = []
    seen: set[str] = set()
    for corpus, root in enumerate(roots):
        start = len(words)
        for path in _audio_files(root):
            try:
                waveform = audio.read_clip(path)
            except CorpusError as error:
                log.warning("left out %s", error)
                continue
            digest = content_hash(waveform)
            waveform = audio.trim_silence(waveform, SAMPLING_RATE, TOP_DB)
            if digest in seen or len(waveform) < MIN_SAMPLES:
                continue
            seen.add(digest)
            waveforms_z.append(audio.normalise(waveform))
            words.append((corpus, path.parent.name))
            speakers.append((corpus, path.stem.split("_")[0]))
        told = sorted({word for _, word in words[start:]})
        if len(told) < 2:
            raise CorpusError(
                f"{root}: clips of {len(told)} word(s) {told}, but telling words apart needs two"
            )
        data.append(
            {
                "folder": root.name,
                **SOURCES.get(root.name, {"licence": "that of the clips, not known here"}),
                "clips": len(words) - start,
                "minutes": round(sum(map(len, waveforms_z[start:])) / SAMPLING_RATE / 60, 1),
                "words": len(told),
                "speakers": len(set(speakers[start:])),
            }
        )
    counts = Counter(speakers)
    frequent = sorted(speaker for speaker, count in counts.items() if count >= MIN_CLIPS)
    names = ", ".join(map(str, roots))
    if len(waveforms_z) < _FEWEST:
        raise CorpusError(f"{names}: {len(waveforms_z)} clips, at least {_FEWEST} are needed")
    if len(frequent) < 2:
        raise CorpusError(
            f"{names}: {len(frequent)} speaker(s) with {MIN_CLIPS} clips or more, but telling"
            " voices apart needs two; a speaker is a file's name up to the first '_'"
        )
    word_index = {word: i for i, word in enumerate(sorted(set(words)))}
    speaker_index = {speaker: i for i, speaker in enumerate(frequent)}
    return Words(
        waveforms_z,
        torch.tensor([word_index[word] for word in words]),
        torch.tensor([speaker_index.get(speaker, _UNKNOWN) for speaker in speakers]),
        len(word_index),
        len(speaker_index),
        data,
    )


def _audio_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder")
    # not corpora.base.read_folder: here the same name in two words' folders is no mistake
    paths = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")
    )
    if not paths:
        raise CorpusError(f"{root}: no {' or '.join(AUDIO_SUFFIXES)} file in this folder")
    return paths


class Mixture(NamedTuple):
    """Two clips, one after the other.

    Args:
        waveform_z: normalised
        end: samples of the first clip
        start: first sample of the second clip

    """

    waveform_z: Float32[np.ndarray, " time"]
    end: int
    start: int


def mixture(
    first_z: Float32[np.ndarray, " _"],
    second_z: Float32[np.ndarray, " _"],
    rng: np.random.Generator,
) -> Mixture:
    """Join two clips, as if recorded together in some other room.

    Each is played at a rate of 0.85, 1 or 1.15; the second follows after 0 to 150 ms at another
    level (normal, 6 dB). An equaliser of six points (normal, 4 dB, evenly spaced on the square
    root of frequency) and white noise (70 to 20 dB below) alter both.

    Args:
        first_z: first clip, normalised
        second_z: second clip, normalised
        rng: source of all that is drawn

    """
    first, second = (
        audio.normalise(soxr.resample(waveform_z, rng.choice(SPEEDS), 1.0, quality="MQ"))
        for waveform_z in (first_z, second_z)
    )
    gap = np.zeros(int(rng.uniform(0, 0.15) * SAMPLING_RATE), np.float32)
    level = 10 ** (rng.normal(0, 6) / 20)
    waveform = np.concatenate([first, gap, (second * level).astype(np.float32)])

    length = scipy.fft.next_fast_len(len(waveform), real=True)
    spectrum = scipy.fft.rfft(waveform, length)
    decibels = np.interp(
        np.sqrt(np.linspace(0, 1, len(spectrum))), np.linspace(0, 1, 6), rng.normal(0, 4, 6)
    )
    filtered = spectrum * (10 ** (decibels / 20)).astype(np.float32)
    waveform = scipy.fft.irfft(filtered, length)[: len(waveform)]

    noise = rng.standard_normal(len(waveform), dtype=np.float32)
    waveform = waveform + noise * waveform.std() * 10 ** rng.uniform(-3.5, -1)
    return Mixture(audio.normalise(waveform), len(first), len(first) + len(gap))


def targets(waveform_z: Float[Tensor, "batch time"], frames: int) -> Frames:
    """Measure spectrum, energy, pitch and voicing in the frames of the encoder.

    Spectra (40 mel bands from 50 Hz, 25 ms Hann window, every 10 ms) and energies are natural
    logarithms of energy plus 0.001. Four of them lie around the centre of an encoder frame. Pitch
    is read from the autocorrelation of 64 ms at 4 kHz, every 20 ms, divided by that of its window
    (Boersma 1993): the shortest lag that peaks within 0.9 of the highest, against octave errors.
    Of a clean tone it is right to 0.01 octaves up to 310 Hz; above, a lag of few samples may lie
    between two of them, and the pitch come out an octave or more too low.
    Voicing is 4 (r - 0.5), clamped to -1 to 1, with r the highest autocorrelation.

    Args:
        waveform_z: normalised waveforms, zero-padded
        frames: number of frames that the encoder makes of them

    """
    # the SLICES windows of a frame have the same centre as its receptive field
    offset = (RECEPTIVE_FIELD - (SLICES - 1) * SLICE - WINDOW) // 2
    waveform_z = pad(waveform_z[:, offset:], (0, 4 * WINDOW))
    count = frames * SLICES
    mel = (_mel()(waveform_z) + _FLOOR).log()[:, :, :count].transpose(1, 2)
    windows = waveform_z.unfold(1, WINDOW, SLICE)[:, :count]
    energy = ((windows**2).mean(2) + _FLOOR).log()
    pitch, voicing = _pitch(waveform_z, frames * PITCHES)
    batch = len(waveform_z)
    return Frames(
        torch.cat([mel.reshape(batch, frames, -1), energy.reshape(batch, frames, -1)], 2),
        pitch.reshape(batch, frames, -1),
        voicing.reshape(batch, frames, -1),
    )


def _pitch(
    waveform_z: Float[Tensor, "batch time"], count: int
) -> tuple[Float[Tensor, "batch {count}"], Float[Tensor, "batch {count}"]]:
    """Return pitch and voicing from the normalised autocorrelation."""
    slow = avg_pool1d(pad(waveform_z, (256, 256))[:, None], 4)[:, 0]
    windows = slow.unfold(1, _PITCH_WINDOW, _PITCH_HOP)[:, :count]
    windows = windows - windows.mean(2, keepdim=True)
    shape = torch.hann_window(_PITCH_WINDOW)
    of_shape = _autocorrelation(shape)
    correlation = _autocorrelation(windows * shape)
    correlation = correlation / (correlation[:, :, :1] + _FLOOR) / (of_shape / of_shape[0])
    correlation = correlation[:, :, slice(*_LAGS)]
    highest = correlation.amax(2)

    inner = correlation[:, :, 1:-1]
    is_peak = (inner >= correlation[:, :, :-2]) & (inner >= correlation[:, :, 2:])
    is_peak = pad(is_peak, (1, 1)) & (correlation >= 0.9 * highest[:, :, None])
    peak = is_peak.float().argmax(2).clamp(1, correlation.shape[2] - 2)
    left, middle, right = (
        correlation.gather(2, (peak + step)[:, :, None])[:, :, 0] for step in (-1, 0, 1)
    )
    # the vertex of the parabola through the three points around the peak
    lag = peak + (0.5 * (left - right) / (left - 2 * middle + right - 1e-4)).clamp(-0.5, 0.5)
    highest = torch.where(is_peak.any(2), highest, 0.0)
    pitch = torch.log2(_PITCH_RATE / (lag + _LAGS[0]) / _REFERENCE_HZ)
    return pitch, (4 * (highest - 0.5)).clamp(-1, 1)


def _autocorrelation(windows: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch lags"]:
    power = torch.fft.rfft(windows, 2 * _PITCH_WINDOW).abs() ** 2
    return torch.fft.irfft(power)[..., : _LAGS[1] + 2]


@cache
def _mel() -> torch.nn.Module:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        SAMPLING_RATE, n_fft=WINDOW, win_length=400, hop_length=SLICE, n_mels=BANDS,
        center=False, f_min=50,
    )  # fmt: skip


def functionals(
    frames: Frames, inside: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch functionals"]:
    """Summarise the frames of each clip, as openSMILE's functionals do (Eyben et al. 2010).

    Args:
        frames: what was measured
        inside: which frames are of the clip, not of its padding

    Returns:
        mean, standard deviation and mean absolute change from frame to frame of each spectral
        value; then, ten times over (four values among some 500 would hardly count), the same
        three of the pitch where it is voiced, and the voiced pitch values a frame

    """
    spectrum, pitch, voicing = frames
    weight = inside[:, :, None].float()
    count = weight.sum(1)
    mean = (spectrum * weight).sum(1) / count
    variance = ((spectrum - mean[:, None]) ** 2 * weight).sum(1) / count
    later = weight[:, 1:]
    change = ((spectrum[:, 1:] - spectrum[:, :-1]).abs() * later).sum(1)
    change = change / later.sum(1).clamp(min=1)

    voiced = (voicing > 0).float() * weight
    n_voiced = voiced.sum((1, 2)).clamp(min=1)
    pitch_mean = (pitch * voiced).sum((1, 2)) / n_voiced
    pitch_variance = ((pitch - pitch_mean[:, None, None]) ** 2 * voiced).sum((1, 2)) / n_voiced
    both = voiced[:, 1:] * voiced[:, :-1]
    pitch_change = ((pitch[:, 1:] - pitch[:, :-1]).abs() * both).sum((1, 2))
    pitch_change = pitch_change / both.sum((1, 2)).clamp(min=1)
    share = voiced.sum((1, 2)) / count[:, 0]
    # the small constants keep a constant value's deviation, and what divides by it, finite
    of_pitch = torch.stack([pitch_mean, (pitch_variance + 1e-5).sqrt(), pitch_change, share], 1)
    return torch.cat([mean, variance.clamp(min=1e-4).sqrt(), change, of_pitch.repeat(1, 10)], 1)


class Heads(torch.nn.Module):
    """What reads the answers off the encoder; thrown away after pre-training.

    Args:
        n_words: number of word classes
        n_speakers: number of speaker classes

    """

    def __init__(self, n_words: int, n_speakers: int) -> None:
        super().__init__()
        channels, width = classifier.NANO["conv_dim"][-1], classifier.NANO["hidden_size"]
        answers = SPECTRUM + 2 * PITCHES
        self.convolutions = torch.nn.Linear(channels, answers)
        self.context = torch.nn.Sequential(
            torch.nn.LayerNorm(width),
            torch.nn.Linear(width, 2 * width),
            torch.nn.GELU(),
            torch.nn.Linear(2 * width, answers),
        )
        self.functionals = torch.nn.Linear(width, 3 * SPECTRUM + 40)
        self.word = torch.nn.Linear(width, n_words)
        self.speaker = torch.nn.Linear(width, n_speakers)


def frame_losses(
    answer: Float[Tensor, "batch frames answers"],
    frames: Frames,
    inside: Bool[Tensor, "batch frames"],
) -> dict[str, Float[Tensor, ""]]:
    """Return the mean absolute errors of spectrum, pitch and voicing.

    Args:
        answer: what a head says of each frame
        frames: what was measured
        inside: which frames are of the clip, not of its padding

    """
    spectrum, pitch, voicing = answer.split([SPECTRUM, PITCHES, PITCHES], dim=2)
    voiced = inside[:, :, None] & (frames.voicing > 0)
    return {
        "spectrum": (spectrum - frames.spectrum)[inside].abs().mean(),
        # nothing to learn where nothing is voiced, and no mean over nothing
        "pitch": ((pitch - frames.pitch).abs() * voiced).sum() / voiced.sum().clamp(min=1),
        "voicing": (voicing - frames.voicing)[inside].abs().mean(),
    }


@dataclass(frozen=True)
class Batch:
    """Mixtures of two clips each, padded.

    Args:
        waveform_z: normalised, zero-padded
        lengths: samples of each mixture
        ends: samples of its first clip
        starts: first sample of its second clip
        words: classes of the first clips, then of the second clips
        speakers: as the words

    """

    waveform_z: Float[Tensor, "batch time"]
    lengths: Int[Tensor, " batch"]
    ends: Int[Tensor, " batch"]
    starts: Int[Tensor, " batch"]
    words: Int[Tensor, " both"]
    speakers: Int[Tensor, " both"]

    @property
    def inside(self) -> Bool[Tensor, "batch frames"]:
        """Which frames of the encoder see no padding."""
        counts = (self.lengths - RECEPTIVE_FIELD) // HOP + 1
        return torch.arange(int(counts.max())) < counts[:, None]

    def halves(self) -> Bool[Tensor, "both frames"]:
        """Return which frames lie in the first clips, then which in the second clips."""
        inside = self.inside
        centre = torch.arange(inside.shape[1]) * HOP + RECEPTIVE_FIELD / 2
        first = inside & (centre < self.ends[:, None])
        second = inside & (centre >= self.starts[:, None])
        return torch.cat([first, second])


def make_batch(
    words: Words, pairs: Int[np.ndarray, "batch 2"], rng: np.random.Generator
) -> Batch:
    """Mix pairs of clips, given by their positions, into a batch."""
    mixtures = [mixture(words.waveforms_z[a], words.waveforms_z[b], rng) for a, b in pairs]
    waveform_z, lengths = audio.pad([torch.from_numpy(m.waveform_z) for m in mixtures])
    both = torch.from_numpy(np.concatenate([pairs[:, 0], pairs[:, 1]]))
    return Batch(
        waveform_z,
        lengths,
        torch.tensor([m.end for m in mixtures]),
        torch.tensor([m.start for m in mixtures]),
        words.words[both],
        words.speakers[both],
    )


class Scale(NamedTuple):
    """Mean and spread of the targets in one batch: what all losses are measured in.

    Args:
        spectrum: of the spectral values, over frames
        functionals: of the functionals of standardised frames, over mixtures

    """

    spectrum: tuple[Float[Tensor, " spectrum"], Float[Tensor, " spectrum"]]
    functionals: tuple[Float[Tensor, " functionals"], Float[Tensor, " functionals"]]

    @classmethod
    def of(cls, batch: Batch) -> Scale:
        """Measure it."""
        inside = batch.inside
        frames = targets(batch.waveform_z, inside.shape[1])
        values = frames.spectrum[inside]
        spectrum = values.mean(0), values.std(0)
        frames = frames._replace(spectrum=(frames.spectrum - spectrum[0]) / spectrum[1])
        values = functionals(frames, inside)
        return cls(spectrum, (values.mean(0), values.std(0) + 1e-3))


def losses(
    network: torch.nn.Module, heads: Heads, batch: Batch, scale: Scale
) -> dict[str, dict[str, Float[Tensor, ""]]]:
    """Return each term of the objective, unweighted; the keys are those of `WEIGHTS`.

    Args:
        network: a transformers wav2vec 2.0 encoder
        heads: what reads the answers off it
        batch: mixtures
        scale: mean and spread of the targets

    Returns:
        mean absolute errors, of the spectrum and functionals in standard deviations (functionals
        at most 5), of pitch in octaves, of voicing on its scale from -1 to 1; cross-entropies of
        word and speaker in nats

    """
    inside = batch.inside
    with torch.no_grad():
        frames = targets(batch.waveform_z, inside.shape[1])
        mean, spread = scale.spectrum
        frames = frames._replace(spectrum=(frames.spectrum - mean) / spread)
        mean, spread = scale.functionals
        summary = (functionals(frames, inside) - mean) / spread

    positions = torch.arange(batch.waveform_z.shape[1])
    output = network(
        batch.waveform_z, attention_mask=(positions < batch.lengths[:, None]).long()
    )
    hidden = output.last_hidden_state
    of_clip = _average(hidden, inside)
    of_half = _average(hidden.repeat(2, 1, 1), batch.halves())
    known = batch.speakers != _UNKNOWN
    speaker = cross_entropy(
        heads.speaker(of_half), batch.speakers, ignore_index=_UNKNOWN, reduction="sum"
    )
    return {
        "convolutions": frame_losses(heads.convolutions(output.extract_features), frames, inside),
        "context": frame_losses(heads.context(hidden), frames, inside),
        "clip": {
            "word": cross_entropy(heads.word(of_half), batch.words),
            "speaker": speaker / known.sum().clamp(min=1),
            "functionals": (heads.functionals(of_clip) - summary).abs().clamp(max=5).mean(),
        },
    }


def _average(
    hidden: Float[Tensor, "batch frames width"], chosen: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch width"]:
    weight = chosen[:, :, None].float()
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def learning_rate(step: int, steps: int) -> float:
    """Return the learning rate's share of its peak: a linear rise, then half a cosine to 1%.

    Args:
        step: from 0
        steps: of the whole training

    Examples:
        >>> [round(learning_rate(step, 100), 3) for step in (0, 9, 10, 55, 100)]
        [0.1, 1.0, 1.0, 0.505, 0.01]
    """
    warm_up = WARM_UP * steps
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / (steps - warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def pretrain(
    words: Words, *, epochs: int = 8, seed: int = 0, max_steps: int | None = None,
    work: Work | None = None,
) -> tuple[torch.nn.Module, dict[str, dict[str, float]]]:
    """Train ``nano`` from random weights, by `speechunlearn.models.loop`.

    Args:
        words: clips; in each epoch all (but what is too little for a batch) are paired anew
        epochs: passes over the clips
        seed: source of all randomness
        max_steps: stop after this number of batches; None does not
        work: its account, which keeps the state after each epoch; None keeps none

    Returns:
        the encoder, in eval mode, with ``nano``'s own dropout and no masking in its config; and
        the mean of each loss in the last epoch

    Raises:
        ParameterError: epochs or max_steps below 1, or a loss that is no longer finite

    """
    if epochs < 1:
        raise ParameterError(f"epochs: {epochs}, but at least 1 is needed")
    if max_steps is not None and max_steps < 1:
        raise ParameterError(f"max_steps: {max_steps}, but at least 1 is needed")
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    batch_size = min(BATCH_SIZE, len(words.waveforms_z) // 2)
    an_epoch = len(words.waveforms_z) // 2 // batch_size
    steps = min(epochs * an_epoch, max_steps or epochs * an_epoch)
    epochs = -(-steps // an_epoch)
    with classifier.seeded(seed):
        network = Wav2Vec2Model(Wav2Vec2Config(**CONFIG))
        classifier.gabor_filters_(network.feature_extractor.conv_layers[0].conv)
        heads = Heads(words.n_words, words.n_speakers)
    parts = torch.nn.ModuleDict({"encoder": network, "heads": heads})
    # the loop moves on a classifier; of this one, neither labels nor answers are asked
    model = classifier.Classifier(parts, [], classifier.Frontend())
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate(step, steps)
    )

    @cache
    def pairs(epoch: int) -> Int[np.ndarray, "pairs 2"]:
        """Pair the clips at random, as many as the steps of an epoch take."""
        order = np.random.default_rng((seed, epoch)).permutation(len(words.waveforms_z))
        return order[: 2 * batch_size * min(an_epoch, steps - epoch * an_epoch)].reshape(-1, 2)

    def lengths(epoch: int) -> clips.Clips:
        """Return what has the lengths of the pairs: their order in batches follows from these."""
        blank = torch.zeros(1)
        both = [blank.expand(sum(len(words.waveforms_z[i]) for i in pair)) for pair in pairs(epoch)]
        return clips.Clips(both, torch.zeros(len(both), dtype=torch.long), [""] * len(both),
                           [""] * len(both))

    first = make_batch(words, pairs(0)[:batch_size], np.random.default_rng((seed, 0, 0)))
    scale, history, last = Scale.of(first), [], {}

    def loss(model: classifier.Classifier, step: Step) -> Tensor:
        rng = np.random.default_rng((seed, step.epoch, step.step))
        batch = make_batch(words, pairs(step.epoch)[step.positions], rng)
        terms = losses(network, heads, batch, scale)
        history.append({p: {n: v.item() for n, v in terms[p].items()} for p in terms})
        return torch.stack(
            [
                weight * terms[part][name]
                for part, weights in WEIGHTS.items() for name, weight in weights.items()
            ]
        ).sum()

    def after_epoch(epoch: int) -> None:
        last.update(_mean(history))
        history.clear()
        log.info("epoch %d of %d: %s", epoch + 1, epochs, json.dumps(last))

    loop.epochs(
        model, lengths, loss, optimiser, epochs, batch_size, seed=seed,
        cost=work or Work(), what="pre-training",
        begin=lambda epoch: model.train(), scheduler=scheduler, after_epoch=after_epoch, kept=last,
        after_backward=lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM),
    )
    # what comes after starts from the settings of `nano`, not from those of this training
    defaults = Wav2Vec2Config(**classifier.NANO)
    network.config.update({name: getattr(defaults, name) for name in CONFIG})
    return network.eval(), last


def _mean(history: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        part: {name: round(float(np.mean([h[part][name] for h in history])), 3) for name in names}
        for part, names in history[0].items()
    }


def save(network: Any, folder: Path, card: dict[str, Any]) -> None:
    """Write an encoder that `speechunlearn.models.classifier.build` loads, and its card.

    Args:
        network: a transformers wav2vec 2.0 encoder
        folder: made if it is not there; gets model.safetensors, config.json,
            preprocessor_config.json and card.json
        card: what it is and what it was made of

    """
    from transformers import Wav2Vec2FeatureExtractor
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        feature_size=1, padding_value=0.0, **asdict(classifier.Frontend())
    ).save_pretrained(folder)
    (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def describe(
    words: Words, n_parameters: int, final_losses: dict[str, dict[str, float]], **how: Any
) -> dict[str, Any]:
    """Return the card of an encoder.

    Args:
        words: what it was trained on
        n_parameters: number of its weights
        final_losses: mean of each loss in the last epoch
        how: it was made: epochs, seed, steps, seconds, machine

    """
    known = all(corpus["folder"] in SOURCES for corpus in words.data)
    return {
        "title": "nano, pre-trained on recordings of single words",
        "architecture": (
            "wav2vec 2.0 (Baevski et al. 2020) made small: three convolutions, frames at 25 Hz,"
            f" three transformer layers of width {classifier.NANO['hidden_size']}; the first"
            " convolution starts near a Gabor filter bank (Zeghidour et al. 2021)"
        ),
        "parameters": n_parameters,
        "objective": (
            "of two joined word clips: log-mel spectrum, energy, pitch and voicing of each frame,"
            " from the convolutions' output and from the transformer's (Pascual et al. 2019);"
            " functionals of these over the clip; word and speaker of each half"
        ),
        "data": words.data,
        "words": words.n_words,
        "speakers": f"{words.n_speakers} with {MIN_CLIPS} clips or more, of all in data",
        "never_seen": NEVER_SEEN if known else "not known: it depends on the clips given",
        "hyperparameters": {
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "schedule": "linear rise over a tenth of the steps, then half a cosine to 1%",
            "optimiser": "AdamW",
            "weight_decay": WEIGHT_DECAY,
            "gradient_norm": GRADIENT_NORM,
            "dropout": CONFIG["hidden_dropout"],
            "mask_time_prob": CONFIG["mask_time_prob"],
            "mask_time_length": CONFIG["mask_time_length"],
            "speeds": list(SPEEDS),
            "top_db": TOP_DB,
            "weights": WEIGHTS,
        },
        "final_losses": final_losses,
        "units_of_losses": (
            "means over the last epoch, in training: mean absolute errors of spectrum and"
            " functionals in standard deviations, of pitch in octaves, of voicing on a scale from"
            " -1 to 1; cross-entropies of word and speaker in nats"
        ),
        **how,
    }


def make(
    words: Annotated[list[Path], typer.Option(help="folder of a word corpus; may be repeated")],
    out: Annotated[Path, typer.Option(help="folder to write the encoder to")],
    epochs: Annotated[int, typer.Option(help="passes over the clips")] = 8,
    seed: Annotated[int, typer.Option(help="source of all randomness")] = 0,
    max_steps: Annotated[int | None, typer.Option(help="stop after this number of batches")] = None,
) -> None:
    """Pre-train the nano encoder on recordings of single words."""
    if (out / "model.safetensors").exists():
        # weights are what results are keyed by: the carried ones are not replaced by accident
        raise ParameterError(f"out: {str(out)!r} already holds an encoder")
    corpora = read_words(words)
    out.parent.mkdir(parents=True, exist_ok=True)
    resume = out.with_name(f"{out.name}.resume")
    work = Work(resume=resume)
    with provenance.measured() as usage:
        network, final_losses = pretrain(
            corpora, epochs=epochs, seed=seed, max_steps=max_steps, work=work
        )
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    card = describe(
        corpora, n_parameters, final_losses,
        epochs=epochs, max_steps=max_steps, seed=seed,
        seconds=round(usage.seconds + work.kept_seconds), machine=provenance.describe(),
    )  # fmt: skip
    save(network, out, card)
    resume.unlink()


def main() -> None:
    """Run the command line; what a user got wrong ends with its message and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(make)
    try:
        app()
    except SpeechUnlearnError as error:
        typer.echo(f"make_encoders: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
