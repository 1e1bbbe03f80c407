"""Artefacts: found by what they were made from, never trusted half-written."""

import ast
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_study
import torch

from speechunlearn import cache as cache_module
from speechunlearn import provenance
from speechunlearn.cache import Cache, code_hash
from speechunlearn.chapters.grid import Recorder
from speechunlearn.chapters.workflow import Plan
from speechunlearn.errors import ParameterError
from speechunlearn.lab.forget_sets import clips
from speechunlearn.lab.study import Study
from speechunlearn.provenance import PLANNED

SET_BY_THE_PROFILE = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")


def writer(text: str, calls: list[str]):
    def make(folder: Path, resume: Path) -> None:
        calls.append(text)
        (folder / "value.txt").write_text(text)

    return make


def test_an_artefact_is_made_once_for_one_specification(tmp_path):
    calls: list[str] = []
    cache = Cache(tmp_path)
    first = cache.find_or_make("kind", {"seed": 0}, writer("a", calls))
    again = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("b", calls))
    other = cache.find_or_make("kind", {"seed": 1}, writer("c", calls))
    assert first == again != other
    assert calls == ["a", "c"]
    assert (again / "value.txt").read_text() == "a"
    assert json.loads((first / "artefact.json").read_text())["specification"] == {"seed": 0}


def test_a_damaged_file_is_noticed_and_made_again(tmp_path):
    calls: list[str] = []
    folder = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", calls))
    (folder / "value.txt").write_text("goof")
    found = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", calls))
    assert calls == ["good", "good"]
    assert (found / "value.txt").read_text() == "good"


