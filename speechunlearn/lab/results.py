"""The results protocol: tidy rows with their provenance, and the tables made from them.

A results folder holds ``evaluations.csv`` (one row a model: what it is and what it cost) and
``predictions.parquet`` (what it says of each clip); every score, interval and test is computed
from these two. Committed ones lie in ``data/results/<profile>-<corpus>/``.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from speechunlearn import corpora, methods
from speechunlearn.audit import metrics, scoring, statistics
from speechunlearn.dataset import tasks
from speechunlearn.errors import NotMade, ParameterError
from speechunlearn.files import one_at_a_time, replaced, sha256
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.study import Evaluation
from speechunlearn.provenance import REPOSITORY

COMMITTED = REPOSITORY / "data" / "results"

#: a results folder's; whoever reads the first has the second of then, or a later one
_FILES = ("evaluations.csv", "predictions.parquet")
#: beside them: the hashes that they may have
_SUMS = "SHA256SUMS"

#: what identifies an evaluation
KEY = [
    "profile", "task", "corpus", "setting", "encoder", "method", "n_forget", "tau", "seed",
    "forget_id", "variant", "hyperparameters",
]

#: what an evaluation has in common with the retrained model that it is compared with
_SAME = ["corpus", "setting", "encoder", "seed", "forget_id"]

#: variant of models that were retrained from further seeds, for the spread between them
ANOTHER_SEED = "another seed"

#: in the variant of evaluations of the leaderboard's request made in parts, one after another
SEQUENTIAL = "sequential requests"
#: that variant where the forget set has as many clips or more, see `sequential_variant`
IN_SEQUENCE = f"in 5 {SEQUENTIAL}"

#: variant of evaluations of `perturbed` with one of its parts changed: followed by which
COMPONENT = "perturbed copies: "

#: what stands in a table where there is no value
MISSING = "–"

TITLES = {"original": "Original"} | {m.name: m.title for m in methods.METHODS.values()}


class Results:
    """Evaluations of one or more studies.

    Args:
        evaluations: one row an evaluation; columns of `KEY`, cost, provenance, and ``evaluation``
            (its id)
        tables: by id, the table of `speechunlearn.audit.predictions.table`; those of other
            evaluations may be among them. The first results were written with split, hash, speaker,
            label, prediction, loss and confidence alone

    """

    def __init__(self, evaluations: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> None:
        # the first results were written without it: random forget sets
        if "forget_kind" not in evaluations:
            evaluations = evaluations.assign(forget_kind="clips")
        self.evaluations = evaluations
        self._tables = tables

    @classmethod
    def of(cls, evaluations: Iterable[Evaluation]) -> Results:
        """Collect evaluations; one that occurs twice is kept once.

        Raises:
            ParameterError: there are none
            NotMade: one of them is only planned

        """
        # a plan has all of them, before it is said that one is not made
        evaluations = list(evaluations)
        if not all(evaluation.record for evaluation in evaluations):
            raise NotMade("results: an evaluation is not made yet")
        if not evaluations:
            raise ParameterError("results: there are no evaluations")
        named = {_name(evaluation.record): evaluation for evaluation in evaluations}
        records = [{"evaluation": name} | evaluation.record for name, evaluation in named.items()]
        tables = {name: _clustered(evaluation.predictions) for name, evaluation in named.items()}
        return cls(pd.DataFrame(records), tables)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read a results folder.

        Raises:
            ParameterError: a folder without results, or with others than were written

        """
        if not (folder / "evaluations.csv").is_file():
            raise ParameterError(f"no results in {str(folder)!r}: it has no evaluations.csv")
        text = dict.fromkeys(("forget_id", "variant", "commit", "lock", "needs", "protocol"), str)
        table, answers = _as_written(folder)
        evaluations = pd.read_csv(io.BytesIO(table), dtype=text)
        evaluations = evaluations.fillna({"variant": "", "needs": "", "protocol": ""})
        predictions = _clustered(pd.read_parquet(io.BytesIO(answers)))
        return cls(evaluations, dict(list(predictions.groupby("evaluation", sort=False))))

    def write(self, folder: Path) -> None:
        """Add these evaluations to a results folder; one that is there already is replaced.

        Chapters that run side by side add to the same folder: one waits for the other. Each file is
        replaced in one step, so that whoever reads, or a run that is killed, finds whole ones.
        """
        order = [
            "setting", "forget_id", "seed", "method", "n_forget", "tau", "variant", "evaluation"
        ]
        with one_at_a_time(folder):
            both = self
            if (folder / "evaluations.csv").is_file():
                before = Results.read(folder)
                rows = pd.concat([before.evaluations, self.evaluations])
                rows = rows.drop_duplicates("evaluation", keep="last")
                both = Results(rows, {**before._tables, **self._tables})
            predictions = both.predictions
            real = predictions.select_dtypes("float64").columns
            compact = predictions.sort_values(["evaluation"], kind="stable").astype(
                dict.fromkeys(real, "float32") | {"label": "int16", "prediction": "int16"}
            )
            places = [folder / name for name in _FILES]
            with replaced(places[0]) as table, replaced(places[1]) as answers:
                compact.to_parquet(answers, index=False, compression="zstd")
                both.evaluations.sort_values(order).to_csv(table, index=False)
                # a kill may leave the files of before, or one of them
                valid = [(table, places[0]), (answers, places[1]), *((one, one) for one in places)]
                with replaced(folder / _SUMS) as partial:
                    partial.write_text("".join(
                        f"{sha256(file)}  {place.name}\n" for file, place in valid if file.exists()
                    ))
            # the predictions were moved first: an evaluation that is read has its own

    def select(self, **values: object) -> Results:
        """Return the evaluations whose columns have these values; a list means any of them."""
        chosen = pd.Series(True, index=self.evaluations.index)
        for column, value in values.items():
            allowed = list(value) if isinstance(value, list | tuple | set) else [value]
            chosen &= self.evaluations[column].isin(allowed)
        return Results(self.evaluations[chosen], self._tables)

    def reported(self) -> Results:
        """Return the evaluations of the main tables: no development forget set, no variant."""
        main = (self.evaluations["forget_id"] != DEVELOPMENT) & (self.evaluations["variant"] == "")
        return Results(self.evaluations[main], self._tables).of_one_protocol()

    def of_one_protocol(self) -> Results:
        """Return these evaluations, which a table is to be made of.

        Raises:
            ParameterError: evaluations that were made under unlike protocols, one of them named

        """
        protocols = self.evaluations.get("protocol", pd.Series("")).fillna("")
        most = protocols.value_counts().index[0] if len(protocols) else ""
        if (protocols != most).any():
            row = self.evaluations[protocols != most].iloc[0]
            raise ParameterError(
                f"results: evaluation {row['evaluation']} ({row['method']}, N={row['n_forget']}, "
                f"seed {row['seed']}, forget set {row['forget_id']}) was made under protocol "
                f"{row['protocol'] or 'none'!r}, the table's is {most or 'none'!r}"
            )
        return self

    @property
    def models(self) -> pd.DataFrame:
        """The evaluations of different models: one for forget sets of several sizes counts once.

        The original and the retrained models are scored on several forget sets, and one may
        be evaluated twice (a variant that is the profile's own choice, the first of several
        requests): the seconds are then the same to the last digit.
        """
        unlearned = ~self.evaluations["method"].isin(["original", "retrain"])
        same = ["profile", "task", "corpus", "setting", "encoder", "method", "seed",
                "hyperparameters", "seconds"]
        sizes = self.evaluations["n_forget"].where(unlearned, 0)
        key = self.evaluations[same].assign(n_forget=sizes)
        return self.evaluations[~key.duplicated()]

    @property
    def predictions(self) -> pd.DataFrame:
        """The predictions of all evaluations, with the ``evaluation`` of each."""
        tables = {name: self._tables[name] for name in self.evaluations["evaluation"]}
        named = [table.assign(evaluation=name) for name, table in tables.items()]
        return pd.concat(named, ignore_index=True)

    def of_evaluation(self, evaluation: str, split: str | None = None) -> pd.DataFrame:
        """Return the predictions of one evaluation, of one split if given."""
        table = self._tables[evaluation]
        return table if split is None else table[table["split"] == split].reset_index(drop=True)

    def tables(self, method: str, n: int, split: str) -> list[pd.DataFrame]:
        """Return the predictions of a method's evaluations of one size, a table a pair."""
        evaluations = self.evaluations[
            (self.evaluations["method"] == method) & (self.evaluations["n_forget"] == n)
        ]
        return [
            self.of_evaluation(evaluation, split)
            for evaluation in evaluations.sort_values(["seed", "forget_id"])["evaluation"]
        ]

    def uars(self, method: str, n: int, split: str) -> np.ndarray:
        """Return the UAR of each of `tables`."""
        score = metrics.SCORES["uar"]
        return np.array([score(t, self.n_labels) for t in self.tables(method, n, split)])

    @property
    def sizes(self) -> list[int]:
        """Sizes of the forget sets, ascending."""
        return sorted(int(n) for n in self.evaluations["n_forget"].unique())

    def rows(self) -> pd.DataFrame:
        """Return tidy rows: an evaluation, split and metric each, with distances to retraining.

        An evaluation's reference is the model retrained without its forget set, or without the
        largest forget set that its own is nested in, with the same seed; where there is none, there
        is no distance.
        """
        n_labels = self.n_labels
        retrained = self.evaluations[
            self.evaluations["method"] == "retrain"
        ].sort_values("n_forget")
        by_forget_set = dict(list(retrained.groupby(_SAME)))
        tables = {name: self._tables[name] for name in self.evaluations["evaluation"]}
        clips = {name: tuple(table["split"] + table["hash"]) for name, table in tables.items()}

        @functools.cache  # a reference serves many evaluations
        def scores(name: str, asked: tuple[str, ...]) -> scoring.Values:
            return scoring.scores(tables[name][np.isin(clips[name], asked)], n_labels)

        rows = []
        for record in self.evaluations.to_dict("records"):
            asked = clips[record["evaluation"]]
            values = scores(record["evaluation"], asked)
            others = by_forget_set.get(tuple(record[column] for column in _SAME), retrained[:0])
            for name in others.loc[others["n_forget"] >= record["n_forget"], "evaluation"]:
                if set(asked) <= set(clips[name]):
                    values = scoring.with_distances(values, scores(name, asked))
                    break
            rows += [(record["evaluation"], *key, value) for key, value in values.items()]
        table = pd.DataFrame(rows, columns=["evaluation", "split", "metric", "value"])
        about = self.evaluations.drop(columns="details", errors="ignore")
        table = table.merge(about, on="evaluation", how="left").drop(columns="evaluation")
        first = [*(k for k in KEY if k != "hyperparameters"), "split", "metric", "value", "seconds"]
        return table[first + [c for c in table if c not in first]]

    @property
    def n_labels(self) -> int:
        """Number of classes."""
        if "n_classes" in self.evaluations:  # the first results were written without it
            return int(self.evaluations["n_classes"].max())
        return len(corpora.get(str(self.evaluations["corpus"].iloc[0])).labels or ())

    @property
    def folder_name(self) -> str:
        """Where these belong: profile and corpus, and a task that is not the corpus's own."""
        about = ["profile", "corpus", "task", "corpus_hash"]
        return folder_name(*self.evaluations[about].iloc[0])


