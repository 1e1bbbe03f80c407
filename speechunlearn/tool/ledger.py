"""Deletion requests one after another: ``speechunlearn ledger``.

A ledger is a CSV with a row a request. They are done in its order, each on the model that the one
before left. What is done is kept in ``ledger.json`` beside the results, with the verdict on
each. The recordings that a request was about cannot come back in a later one as clips to keep.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from speechunlearn.corpora.csv import read_table
from speechunlearn.errors import LackError, ParameterError, SpeechUnlearnError, lack_is_told
from speechunlearn.files import as_stored, replaced
from speechunlearn.tool import checkpoints, defaults, inputs, output_folder
from speechunlearn.tool.unlearning import forget

log = logging.getLogger(__name__)

REQUIRED = ("id", "forget")
OPTIONAL = ("retain", "unseen", "method", "seed", "whole_speakers")
STATE = "ledger.json"
#: the same, written before it, and read where it is damaged
_COPY = "ledger.copy.json"

#: an id becomes the name of a folder
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

#: what a request that is done stays asked for
_ASKED = ("method", "seed", "whole_speakers")


@dataclass(frozen=True)
class Entry:
    """One request of a ledger.

    Args:
        id: letters, digits, ``-`` and ``_``; the name of its folder
        forget: CSV of the clips to forget
        retain: CSV of clips to keep, or None
        unseen: CSV of clips that were not trained on, or None
        method: name, or None for the leaderboard's
        seed: of all randomness
        whole_speakers: see `speechunlearn.tool.forget`

    """

    id: str
    forget: Path
    retain: Path | None = None
    unseen: Path | None = None
    method: str | None = None
    seed: int = 0
    whole_speakers: bool = False


def read(file: str | Path) -> list[Entry]:
    """Read a ledger.

    Args:
        file: CSV with the columns ``id`` and ``forget`` and optionally ``retain``, ``unseen``,
            ``method``, ``seed`` and ``whole_speakers`` (``yes`` or empty); paths are relative to
            its folder

    Raises:
        SpeechUnlearnError: a file that is missing or no such CSV, an id that is no name of a folder
            or occurs twice, an unknown method, a seed that is not a number, or whole speakers that
            are neither ``yes`` nor empty

    """
    file = output_folder.path("ledger", file)
    table = read_table(file, REQUIRED, OPTIONAL)
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for row, values in table.iterrows():
        name = values["id"]
        if not _ID.fullmatch(name):
            raise ParameterError(
                f"{file}: id {name!r} in row {row} is not of letters, digits, - and _"
            )
        if name.lower() in seen:
            raise ParameterError(f"{file}: id {name!r} in rows {seen[name.lower()]} and {row}")
        seen[name.lower()] = int(str(row))
        if values["seed"] and not re.fullmatch(r"\d{1,9}", values["seed"]):
            raise ParameterError(f"{file}: seed {values['seed']!r} in row {row} is not a number")
        if values["whole_speakers"] not in ("", "yes"):
            raise ParameterError(
                f"{file}: whole_speakers {values['whole_speakers']!r} in row {row} is neither "
                "'yes' nor empty"
            )
        if values["method"]:
            available = {"forget"} | ({"retain"} if values["retain"] else set())
            try:
                defaults.check(values["method"], available)
            except ParameterError as error:
                raise ParameterError(f"{file}: row {row}: {error}") from error
        forget, retain, unseen = (
            as_stored(file.parent / values[part]) if values[part] else None
            for part in ("forget", "retain", "unseen")
        )
        assert forget is not None  # it is required
        seed = int(values["seed"] or 0)
        whole = values["whole_speakers"] == "yes"
        entries.append(Entry(name, forget, retain, unseen, values["method"] or None, seed, whole))
    return entries


@lack_is_told()
def run(
    model: str | Path,
    ledger: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    allow_outside: bool = False,
    prune: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Do the requests of a ledger, each on the model that the one before left.

    Every entry ends as done, with its report, or as failed, with its reason (done means carried
    out: whether the model forgot is what the verdict says); after one that failed
    the next goes on from the last that was done. A run that was killed goes on where it was; one
    that is made again tries what failed once more, on the newest model.

    Args:
        model: folder or hub id of the first model
        ledger: see `read`
        out: folder; each request gets one of its id inside
        root: see `speechunlearn.tool.forget`
        allow_outside: see `speechunlearn.tool.forget`
        prune: remove the weights that a later request superseded, and that know its recordings
        on_progress: progress callback

    Returns:
        a row a request, in the ledger's order: id, status (``done`` or ``failed``), reason (of the
        failure), verdict and why (see `speechunlearn.tool.verdicts`; of what failed none), model
        (that it was done on), out

    Raises:
        SpeechUnlearnError: a ledger that can't be read, a model that can't be loaded, or a folder
            that holds another model's requests

    """
    on_progress = on_progress or (lambda text: None)
    out = output_folder.path("out", out)
    entries = read(ledger)
    output_folder.check_not_inside(out, output_folder.path("model", model))
    first = checkpoints.load(model).origin.sha256
    with output_folder.folder(out) as unfinished:
        state = _read(out, first)
        for name in state["order"][-1:]:  # what later requests begin with
            if output_folder.finished(out / name) is None:
                raise output_folder.OutputError(f"out: the result of {name!r} has vanished")
        records: dict[str, dict[str, Any]] = {}
        for entry in entries:
            done = state["done"].get(entry.id)
            if done is None:
                continue
            # once the recordings are deleted, as they must be, their list may be gone as well
            if entry.forget.is_file() and done["forget"] not in (
                inputs.listed(entry.forget), output_folder.sha256(entry.forget)  # as it once was
            ):
                raise ParameterError(
                    f"ledger: request {entry.id!r} was done with other clips to forget than "
                    f"{str(entry.forget)!r} holds now; a new request needs a new id"
                )
            for name in _ASKED:
                value = getattr(entry, name)
                before = done.get(name, False)
                if before != value:
                    raise ParameterError(
                        f"ledger: request {entry.id!r} was done with {name} {before!r}, not "
                        f"{value!r}; a new request needs a new id"
                    )
        for entry in entries:
            if entry.id in state["done"]:
                on_progress(f"{entry.id}: done already")
                continue
            order = state["order"]
            if entry.retain is not None:  # which what was forgotten must not come back with
                records |= {
                    name: _record(out / name) for name in order if name not in records
                }
            source = str(out / order[-1]) if order else str(model)
            on_progress(f"{entry.id}: on {source}")
            try:
                result = forget(
                    source, entry.forget, out / entry.id, retain=entry.retain,
                    unseen=entry.unseen, root=root, allow_outside=allow_outside,
                    on_progress=on_progress, earlier=records, request_id=entry.id,
                    **{name: getattr(entry, name) for name in _ASKED},
                )
            except (output_folder.OutputError, LackError):
                raise  # no request's own fault, and the next would meet it too
            except SpeechUnlearnError as error:
                on_progress(f"{entry.id}: failed: {error}")
                state["failed"][entry.id] = str(error)
                _write(out, state)
                continue
            state["failed"].pop(entry.id, None)
            order.append(entry.id)
            state["done"][entry.id] = {
                "model": source, "forget": result.report["inputs"]["forget"]["listed"],
                "verdict": result.report["verdict"],
                **{name: getattr(entry, name) for name in _ASKED},
            }
            _write(out, state)
        for name in state["order"][:-1] if prune else ():
            for weights in sorted((out / name).glob("*.safetensors*")):
                weights.unlink()
                on_progress(f"{name}: removed {weights.name}, which a later request superseded")
        output_folder.clear(unfinished)
    return _table(entries, state, out)


