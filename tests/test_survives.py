"""Whatever befalls what is kept, the work ends as if nothing had, or says in words what is damaged.

A few trials of each kind; ``benchmarks/faults.py`` makes hundreds.
"""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import forked
import pytest
import torch
import yaml
from checkpoint import clips, write
from filelock import Timeout
from typer.testing import CliRunner

from benchmarks import faults
from speechunlearn import cli
from speechunlearn.chapters import workflow
from speechunlearn.corpora import base, ravdess
from speechunlearn.errors import LackError
from speechunlearn.files import alone, clear
from speechunlearn.tool import forget, output_folder, reports
from speechunlearn.tool import ledger as ledgers
from speechunlearn.tool.checkpoints import WaveformClassifier

ROOT = Path(__file__).resolve().parent.parent
CALL = {"method": "ran_lab", "parameters": {"epochs": 3, "learning_rate": 1e-3}}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    write(tmp_path / "model")
    for seed, name in enumerate(("forget", "second", "third", "retain")):
        clips(tmp_path, name, 4, seed)
    return tmp_path


def _ledger(desk: Path, *rows: str) -> Path:
    (desk / "ledger.csv").write_text("\n".join(["id,forget,retain,method", *rows]) + "\n")
    return desk / "ledger.csv"


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("artefact", 2), ("results", 1), ("download", 1), ("audit", 1),
        *(pytest.param(one, 2, marks=pytest.mark.slow) for one in ("training", "forget", "ledger")),
    ],
)  # fmt: skip
def test_killed_cut_damaged_or_raced_it_ends_as_it_would_have(
    tmp_path: Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = {"kill": count, "bit": count, "cut": 2 * count, "race": count}
    with faults.kinds(tmp_path / "desk") as kinds:
        came = list(faults.trials({kind: kinds[kind]}, tmp_path, asked, random.Random(0)))
    assert len(came) == sum(asked.values())
    for fault, _, outcome, said in came:
        # a bit of what is published, and of what no other copy is kept, is told
        allowed = faults.OUTCOMES[: 2 if fault == "bit" else 1]
        assert outcome in allowed, (fault, outcome, said)


def test_a_power_cut_takes_what_was_not_synchronised(tmp_path: Path) -> None:
    """The simulation finds a writer that does not wait for the disk."""

    def careless(folder: Path) -> None:
        (folder / "partial").write_bytes(b"whole" * 100)
        os.replace(folder / "partial", folder / "place")

    left = set()
    for seed in range(12):
        folder = tmp_path / f"{seed}"
        faults.cut(careless, folder, 0, seed)
        left.add(len((folder / "place").read_bytes()) if (folder / "place").exists() else -1)
    assert left == {-1, 0, 250, 500}


def test_who_waits_for_a_folder_gets_it_although_it_was_removed(tmp_path: Path) -> None:
    folder, order = tmp_path / "work", []

    def second() -> None:
        with alone(folder):
            order.append(sorted(path.name for path in folder.iterdir()))

    with alone(folder):
        (folder / "kept").write_text("x")
        with pytest.raises(Timeout), alone(folder, timeout=0.0):
            pass
        waiting = threading.Thread(target=second)
        waiting.start()
        clear(folder)
        order.append("cleared")
    waiting.join(10)
    assert order == ["cleared", [".lock"]] and not folder.exists()


def _killed_when_published(desk: Path, moved: int) -> None:
    """Kill a request once its record and so many files are in their place."""

    def stopped() -> None:
        settle, counted = output_folder.settle, iter(range(moved + 3))

        def settling(written: Path, place: Path) -> None:
            if next(counted) > moved + 1:  # the first is of all files together
                os.kill(os.getpid(), signal.SIGKILL)
            settle(written, place)

        output_folder.settle = settling
        forget(desk / "model", desk / "forget.csv", desk / "out", **CALL)

    assert forked.status(forked.start(stopped)) == -signal.SIGKILL
    assert len(list((desk / "out").iterdir())) == 1 + moved and (desk / "out.record.json").exists()


def test_what_was_being_published_is_given_up_for_another_request(desk: Path) -> None:
    _killed_when_published(desk, 2)
    with pytest.raises(output_folder.OutputError, match="the record of another request"):
        forget(desk / "model", desk / "second.csv", desk / "out", **CALL)
    output_folder.give_up(desk / "out")
    assert list((desk / "out").iterdir()) == [] and not (desk / "out.record.json").exists()
    assert forget(desk / "model", desk / "second.csv", desk / "out", **CALL).report


@pytest.mark.parametrize(
    ("moved", "damaged"), [(1, "out/.unfinished/made/report.json"), (3, "out.record.json")]
)
def test_what_is_damaged_while_it_is_published_is_no_end(
    desk: Path, moved: int, damaged: str
) -> None:
    whole = forget(desk / "model", desk / "forget.csv", desk / "whole", **CALL)
    _killed_when_published(desk, moved)
    (desk / damaged).write_bytes((desk / damaged).read_bytes()[:-3])
    done = forget(desk / "model", desk / "forget.csv", desk / "out", **CALL)
    name = "model.safetensors"
    assert done.report["outputs"][name] == whole.report["outputs"][name]
    assert not (desk / "out" / ".unfinished").exists()


def test_no_number_of_a_published_report_is_believed_that_was_not_written(desk: Path) -> None:
    forget(desk / "model", desk / "forget.csv", desk / "out", **CALL)
    report = desk / "out" / "report.json"
    whole = json.loads(report.read_text())
    whole["scores"]["after"]["forget"]["uar"] = 0.125
    report.write_text(json.dumps(whole, indent=2, sort_keys=True))
    with pytest.raises(output_folder.OutputError, match="not what was written; .* another folder"):
        forget(desk / "model", desk / "forget.csv", desk / "out", **CALL)


class TestLedger:
    def test_it_goes_on_from_a_checkpoint_that_is_what_was_written_alone(self, desk: Path) -> None:
        rows = ["a,forget.csv,,ran_lab", "b,second.csv,,ran_lab"]
        ledgers.run(desk / "model", _ledger(desk, *rows), desk / "out")
        # nothing of the older ones is needed: neither lists nor recordings nor weights
        for name in ("forget", "second"):
            shutil.rmtree(desk / name)
            (desk / f"{name}.csv").unlink()
        (desk / "out" / "a" / "model.safetensors").unlink()
        rows.append("c,third.csv,,ran_lab")
        told: list[str] = []
        table = ledgers.run(
            desk / "model", _ledger(desk, *rows), desk / "out", on_progress=told.append
        )
        assert list(table["status"]) == ["done"] * 3
        assert told[:3] == [
            "a: done already", "b: done already", f"c: on {desk / 'out' / 'b'}"
        ]
        newest = desk / "out" / "c" / "model.safetensors"
        content = bytearray(newest.read_bytes())
        content[-100] ^= 1
        newest.write_bytes(content)
        with pytest.raises(output_folder.OutputError, match="c/model.safetensors is not what"):
            ledgers.run(desk / "model", _ledger(desk, *rows), desk / "out")

    def test_what_a_request_reads_does_not_grow_with_those_before(
        self, desk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts: list[int] = []
        opened = Path.open

        def counting(path: Path, *more: object, **named: object) -> object:
            if counts and path.is_relative_to(desk / "out"):
                counts[-1] += 1
            return opened(path, *more, **named)

        def told(text: str) -> None:
            if ": on " in text:
                counts.append(0)

        monkeypatch.setattr(Path, "open", counting)
        clips(desk, "fourth", 4, 9)
        sets = ("forget", "second", "third", "fourth")
        rows = [f"{name},{name}.csv,retain.csv,ran_lab" for name in sets]
        ledgers.run(desk / "model", _ledger(desk, *rows), desk / "out", on_progress=told)
        # the first has no record to read, the last is before none
        assert len(counts) == 4 and counts[1] == counts[2] > counts[3] > 0

    def test_lack_of_memory_or_disk_is_no_failed_request(
        self, desk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = _ledger(desk, "a,forget.csv,,ran_lab")
        said = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"

        answered = WaveformClassifier.logits

        def lacking(model: WaveformClassifier, *batch: torch.Tensor) -> torch.Tensor:
            if model.training:
                raise RuntimeError(said)
            return answered(model, *batch)

        with monkeypatch.context() as patched:
            patched.setattr(WaveformClassifier, "logits", lacking)
            with pytest.raises(LackError, match="out of memory: run it again when there is more"):
                ledgers.run(desk / "model", file, desk / "out")
        assert not json.loads((desk / "out" / "ledger.json").read_text())["failed"]

        def full(*given: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(output_folder, "settle", full)
            with pytest.raises(output_folder.OutputError, match="cannot write to .*No space left"):
                ledgers.run(desk / "model", file, desk / "out")
        assert not json.loads((desk / "out" / "ledger.json").read_text())["failed"]
        assert list(ledgers.run(desk / "model", file, desk / "out")["status"]) == ["done"]


def test_a_model_card_does_not_grow_with_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "page", lambda report: "")
    monkeypatch.setattr(reports, "section", lambda report: f"## Unlearning\n\n{report['n']:03d}\n")
    card, sizes = "# A model\n\nof mine\n", []
    for n in range(15):
        reports.write({"kind": "forget", "n": n}, tmp_path, card)
        card = (tmp_path / "README.md").read_text()
        sizes.append(len(card))
    assert card.startswith("# A model\n\nof mine\n\nOf earlier requests") and "\n014\n" in card
    assert card.count("## Unlearning") == 10 and card.count("Of earlier requests") == 1
    assert len(set(sizes[10:])) == 1


class TestManifest:
    def test_a_full_disk_leaves_the_one_of_before(self, tmp_path: Path) -> None:
        out = tmp_path / "m.csv"
        asked = ["manifest", "embedded", "--out", str(out)]
        CliRunner().invoke(cli.app, asked, catch_exceptions=False)
        before = out.read_bytes()
        assert len(before.splitlines()) > 100

        def full() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before)))
            result = CliRunner().invoke(cli.app, asked)
            assert "out: cannot write to" in str(result.exception)

        assert forked.status(forked.start(full)) == 0
        assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]

    def test_what_is_no_file_is_refused_before_reading(self, tmp_path: Path) -> None:
        for out in (tmp_path, Path("/dev/full"), tmp_path / "nowhere" / "m.csv"):
            result = CliRunner().invoke(cli.app, ["manifest", "embedded", "--out", str(out)])
            assert str(result.exception).startswith("out: ")