def _as_written(folder: Path) -> list[bytes]:
    """Return what the two files of a results folder hold, while another process may add to it."""
    sums, before = folder / _SUMS, None
    while True:
        # the first folders were written without
        valid = sums.read_text("latin-1") if sums.is_file() else None
        contents = {name: (folder / name).read_bytes() for name in _FILES}
        damaged = [] if valid is None else [
            name for name, content in contents.items()
            if f"{hashlib.sha256(content).hexdigest()}  {name}\n" not in valid
        ]
        if not damaged:
            return list(contents.values())
        if valid == before:
            raise ParameterError(
                f"{folder / damaged[0]} is not what was written, by {_SUMS} there: restore it, or "
                "have results written to another folder: finished work is found again"
            )
        before = valid


def _clustered(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with what was kept apart, which the first results lack: speakers."""
    cluster = predictions.get("cluster", predictions["speaker"]).fillna(predictions["speaker"])
    # Python's strings are quicker to select than Arrow's
    text = dict.fromkeys(("split", "hash", "speaker", "cluster"), object)
    return predictions.assign(cluster=cluster).astype(text)


def folder_name(profile: str, corpus: str, task: str = "", corpus_hash: str = "") -> str:
    """Return where results of a profile, corpus and task belong.

    Args:
        profile: its name
        corpus: its name
        task: what the model names; empty is the corpus's own
        corpus_hash: of its clips, labels and split: those of two CSVs are kept apart

    """
    usual = task in ("", corpora.get(corpus).task)
    return f"{profile}-{named(corpus, corpus_hash)}" + ("" if usual else f"-{task}")


def named(corpus: str, corpus_hash: str) -> str:
    """Return what a corpus is called in results: anyone's own by its content, too."""
    of_a_reader = corpus in corpora.known() and corpora.get(corpus).task == tasks.ANY
    return f"{corpus}-{corpus_hash[:8]}" if of_a_reader else corpus


def sequential_variant(n: int) -> str:
    """Return the variant of the leaderboard's request made in n parts, one after another."""
    return f"in {n} {SEQUENTIAL}"


def committed(profile: str, corpus: str, task: str = "") -> Results:
    """Return the committed results of a profile, corpus and task: see `folder_name`."""
    return Results.read(COMMITTED / folder_name(profile, corpus, task))


def all_rows(below: Path = COMMITTED) -> pd.DataFrame:
    """Return the tidy rows of every results folder in another: of the committed ones without it.

    Raises:
        ParameterError: there is none

    """
    folders = sorted(path.parent for path in below.glob("*/evaluations.csv"))
    if not folders:
        raise ParameterError(f"no results in {str(below)!r}")
    return pd.concat([Results.read(folder).rows() for folder in folders], ignore_index=True)


def paper_table1() -> pd.DataFrame:
    """Return Table 1 of Ren et al. 2025: columns method, n_forget, setting, forget, unseen."""
    return pd.read_csv(REPOSITORY / "data" / "paper" / "ren2025_table1.csv")


def across(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Return tidy rows with a column a split and metric, such as ``forget uar``.

    Args:
        rows: of `Results.rows`
        index: columns that tell models apart

    """
    wide = rows.pivot_table(index=index, columns=["split", "metric"], values="value", sort=False)
    return wide.set_axis(wide.columns.map(" ".join), axis=1)


def table_of_methods(
    results: Results,
    setting: str,
    *,
    forget_kind: str = "clips",
    n_resamples: int = 1000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return UAR by method and N, with intervals from resampling speakers: Table 1's numbers.

    Args:
        results: evaluations of reported forget sets
        setting: ``validation`` or ``test``
        forget_kind: ``clips``; or ``class`` or ``speaker``, whose forget sets of all sizes are
            pooled
        n_resamples: of the bootstrap
        generator: its randomness

    Returns:
        columns method, n_forget (0 where sizes are pooled), split, value, low, high (mean over the
        runs and its pooled bootstrap interval), runs, seconds, tau, distance (mean distance to the
        retrained model), mia_auc and mia_auc_distance (on the forget rows)

    """
    chosen = results.select(setting=setting, forget_kind=forget_kind).reported()
    evaluations, scores = chosen.evaluations, chosen.rows()
    if forget_kind != "clips":
        evaluations, scores = evaluations.assign(n_forget=0), scores.assign(n_forget=0)
    key = ["method", "n_forget"]
    means = scores.groupby([*key, "split", "metric"])["value"].mean().unstack("metric")
    means = means.reindex(columns=["uar_distance", "mia_auc", "mia_auc_distance"])
    rows = []
    for (method, n), of_method in evaluations.groupby(key, sort=False):
        about = {"runs": len(of_method), **of_method[["seconds", "tau"]].mean()}
        for split in [split for split in metrics.SPLITS if split in set(scores["split"])]:
            tables = [chosen.of_evaluation(name, split) for name in of_method["evaluation"]]
            interval = statistics.pooled_bootstrap(
                tables, clusters="cluster", n_resamples=n_resamples, generator=generator
            )
            rows.append({"method": method, "n_forget": n, "split": split, **interval._asdict(),
                         **about})
    table = pd.DataFrame(rows).join(means, on=[*key, "split"])
    return table.rename(columns={"uar_distance": "distance"})


def readable(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a table of methods as a reader wants it: N and methods down, sets across.

    Args:
        table: of `table_of_methods`
        paper: rows of `paper_table1` of the same setting, put beside it

    Returns:
        text such as ``0.43 [0.35, 0.51]``: the mean over the runs and its 95 % interval

    """
    long = _across(table, ["n_forget", "method"], "split")
    if paper is not None:
        printed = titled(paper.set_index(["n_forget", "method"])).reindex(long.index)
        for split in ("forget", "unseen"):
            long[f"{split}, paper"] = printed[split].map("{:.3f}".format, na_action="ignore")
    splits = ["forget", "forget, paper", "retain", "unseen", "unseen, paper"]
    long = long[[split for split in splits if split in long]].fillna("–")
    return long.rename_axis(index=["N", "method"], columns="UAR")


def references(table: pd.DataFrame) -> pd.DataFrame:
    """Return UAR of the trained and of the retrained models: is there anything to forget?

    Args:
        table: of `table_of_methods`

    Returns:
        a row a model and set, a column a size of the forget set

    """
    part = table[table["method"].isin(["original", "retrain"])]
    wide = _across(part, ["method", "split"], "n_forget")
    return wide.rename(columns=lambda n: f"N = {n}").rename_axis(columns=None)


def readable_by_method(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of methods with one row a method, for speakers and classes.

    Args:
        results: the evaluations that the table is made from
        table: of `table_of_methods`, of one size

    Returns:
        data each method needs, and its UAR by set as ``0.43 [0.35, 0.51]``

    """
    needs = results.evaluations.drop_duplicates("method").set_index("method")["needs"]
    data_used = needs.replace("", "–").rename(index=TITLES).rename("data used")
    text = _across(table, ["method"], "split")
    text = text[[split for split in metrics.SPLITS if split in text]]
    text = text.map(lambda value: value.replace(" ", "\u00a0"))  # in one line
    return text.rename_axis(columns=None).join(data_used)[["data used", *text]]


def titled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index has methods in the order of `TITLES`, and by their titles."""
    order = list(TITLES).index
    wide = table.sort_index(key=lambda level: level.map(order) if level.name == "method" else level)
    return wide.rename(index=TITLES, level="method" if table.index.nlevels > 1 else None)


def number(value: Real | float, digits: int = 2) -> str:
    """Return a rounded number; halves go up, whatever the last bits of a sum say."""
    return MISSING if value != value else f"{float(value) + 1e-9:.{digits}f}"


def with_interval(
    value: Real | float, low: Real | float, high: Real | float, digits: int = 2
) -> str:
    """Return a number with its interval, as tables and the sentences beside them have it.

    Examples:
        >>> with_interval(0.5, 0.125, float("nan"))
        '0.50 [0.13, –]'

    """
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def _across(table: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """Return values with their intervals as text, methods in the order of `TITLES`."""
    rows = table[["value", "low", "high"]].itertuples(index=False)
    text = [with_interval(*row) for row in rows]
    return titled(table.assign(text=text).pivot(index=index, columns=columns, values="text"))


def confused_with(results: Results, labels: Sequence[str]) -> pd.DataFrame:
    """Return where the clips of removed classes go now: the classes that a model names instead.

    Args:
        results: evaluations of the removal of classes
        labels: class names, in the order of the logits

    Returns:
        one row a removed class and method: its unseen clips, the share still given to it, and the
        three classes that most of them go to, with their shares

    """
    rows = []
    for record in results.select(
        forget_kind=["class", "speaker"]
    ).reported().evaluations.to_dict("records"):
        table = results.of_evaluation(record["evaluation"])
        table = table[table["split"] == "removed"]
        if table.empty:
            continue
        removed = int(table["label"].iloc[0])
        shares = table["prediction"].value_counts(normalize=True)
        others = shares.drop(removed, errors="ignore").head(3)
        instead = ", ".join(f"{labels[int(k)]} {number(v)}" for k, v in others.items())
        rows.append(
            {"removed": labels[removed], "method": TITLES[record["method"]], "clips": len(table),
             "still named": number(shares.get(removed, 0.0)), "instead": instead}
        )
    columns = ["removed", "method", "clips", "still named", "instead"]
    return pd.DataFrame(rows, columns=columns).set_index(["removed", "method"])


def sequence_table(results: Results) -> pd.DataFrame:
    """Return a sequence of requests, step by step, with retraining without all of them at its end.

    Returns:
        index method, speakers forgotten so far; UAR on what was to be forgotten so far, on the
        retain set and on unseen clips, the attack's AUC

    """
    key = ["method", "n_forget"]
    rows = results.evaluations[[*key, "forget_id"]].join(across(results.rows(), key), on=key)
    table = pd.DataFrame({
        "method": rows["method"].map(TITLES), "requests": rows["forget_id"].str.count(",") + 1,
        "clips": rows["n_forget"], "forget UAR": rows["forget uar"],
        "retain UAR": rows["retain uar"], "unseen UAR": rows.get("unseen uar", np.nan),
        "attack AUC": rows["forget mia_auc"],
    })
    return table.set_index(["method", "requests"]).round(2)


def further_from_retraining(one: Results, other: Results) -> pd.DataFrame:
    """Return which of two corpora each method leaves its models further from retraining on.

    A model's distance is that of its UAR on the forget set to the retrained model's. Sizes of the
    forget set are averaged within a run, as they are nested; the runs of a
    corpus are independent, and the interval is Welch's.

    Args:
        one: results of random forget sets on a corpus, two runs or more
        other: of another corpus

    Returns:
        a row a method that both have: mean distance on each, difference with its 95 % interval,
        and what it says: ``one``, ``other`` or ``undecided``

    Raises:
        ParameterError: fewer than two runs

    """

    def by_method(results: Results) -> dict[str, pd.Series]:
        rows = results.reported().select(forget_kind="clips").rows()
        rows = rows[(rows["split"] == "forget") & (rows["metric"] == "uar_distance")]
        means = rows.groupby(["method", "seed", "forget_id"])["value"].mean()
        return dict(list(means.groupby(level="method")))

    first, second = by_method(one), by_method(other)
    table = []
    for method in (m for m in TITLES if m in first and m in second and m != "retrain"):
        a, b = first[method], second[method]
        if min(len(a), len(b)) < 2:
            raise ParameterError(f"method {method!r} has {min(len(a), len(b))} run(s), not two")
        interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        verdict = "one" if interval.low > 0 else "other" if interval.high < 0 else "undecided"
        table.append((TITLES[method], a.mean(), b.mean(), a.mean() - b.mean(), *interval, verdict))
    columns = ["method", "one", "other", "difference", "low", "high", "further"]
    return pd.DataFrame(table, columns=columns).set_index("method")


def distances(table: pd.DataFrame) -> pd.DataFrame:
    """Return each method's distance to the retrained model: UAR of each set, and the attack."""
    part = table[table["method"] != "retrain"]
    columns = ["distance", "mia_auc", "mia_auc_distance"]
    wide = titled(part.pivot(index=["n_forget", "method"], columns="split", values=columns))
    splits = [split for split in metrics.SPLITS if split in wide["distance"]]
    text = wide["distance"][splits].add_suffix(" UAR")
    text["attack AUC"], text["AUC to retrained"] = (wide[c]["forget"] for c in columns[1:])
    text = text.map(number).rename_axis(index=["N", "method"], columns=None)
    pooled = (table["n_forget"] == 0).all()
    return text.droplevel("N") if pooled else text


def costs(results: Results) -> pd.DataFrame:
    """Return what each method cost on average: seconds, memory, clips sent through the model."""
    columns = {
        "seconds": "seconds", "peak_memory_mb": "peak memory (MiB)",
        "forward_backward": "clips forward and backward",
    }
    models = results.reported().evaluations.groupby(["n_forget", "method"])[list(columns)]
    means = models.mean().round(dict.fromkeys(columns, 0) | {"seconds": 1})
    return titled(means).rename(columns=columns).rename_axis(["N", "method"])


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
        largest of the runs' own), z, p_z (one-tailed z-test of two
        proportions, as the paper's: it takes clips as independent and the models as unpaired)

    """
    chosen = results.select(setting=setting).reported()
    rows = []
    for n, method in itertools.product(chosen.sizes, challengers):
        a, b = (chosen.tables(name, n, split) for name in (method, baseline))
        if not a:
            continue
        difference = statistics.paired_bootstrap(
            a, b, clusters="cluster", n_resamples=n_resamples, generator=generator
        )
        new, old = (float(chosen.uars(name, n, split).mean()) for name in (method, baseline))
        z = statistics.uar_z_test(new, old, len(a[0]))
        mcnemar = max(map(statistics.mcnemar, a, b))
        rows.append(
            {"method": method, "n_forget": n, "difference": difference.value,
             "low": difference.low, "high": difference.high, "p_paired": difference.p_value,
             "p_mcnemar": mcnemar, "z": z.z, "p_z": z.p_value}
        )
    return pd.DataFrame(rows)


def _name(record: dict) -> str:
    text = json.dumps({k: record[k] for k in KEY} | {"hash": record["corpus_hash"]}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
