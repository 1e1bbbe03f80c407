"""The leaderboard: every method beside retrained models, with intervals and tests.

Its folder holds the evaluations and predictions of `speechunlearn.lab.results` and ``scores.csv``:
what the audit says of every evaluation, computed once, so that a page need not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from statsmodels.stats.multitest import multipletests

from speechunlearn import methods
from speechunlearn.audit import statistics
from speechunlearn.audit.metrics import SCORES, SPLITS
from speechunlearn.audit.report_card import ON_A_CARD, Auditor, Card
from speechunlearn.errors import ParameterError
from speechunlearn.files import one_at_a_time, replaced
from speechunlearn.lab.results import ANOTHER_SEED, COMPONENT, SEQUENTIAL, TITLES, Results
from speechunlearn.provenance import REPOSITORY

FOLDER = REPOSITORY / "data" / "leaderboard"

#: what a method may use and still count as using the forget set alone
FORGET_ONLY = frozenset({"forget"})

#: our own method
OURS = "perturbed"

#: what has to stand beside its rows, wherever they are shown
REDESIGNED = (
    "Self-distillation to perturbed copies, our own method, had more than that: it was redesigned "
    "after it had been scored on the reported forget sets, and was then scored on the same forget "
    "sets again."
)

#: variant of an original that the named method alone started from. An original that is trained anew
#: elsewhere is another model: rows of one method that are made anew bring their own
BEFORE = "before "


#: scores that any predictions hold, also those that were written before the others were kept
FIRST = ("forget_uar", "mia_loss")
#: the halves of the average gap: the forget set's UAR and AUC; the UAR on the rest
HALVES = ("forgetting", "utility")
#: the scores of the report card that `component_ablation` and `sequential` show
_BESIDE = {
    "gap": "average_gap", "forgetting": "forgetting_distance", "utility": "utility_distance",
    "forget_uar": "forget_uar", "loss_ks": "loss_ks", "mia_matched": "mia_matched",
    "mia_likelihood_ratio": "mia_likelihood_ratio",
}
#: scores of the report card that a ranking has an interval of
_IN_GAPS = ("average_gap", "forgetting_distance", "utility_distance")


class RunTables(NamedTuple):
    """The tables of one run: a training seed and a forget set.

    Attributes:
        judged: method -> per-clip table
        retrained: tables of models retrained from several seeds
        originals: tables of models trained on all clips, from seeds other than the judged
        before: method -> table of the model it started from, where that is not the others'

    """

    judged: dict[str, pd.DataFrame]
    retrained: list[pd.DataFrame]
    originals: list[pd.DataFrame]
    before: dict[str, pd.DataFrame]

    def started_from(self, method: str) -> pd.DataFrame:
        """Return the table of the model that a method started from."""
        return self.before.get(method, self.judged["original"])

    def unseen_before(self, method: str, n_labels: int) -> float:
        """Return the UAR on unseen clips of the model that a method started from."""
        table = self.started_from(method)
        return SCORES["uar"](table[table["split"] == "unseen"], n_labels)


def runs(results: Results) -> dict[tuple[int, str], RunTables]:
    """Return the tables of each run by training seed and forget set.

    Raises:
        ParameterError: a run with fewer than two retrained models

    """
    by_run, every = {}, results.of_one_protocol().evaluations
    for (seed, forget_id), main in every[every["variant"] == ""].groupby(["seed", "forget_id"]):
        same = every[every["forget_id"] == forget_id]
        same = same[same["n_forget"] == main["n_forget"].iloc[0]]
        models = pd.concat([main, same[same["variant"] == ANOTHER_SEED]])
        tables = {
            str(method): [results.of_evaluation(evaluation) for evaluation in evaluations]
            for method, evaluations in models.groupby("method", sort=False)["evaluation"]
        }
        retrained = tables.pop("retrain", [])
        if len(retrained) < 2:
            raise ParameterError(
                f"leaderboard: forget set {forget_id} has {len(retrained)} retrained model(s), "
                "needs two"
            )
        started = same[(same["seed"] == seed) & same["variant"].str.startswith(BEFORE)]
        before = {
            variant.removeprefix(BEFORE): results.of_evaluation(evaluation)
            for variant, evaluation in started.set_index("variant")["evaluation"].items()
        }
        by_run[int(seed), str(forget_id)] = RunTables(
            {method: first for method, (first, *_) in tables.items()}, retrained,
            tables["original"][1:], before,
        )
    return by_run


def scored(results: Results, chosen: Sequence[str] = ON_A_CARD) -> pd.DataFrame:
    """Return what the audit says of every model of every run.

    Retrained models are there, too, each judged by the others: the row ``retrain``. Theirs is a
    card of fewer references and fewer scores, so that how many pass is counted on cards that leave
    one retrained model out, for every model: see `report_card.Auditor.leave_one_out`.

    Args:
        results: evaluations of `speechunlearn.lab.experiments.ranked`
        chosen: scores on the cards, see `report_card.Auditor`

    Returns:
        columns seed, forget_id, method, model (its number within the run), those of
        `report_card.Card.scores`, and of the model's cards that leave one retrained model out
        ``cards`` (how many there are) and ``cards_passed``

    """
    tables = []
    for (seed, forget_id), run, auditor in _auditors(results, chosen):
        cards = [(method, *_judged(auditor, table)) for method, table in run.judged.items()]
        cards += [("retrain", card, _passed([card])) for card in auditor.cards_of_retrained()]
        for model, (method, card, counts) in enumerate(cards):
            about = {"seed": seed, "forget_id": forget_id, "method": method, "model": model}
            scores = card.scores.assign(**counts)
            tables.append(pd.DataFrame(about, scores.index).join(scores))
    return pd.concat(tables, ignore_index=True)


def _auditors(
    results: Results, chosen: Sequence[str] = ON_A_CARD
) -> Iterator[tuple[tuple[int, str], RunTables, Auditor]]:
    for key, run in runs(results).items():
        auditor = Auditor(run.retrained, run.originals, n_labels=results.n_labels, chosen=chosen)
        yield key, run, auditor


def _judged(auditor: Auditor, table: pd.DataFrame) -> tuple[Card, dict[str, int]]:
    return auditor.card(table), _passed(auditor.leave_one_out(table))


def _passed(cards: Sequence[Card]) -> dict[str, int]:
    return {"cards": len(cards), "cards_passed": sum(card.passed for card in cards)}


def cards(results: Results, chosen: Sequence[str] = FIRST) -> pd.DataFrame:
    """Return the report cards of the forget sets that have three or more retrained models.

    Args:
        results: evaluations of random forget sets; one more retrained model is the variant
            `speechunlearn.lab.results.ANOTHER_SEED`
        chosen: scores on the cards

    Returns:
        rows as of `scored`, and ``forget_set``: number of clips

    Raises:
        ParameterError: no such forget set

    """
    tables = []
    whole = results.select(variant=["", ANOTHER_SEED]).evaluations
    for (_, _, n), of_set in whole.groupby(["setting", "forget_id", "n_forget"], sort=False):
        if (of_set["method"] == "retrain").sum() >= 3:
            scores = scored(results.select(evaluation=set(of_set["evaluation"])), chosen)
            tables.append(scores.assign(forget_set=f"{n} clips"))
    if not tables:
        raise ParameterError("results: no forget set has three retrained models")
    return pd.concat(tables, ignore_index=True)


def component_ablation(results: Results) -> pd.DataFrame:
    """Return what becomes of `perturbed` when one of its components is changed.

    Args:
        results: evaluations of `speechunlearn.lab.experiments.ranked` and
            `speechunlearn.lab.experiments.component_ablation`

    Returns:
        a row a change (the first is none), see `_beside`

    """
    changed = [v for v in results.evaluations["variant"].unique() if v.startswith(COMPONENT)]
    rows = [(OURS, variant, variant.removeprefix(COMPONENT)) for variant in changed]
    return _beside(results, [(OURS, "", "nothing"), *rows]).rename_axis("changed")


def sequential(results: Results) -> pd.DataFrame:
    """Return what becomes of methods in sequential unlearning: the same clips in several requests.

    Args:
        results: evaluations of `speechunlearn.lab.experiments.ranked` and
            `speechunlearn.lab.experiments.sequential`

    Returns:
        rows of each method, at once and in several, see `_beside`

    """
    several = results.evaluations[results.evaluations["variant"].str.contains(SEQUENTIAL)]
    variants = several.groupby("method")["variant"].unique()
    rows = [
        (method, variant, f"{TITLES[method]}, {variant or 'at once'}")
        for method in TITLES if method in variants
        for variant in ("", *sorted(variants[method]))
    ]
    return _beside(results, rows).rename_axis("method")


def _beside(results: Results, rows: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Return what the audit says of evaluations by method and variant.

    Args:
        results: evaluations, those of `speechunlearn.lab.experiments.ranked` among them
        rows: method, variant, name of the row

    Returns:
        the means over the runs: ``gap``, ``forgetting``, ``utility`` (the average gap and its
        halves), ``relative_utility`` (share of the original's UAR on unseen clips), ``forget_uar``,
        ``loss_ks``, ``mia_matched``, ``mia_likelihood_ratio``; and the sums ``cards`` and
        ``cards_passed``, see `scored`

    """
    lines = []
    for (seed, forget_id), run, auditor in _auditors(results):
        for method, variant, name in rows:
            evaluations = results.select(
                seed=seed, forget_id=forget_id, method=method, variant=variant
            ).evaluations["evaluation"]
            card, counts = _judged(auditor, results.of_evaluation(evaluations.iloc[0]))
            value = card.scores.set_index("score")["value"]
            relative_utility = value["unseen_uar"] / run.unseen_before(method, results.n_labels)
            of_card = {column: value.get(score, np.nan) for column, score in _BESIDE.items()}
            lines.append({"name": name, "relative_utility": relative_utility, **counts, **of_card})
    by_name = pd.DataFrame(lines).groupby("name", sort=False)
    counted = ["cards", "cards_passed"]
    columns = [*list(_BESIDE)[:3], "relative_utility", *list(_BESIDE)[3:], *counted]
    return by_name.mean().assign(**by_name[counted].sum())[columns]