def _table(entries: list[Entry], state: dict[str, Any], out: Path) -> pd.DataFrame:
    rows = []
    for entry in entries:
        row = dict.fromkeys(("id", "status", "reason", "verdict", "why", "model", "out"), "")
        done = state["done"].get(entry.id)
        if done:
            row |= {
                "status": "done", "verdict": done["verdict"]["value"],
                "why": done["verdict"]["why"], "model": done["model"], "out": str(out / entry.id),
            }
        else:
            row |= {"status": "failed", "reason": state["failed"][entry.id]}
        rows.append(row | {"id": entry.id})
    return pd.DataFrame(rows)


def _record(out: Path) -> dict[str, Any]:
    """Return the record of an earlier request."""
    try:
        report = output_folder.read_sealed(out / output_folder.REPORT)
    except (OSError, ValueError) as error:
        raise output_folder.OutputError(
            f"out: the report of request {out.name!r} cannot be read: {error}"
        ) from error
    return output_folder.with_record(report, out)


def _read(out: Path, model: str) -> dict[str, Any]:
    whole, error = [], None
    for path in (out / _COPY, out / STATE):  # the copy is written first: it knows no less
        try:
            whole.append(output_folder.read_sealed(path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as damage:
            error = damage
            log.warning("%s cannot be read: %s", path, damage)
    state = whole[0] if whole else None
    if state is None and error is None:
        other = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
        if other:
            raise output_folder.OutputError(
                f"out: {str(out)!r} is not empty: it holds {other[0]!r}"
            )
        state = {"model": model, "order": [], "done": {}, "failed": {}}
        _write(out, state)
    elif state is None:
        raise output_folder.OutputError(
            f"out: {out / STATE} and its copy {_COPY} cannot be read: {error}; restore one of them"
        )
    elif error is not None:
        _write(out, state)
    if state["model"] != model:
        raise output_folder.OutputError(f"out: {str(out)!r} holds the requests of another model")
    return state


def _write(out: Path, state: dict[str, Any]) -> None:
    for name in (_COPY, STATE):
        with replaced(out / name) as partial:
            output_folder.write_sealed(partial, state)
            partial.chmod(0o600)
