"""What all corpora share: their description, the checks of a clip, the manifest."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import soxr
from jaxtyping import Float32
from tqdm import tqdm

from speechunlearn.errors import CorpusError, require

COLUMNS = ("path", "speaker", "gender", "label", "seconds", "corpus", "hash", "split")
SPLITS = ("train", "validation", "test")
AUDIO_SUFFIXES = (".wav", ".flac")

SAMPLING_RATE = 16_000  # Hz, what the encoders take
MIN_SECONDS = 0.1  # wav2vec 2.0 has a receptive field of 25 ms: less holds no speech sound
MAX_SECONDS = 300.0  # a clip is an utterance; no corpus here has one of more than 145 s
SAMPLING_RATES = (1_000, 384_000)  # Hz, of files
MAX_CHANNELS = 64
MAX_SAMPLES = 2**27  # of all channels together: 512 MiB
MAX_AMPLITUDE = 2.0**32  # 32-bit integers that were stored as floats lie below
SILENCE_RMS = 1e-5  # a third of one 16-bit step: no 16-bit recording of sound lies below
#: how libsndfile tells that a header promises more bytes than there are
_CUT = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.M)
_THREADS = 2  # libsndfile and soxr release the GIL
_NAMED_IN_ERROR = 5
_NO_AUDIO = f"no {' or '.join(AUDIO_SUFFIXES)} file in"
#: of the corpora that come with the repository
DATA = Path(__file__).resolve().parents[2] / "data"

logger = logging.getLogger(__name__)


class Clip(NamedTuple):
    """What the name of a file (or its row in a table) says of it."""

    path: Path
    speaker: str
    gender: str
    label: str
    split: str


class BadClip(CorpusError):
    """One clip that cannot be used, with the reason kept apart from the path."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


#: maps a path to its clip, or to None where it is left out; and what a reader returns
Parse = Callable[[Path], Clip | None]
Read = tuple[list[Clip], list[BadClip]]


def check_clip(holds: object, path: Path | str, reason: str) -> None:
    """Raise BadClip unless something holds of a clip."""
    if not holds:
        raise BadClip(path, reason)


def matched(path: Path, scheme: re.Pattern[str], name: str, said: str) -> re.Match[str]:
    """Return the parts of a clip's name.

    Args:
        path: of the clip
        scheme: of the name
        name: of the file, with as much of its suffixes as the scheme has
        said: the scheme in words

    Raises:
        BadClip: the name does not follow the scheme
    """
    match = scheme.fullmatch(name)
    if match is None:
        raise BadClip(path, f"the name does not follow {said}")
    return match


