"""Table 1 and Figure 2 of Ren et al. 2025 at their own sizes, on RAVDESS, by the protocol.

    python -m benchmarks.table1 tune --root PATH
    python -m benchmarks.table1 run --root PATH --runs 0,0 1,0 2,0
    python -m benchmarks.table1 run --root PATH --runs 0,0 --setting test
    python -m benchmarks.table1 figure --root PATH
    python -m benchmarks.table1 show

A run (f, s) trains on four of six folds of speakers; fold f is unseen, the next one is for tuning.
``tune`` tries every tau on the development forget set of run (0, 0) (``tuned.csv``); ``run`` makes
all cells of Table 1 with the tau that was chosen (``validation.csv``, ``test.csv``); ``figure``
every tau in three runs (``figure.csv``). Finished rows are kept, so that a killed command goes on;
rows that were made otherwise are refused. ``clips.csv`` says in which order a row's ``answers`` are
(those clips whose fold is the row's), ``sets.csv`` in which order its ``forget_answers``. ``show``
writes what complete runs come to (``table.csv``) and what that says of the paper's claims
(``claims.csv``, see `benchmarks.claims`); of less than six runs it shows nothing.

Sizes, choices and runs: section 3 of ``data/protocol.md``. A forget set shares no clip with one
that was scored before the protocol, or on which tau is chosen: section 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks import claims
from benchmarks.claims import ATTACKS, Cell
from benchmarks.judged import SIGNS
from speechunlearn import corpora, methods, provenance
from speechunlearn.audit import membership, metrics
from speechunlearn.audit import predictions as per_clip
from speechunlearn.cache import Artefact, Cache
from speechunlearn.errors import ParameterError, SpeechUnlearnError
from speechunlearn.files import one_at_a_time, remove, replaced
from speechunlearn.lab import forget_sets, profiles, results
from speechunlearn.lab.forget_sets import DEVELOPMENT, ForgetSet
from speechunlearn.lab.study import Study
from speechunlearn.methods.pgd import AdversarialSet, AttackParameters
from speechunlearn.models import fast_mode, training
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost

FOLDER = provenance.REPOSITORY / "data" / "table1"
FOLDS, REPEATS = 6, 2
#: training seed and forget draw of run (0, 0); those before were used for development
FIRST_SEED = 10
#: methods of a row: the two references, those without an attack; `ATTACKS` are those with one
REFERENCES = ("original", "retrain")
PLAIN = ("remain", "remain_superloss", "ran_lab")
METHODS = (*REFERENCES, *PLAIN, "adv", "adv_ela")
#: runs of Figure 2: fold and repeat
FIGURE = ((0, 0), (1, 0), (2, 0))
#: fewer complete runs are not shown as Table 1
LEAST = 6
#: what tells a row from every other of its file
KEY = ["setting", "fold", "repeat", "draw", "method", "fisher_per", "n", "tau"]


class Run(NamedTuple):
    """One training of the rotation and its forget set."""

    fold: int
    repeat: int = 0
    setting: str = "validation"
    development: bool = False

    @property
    def seed(self) -> int:
        """Training seed, and source of all that methods draw."""
        return FIRST_SEED + FOLDS * self.repeat + self.fold

    @property
    def draw(self) -> int | str:
        """Which random forget set."""
        return DEVELOPMENT if self.development else self.seed

    @property
    def name(self) -> str:
        """In messages."""
        return f"run ({self.fold}, {self.repeat})"

    @property
    def about(self) -> dict[str, Any]:
        """In the rows."""
        return {
            "setting": self.setting, "fold": self.fold, "repeat": self.repeat,
            "draw": str(self.draw), "seed": self.seed,
        }


def _profile() -> profiles.Profile:
    profile = profiles.get("cpu")
    return profile.with_values(recipe=profile.recipe | {"fast": True}, threads=1)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the table; the defaults are the protocol's.

    Args:
        ns: N, clips that are forgotten
        taus: bounds that are tried
        copies: M
        steps: P
        epochs: of every method
        learning_rate: of every method
        corpus: whose speakers are rotated
        profile: recipe of the training, encoder

    """

    ns: tuple[int, ...] = (10, 30, 50, 100)
    taus: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    copies: int = 20
    steps: int = 50
    epochs: int = 15
    learning_rate: float = 3e-4
    corpus: str = "ravdess"
    profile: profiles.Profile = field(default_factory=_profile)

    def parameters(self, cell: Cell) -> Any:
        """Return the hyperparameters of a cell; the recipe of a reference."""
        if cell.method in REFERENCES:
            return training.Recipe(**self.profile.recipe)
        values: dict[str, Any] = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        if cell.tau:
            values |= {"copies": self.copies, "steps": self.steps, "tau": cell.tau}
        if cell.fisher_per:
            values["fisher_per"] = cell.fisher_per
        return methods.parameters(cell.method, **values)

    def text(self, cell: Cell) -> str:
        """Return the hyperparameters of a cell as a row has them: each copy takes P steps."""
        values = asdict(self.parameters(cell))
        assert values.pop("attack_margin", None) is None
        return json.dumps(values, sort_keys=True)


