"""The benchmark of protected recordings, and what the chapter says of its rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import protection as benchmark
from speechunlearn.chapters import unlearnable

CONDITION = benchmark.Condition(
    "main", "keyword", "mfcc conv", "poscuda", 0.05, 9, 0.3, 1.0, "all", "none", 0
)


@pytest.fixture
def clips() -> benchmark.Data:
    waveforms = 0.1 * np.random.default_rng(0).standard_normal((32, 4800)).astype(np.float32)
    labels = ["a", "b"] * 12
    return benchmark.Data(waveforms[:24], labels, waveforms[24:], labels[:8])


def test_what_is_published_is_the_share_and_the_class_asked_for(clips):
    for share, classes, method, count in (
        (1.0, "all", "poscuda", 24), (0.25, "all", "poscuda", 6), (1.0, "one", "poscuda", 12),
        (1.0, "all", "none", 0), (1.0, "all", "cuda", 24),
    ):
        condition = CONDITION._replace(share=share, classes=classes, method=method)
        published, chosen = benchmark.published(condition, clips)
        changed = (published != clips.train).any(1)
        assert chosen.sum() == count and (changed == chosen).all()
        if classes == "one":
            labels = {clips.train_labels[i] for i in np.flatnonzero(chosen)}
            assert labels == {benchmark.one_class(condition, clips)}


@pytest.mark.parametrize("model", benchmark.MODELS)
@pytest.mark.parametrize("attack", ["none", "crop and shift", "clean clips"])
def test_a_row_has_every_column(clips, model, attack, monkeypatch):
    monkeypatch.setattr(benchmark, "EPOCHS", 3)
    row = benchmark.row(CONDITION._replace(model=model, attack=attack), clips)
    assert 0 <= row["uar"] <= 1 and row["n_protected"] == 24 and row["n_test"] == 8
    assert set(row) <= set(benchmark.COLUMNS)


def test_a_raw_convolution_as_a_matrix_is_one():
    network = benchmark.Convolutional(1, 3, raw=True)
    x = torch.randn(2, 1, 800)
    convolution = torch.nn.Conv1d(1, 32, 80, 32)
    convolution.weight.data = network.frames.weight.data[:, None]
    convolution.bias = network.frames.bias
    expected = network.head(network.layers(convolution(x)).mean(2))
    assert torch.allclose(network(x), expected, atol=1e-5)


@pytest.mark.parametrize("attack", benchmark.ATTACKS)
def test_an_attack_keeps_the_shape_and_is_what_its_draw_makes_it(clips, attack):
    change, drawn, _ = benchmark.ATTACKS[attack]
    first, again, other = (change(clips.train, np.random.default_rng(k)) for k in (0, 0, 1))
    assert first.shape == clips.train.shape and (first == again).all()
    assert (first != other).any() == drawn


def test_the_distance_of_gaussians_is_the_closed_form():
    draw = np.random.default_rng(0)
    a = draw.standard_normal((200_000, 2))
    assert benchmark.frechet(a, a) == pytest.approx(0, abs=1e-9)
    # moved by (3, 4) and twice as wide: 25 + 2 (1 - 2)^2
    assert benchmark.frechet(a, 2 * a + [3, 4]) == pytest.approx(27, rel=0.01)


def test_the_ratio_of_signal_and_change_is_in_decibels(clips):
    changed = clips.train.copy()
    changed[:2] *= 1.1
    measured = benchmark.quality(np.tile(clips.train, 5), np.tile(changed, 5))
    assert measured["snr_db"] == pytest.approx(20, abs=1e-3)
    assert measured["frechet"] >= 0


def test_each_condition_is_tried_once():
    conditions = list(benchmark.conditions())
    assert len(set(conditions)) == len(conditions)
    counted = pd.DataFrame(conditions).groupby(
        list(benchmark.Condition._fields[:-1])
    )["run"].nunique()
    keywords = counted.index.get_level_values("task") == "keyword"
    assert (counted[keywords] == 5).all() and (counted[~keywords] == 3).all()
    for field, count in (("task", 3), ("model", 6), ("method", 3)):
        assert len({getattr(one, field) for one in conditions}) == count


def test_the_committed_rows_are_of_conditions_and_of_one_key_each():
    rows = unlearnable.committed()
    assert list(rows.columns) == benchmark.COLUMNS
    key = list(benchmark.Condition._fields)
    assert not rows.duplicated(key).any()
    known = {tuple(map(str, one)) for one in benchmark.conditions()}
    assert {tuple(map(str, row)) for row in rows[key].to_numpy()} <= known


def test_the_answer_says_what_its_rows_say():
    rows = unlearnable.committed()
    rows = rows[(rows["task"] == "keyword") & (rows["model"] == "mfcc conv")]
    rows = rows[rows["question"] == "main"]
    for method in ("none", "poscuda", "cuda"):
        values = rows.loc[rows["method"] == method, "uar"].astype(float)
        assert len(values) == 5
        half = 2.7764451052 * values.std() / 5**0.5  # Student's t, 4 degrees of freedom
        said = f"{values.mean():.2f} [{values.mean() - half:.2f}, {values.mean() + half:.2f}]"
        assert said in unlearnable.answer()


def test_the_command_is_measured_in_a_process_of_its_own():
    measured = benchmark.files(3)
    assert measured["clips"] == 3 and measured["processor_seconds"] > 0
    assert 20 < measured["peak_memory_mb"] < 1024


def test_the_command_is_as_fast_as_is_promised():
    (row,) = pd.read_csv(benchmark.RESULTS.with_name("protect_files.csv")).to_dict("records")
    assert row["clips"] == 1000 and row["seconds"] < 60 and row["peak_memory_mb"] < 1024