@dataclasses.dataclass(frozen=True)
class Archive:
    """One published file that holds a version of a corpus.

    Args:
        version: which version of the corpus it is
        url: where it lies; the last part of its path is the name of the file
        hash: ``"sha256:..."`` or ``"md5:..."``, as the publisher or a maintained reader gives it
    """

    version: str
    url: str
    hash: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[1]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Description of a corpus and its reader.

    Args:
        name: short name, as used on the command line and in the manifest
        title: full name
        licence: licence, or the terms of use
        how_to_get: where the audio comes from
        task: what the labels are; for ``"speaker"`` they are the speakers
        read: maps the root to the clips and to those that cannot be used,
            from the names alone: no audio is opened; ``None`` where ``table`` makes the manifest
        labels: all labels in the order of the classes,
            ``None`` if only the manifest says which there are
        default_root: where the corpus lies if no root is given
        expected: split (``""`` if it has none) -> label -> number of clips in the complete
            corpus, empty if nothing is claimed
        expected_speakers: number of speakers in the complete corpus,
            needed where ``expected`` is given
        archives: the versions that can be downloaded, each complete in itself, the usual one
            first; empty if there is none, or none with a hash that can be trusted
        table: makes the manifest of a corpus that is no folder of audio files
        load: turns rows of that manifest into what the model takes, an array a clip
    """

    name: str
    title: str
    licence: str
    how_to_get: str
    task: str
    read: Callable[[Path], Read] | None
    labels: tuple[str, ...] | None = None
    default_root: Path | None = None
    expected: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    expected_speakers: int = 0
    archives: tuple[Archive, ...] = ()
    table: Callable[[], pd.DataFrame] | None = None
    load: Callable[[pd.DataFrame], list[np.ndarray]] | None = None


def card(name: str) -> dict[str, Any]:
    """What is to be known of a corpus of this package, and what it is not.

    Args:
        name: of the corpus

    Returns:
        its card, ``cards/<name>.json``: facts of the reader, ``languages``, ``speakers``,
        ``clips``, ``split``, ``citation`` and ``is_not``

    Raises:
        CorpusError: if there is no card of that name
    """
    file = resources.files(__package__).joinpath("cards", f"{name}.json")
    require(file.is_file(), f"corpus {name!r} has no card", CorpusError)
    return json.loads(file.read_text("utf-8"))


def described(name: str, **reader: Any) -> Corpus:
    """A corpus whose title, licence, task, labels, archives and how to get it are its card's.

    Args:
        name: of the card
        reader: the other fields of :class:`Corpus`

    Raises:
        CorpusError: if there is no card of that name
    """
    facts = card(name)
    told = {field: facts[field] for field in ("name", "title", "licence", "how_to_get", "task")}
    archives = tuple(Archive(**archive) for archive in facts.get("archives", ()))
    labels = facts["labels"] and tuple(facts["labels"])
    return Corpus(**told, labels=labels, archives=archives, **reader)


def is_audio(name: str) -> bool:
    """Whether a file of this name can be a clip.

    Args:
        name: name of the file, without its folder

    Returns:
        true for WAV and FLAC, unless the file is hidden: macOS leaves a ``._name.wav``
        beside each file it copies
    """
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def read_folder(
    root: Path, parse: Parse, key: Callable[[Path], Hashable] = lambda path: path.stem
) -> Read:
    """Read a folder whose file names say everything.

    Args:
        root: folder, searched with all its sub-folders for WAV and FLAC files
        parse: maps a path to its clip, or to ``None`` if it is left out on purpose;
            raises :class:`BadClip` if the name follows no known scheme
        key: what no two files may share, by default the name without its suffix

    Returns:
        the clips, and those with a name that cannot be parsed or a key that occurs twice

    Raises:
        CorpusError: if the folder is missing or holds no audio file
    """
    require(root.is_dir(), f"{root}: no such folder", CorpusError)
    # Links to folders are followed: corpora on shared machines are often linked together.
    # They may lead in a circle: each folder is read once, by its own path where that is below.
    paths: list[Path] = []
    waiting, seen = [str(root)], set[str]()
    for top in waiting:
        for folder, below, names in os.walk(top):
            place = os.path.realpath(folder)
            if place in seen:
                below.clear()
                continue
            seen.add(place)
            links = (os.path.join(folder, name) for name in sorted(below))
            waiting += filter(os.path.islink, links)
            paths += [Path(folder, name) for name in names if is_audio(name)]
    paths.sort()
    require(paths, f"{root}: {_NO_AUDIO} this folder", CorpusError)

    clips: list[Clip | None] = []
    bad: list[BadClip] = []
    first: dict[Hashable, Path] = {}
    for path in paths:
        try:
            # A corpus unpacked twice would count each of its clips twice.
            there = first.setdefault(key(path), path)
            check_clip(there is path, path, f"a second file of this name, the first is {there}")
            clips.append(parse(path))
        except BadClip as error:
            bad.append(error)
    return [clip for clip in clips if clip is not None], bad


def bare_name(path: Path) -> str:
    """Name of a file without any suffix.

    Args:
        path: path of the file

    Returns:
        its name up to the first dot: a published archive holds ``name.wav.wav``
    """
    return path.name.partition(".")[0]


def stored(path: Path) -> Path:
    """Where a clip of a published list lies.

    Args:
        path: path by the list

    Returns:
        that path, or the FLAC file in its place if only that exists
    """
    flac = path.with_suffix(".flac")
    return flac if not path.exists() and flac.exists() else path


def read_words(root: Path, parse: Parse) -> Read:
    """Read a folder of word folders, which hold the clips of one word each.

    The same file name in two word folders is two clips.

    Args:
        root: folder of the word folders. Those with a leading underscore are no words
        parse: see :func:`read_folder`; called for files directly in a folder below the root

    Returns:
        the clips, and those with a name that cannot be parsed or that occurs twice in
        a word folder, or that lie elsewhere

    Raises:
        CorpusError: if the folder is missing or holds no audio file, or if a word
            folder is empty
    """

    def parse_in_word_folder(path: Path) -> Clip | None:
        check_clip(path.parent.parent == root, path, f"not directly in a word folder of {root}")
        return parse(path)

    clips, bad = read_folder(root, parse_in_word_folder, lambda p: (p.parent.name, bare_name(p)))
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.name.startswith((".", "_")):
            heard = any(map(is_audio, os.listdir(folder)))
            require(heard, f"{folder}: {_NO_AUDIO} a word folder", CorpusError)
    return clips, bad


def decode(
    path: Path | str, sampling_rate: int = SAMPLING_RATE, *, full_scale: bool = True
) -> tuple[Float32[np.ndarray, "time"], float]:
    """Decode, check, mix down and resample one clip.

    Channels are averaged.

    Args:
        path: file that libsndfile reads
        sampling_rate: sampling rate of the result in Hz
        full_scale: divide a clip that exceeds full scale (a float file, or the overshoot of
            resampling) by its peak, which, unlike clipping, is undone by a normalisation that
            follows; where none does, it would change what a model hears

    Returns:
        mono waveform in [-1, 1] where it is brought to full scale, and the duration of the
        original in seconds

    Raises:
        BadClip: if the file is missing, is no regular file or no audio, holds less than its header
            promises, is shorter than 0.1 s or longer than 300 s, has a sampling rate outside of
            1 to 384 kHz, more than 64 channels or 2^27 samples, holds samples that are NaN,
            infinite or beyond 2^32, or is silent: all samples equal, or an RMS around their mean
            of less than 1e-5
    """
    if not os.path.isfile(path):
        hint = ": a path is written with /, not with \\" if "\\" in str(path) else ""
        raise BadClip(path, "no regular file" if os.path.exists(path) else f"no such file{hint}")
    try:
        with soundfile.SoundFile(_finished(path)) as file:
            _check_size(path, file)  # by the header, before memory is asked for
            rate = file.samplerate
            try:
                # as many as the header says: GSM, for one, cannot be asked for "all"
                samples = file.read(file.frames, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                reason = f"the {file.frames} samples that its header promises cannot be read"
                raise BadClip(path, f"cut short or damaged: {reason} ({error})") from error
            _check_whole(path, file, len(samples))
    except BadClip:
        raise
    # TypeError: a name that ends in .raw; ValueError: a name that is not Unicode
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise BadClip(path, f"unreadable audio ({_what_it_is(Path(path), error)})") from error

    seconds = len(samples) / rate
    hint = "" if seconds else ": was it cut short, or never finished?"
    needed = f"at least {MIN_SECONDS} s are needed{hint}"
    check_clip(seconds >= MIN_SECONDS, path, f"too short: {seconds:.4f} s, {needed}")
    check_clip(np.isfinite(samples).all(), path, "NaN or infinite samples")
    loudest = np.abs(samples).max()
    check_clip(loudest <= MAX_AMPLITUDE, path, f"samples of up to {loudest:.1e}")
    waveform = samples.mean(axis=1)
    _check_heard(path, waveform)
    if rate != sampling_rate:
        waveform = soxr.resample(waveform, rate, sampling_rate, quality="VHQ")
        _check_heard(path, waveform)  # sound above half the new rate is gone
    peak = np.abs(waveform).max()
    return (waveform / peak if full_scale and peak > 1 else waveform), seconds


def _what_it_is(path: Path, error: Exception) -> str:
    """Return what a file is that is no audio libsndfile reads, and what to do."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except (OSError, ValueError):
        return str(error)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the audio: git lfs pull fetches it"
    if not any(byte < 9 or 13 < byte < 32 for byte in start):
        line = start.decode("utf-8", "replace").strip().partition("\n")[0].strip()
        return f"it is text, not audio; it begins {line[:60]!r}"
    converted = f"{path.stem}.wav" if path.suffix != ".wav" else f"{path.stem}.flac"
    names = shlex.quote(path.name), shlex.quote(converted)
    return (
        f"{error}; WAV, FLAC, Ogg and MP3 are read, not what phones record as M4A, AAC, 3GP or "
        f"WebM: convert it, as by ffmpeg -i {names[0]} {names[1]}"
    )


