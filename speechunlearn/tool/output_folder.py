"""The output folder: one process at a time, nothing half-written, and errors that say what is."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout
from pydantic_core import to_jsonable_python
from safetensors import SafetensorError

from speechunlearn.errors import CONTROL, ParameterError, SpeechUnlearnError
from speechunlearn.files import alone, clear, settle, to_disk
from speechunlearn.files import sha256 as sha256

#: folder inside of the output folder, that holds unfinished work
UNFINISHED = ".unfinished"
REPORT = "report.json"
#: what of a report names recordings and people: it lies beside the folder, not in `REPORT`
PRIVATE = ("forgotten", "salt", "same_speakers", "inputs")
_RECORD = "record.json"
#: kinds of work that a stopped request goes on with
KINDS = ("unlearned", "adversarial")
#: folder inside of `UNFINISHED`: what is being put into place
COMPLETE = "made"
_RESTORE = "it was changed or damaged: restore it from a copy, or give another folder"


class OutputError(SpeechUnlearnError):
    """An output folder that can't be used, or can't be written to any more."""


def path(what: str, value: str | Path) -> Path:
    """Return a path that a request names, ``~`` filled in.

    Args:
        what: name of the parameter
        value: the path, to anything or nothing

    Raises:
        ParameterError: it cannot be looked up, or a report could not show it

    """
    text = os.path.expanduser(value)
    if CONTROL.search(text):
        raise ParameterError(f"{what}: {text!r} holds control characters, or is not Unicode")
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        shown = repr(text) if len(text) <= 200 else f"{text[:200]!r}… ({len(text)} characters)"
        raise ParameterError(f"{what}: {shown} cannot be used: {error.strerror}") from error
    return Path(text)


@contextlib.contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Hold an output folder for this process alone, and turn failures to write into OutputError.

    Args:
        out: made if it is not there

    Yields:
        the folder of unfinished work inside

    Raises:
        OutputError: another process works there, or it can't be written

    """
    with writing(out), alone(out / UNFINISHED, timeout=0.0) as unfinished:
        try:
            yield unfinished
        finally:
            if not any((unfinished / name).exists() for name in (*KINDS, COMPLETE)):
                clear(unfinished)  # nothing to go on with


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn failures to write into OutputError; what was finished before stays."""
    try:
        yield
    except Timeout as error:
        raise OutputError(f"out: another process works in {str(out)!r}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not out.is_dir():
            raise OutputError(f"out: {str(out)!r} has vanished") from error
        where = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or str(error)
        raise OutputError(f"out: cannot write to {str(out)!r}: {reason}{where}") from error
    except SafetensorError as error:
        raise OutputError(f"out: cannot write to {str(out)!r}: {error}") from error


def finished(out: Path) -> dict[str, Any] | None:
    """Return the report of a finished request whose files are as they were written, or None.

    Raises:
        OutputError: a report that cannot be read, or a file that is not what the report says

    """
    path = out / REPORT
    if not path.is_file():
        return None
    try:
        report = read_sealed(path)
        outputs = dict(report["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"out: {path} cannot be read: {error}; {_RESTORE}") from error
    for name, digest in outputs.items():
        if Path(name).name != name or not (out / name).is_file():
            raise OutputError(f"out: {name!r}, of {path}, is missing; {_RESTORE}")
        if sha256(out / name) != digest:
            raise OutputError(f"out: {out / name} is not what {REPORT} says it is; {_RESTORE}")
    return report


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote.

    Raises:
        ValueError: it is not what was written
        OSError: it cannot be read

    """
    try:
        value = json.loads(path.read_bytes())
        if isinstance(value, dict) and "sha256" not in value:
            raise ValueError("another version wrote it, or it was changed: it has no seal")
        if isinstance(value, dict) and value["sha256"] == _seal(value):
            return value
    except RecursionError:
        pass
    raise ValueError("it is not what was written")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that holds a hash of all else in it."""
    write_json(path, {**value, "sha256": _seal(value)})


def _seal(value: Mapping[str, Any]) -> str:
    return digest({name: value[name] for name in value if name != "sha256"})


def record_of(out: Path) -> Path:
    """Return where the record of a request lies: beside its folder, which may be published."""
    folder = out.resolve()
    return folder.with_name(f"{folder.name}.{_RECORD}")


def write_report(report: dict[str, Any], written: Path) -> None:
    """Write a report, with the hashes of the files beside it.

    Of a request what is `PRIVATE` becomes a record, which `publish` puts beside the output folder:
    of the lists of clips the report says how much they hold, the record which files they are.
    """
    report["outputs"] = {path.name: sha256(path) for path in sorted(written.iterdir())}
    if report["kind"] == "forget":
        record = written / _RECORD
        write_json(record, {name: report[name] for name in (*PRIVATE, "request")})
        record.chmod(0o600)
        inputs = {
            name: {key: value for key, value in one.items() if key != "file"}
            for name, one in report["inputs"].items()
        }
        public = {name: value for name, value in report.items() if name not in PRIVATE}
        report = public | {"inputs": inputs, "record": sha256(record)}
    write_sealed(written / REPORT, report)


def with_record(report: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return a finished report together with its record.

    Raises:
        OutputError: the record is gone, or is not the report's

    """
    path = record_of(out)
    if not path.is_file() or sha256(path) != report.get("record"):
        raise OutputError(
            f"out: the record {path} of {out / REPORT} has vanished, or is not its; {_RESTORE}"
        )
    return report | json.loads(path.read_bytes())


