"""What reaches an encoder is what the file holds, trimmed, normalised and padded as documented."""

import numpy as np
import pytest
import soundfile
import torch

from speechunlearn.dataset.audio import normalise, pad, read_clip, trim_silence
from speechunlearn.errors import CorpusError, ParameterError

RATE = 16000


def noise(seconds: float, scale: float = 0.1, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (scale * samples).astype(np.float32)


def test_read_clip_gives_the_samples(tmp_path):
    pcm = np.random.default_rng(0).integers(-(2**15), 2**15, 4000, dtype=np.int16)
    soundfile.write(tmp_path / "a.flac", pcm, RATE)
    waveform = read_clip(tmp_path / "a.flac")
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, pcm / 32768)


def test_read_clip_averages_the_channels(tmp_path):
    left, right = noise(0.2, seed=0), noise(0.2, seed=1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_read_clip_resamples(tmp_path, rate):
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate, subtype="FLOAT")
    waveform = read_clip(tmp_path / "a.wav")
    assert len(waveform) == RATE
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    # The ends show the filter, the middle the tone.
    np.testing.assert_allclose(waveform[1000:-1000], expected[1000:-1000], atol=1e-4)
    assert len(read_clip(tmp_path / "a.wav", 24000)) == 24000


def test_resampling_removes_what_lies_above_the_new_band(tmp_path):
    time = np.arange(48000) / 48000
    tones = np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 10000 * time)
    soundfile.write(tmp_path / "a.wav", 0.4 * tones, 48000, subtype="FLOAT")
    spectrum = np.abs(np.fft.rfft(read_clip(tmp_path / "a.wav")[2000:-2000]))
    frequency = np.fft.rfftfreq(RATE - 4000, 1 / RATE)
    # 10 kHz would fold to 6 kHz.
    alias = spectrum[(frequency > 5500) & (frequency < 6500)].max()
    assert alias < 1e-4 * spectrum.max()


def test_read_clip_stays_within_full_scale_without_clipping(tmp_path):
    samples = noise(0.2, scale=1.0)
    assert np.abs(samples).max() > 2
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    waveform = read_clip(tmp_path / "a.wav")
    assert np.abs(waveform).max() == pytest.approx(1)
    np.testing.assert_allclose(waveform, samples / np.abs(samples).max(), rtol=1e-5)


def test_read_clip_names_the_bad_file(tmp_path):
    with pytest.raises(CorpusError, match=r"gone\.wav: no such file"):
        read_clip(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("text")
    with pytest.raises(CorpusError, match=r"text\.wav: unreadable audio"):
        read_clip(tmp_path / "text.wav")


def test_trim_silence_keeps_all_without_a_threshold():
    waveform = np.concatenate([np.zeros(RATE, np.float32), noise(0.5)])
    assert trim_silence(waveform, RATE, None) is waveform


def test_trim_silence_cuts_the_ends_only():
    quiet, loud, pause = noise(0.5, 1e-4, seed=1), noise(0.4), noise(0.3, 1e-4, seed=2)
    waveform = np.concatenate([quiet, loud, pause, loud, quiet])
    trimmed = trim_silence(waveform, RATE, 30.0)
    # The loud part lies from 0.5 s to 1.6 s; 50 ms and at most one frame (25 ms) are added.
    start = int(np.flatnonzero(waveform == trimmed[0])[0])
    np.testing.assert_array_equal(trimmed, waveform[start : start + len(trimmed)])
    assert 0.5 - 0.075 <= start / RATE <= 0.5 - 0.05 + 0.015
    assert 1.6 + 0.035 <= (start + len(trimmed)) / RATE <= 1.6 + 0.075


def test_trim_silence_obeys_the_threshold():
    # 40 dB quieter in the first half.
    waveform = np.concatenate([noise(0.5, 1e-3, seed=1), noise(0.5, 1e-1)])
    assert len(trim_silence(waveform, RATE, 50.0)) == RATE
    assert len(trim_silence(waveform, RATE, 30.0)) < 0.6 * RATE


@pytest.mark.parametrize("position", [0, 100, 8000, 15900, 15999])
def test_trim_silence_never_leaves_less_than_a_tenth_of_a_second(position):
    waveform = np.zeros(RATE, np.float32)
    waveform[position] = 1.0
    trimmed = trim_silence(waveform, RATE, 30.0)
    assert 0.1 * RATE <= len(trimmed) <= 0.15 * RATE
    assert trimmed.max() == 1.0


def test_trim_silence_of_very_short_or_silent_clips():
    short = noise(0.05)
    np.testing.assert_array_equal(trim_silence(short, RATE, 30.0), short)
    silent = np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(trim_silence(silent, RATE, 30.0), silent)


@pytest.mark.parametrize("top_db", [0.0, -3.0, float("nan")])
def test_trim_silence_refuses_other_thresholds(top_db):
    with pytest.raises(ParameterError, match=f"top_db must be positive or None, not {top_db}"):
        trim_silence(noise(0.2), RATE, top_db)


def test_normalise_by_hand():
    z = normalise(np.array([1.0, 2.0, 3.0], np.float32))
    np.testing.assert_allclose(z, [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
    assert z.dtype == np.float32
    # The epsilon counts where the variance is small: 1e-8 / (1e-8 + 1e-7).
    z = normalise(np.array([1e-4, -1e-4], np.float32))
    np.testing.assert_allclose(z, [np.sqrt(1 / 11), -np.sqrt(1 / 11)], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 0.1])
def test_normalise_agrees_with_transformers(scale):
    from transformers import Wav2Vec2FeatureExtractor

    waveform = noise(2.0, scale) + np.float32(0.01)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(waveform, sampling_rate=RATE, return_tensors="np").input_values[0]
    np.testing.assert_allclose(normalise(waveform), expected, atol=2e-5)


def test_pad():
    first, second = torch.ones(3), torch.full((5,), 2.0)
    waveform_z, lengths = pad([first, second])
    assert waveform_z.tolist() == [[1, 1, 1, 0, 0], [2, 2, 2, 2, 2]]
    assert lengths.tolist() == [3, 5] and lengths.dtype == torch.int64
    assert waveform_z.dtype == torch.float32


def test_pad_nothing():
    with pytest.raises(ParameterError, match="at least one waveform"):
        pad([])
