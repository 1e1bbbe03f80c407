"""The embedded corpus: its files are intact, varied and legible, and can be made again."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "data" / "make_embedded.py"
FOLDER = REPOSITORY / "data" / "embedded"
NAME = re.compile(
    r"(?P<kind>PR|NP)_(?P<gender>[fm])_(?P<speaker>\d\d)"
    r"_(?P<emotion>rab|dis|pau|col|gio|tri|sor)(?P<sentence>\d\d)(?P<take>[abc])\.flac"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_embedded", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def clips():
    """Name parts and waveform of every clip."""
    found = []
    for path in sorted((FOLDER / "DEMOS").iterdir()):
        match = NAME.fullmatch(path.name)
        assert match, path.name
        waveform, sampling_rate = soundfile.read(path, dtype="float32")
        assert sampling_rate == 16000, path.name
        assert waveform.ndim == 1, path.name
        assert soundfile.info(path).subtype == "PCM_16", path.name
        found.append((match.groupdict(), waveform))
    return found


def test_files_are_those_listed(script):
    assert script.check(FOLDER) == []


def test_check_names_every_kind_of_difference(script, tmp_path):
    (tmp_path / "DEMOS").mkdir()
    for name in ("changed", "same", "unlisted"):
        (tmp_path / "DEMOS" / f"{name}.flac").write_bytes(name.encode())
    digests = script.checksums(tmp_path)
    (tmp_path / "CHECKSUMS").write_text(
        f"{'0' * 64}  DEMOS/changed.flac\n"
        f"{'0' * 64}  DEMOS/lost.flac\n"
        f"{digests['DEMOS/same.flac']}  DEMOS/same.flac\n"
    )
    problems = [problem.rsplit("/", 1)[1] for problem in script.check(tmp_path)]
    assert problems == ["changed.flac: changed", "lost.flac: missing", "unlisted.flac: not listed"]


def test_files_are_those_planned(script):
    planned = [clip.name for clip in script.plan()]
    assert planned == [path.name for path in sorted((FOLDER / "DEMOS").iterdir())]


def test_size_is_fit_for_git():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 20e6


def test_at_least_twenty_voices_with_all_seven_emotions(clips):
    emotions = defaultdict(set)
    genders = defaultdict(set)
    for parts, _ in clips:
        emotions[parts["speaker"]].add(parts["emotion"])
        genders[parts["speaker"]].add(parts["gender"])
    assert len(emotions) >= 20
    assert all(len(found) == 7 for found in emotions.values())
    assert Counter(map(tuple, genders.values())) == {("f",): 12, ("m",): 12}


def test_some_clips_are_atypical(clips):
    share = np.mean([parts["kind"] == "NP" for parts, _ in clips])
    assert 0.08 < share < 0.25


def test_sentences_say_nothing_of_the_emotion(script, clips):
    assert len(script.SENTENCES) >= 12
    emotions = defaultdict(set)
    for parts, _ in clips:
        emotions[parts["sentence"]].add(parts["emotion"])
    assert all(len(found) == 7 for found in emotions.values())


def test_no_clip_is_there_twice(clips):
    assert len({waveform.tobytes() for _, waveform in clips}) == len(clips)


def test_clips_are_short_and_neither_silent_nor_clipped(clips):
    for parts, waveform in clips:
        assert 0.4 < len(waveform) / 16000 < 2.5, parts
        assert waveform.std() > 0.005, parts
        assert np.abs(waveform).max() < 0.999, parts


def fundamental(waveform: np.ndarray) -> float:
    """Mean fundamental frequency in Hz of the loud frames, from the autocorrelation."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 640)[::640]
    frames = frames[frames.std(axis=1) > waveform.std()]
    power = np.abs(np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2048)) ** 2
    correlation = np.fft.irfft(power)[:, 32:230]  # 500 to 70 Hz
    return float(np.mean(16000 / (32 + correlation.argmax(axis=1))))


def share_above(first: list[float], second: list[float]) -> float:
    """Share of pairs in which the value of ``first`` is the larger one; 0.5 is no difference."""
    return float(np.mean(np.subtract.outer(first, second) > 0))


def test_prosody_differs_between_emotions_but_overlaps(clips):
    measures = {name: defaultdict(list) for name in ("seconds", "pitch f", "pitch m")}
    for parts, waveform in clips:
        measures["seconds"][parts["emotion"]].append(len(waveform) / 16000)
        measures[f"pitch {parts['gender']}"][parts["emotion"]].append(fundamental(waveform))

    # Fear and sadness are the ends of both scales: apart, yet their ranges meet.
    for name, low, high in (
        ("seconds", "pau", "tri"), ("pitch f", "tri", "pau"), ("pitch m", "tri", "pau")
    ):
        measure = measures[name]
        assert np.median(measure[low]) < 0.9 * np.median(measure[high]), name
        assert np.quantile(measure[low], 0.95) > np.quantile(measure[high], 0.05), name

    # No measure alone tells an emotion from all others.
    for name, measure in measures.items():
        for emotion, values in measure.items():
            others = [other for key, other in measure.items() if key != emotion]
            assert any(0.25 < share_above(values, other) < 0.75 for other in others), (
                name, emotion
            )


SPEAK = """
import importlib.util, json, sys, tempfile
from pathlib import Path
spec = importlib.util.spec_from_file_location("make_embedded", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
clip = module.plan()[0]
with tempfile.TemporaryDirectory() as folder:
    waveform = module.colour(clip, module.Synthesiser(Path(folder)).speak(clip))
samples = module.quantise(waveform)
print(json.dumps([clip.name, len(samples), float(abs(samples).max())]))
"""


def test_a_clip_can_be_made_again():
    pytest.importorskip("espeakng_loader", reason="the synthesiser is not installed")
    # In a process of its own: the library keeps global state and stays loaded.
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, SCRIPT], capture_output=True, text=True, check=True
    )
    name, number, peak = json.loads(done.stdout)
    kept, _ = soundfile.read(FOLDER / "DEMOS" / name, dtype="int16")
    assert peak > 500
    assert abs(number - len(kept)) <= 0.05 * len(kept)
