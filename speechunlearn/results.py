"""The results protocol: tidy rows with their provenance, and the tables made from them.

A results folder holds ``cells.csv`` (one row a model: what it is and what it cost) and
``predictions.parquet`` (what it says of each clip); every score, interval and test is computed
from these two. Committed ones lie in ``data/results/<profile>-<corpus>/``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from speechunlearn import audit, corpora, methods, metrics, statistics
from speechunlearn.errors import ParameterError
from speechunlearn.machine import REPOSITORY
from speechunlearn.study import DEVELOPMENT, Cell

COMMITTED = REPOSITORY / "data" / "results"

#: what identifies a cell
KEY = [
    "profile", "task", "corpus", "setting", "encoder", "method", "n_forget", "tau", "seed",
    "draw", "variant", "hyperparameters",
]

TITLES = {"original": "Fine-tune"} | {m.name: m.title for m in methods.METHODS.values()}


class Results:
    """Cells of one or more studies.

    Args:
        cells: one row a cell; columns of `KEY`, cost, provenance, and ``cell`` (its id)
        predictions: columns cell, split, hash, speaker, label, prediction, loss, confidence

    """

    def __init__(self, cells: pd.DataFrame, predictions: pd.DataFrame) -> None:
        self.cells = cells
        self.predictions = predictions
        self._by_cell = {cell: part for cell, part in predictions.groupby("cell", sort=False)}

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Results:
        """Collect cells; one that occurs twice is kept once."""
        records, tables = {}, {}
        for cell in cells:
            name = _name(cell.record)
            records[name] = {"cell": name} | cell.record
            tables[name] = cell.predictions.assign(cell=name)
        if not records:
            raise ParameterError("results: there are no cells")
        return cls(
            pd.DataFrame(list(records.values())), pd.concat(tables.values(), ignore_index=True)
        )

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read a results folder.

        Raises:
            ParameterError: a folder without results

        """
        if not (folder / "cells.csv").is_file():
            raise ParameterError(f"no results in {str(folder)!r}: it has no cells.csv")
        text = dict.fromkeys(("draw", "variant", "commit", "lock"), str)
        cells = pd.read_csv(folder / "cells.csv", dtype=text).fillna({"variant": ""})
        return cls(cells, pd.read_parquet(folder / "predictions.parquet"))

    def write(self, folder: Path) -> None:
        """Add these cells to a results folder; one that is there already is replaced."""
        cells, predictions = self.cells, self.predictions
        if (folder / "cells.csv").is_file():
            before = Results.read(folder)
            kept = ~before.cells["cell"].isin(cells["cell"])
            cells = pd.concat([before.cells[kept], cells], ignore_index=True)
            old = before.predictions["cell"].isin(before.cells["cell"][kept])
            predictions = pd.concat([before.predictions[old], predictions], ignore_index=True)
        folder.mkdir(parents=True, exist_ok=True)
        order = ["setting", "draw", "seed", "method", "n_forget", "tau", "variant", "cell"]
        cells.sort_values(order).to_csv(folder / "cells.csv", index=False)
        compact = predictions.sort_values(["cell"], kind="stable").astype(
            {"loss": "float32", "confidence": "float32", "label": "int16", "prediction": "int16"}
        )
        compact.to_parquet(folder / "predictions.parquet", index=False, compression="zstd")

    def select(self, **values: object) -> Results:
        """Return the cells whose columns have these values; a list means any of them."""
        chosen = pd.Series(True, index=self.cells.index)
        for column, value in values.items():
            if column not in self.cells:
                raise ParameterError(f"results have no column {column!r}")
            wanted = list(value) if isinstance(value, list | tuple | set) else [value]
            chosen &= self.cells[column].isin(wanted)
        cells = self.cells[chosen]
        return Results(cells, self.predictions[self.predictions["cell"].isin(cells["cell"])])

    def reported(self) -> Results:
        """Return the cells of the main tables: no development draw, no variant."""
        main = (self.cells["draw"] != DEVELOPMENT) & (self.cells["variant"] == "")
        return Results(self.cells[main], self.predictions)

    def of_cell(self, cell: str, split: str | None = None) -> pd.DataFrame:
        """Return the predictions of one cell, of one split if given."""
        table = self._by_cell[cell]
        return table if split is None else table[table["split"] == split].reset_index(drop=True)

    def rows(self) -> pd.DataFrame:
        """Return tidy rows: one a cell, split and metric, with distances to the retrained model.

        A cell's reference is the model retrained without its draw, or without the largest draw
        that its own is nested in, with the same seed; where there is none, there is no distance.
        """
        tables = []
        for record in self.cells.to_dict("records"):
            predictions = self._by_cell[record["cell"]]
            scores = audit.evaluate(
                predictions, self._reference(record, predictions), n_labels=self.n_labels
            )
            columns = [c for c in self.cells.columns if c not in ("cell", "details")]
            tables.append(scores.assign(**{c: record[c] for c in columns}))
        table = pd.concat(tables, ignore_index=True)
        first = [*(k for k in KEY if k != "hyperparameters"), "split", "metric", "value", "seconds"]
        return table[first + [c for c in table if c not in first]]

    @property
    def n_labels(self) -> int:
        """Number of classes: the corpus's, or what labels and predictions show."""
        labels = corpora.get(str(self.cells["corpus"].iloc[0])).labels
        if labels:
            return len(labels)
        return int(self.predictions[["label", "prediction"]].to_numpy().max()) + 1

    def _reference(self, record: dict, predictions: pd.DataFrame) -> pd.DataFrame | None:
        same = self.cells
        for column in ("corpus", "setting", "encoder", "seed", "draw"):
            same = same[same[column] == record[column]]
        same = same[(same["method"] == "retrain") & (same["n_forget"] >= record["n_forget"])]
        for name in same.sort_values("n_forget")["cell"]:
            reference = self._by_cell[name]
            keys = set(zip(predictions["split"], predictions["hash"], strict=True))
            of_ours = [k in keys for k in zip(reference["split"], reference["hash"], strict=True)]
            if sum(of_ours) == len(keys):
                return reference[of_ours]
        return None