def test_links_in_circles_are_read_once(tmp_path: Path) -> None:
    actors = [tmp_path / f"Actor_{i:02d}" for i in range(1, 9)]
    for i, folder in enumerate(actors, start=1):
        folder.mkdir()
        (folder / f"03-01-01-01-01-01-{i:02d}.wav").write_bytes(b"")
    for folder in actors:
        (folder / "up").symlink_to(tmp_path)
        for other in actors:
            (folder / f"to-{other.name}").symlink_to(other)
    found, bad = base.read_folder(tmp_path, ravdess.parse)
    assert sorted(clip.path for clip in found) == sorted(tmp_path.glob("Actor_*/*.wav"))
    assert bad == []


@pytest.mark.parametrize("given", ["environment", "command line"])
def test_a_path_that_is_given_to_make_runs_no_command(tmp_path: Path, given: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.ready"):
        (tmp_path / name).touch()
    for name in ("speechunlearn", "python"):
        command = tmp_path / ".venv" / "bin" / name
        command.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
        command.chmod(0o755)
    hostile = {
        "ROOT": "$(shell touch pwned)/a$b #1", "OUT": "`touch pwned`'\"; touch pwned #",
        "CORPUS": "$(touch pwned)", "NOTEBOOKS": "$(shell touch pwned)\"; touch pwned; a b",
    }
    asked = [f"{name}={value}" for name, value in hostile.items()] if given != "environment" else []
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "PROFILE")}
    for target in ("run", "html"):
        done = subprocess.run(
            ["make", "-s", target, *asked], cwd=tmp_path, capture_output=True, text=True,
            env=environment | (hostile if not asked else {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for name, value in hostile.items():
            assert (f"[{value}]" in done.stdout) == ((name == "NOTEBOOKS") == (target == "html"))
    assert not (tmp_path / "pwned").exists()


def test_no_path_is_read_as_yaml_by_snakemake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ``/runs #1/plan.json`` its command line would take what is before the comment."""
    commands: list[list[str]] = []

    def stopped(command: list[str], **more: object) -> None:
        commands.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", stopped)
    plan = workflow.Plan(str(tmp_path), jobs={"models/abc": {}})
    out = tmp_path / "runs #1: $b"
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(plan, out)
    (command,) = commands
    name, _, file = command[command.index("--config") + 1].partition("=")
    assert name == "plan" and yaml.safe_load(file) == file
    assert command[command.index("--directory") + 1] == str(out / ".workflow")
    assert (out / ".workflow" / file).is_file()