def _finished(path: Path | str) -> Path | str | io.BytesIO:
    """Return a WAV whose header was never told how much follows with one that says 'the rest'."""
    with open(path, "rb") as file:
        start = file.read(4096)
        place = start.find(b"data\0\0\0\0", 12) + 4
        if start[:4] != b"RIFF" or place < 16 or os.fstat(file.fileno()).st_size <= place + 4:
            return path
        rest = file.read(4 * MAX_SAMPLES)
    return io.BytesIO(start[:place] + b"\xff\xff\xff\xff" + start[place + 4 :] + rest)


def _check_whole(path: Path | str, file: soundfile.SoundFile, n_read: int) -> None:
    """Refuse what a copy or a recorder that was stopped leaves: less than the header promises."""
    lengths = [(int(n), int(there), "bytes") for n, there in _CUT.findall(file.extra_info)]
    if file.format != "MP3":  # whose length may be an estimate
        lengths.append((file.frames, n_read, "samples"))
    for promised, there, unit in lengths:
        # a length that no clip has stands in a stream for one that was not known
        check_clip(
            not there < promised <= 4 * MAX_SAMPLES, path, f"cut short: its header promises "
            f"{promised} {unit}, of which {there} are there: copy or record it again",
        )


def _check_size(path: Path | str, file: soundfile.SoundFile) -> None:
    """Refuse what no header of a clip says."""
    frames, rate, channels = file.frames, file.samplerate, file.channels
    endless = "its header does not say how long it is: convert it, as by ffmpeg"
    check_clip(frames <= 2**60, path, endless)  # of a FLAC that was streamed
    lowest, highest = SAMPLING_RATES
    heard = lowest <= rate <= highest
    check_clip(heard, path, f"a sampling rate of {rate} Hz, not {lowest} to {highest}")
    check_clip(channels <= MAX_CHANNELS, path, f"{channels} channels, more than {MAX_CHANNELS}")
    seconds = frames / rate
    too_long = f"too long: {seconds:.4g} s, more than {MAX_SECONDS:g} s"
    check_clip(seconds <= MAX_SECONDS, path, too_long)
    samples = frames * channels
    check_clip(samples <= MAX_SAMPLES, path, f"{samples} samples, more than {MAX_SAMPLES}")


