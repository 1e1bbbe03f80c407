"""Methods on the forget sets of a pool, by the protocol: tuned on development sets, scored once.

    python -m benchmarks.judged tune FOLDER --root PATH --methods ran_lab delete
    python -m benchmarks.judged score FOLDER --root PATH --methods ran_lab delete
    python -m benchmarks.judged levels FOLDER --root PATH
    python -m benchmarks.judged show FOLDER

``FOLDER`` is a pool that `benchmarks.pool` made; its models are looked for in the cache. ``tune``
tries each method's hyperparameter on the development sets and chooses what comes closest to the
references (``tuned.csv``); ``score`` runs it with what was chosen on every reported set
(``scored.csv``), and refuses what was scored before with anything else. Both keep every finished
row, so that a killed command goes on.

``show`` sums up the methods that are whole (``judged.csv``), beside the originals and the
references, each of which is judged by the others, and what each value that was tried came to
(``curves.csv``). ``levels`` says of our own method what it took for the loss of models that never
heard a set, beside theirs (``levels.csv``).

Scores and distances: section 6 of ``data/protocol.md``, tuning: section 5.
"""

from __future__ import annotations

import argparse
import json
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch.nn.functional import cross_entropy

from benchmarks import judgement
from benchmarks.pools import Design, Pool, logits_of, request, scores_of
from speechunlearn import methods, provenance
from speechunlearn.audit import metrics
from speechunlearn.cache import Cache
from speechunlearn.errors import ParameterError, SpeechUnlearnError
from speechunlearn.files import replaced
from speechunlearn.lab import profiles, tuning
from speechunlearn.lab.study import Study, described
from speechunlearn.methods import never_heard
from speechunlearn.models import fast_mode
from speechunlearn.models.loop import Cost
from speechunlearn.models.training import predict

#: originals of a set, at most: of tuning, and of scoring
TUNED_ON, SCORED_ON = 4, 8
#: trials of a method, where ends of its values go on winning
MOST_TRIALS = 9
#: of the classes, in the column ``answers``
SIGNS = string.digits + string.ascii_letters
#: parts of the unseen clips: what is tuned on, and what is reported
UNSEEN = {"tune": "test", "score": "validation"}
#: they are no answer to a request here: the first is the reference, the others have no original
LEFT_OUT = frozenset({"retrain", "sisa", "sisa_plus"})


def distances(
    judged: pd.DataFrame, references: Sequence[pd.DataFrame], n_labels: int
) -> dict[str, float]:
    """Return the scores of a model on a set, and how far it is from models without the set.

    Args:
        judged: predictions with splits ``forget``, ``retain``, ``spare`` and ``unseen``
        references: of models that did not hear the set, in the same order of clips
        n_labels: number of classes

    Returns:
        loss, UAR and AUC of the set, ``above`` (share of its clips whose loss is above the
        references' median of that clip), retain and unseen UAR; ``forgetting`` and ``utility``:
        mean distances to the references' means, of the last of which to one half

    """
    scores = [all_scores(table, n_labels) for table in (judged, *references)]
    bars = {name: np.mean([other[name] for other in scores[1:]]) for name in scores[0]}
    losses = np.median([_of(table, "forget")["loss"] for table in references], axis=0)
    above = float((_of(judged, "forget")["loss"].to_numpy() > losses).mean())
    far = {name: abs(scores[0][name] - bar) for name, bar in bars.items()}
    return scores[0] | {
        "above": above,
        "forgetting": float(np.mean([far["UAR"], far["AUC"], abs(above - 0.5)])),
        "utility": float(np.mean([far["retain"], far["unseen"]])),
        **{f"{name}, bar": float(bar) for name, bar in bars.items()},
    }


def _of(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split]


def all_scores(table: pd.DataFrame, n_labels: int) -> dict[str, float]:
    """Return `benchmarks.pools.scores_of`, and the UAR on the retained and the unseen clips."""
    return scores_of(table, n_labels) | {
        split: metrics.uar(part["label"], part["prediction"], n_labels)
        for split in ("retain", "unseen") for part in [_of(table, split)]
    }


