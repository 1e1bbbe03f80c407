"""A corpus of one's own, of any size, runs the chapters: a profile's sizes come down to it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import sys

import nbformat
import pandas as pd
import pytest
from conftest import write_clip

from speechunlearn.chapters import context, grid
from speechunlearn.cli import main
from speechunlearn.corpora import COLUMNS
from speechunlearn.errors import CorpusError, ParameterError, SpeechUnlearnError
from speechunlearn.lab import experiments, forget_sets, leaderboard
from speechunlearn.lab.experiments import ChapterRun
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.results import named

Row = tuple[str, str, str]


def table(rows: list[Row]) -> pd.DataFrame:
    """Return a manifest of clips of (label, speaker, split) that need not exist."""
    manifest = pd.DataFrame(rows, columns=["label", "speaker", "split"])
    number = pd.Series(range(len(manifest)), dtype=str).str.zfill(6)
    return manifest.assign(
        path="/nowhere/" + number + ".wav", gender="", seconds=0.4, corpus="csv", hash="h" + number
    )[list(COLUMNS)]


def product(labels: int, speakers: int, takes: int) -> list[Row]:
    """Return takes of each label by each speaker."""
    ranges = range(labels), range(speakers), range(takes)
    return [(f"l{i:02d}", f"s{k:02d}", "") for i, k, _ in itertools.product(*ranges)]


def given(labels: int, parts: dict[str, int], takes: int) -> list[Row]:
    """Return takes of each label by so many speakers of each part of a split that is given."""
    return [
        (f"l{i}", f"{part} {k}", part)
        for part, n in parts.items() for i, k, _ in itertools.product(
            range(labels), range(n), range(takes)
        )
    ]


_ONE_UNSEEN = {"train": 4, "validation": 1, "test": 1}
#: what CSVs are like: its clips, and the tasks that it cannot serve
SHAPES: dict[str, tuple[list[Row], set[str]]] = {
    "12 clips of 3 speakers": (product(2, 3, 2), set()),
    "12 clips of 4 speakers, one each": (product(3, 4, 1), set()),
    "2 speakers": (product(3, 2, 3), set()),
    "40 clips of 4 speakers": (product(5, 4, 2), set()),
    "196 clips of 7 speakers": (product(7, 7, 4), set()),
    "480 clips": (product(10, 12, 4), set()),
    "one unseen speaker": (given(4, _ONE_UNSEEN, 2), set()),
    "no test part": (given(3, {"train": 4, "validation": 1}, 2), set()),
    "one class unseen": (
        [row for row in given(3, {"train": 4, "validation": 2, "test": 2}, 2)
         if row[2] == "train" or row[0] == "l0"], {"speaker"},
    ),
    "unbalanced": (
        product(1, 8, 4) + [("twice", "s00", ""), ("twice", "s01", "")]
        + [("four", f"s{k:02d}", "") for k in (2, 3, 4, 5)], {"speaker"},
    ),
    "words of two speakers": (
        product(2, 3, 5) + [(f"w{k}", f"s{(k + s) % 3:02d}", "") for k in range(4) for s in (0, 1)],
        set(),
    ),
    "Unicode names": (
        [("größer " + a, "Žofia " + b, "") for a, b, _ in product(3, 6, 2)], set()
    ),
}


def run_of(rows: list[Row], profile: str = "smoke", **parameters: object) -> ChapterRun:
    """Return the run of a chapter on a CSV."""
    run = context.start(profile, "csv", "/nowhere/clips.csv", **parameters)
    return dataclasses.replace(run, manifests={"csv": table(rows)})


@pytest.mark.parametrize(
    ("profile", "task"), [("smoke", ""), ("cpu", ""), ("cpu", "keyword"), ("smoke", "speaker")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_size_of_a_profile_is_one_that_the_corpus_has(shape, profile, task):
    rows, unserved = SHAPES[shape]
    run = run_of(rows, profile, task=task)
    if task in unserved:
        with pytest.raises(CorpusError, match="/nowhere/clips.csv: .* add one, or leave its clips"):
            _ = run.profile
        return
    for setting in run.profile.settings:
        study = run.study(setting)
        train, classes = study.train_manifest, set(study.train_manifest["label"])
        assert set(study.manifest["label"]) == classes == set(study.labels)
        assert not set(train["cluster"]) & set(study._unseen_manifest["cluster"])
        n = experiments.ranked_forget_set(study, 0).n
        assert n >= 2 and len(forget_sets.in_steps(forget_sets.clips(n, 0), min(5, n))) == min(5, n)
        largest = max(study.sizes)
        tuned = set(study.hashes(forget_sets.clips(largest, DEVELOPMENT)))
        for forget_id in (*(forget_id for _, forget_id in study.runs), DEVELOPMENT):
            contents = study.hashes(forget_sets.clips(largest, forget_id))
            assert len(set(contents)) == largest
            assert forget_id == DEVELOPMENT or not tuned & set(contents)
            assert set(train.loc[~train["hash"].isin(contents), "label"]) == classes
            for size in study.sizes:
                assert study.hashes(forget_sets.clips(size, forget_id)) == contents[:size]
            parts = study.scored_hashes(forget_sets.clips(min(study.sizes), forget_id))
            assert all(parts.values()) and {"forget", "retain", "unseen"} <= set(parts)
    spare = run.study(spare=True)._unseen_manifest
    reported = set(run.study()._unseen_manifest["hash"])
    assert len(spare) and (run.profile.trials == 1 or not reported & set(spare["hash"]))


@pytest.mark.parametrize("task", ["keyword", "speaker"])
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "2 speakers"])
def test_what_is_removed_leaves_the_rest_to_train_on_and_to_test(shape, task):
    rows, unserved = SHAPES[shape]
    if task in unserved:
        return
    study = run_of(rows, "cpu", task=task).study()
    if (shape, task) == ("words of two speakers", "keyword"):  # each trains on a word alone
        with pytest.raises(CorpusError, match="no speaker can be removed whole: .* s00, s01"):
            study.removable("speaker")
        return
    train = study.train_manifest
    for kind, n in (("class", 0), ("speaker", 0), ("speaker", 5)):
        names = study.removable(kind, n)
        assert 1 <= len(names) == len(set(names)) <= 5
        for chosen in [names] if n else [[name] for name in names]:
            forget_set = forget_sets.ForgetSet(kind, names=tuple(chosen))
            parts = study.scored_hashes(forget_set)
            assert all(parts[part] for part in ("forget", "retain", "unseen"))
            left = set(train.loc[~train["hash"].isin(parts["forget"]), "label"])
            assert left == set(train["label"]) - set(forget_set.classes_of(train))


def test_the_page_says_what_came_down_and_to_what():
    # 8 clips are left to train on: 3 to forget, 3 to tune on, and one more
    run = run_of(SHAPES["12 clips of 3 speakers"][0])
    assert run.profile.n_values == (3,) and run.profile.settings == ("validation",)
    assert run.profile.trials == 1 and run.profile.ranked_size == 3
    assert list(run.profile.splits) == ["train", "validation"]
    said = " ".join(run.made_by().split())
    for text in (
        "Fitted to this corpus (8 training clips of 2 classes and 2 speakers, and 1 unseen",
        "no setting 'test'", "1 trial of each method, not 2", "N = 3, not 5, 10",
        "3 clips, not 10, to forget for audit",
    ):
        assert text in said
    large = run_of(SHAPES["480 clips"][0], "cpu")
    assert large.profile == large.asked and large.fit.sentence == ""


def test_a_profile_of_ravdess_comes_down_to_196_clips():
    run = run_of(SHAPES["196 clips of 7 speakers"][0], "cpu")
    available = len(run.study().train_manifest)
    assert 2 * 50 < available < 2 * 100
    assert run.profile.n_values == (10, 30, 50, (available - 1) // 2)
    assert f"N = 10, 30, 50, {(available - 1) // 2}, not 10, 30, 50, 100" in run.fit.sentence


def test_sizes_that_a_person_asks_for_are_not_changed_but_refused():
    run = run_of(SHAPES["40 clips of 4 speakers"][0], n_values=[30], trials=2)
    assert run.profile.n_values == (30,)
    with pytest.raises(ParameterError, match="n_values: forgetting 30 clips"):
        _ = run.study().manifest


def test_classes_of_two_clips_are_never_emptied():
    rows = product(1, 4, 3) + [(f"pair {k}", f"s{s:02d}", "") for k in range(4) for s in (0, 1)]
    train = table(rows).assign(split="train")
    for forget_id, n in itertools.product(range(20), (3, 6)):
        forget_set = forget_sets.clips(n, forget_id)
        contents = forget_sets.apart(train, forget_set, 6)
        assert len(contents) == n and contents == forget_sets.apart(
            train, forget_sets.clips(6, forget_id), 6
        )[:n]
        left = train[~train["hash"].isin(contents)]
        assert set(left["label"]) == set(train["label"])


def test_a_random_forget_set_that_empties_no_class_is_the_usual_one():
    from speechunlearn.dataset import splits

    train = table(product(4, 5, 6)).assign(split="train")
    tuned = splits.random_forget_set(train, 20, DEVELOPMENT)
    assert forget_sets.apart(train, forget_sets.clips(20, DEVELOPMENT), 20) == tuned
    for forget_id in range(5):
        usual = splits.random_forget_set(train, 20, forget_id, exclude=set(tuned))
        assert forget_sets.apart(train, forget_sets.clips(20, forget_id), 20) == usual


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("one", f"s{k}", "") for k in range(6)], "its clips have one label only, 'one': .* give"),
        ([(f"l{i}", "s0", "") for i in range(6)], "label 'l0' has one speaker only: .* add one"),
        (product(3, 2, 1), "its 3 training clips of 3 classes are too few: .* add more clips"),
        (given(2, {"train": 3, "test": 2}, 3), "its split leaves no validation clip: name one in"),
        (given(2, {"validation": 3, "test": 2}, 3), "its split leaves no training clip of 'l0'"),
    ],
)
def test_what_no_chapter_can_be_run_on_is_refused_with_the_file_and_what_to_do(rows, message):
    with pytest.raises(CorpusError, match=f"^/nowhere/clips.csv: {message}"):
        _ = run_of(rows).profile


def test_a_corpus_that_cannot_be_read_is_named_once():
    with pytest.raises(CorpusError) as refused:
        _ = context.start("smoke", "csv", "/nowhere/clips.csv").fit
    assert str(refused.value).count("/nowhere/clips.csv") == 1


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Eighteen clips of three voices as a CSV."""
    folder = tmp_path_factory.mktemp("voices")
    lines = ["path,label,speaker"]
    for k, (label, speaker, _) in enumerate(product(2, 3, 3)):
        write_clip(folder / f"{k}.wav", seed=k, seconds=0.12 + 0.4 * (k % 3))
        lines.append(f"{k}.wav,{label},{speaker}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


def test_chapters_are_planned_and_what_is_too_small_is_left_out(voices, tmp_path):
    assert context.chapters_for("csv") == context.chapters()
    chapters = [context.find_chapters(number)[-1] for number in ("1", "6", "7")]
    values = {"profile": "smoke", "corpus": "csv", "cache": str(tmp_path)}
    told: list[str] = []
    how = {"named": False, "on_progress": told.append}
    assert grid.supported(chapters, values | {"root": str(voices)}, **how) == chapters
    assert told == [] and not list(tmp_path.rglob("artefact.json"))
    few = voices.with_name("few.csv")
    few.write_text("".join(
        line for line in voices.read_text().splitlines(keepends=True) if "s02" not in line
    ))
    some = chapters[1:3]
    assert grid.supported(some, values | {"root": str(few)}, **how) == some[:1]
    (reason,) = told
    part, refused = "07_keyword_spotting_speaker", f"{few}: no speaker can be removed"
    assert reason.startswith(f"{part} is left out: {refused}")
    with pytest.raises(CorpusError, match=f"{part}: {refused}"):
        grid.supported(some[1:], values | {"root": str(few)}, named=True)


def test_a_chapter_runs_on_eighteen_clips_and_its_results_are_found(
    voices, tmp_path, monkeypatch, capsys
):
    # by papermill in a kernel of its own, as a run does it: nothing less shows that it ends
    values = {
        "profile": "smoke", "corpus": "csv", "root": str(voices), "cache": str(tmp_path / "cache"),
        "results": str(tmp_path / "results"),
    }
    context.run_chapter(str(context.find_chapters("ablation")[0]), values, str(tmp_path))
    notebook = nbformat.read(tmp_path / "06_ablation.ipynb", as_version=4)
    text = " ".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", ())
        if output.output_type == "stream"
    )
    assert "Fitted to this corpus (12 training clips" in " ".join(text.split())
    stored = nbformat.read(context.find_chapters("ablation")[0], as_version=4)
    assert [cell.source for cell in stored.cells] == [
        cell.source for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]

    def said(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["speechunlearn", *arguments, "--out", str(tmp_path)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out.splitlines()

    run = context.start("smoke", "csv", str(voices))
    corpus = named("csv", run.study().corpus_hash)
    assert (tmp_path / "results" / f"smoke-{corpus}" / "evaluations.csv").is_file()
    rows = [line.split() for line in said("results", "--corpus", "csv")[1:]]
    assert {tuple(row[:2]) for row in rows} == {("smoke", corpus)}
    folder = tmp_path / "results" / "leaderboard" / f"smoke-{corpus}-keyword"
    folder.mkdir(parents=True)
    shutil.copy(leaderboard.FOLDER / "cpu-ravdess" / "ranking.csv", folder)
    assert said("leaderboard", "csv")[0] == f"{folder.name}: {folder / 'ranking.csv'}"


def test_an_exercise_whose_answer_is_another_here_ends_no_chapter(tmp_path):
    chapter = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("corpus = ''", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("n = 1\nassert n > 1\nprint('More.')",
                                      metadata={"tags": ["solution"]}),
            nbformat.v4.new_code_cell("print(n)"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    nbformat.write(chapter, tmp_path / "99_tried.ipynb")
    values = {"corpus": "csv"}
    (tmp_path / "out").mkdir()
    context.run_chapter(str(tmp_path / "99_tried.ipynb"), values, str(tmp_path / "out"))
    *_, solution, last = nbformat.read(tmp_path / "out" / "99_tried.ipynb", as_version=4).cells
    assert solution.source.startswith("n = 1\nassert")
    assert solution.outputs[0].text.startswith("Not so on this corpus")
    assert last.outputs[0].text == "1\n"
    with pytest.raises(SpeechUnlearnError, match="99_tried failed in cell 3: AssertionError"):
        context.run_chapter(
            str(tmp_path / "99_tried.ipynb"), values | {"corpus": ""}, str(tmp_path / "out")
        )


@pytest.mark.parametrize("end", ["1", "1 / 0"])
def test_no_recording_of_another_corpus_is_in_what_a_run_leaves(end, tmp_path):
    """Artifacts of a workflow and pages are made from it."""
    heard = "from IPython.display import Audio, display\ndisplay(Audio([0.0, 0.5], rate=8000))"
    chapter = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("corpus = ''", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(heard, outputs=[nbformat.v4.new_output(
                "display_data", {"text/html": "<audio src='data:audio/wav'>"}
            )]),
            nbformat.v4.new_code_cell(end),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    nbformat.write(chapter, tmp_path / "99_heard.ipynb")
    for corpus in ("csv", ""):
        out = tmp_path / f"out {corpus}"
        out.mkdir()
        told = contextlib.nullcontext() if end == "1" else pytest.raises(SpeechUnlearnError)
        with told:
            context.run_chapter(str(tmp_path / "99_heard.ipynb"), {"corpus": corpus}, str(out))
        (left,) = out.iterdir()
        assert left.name == ("99_heard.ipynb" if end == "1" else "99_heard.failed.ipynb")
        assert ("data:audio" in left.read_text()) == (corpus == "")
        assert ("A recording, to be heard" in left.read_text()) == (corpus != "")
