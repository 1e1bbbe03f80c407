"""The embedded keyword set: its files are intact and varied, and words and voices can be told."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile

from speechunlearn import corpora

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "data" / "embedded_keywords"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "data")
        yield importlib.import_module("make_embedded_keywords")


@pytest.fixture(scope="module")
def manifest():
    return corpora.read_manifest("embedded_keywords")


@pytest.fixture(scope="module")
def waveforms(manifest):
    return [soundfile.read(path, dtype="float32")[0] for path in manifest["path"]]


def test_files_are_those_listed_and_planned(script):
    listed = [line.split("  ", 1)[1] for line in (FOLDER / "CHECKSUMS").read_text().splitlines()]
    assert listed == [clip.name for clip in script.plan()]
    command = [sys.executable, "data/make_embedded_keywords.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "400 clips as listed\n"), done.stdout


def test_every_voice_says_every_word_twice(manifest, script):
    assert corpora.get("embedded_keywords").labels == tuple(script.WORDS)
    counts = manifest.groupby(["label", "speaker"]).size()
    assert len(counts) == len(script.WORDS) * len(script.VOICES) and set(counts) == {2}
    assert set(manifest["speaker"]) == {script.speaker(voice) for voice in script.VOICES}
    assert len(script.WORDS) >= 10 and len(script.VOICES) >= 20
    assert set(manifest["label"]) == set(corpora.get("embedded_keywords").labels)
    assert manifest["hash"].is_unique and manifest.attrs["skipped"] == []


def test_files_are_small_and_short(manifest, waveforms):
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 3e6
    for path, waveform in zip(manifest["path"], waveforms, strict=True):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), path
        assert 0.12 < len(waveform) / 16000 < 1, path
        assert waveform.std() > 0.005 and np.abs(waveform).max() < 0.999, path
    assert 0.3 < manifest["seconds"].mean() < 0.6


def test_some_clips_are_atypical(script):
    clips = script.plan()
    odd = np.mean([clip.text != script.WORDS[clip.name.split("/")[0]][0] for clip in clips])
    noisy = np.mean(["noise" in clip.measures for clip in clips])
    assert 0.03 < odd < 0.15 and 0.03 < noisy < 0.15


def test_the_noisy_clips_are_noisy(script, manifest, waveforms):
    noisy = {clip.name: "noise" in clip.measures for clip in script.plan()}
    floors = {True: [], False: []}  # the quietest 20 ms relative to the whole, in dB
    for path, waveform in zip(manifest["path"], waveforms, strict=True):
        frames = np.lib.stride_tricks.sliding_window_view(waveform, 320)[::160]
        quietest = 20 * np.log10(frames.std(axis=1).min() / waveform.std())
        floors[noisy["/".join(Path(path).parts[-2:])]].append(quietest)
    assert np.median(floors[True]) > np.median(floors[False]) + 10


def describe(waveform: np.ndarray) -> np.ndarray:
    """Mel cepstra 1 to 13, averaged over each eighth of a clip."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    edges = (700 * (10 ** (mel / 2595) - 1) / 8000 * 256).astype(int)
    bands = [power[:, low:high].sum(axis=1) for low, high in zip(edges, edges[2:], strict=False)]
    cepstra = scipy.fft.dct(np.log(np.stack(bands, axis=1) + 1e-8), norm="ortho")[:, 1:14]
    return np.concatenate([part.mean(axis=0) for part in np.array_split(cepstra, 8)])


def nearest(features: np.ndarray, labels: np.ndarray, test: np.ndarray) -> float:
    """Share of test clips whose nearest training clip has their label."""
    features = (features - features[~test].mean(axis=0)) / features[~test].std(axis=0)
    distances = np.linalg.norm(features[test][:, None] - features[~test][None], axis=2)
    return float(np.mean(labels[~test][distances.argmin(axis=1)] == labels[test]))


def test_words_and_voices_can_be_told_where_they_were_not_heard(manifest, waveforms):
    features = np.stack([describe(waveform) for waveform in waveforms])
    words, voices = manifest["label"].to_numpy(), manifest["speaker"].to_numpy()
    of_words, of_voices = [], []
    for first in range(4):
        unseen = np.isin(voices, sorted(set(voices))[first::4])
        of_words.append(nearest(features, words, unseen))
        # The mean spectrum tells a voice without telling what it says.
        means = features.reshape(len(features), 8, -1).mean(axis=1)
        of_voices.append(nearest(means, voices, np.isin(words, sorted(set(words))[first::4])))
    assert np.mean(of_words) > 0.8
    assert np.mean(of_voices) > 0.5