def read(file: Path) -> pd.DataFrame:
    """Return the rows of a file of trials or scores."""
    return pd.read_csv(file, dtype={"answers": str})


def answers(table: pd.DataFrame) -> str:
    """Return what a model says of the unseen clips, a sign a clip in their order.

    Speakers can be drawn anew from it, see `benchmarks.judgement`.

    Raises:
        IndexError: more classes than there are signs

    """
    return "".join(SIGNS[k] for k in _of(table, "unseen")["prediction"])


def choose(rows: pd.DataFrame) -> tuple[float, bool]:
    """Return the value that comes closest to the references, and whether it lies inside.

    Args:
        rows: of one method's trials: ``value``, ``forgetting``, ``utility``; each value on the same
            requests

    Returns:
        the value of the smallest sum of both mean distances; whether smaller and larger ones were
        tried

    Examples:
        >>> table = pd.DataFrame({"value": [1, 3, 9], "forgetting": [.3, .1, .2], "utility": 0.0})
        >>> choose(table), choose(table[table["value"] < 9])
        ((3.0, True), (3.0, False))

    """
    apart = rows.groupby("value")[["forgetting", "utility"]].mean().sum(axis=1)
    best = float(apart.idxmin())
    return best, bool(apart.index.min() < best < apart.index.max())


def values_to_try(
    name: str, profile: profiles.Profile, rows: pd.DataFrame, requests: int
) -> list[float | int]:
    """Return values of a method's hyperparameter that are to be tried, or to be finished.

    Five at first; then one beyond the end that wins, by a factor of three, nine in all at most.

    Args:
        name: of the method
        profile: its own values are in the middle
        rows: of the trials that are finished
        requests: that a value is tried on

    """
    hyperparameter = methods.get(name).hyperparameter
    if not hyperparameter or is_found_on_clips(name):
        return []
    first = [
        trial[hyperparameter]
        for trial in tuning.candidates(name, profile.methods.get(name, {}), len(tuning.FACTORS))
    ]
    counts = rows["value"].value_counts().to_dict() if len(rows) else {}
    kind, tried = type(first[0]), set(counts)
    unfinished = [kind(value) for value in tried if counts[value] < requests]
    if missing := [value for value in first if value not in tried] + unfinished:
        return missing
    best, inside = choose(rows)
    if inside or len(tried) >= MOST_TRIALS:
        return []
    beyond = best * 3 if best == max(tried) else best / 3
    further = kind(round(beyond)) if kind is int else float(f"{beyond:.3g}")
    return [] if further in tried or further <= 0 else [further]


def only_of(stage: str, table: pd.DataFrame, units: pd.Series) -> pd.DataFrame:
    """Leave out the unseen clips of the other stage.

    Args:
        stage: ``tune`` or ``score``
        table: predictions
        units: split of each clip, by its hash

    """
    unit = units[table["hash"]].to_numpy()
    return table[(table["split"] != "unseen") | (unit == UNSEEN[stage])]


def is_found_on_clips(name: str) -> bool:
    """Return whether a method finds its hyperparameter on the clips of a request."""
    return methods.get(name).finds(methods.parameters(name))


def makes_copies(name: str) -> bool:
    """Return whether a method attacks many copies of a clip: it is scored on `few_of` the sets."""
    return hasattr(methods.parameters(name), "copies")


def few_of(design: Design) -> list[str]:
    """Return the reported sets that methods with an attack are scored on: section 5.

    Of sets that there are several of, the first of each size and kind, and of the largest size of
    random clips all.

    """
    alike: dict[tuple[str, int], list[str]] = {}
    for one in design.sets:
        if not one.development:
            size = 0 if one.kind in ("speaker", "class") else len(one.hashes)
            alike.setdefault((one.kind, size), []).append(one.name)
    several = {key: names for key, names in alike.items() if len(names) > 1}
    largest = max((size for kind, size in several if kind == "clips"), default=0)
    return [
        name for key, names in several.items()
        for name in (names if key == ("clips", largest) else names[:1])
    ]


#: file of each stage
FILES = {"tune": "tuned.csv", "score": "scored.csv"}
#: of a file that is not there yet
NOTHING = pd.DataFrame(columns=["method", "set", "model", "protocol"])