def folds(manifest: pd.DataFrame) -> pd.Series:
    """Return the fold of each speaker: as many women and men in each, drawn by seed 0.

    Args:
        manifest: columns speaker, gender

    Raises:
        ParameterError: women or men that do not make six equal parts

    """
    fold: dict[str, int] = {}
    generator = np.random.default_rng(0)
    for gender in ("female", "male"):
        speakers = sorted(manifest["speaker"][manifest["gender"] == gender].unique())
        if not speakers or len(speakers) % FOLDS:
            raise ParameterError(f"folds: {len(speakers)} {gender} speakers are not {FOLDS} parts")
        for place, speaker in enumerate(generator.permutation(speakers)):
            fold[str(speaker)] = place * FOLDS // len(speakers)
    return pd.Series(fold).sort_index()


def rotated(manifest: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return a manifest with the split of a run.

    In setting test, what is for tuning in the other one is trained on, too.
    """
    unseen, other = (
        ("validation", "test") if run.setting == "validation" else ("test", "validation")
    )
    split = {run.fold: unseen, (run.fold + 1) % FOLDS: other}
    fold = folds(manifest)[manifest["speaker"]]
    return manifest.assign(split=[split.get(k, "train") for k in fold])


def for_unlearning(model: Classifier) -> Classifier:
    """Have no feature masked in unlearning, and no convolution of the front end moved, in place."""
    model.network.config.apply_spec_augment = False
    model.network.freeze_feature_encoder()
    return model


class Table:
    """The rows of one file, and all that they are made from.

    Args:
        folder: of the files
        name: of the file: ``tuned``, ``validation``, ``test``, ``figure`` or ``variant``
        root: folder of the corpus
        sizes: of the table
        cache: where models and adversarial copies are

    Raises:
        ParameterError: a row of another protocol, or of other sizes

    """

    def __init__(
        self, folder: Path, name: str, root: str = "", sizes: Sizes | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.folder, self.file, self.root = folder, folder / f"{name}.csv", root
        self.sizes, self.cache = sizes or Sizes(), cache or Cache()
        self.rows  # noqa: B018  refused before anything is trained

    @property
    def rows(self) -> pd.DataFrame:
        """What is in the file."""
        return read(self.file, self.sizes)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to the file, to which other processes may add, too."""
        with one_at_a_time(self.folder), replaced(self.file) as partial:
            table = pd.concat([self.rows, pd.DataFrame([row])], ignore_index=True)
            table.to_csv(partial, index=False, float_format="%.6g")

    def find(self, run: Run, cell: Cell) -> pd.DataFrame:
        """Return the row of a cell; empty where it is not finished."""
        return _of(self.rows, **run.about, **cell._asdict())

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The corpus, every clip once; written, with the fold of each, beside the rows."""
        table = corpora.read_manifest(self.sizes.corpus, self.root or None)
        table = table.drop_duplicates("hash").reset_index(drop=True)
        fold = folds(table)[table["speaker"]].to_numpy()
        self._keep("clips.csv", table[["hash", "speaker", "label"]].assign(fold=fold))
        return table

    def study(self, run: Run) -> Study:
        """Return the study of a run."""
        return Study(
            self.sizes.profile, self.sizes.corpus, self.root or None, setting=run.setting,
            cache=self.cache, read=lambda: rotated(self.manifest, run),
        )

    @cached_property
    def looked_at(self) -> set[str]:
        """Clips of the forget sets of the profile's own split, and of that which tau is chosen on.

        They are scored, or chosen on, before: no reported forget set has one of them.
        """
        before = Study(
            self.sizes.profile, self.sizes.corpus, self.root or None, cache=self.cache,
            read=lambda: self.manifest,
        )
        draws = [DEVELOPMENT, *(draw for _, draw in self.sizes.profile.runs)]
        most = max(self.sizes.ns)
        scored = [before.hashes(forget_sets.clips(most, draw)) for draw in draws]
        return {*sum(scored, []), *self.order(self.study(TUNED), TUNED)}

    def order(self, study: Study, run: Run) -> list[str]:
        """Return the contents of the largest forget set of a run; the others are its first."""
        largest = forget_sets.clips(max(self.sizes.ns), run.draw)
        if run.development:
            return study.hashes(largest)
        return largest.hashes(study.train_manifest, exclude=self.looked_at)

    def keep_order(self, run: Run, order: Sequence[str]) -> None:
        """Write the forget set of a run beside the rows."""
        about = {key: value for key, value in run.about.items() if key != "seed"}
        self._keep("sets.csv", pd.DataFrame({"place": range(len(order)), "hash": order}), about)

    def _keep(self, name: str, part: pd.DataFrame, about: dict[str, Any] | None = None) -> None:
        """Write a part of a table once, with what it is about; refuse another one."""
        file, part = self.folder / name, part.assign(**(about or {})).astype(str)
        with one_at_a_time(self.folder):
            known = pd.read_csv(file, dtype=str) if file.is_file() else part[:0]
            before = _of(known, **(about or {}))
            if before.empty:
                with replaced(file) as partial:
                    pd.concat([known, part]).to_csv(partial, index=False)
            elif not before.reset_index(drop=True).equals(part.reset_index(drop=True)):
                raise ParameterError(f"{file}: other clips than are there now: {about or ''}")

    def chosen(self, method: str, fisher_per: str, n: int) -> float:
        """Return the tau of the highest UAR on the tuning fold; of equals, the smallest.

        Raises:
            ParameterError: it was not tuned, or not with every tau

        """
        rows = _of(
            read(self.folder / "tuned.csv", self.sizes),
            **TUNED.about, method=method, fisher_per=fisher_per, n=n,
        )
        missing = sorted(set(self.sizes.taus) - set(rows["tau"]))
        if missing:
            called = f"{method} {fisher_per}".strip()
            raise ParameterError(f"{called}, N = {n}: tau {missing} not tuned: run 'tune' first")
        return float(rows.sort_values("tau").set_index("tau")["tuning"].idxmax())

    def cells(self, taus: Iterable[float] = ()) -> list[Cell]:
        """Return the cells that have an attack: of each tau, or each with the tau that was chosen.

        Those of one tau follow each other.
        """
        columns = [(n, method, per) for n in self.sizes.ns for method, per in ATTACKS]
        taus = list(taus)
        cells = [
            Cell(method, n, per, tau) for n, method, per in columns
            for tau in taus or [self.chosen(method, per, n)]
        ]
        return sorted(cells, key=lambda cell: cell.tau)

    def plain(self) -> list[Cell]:
        """Return the cells that have no attack."""
        return [Cell(name, n) for name in (*REFERENCES, *PLAIN) for n in self.sizes.ns]


#: the run and forget set that tau is chosen on
TUNED = Run(0, development=True)
#: runs of each file that is reported
REPORTED = {
    "validation": [Run(fold, repeat) for repeat in range(REPEATS) for fold in range(FOLDS)],
    "test": [Run(fold, setting="test") for fold in range(4)],
    "figure": [Run(*run) for run in FIGURE],
}

#: texts of a row, which may look like numbers
_TEXT = (
    "draw", "fisher_per", "answers", "forget_answers", "protocol", "commit", "lock", "corpus_hash",
)  # fmt: skip


def read(file: Path, sizes: Sizes) -> pd.DataFrame:
    """Return the rows of a file.

    Raises:
        ParameterError: a row of another protocol, or of other sizes; the message names it

    """
    if not file.is_file():
        return pd.DataFrame(columns=[*KEY, "seed", "tuning"])
    table = pd.read_csv(file, dtype=dict.fromkeys(_TEXT, str)).fillna({"fisher_per": ""})
    text = cache(sizes.text)
    for row in table.itertuples():
        cell = Cell(row.method, row.n, row.fisher_per, row.tau)
        called = f"{file.name}, run ({row.fold}, {row.repeat}), {' '.join(map(str, cell))}"
        if row.protocol != provenance.protocol_hash():
            raise ParameterError(f"{called}: of protocol {row.protocol!r}")
        known = row.n in sizes.ns and (not row.tau or row.tau in sizes.taus)
        if not known or row.hyperparameters != text(cell._replace(n=0)):
            raise ParameterError(f"{called}: other sizes than the table's: {row.hyperparameters}")
    return table


def _of(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name].astype(type(value)) == value] if len(table) else table
    return table


def _of_run(table: pd.DataFrame, run: Run) -> dict[Cell, dict[str, Any]]:
    rows = _of(table, **run.about).to_dict("records")
    return {Cell(*(row[key] for key in Cell._fields)): row for row in rows}


class Trained:
    """A run of the rotation, with its clips in memory.

    Args:
        table: that its rows are of
        run: fold, repeat, setting and forget set

    """

    def __init__(self, table: Table, run: Run) -> None:
        self.table, self.run, self.study = table, run, table.study(run)
        self.order = table.order(self.study, run)
        table.keep_order(run, self.order)

    def first(self, n: int) -> ForgetSet:
        """Return the first n clips of the run's order, in whose place no larger set stands."""
        return forget_sets.listed(f"{self.run.draw}, first {n}", self.order[:n])

    def attack(self, most: int, parameters: AttackParameters) -> Artefact:
        """Return the adversarial copies of the first clips."""
        return self.study.artefact(
            "adversarial",
            {"forget_set": self.first(most), "seed": self.run.seed, "parameters": parameters},
        )

    def row(self, cell: Cell, most: int = 0) -> dict[str, Any]:
        """Make the model of a cell, and return its row.

        Args:
            cell: of the table
            most: clips that were attacked together, of which the cell's are the first

        """
        sizes, study, seed = self.table.sizes, self.study, self.run.seed
        success = float("nan")
        if cell.method in REFERENCES:
            without = self.first(cell.n) if cell.method == "retrain" else None
            call = {"without": without, "seed": seed}
            folder = study.cache.get(study.artefact("models", call))
            card = json.loads((folder / "card.json").read_text())
            model = study.original(seed) if without is None else study.retrained(seed, without)
            origin = {key: card[key] for key in _COST}
        else:
            parameters = sizes.parameters(cell)
            data = study.unlearning_data([self.first(cell.n)], seed, methods.get(cell.method).needs)
            if most:
                study.cache.get(self.attack(most, parameters.attack))  # outside of the clock
                data = replace(data, adversarial=partial(self._copies, cell.n, most))
            original = for_unlearning(study.original(seed))
            with provenance.measured() as usage:
                outcome = methods.get(cell.method).unlearn(
                    original, data, parameters, seed=seed, fast=True
                )
            model, cost = outcome.model, outcome.cost
            success = outcome.details.get("reached_target", [success])[0]
            origin = dict(zip(_COST, (
                usage.seconds + cost.kept_seconds, usage.peak_memory_mb, cost.forward_backward,
                provenance.commit(), provenance.lock_hash(),
                f"{provenance.describe()}, fast computation",
            ), strict=True))  # fmt: skip
        return {
            **self.run.about, **cell._asdict(), "hyperparameters": sizes.text(cell),
            **scores(self.predictions(model, cell.n), len(study.labels)), "success": success,
            **origin, "protocol": provenance.protocol_hash(), "corpus_hash": study.corpus_hash,
        }

    def _copies(
        self, n: int, most: int, model: Classifier, parameters: AttackParameters, seed: int,
        cost: Cost,
    ) -> AdversarialSet:
        """Return the copies of the first n of the clips that were attacked together."""
        whole = Cost()
        copies = self.study.adversarial(self.first(most), seed, parameters, whole)
        for name, value in vars(whole).items():
            share = value * n / most
            setattr(cost, name, getattr(cost, name) + type(value)(share))
        return copies.of_first(n)

    @cached_property
    def _others(self) -> Any:
        """Clips that are not trained on."""
        return self.study._load(self._untrained)

    @cached_property
    def _untrained(self) -> pd.DataFrame:
        manifest = self.study.manifest
        return manifest[~manifest["split"].isin(self.study.train_splits)].reset_index(drop=True)

    def predictions(self, model: Classifier, n: int) -> pd.DataFrame:
        """Return what a model says of the clips to forget, to retain, for tuning and unseen."""
        study, forget = self.study, set(self.order[:n])
        with fast_mode.fast(model):
            said = training.answers(model, {"train": study.train, "others": self._others})
        hashes = [*study.train.hashes, *self._untrained["hash"]]
        place = {content: k for k, content in enumerate(hashes)}
        logits = np.concatenate([said["train"], said["others"]])
        parts = {
            "forget": self.order[:n],
            "retain": [content for content in study.train.hashes if content not in forget],
            "unseen": self._split(self.run.setting),
        }
        if self.run.setting == "validation":
            parts["tuning"] = self._split("test")
        of_parts = {
            part: logits[[place[content] for content in contents]]
            for part, contents in parts.items()
        }
        return per_clip.table(of_parts, parts, study.manifest, study.labels)

    def _split(self, split: str) -> list[str]:
        return self._untrained["hash"][self._untrained["split"] == split].tolist()


_COST = ("seconds", "peak_memory_mb", "forward_backward", "commit", "lock", "machine")


def scores(table: pd.DataFrame, n_labels: int) -> dict[str, Any]:
    """Return the scores of a model.

    Args:
        table: predictions with splits ``forget``, ``retain``, ``unseen`` and perhaps ``tuning``
        n_labels: number of classes

    Returns:
        of the forget set the UAR over the classes that are there, and over all, absent ones as 0,
        the mean loss in nats, and the AUC of the attack on the loss (members have the lower one)
        beside the unseen clips; UAR of the other parts; the answers, a sign a clip

    """
    parts = dict(iter(table.groupby("split", sort=False)))
    uars = {
        name: metrics.uar(part["label"], part["prediction"], n_labels)
        for name, part in parts.items()
    }
    losses = [parts[name]["loss"] for name in ("forget", "unseen")]
    signs = {name: "".join(SIGNS[k] for k in part["prediction"]) for name, part in parts.items()}
    return {
        "forget": uars["forget"],
        "forget_all": uars["forget"] * parts["forget"]["label"].nunique() / n_labels,
        "loss": losses[0].mean(),
        "auc": membership.auc(membership.loss_membership_attack(*losses)),
        "retain": uars["retain"], "tuning": uars.get("tuning", float("nan")),
        "unseen": uars["unseen"],
        "answers": signs["unseen"], "forget_answers": signs["forget"],
    }


Say = Callable[[str], None]


def make(
    table: Table, run: Run, plain: Sequence[Cell], attacked: Callable[[], Sequence[Cell]],
    names: Sequence[str], say: Say, elsewhere: Sequence[Table] = (),
) -> None:
    """Make the rows of a run that are not there yet; copies of a tau go when its rows are whole.

    Args:
        table: that they are added to
        run: of the rotation
        plain: cells without an attack
        attacked: returns those with one; asked after the others are finished
        names: of methods
        say: told of every row
        elsewhere: tables that may have the row already

    """
    trained: list[Trained] = []

    def begun() -> Trained:
        if not trained:
            trained.append(Trained(table, run))
        return trained[0]

    def finish(cell: Cell, most: int = 0) -> None:
        if cell.method not in names or len(table.find(run, cell)):
            return
        start = time.perf_counter()
        rows = [rows for other in elsewhere if len(rows := other.find(run, cell))]
        row = rows[0].iloc[0].to_dict() if rows else begun().row(cell, most)
        table.add(row)
        say(
            f"({run.fold}, {run.repeat}) {run.draw} {' '.join(map(str, cell))}: forget "
            f"{row['forget_all']:.3f}, unseen {row['unseen']:.3f}, "
            f"{time.perf_counter() - start:.0f} s"
        )

    for cell in plain:
        finish(cell)
    if not {"adv", "adv_ela"} & set(names):
        return
    cells = attacked()
    for tau in dict.fromkeys(cell.tau for cell in cells):
        together = [cell for cell in cells if cell.tau == tau]
        if all(len(table.find(run, cell)) for cell in together):
            continue
        most = max(cell.n for cell in together)
        for cell in together:
            finish(cell, most)
        if all(len(table.find(run, cell)) for cell in together):
            copies = begun().attack(most, table.sizes.parameters(together[0]).attack)
            remove(table.cache.folder(copies.kind, copies.specification))


def shown(
    folder: Path, say: Say, sizes: Sizes | None = None, resamples: int = claims.RESAMPLES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return Table 1, and what becomes of the claims on it.

    Args:
        folder: of the rows
        say: told how many cells of each file are there, and what its incomplete runs lack
        sizes: of the table
        resamples: of the intervals

    Returns:
        of `benchmarks.claims.levels`, and of `benchmarks.claims.judged`

    Raises:
        ParameterError: less than `LEAST` complete runs; a tau that is not tuned; a row that `read`
            refuses, or whose answers give another UAR than it has

    """
    sizes, rows = sizes or Sizes(), {}
    table, n_attacked = Table(folder, "tuned", sizes=sizes), len(ATTACKS) * len(sizes.ns)
    for name, asked in {"tuned": [TUNED], **REPORTED}.items():
        rows[name] = read(folder / f"{name}.csv", sizes)
        of_setting = name in ("validation", "test")
        n_cells = n_attacked * (1 if of_setting else len(sizes.taus))
        n_cells += len(table.plain()) if of_setting else 0
        say(f"{name}.csv: {len(rows[name])} of {len(asked) * n_cells} cells")
    cells = dict.fromkeys(REPORTED, [*table.plain(), *table.cells()])
    cells["figure"] = [*table.cells(sizes.taus), *(Cell("retrain", n) for n in sizes.ns)]
    samples, missing = {}, {}
    rows["figure"] = pd.concat([rows["validation"], rows["figure"]])  # with the retrained models
    for name, asked in REPORTED.items():
        of_runs = {run: _of_run(rows[name], run) for run in asked}
        lacking = {run: [cell for cell in cells[name] if cell not in of_runs[run]] for run in asked}
        complete = {run: of_runs[run] for run in asked if not lacking[run]}
        missing[name] = f"{name}.csv, {len(complete)} complete runs; " + "; ".join(
            f"{run.name} lacks {len(absent)} cells, first {absent[0].name}"
            for run, absent in lacking.items() if absent
        )
        if len(complete) < len(asked):
            say(missing[name])
        if len(complete) >= min(LEAST, len(asked)):
            samples[name] = _sample(folder, sizes, complete, resamples)
    if "validation" not in samples:
        raise ParameterError(f"Table 1 takes {LEAST} complete runs: {missing['validation']}")
    tuned = {cell: row["tuning"] for cell, row in _of_run(rows["tuned"], TUNED).items()}
    questions = claims.Asked(tuned, results.paper_table1(), sizes.ns, sizes.taus).questions()
    settings = [name for name in ("validation", "test") if name in samples]
    levels = [claims.levels(samples[name], name, cells[name]) for name in settings]
    both = pd.concat(levels), claims.judged(list(questions), samples, missing)
    first, second = (part.assign(protocol=provenance.protocol_hash()) for part in both)
    return first, second


def _sample(
    folder: Path, sizes: Sizes, of_runs: dict[Run, dict[Cell, dict[str, Any]]], resamples: int
) -> claims.Sample:
    """Return the rows of some runs with the clips that their answers are of."""
    clips, sets = (pd.read_csv(folder / name, dtype=str) for name in ("clips.csv", "sets.csv"))
    labels = Study(sizes.profile, sizes.corpus, read=lambda: clips).labels
    clips = clips.assign(label=clips["label"].map(labels.index)).set_index("hash")
    every = []
    for run, rows in of_runs.items():
        about = {key: value for key, value in run.about.items() if key != "seed"}
        decoded = {
            cell: row | {key: _decoded(row[key]) for key in ("answers", "forget_answers")}
            for cell, row in rows.items()
        }
        unseen, forget = _of(clips, fold=run.fold), clips.loc[_of(sets, **about)["hash"]]
        every.append(claims.Rows(run.name, decoded, unseen, forget))
    return claims.Sample(every, len(labels), resamples)


def _decoded(signs: str) -> np.ndarray:
    return np.array([SIGNS.index(sign) for sign in signs])


def runs(texts: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield fold and repeat of texts such as ``0,1``.

    Raises:
        ParameterError: a text that names no run

    """
    for text in texts:
        if not re.fullmatch(f"[0-{FOLDS - 1}],[0-{REPEATS - 1}]", text):
            raise ParameterError(f"runs: {text!r} is no fold and repeat such as 5,1")
        yield int(text[0]), int(text[2])


def main() -> None:
    """Do what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("tune", "run", "figure", "show"))
    parser.add_argument("--root", default="", help="folder of the corpus")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the rows")
    parser.add_argument("--cache", default="", help="where models and copies are")
    parser.add_argument("--runs", nargs="*", default=[], help="fold,repeat")
    parser.add_argument("--setting", default="validation", choices=("validation", "test"))
    parser.add_argument("--taus", nargs="*", type=float, default=[], help="all by default")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--learning-rate", type=float, default=0.0, help="another one: rows in variant.csv"
    )
    asked = parser.parse_args()
    sizes, say = Sizes(), partial(print, flush=True)
    if asked.stage == "show":
        table, answers = shown(asked.folder, say)
        for name, part in (("table", table), ("claims", answers)):
            part.to_csv(asked.folder / f"{name}.csv", index=False, float_format="%.6g")
        for part in (table.drop(columns="protocol"), answers[claims.PRINTED]):
            say(part.to_string(index=False, na_rep="", float_format="{:.3f}".format))
        return
    profiles.prepare_process(sizes.profile)
    name = {"tune": "tuned", "run": asked.setting, "figure": "figure"}[asked.stage]
    tables = partial(Table, asked.folder, root=asked.root, cache=Cache(asked.cache or None))
    table, taus = tables(name, sizes=sizes), asked.taus or sizes.taus
    if asked.stage == "tune":
        make(table, TUNED, [], partial(table.cells, taus), asked.methods, say)
    elif asked.stage == "figure":
        reported = tables("validation", sizes=sizes)
        for run in runs(asked.runs or [f"{fold},{repeat}" for fold, repeat in FIGURE]):
            cells = partial(table.cells, taus)
            make(table, Run(*run), [], cells, asked.methods, say, [reported])
    else:
        cells = table.cells
        if asked.learning_rate:
            sizes = replace(sizes, learning_rate=asked.learning_rate)
            table = tables("variant", sizes=sizes)
        for run in runs(asked.runs):
            make(table, Run(*run, asked.setting), table.plain(), cells, asked.methods, say)


if __name__ == "__main__":
    try:
        main()
    except SpeechUnlearnError as error:
        sys.exit(f"error: {error}")