def committed(profile: str | None = None, corpus: str | None = None) -> Results | None:
    """Return the committed results of a profile and corpus, or None where there are none."""
    folder = COMMITTED / f"{profile}-{corpus}"
    return Results.read(folder) if folder.is_dir() else None


def all_committed() -> pd.DataFrame:
    """Return the tidy rows of every committed result."""
    folders = sorted(path.parent for path in COMMITTED.glob("*/cells.csv"))
    if not folders:
        raise ParameterError(f"no committed results in {str(COMMITTED)!r}")
    return pd.concat([Results.read(folder).rows() for folder in folders], ignore_index=True)


def paper_table1() -> pd.DataFrame:
    """Return Table 1 of Ren et al. 2025: columns method, n_forget, setting, forget, unseen."""
    return pd.read_csv(REPOSITORY / "data" / "paper" / "ren2025_table1.csv")


def table_of_methods(
    results: Results,
    setting: str,
    *,
    n_resamples: int = 1000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return Table 1's numbers: UAR by method and N, with speaker-clustered intervals.

    Args:
        results: cells of reported draws
        setting: ``validation`` or ``test``
        n_resamples: of the bootstrap
        generator: its randomness

    Returns:
        columns method, n_forget, split, value, low, high (mean over the pairs and its pooled
        bootstrap interval), pairs, distance (mean distance to the retrained model), mia_auc and
        mia_auc_distance (on the forget rows), seconds, tau

    """
    chosen = results.select(setting=setting).reported()
    scores = chosen.rows()
    rows = []
    for (method, n), cells in chosen.cells.groupby(["method", "n_forget"], sort=False):
        own = scores[(scores["method"] == method) & (scores["n_forget"] == n)]
        for split in ("forget", "retain", "unseen"):
            tables = [chosen.of_cell(cell, split) for cell in cells["cell"]]
            interval = statistics.pooled_bootstrap(
                tables, n_resamples=n_resamples, generator=generator
            )
            means = own[own["split"] == split].groupby("metric")["value"].mean()
            rows.append(
                {
                    "method": method, "n_forget": n, "split": split, "value": interval.value,
                    "low": interval.low, "high": interval.high, "pairs": len(cells),
                    "distance": means.get("uar_distance"), "mia_auc": means.get("mia_auc"),
                    "mia_auc_distance": means.get("mia_auc_distance"),
                    "seconds": cells["seconds"].mean(), "tau": cells["tau"].mean(),
                }
            )
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a table of methods as a reader wants it: methods down, N and sets across.

    Args:
        table: of `table_of_methods`
        paper: rows of `paper_table1` of the same setting, put beside it

    Returns:
        text such as ``0.43 [0.35, 0.51]``: the mean over the pairs and its 95 % interval

    """
    order = [TITLES[m] for m in TITLES if m in set(table["method"])]
    text = table.assign(
        text=[
            f"{v:.2f} [{low:.2f}, {high:.2f}]"
            for v, low, high in zip(table["value"], table["low"], table["high"], strict=True)
        ],
        method=table["method"].map(TITLES),
    )
    wide = text.pivot(index="method", columns=["n_forget", "split"], values="text").loc[order]
    if paper is not None:
        theirs = paper[paper["n_forget"].isin(table["n_forget"])]
        for split in ("forget", "unseen"):
            for (method, n), value in theirs.set_index(["method", "n_forget"])[split].items():
                if TITLES[method] in wide.index:
                    wide.loc[TITLES[method], (n, f"{split}, paper")] = (
                        "–" if pd.isna(value) else f"{value:.3f}"
                    )
    splits = ["forget", "forget, paper", "retain", "unseen", "unseen, paper"]
    columns = [
        (n, split) for n in sorted(set(table["n_forget"])) for split in splits
        if (n, split) in wide.columns
    ]
    wide = wide[columns].fillna("–")
    wide.columns = pd.MultiIndex.from_tuples(
        [(f"N = {n}", split) for n, split in columns], names=["", "UAR"]
    )
    wide.index.name = None
    return wide


def distances(table: pd.DataFrame) -> pd.DataFrame:
    """Return each method's distance to the retrained model: forget, retain, unseen UAR, attack."""
    order = [m for m in TITLES if m in set(table["method"]) and m != "retrain"]
    rows = []
    for n in sorted(set(table["n_forget"])):
        for method in order:
            part = table[(table["n_forget"] == n) & (table["method"] == method)].set_index("split")
            if part.empty:
                continue
            rows.append(
                {"N": n, "method": TITLES[method]}
                | {f"{split} UAR": f"{part.loc[split, 'distance']:.2f}" for split in part.index}
                | {
                    "attack AUC": f"{part.loc['forget', 'mia_auc']:.2f}",
                    "AUC to retrained": f"{part.loc['forget', 'mia_auc_distance']:.2f}",
                }
            )
    return pd.DataFrame(rows).set_index(["N", "method"])


def costs(results: Results) -> pd.DataFrame:
    """Return what each method cost on average: seconds, memory, clips sent through the model."""
    cells = results.reported().cells
    cells = cells.assign(method=pd.Categorical(cells["method"], [m for m in TITLES]))
    table = cells.groupby(["n_forget", "method"], observed=True)[
        ["seconds", "peak_memory_mb", "forward_backward"]
    ].mean()
    table = table.round({"seconds": 1, "peak_memory_mb": 0, "forward_backward": 0})
    table.columns = ["seconds", "peak memory (MiB)", "clips forward and backward"]
    return table.rename(index=TITLES, level="method").rename_axis(["N", "method"])


def tests_against(
    results: Results,
    setting: str,
    baseline: str,
    challengers: Sequence[str],
    *,
    split: str = "unseen",
    n_resamples: int = 2000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return whether methods beat a baseline: the paper's z-test beside a paired bootstrap.

    Returns:
        columns method, n_forget, difference (of the UAR, challenger minus baseline), low, high,
        p_paired (two-sided, speaker-clustered, paired), p_mcnemar (exact, two-sided; the
        largest of the pairs' own), z, p_z (one-tailed z-test of two
        proportions, as the paper's: it takes clips as independent and the models as unpaired)

    """
    chosen = results.select(setting=setting).reported()
    rows = []
    for n in sorted(int(n) for n in chosen.cells["n_forget"].unique()):
        for method in challengers:
            pairs = chosen.cells[chosen.cells["n_forget"] == n]
            own = pairs[pairs["method"] == method].set_index(["seed", "draw"])["cell"]
            other = pairs[pairs["method"] == baseline].set_index(["seed", "draw"])["cell"]
            both = own.index.intersection(other.index)
            if both.empty:
                continue
            a = [chosen.of_cell(own[key], split) for key in both]
            b = [chosen.of_cell(other[key], split) for key in both]
            difference = statistics.paired_bootstrap(
                a, b, n_resamples=n_resamples, generator=generator
            )
            uars = [
                np.mean([_uar(table, chosen.n_labels) for table in tables])
                for tables in (a, b)
            ]
            z = statistics.uar_z_test(*uars, len(a[0]))
            rows.append(
                {
                    "method": method, "n_forget": n, "difference": difference.value,
                    "low": difference.low, "high": difference.high,
                    "p_paired": difference.p_value,
                    "p_mcnemar": max(
                        statistics.mcnemar(own, other).p_value
                        for own, other in zip(a, b, strict=True)
                    ),
                    "z": z.z, "p_z": z.p_value,
                }
            )
    return pd.DataFrame(rows)


def best_tau(results: Results, method: str, n: int, setting: str = "validation") -> float:
    """Return the tau of highest UAR on unseen speakers, on the development draw: the paper's rule.

    Raises:
        ParameterError: no development cells of this method and n

    """
    scores = results.select(
        method=method, n_forget=n, draw=DEVELOPMENT, setting=setting
    )
    if scores.cells.empty:
        raise ParameterError(f"method {method!r} with N={n} was not run on the development draw")
    rows = scores.rows()
    rows = rows[(rows["split"] == "unseen") & (rows["metric"] == "uar")]
    return float(rows.sort_values(["value", "tau"], ascending=[False, True])["tau"].iloc[0])


def _name(record: dict) -> str:
    text = json.dumps({k: record[k] for k in KEY} | {"hash": record["corpus_hash"]}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _uar(table: pd.DataFrame, n_labels: int) -> float:
    return metrics.uar(table["label"], table["prediction"], n_labels)