def opened(folder: Path) -> tuple[Pool, dict[str, pd.DataFrame]]:
    """Return a pool and the rows of its stages, where they may make a table: section 12.

    Raises:
        ParameterError: no pool; a model or a row of another protocol; a reference that heard a clip
            of its set; a row of other sizes or hyperparameters than its method's others, or of a
            set that was looked at before. The message names the row, the model or the set

    """
    pool = Pool.read(folder)
    if (of := pool.models["protocol"].iloc[0]) != provenance.protocol_hash():
        raise ParameterError(
            f"pool: {str(folder)!r} was made under protocol {of!r}, which is not that of "
            f"data/protocol.md, {provenance.protocol_hash()!r}"
        )
    tables = {}
    for stage, name in FILES.items():
        tables[stage] = read(folder / name) if (folder / name).is_file() else NOTHING
        for row, reason in _refused(tables[stage], stage, pool):
            raise ParameterError(
                f"{folder / name}: the row of {row['method']!r} on {row['set']!r}, model "
                f"{row['model']}, {reason}"
            )
    return pool, tables


def _refused(
    rows: pd.DataFrame, stage: str, pool: Pool
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each row that makes no table, and why."""
    sets = {one.name: one for one in pool.design.sets if one.development == (stage == "tune")}
    sizes = {name: (len(one.hashes), len(pool.references(name))) for name, one in sets.items()}
    originals = {name: pool.originals(name) for name in sets}
    before, first = set(), {}
    for row in rows.to_dict("records"):
        method, name = row["method"], row["set"]
        request = (method, name, row["model"], row.get("value"))
        parameters = json.loads(row["hyperparameters"])
        if stage == "tune":
            parameters.pop(methods.get(method).hyperparameter)
        if row["protocol"] != provenance.protocol_hash():
            yield row, f"is of protocol {row['protocol']!r}, not {provenance.protocol_hash()!r}"
        elif name not in sets:
            kind = "of development" if stage == "tune" else "reported"
            yield row, f"is on no set that is {kind}: what was looked at before is not scored"
        elif request in before:
            yield row, "is there twice: the set was looked at before"
        elif row["model"] not in originals[name]:
            yield row, "is of a model that did not hear the set"
        elif (row["clips"], row["references"]) != sizes[name]:
            yield row, (
                f"has {row['clips']} clips and {row['references']} references, the set "
                f"{sizes[name][0]} and {sizes[name][1]}"
            )
        elif parameters != first.setdefault(method, parameters):
            yield row, f"has other hyperparameters than the method's first row: {parameters}"
        before.add(request)


class Judge:
    """A pool, its study and its models.

    Args:
        folder: of the pool
        root: folder of the corpus; empty: its own place
        stage: ``tune`` or ``score``
        cache: where its models are

    Raises:
        ParameterError: another corpus than the pool was made of, and what `opened` refuses

    """

    def __init__(self, folder: Path, root: str, stage: str, cache: Cache | None = None) -> None:
        self.folder, self.stage = folder, stage
        self.pool, tables = opened(folder)
        self.rows = tables[stage]
        self.study: Study = described(
            self.pool.design.study | {"root": root or None}, cache=cache
        )
        if self.study.corpus_hash != self.pool.design.corpus_hash:
            raise ParameterError(f"root: {root!r} holds another corpus than the pool was made of")
        self.n_labels = len(self.pool.design.labels)
        self.units = self.pool.clips.set_index("hash")["split"]
        self.file = folder / FILES[stage]

    def requests(self, most: int, few: bool = False) -> Iterator[tuple[str, int]]:
        """Yield each set of the stage with each original, so many of a set at most.

        Args:
            most: originals of a set
            few: of reported sets, those of `few_of` alone

        """
        alone = few_of(self.pool.design) if few else None
        for one in self.pool.design.sets:
            if one.development == (self.stage == "tune") and (alone is None or one.name in alone):
                for k in self.pool.originals(one.name)[:most]:
                    yield one.name, k

    def judge(self, name: str, overrides: dict[str, Any], set_name: str, k: int) -> dict[str, Any]:
        """Have a model forget a set, and return the row of it."""
        told = methods.get(name)
        parameters = methods.parameters(
            name, **{**self.study.profile.methods.get(name, {}), **overrides}
        )
        model = self.pool.model(k, self.study.cache)
        data = request(self.study, self.pool.design, k, set_name, told.needs)
        if is_found_on_clips(name):
            unseen_loss = self.unseen_loss(k, set_name)
            whole = self.pool.design.sets[self.pool.design.of(set_name)].kind == "speaker"
            data = replace(data, unseen_loss=unseen_loss, level=unseen_loss if whole else None)
        with provenance.measured() as usage:
            outcome = told.unlearn(
                model, data, parameters, seed=self.pool.design.seed_of(k), fast=True
            )
        before = self._predictions(k, set_name)
        after = self._answers(outcome.model, set_name)
        moved = _of(before, "unseen")["prediction"].to_numpy() != _of(after, "unseen")["prediction"]
        references = [self._predictions(r, set_name) for r in self.pool.references(set_name)]
        return {
            "method": name, "set": set_name, "model": k, "clips": len(data.forget),
            "hyperparameters": json.dumps(asdict(parameters), sort_keys=True),
            **distances(after, references, self.n_labels), "changed": float(moved.mean()),
            "answers": answers(after),
            "seconds": round(usage.seconds, 1), "forward_backward": outcome.cost.forward_backward,
            "references": len(references), "protocol": provenance.protocol_hash(),
            "commit": provenance.commit(), "lock": provenance.lock_hash(),
            "machine": provenance.describe(),
        }

    def unseen_loss(self, k: int, set_name: str) -> float:
        """Return an original's mean loss on the unseen clips that are tuned on."""
        table = only_of("tune", self.pool.predictions(k, set_name), self.units)
        return float(_of(table, "unseen")["loss"].mean())

    def _predictions(self, k: int, set_name: str) -> pd.DataFrame:
        return self._of_stage(self.pool.predictions(k, set_name))

    def _of_stage(self, table: pd.DataFrame) -> pd.DataFrame:
        return only_of(self.stage, table, self.units)

    def _answers(self, model: Any, set_name: str) -> pd.DataFrame:
        return self._of_stage(self.pool.table(logits_of(model, self.study), set_name))

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to the file."""
        self.rows = pd.concat([self.rows, pd.DataFrame([row])], ignore_index=True)
        with replaced(self.file) as partial:
            self.rows.to_csv(partial, index=False, float_format="%.6g")

    def finished(self, **values: Any) -> pd.DataFrame:
        """Return the rows of these values."""
        rows = self.rows
        for name, value in values.items():
            rows = rows[rows[name] == value] if len(rows) else rows
        return rows


def tune(judge: Judge, name: str, say: Callable[[str], None]) -> None:
    """Try a method's hyperparameter on the development sets, until an inner value wins."""
    hyperparameter, requests = methods.get(name).hyperparameter, list(judge.requests(TUNED_ON))
    profile = judge.study.profile
    while values := values_to_try(name, profile, judge.finished(method=name), len(requests)):
        for value in values:
            for set_name, k in requests:
                if len(judge.finished(method=name, value=value, set=set_name, model=k)):
                    continue
                row = judge.judge(name, {hyperparameter: value}, set_name, k)
                judge.add(row | {"value": value})
                said = f"{name} {hyperparameter} = {value:g}, {set_name}, model {k}"
                say(f"{said}: {row['forgetting']:.3f}, {row['utility']:.3f}")


def chosen(folder: Path, name: str) -> dict[str, Any]:
    """Return what tuning chose of a method.

    Raises:
        ParameterError: it was not tuned

    """
    hyperparameter = methods.get(name).hyperparameter
    if not hyperparameter or is_found_on_clips(name):
        return {}
    file = folder / "tuned.csv"
    rows = pd.read_csv(file) if file.is_file() else pd.DataFrame({"method": []})
    rows = rows[rows["method"] == name]
    if rows.empty:
        raise ParameterError(f"method {name!r} was not tuned on this pool: run 'tune' first")
    value, _ = choose(rows)
    kind = type(getattr(methods.parameters(name), hyperparameter))
    return {hyperparameter: kind(value)}


def score(judge: Judge, name: str, say: Callable[[str], None]) -> None:
    """Run a method with what was chosen on every reported set, once.

    Raises:
        ParameterError: it was scored on one of the sets with other hyperparameters

    """
    overrides = chosen(judge.folder, name)
    base = judge.study.profile.methods.get(name, {})
    text = json.dumps(asdict(methods.parameters(name, **{**base, **overrides})), sort_keys=True)
    for row in judge.finished(method=name).itertuples():
        if row.hyperparameters != text:
            raise ParameterError(
                f"method {name!r} was scored on {row.set!r} with {row.hyperparameters}: its "
                "reported sets are development sets now, and are not scored again"
            )
    for set_name, k in judge.requests(SCORED_ON, few=makes_copies(name)):
        if not len(judge.finished(method=name, set=set_name, model=k)):
            row = judge.judge(name, overrides, set_name, k)
            judge.add(row)
            say(f"{name}, {set_name}, model {k}: {row['forgetting']:.3f}, {row['utility']:.3f}")


def requests_of(folder: Path, name: str) -> pd.DataFrame:
    """Return what a method's requests come to, as rows of `benchmarks.requests`.

    Args:
        folder: of the pool, with ``scored.csv``
        name: of the method

    Returns:
        rows that `benchmarks.summary.summary` takes, with ``set``; of kinds (sets of one size) that
        are whole

    """
    pool, tables = opened(folder)
    n_labels, units = len(pool.design.labels), pool.clips.set_index("hash")["split"]
    scored = tables["score"].query("method == @name").set_index(["set", "model"])
    rows, begun = [], set()
    for one in pool.design.sets:
        kind = one.kind if one.kind == "speaker" else f"{one.kind} {len(one.hashes)}"
        said = {
            k: all_scores(only_of("score", pool.predictions(k, one.name), units), n_labels)
            for k in pool.models["model"] if not one.development
        }
        for k in pool.originals(one.name)[:SCORED_ON] if said else ():
            if (one.name, k) not in scored.index:
                begun.add(kind)
                continue
            about = {"system": folder.name, "kind": kind, "set": one.name, "step": 0,
                     "request": f"{one.name}, model {k}", "model": k}  # fmt: skip
            row = scored.loc[(one.name, k)]
            columns = ("loss", "UAR", "AUC", "unseen")
            after = {column: row[column] for column in columns} | {"seconds": row["seconds"]}
            of_references = [(f"retrained {r}", said[r]) for r in pool.references(one.name)]
            for who, scores in (("original", said[k]), ("unlearned", after), *of_references):
                rows.append(about | {"who": who} | scores)
    table = pd.DataFrame([row for row in rows if row["kind"] not in begun])
    return table.rename(columns={"UAR": "uar", "AUC": "auc", "unseen": "unseen_uar"})


def levels(judge: Judge) -> pd.DataFrame:
    """Return what our method took for the loss of models that never heard a set, beside theirs.

    Returns:
        a row a request of ``scored.csv``: mean loss of the forget set by the original, as it was
        guessed for models that never heard it (``level``), as the method left it (``reached``), and
        of the references (``bar``); the original's on the unseen clips it was told

    """
    needs, rows = methods.get("perturbed").needs, []
    for row in judge.finished(method="perturbed").to_dict("records"):
        model = judge.pool.model(row["model"], judge.study.cache).eval()
        data = request(judge.study, judge.pool.design, row["model"], row["set"], needs)
        unseen_loss = judge.unseen_loss(row["model"], row["set"])
        with fast_mode.fast(model):
            logits = predict(model, data.forget)
            guess = never_heard.estimate(
                model, data.forget, logits.argmax(1), Cost(), unseen_loss
            ).level
        whole = judge.pool.design.sets[judge.pool.design.of(row["set"])].kind == "speaker"
        rows.append({
            "set": row["set"], "model": row["model"], "clips": row["clips"],
            "original": cross_entropy(logits, data.forget.labels).item(),
            "level": unseen_loss if whole else guess, "reached": row["loss"],
            "bar": row["loss, bar"], "unseen": unseen_loss,
            "protocol": provenance.protocol_hash(), "commit": provenance.commit(),
            "lock": provenance.lock_hash(), "machine": provenance.describe(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def shown(
    folder: Path, resamples: int = judgement.RESAMPLES, few: bool = False
) -> pd.DataFrame:
    """Return what each method that is whole comes to on a pool's reported sets.

    Args:
        folder: of the pool, with ``scored.csv``
        resamples: of the intervals
        few: on the sets of `few_of`, on which methods with an attack are whole, too

    Returns:
        of `benchmarks.judgement.intervals`, and ``requests``; ``original`` and ``references``, of
        which as many as there are originals of a set are judged, are rows, too; of `tried`

    Raises:
        ParameterError: what `opened` refuses

    """
    (pool, tables_of_stages), rows = opened(folder), []
    scored = tables_of_stages["score"]
    n_labels = len(pool.design.labels)
    units = pool.clips.set_index("hash")[["split", "speaker"]]
    alone = few_of(pool.design)
    asked = [
        one for one in pool.design.sets
        if not one.development and (one.name in alone or not few)
    ]
    for one in asked:
        tables = {
            k: only_of("score", pool.predictions(k, one.name), units["split"])
            for k in pool.models["model"]
        }
        said = {k: _of(table, "unseen")["prediction"].to_numpy() for k, table in tables.items()}
        unseen = _of(next(iter(tables.values())), "unseen")
        speakers = pd.factorize(units["speaker"][unseen["hash"]], sort=True)[0]
        references, originals = pool.references(one.name), pool.originals(one.name)[:SCORED_ON]

        of_unseen = {"labels": unseen["label"].to_numpy(), "speakers": speakers}
        for k, left_out in zip(originals, references, strict=False):
            about = {"set": one.name, "model": k, "clips": len(one.hashes), "changed": np.nan}
            rest = [r for r in references if r != left_out]
            for method, judged, beside in (
                ("original", k, references), ("references", left_out, rest),
            ):
                row = distances(tables[judged], [tables[r] for r in beside], n_labels)
                models = [said[judged], *(said[r] for r in beside)]
                rows.append(about | row | {"method": method} | _utilities(row, models, **of_unseen))
        for row in scored[scored["set"] == one.name].to_dict("records"):
            answered = np.array([SIGNS.index(sign) for sign in row["answers"]])
            models = [answered, *(said[r] for r in references)]
            rows.append(row | _utilities(row, models, **of_unseen))
    table = pd.DataFrame(rows)
    requests = int((table["method"] == "original").sum())
    whole = table.groupby("method").filter(lambda part: len(part) == requests)
    groups = {
        one.name: one.kind if one.kind == "speaker" else f"{one.kind} {len(one.hashes)}"
        for one in asked
    }
    trials = tried(curves(folder))
    useless = trials.index[trials["useful"].eq(False)]
    table = judgement.intervals(
        whole, groups, 1 + int(speakers.max()), resamples, apart={*judgement.APART, *useless}
    )
    return table.assign(requests=requests).join(trials)


def curves(folder: Path) -> pd.DataFrame:
    """Return what each value of each hyperparameter came to on a pool's development sets.

    Args:
        folder: of the pool, with ``tuned.csv``

    Returns:
        columns method, value, UAR (on the set), unseen (UAR), forgetting, utility: means over
        ``requests``, the same ones for all; the first rows are ``original`` and ``references``,
        whose distances are 0

    Raises:
        ParameterError: what `opened` refuses

    """
    pool, tables = opened(folder)
    units, n_labels = pool.clips.set_index("hash")["split"], len(pool.design.labels)
    rows = []
    for one in pool.design.sets:
        references = [
            only_of("tune", pool.predictions(r, one.name), units)
            for r in pool.references(one.name) if one.development
        ]
        for k in pool.originals(one.name)[:TUNED_ON] if one.development else ():
            table = only_of("tune", pool.predictions(k, one.name), units)
            rows.append({"method": "original", **distances(table, references, n_labels)})
    table = pd.DataFrame(rows)
    bars = table.assign(method="references", forgetting=0.0, utility=0.0)
    bars["UAR"], bars["unseen"] = table["UAR, bar"], table["unseen, bar"]
    table = pd.concat([table, bars, tables["tune"]]).assign(value=lambda t: t.get("value"))
    scores = ["UAR", "unseen", "forgetting", "utility"]
    by_value = table.groupby(["method", "value"], sort=False, dropna=False)
    means = by_value[scores].mean().assign(requests=by_value.size()).reset_index()
    return means[means["requests"] == len(rows)]


def tried(curves: pd.DataFrame) -> pd.DataFrame:
    """Return what tuning came to, by method: section 5.

    Args:
        curves: of the function of this name

    Returns:
        index method; ``trial``: the sum of both distances of the best value, or of the original;
        ``useful``: whether it is smaller than the original's; ``unseen, equal``: of
        `at_equal_forgetting`, of references their own

    """
    bar, rows = curves.set_index("method").loc["references"], {}
    for method, part in curves.groupby("method", sort=False):
        trial = (part["forgetting"] + part["utility"]).min()
        rows[method] = {"trial": trial, "unseen, equal": at_equal_forgetting(part, bar["UAR"])}
    table = pd.DataFrame(rows).T.rename_axis("method")
    table["useful"] = (table["trial"] < table["trial"]["original"]).astype(object)
    table.loc[list(judgement.APART), "useful"] = None
    table.loc["references", ["trial", "unseen, equal"]] = np.nan, bar["unseen"]
    return table


def at_equal_forgetting(curve: pd.DataFrame, bar: float) -> float:
    """Return the unseen UAR where a method's forget UAR is the references', between two values.

    Args:
        curve: columns value, UAR, unseen
        bar: forget UAR of the references

    Returns:
        by interpolation between neighbouring values, the largest where the curve is there more than
        once; not a number where no value of it reaches

    Examples:
        >>> curve = pd.DataFrame({"value": [3, 1, 2], "UAR": [.2, 1, .6], "unseen": [.1, .5, .4]})
        >>> round(at_equal_forgetting(curve, 0.7), 3), at_equal_forgetting(curve, 0.1)
        (0.425, nan)

    """
    points = curve.sort_values("value")
    return float(judgement.at_forgetting(points["UAR"], points["unseen"].to_numpy(), bar))


def _utilities(
    row: dict[str, Any], models: Sequence[np.ndarray], **of_unseen: np.ndarray
) -> dict[str, list[float]]:
    retain = abs(row["retain"] - row["retain, bar"])
    return {"utilities": judgement.utilities(np.stack(models), **of_unseen, retain=retain)}


def main() -> None:
    """Do what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("tune", "score", "levels", "show"))
    parser.add_argument("folder", type=Path, help="a pool")
    parser.add_argument("--root", default="", help="folder of its corpus")
    parser.add_argument("--cache", default="", help="where its models are")
    parser.add_argument("--methods", nargs="*", default=[], help="all by default")
    asked = parser.parse_args()
    if asked.stage == "show":
        table = shown(asked.folder)
        table.to_csv(asked.folder / "judged.csv", float_format="%.6g")
        few = shown(asked.folder, few=True)
        if set(few.index) - set(table.index):
            few.to_csv(asked.folder / "judged-few.csv", float_format="%.6g")
        curves(asked.folder).to_csv(
            asked.folder / "curves.csv", index=False, float_format="%.6g"
        )
        print(table.T.to_string(float_format="{:.3f}".format))
        return
    stage = "score" if asked.stage == "levels" else asked.stage
    judge = Judge(asked.folder, asked.root, stage, Cache(asked.cache or None))
    profiles.prepare_process(judge.study.profile)
    if asked.stage == "levels":
        table = levels(judge)
        table.to_csv(asked.folder / "levels.csv", index=False, float_format="%.6g")
        return
    for name in asked.methods or [name for name in methods.METHODS if name not in LEFT_OUT]:
        {"tune": tune, "score": score}[asked.stage](judge, name, partial(print, flush=True))


if __name__ == "__main__":
    try:
        main()
    except SpeechUnlearnError as error:
        sys.exit(f"error: {error}")
