"""Inputs of a deletion request that are broken, odd or hostile: used, or refused by name.

Every case is made from a fixed seed. It ends in the time limit, either processed or with a
SpeechUnlearnError that names the file or the parameter; whatever else happens fails the test.
"""

import base64
import contextlib
import functools
import gzip
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import tiny
import torch
from conftest import write_clip
from safetensors.torch import load_file, save_file

from speechunlearn import cli, corpora, tool
from speechunlearn.errors import SpeechUnlearnError
from speechunlearn.tool import checkpoints, inputs

LIMIT = 30  # seconds a case may take; most take a hundredth of one
MEMORY = 1024  # MiB that the cases of a kind may add to the peak
LABELS = ("class 0", "class 1", "class 2")
USED, REFUSED = "processed", "refused"


class Case(NamedTuple):
    """One input.

    Attributes:
        name: of the case
        make: writes it, at a path or into a folder
        expected: USED or REFUSED; None where either will do

    """

    name: str
    make: Callable[[Path], Any]
    expected: str | None = None


class Hang(BaseException):
    """A case that does not end."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(named: Sequence[str], act: Callable[[], object]) -> str:
    """Return what becomes of an input; a refusal is one line that holds one of the names."""
    try:
        with limited(LIMIT):
            act()
    except SpeechUnlearnError as error:
        said = str(error)
        if not any(name in said for name in named):
            return f"refused without its name: {said}"
        if "\n" in said or len(said) > 3000:
            return f"refused in many lines, or a long one: {said[:500]}"
        return REFUSED
    except Hang:
        return f"no end after {LIMIT} s"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:500]}"
    return USED


def judge(cases: Sequence[Case], run: Callable[[Case], str]) -> None:
    """Run every case; list those that ended otherwise than they may."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = {}
    for case in cases:
        found = run(case)
        if found not in (USED, REFUSED) or case.expected not in (None, found):
            wrong[case.name] = found
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    assert grown < MEMORY, f"{grown:.0f} MiB"


