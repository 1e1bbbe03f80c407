"""Clips keep their labels, and every pass over them holds each clip once."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch

from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips, Replaced, load, shuffled_batches, sorted_batches
from speechunlearn.errors import CorpusError, ParameterError

LENGTHS = [5, 9, 2, 7, 7, 1, 8, 3, 6, 4, 2]


def manifest(paths, labels) -> pd.DataFrame:
    n = len(paths)
    return pd.DataFrame(
        {
            "path": [str(path) for path in paths],
            "label": labels,
            "hash": [f"h{i}" for i in range(n)],
            "speaker": [f"s{i}" for i in range(n)],
        }
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_at_keeps_what_belongs_together():
    clips = tiny.clips(6)
    some = clips.at([4, 0, 4])
    assert len(some) == 3
    assert some.hashes == ["0-4", "0-0", "0-4"]
    assert some.speakers == ["speaker 0", "speaker 0", "speaker 0"]
    assert some.labels.tolist() == [1, 0, 1]
    assert some.lengths == [clips.lengths[i] for i in (4, 0, 4)]
    assert torch.equal(some.waveforms_z[0], clips.waveforms_z[4])
    assert len(clips.at([])) == 0


def test_relabelled_changes_labels_alone():
    clips = tiny.clips(3)
    other = clips.relabelled(torch.tensor([2, 2, 0]))
    assert other.labels.tolist() == [2, 2, 0]
    assert clips.labels.tolist() == [0, 1, 2]
    assert other.waveforms_z is clips.waveforms_z and other.hashes == clips.hashes
    with pytest.raises(ParameterError, match=r"labels.*\(2,\).*3 clips"):
        clips.relabelled(torch.tensor([1, 1]))


def test_batch_pads_with_zeros():
    clips = Clips(
        [torch.ones(2), torch.full((4,), 2.0)], torch.tensor([0, 1]), ["a", "b"], ["s", "t"]
    )
    waveform_z, lengths = clips.batch([1, 0])
    assert waveform_z.tolist() == [[2, 2, 2, 2], [1, 1, 0, 0]]
    assert lengths.tolist() == [4, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 11, 100])
@pytest.mark.parametrize("bucket", [1, 2, 8])
def test_shuffled_batches_cover_each_clip_once(batch_size, bucket):
    batches = list(shuffled_batches(LENGTHS, batch_size, generator(), bucket))
    assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
    assert len(batches) == -(-len(LENGTHS) // batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1


def test_shuffled_batches_are_random_and_reproducible():
    first, second = (list(shuffled_batches(LENGTHS, 2, generator(seed))) for seed in (0, 1))
    assert first == list(shuffled_batches(LENGTHS, 2, generator(0)))
    assert first != second
    state = generator()
    passes = [list(shuffled_batches(LENGTHS, 2, state)) for _ in range(2)]
    assert passes[0] != passes[1]


def test_shuffled_batches_hold_clips_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 10000, 512).tolist()
    batches = list(shuffled_batches(lengths, 16, generator()))
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.25 * sum(lengths)
    # the shortest batch does not always come first
    order = [lengths[batch[0]] for batch in batches]
    assert order != sorted(order)


def test_sorted_batches_go_from_the_longest():
    batches = list(sorted_batches(LENGTHS, 4))
    assert batches == [[1, 6, 3, 4], [8, 0, 9, 7], [2, 10, 5]]


def test_load_reads_labels_and_normalises(clip_writer, tmp_path):
    paths = [clip_writer(tmp_path / f"{i}.wav", seed=i, seconds=0.2 + 0.1 * i) for i in range(3)]
    clips = load(manifest(paths, ["b", "a", "b"]), ["a", "b"])
    assert clips.labels.tolist() == [1, 0, 1] and clips.labels.dtype == torch.long
    assert clips.lengths == [3200, 4800, 6400]
    assert clips.hashes == ["h0", "h1", "h2"] and clips.speakers == ["s0", "s1", "s2"]
    for path, waveform_z in zip(paths, clips.waveforms_z, strict=True):
        expected = audio.normalise(audio.read_clip(path))
        np.testing.assert_array_equal(waveform_z.numpy(), expected)
        assert waveform_z.dtype == torch.float32
        assert abs(float(waveform_z.mean())) < 1e-4 and abs(float(waveform_z.std()) - 1) < 1e-3


def test_load_can_leave_the_scale(clip_writer, tmp_path):
    path = clip_writer(tmp_path / "a.wav")
    (waveform,) = load(manifest([path], ["a"]), ["a"], normalise=False).waveforms_z
    np.testing.assert_array_equal(waveform.numpy(), audio.read_clip(path))


def test_load_takes_the_sampling_rate(clip_writer, tmp_path):
    path = clip_writer(tmp_path / "a.wav", seconds=0.5)
    assert load(manifest([path], ["a"]), ["a"], sampling_rate=8000).lengths == [4000]


def test_load_trims_silence(tmp_path):
    samples = np.zeros(16000, dtype=np.float32)
    samples[6000:10000] = 0.3 * np.random.default_rng(0).standard_normal(4000)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    table = manifest([tmp_path / "a.wav"], ["a"])
    assert load(table, ["a"]).lengths == [16000]
    (length,) = load(table, ["a"], top_db=30.0).lengths
    assert 4000 <= length <= 4000 + 2 * (800 + 400)  # 50 ms and a frame on each side


@pytest.mark.parametrize("seconds, length", [(0.1, 1600), (0.25, 4000), (0.3, 4800), (9.0, 4800)])
def test_load_cuts_long_clips_to_their_centre(clip_writer, tmp_path, seconds, length):
    path = clip_writer(tmp_path / "a.wav", seconds=0.3)
    whole = audio.read_clip(path)
    table = manifest([path], ["a"])
    (waveform,) = load(table, ["a"], max_seconds=seconds, normalise=False).waveforms_z
    start = (4800 - length) // 2
    np.testing.assert_array_equal(waveform.numpy(), whole[start : start + length])


def test_load_names_unknown_labels(clip_writer, tmp_path):
    path = clip_writer(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match=r"\['joy'\].*\['anger', 'fear'\]"):
        load(manifest([path], ["joy"]), ["anger", "fear"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_waveforms_on_disk_are_those_that_were_put_there(dtype):
    first = [torch.full((n,), float(n), dtype=dtype) for n in (3, 1, 4)]
    held = Replaced(first)
    held[2] = torch.tensor([0.1, -1.0, 2.0, 1e-30], dtype=torch.float64)
    assert len(held) == 3 and held.lengths == [3, 1, 4]
    assert held[-1].dtype == dtype and held[2][0] == torch.tensor(0.1, dtype=dtype)
    assert torch.equal(held[0], first[0]) and torch.equal([*held][1], first[1])
    assert [len(waveform) for waveform in held[1:]] == [1, 4]
    with pytest.raises(IndexError):
        held[3]
    assert Clips(held, torch.zeros(3, dtype=torch.long), list("abc"), list("abc")).lengths == [
        3, 1, 4
    ]  # fmt: skip
