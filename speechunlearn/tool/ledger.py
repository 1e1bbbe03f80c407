"""Deletion requests one after another: ``speechunlearn ledger``.

A ledger is a CSV with a row a request. They are done in its order, each on the model that the one
before left. What is done is kept in ``ledger.json`` beside the results, with the verdict on
each. The recordings that a request was about cannot come back in a later one as clips to keep.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from speechunlearn.corpora.csv import read_table
from speechunlearn.errors import LackError, ParameterError, SpeechUnlearnError, lack_is_told
from speechunlearn.files import as_stored, replaced
from speechunlearn.tool import checkpoints, defaults, inputs, output_folder
from speechunlearn.tool.unlearning import OnProgress, forget

log = logging.getLogger(__name__)

REQUIRED = ("id", "forget")
OPTIONAL = ("retain", "unseen", "method", "seed", "whole_speakers")
STATE = "ledger.json"
#: the same, written before it, and read where it is damaged
_COPY = "ledger.copy.json"

#: column, what its cells are, and what is said of another; an id becomes the name of a folder
_CELLS = (
    ("id", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "is not of letters, digits, - and _"),
    ("seed", "[0-9]{0,9}", "is not a number"),
    ("whole_speakers", "(yes)?", "is neither 'yes' nor empty"),
)

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
    rows: dict[str, Any] = {}
    for row, values in table.iterrows():
        for column, cells, problem in _CELLS:
            if not re.fullmatch(cells, values[column]):
                raise ParameterError(f"{file}: {column} {values[column]!r} in row {row} {problem}")
        name, method = values["id"], values["method"] or None
        before = rows.setdefault(name.lower(), row)
        if before != row:
            raise ParameterError(f"{file}: id {name!r} in rows {before} and {row}")
        if method:
            try:
                defaults.check(method, {part for part in ("forget", "retain") if values[part]})
            except ParameterError as error:
                raise ParameterError(f"{file}: row {row}: {error}") from error
        lists: dict[str, Any] = {
            part: as_stored(file.parent / values[part]) if values[part] else None
            for part in ("forget", "retain", "unseen")
        }
        entries.append(Entry(
            name, method=method, seed=int(values["seed"] or 0),
            whole_speakers=bool(values["whole_speakers"]), **lists,
        ))
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
    on_progress: OnProgress = lambda text: None,
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
            if entry.forget.is_file() and done["forget"] != inputs.listed(entry.forget):
                raise ParameterError(
                    f"ledger: request {entry.id!r} was done with other clips to forget than "
                    f"{str(entry.forget)!r} holds now; a new request needs a new id"
                )
            for name in _ASKED:
                value = getattr(entry, name)
                if done[name] != value:
                    raise ParameterError(
                        f"ledger: request {entry.id!r} was done with {name} {done[name]!r}, not "
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
            verdict = {"verdict": done["verdict"]["value"], "why": done["verdict"]["why"]}
            row |= verdict | {"status": "done", "model": done["model"], "out": str(out / entry.id)}
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
    """Return what is kept of a ledger; of one that is new, that nothing is done."""
    states: list[dict[str, Any]] = []
    error = None
    for path in (out / _COPY, out / STATE):  # the copy is written first: it knows no less
        try:
            states.append(output_folder.read_sealed(path))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as damage:
            error = damage
            log.warning("%s cannot be read: %s", path, damage)
    if not states:
        if error is not None:
            raise output_folder.OutputError(
                f"out: {out / STATE} and its copy {_COPY} cannot be read: {error}; restore one of "
                "them"
            )
        other = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if other:
            raise output_folder.OutputError(
                f"out: {str(out)!r} is not empty: it holds {other[0]!r}"
            )
        states.append({"model": model, "order": [], "done": {}, "failed": {}})
    if len(states) == 1:
        _write(out, states[0])
    if states[0]["model"] != model:
        raise output_folder.OutputError(f"out: {str(out)!r} holds the requests of another model")
    return states[0]


def _write(out: Path, state: dict[str, Any]) -> None:
    for name in (_COPY, STATE):
        with replaced(out / name) as partial:
            output_folder.write_sealed(partial, state)
            partial.chmod(0o600)