def _damages(folder: Path):
    """Yield what a power cut, a bad disk or a person does to an artefact, by name."""
    record, value = folder / "artefact.json", folder / "value.txt"
    text = record.read_text()

    def folder_for(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def file_for_all() -> None:
        shutil.rmtree(folder)
        folder.write_text("x")

    yield "value gone", value.unlink
    yield "value a folder", lambda: folder_for(value)
    yield "one more file", lambda: (folder / "more.txt").write_text("x")
    yield "record empty", lambda: record.write_text("")
    yield "record cut", lambda: record.write_text(text[: len(text) // 2])
    yield "record zeros", lambda: record.write_bytes(bytes(len(text)))
    yield "record not UTF-8", lambda: record.write_bytes(text.encode()[:-5] + b"\xff\xfe")
    yield "record a list", lambda: record.write_text("[]")
    yield "record of no files", lambda: record.write_text(
        json.dumps({"files": {}, "specification": {"seed": 0}})
    )
    yield "record of other work", lambda: record.write_text(text.replace('"seed": 0', '"seed": 7'))
    yield "record a folder", lambda: folder_for(record)
    yield "a file in its place", file_for_all


@pytest.mark.parametrize("number", range(12))
def test_whatever_is_damaged_is_made_again(tmp_path, number, caplog):
    folder = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", []))
    name, damage = list(_damages(folder))[number]
    damage()
    again = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("again", []))
    assert (again / "value.txt").read_text() == "again", name
    assert "is damaged, and is made again" in caplog.text
    left = {path.name for path in (tmp_path / "kind").iterdir()}
    assert left == {folder.name, f"{folder.name}.lock"}


def test_no_bit_of_an_artefact_can_turn_unnoticed(tmp_path):
    folder = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", []))
    for path in (folder / "artefact.json", folder / "value.txt"):
        content = path.read_bytes()
        for position in range(0, len(content), 3):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            there = Cache(tmp_path).find("kind", {"seed": 0})
            # blanks between the names of a record are no part of it
            same = path.suffix == ".json" and _json(flipped) == _json(content)
            assert (there is None) is not same, (path.name, position)
        path.write_bytes(content)


def _json(content: bytes | bytearray):
    try:
        return json.loads(content)
    except ValueError:
        return None


def _meets(root: str, barrier, answers) -> None:
    barrier.wait()
    made = Cache(root).find_or_make("kind", {"seed": 0}, writer("made again", []))
    answers.put((made / "value.txt").read_text())


def test_processes_that_meet_at_a_damaged_artefact_leave_each_other_s_work(tmp_path):
    folder = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", []))
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        (folder / "value.txt").write_text("bad")
        barrier, answers = context.Barrier(4), context.Queue()
        processes = [
            context.Process(target=_meets, args=(str(tmp_path), barrier, answers)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        assert [answers.get(timeout=60) for _ in processes] == ["made again"] * 4
        for process in processes:
            process.join()


def test_a_reader_removes_nothing(tmp_path):
    """It may be late: what it read as damaged, another process has made again meanwhile."""
    folder = Cache(tmp_path).find_or_make("kind", {"seed": 0}, writer("good", []))
    (folder / "value.txt").write_text("bad")
    assert Cache(tmp_path).find("kind", {"seed": 0}) is None
    assert (folder / "value.txt").read_text() == "bad"
    cache = Cache(tmp_path)
    assert cache.find_or_make("kind", {"seed": 0}, writer("again", [])) == folder
    shutil.rmtree(folder)
    assert cache.find("kind", {"seed": 0}) is None  # trusted before, and gone


def test_a_failure_leaves_nothing_behind(tmp_path):
    def make(folder: Path, resume: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("stopped")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError, match="stopped"):
        cache.find_or_make("kind", {"seed": 0}, make)
    assert cache.find("kind", {"seed": 0}) is None
    assert not [p for p in (tmp_path / "kind").iterdir() if p.is_dir()]


def _make_slowly(root: str) -> None:
    def make(folder: Path, resume: Path) -> None:
        resume.write_text("half way")
        (folder / "half.txt").write_text("half")
        Path(root, "started").touch()
        time.sleep(60)

    Cache(root).find_or_make("kind", {"seed": 0}, make)


def test_a_killed_process_leaves_no_artefact_and_its_state_is_handed_on(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_make_slowly, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    cache = Cache(tmp_path)
    assert cache.find("kind", {"seed": 0}) is None
    seen = []

    def make(folder: Path, resume: Path) -> None:
        seen.append(resume.read_text())
        (folder / "value.txt").write_text("whole")

    folder = cache.find_or_make("kind", {"seed": 0}, make)
    assert seen == ["half way"]
    assert sorted(p.name for p in folder.iterdir()) == ["artefact.json", "value.txt"]
    # neither the killed process's folder nor its state is left
    left = {p.name for p in (tmp_path / "kind").iterdir()}
    assert left == {folder.name, f"{folder.name}.lock"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"cache: cannot write to '.*file'"):
        Cache(tmp_path / "file").find_or_make("kind", {}, writer("a", []))


def forget_what_was_read():
    for function in (code_hash, cache_module._imports, cache_module._stripped):
        function.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own, so that the tests can change its code."""
    (tmp_path / "speechunlearn").mkdir()
    for name, text in {
        "__init__": "",
        "left": "def f():\n    return 1\n",
        "right": "from speechunlearn.left import f\n\ndef g():\n    return f()\n",
        "aside": "x = 1\n",
    }.items():
        (tmp_path / "speechunlearn" / f"{name}.py").write_text(text)
    monkeypatch.setattr(cache_module, "REPOSITORY", tmp_path)

    def hash_after(name: str, text: str) -> str:
        (tmp_path / "speechunlearn" / f"{name}.py").write_text(text)
        forget_what_was_read()
        return code_hash("speechunlearn.right")

    forget_what_was_read()
    yield hash_after
    forget_what_was_read()


def test_code_counts_where_it_is_used_and_its_explanation_does_not(package):
    before = code_hash("speechunlearn.right")
    # a comment, a docstring, layout, a module that is not imported
    assert package("left", '# why\ndef f():\n    """One."""\n    return (1)\n') == before
    assert package("aside", "x = 2\n") == before
    assert package("left", "def f():\n    return 2\n") != before


COMPUTING = """
import torch
from speechunlearn import provenance
from speechunlearn.lab import profiles
profiles.prepare_process(profiles.get("smoke"))
print(provenance.computing())
"""


def computing(**environment: str) -> dict:
    """Return what a new process computes with that has torch before it chooses a profile."""
    clean = {k: v for k, v in os.environ.items() if k not in (*SET_BY_THE_PROFILE, PLANNED)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPUTING],
        env=clean | environment, capture_output=True, text=True, check=True,
    )
    return ast.literal_eval(done.stdout)


@pytest.mark.skipif(not torch.cpu._is_avx2_supported(), reason="no other instruction set here")
def test_the_profile_sets_instructions_although_torch_is_there_and_the_key_names_them():
    usual = {
        "instructions": "AVX2, MKL_CBWR=COMPATIBLE, ONEDNN_MAX_CPU_ISA=AVX2", "threads": 1,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    assert computing() == usual
    other = usual["instructions"].replace("AVX2", "DEFAULT", 1)
    assert computing(ATEN_CPU_CAPABILITY="default") == usual | {"instructions": other}


def test_a_job_names_instructions_and_device_of_where_it_was_planned(monkeypatch):
    plan = Plan("cache")
    there = {"instructions": "of another", "device": "cuda", "threads": 64}
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "computing", lambda: there)
        Recorder(plan).finish()
    monkeypatch.setenv(PLANNED, json.dumps(plan.computing))
    assert provenance.computing() == {
        "instructions": "of another", "device": "cuda", "threads": torch.get_num_threads(),
    }


@pytest.mark.parametrize(
    "other", [{"instructions": "of another"}, {"device": "cuda"}, {"threads": 64}]
)
def test_what_is_trained_otherwise_has_another_key(demos_root, tmp_path, monkeypatch, other):
    def keys() -> list[str]:
        store = Recorder(Plan(str(tmp_path)))
        Study(tiny_study.profile(), "demos", demos_root, cache=store).evaluate(
            "adv_ela", clips(2, 0), 0
        )
        return list(store.plan.jobs)

    here, usual = provenance.computing(), keys()
    assert len(usual) >= 3 and keys() == usual
    monkeypatch.setattr(provenance, "computing", lambda: here | other)
    assert not {*keys()} & {*usual}


def test_of_a_method_what_it_runs_counts(package):
    line = (
        'METHOD = Method("a", "A", {"forget"}, Parameters, run, hyperparameter="rate", '
        "tried=(1, 2))\n"
    )
    before = package("left", f"def f():\n    return 1\n\n\n{line}")
    for old, new in (("(1, 2)", "(3,)"), ('"A"', '"B"'), ('"rate"', '"epochs"')):
        assert package("left", f"def f():\n    return 1\n\n\n{line.replace(old, new)}") == before
    for old, new in ((" run,", " other,"), ("Parameters", "Others")):
        assert package("left", f"def f():\n    return 1\n\n\n{line.replace(old, new)}") != before


def test_a_method_of_another_package_counts_with_its_own_modules(package, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    for name, text in {
        "__init__": "", "method": "from . import tools\nfrom speechunlearn.left import f\n",
        "tools": "x = 1\n",
    }.items():
        (tmp_path / "elsewhere" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def hashed() -> str:
        forget_what_was_read()
        return code_hash("elsewhere.method")

    before = hashed()
    package("left", "def f():\n    return 3\n")
    between = hashed()
    (tmp_path / "elsewhere" / "tools.py").write_text("x = 2\n")
    assert len({before, between, hashed()}) == 3
