"""``speechunlearn cost``: what a request will take, and what is refused."""

import sys

import pytest
import tiny
from conftest import write_clip

from speechunlearn import tool
from speechunlearn.cli import main
from speechunlearn.errors import SpeechUnlearnError
from speechunlearn.methods import planner
from speechunlearn.tool import unlearning


@pytest.fixture(scope="module")
def request_files(tmp_path_factory):
    """A checkpoint, clips to forget and retained clips."""
    folder = tmp_path_factory.mktemp("request")
    tiny.wav2vec2().save(folder / "model", {})
    for name, count, first in (("forget", 5, 0), ("retain", 7, 50)):
        lines = ["path,label,speaker"]
        for i in range(count):
            clip = write_clip(folder / name / f"{i}.wav", seed=first + i, seconds=0.2 + 0.02 * i)
            lines.append(f"{name}/{clip.name},class {i % 3},speaker {i % 2}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def plan(folder, **given):
    retained = given.pop("retained", False)
    values = {"budget": 0.3, "retain": folder / "retain.csv" if retained else None} | given
    return tool.forecast(folder / "model", folder / "forget.csv", **values)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("method", "retained", "parameters"),
    [
        ("ran_lab", False, {"epochs": 2}),
        ("adv_ela", False, {"epochs": 2, "copies": 3, "steps": 2, "batch_size": 4}),
        ("perturbed", False, {"epochs": 1}),
        ("amun", False, {"epochs": 2, "steps": 3, "batch_size": 4, "bound": 0.05}),
        ("bad_teacher", True, {"epochs": 1}),
        ("ssd", True, {}),
        ("remain", True, {"epochs": 2, "batch_size": 3}),
        ("scrub", True, {"epochs": 2, "batch_size": 3, "max_epochs": 1}),
    ],
)
def test_the_passes_are_those_of_the_report(
    request_files, tmp_path, method, retained, parameters, fast
):
    said = plan(
        request_files, method=method, parameters=parameters, retained=retained, seed=3,
        fast=fast, budget=20.0,  # enough to search all clips
    )
    done = tool.forget(
        request_files / "model", request_files / "forget.csv", tmp_path / "out",
        retain=request_files / "retain.csv" if retained else None, method=method,
        parameters=parameters, seed=3, fast=fast,
    )
    assert said.fast is fast
    cost = done.report["cost"]
    total = said.unlearning.total
    assert (total.forward, total.forward_backward) == (cost["forward"], cost["forward_backward"])
    assert 0 < total.low <= total.seconds * 1.5 and total.seconds <= total.high * 1.5
    assert 0.5 < said.unlearning.peak_memory_mb / cost["peak_memory_mb"] < 2
    assert said.clips["forget"] == 5
    assert (said.retraining is None) is (said.ratio is None) is not retained
    if retained:  # the recipe's number of epochs on the seven retained clips
        assert said.retraining.total.forward_backward == 20 * 7


def test_without_a_method_the_recommended_one_is_planned(request_files):
    said = plan(request_files, retained=True, retrain_epochs=4)
    assert said.method == tool.defaults.choose({"forget", "retain"}).method
    assert said.retraining.total.forward_backward == 4 * 7
    assert said.ratio == said.unlearning.total.seconds / said.retraining.total.seconds
    text = said.summary()
    for words in ("in all", "peak memory", "Retraining", "calibrated in"):
        assert words in text


@pytest.mark.parametrize("epochs", [1, 10_000])
def test_where_retraining_is_cheaper_it_comes_first(request_files, epochs):
    said = plan(
        request_files, retained=True, method="ran_lab", parameters={"epochs": 100},
        retrain_epochs=epochs,
    )
    first = said.summary().splitlines()[0]
    assert first.startswith("retraining is the answer") is (epochs == 1)


def test_the_report_says_that_retraining_would_have_been_cheaper():
    spent = {"forward_backward": 130, "forward": 30}  # as much as 20 epochs of 7 clips
    (note,) = unlearning.dearer_than_retraining(spent, 7)
    assert note.startswith("retraining would have been the answer: 20 epochs on the 7 ")
    assert "100%" in note
    assert unlearning.dearer_than_retraining(spent | {"forward": 29}, 7) == []
    assert unlearning.dearer_than_retraining(spent, 0) == []


def test_estimated_passes_are_said_to_be(request_files, monkeypatch):
    own = {"epochs": 1, "steps": 1, "doublings": 1}
    every = plan(request_files, method="amun", parameters=own, budget=20.0)
    assert every.unlearning.searched == 5 and "estimated" not in every.summary()
    monkeypatch.setattr(planner, "_SEARCHED", (2, 3))
    some = plan(request_files, method="amun", parameters=own, budget=20.0)
    assert some.unlearning.searched == 3
    assert "passes are estimated" in some.summary() and "3 of 5 clips" in some.summary()


def test_a_calibration_keeps_to_its_budget(request_files):
    said = plan(request_files, method="ran_lab", budget=2.0)
    assert said.unlearning.calibration_seconds < 30


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "sisa", "retained": True}, "method: 'sisa' trains anew"),
        (
            {"method": "scrub", "retained": True, "parameters": {"rewind": True}},
            "rewind: it needs the validation set",
        ),
        ({"method": "nothing"}, "method: 'nothing' is not one of"),
        ({"method": "scrub"}, "method: 'scrub' needs the retain clips"),
        ({"method": "ran_lab", "parameters": {"tau": 1}}, "'ran_lab' has no 'tau'"),
        ({"method": "ran_lab", "parameters": {"epochs": 0}}, "epochs: 0"),
        ({"seed": -1}, "seed: -1 is not from 0 to 4294967295"),
        ({"seed": 2**32}, "seed: 4294967296 is not from 0"),
        ({"budget": 0.0}, "budget: 0.0 is not positive"),
        ({"retrain_epochs": 3}, "retrain_epochs: it needs the retain clips"),
        ({"retrain_epochs": 0, "retained": True}, "retrain_epochs: 0 is not positive"),
        ({"retain": "nowhere.csv"}, "nowhere.csv: no such CSV file"),
    ],
)
def test_what_cannot_be_used_is_refused(request_files, given, message):
    with pytest.raises(SpeechUnlearnError, match=message):
        plan(request_files, **given)


def call(monkeypatch, capsys, *arguments: str):
    monkeypatch.setattr(sys, "argv", ["speechunlearn", "cost", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, capsys.readouterr()


def test_the_command_prints_the_plan(request_files, monkeypatch, capsys):
    folder = request_files
    code, said = call(
        monkeypatch, capsys, "--model", str(folder / "model"), "--forget",
        str(folder / "forget.csv"), "--method", "ran_lab", "-p", "epochs=3", "--budget", "0.3",
    )
    assert code == 0 and "Ran. Lab.: 5 forget clips" in said.out and "in all" in said.out
    code, said = call(
        monkeypatch, capsys, "--model", str(folder / "model"), "--forget",
        str(folder / "forget.csv"), "--method", "ran_lab", "--budget", "0.3", "--fast",
    )
    assert code == 0 and "Ran. Lab., fast: 5 forget clips" in said.out
    code, said = call(
        monkeypatch, capsys, "--model", str(folder), "--forget", str(folder / "forget.csv")
    )
    assert code == 2 and said.err.startswith("speechunlearn: model ")