def flipped(data: bytes, seed: int, first: int, last: int, most: int = 4) -> bytes:
    """Flip some bits of the bytes from first to last."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for _ in range(rng.integers(1, most + 1)):
        changed[rng.integers(first, min(last, len(data)))] ^= 1 << rng.integers(8)
    return bytes(changed)


# --- audio ---


@functools.cache
def encoded(format: str, subtype: str | None = None, seconds: float = 0.3) -> bytes:
    """Return a noisy tone in a container."""
    rng = np.random.default_rng(7)
    tone = 0.3 * np.sin(0.1 * np.arange(round(16000 * seconds)))
    samples = tone + 0.05 * rng.standard_normal(len(tone))
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=format, subtype=subtype)
    return file.getvalue()


def floats(samples: Any, rate: int = 16000) -> Callable[[Path], Any]:
    """Return what writes samples as they are into a float WAV."""
    return lambda path: soundfile.write(
        path, np.asarray(samples, dtype=np.float32), rate, format="WAV", subtype="FLOAT"
    )


def content(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def header(offset: int, kind: str, value: int) -> Callable[[Path], Any]:
    """Return what writes a WAV with one field of its header changed."""
    data = bytearray(encoded("WAV"))
    struct.pack_into("<" + kind, data, offset, value)
    return content(bytes(data))


def rf64(frames: int) -> bytes:
    """Return a WAV of the 64-bit kind whose header claims that many frames."""
    body = encoded("WAV")[44:]
    sizes = struct.pack("<QQQI", 2 * frames + 72, 2 * frames, frames, 0)
    form = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    return (
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(sizes)) + sizes
        + b"fmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff" + body
    )


def flac(frames: int) -> bytes:
    """Return a FLAC whose header claims that many frames, of 36 bits."""
    data = bytearray(encoded("FLAC"))
    data[21] = (data[21] & 0xF0) | (frames >> 32)
    struct.pack_into(">I", data, 22, frames & 0xFFFFFFFF)
    return bytes(data)


def zipped(data: bytes = b"x" * 100) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.wav", data)
    return file.getvalue()


def audio_cases() -> list[Case]:
    wav, own = encoded("WAV"), encoded("FLAC")
    tone = 0.3 * np.sin(0.1 * np.arange(4800))
    ultrasound = np.hanning(96_000) * np.sin(1.6 * np.arange(96_000))
    noise = np.random.default_rng(3).standard_normal((4800, 64)) * 0.1
    cases = [
        Case(f"WAV cut at {n}", content(wav[:n]), REFUSED)
        for n in (0, 1, 4, 8, 12, 16, 20, 24, 28, 35, 36, 40, 43, 44, 45, 46, 100, 5000, -1)
    ]
    cases += [
        Case(f"FLAC cut at {n}", content(own[:n]), REFUSED if 0 <= n <= 80 else None)
        for n in (0, 3, 4, 8, 20, 41, 42, 43, 80, 1000, -1)
    ]
    cases += [Case(f"WAV header {s}", content(flipped(wav, s, 0, 44))) for s in range(24)]
    cases += [Case(f"WAV body {s}", content(flipped(wav, s, 44, len(wav), 40))) for s in range(4)]
    cases += [Case(f"FLAC header {s}", content(flipped(own, s, 0, 42))) for s in range(16)]
    cases += [Case(f"FLAC body {s}", content(flipped(own, s, 42, len(own)))) for s in range(10)]
    cases += [
        Case(f"noise {s}", content(np.random.default_rng(s).bytes(2000)), REFUSED)
        for s in range(4)
    ]
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
        "gg=="
    )
    for name, data, expected in (
        ("MP3", encoded("MP3", seconds=1), USED), ("Ogg", encoded("OGG"), USED),
        ("AIFF", encoded("AIFF"), USED), ("FLAC", own, USED), ("W64", encoded("W64"), USED),
        ("AIFF cut", encoded("AIFF")[:30], REFUSED), ("MP3 cut", encoded("MP3")[:40], None),
        ("Ogg cut", encoded("OGG")[:60], REFUSED), ("PNG", png, REFUSED),
        ("text", b"no sound at all\n" * 50, REFUSED), ("zip", zipped(wav), REFUSED),
        ("gzip", gzip.compress(wav), REFUSED), ("JSON", b'{"audio": []}', REFUSED),
        ("script", b"#!/bin/sh\nexit 1\n", REFUSED), ("zeros", bytes(5000), REFUSED),
        ("ID3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f", REFUSED),
    ):
        cases.append(Case(f"{name} by the name of WAV", content(data), expected))
    for name, offset, kind, values, expected in (
        ("rate", 24, "I", (0, 1, 999, 384_001, 2**31 - 1, 4_000_000_000), REFUSED),
        ("channels", 22, "H", (0, 65, 1000, 65535), REFUSED),
        ("bits", 34, "H", (0, 1, 7, 255), None), ("block", 32, "H", (0, 1, 65535), None),
        ("tag", 20, "H", (0, 2, 3, 6, 0xFFFE, 0xFFFF), None),
        ("length", 40, "I", (0, 1, 2**31, 2**32 - 1), None), ("form", 16, "I", (0, 2**31), None),
    ):
        cases += [
            Case(f"{name} {value}", header(offset, kind, value), expected) for value in values
        ]
    cases += [
        Case("RF64 of 2^35 frames", content(rf64(2**35))),
        Case("FLAC of 2^35 frames", content(flac(2**35)), REFUSED),
        Case("FLAC of 0 frames", content(flac(0)), REFUSED),
        Case("FLAC of 4 million frames", content(flac(4_000_000))),
        Case("NaN", floats(np.where(np.arange(4800) == 99, np.nan, tone)), REFUSED),
        Case("infinite", floats(np.where(np.arange(4800) == 99, np.inf, tone)), REFUSED),
        Case("3e38", floats(tone * 1e39), REFUSED), Case("1e-40", floats(tone * 1e-40), REFUSED),
        Case("beyond full scale", floats(tone * 1000), USED),
        Case("one sample", floats([0.5]), REFUSED), Case("no sample", floats([]), REFUSED),
        Case("silence", floats(np.zeros(4800)), REFUSED),
        Case("a constant", floats(np.full(4800, 0.5)), REFUSED),
        Case("64 channels", floats(noise), USED),
        Case("1 kHz", floats(tone, 1000), USED), Case("384 kHz", floats(np.tile(tone, 10), 384000)),
        Case("above hearing", floats(ultrasound, 384000), REFUSED),
        Case("301 s", floats(np.resize(tone, 301_000), 1000), REFUSED),
        Case("nothing there", lambda path: None, REFUSED),
        Case("a folder", lambda path: path.mkdir(), REFUSED),
        Case("a FIFO", lambda path: os.mkfifo(path), REFUSED),
        Case("a dangling link", lambda path: path.symlink_to("gone.wav"), REFUSED),
        Case("a loop of links", lambda path: path.symlink_to(path.name), REFUSED),
        Case("a link to a device", lambda path: path.symlink_to("/dev/zero"), REFUSED),
    ]
    return cases


AUDIO = audio_cases()


@pytest.mark.parametrize("suffix", ["wav", "raw"])
def test_audio(tmp_path, suffix):
    numbers = iter(range(len(AUDIO)))

    def run(case: Case) -> str:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        case.make(folder / f"clip.{suffix}")
        (folder / "clips.csv").write_text(f"path,label\nclip.{suffix},class 1\n")
        return outcome([f"'clip.{suffix}'"], lambda: inputs.read(
            "forget", folder / "clips.csv", LABELS, sampling_rate=16000, normalise=True
        ))

    if suffix == "wav":
        judge(AUDIO, run)
    else:  # that name has libsndfile ask for a format
        judge([case._replace(expected=REFUSED) for case in AUDIO[::20]], run)


# --- tables ---

ROWS = "path,label\nc/0.wav,class 0\nc/1.wav,class 1\n"


def table(text: str | bytes) -> Callable[[Path], Any]:
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "clips.csv").write_bytes(data)


def row(path: str, label: str = "class 0") -> str:
    return f'path,label\n"{path}","{label}"\n'


def linked(target: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        (folder / "out.wav").symlink_to(target)
        table(row("out.wav"))(folder)

    return make


def table_cases() -> list[Case]:
    wide = ",".join(f"column {i}" for i in range(10_000))
    evaluations = ",".join("x" for _ in range(10_000))
    cases = []
    for name, text, expected in (
        ("as it should be", ROWS, USED), ("BOM", b"\xef\xbb\xbf" + ROWS.encode(), USED),
        ("BOM, quoted header", b'\xef\xbb\xbf"path","label"\nc/0.wav,class 0\n', USED),
        ("CRLF", ROWS.replace("\n", "\r\n"), USED), ("CR", ROWS.replace("\n", "\r"), None),
        ("no end of line", ROWS.rstrip(), USED), ("empty lines", ROWS.replace("\n", "\n\n"), USED),
        ("empty cells at the end", ROWS + ",\n,\n", USED),
        ("blank lines of spaces", ROWS + "   \n", REFUSED), ("leading blank", "\n" + ROWS, REFUSED),
        ("NUL", ROWS.replace("class 1", "class\0 1"), REFUSED), ("NULs alone", bytes(99), REFUSED),
        ("UTF-16", ROWS.encode("utf-16"), REFUSED),
        ("UTF-16 LE", ROWS.encode("utf-16-le"), REFUSED),
        ("UTF-32", ROWS.encode("utf-32"), REFUSED),
        ("Latin-1", ROWS.replace("class 1", "café").encode("latin-1"), REFUSED),
        ("half a character", ROWS.encode() + b"\xed\xa0\x80,class 0\n", REFUSED),
        ("an open quote", 'path,label\n"c/0.wav,class 0\nc/1.wav,class 1\n', REFUSED),
        ("a quote inside", 'path,label\nc/"0".wav,class 0\n', REFUSED),
        ("quotes twice", 'path,label\n"c/0.wav""x",class 0\n', REFUSED),
        ("semicolons", ROWS.replace(",", ";"), REFUSED), ("tabs", ROWS.replace(",", "\t"), REFUSED),
        ("pipes", ROWS.replace(",", "|"), REFUSED),
        ("path twice", "path,label,path\nc/0.wav,class 0,c/1.wav\n", REFUSED),
        ("label twice", "path,label,label\nc/0.wav,class 0,class 1\n", REFUSED),
        ("speaker twice", "path,label,speaker,speaker\nc/0.wav,class 0,a,b\n", REFUSED),
        ("another column twice", "path,label,x,x\nc/0.wav,class 0,1,2\n", USED),
        ("capitals", ROWS.replace("path,label", "Path,Label"), REFUSED),
        ("blanks in the header", ROWS.replace("path,label", " path , label "), USED),
        ("no header", ROWS.partition("\n")[2], REFUSED), ("header alone", "path,label\n", REFUSED),
        ("header alone, no end", "path,label", REFUSED), ("empty", "", REFUSED),
        ("a line end", "\n", REFUSED), ("one column", "path\nc/0.wav\n", REFUSED),
        ("path missing", "label,speaker\nclass 0,a\n", REFUSED),
        ("path empty", "path,label\n,class 0\n", REFUSED),
        ("label gone", ROWS + "c/2.wav\n", REFUSED),
        ("label blank", ROWS + "c/2.wav,  \n", REFUSED),
        ("extra cell, first row", "path,label\nc/0.wav,class 0,more\n", REFUSED),
        ("extra cell, later", ROWS + "c/2.wav,class 2,more\n", REFUSED),
        ("comma in a name", ROWS + "c/2,0.wav,class 2\n", REFUSED),
        ("extra empty cell", ROWS.replace("class 0", "class 0,"), REFUSED),
        ("a huge field", row("x" * 5_000_000), REFUSED),
        ("a huge label", row("c/0.wav", "x" * 5_000_000), REFUSED),
        ("10,000 columns", f"path,label,{wide}\nc/0.wav,class 0,{evaluations}\n", USED),
        ("10,000 columns, none right", f"{wide}\n{evaluations}\n", REFUSED),
        ("20,000 rows of one clip", "path,label\n" + "c/0.wav,class 0\n" * 20_000, USED),
        ("no such label", row("c/0.wav", "class 9"), REFUSED),
        ("formula as a label", row("c/0.wav", "=cmd|' /C calc'!A0"), REFUSED),
        ("formula as a path", row("=HYPERLINK(1)"), REFUSED),
        ("formula @", row("@SUM(1)"), REFUSED),
        ("formula as a speaker", "path,label,speaker\nc/0.wav,class 0,=1+1\n", USED),
        ("markup as a speaker", "path,label,speaker\nc/0.wav,class 0,<script>\n", USED),
        ("terminal codes", row("\x1b[2J\x1b]0;x\x07"), REFUSED),
        ("line in a path", row("c/0\n.wav"), REFUSED),
        ("right to left", row("\u202egnp.wav"), REFUSED),
        ("NA", row("NA"), REFUSED), ("a number as a label", row("c/0.wav", "0"), REFUSED),
        ("up", row("../outside.wav"), REFUSED), ("up and down", row("c/../c/0.wav"), USED),
        ("far up", row("../" * 200 + "etc/passwd"), REFUSED),
        ("absolute", row("/etc/passwd"), REFUSED),
        ("a device", row("/dev/zero"), REFUSED), ("the folder", row("."), REFUSED),
        ("two slashes", row("//etc/passwd"), REFUSED),
        ("backslashes", row("..\\outside.wav"), REFUSED),
        ("home", row("~/clip.wav"), REFUSED), ("a variable", row("$HOME/clip.wav"), REFUSED),
        ("http", row("http://localhost:1/clip.wav"), REFUSED),
        ("file URL", row("file:///etc/passwd"), REFUSED),
        ("5000 characters", row("a" * 5000 + ".wav"), REFUSED),
        ("5000 folders", row("a/" * 5000), REFUSED),
        ("a clip twice", ROWS + "c/0.wav,class 0\n", USED),
        ("a clip by two names", ROWS + "copy.wav,class 0\n", USED),
        ("a clip with two labels", ROWS + "c/0.wav,class 1\n", REFUSED),
        ("a copy with two labels", ROWS + "copy.wav,class 2\n", REFUSED),
        ("decomposed letters", row("cafe\u0301.wav"), REFUSED),
        ("an emoji", row("\U0001f600.wav"), REFUSED),
    ):  # fmt: skip
        cases.append(Case(name, table(text), expected))
    cases += [
        Case("a link out", linked("../outside.wav"), REFUSED),
        Case("a link in", linked("c/0.wav"), USED),
        Case("a loop", linked("out.wav"), REFUSED),
        Case("a folder", lambda folder: (folder / "clips.csv").mkdir(), REFUSED),
        Case("a FIFO", lambda folder: os.mkfifo(folder / "clips.csv"), REFUSED),
        Case("nothing", lambda folder: None, REFUSED),
        Case("a picture", table(b"\x89PNG\r\n\x1a\n" + bytes(50)), REFUSED),
        Case("a zip", table(zipped()), REFUSED),
        Case("an Excel file", table(zipped(b"<xml/>")), REFUSED),
    ]
    cases += [
        Case(f"flipped {s}", table(flipped(ROWS.encode(), s, 0, len(ROWS)))) for s in range(20)
    ]
    cases += [Case(f"cut at {n}", table(ROWS[:n])) for n in (1, 5, 9, 10, 12, 15, 20, 26, 30, 43)]
    return cases


TABLES = table_cases()


@pytest.fixture
def clips_folder(tmp_path):
    for i in range(3):
        write_clip(tmp_path / "here" / "c" / f"{i}.wav", seed=i)
    write_clip(tmp_path / "here" / "copy.wav", seed=0)
    write_clip(tmp_path / "outside.wav", seed=9)
    return tmp_path / "here"


def remake(folder: Path) -> None:
    for name in ("clips.csv", "out.wav"):
        path = folder / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def test_tables(clips_folder):
    def run(case: Case) -> str:
        remake(clips_folder)
        case.make(clips_folder)
        return outcome(["clips.csv"], lambda: inputs.read(
            "forget", clips_folder / "clips.csv", LABELS, sampling_rate=16000, normalise=False
        ))

    judge(TABLES, run)


def test_tables_of_a_corpus(clips_folder):
    """The same as a corpus: they lack speakers, or have one, so that few are of use."""
    def run(case: Case) -> str:
        remake(clips_folder)
        case.make(clips_folder)
        file = clips_folder / "clips.csv"
        if file.is_file() and file.stat().st_size < 1000:
            lines = file.read_bytes().split(b"\n")
            if lines[0] == b"path,label":
                lines[0] += b",speaker"
                lines[1:] = [line and line + b",speaker %d" % i for i, line in enumerate(lines[1:])]
                file.write_bytes(b"\n".join(lines))
        return outcome(
            ["clips.csv"], lambda: corpora.read_manifest("csv", file)
        )

    judge([case._replace(expected=None) for case in TABLES if "0,000" not in case.name], run)


PLACES = ("a\0b", "~no-such-user/x", "x" * 300, "/".join(["x"] * 3000), "a\nb", "\x1b[2J", "\udcff")


@pytest.mark.parametrize("parameter", ["model", "forget", "unseen", "root", "out"])
def test_places(clips_folder, model_folder, parameter):
    """Odd paths in each of the parameters."""
    table(ROWS)(clips_folder)
    usual = {"model": model_folder, "forget": clips_folder / "clips.csv"}
    for place in PLACES:
        found = outcome(
            [parameter, place, repr(place)[1:-1]],
            lambda place=place: tool.audit(**(usual | {parameter: place})),
        )
        assert found == REFUSED or (parameter == "out" and place.startswith("~")), (place, found)
    shutil.rmtree("~no-such-user", ignore_errors=True)


# --- checkpoints ---


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    tiny.wav2vec2(3).save(folder, {})
    return folder


def setting(name: str, **values: Any) -> Callable[[Path], Any]:
    """Return what changes settings of a JSON file."""
    def make(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return make


def without(name: str, key: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        del found[key]
        (folder / name).write_text(json.dumps(found))

    return make


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Return what changes the bytes of a file."""
    def make(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return make


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    """Return what changes the weights."""
    def make(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return make


def pickled(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    """Return what stores the weights, or something else, as torch does."""
    def make(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        torch.save(change(state), folder / "pytorch_model.bin")
        (folder / WEIGHTS).unlink()

    return make


class ChapterRun:
    """What a hostile pickle holds: it makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def hostile(protocol: int) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        data = pickle.dumps({"classifier.bias": ChapterRun(folder / "executed")}, protocol=protocol)
        (folder / "pytorch_model.bin").write_bytes(data)
        (folder / WEIGHTS).unlink()

    return make


def bomb(folder: Path) -> None:
    """An archive of weights that is small, and unpacks to half a GiB."""
    state = load_file(folder / WEIGHTS)
    torch.save(state, folder / "whole.bin")
    with (
        zipfile.ZipFile(folder / "whole.bin") as whole,
        zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            is_first = entry.filename.endswith("/0")
            packed.writestr(entry.filename, bytes(2**26) if is_first else whole.read(entry))
    (folder / "whole.bin").unlink()
    (folder / WEIGHTS).unlink()


def index(named: Any, suffix: str = "safetensors") -> Callable[[Path], Any]:
    """Return what writes the list of the parts of a checkpoint, in place of its whole weights."""
    def make(folder: Path) -> None:
        (folder / WEIGHTS).unlink(missing_ok=True)
        name = "model.safetensors.index.json" if suffix == "safetensors" else (
            "pytorch_model.bin.index.json"
        )
        (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": named}))

    return make


def in_steps(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(state)
    for part, own in (("1", names[:9]), ("2", names[9:])):
        save_file({name: state[name] for name in own}, folder / f"model-{part}.safetensors")
    index({name: f"model-{1 if name in names[:9] else 2}.safetensors" for name in names})(folder)


def moved(name: str) -> Callable[[Path], Any]:
    """Return what replaces a file by a link to it, as a hub's cache has it."""
    def make(folder: Path) -> None:
        blobs = folder.parent / f"blobs-{folder.name}"
        blobs.mkdir()
        (folder / name).rename(blobs / "0")
        (folder / name).symlink_to(blobs / "0")

    return make


def replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def put(name: str, index: int, value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[name].view(-1)[index] = value

    return change


CONFIG, EXTRACTOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
NAMES = {"0": "class 0", "1": "class 1", "2": "class 2"}
BIG = 10**9


def checkpoint_cases() -> list[Case]:
    cases = [Case("as it should be", lambda folder: None, USED)]
    for key, values, expected in (
        ("model_type", ("bert", "", None, 3, ["wav2vec2"], {}, "../wav2vec2", "WAV2VEC2"), REFUSED),
        ("model_type", ("hubert", "wavlm", "whisper", "data2vec-audio", "sew-d"), REFUSED),
        ("auto_map", ({"AutoConfig": "evil.Config"}, None, "x--y"), REFUSED),
        ("quantization_config", ({"quant_method": "awq"},), REFUSED),
        ("transformers_weights", ("../x.safetensors",), REFUSED),
        ("attn_implementation", ("owner/kernel", 3, {"": "owner/kernel"}), REFUSED),
        ("_attn_implementation", ("owner/kernel",), REFUSED),
        ("attn_implementation", ("sdpa",), USED),
        ("to_dict", ("x",), REFUSED), ("__class__", ("x",), REFUSED),
        ("save_pretrained", (1,), REFUSED),
        ("num_labels", (BIG, 10**30, -1, 0, 1, 2.5, "3", [3], True), REFUSED),
        ("id2label", ([], {}, "x", 3, {"0": "a"}, {"0": "a", "5": "b", "6": "c"}), REFUSED),
        ("id2label", ({"a": "x", "b": "y", "c": "z"}, NAMES | {"2": "class 1"}), REFUSED),
        ("id2label", (NAMES | {"2": None}, NAMES | {"2": ["x"]}, NAMES | {"3": "d"}), REFUSED),
        ("id2label", (NAMES | {"2": "a\nb"}, NAMES | {"2": "\ud800"}), REFUSED),
        ("id2label", (NAMES | {"2": "\x1b"},), REFUSED),
        ("id2label", ({"0": 0, "1": 1, "2": 2},), REFUSED),
        ("id2label", (NAMES | {"2": "<b>"},), USED),
        ("label2id", ([], "x", 3), None), ("problem_type", ("regression", "x", 3), None),
        ("hidden_size", (BIG, 10**30, 0, -16, 15, "16", 16.5, None, [16]), REFUSED),
        ("num_hidden_layers", (BIG, 10**30, 2, "1", None, 1e9), REFUSED),
        ("num_hidden_layers", (0, -1), None), ("intermediate_size", (BIG, 0), REFUSED),
        ("num_attention_heads", (0, 3, -2, BIG), REFUSED), ("vocab_size", (BIG, -1), None),
        ("conv_dim", ([], [16], [BIG, BIG], "x", [16, "x"], None), REFUSED),
        ("conv_kernel", ([BIG, BIG], [0, 0], [-1, 4]), REFUSED),
        ("conv_stride", ([1, 1], [0, 0], [-16, -2], [16], [10**7, 10**7], "xx"), REFUSED),
        ("num_feat_extract_layers", (BIG, 0, 1), REFUSED), ("num_adapter_layers", (BIG,), REFUSED),
        ("num_conv_pos_embeddings", (BIG, 0), REFUSED), ("add_adapter", (True,), REFUSED),
        ("num_conv_pos_embedding_groups", (0, 3), REFUSED),
        ("use_weighted_layer_sum", (True,), REFUSED),
        ("hidden_act", ("no_such", None, 3), REFUSED), ("hidden_dropout", (-1, 50, "x"), REFUSED),
        ("layer_norm_eps", (float("nan"), float("inf"), "x"), None),
        ("layer_norm_eps", (-1e9,), REFUSED), ("feat_extract_norm", ("x",), REFUSED),
        ("feat_extract_norm", ("group",), None),
        ("dtype", ("float16", "no_such", "nn", 3), None), ("torch_dtype", ("os",), None),
        ("output_hidden_states", (True, "x"), None), ("return_dict", (False,), None),
        ("per_layer_config", ({"0": {"hidden_size": BIG}}, 3), None),
        ("_name_or_path", ("../../etc",), USED),
        ("configuration_files", (["config.9.json"],), USED),
    ):  # fmt: skip
        cases += [
            Case(f"{key} {value!r}"[:80], setting(CONFIG, **{key: value}), expected)
            for value in values
        ]
    for key, values, expected in (
        ("feature_extractor_type", ("pipeline", "ASTFeatureExtractor", None, 3, "os"), REFUSED),
        ("auto_map", ({"AutoFeatureExtractor": "evil.Extractor"},), REFUSED),
        ("sampling_rate", (0, -1, 1, BIG, "16000", None, 16000.5, float("nan"), [1]), REFUSED),
        ("sampling_rate", (8000,), USED), ("feature_size", (BIG, 0, "x"), REFUSED),
        ("do_normalize", ("no", 3, []), REFUSED), ("do_normalize", (False, None), USED),
        ("return_attention_mask", ("x",), REFUSED), ("return_attention_mask", (False,), USED),
        ("padding_value", ("x", float("nan")), None), ("self", (1,), REFUSED),
        ("n_fft", (BIG,), REFUSED), ("pad", (1,), None),
    ):
        cases += [
            Case(f"extractor {key} {value}", setting(EXTRACTOR, **{key: value}), expected)
            for value in values
        ]
    for key, expected in (("model_type", REFUSED), ("hidden_size", REFUSED), ("id2label", REFUSED)):
        cases.append(Case(f"no {key}", without(CONFIG, key), expected))
    for name in (CONFIG, EXTRACTOR, WEIGHTS):
        cases += [
            Case(f"{name} cut at {n}", edited(name, lambda data, n=n: data[:n]), REFUSED)
            for n in (0, 1, 7, 8, 100, -2)
        ]
        cases += [
            Case(f"{name} flipped {s}", edited(name, lambda data, s=s: flipped(data, s, 0, 1500)))
            for s in range(15)
        ]
        cases += [
            Case(f"{name} gone", lambda folder, name=name: (folder / name).unlink(), REFUSED),
            Case(f"{name} a folder", replaced(name, Path.mkdir), REFUSED),
            Case(f"{name} a FIFO", replaced(name, os.mkfifo), REFUSED),
            Case(f"{name} a loop", replaced(name, lambda p: p.symlink_to(p.name)), REFUSED),
            Case(f"{name} a link", moved(name), USED),
            Case(f"{name} of noise", edited(name, lambda data: np.random.bytes(3000)), REFUSED),
            Case(f"{name} UTF-16", edited(name, lambda data: data[:99].decode("latin-1").encode(
                "utf-16")), REFUSED),
        ]
    for name, data in (
        ("nested", b"[" * 100_000), ("a list", b"[1]"), ("a number", b"1" * 5000),
        ("null", b"null"), ("twice", b"{}{}"), ("empty object", b"{}"),
    ):
        cases.append(Case(f"config {name}", edited(CONFIG, lambda _, data=data: data), REFUSED))
    head, bias = "classifier.weight", "projector.bias"
    for name, change, expected in (
        ("NaN", put(head, 0, float("nan")), REFUSED), ("infinite", put(bias, 3, -np.inf), REFUSED),
        ("huge", put(head, 0, 3e38), None), ("no head", lambda s: s.pop(head), REFUSED),
        ("no layer", lambda s: s.pop("wav2vec2.encoder.layer_norm.weight"), REFUSED),
        ("nothing", lambda s: s.clear(), REFUSED),
        ("head turned", lambda s: s.update({head: s[head].T.contiguous()}), REFUSED),
        ("head longer", lambda s: s.update({head: torch.zeros(4, 16)}), REFUSED),
        ("a number", lambda s: s.update({bias: torch.tensor(1.0)}), REFUSED),
        ("integers", lambda s: s.update({bias: torch.zeros(16, dtype=torch.int32)}), None),
        ("half", lambda s: s.update({k: v.half() for k, v in s.items()}), USED),
        ("bfloat16", lambda s: s.update({k: v.bfloat16() for k, v in s.items()}), USED),
        ("complex", lambda s: s.update({bias: torch.zeros(16, dtype=torch.complex64)}), None),
        ("one more", lambda s: s.update({"other": torch.zeros(3)}), USED),
    ):
        cases.append(Case(f"weights: {name}", weights(change), expected))
    for length in (0, 2, 2**31, 2**60, 2**64 - 1):
        change = functools.partial(lambda data, n: struct.pack("<Q", n) + data[8:], n=length)
        cases.append(Case(f"header of {length}", edited(WEIGHTS, change), REFUSED))
    cases += [
        Case(f"weights' body {s}", edited(WEIGHTS, lambda data, s=s: flipped(data, s, 5000, 26000)))
        for s in range(6)
    ]
    cases += [
        Case("pickle", pickled(lambda state: state), USED),
        Case("pickle of a list", pickled(lambda state: [1, 2]), REFUSED),
        Case("pickle of a tensor", pickled(lambda state: torch.zeros(3)), REFUSED),
        Case("pickle without tensors", pickled(lambda state: {"a": 1}), REFUSED),
        Case("pickle that packs", bomb, REFUSED),
        *(Case(f"pickle that runs {p}", hostile(p), REFUSED) for p in (0, 2, 4)),
        Case("safetensors by the name of a pickle", lambda folder: (folder / WEIGHTS).rename(
            folder / "pytorch_model.bin"), REFUSED),
        Case("in parts", in_steps, USED),
        *(
            Case(f"index {named}", index(named), REFUSED)
            for named in (
                {"a": "../model.safetensors"}, {"a": "/etc/passwd"}, {"a": ".."}, {"a": ""},
                {"a": ["x"]}, {"a": None}, [], "x", {"a": "gone.safetensors"}, {"a": "a\\0b"},
            )
        ),
        Case("an index of pickles", index({"a": "../x.bin"}, "bin"), REFUSED),
        Case("an adapter", lambda folder: (folder / "adapter_config.json").write_text(
            '{"base_model_name_or_path": "owner/name"}'), REFUSED),
        Case("another extractor file", lambda folder: (folder / "processor_config.json").write_text(
            '{"feature_extractor": {"auto_map": {"AutoFeatureExtractor": "x.Y"}}}'), REFUSED),
    ]
    return cases


CHECKPOINTS = checkpoint_cases()


@pytest.mark.parametrize("part", range(4))
def test_checkpoints(tmp_path, model_folder, part):
    numbers = iter(range(len(CHECKPOINTS)))

    def run(case: Case) -> str:
        folder = tmp_path / f"model-{next(numbers)}"
        shutil.copytree(model_folder, folder)
        case.make(folder)
        found = outcome([str(folder)], lambda: checkpoints.load(folder))
        return "code was executed" if (folder / "executed").exists() else found

    judge(CHECKPOINTS[part::4], run)


# --- whole requests ---


@pytest.fixture
def request_of(tmp_path, model_folder):
    """What makes the arguments of a command line, by the names of its options."""
    for i in range(4):
        write_clip(tmp_path / "c" / f"{i}.wav", seed=i)
    for name, numbers in (("forget", (0, 1)), ("unseen", (2, 3)), ("both", (1, 2))):
        lines = "".join(f"c/{i}.wav,class {i % 3}\n" for i in numbers)
        (tmp_path / f"{name}.csv").write_text("path,label\n" + lines)

    def make(command: str, **options: str) -> list[str]:
        given = {"model": str(model_folder), "forget": str(tmp_path / "forget.csv")} | options
        return [command, *(text for name, value in given.items() for text in (f"--{name}", value))]

    return make


COMMANDS: list[tuple[str, dict[str, str], str]] = [
    ("audit", {}, ""), ("audit", {"unseen": "{}/unseen.csv"}, ""),
    ("audit", {"unseen": "{}/forget.csv"}, "forget.csv"),
    ("audit", {"unseen": "{}/both.csv"}, "both.csv"), ("audit", {"forget": "{}"}, "{}"),
    ("audit", {"forget": "{}/c/0.wav"}, "0.wav"), ("audit", {"model": "{}/gone"}, "gone"),
    ("audit", {"model": "{}/forget.csv"}, "forget.csv"), ("audit", {"root": "{}/gone"}, "gone"),
    ("audit", {"root": "{}/c"}, "c/0.wav"), ("audit", {"out": "{}/forget.csv"}, "forget.csv"),
    ("audit", {"out": "{}"}, "out"), ("audit", {"seed": "-1"}, "seed"),
    ("audit", {"reference": "{}/c"}, "{}/c"), ("audit", {"original": "{}/c"}, "{}/c"),
    ("forget", {"out": "{}/new", "method": "no\x1b[2J"}, "method"),
    ("forget", {"out": "{}/new", "method": "retrain"}, "retrain"),
    ("forget", {"out": "{}/new", "retain": "{}/both.csv"}, "both.csv"),
    ("forget", {"out": "{}/new", "parameter": "epochs=-1"}, "epochs"),
    ("forget", {"out": "{}/new", "parameter": "x"}, "x"),
    ("forget", {"out": "{}/new", "parameter": "nothing=1"}, "nothing"),
    ("forget", {"out": "/dev/null/new"}, "out"), ("forget", {"out": "{}/c"}, "out"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_commands(tmp_path, monkeypatch, capsys, request_of, number):
    """The command line says in one line what it can't use, with status 2."""
    command, options, named = COMMANDS[number]
    options = {name: value.replace("{}", str(tmp_path)) for name, value in options.items()}
    monkeypatch.setattr("sys.argv", ["speechunlearn", *request_of(command, **options)])
    with pytest.raises(SystemExit) as ended, limited(LIMIT):
        cli.main()
    told = capsys.readouterr()
    if named:
        assert ended.value.code == 2 and told.out == ""
        assert told.err.startswith("speechunlearn: ") and told.err.count("\n") == 1
        assert named.replace("{}", str(tmp_path)) in told.err and "\x1b" not in told.err
    else:
        assert ended.value.code in (0, None) and "UAR, forget (2 clips)" in told.out


def test_there_are_200_inputs():
    for cases, least in ((AUDIO, 140), (TABLES, 100), (CHECKPOINTS, 250)):
        assert len({case.name for case in cases}) == len(cases) >= least