def _check_heard(path: Path | str, waveform: Float32[np.ndarray, "time"]) -> None:
    """Refuse silence."""
    rms = float(waveform.std(dtype=np.float64))
    check_clip(rms >= SILENCE_RMS, path, f"silent: RMS {rms:.1e}")


def content_hash(waveform: Float32[np.ndarray, "time"]) -> str:
    """Hash of what is heard, whatever the file's name and container.

    Args:
        waveform: mono waveform in [-1, 1] at 16 kHz

    Returns:
        the first 24 hexadecimal digits of the SHA-256 of the waveform as
        16-bit little-endian PCM
    """
    pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
    return hashlib.sha256(pcm.tobytes()).hexdigest()[:24]


def build_manifest(corpus: Corpus, root: Path, skip_bad: bool = False) -> pd.DataFrame:
    """Read the names, check every clip, and make the manifest.

    Args:
        corpus: what to read
        root: where it lies
        skip_bad: leave bad clips out and list them, instead of raising

    Returns:
        the manifest, see :func:`speechunlearn.corpora.read_manifest`

    Raises:
        CorpusError: see :func:`speechunlearn.corpora.read_manifest`
    """
    assert corpus.read is not None, f"{corpus.name} is no folder"
    root = Path(os.path.abspath(os.path.expanduser(root)))
    clips, bad = corpus.read(root)
    _check_expected(corpus, root, clips)

    def measure(clip: Clip) -> dict | BadClip:
        try:
            waveform, seconds = decode(clip.path)
        except BadClip as error:
            return error
        return {
            **clip._asdict(),
            "path": os.path.abspath(clip.path),
            "seconds": seconds,
            "corpus": corpus.name,
            "hash": content_hash(waveform),
        }

    with ThreadPoolExecutor(_THREADS) as pool:
        results, title = pool.map(measure, clips), f"reading {corpus.name}"
        # disable: shown on a terminal only
        measured = list(tqdm(results, title, len(clips), unit="clip", disable=None))
    bad += [result for result in measured if isinstance(result, BadClip)]
    rows = [result for result in measured if not isinstance(result, BadClip)]
    manifest = pd.DataFrame(rows, columns=list(COLUMNS))
    leaking = _leaks(manifest)
    bad = sorted([*bad, *leaking.values()], key=lambda error: error.path)

    named, n_more = "; ".join(map(str, bad[:_NAMED_IN_ERROR])), len(bad) - _NAMED_IN_ERROR
    named += f"; and {n_more} more" if n_more > 0 else ""
    told = f"{root}: {len(bad)} bad clip(s), which skip_bad leaves out: {named}"
    require(skip_bad or not bad, told, CorpusError)
    for error in bad:
        logger.warning("left out %s", error)
    manifest = manifest.drop(index=list(leaking))
    require(len(manifest), f"{root}: no usable clip of corpus {corpus.name!r}", CorpusError)
    manifest = manifest.sort_values("path", ignore_index=True)
    if corpus.task != "speaker":  # there, a label is one speaker, who is in every part
        _check_speakers(root, manifest)
    manifest.attrs["skipped"] = [(error.path, error.reason) for error in bad]
    return manifest


