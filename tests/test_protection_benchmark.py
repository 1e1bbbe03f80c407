"""The benchmark of protected recordings, and what the chapter says of its rows."""

from pathlib import Path

import chapter_cells
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import protection as benchmark
from speechunlearn.chapters import figures, pages

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
    rows = pd.read_csv(benchmark.RESULTS, dtype={"commit": str})
    assert list(rows.columns) == benchmark.COLUMNS
    key = list(benchmark.Condition._fields)
    assert not rows.duplicated(key).any()
    known = {tuple(map(str, one)) for one in benchmark.conditions()}
    assert {tuple(map(str, row)) for row in rows[key].to_numpy()} <= known


CHAPTER = "13_unlearnable_audio"


@pytest.fixture
def chapter(monkeypatch):
    """What chapter 13 defines and shows of the committed rows; ``said`` is what it answers."""
    said: list[str] = []
    monkeypatch.setattr(pages, "write", said.append)
    names = {"np": np, "figures": figures, "said": said}
    chapter_cells.execute(chapter_cells.with_text(CHAPTER, "def told("), names)
    names["costs"] = chapter_cells.execute(chapter_cells.with_text(CHAPTER, "def beside("), names)
    return names


def test_the_answer_says_what_its_rows_say(chapter):
    rows = chapter["rows"]
    rows = rows[(rows["task"] == "keyword") & (rows["model"] == "mfcc conv")]
    rows = rows[rows["question"] == "main"]
    for method in ("none", "poscuda", "cuda"):
        values = rows.loc[rows["method"] == method, "uar"].astype(float)
        assert len(values) == 5
        half = 2.7764451052 * values.std() / 5**0.5  # Student's t, 4 degrees of freedom
        said = f"{values.mean():.2f} [{values.mean() - half:.2f}, {values.mean() + half:.2f}]"
        assert said in chapter["said"][0]


def test_what_a_protection_costs_is_the_mean_difference_of_runs(chapter):
    base = CONDITION._asdict()
    rows = pd.DataFrame([
        base | {"question": "attack", "attack": "denoise", "method": method, "run": run, "uar": uar}
        for method, of_runs in {"none": (0.9, 0.7), "poscuda": (0.5, 0.5)}.items()
        for run, uar in enumerate(of_runs)
    ])
    shown = chapter["beside"](rows, "attack").loc[("keyword", "denoise")]
    # .4 and .2: half-width 12.7062 * sqrt(.02) / sqrt(2)
    assert shown["PosCUDA costs"] == "0.30 [-0.97, 1.57]" and shown["n"] == "2"
    assert shown["PosCUDA"] == "0.50 [0.50, 0.50]" and "CUDA" not in shown


def costs(shown: pd.DataFrame, method: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Read each mean and lower end of a table of the chapter again."""
    cells = shown.loc[shown[f"{method} costs"].str.contains("[", regex=False), f"{method} costs"]
    return {key: tuple(map(float, cell.split(",")[0].split(" ["))) for key, cell in cells.items()}


def test_what_the_chapter_says_of_costs_is_in_its_tables(chapter):
    text = Path("notebooks/13_unlearnable_audio.py").read_text().replace("\n#", "")
    patch, whole = (costs(chapter["costs"], name) for name in ("PosCUDA", "CUDA"))
    decided = {task: {model for (of, model), (_, low) in patch.items() if of == task and low > 0}
               for task in ("keyword", "speaker", "emotion")}
    assert decided["keyword"] == set(chapter["SCRATCH"])
    assert min(low for _, low in whole.values()) > 0
    assert decided["emotion"] == {"mfcc conv", "mfcc gru", "mfcc transformer"}
    assert len(decided["speaker"]) == 2 and len(patch) == len(whole) == 12
    assert "with every model, and emotions with the three on MFCC; voices least, with two" in text
    attacks = chapter_cells.execute(chapter_cells.with_text(CHAPTER, "clean clips alone"), chapter)
    patch, whole = (costs(attacks, name) for name in ("PosCUDA", "CUDA"))
    encoder = ("keyword", "encoder frozen")
    of_signal = [key for key in patch if key[0] == "keyword" and not key[1].startswith("encoder")]
    assert all(patch[key][1] > 0 for key in of_signal) and len(of_signal) == 8
    assert patch[encoder][0] < patch["keyword", "nothing"][0] / 4
    assert whole[encoder][0] < whole["keyword", "nothing"][0] / 2
    assert whole["keyword", "random filter"][0] == pytest.approx(
        whole["keyword", "nothing"][0] / 2, abs=0.02
    )
    assert whole["keyword", "encoder fine-tuned"][0] == pytest.approx(
        whole["keyword", "nothing"][0] * 2 / 3, abs=0.02
    )
    assert "hardly anything of PosCUDA's protection, and of CUDA's less than half" in text
    assert "not run" not in attacks.to_numpy()


def test_shares_of_every_model_stand_in_order(chapter):
    rows = pd.DataFrame([
        CONDITION._asdict() | {"question": question, "model": model, "method": method,
                               "share": share, "run": run, "uar": 1 - share / 2}
        for model in chapter["SCRATCH"] for run in range(2)
        for question, method, share in (("main", "none", 1.0), ("main", "poscuda", 1.0),
                                        ("share", "poscuda", 0.5))
    ])  # fmt: skip
    rows.loc[rows["method"] == "none", "uar"] = 1.0
    shared = rows.assign(share=rows["share"].where(rows["method"] != "none", 0.0))
    source = chapter_cells.with_text(CHAPTER, '["model", "share"]')
    shown = chapter_cells.execute(source, chapter | {"shared": shared})
    assert list(shown) == ["0%", "50%", "100%", "n"]
    assert set(shown.index) == set(chapter["SCRATCH"])
    assert shown["50%"].str.startswith("0.75 [").all()


def test_ratings_are_of_the_clips_that_are_published(clips, monkeypatch):
    def rater(one):
        return 1 + 1000 * one.square().mean()[None, None]

    monkeypatch.setattr(benchmark, "_rater", lambda: rater)
    rated = benchmark.rating(CONDITION, clips)
    order = np.random.default_rng((0, 5)).permutation(24)[: benchmark.RATED]
    after = benchmark.published(CONDITION, clips)[0][order]
    assert rated["n"] == 16 and "model" not in rated
    for name, waveforms in (("mos", after), ("mos_unprotected", clips.train[order])):
        assert rated[name] == pytest.approx(1 + 1000 * np.square(waveforms).mean(), abs=1e-3)
    assert rated["mos"] != rated["mos_unprotected"]


def test_the_command_is_measured_in_a_process_of_its_own():
    measured = benchmark.files(3)
    assert measured["clips"] == 3 and measured["processor_seconds"] > 0
    assert 20 < measured["peak_memory_mb"] < 1024


def test_the_command_is_as_fast_as_is_promised():
    (row,) = pd.read_csv(benchmark.RESULTS.with_name("protect_files.csv")).to_dict("records")
    assert row["clips"] == 1000 and row["seconds"] < 60 and row["peak_memory_mb"] < 1024
