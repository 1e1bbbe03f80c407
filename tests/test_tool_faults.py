"""Whatever goes wrong: the model is untouched, nothing half-written is trusted, all is said."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint import clips, write
from safetensors.torch import load_file

from speechunlearn import cli
from speechunlearn.corpora.base import content_hash, decode
from speechunlearn.dataset.audio import normalise
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.files import kept
from speechunlearn.tool import audit, forget, output_folder
from speechunlearn.tool import ledger as ledgers

HERE = Path(__file__).parent
FAST = {"epochs": 3, "learning_rate": 1e-3}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A checkpoint and two sets of clips."""
    write(tmp_path / "model")
    for seed, (name, n) in enumerate((("forget", 6), ("retain", 6))):
        clips(tmp_path, name, n, seed)
    return tmp_path


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_at_the_same_checkpoint(desk: Path) -> None:
    """Between any two items of its work, too: see ``test_loop.py``. Here whole processes die."""
    kills, before = 6, _contents(desk / "model")
    done = subprocess.run(
        [
            sys.executable, HERE / "killed.py", desk / "model", desk / "forget.csv", desk,
            str(kills), "0",
        ],
        capture_output=True, text=True, timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["equal"] == [True] * (1 + kills)
    assert all(seen["trusted"])
    # the kills fell where work was under way, not only before or after it
    assert len({"attacking", "descending", "unlearned", "nothing kept"} & set(seen["seen"])) >= 2
    assert _contents(desk / "model") == before


@contextlib.contextmanager
def _no_file_beyond(room: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_without_room_is_said_and_the_work_goes_on_later(desk: Path) -> None:
    before = _contents(desk / "model")
    size = (desk / "model" / "model.safetensors").stat().st_size
    with (
        _no_file_beyond(size // 2),
        pytest.raises(output_folder.OutputError, match="^out: cannot write to .*File too large"),
    ):
        forget(desk / "model", desk / "forget.csv", desk / "out", method="ran_lab", parameters=FAST)
    assert not (desk / "out" / "report.json").exists()
    assert not (desk / "out" / "model.safetensors").exists()
    assert _contents(desk / "model") == before
    done = forget(desk / "model", desk / "forget.csv", desk / "out", method="ran_lab",
                  parameters=FAST)
    other = forget(desk / "model", desk / "forget.csv", desk / "other", method="ran_lab",
                   parameters=FAST)
    name = "model.safetensors"
    assert done.report["outputs"][name] == other.report["outputs"][name]


def test_a_folder_that_cannot_be_written_is_refused_before_work(desk: Path) -> None:
    (desk / "file").write_text("")
    said: list[str] = []
    for out in (desk / "file", desk / "file" / "out", Path("/proc/speechunlearn")):
        with pytest.raises(output_folder.OutputError, match="out: "):
            forget(desk / "model", desk / "forget.csv", out, on_progress=said.append)
    assert said == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(desk: Path) -> None:
    (desk / "sealed").mkdir(mode=0o500)
    with pytest.raises(output_folder.OutputError, match="Permission denied"):
        forget(desk / "model", desk / "forget.csv", desk / "sealed" / "out")


def test_a_folder_with_other_things_is_refused(desk: Path) -> None:
    (desk / "out").mkdir()
    (desk / "out" / "notes.txt").write_text("mine")
    with pytest.raises(output_folder.OutputError, match="not empty: it holds 'notes.txt'"):
        forget(desk / "model", desk / "forget.csv", desk / "out")
    assert _contents(desk / "out") == {"notes.txt": b"mine"}


def test_two_processes_do_not_share_a_folder(desk: Path) -> None:
    with output_folder.folder(desk / "out"):
        with pytest.raises(output_folder.OutputError, match="another process works in"):
            forget(desk / "model", desk / "forget.csv", desk / "out")
        with pytest.raises(output_folder.OutputError, match="another process works in"):
            audit(desk / "model", desk / "forget.csv", out=desk / "out")


def test_a_clip_that_vanished_is_named(desk: Path) -> None:
    (desk / "forget" / "3.wav").unlink()
    with pytest.raises(CorpusError, match="forget.csv: 'forget/3.wav' \\(row 5\\): no such file"):
        forget(desk / "model", desk / "forget.csv", desk / "out")
    assert not (desk / "out").exists()


def test_a_loss_that_is_no_number_ends_with_its_reason(desk: Path) -> None:
    before = _contents(desk / "model")
    with pytest.raises(ParameterError, match="unlearning loss is .* lower learning_rate"):
        forget(desk / "model", desk / "forget.csv", desk / "out", method="ran_lab",
               parameters={"epochs": 50, "learning_rate": 1e30})
    assert not (desk / "out" / "report.json").exists()
    assert _contents(desk / "model") == before


def test_a_damaged_piece_of_work_is_made_again(desk: Path) -> None:
    """What a kill and a bad disk left is not trusted: its hash is asked first."""
    call = {"method": "adv", "parameters": FAST | {"copies": 2, "steps": 2}}
    whole = forget(desk / "model", desk / "forget.csv", desk / "whole", **call)

    def stop(text: str) -> None:
        if "epoch 1" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forget(desk / "model", desk / "forget.csv", desk / "out", on_progress=stop, **call)
    (piece,) = (desk / "out").glob(".unfinished/adversarial/*/copies.safetensors")
    damaged = bytearray(piece.read_bytes())
    damaged[-1000] ^= 0xFF
    piece.write_bytes(damaged)
    done = forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    name = "model.safetensors"
    assert done.report["outputs"][name] == whole.report["outputs"][name]


def stopped(desk: Path, call: dict) -> Path:
    """Stop a request in its second epoch; return the state that it keeps."""

    def stop(text: str) -> None:
        if "epoch 2" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forget(desk / "model", desk / "forget.csv", desk / "out", on_progress=stop, **call)
    (state,) = (desk / "out").glob(".unfinished/unlearned/*.resume")
    return state


def test_no_bit_of_a_kept_descent_changes_the_weights(
    desk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call = {"method": "ran_lab", "parameters": FAST}
    whole = forget(desk / "model", desk / "forget.csv", desk / "whole", **call)
    state = stopped(desk, call)
    content = state.read_bytes()
    for share in (0.0, 0.3, 0.6, 0.9):
        flipped = bytearray(content)
        flipped[int(share * len(content))] ^= 4
        state.write_bytes(flipped)
        assert kept(state) is None and "begins anew" in caplog.text
    done = forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    name = "model.safetensors"
    assert done.report["outputs"][name] == whole.report["outputs"][name]


@pytest.mark.parametrize("flipped", ["model.safetensors", "report.json", "README.md"])
def test_what_was_damaged_while_it_was_published_is_made_again(
    desk: Path, monkeypatch: pytest.MonkeyPatch, flipped: str
) -> None:
    call = {"method": "ran_lab", "parameters": FAST}

    def cut(file: Path, place: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "copy", cut)
        forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    path = desk / "out" / ".unfinished" / "made" / flipped
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    done = forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    whole = forget(desk / "model", desk / "forget.csv", desk / "whole", **call)
    name = "model.safetensors"
    assert done.report["outputs"][name] == whole.report["outputs"][name]
    assert not (desk / "out" / ".unfinished").exists()


def test_an_audit_leaves_a_request_that_was_stopped(desk: Path) -> None:
    def stop(text: str) -> None:
        if "epoch 2" in text:
            raise KeyboardInterrupt

    call = {"method": "ran_lab", "parameters": FAST}
    with pytest.raises(KeyboardInterrupt):
        forget(desk / "model", desk / "forget.csv", desk / "out", on_progress=stop, **call)
    before = sorted((desk / "out").rglob("*"))
    with pytest.raises(output_folder.OutputError, match="a request that was stopped"):
        audit(desk / "model", desk / "forget.csv", out=desk / "out")
    assert sorted((desk / "out").rglob("*")) == before


def test_an_audit_does_not_write_over_what_came_meanwhile(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechunlearn.tool import judging

    assessed = judging.assessed

    def meanwhile(*given: object, **more: object) -> object:
        monkeypatch.setattr(judging, "assessed", assessed)
        audit(desk / "model", desk / "forget.csv", out=desk / "out")
        return assessed(*given, **more)

    monkeypatch.setattr(judging, "assessed", meanwhile)
    with pytest.raises(output_folder.OutputError, match="not empty"):
        audit(desk / "model", desk / "retain.csv", out=desk / "out")
    report = output_folder.finished(desk / "out")
    assert report is not None
    assert report["inputs"]["forget"]["file"] == str(desk / "forget.csv")
    assert not (desk / "out" / ".unfinished").exists()


@pytest.mark.parametrize("left", [0, 10, 1000, -1])
def test_a_damaged_state_of_a_descent_is_not_gone_on_from(desk: Path, left: int) -> None:
    call = {"method": "ran_lab", "parameters": FAST}
    whole = forget(desk / "model", desk / "forget.csv", desk / "whole", **call)
    state = stopped(desk, call)
    state.write_bytes(state.read_bytes()[:left])
    done = forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    name = "model.safetensors"
    assert done.report["outputs"][name] == whole.report["outputs"][name]


@pytest.mark.parametrize("method", ["adv", "ran_lab"])
def test_a_finished_request_leaves_a_checkpoint_that_may_be_published_and_its_record(
    desk: Path, method: str
) -> None:
    """Whoever gets the folder learns neither who asked nor of which recordings."""
    person = desk / "Maria Rossi 1979"
    (desk / "forget").rename(person)
    listed = desk / "forget.csv"
    listed.write_text(listed.read_text().replace("forget/", f"{person.name}/"))
    more = {"copies": 2, "steps": 2} if method == "adv" else {}
    call = {"method": method, "parameters": FAST | more, "retain": desk / "retain.csv"}
    done = forget(desk / "model", listed, desk / "out", **call)
    hashes = [content_hash(decode(person / f"{i}.wav")[0]) for i in range(6)]
    page = desk / "out" / "report.html"  # is for the letter alone: it is not uploaded
    assert (desk / "out" / ".gitignore").read_text() == "report.html\n"
    assert page.stat().st_mode & 0o777 == 0o600
    assert f"{person.name}/5.wav" in page.read_text()
    assert not any(one in page.read_text() for one in hashes)
    for path in {*(desk / "out").rglob("*")} - {page}:
        content = path.read_bytes()
        for said in (person.name, str(desk / "forget.csv"), "retain/0.wav", *hashes):
            assert said.encode() not in content, (path.name, said)
    record = desk / "out.record.json"
    assert record.stat().st_mode & 0o777 == 0o600
    told = json.loads(record.read_text())
    paths = [clip["path"] for clip in told["forgotten"]]
    assert paths == [f"{person.name}/{i}.wav" for i in range(6)]
    assert not any(one in record.read_text() for one in hashes)
    assert [clip["hash"] for clip in told["forgotten"]] == [
        hashlib.sha256(f"{told['salt']}{one}".encode()).hexdigest() for one in hashes
    ]
    assert {path.name for path in (desk / "out").iterdir()} == {
        ".gitignore", "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
        "report.html", "report.json",
    }
    # what stays is said, and the same call again is done with it
    assert any("the record" in said for said in done.report["on_disk"])
    assert forget(desk / "model", listed, desk / "out", **call).report == done.report
    record.write_text(record.read_text().replace("Maria", "Mario"))
    with pytest.raises(output_folder.OutputError, match="the record .* has vanished, or is not"):
        forget(desk / "model", listed, desk / "out", **call)


def test_the_record_of_another_request_is_not_written_over(desk: Path) -> None:
    call = {"method": "ran_lab", "parameters": FAST}
    forget(desk / "model", desk / "forget.csv", desk / "out", **call)
    shutil.rmtree(desk / "out")
    with pytest.raises(output_folder.OutputError, match="the record of another request"):
        forget(desk / "model", desk / "retain.csv", desk / "out", **call)
    assert not (desk / "out").exists()


def test_a_stopped_request_keeps_no_speech_and_is_cleared(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(text: str) -> None:
        if "epoch 1" in text:
            raise KeyboardInterrupt

    call = {"method": "adv", "parameters": FAST | {"copies": 8, "steps": 2}}
    with pytest.raises(KeyboardInterrupt):
        forget(desk / "model", desk / "forget.csv", desk / "out", on_progress=stop, **call)
    unfinished = desk / "out" / ".unfinished"
    assert unfinished.stat().st_mode & 0o077 == 0
    (piece,) = unfinished.glob("adversarial/*/copies.safetensors")
    kept_of_piece = load_file(piece)
    added = [kept_of_piece[str(i)] for i in range(8 * 6)]
    for i in range(6):  # the mean of many copies would be the recording
        clip = torch.from_numpy(normalise(decode(desk / "forget" / f"{i}.wav")[0]))
        mean = torch.stack(added[8 * i : 8 * i + 8]).mean(dim=0)
        assert abs(torch.corrcoef(torch.stack([clip, mean]))[0, 1]) < 0.3
    monkeypatch.setattr("sys.argv", ["speechunlearn", "clear", str(desk / "out")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code and list((desk / "out").iterdir()) == []


class TestLedger:
    @staticmethod
    def _write(desk: Path, *rows: str) -> Path:
        file = desk / "ledger.csv"
        file.write_text("\n".join(["id,forget,retain,method", *rows]) + "\n")
        return file

    def test_requests_follow_each_other(self, desk: Path) -> None:
        clips(desk, "second", 4, 7)
        file = self._write(desk, "a,forget.csv,,ran_lab", "b,second.csv,,delete")
        table = ledgers.run(desk / "model", file, desk / "out")
        assert list(table["status"]) == ["done", "done"]
        first, second = (json.loads((desk / "out" / i / "report.json").read_text()) for i in "ab")
        from speechunlearn.tool import checkpoints

        assert first["model"]["sha256"] == checkpoints.digest(desk / "model")
        assert second["model"]["sha256"] == checkpoints.digest(desk / "out" / "a")
        card = (desk / "out" / "b" / "README.md").read_text()
        assert card.count("## Unlearning") == 2  # each request's section
        stamp = (desk / "out" / "b" / "report.json").stat().st_mtime_ns
        ledgers.run(desk / "model", file, desk / "out")
        assert (desk / "out" / "b" / "report.json").stat().st_mtime_ns == stamp

    def test_superseded_weights_are_removed_where_it_is_asked(self, desk: Path) -> None:
        """They know the recordings of the later requests."""
        clips(desk, "second", 4, 7)
        clips(desk, "third", 4, 8)
        rows = ["a,forget.csv,,ran_lab", "b,second.csv,,ran_lab"]
        ledgers.run(desk / "model", self._write(desk, *rows), desk / "out", prune=True)
        assert [path.parent.name for path in desk.glob("out/*/*.safetensors")] == ["b"]
        # what was forgotten stays so, and the newest model is gone on with
        shutil.rmtree(desk / "forget")
        (desk / "forget.csv").unlink()
        rows += ["c,third.csv,,ran_lab", "d,third.csv,second.csv,finetune"]
        table = ledgers.run(desk / "model", self._write(desk, *rows), desk / "out")
        assert list(table["status"]) == ["done", "done", "done", "failed"]
        assert "as request 'b' asks" in table["reason"].iloc[-1]
        rows[0] = "a,forget.csv,,delete"
        with pytest.raises(ParameterError, match="'a' was done with method 'ran_lab', not 'del"):
            ledgers.run(desk / "model", self._write(desk, *rows), desk / "out")

    def test_a_bit_of_its_state_is_missed(
        self, desk: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = self._write(desk, "a,forget.csv,,ran_lab")
        ledgers.run(desk / "model", file, desk / "out")
        states = [desk / "out" / name for name in ("ledger.json", "ledger.copy.json")]
        content = states[0].read_text()
        damaged = content.replace('"order": [\n    "a"', '"order": [\n    "c"')
        assert damaged != content == states[1].read_text()
        for state in states:  # the other tells what was done
            state.write_text(damaged)
            told: list[str] = []
            ledgers.run(desk / "model", file, desk / "out", on_progress=told.append)
            assert told == ["a: done already"] and f"{state} cannot be read" in caplog.text
            assert state.read_text() == content
        for state in states:
            state.write_text(damaged)
        with pytest.raises(output_folder.OutputError, match="not what was written; restore one"):
            ledgers.run(desk / "model", file, desk / "out")

    def test_a_failed_request_has_its_reason_and_the_next_goes_on(self, desk: Path) -> None:
        clips(desk, "second", 4, 7)
        file = self._write(desk, "a,nowhere.csv,,ran_lab", "b,second.csv,,ran_lab")
        table = ledgers.run(desk / "model", file, desk / "out").set_index("id")
        assert list(table["status"]) == ["failed", "done"]
        assert "nowhere.csv: no such CSV" in table.loc["a", "reason"]
        # mended, it is done on the newest model
        (desk / "nowhere.csv").write_text((desk / "forget.csv").read_text())
        table = ledgers.run(desk / "model", file, desk / "out").set_index("id")
        assert list(table["status"]) == ["done", "done"]
        assert table.loc["a", "model"] == str(desk / "out" / "b")

    def test_what_was_forgotten_is_not_learnt_again(self, desk: Path) -> None:
        clips(desk, "second", 4, 7)
        file = self._write(desk, "a,forget.csv,,ran_lab", "b,second.csv,forget.csv,finetune")
        table = ledgers.run(desk / "model", file, desk / "out").set_index("id")
        assert table.loc["b", "status"] == "failed"
        assert "is to stay forgotten, as request 'a' asks" in table.loc["b", "reason"]

    def test_a_killed_ledger_goes_on(self, desk: Path) -> None:
        clips(desk, "second", 4, 7)
        file = self._write(desk, "a,forget.csv,,ran_lab", "b,second.csv,,ran_lab")
        told: list[str] = []
        whole = ledgers.run(desk / "model", file, desk / "whole", on_progress=told.append)
        at = [place for place, text in enumerate(told) if "epoch" in text][-1]
        assert any("asking" in text for text in told[:at])  # of the second request
        told.clear()

        def stop(text: str) -> None:
            told.append(text)
            if len(told) == at + 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ledgers.run(desk / "model", file, desk / "out", on_progress=stop)
        again = ledgers.run(desk / "model", file, desk / "out")
        assert list(again["status"]) == list(whole["status"]) == ["done", "done"]
        for name in "ab":
            weights = [desk / out / name / "model.safetensors" for out in ("whole", "out")]
            assert weights[0].read_bytes() == weights[1].read_bytes()

    @pytest.mark.parametrize(
        ("row", "match"),
        [
            ("../a,forget.csv,,", "id '../a' in row 2"),
            (".,forget.csv,,", "id '.' in row 2"),
            ("a,forget.csv,,no such", "row 2: method: 'no such'"),
            ("a,forget.csv,,scrub", "row 2: method: 'scrub' needs the retain clips"),
            ("a,,,", "column 'forget' is empty in row 2"),
        ],
    )
    def test_a_bad_row_is_refused_before_work(self, desk: Path, row: str, match: str) -> None:
        from speechunlearn.errors import SpeechUnlearnError

        with pytest.raises(SpeechUnlearnError, match=match.replace(".", "\\.")):
            ledgers.run(desk / "model", self._write(desk, row), desk / "out")
        assert not (desk / "out").exists()

    def test_whole_speakers_are_asked_for_in_a_column(self, desk: Path) -> None:
        file = desk / "whole.csv"
        file.write_text("id,forget,whole_speakers\na,forget.csv,true\n")
        with pytest.raises(ParameterError, match="whole_speakers 'true' in row 2"):
            ledgers.read(file)
        rows = ["id,forget,method,whole_speakers", "a,forget.csv,,yes", "b,forget.csv,ran_lab,"]
        file.write_text("\n".join([*rows, ""]))
        told = ledgers.run(desk / "model", file, desk / "out").set_index("id")
        assert told.loc["a", "status"] == "failed"
        assert "whole_speakers: it needs unseen clips" in told.loc["a", "reason"]
        assert told.loc["b", "status"] == "done"
        file.write_text(file.read_text().replace("ran_lab,", "ran_lab,yes"))
        with pytest.raises(ParameterError, match="with whole_speakers False, not True"):
            ledgers.run(desk / "model", file, desk / "out")

    def test_an_id_is_used_once_and_its_clips_stay(self, desk: Path) -> None:
        with pytest.raises(ParameterError, match="id 'A' in rows 2 and 3"):
            ledgers.read(self._write(desk, "a,forget.csv,,", "A,forget.csv,,"))
        file = self._write(desk, "a,forget.csv,,ran_lab")
        ledgers.run(desk / "model", file, desk / "out")
        (desk / "forget.csv").write_text((desk / "retain.csv").read_text())
        with pytest.raises(ParameterError, match="'a' was done with other clips"):
            ledgers.run(desk / "model", file, desk / "out")