def check_record(out: Path, request: str) -> None:
    """Refuse to write over the record of another request.

    Raises:
        OutputError: there is one

    """
    path = record_of(out)
    try:
        other = path.exists() and json.loads(path.read_bytes())["request"] != request
    except (OSError, ValueError, KeyError, TypeError):
        other = not _published(out)  # a damaged one of what is published is made again
    if other:
        raise OutputError(f"out: {path} is the record of another request: move it away")


def check_free(out: Path, *, resumes: bool = False) -> None:
    """Refuse a folder that holds anything but unfinished work.

    Args:
        out: the folder
        resumes: whether unfinished work there is gone on with; what is not would be lost

    Raises:
        OutputError: it does, or work that another kind of call would go on with

    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"out: {str(out)!r} is no folder")
    # killed while its files were put into place: what is there is its own
    held = sorted({path.name for path in out.iterdir()} - {UNFINISHED} - _published(out))
    if held:
        raise OutputError(f"out: {str(out)!r} is not empty: it holds {held[0]!r}")
    if not resumes and any((out / UNFINISHED / kind).exists() for kind in KINDS):
        raise OutputError(
            f"out: {str(out)!r} holds a request that was stopped: the same forget goes on with "
            "it, and speechunlearn clear removes it"
        )


def publish(written: Path, out: Path, *, resumes: bool = False) -> None:
    """Put files into the output folder, each in one step, the report last.

    What is written stays beside, and tells which files are its own, until all are in place.

    Args:
        written: of `anew`
        out: output folder
        resumes: see `check_free`, which is asked once more

    Raises:
        OutputError: another process has written there meanwhile

    """
    check_free(out, resumes=resumes)
    complete = written.with_name(COMPLETE)
    settle(written, complete)
    for name in sorted(_published(out), key=lambda name: (name == REPORT, name != _RECORD, name)):
        copy = Path(shutil.copy(complete / name, complete.with_name("copy")))
        settle(copy, _place(out, name))


def _place(out: Path, name: str) -> Path:
    return record_of(out) if name == _RECORD else out / name


def _published(out: Path) -> set[str]:
    """Return the names of files that may have been put into a folder when a kill stopped it."""
    return {path.name for path in (out / UNFINISHED / COMPLETE).glob("*")}


def anew(unfinished: Path) -> Path:
    """Take back what another call, killed while it was published, has left.

    Returns:
        an empty folder to write to, for `publish`

    """
    out = unfinished.parent
    for name in _published(out):
        _place(out, name).unlink(missing_ok=True)
    to_disk(out)
    for name in (COMPLETE, "making"):
        shutil.rmtree(unfinished / name, ignore_errors=True)
    (unfinished / "making").mkdir()
    return unfinished / "making"


def give_up(out: Path) -> list[Path]:
    """Remove what stopped requests have kept: what was added to clips, states, weights.

    Args:
        out: output folder of a request or of a ledger

    Returns:
        the folders that were removed

    Raises:
        OutputError: another process works there

    """
    if not out.is_dir():
        raise OutputError(f"out: {str(out)!r} is no folder")
    removed = [one for one in (out, *sorted(out.iterdir())) if (one / UNFINISHED).is_dir()]
    for one in removed:
        with folder(one) as unfinished:
            if finished(one) is None:
                anew(unfinished)
            clear(unfinished)
    return [one / UNFINISHED for one in removed]


def write_json(path: Path, value: Any) -> None:
    """Write JSON that holds no NaN: what is not a number becomes null."""
    path.write_text(json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def digest(specification: dict[str, Any]) -> str:
    """Return a hash of what a result is made from."""
    text = json.dumps(plain(specification), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value in JSON's types; what is not a number becomes None."""
    return to_jsonable_python(value, inf_nan_mode="null", fallback=lambda number: number.item())


def check_not_inside(out: Path, model: Path) -> None:
    """Refuse an output folder that is the model's own, or holds it, or lies in it.

    Raises:
        ParameterError: it does

    """
    if not model.is_dir():
        return
    a, b = out.resolve(), model.resolve()
    if a == b or a.is_relative_to(b) or b.is_relative_to(a):
        raise ParameterError(f"out: {str(out)!r} overlaps with the model's folder {str(model)!r}")