def ranking(
    results: Results,
    scores: pd.DataFrame,
    *,
    n_resamples: int = 1000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return the leaderboard, those first that are closest to retraining.

    Args:
        results: evaluations of `speechunlearn.lab.experiments.ranked`
        scores: of `scored`
        n_resamples: of the bootstrap, which draws runs and, for all methods alike, speakers (or
            what the task keeps apart)
        generator: its randomness

    Returns:
        a row a method, and one of the retrained models, leave-one-out: ``method``,
        ``needs``, ``forget_only`` (it uses the forget set alone), ``gap`` with ``gap_low`` and
        ``gap_high`` (the average gap to the mean retrained model, see `report_card.average_gap`),
        the same of its halves ``forgetting`` and ``utility``, ``relative_utility`` (share of the
        original's UAR on unseen clips), ``changed`` (share of the judged clips whose predicted
        class is another than that of the model it started from), ``same_as`` (the first other row
        whose answers are the same in every bit, or empty), ``runs`` and ``clips`` (how many
        runs, and judged clips of all of these, the means are over), the means over the
        runs of the scores and distances of the report card, ``cards`` and ``cards_passed`` (see
        `scored`), ``seconds``, ``forward_backward``, ``peak_memory_mb``; ``p`` against the best of
        those that use the forget set alone, for these, by Holm's correction, NaN for the best
        itself

    """
    of_runs = list(runs(results).values())
    names = [
        name for name in TITLES if name == "retrain" or all(name in run.judged for run in of_runs)
    ]
    gaps, same = _gaps(of_runs, names, n_resamples, generator), _same_answers(of_runs, names)
    means = scores.pivot_table(index="method", columns="score", values="value")
    means = means.reindex(index=names, columns=ON_A_CARD)
    models = scores.drop_duplicates(["method", "seed", "forget_id", "model"])
    counts = models.groupby("method")[["cards", "cards_passed"]].sum()
    by_method = results.select(variant="").evaluations.groupby("method")
    costs = by_method[["seconds", "forward_backward"]].mean()
    rows = []
    for name in names:
        reference = name in ("original", "retrain")
        needs = frozenset() if reference else methods.get(name).needs
        row = {"method": name, "needs": ", ".join(sorted(needs)),
               "forget_only": not reference and needs <= FORGET_ONLY}
        for what, values in zip(("gap", *HALVES), gaps[name], strict=True):
            row[what], row[f"{what}_low"], row[f"{what}_high"] = statistics.interval(values)
        before = np.mean([run.unseen_before(name, results.n_labels) for run in of_runs])
        rows.append(row | {
            "relative_utility": means.loc[name, "unseen_uar"] / float(before),
            "changed": float(np.mean([_changed(run, name) for run in of_runs])),
            "same_as": same[name], "runs": len(of_runs),
            "clips": sum(len(run.retrained[0]) for run in of_runs),
        })
    table = pd.DataFrame(rows).set_index("method").join(
        [means.drop(columns=list(_IN_GAPS)), counts.reindex(names, fill_value=0),
         costs.assign(peak_memory_mb=by_method["peak_memory_mb"].max())]
    )
    table = table.reset_index().sort_values("gap", kind="stable", ignore_index=True)
    return table.assign(p=_against_the_best(table, {name: gaps[name][0] for name in names}))


def _changed(run: RunTables, method: str) -> float:
    """Return the share of the judged clips that get another class than before the method."""
    models = run.retrained if method == "retrain" else [run.judged[method]]
    before = _by_clip(run.started_from(method), "prediction")
    return float(np.mean([(_by_clip(table, "prediction") != before).mean() for table in models]))


def _same_answers(of_runs: Sequence[RunTables], names: Sequence[str]) -> dict[str, str]:
    """Return for each method the first other one with the same answers and losses, or ''."""
    first: dict[bytes, str] = {}
    same = dict.fromkeys(names, "")
    for name in ("original", *(name for name in names if name != "retrain")):
        answers = b"".join(
            _by_clip(run.judged[name], column).to_numpy().tobytes()
            for run in of_runs for column in ("prediction", "loss")
        )
        if first.setdefault(answers, name) != name:
            same[name] = first[answers]
    return same


def _by_clip(table: pd.DataFrame, column: str) -> pd.Series:
    return table.sort_values(["split", "hash"], ignore_index=True)[column]


def _against_the_best(
    table: pd.DataFrame, gaps: Mapping[str, Float[np.ndarray, " resample"]]
) -> list[float]:
    """Return Holm-corrected p-values of the paired bootstrap, see `statistics.p_value`."""
    forget_only = list(table.loc[table["forget_only"], "method"])
    p = {name: statistics.p_value(gaps[name] - gaps[forget_only[0]]) for name in forget_only[1:]}
    if p:
        p = dict(zip(p, multipletests(list(p.values()), method="holm")[1], strict=True))
    return [p.get(name, np.nan) for name in table["method"]]


def _gaps(
    of_runs: Sequence[RunTables],
    names: Sequence[str],
    n_resamples: int,
    generator: np.random.Generator,
) -> dict[str, Float[np.ndarray, "3 one_and_resamples"]]:
    """Return each method's mean average gap, and its halves as `HALVES` has them.

    On the clips as they are, then on every resample. A resample in which one of the four scores
    is not there counts for none of the three.
    """
    sides = [
        statistics.clips_of([_of_side(run.retrained[0], unseen) for run in of_runs], "cluster")
        .sort_values() for unseen in (False, True)
    ]
    weights = np.hstack([
        statistics.draw_clips(list(side.get_level_values(0)), n_resamples, generator)
        for side in sides
    ])
    drawn = sides[0].append(sides[1]), weights
    runs = statistics.draw(len(of_runs), n_resamples, generator)
    apart: dict[str, list[Float[np.ndarray, "3 one_and_resamples"]]] = {n: [] for n in names}
    for run in of_runs:
        references = np.array([_resampled(table, *drawn) for table in run.retrained])
        mean, k = references.mean(axis=0), len(references)
        for name in names:
            if name == "retrain":  # each by the others
                others = (k * mean - references) / (k - 1)
                off = np.abs(references - others).mean(axis=0)
            else:
                off = np.abs(_resampled(run.judged[name], *drawn) - mean)
            off[:, np.isnan(off).any(axis=0)] = np.nan
            halves = off[[0, 3]].mean(axis=0), off[[1, 2]].mean(axis=0)
            apart[name].append(np.array([off.mean(axis=0), *halves]))
    return {name: statistics.mean_over_runs(np.array(apart[name]), runs) for name in names}


def _of_side(table: pd.DataFrame, unseen: bool) -> pd.DataFrame:
    return table[table["split"].isin(["unseen", "removed"]) == unseen]


def _resampled(
    table: pd.DataFrame, clips: pd.MultiIndex, weights: Float[np.ndarray, "resample _clips"]
) -> Float[np.ndarray, "score resample"]:
    """Return UAR on forget set, retain set and unseen clips, and attack AUC, on every resample."""
    parts = {split: table[table["split"] == split] for split in SPLITS}
    drawn = {
        split: weights[:, clips.get_indexer(statistics.clips_of([part], "cluster"))]
        for split, part in parts.items()
    }
    uars = [
        statistics.uar_of_resamples(parts[split], drawn[split])
        for split in ("forget", "retain", "unseen")
    ]
    outside = "unseen" if parts["removed"].empty else "removed"
    scores = {split: -part["loss"].to_numpy() for split, part in parts.items()}
    attack = statistics.auc_of_resamples(
        scores["forget"], scores[outside], drawn["forget"], drawn[outside]
    )
    return np.array([*uars, attack])


class Committed(NamedTuple):
    """A leaderboard that was written.

    Attributes:
        results: its evaluations
        scores: of `scored`
        ranking: of `ranking`
        component_ablation: of that function, or None where `perturbed` was not taken apart
        sequential: of that function, or None where there is none

    """

    results: Results
    scores: pd.DataFrame
    ranking: pd.DataFrame
    component_ablation: pd.DataFrame | None
    sequential: pd.DataFrame | None


def write_tables(folder: Path) -> pd.DataFrame:
    """Compute a leaderboard's tables from the predictions it holds, and write them anew.

    Args:
        folder: one that `Results.write` wrote

    Returns:
        the scores

    """
    written = Results.read(folder)
    scores = scored(written)
    ranked = ranking(written, scores, generator=np.random.default_rng(0))
    tables = {"scores": scores.set_index("seed"), "ranking": ranked.set_index("method")}
    variants = written.evaluations["variant"]
    if variants.str.startswith(COMPONENT).any():
        tables["component_ablation"] = component_ablation(written)
    if variants.str.contains(SEQUENTIAL).any():
        tables["sequential"] = sequential(written)
    with one_at_a_time(folder):
        for name, table in tables.items():
            with replaced(folder / f"{name}.csv") as partial:
                table.round(6).to_csv(partial)
    return scores


def committed(folder_name: str) -> Committed:
    """Return a committed leaderboard.

    Args:
        folder_name: see `Results.folder_name`

    Raises:
        ParameterError: there is none

    """
    folder = FOLDER / folder_name
    results = Results.read(folder)
    ranked = pd.read_csv(folder / "ranking.csv").fillna({"needs": "", "same_as": ""})
    further = [
        pd.read_csv(path, index_col=0) if path.is_file() else None
        for path in (folder / "component_ablation.csv", folder / "sequential.csv")
    ]
    scores = pd.read_csv(folder / "scores.csv", dtype={"forget_id": str})
    return Committed(results, scores, ranked, *further)