def _check_expected(corpus: Corpus, root: Path, clips: list[Clip]) -> None:
    """Compare the counts of a complete corpus, by name alone, with what it should hold.

    A corpus counts as complete if all its speakers and more than half of its clips are there;
    anything less is a subset, of which nothing is claimed.
    """
    if not corpus.expected:
        return
    total = sum(sum(labels.values()) for labels in corpus.expected.values())
    speakers = {clip.speaker for clip in clips}
    if len(speakers) < corpus.expected_speakers or len(clips) <= total / 2:
        logger.warning(
            "%s: a subset of %s: %d of %d clips, %d of %d speakers; its counts are not checked",
            root, corpus.name, len(clips), total, len(speakers), corpus.expected_speakers,
        )  # fmt: skip
        return
    deviations = []
    for split, labels in corpus.expected.items():
        counts = Counter(clip.label for clip in clips if clip.split == split)
        numbers = [("clips", counts.total(), sum(labels.values()))]
        numbers += [(f"of {label}", counts[label], count) for label, count in labels.items()]
        deviations += [
            f"{split or 'the whole'} has {n} {what}, not {count}"
            for what, n, count in numbers if n != count
        ]
    told = f"{root}: {corpus.title} deviates from its counts: {'; '.join(deviations)}"
    require(not deviations, told, CorpusError)


def _leaks(clips: pd.DataFrame) -> dict[int, BadClip]:
    """Return by row the clips whose content also lies in an earlier part of a given split."""
    place = clips["split"].map({split: position for position, split in enumerate(SPLITS)})
    order = clips.assign(place=place).sort_values(["place", "path"], na_position="first")
    first = order.drop_duplicates("hash").set_index("hash").loc[clips["hash"]]
    columns = clips["path"], clips["split"], first["path"], first["split"]
    return {
        row: BadClip(path, f"in split {split!r} with the same audio as {there} in split {part!r}")
        for row, (path, split, there, part) in enumerate(zip(*columns, strict=True))
        if split != part
    }


def _check_speakers(root: Path, manifest: pd.DataFrame) -> None:
    """Refuse labels that no speaker-independent split can hold, warn of shared speakers."""
    speakers = manifest.groupby("label")["speaker"].unique()
    for label, (speaker, *others) in speakers.items():
        told = f"{root}: label {label!r} has one speaker only, {speaker!r}:"
        require(others, f"{told} it cannot be tested on unseen speakers", CorpusError)
    splits = manifest.groupby("speaker")["split"].unique()
    for speaker, names in splits[splits.map(len) > 1].head(1).items():
        logger.warning(
            "%s: the given split is not speaker-independent: speaker %r is in %s",
            root, speaker, " and ".join(sorted(names)),
        )
