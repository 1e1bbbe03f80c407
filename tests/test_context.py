"""Chapters and the command line: what is refused, and what comes out."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import tiny_study

from speechunlearn import corpora, methods
from speechunlearn.chapters import context, grid
from speechunlearn.cli import main
from speechunlearn.errors import ParameterError, SpeechUnlearnError
from speechunlearn.lab import committed_tables, leaderboard, profiles
from speechunlearn.lab.forget_sets import clips
from speechunlearn.lab.results import Results


@pytest.fixture
def chapter(tmp_path):
    """Make a notebook of given cells, the first tagged as parameters."""

    def make(*cells: str, name: str = "99_tried") -> Path:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(text) for text in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
        )
        notebook.cells[0].metadata["tags"] = ["parameters"]
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    return make


PARAMETERS = "n = 3  # clips\nrate = 0.5\nname = 'a'\ntaus = []\nfast = False"


def test_parameters_are_read_from_the_tagged_cell(chapter):
    assert context.parameters_of(chapter(PARAMETERS)) == {
        "n": 3, "rate": 0.5, "name": "a", "taus": [], "fast": False,
    }
    path = chapter(PARAMETERS)
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["metadata"] = {}
    path.write_text(json.dumps(notebook))
    with pytest.raises(ParameterError, match="99_tried.ipynb has no cell tagged 'parameters'"):
        context.parameters_of(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"m": 1}, "99_tried has no parameter 'm'; it has n, rate, name, taus, fast"),
        ({"n": "3"}, "parameter 'n' is '3'; it should be a valid integer"),
        ({"n": True}, "parameter 'n' is True; it should be a valid integer"),
        ({"n": 1.5}, "parameter 'n' is 1.5; it should be a valid integer"),
        ({"rate": "1e-3x"}, "parameter 'rate' is '1e-3x'"),
        ({"rate": False}, "parameter 'rate' is False"),
        ({"fast": 1}, "parameter 'fast' is 1; it should be a valid boolean"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(chapter, value, message):
    with pytest.raises(ParameterError, match=message):
        context.check_parameters(chapter(PARAMETERS), value)


def test_numbers_and_single_values_are_widened(chapter):
    values = {"rate": 1, "taus": 0.2, "n": 4}
    assert context.check_parameters(chapter(PARAMETERS), values) == {
        "rate": 1.0, "taus": [0.2], "n": 4,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 0.001), ("[0.1, 0.2]", [0.1, 0.2]), ("false", False), ("True", True),
     ("no", "no"), ("abc", "abc"), ("'3'", "3")],
)
def test_values_are_parsed_as_python_writes_them(text, value):
    parsed = context.parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_all_chapters_are_checked_before_the_first_starts(chapter, tmp_path):
    good = chapter("n = 3", f"open({str(tmp_path / 'ran')!r}, 'w')", name="01_good")
    bad = chapter("m = 3", name="02_bad")
    with pytest.raises(ParameterError, match="02_bad has no parameter 'n'"):
        grid.execute([good, bad], {"n": 4}, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_a_failing_cell_is_an_error_and_its_notebook_is_kept_apart(chapter, tmp_path):
    path = chapter("n = 3", "raise RuntimeError(f'n is {n}')", name="01_fails")
    with pytest.raises(SpeechUnlearnError, match="01_fails failed in cell 3: RuntimeError: n is 4"):
        grid.execute([path], {"n": 4}, tmp_path / "out", on_progress=lambda text: None)
    assert not (tmp_path / "out" / "01_fails.ipynb").exists()
    assert (tmp_path / "out" / "01_fails.failed.ipynb").exists()


def test_an_executed_chapter_has_the_parameters_and_reports_progress(chapter, tmp_path):
    path = chapter(
        "n = 3",
        "from speechunlearn.chapters import context\ncontext.report('work', 1, 2)\nprint(n * 2)",
        name="01_works",
    )
    said: list[str] = []
    (made,) = grid.execute([path], {"n": 4}, tmp_path / "out", on_progress=said.append)
    cells = nbformat.read(made, as_version=4).cells
    assert cells[-1].outputs[0].text == "8\n"
    assert len(cells[-1].outputs) == 1  # progress is no part of the page
    assert "  work: 1/2" in said


def test_chapters_are_found_by_number_and_name():
    assert [path.stem for path in context.find_chapters("4")] == ["04_adversarial_and_elastic"]
    assert context.find_chapters("04") == context.find_chapters("adversarial_and_elastic")
    assert len(context.find_chapters("7")) == 3
    assert len(context.find_chapters("keyword_spotting")) == 1
    with pytest.raises(ParameterError, match="chapter 'x' is none of 01_corpus"):
        context.find_chapters("x")


def test_every_chapter_has_the_common_parameters_and_starts_with_the_smoke_profile():
    numbers = list(dict.fromkeys(path.stem[:2] for path in context.chapters()))
    assert numbers == [f"{i:02d}" for i in range(1, len(numbers) + 1)] and len(numbers) >= 12
    for path in context.chapters():
        parameters = context.parameters_of(path)
        assert parameters["profile"] == "smoke"
        assert {"corpus", "root", "skip_bad", "cache", "results"} <= set(parameters)


def test_start_refuses_what_is_wrong_before_anything_is_read():
    with pytest.raises(ParameterError, match="profile: 'huge' is not one of smoke, cpu, paper"):
        context.start("huge")
    with pytest.raises(ParameterError, match="n_valuez"):
        context.start("smoke", n_valuez=[3])
    with pytest.raises(ParameterError, match="tau_values.0 is -1.0; it should be greater than 0"):
        context.start("smoke", tau_values=[-1.0])
    with pytest.raises(ParameterError, match="copies: -2 is not positive"):
        context.start("smoke", attack={"copies": -2})
    with pytest.raises(ValueError, match="unknown corpus 'iemocap'"):
        context.start("smoke", "iemocap")


def test_start_puts_the_parameters_into_the_profile(tmp_path):
    run = context.start(
        "smoke", n_values=[3], tau_values=[], runs=[[5, 6]], attack={"copies": 7, "steps": 0}
    )
    assert run.profile.n_values == (3,)
    assert run.profile.tau_values == profiles.get("smoke").tau_values
    assert run.profile.runs == ((5, 6),)
    assert run.profile.methods["adv"]["copies"] == 7
    assert run.profile.methods["adv"]["steps"] == profiles.get("smoke").methods["adv"]["steps"]


@pytest.mark.parametrize("taus", ["[0.2, 1]", [0.2, 1], (0.2, 1.0)])
def test_start_takes_lists_as_papermill_hands_them_over(taus):
    run = context.start("smoke", tau_values=taus, n_values="3", runs="[[5, 6]]")
    assert run.profile.tau_values == (0.2, 1.0) and run.profile.n_values == (3,)
    assert all(type(tau) is float for tau in run.profile.tau_values)  # 1 and 1.0 have one key
    assert run.profile.runs == ((5, 6),)
    assert context.start("smoke", tau_values=0.2).profile.tau_values == (0.2,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau_values": "[0.2"}, r"tau_values.0 is '\[0.2'; it should be a valid number"),
        ({"tau_values": ["0.2"]}, "tau_values.0 is '0.2'; it should be a valid number"),
        ({"n_values": [1.5]}, "n_values.0 is 1.5; it should be a valid integer"),
        ({"runs": [0, 1]}, "runs.0 is 0; it should be a valid tuple"),
    ],
)
def test_start_refuses_values_of_another_type(values, message):
    with pytest.raises(ParameterError, match=message):
        context.start("smoke", **values)


def test_the_paper_profile_has_the_papers_numbers():
    from speechunlearn.models import training

    paper = profiles.get("paper")
    assert paper.recipe == {"epochs": 20, "learning_rate": 3e-5, "batch_size": 16}
    recipe = training.Recipe(**paper.recipe)
    assert recipe.schedule == "constant" and recipe.weight_decay == 0
    assert paper.encoder == "facebook/wav2vec2-base" and paper.corpus == "demos"
    assert paper.n_values == (10, 30, 50, 100)
    assert paper.tau_values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    ours = methods.parameters("adv_ela", **paper.methods.get("adv_ela", {}))
    assert (ours.copies, ours.steps, ours.epochs, ours.learning_rate) == (20, 50, 15, 3e-5)
    assert (ours.lambda_mis, ours.lambda_adv, ours.lambda_ewc) == (0.1, 1.0, 1000.0)
    assert ours.importance == "fisher"


@pytest.fixture
def cli(monkeypatch, capsys):
    """The command line in this process: loading torch anew for each command takes seconds."""

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["speechunlearn", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return SimpleNamespace(
            returncode=ended.value.code or 0, stdout=said.out, stderr=said.err
        )

    return call


@pytest.mark.parametrize(
    ("arguments", "status", "stdout", "stderr"),
    [
        (["corpora"], 0, "embedded: Embedded corpus", ""),
        (["run", "99"], 2, "", "speechunlearn: chapter '99' is none of"),
    ],
)
def test_the_command_line_is_a_program(arguments, status, stdout, stderr):
    done = subprocess.run(
        [sys.executable, "-m", "speechunlearn.cli", *arguments], capture_output=True, text=True
    )
    assert done.returncode == status
    assert stdout in done.stdout and done.stderr.startswith(stderr)


def test_the_command_line_lists_corpora_with_licence_and_place(cli):
    done = cli("corpora")
    assert done.returncode == 0
    for text in ("demos: DEMoS", "licence: restricted", "to get it: request access", "embedded"):
        assert text in done.stdout


def test_the_command_line_writes_a_manifest(cli, demos_root, tmp_path):
    done = cli("manifest", "demos", "--root", str(demos_root), "--out", str(tmp_path / "m.csv"))
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "m.csv", dtype={"hash": str})
    assert len(table) == 42
    assert list(table.columns[:3]) == ["path", "speaker", "gender"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("manifest", "demos", "--root", "nowhere"), "nowhere"),
        (("manifest", "embedded", "--out", "no/such/folder/m.csv"), "'no/such/folder/m.csv'"),
        (("run", "99"), "chapter '99' is none of"),
        (("run", "1", "-p", "x=1"), "01_corpus has no parameter 'x'"),
        (("run", "6", "-p", "copies=many"), "parameter 'copies' is 'many'"),
        (("run", "1", "-p", "copies"), "-p 'copies' is not name=value"),
        (("run", "1", "--profile", "big"), "profile: 'big'"),
        (("run", "1", "--corpus", "ravdess"), "'ravdess' needs --root"),
        (("run", "1", "--corpus", "ravdess", "--root", "nowhere"), "root: 'nowhere' does not"),
        (("grid", "-C", "n=1"), "grid has no 'n'; it has profile"),
        (("grid", "nowhere.yaml"), "cannot read 'nowhere.yaml'"),
        (("results", "--format", "xml"), "format: 'xml'"),
        (("results", "--method", "magic"), "method: 'magic' is not in these results: "),
        (("leaderboard", "mars"), "corpus: 'mars' is in no leaderboard's name: "),
        (("rows", "pools/mars"), "no table 'pools/mars'; there is benchmarks/architectures, "),
        (("rows", "cpu-ravdess/ranking"), "no table 'cpu-ravdess/ranking'; there is leaderboard/"),
        (("rows", "benchmarks/requests", "a=b"), "benchmarks/requests has no column 'a'; it has "),
        (("rows", "benchmarks/requests", "kind"), "rows 'kind' is not name=value"),
        (("rows", "benchmarks/faults", "fault=x"), "fault: 'x' is not in benchmarks/faults: "),
        (("example", "x", "--references", "9"), "references: 9 is not from 0 to 8"),
        (("results", "--out", "nowhere"), "no results in 'nowhere/results'"),
    ],
)
def test_the_command_line_refuses_with_one_line_that_names_the_value(cli, arguments, message):
    done = cli(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_prints_a_runs_results(cli, demos_root, tmp_path):
    study = tiny_study.study(demos_root, tmp_path / "cache")
    cells = [study.evaluate(method, clips(2, 0), 0) for method in ("original", "retrain")]
    Results.of(cells).write(
        tmp_path / "results" / "smoke-demos"
    )
    done = cli("results", "--out", str(tmp_path), "--format", "csv")
    assert done.returncode == 0, done.stderr
    (tmp_path / "rows.csv").write_text(done.stdout)
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert set(rows["method"]) == {"original", "retrain"}
    assert {"uar", "mia_auc", "uar_distance"} <= set(rows["metric"])
    table = cli("results", "--out", str(tmp_path), "--format", "table").stdout
    assert "uar_distance" in table
    summary = cli("results", "--out", str(tmp_path), "--method", "retrain").stdout
    said = pd.read_csv(io.StringIO(summary), sep=r"\s+").set_index("split")
    assert set(said["method"]) == {"retrain"} and set(said["metric"]) == {"uar"}
    (uar,) = rows[
        (rows["method"] == "retrain") & (rows["split"] == "unseen") & (rows["metric"] == "uar")
    ]["value"]
    assert said.loc["unseen", "mean"] == pytest.approx(uar, abs=5e-4)
    assert said.loc["unseen", "count"] == 1


def test_the_command_line_lists_methods_and_leaderboards(cli):
    lines = cli("methods").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == sorted(methods.METHODS)
    assert "ran_lab: Ran. Lab.; data used: forget; learning_rate" in lines
    assert next(line for line in lines if line.startswith("sisa:")).endswith("not by `forget`")
    board = cli("leaderboard", "ravdess").stdout
    assert board.startswith("cpu-ravdess, ")
    table = pd.read_csv(io.StringIO(board.split("\n", 1)[1]), sep=r"\s{2,}|(?<=[a-z]) (?=[0-9])",
                        engine="python")
    assert len(table) == len(pd.read_csv(leaderboard.FOLDER / "cpu-ravdess" / "ranking.csv"))


def test_the_command_line_prints_rows_and_the_command_that_makes_them(cli):
    place = "pools/cpu-ravdess-nano-pretrained/scored"
    done = cli("rows", place, "method=delete", "set=clips 100 a")
    header, *lines = (leaderboard.FOLDER.parent / f"{place}.csv").read_text().splitlines()
    printed = done.stdout.splitlines()
    assert printed[0] == header
    assert printed[1:] == [line for line in lines if line.startswith("delete,clips 100 a,")]
    assert len(printed) == 9  # eight originals
    assert done.stderr == (
        "rows: 8; made by: python -m benchmarks.judged score "
        "data/pools/cpu-ravdess-nano-pretrained --root PATH\n"
    )
    assert cli("rows", f"{place}.csv", "method=delete").returncode == 0


def test_each_committed_table_has_a_command_of_a_script_that_is_there():
    root = leaderboard.FOLDER.parent.parent
    names = committed_tables.names()
    assert {name.split("/")[0] for name in names} >= {"benchmarks", "leaderboard", "pools",
                                                      "results", "tuning"}
    for name in names:
        words = committed_tables.command(name).split()
        assert not {"FOLDER", "NAME", "CORPUS"} & set(words)
        if words[0] == "python":
            assert (root / f"{words[2].replace('.', '/')}.py").is_file(), name
        else:
            assert words[:2] == ["speechunlearn", "run"]
            assert words[words.index("--corpus") + 1] in corpora.known()


def test_an_example_can_be_asked_to_forget(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("example", "try", "--references", "0")
    assert done.returncode == 0, done.stderr
    command = done.stderr.splitlines()[-1].split()
    monkeypatch.chdir("try")
    forgotten = cli(*command[1:], "-p", "steps=2")
    assert forgotten.returncode == 0 and forgotten.stdout.startswith("verdict: ")
    monkeypatch.chdir(tmp_path)
    again = cli("example", "try")
    assert again.returncode == 2 and "folder: 'try' is not empty" in again.stderr


def test_a_corpus_runs_the_chapters_of_its_tasks():
    def served(corpus):
        chosen = (path.stem[:2] for path in context.chapters_for(corpus) if path.stem < "13")
        return list(dict.fromkeys(chosen))

    assert served("ravdess") == ["01", "02", "03", "04", "05", "06", "12"]
    assert served("csv") == [f"{number:02d}" for number in range(1, 13)]
    assert served("arabic_speech_commands") == ["07", "08", "09", "10", "11"]
    assert served("voxceleb1") == ["08"]
    assert context.chapters_for("") == context.chapters()


def test_a_chapter_reads_the_corpus_of_its_task_and_no_other():
    (words,) = context.find_chapters("keyword_spotting")
    assert context.corpus_of(words, "smoke") == "embedded_keywords"
    assert context.corpus_of(words, "cpu") == "arabic_speech_commands"
    assert context.corpus_of(words, "cpu", "speech_commands_10") == "speech_commands_10"
    with pytest.raises(ParameterError, match="corpus 'ravdess' is of task 'emotion'"):
        context.corpus_of(words, "cpu", "ravdess")
    (board,) = context.find_chapters("leaderboard")
    assert context.corpus_of(board, "cpu", "ravdess", "emotion") == "ravdess"
    assert context.corpus_of(board, "smoke", "", "emotion") == "embedded"


def test_no_chapter_begins_after_one_has_failed(chapter, tmp_path):
    bad = chapter("n = 3", "raise RuntimeError('no')", name="01_fails")
    next_ = chapter("n = 3", f"open({str(tmp_path / 'ran')!r}, 'w')", name="02_next")
    said = []
    with pytest.raises(SpeechUnlearnError, match="01_fails failed"):
        grid.execute([bad, next_], {"n": 4}, tmp_path / "out", on_progress=said.append)
    assert not (tmp_path / "ran").exists() and said == ["01_fails …"]


def test_chapters_can_run_side_by_side(chapter, tmp_path):
    # each waits for the other: one at a time they would never end
    code = """
import pathlib, time
here = pathlib.Path({folder!r})
(here / f"{{n}}").touch()
deadline = time.time() + 60
while len(list(here.glob("?"))) < 2:
    assert time.time() < deadline
    time.sleep(0.1)
"""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    both = [
        chapter(f"n = {i}", code.format(folder=str(meeting)), name=f"0{i}_meets") for i in (1, 2)
    ]
    made = grid.execute(both, {}, tmp_path / "out", jobs=2, on_progress=lambda text: None)
    assert [path.stem for path in made] == ["01_meets", "02_meets"]
    with pytest.raises(ParameterError, match="jobs: 0"):
        grid.execute(both, {}, tmp_path / "out", jobs=0)
