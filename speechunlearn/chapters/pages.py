"""What a chapter shows of committed results, beside its own: always with what made them.

The numbers are computed from the committed predictions each time, by the same functions as the
chapter's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from speechunlearn import corpora, methods
from speechunlearn.audit import report_card, statistics
from speechunlearn.audit.report_card import Auditor
from speechunlearn.chapters import figures
from speechunlearn.lab import experiments, leaderboard, results, scaling, sentences, tuning
from speechunlearn.lab.results import TITLES, Results

Shown = pd.DataFrame | Figure | None


def made_by(shown: Results) -> str:
    """Return what made these cells: profile, corpus, encoder, seeds, machine, commit, hours.

    A model that is scored for several sizes of the forget set counts once.
    """
    cells, models = shown.cells, shown.models

    def unique(column: str) -> str:
        return "; ".join(sorted({str(value) for value in cells[column]}))

    names = "; ".join(corpora.get(name).title for name in sorted(set(cells["corpus"])))
    hours = models["seconds"].sum() / 3600
    asked = []
    for kind, draws in cells.groupby("request")["draw"].unique().items():
        drawn = sorted(str(draw) for draw in draws)
        asked.append(
            f"forget draws {'; '.join(drawn)}" if kind == "clips"
            else f"{len(drawn)} removals by {kind}"
        )
    return (
        f"Profile **{unique('profile')}**; corpus: **{names}**; encoder {unique('encoder')}; "
        f"training seeds {unique('seed')}; {'; '.join(asked)}; "
        f"{len(models)} models, {hours:.1f} h on {unique('machine')}; code {unique('commit')}."
    )


def _about(shown: Results) -> None:
    """Show what made these cells, and what the paper's methods among them were run with."""
    parts = (made_by(shown), sentences.settings(shown.cells), sentences.stand_ins(shown.cells))
    display(Markdown("\n\n".join(part for part in parts if part)))


def originals(shown: Results | None) -> Shown:
    """Show UAR and attack of the fine-tuned and the retrained models, a row a pair."""
    if shown is None:
        return _missing()
    cells = shown.reported().select(method=["original", "retrain"])
    largest = cells.cells["n_forget"].max()
    cells = cells.select(n_forget=int(largest))
    display(Markdown(made_by(cells)))
    generator = np.random.default_rng(0)
    scores = cells.rows().query("metric == 'mia_auc'")
    scores = scores.set_index(["setting", "method", "seed", "draw"])["value"]
    table = []
    for record in cells.cells.sort_values(["setting", "seed", "method"]).to_dict("records"):
        row: dict[str, Any] = {
            "setting": record["setting"], "seed": record["seed"], "draw": record["draw"],
            "model": TITLES[record["method"]],
        }
        for split in ("forget", "retain", "unseen"):
            found = statistics.cluster_bootstrap(
                cells.of_cell(record["cell"], split), generator=generator
            )
            row[f"{split} UAR"] = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        key = (record["setting"], record["method"], record["seed"], record["draw"])
        row["attack AUC"] = f"{scores[key]:.2f}"
        table.append(row)
    return pd.DataFrame(table).set_index(["setting", "seed", "draw", "model"])


def table(shown: Results | None, setting: str, chosen: Sequence[str]) -> Shown:
    """Show the table of methods beside the paper's numbers, and their distances to retraining."""
    if shown is None:
        return _missing()
    cells = shown.reported().select(setting=setting, method=list(chosen))
    _about(cells)
    numbers = results.table_of_methods(cells, setting, generator=np.random.default_rng(0))
    paper = results.paper_table1()
    display(results.readable(numbers, paper[paper["setting"] == setting]))
    if {"retrain", "ran_lab", *experiments.ADVERSARIAL} <= set(numbers["method"]):
        said = sentences.of_methods(cells.cells, numbers, 1 / cells.n_labels)
        display(Markdown("".join(f"- {sentence}\n" for sentence in said)))
    display(results.distances(numbers))
    return results.costs(cells)


def requests(shown: Results | None) -> Shown:
    """Show every kind of request: clips, classes, speakers, sequences, and the audit."""
    if shown is None:
        return _missing()
    _about(shown)
    generator = np.random.default_rng(0)
    clips = shown.select(request="clips")
    numbers = results.table_of_methods(clips, "validation", generator=generator)
    display(Markdown("**Some clips**"), results.readable(numbers), results.distances(numbers))
    display(results.costs(clips))
    for kind, title in (("class", "A class"), ("speaker", "A speaker")):
        part = shown.select(request=kind)
        if part.reported().cells.empty:
            continue
        table = results.table_of_methods(part, "validation", request=kind, generator=generator)
        display(Markdown(f"**{title}**"), results.readable_requests(part.reported(), table))
        display(results.distances(table), results.costs(part))
    sequence = shown.select(variant=experiments.SEQUENCE)
    if len(sequence.cells):
        display(Markdown("**One speaker after another**"), results.sequence_table(sequence))
    display(Markdown("**The audit**"))
    return cards(clips)


def speech_and_images(speech: Mapping[str, Results | None], images: Results | None) -> Shown:
    """Show, for each corpus of speech beside images, how far methods stay from retraining.

    Args:
        speech: results of draws of clips, by what they are about
        images: of the control

    """
    found = {name: shown for name, shown in speech.items() if shown is not None}
    if not found or images is None:
        return _missing()
    every = [*found.values(), images]
    display(Markdown("\n".join(f"- {made_by(shown.select(request='clips'))}" for shown in every)))
    tables = {
        name: results.further_from_retraining(shown, images) for name, shown in found.items()
    }
    for name, table in tables.items():
        count = table["further"].value_counts()
        display(
            Markdown(
                f"**{name}**: of {len(table)} models, the original's included, "
                f"{count.get('one', 0)} are further from retraining on speech, "
                f"{count.get('other', 0)} on images; {count.get('undecided', 0)} undecided. "
                f"{sentences.of_power(table)}"
            )
        )
    named = {"one": "speech", "other": "images"}
    return pd.concat(
        {
            name: table.replace({"further": named}).rename(
                columns={"one": "speech", "other": "images"}
            ).round(2)
            for name, table in tables.items()
        },
        names=["speech"],
    )


def tests_and_claims(shown: Results | None, setting: str) -> Shown:
    """Show the tests against random labels, the rule of a verdict, and the paper's claims by it."""
    if shown is None:
        return _missing()
    cells = shown.reported().select(setting=setting)
    _about(cells)
    tests = results.tests_against(
        cells, setting, "ran_lab", experiments.ADVERSARIAL, generator=np.random.default_rng(0)
    )
    display(tests.replace({"method": TITLES}).set_index(["method", "n_forget"]).round(4))
    display(Markdown(experiments.RULE))
    unlike = sentences.unlike_the_paper(cells.cells)
    if unlike:
        display(Markdown(f"Not tested here: {unlike}."))
    verdicts = experiments.claims(
        cells, setting, chance=1 / cells.n_labels, generator=np.random.default_rng(0)
    )
    return verdicts.set_index(["claim", "n_forget"]).round(2)


def figure2(shown: Results | None) -> Shown:
    """Show UAR over tau on the development draw: the figure and its table."""
    if shown is None:
        return _missing()
    cells = shown.select(draw=experiments.DEVELOPMENT)
    _about(cells)
    rows = cells.rows().query("split == 'unseen' and metric == 'uar'")
    before = rows.query("method == 'original'")["value"].iloc[0]
    figures.uar_over_tau(rows.query("method != 'original'"), before)
    return experiments.shape_over_tau(cells).round(2)


def gaps(shown: Results | None) -> Shown:
    """Show Adv. + Ela. under each choice that the paper leaves open, and at the paper's M and P."""
    if shown is None:
        return _missing()
    cells = shown.cells[shown.cells["variant"] != ""]
    if cells.empty:
        return _missing()
    chosen = shown.select(cell=list(cells["cell"]))
    _about(chosen)
    return experiments.variants(chosen).round(2)


def attacks(auditor: Auditor, model: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Show what every attack reaches on a model, beside the retrained models."""
    table = auditor.attacks(model, generator=generator)
    text = pd.DataFrame(
        {
            "attack": table["attack"].map(report_card.SCORES).str.removesuffix(", AUC"),
            "figure": table["figure"].map({"auc": "AUC", "eer": "EER", "tpr": "TPR\u00a01\u00a0%"}),
            "value": _with_interval(table, "value", "low", "high"),
            "retrained": table["retrained"].map(_number),
            "distance": table["distance"].map(_number),
            "spread": table["spread"].map(_number),
        }
    )
    return text.set_index(["attack", "figure"])


def imbalance(auditor: Auditor) -> pd.DataFrame:
    """Show what still tells the matched pairs apart."""
    left = auditor.matching.imbalance
    row = {
        "pairs": left.n_pairs, "without a partner": left.n_unmatched,
        "same class": left.agreement["label"],
        "mean difference of duration (s)": left.mean_difference,
        "in standard deviations": left.standardised,
    }
    return pd.DataFrame([row]).round(3)


def card(judged: report_card.Card) -> pd.DataFrame:
    """Show a report card: a row a score, and whether it passes."""
    table = judged.scores
    names = report_card.SCORES | report_card.DISTANCES
    verdict = np.where(table["passed"], "passes", "fails")
    text = pd.DataFrame(
        {
            "score": table["score"].map(names),
            "value": table["value"].map(_number),
            "retrained": table["retrained"].map(_number),
            "of one more retrained": [
                f"[{_number(max(0.0, low))}, {_number(high)}]"
                for low, high in zip(table["low"], table["high"].where(
                    table["score"].isin(report_card.DISTANCES), table["high"].clip(upper=1)
                ), strict=True)
            ],
            "": np.where(table["judged"], verdict, "(" + verdict.astype(object) + ")"),
        }
    )
    passed = "passes for a retrained one" if judged.passed else "does not pass for a retrained one"
    display(Markdown(f"The model **{passed}**."))
    return text.set_index("score")


def cards(shown: Results) -> pd.DataFrame:
    """Show a card of two scores for each model of the requests with three retrained ones."""
    names = {"forget_uar": "forget UAR", "mia_loss": "attack AUC"}
    found = leaderboard.cards(shown, tuple(names))
    found = found.sort_values(
        "method", kind="stable", key=lambda column: column.map(list(TITLES).index)
    )
    rows = []
    for (request, method, model), card in found.groupby(["request", "method", "model"], sort=False):
        row = {"request": request, "method": TITLES[method], "model": model}
        for score in card.itertuples():
            low, high = max(0.0, score.low), min(1.0, score.high)
            row[names[score.score]] = round(score.value, 2)
            row[f"{names[score.score]} of one more retrained"] = f"[{low:.2f},\u00a0{high:.2f}]"
        rows.append(row | {"passed": "passes" if card["passed"].all() else "fails"})
    return pd.DataFrame(rows).set_index(["request", "method", "model"])


def committed_card(folder_name: str, method: str) -> Shown:
    """Show a method's report card in the first request of a committed leaderboard."""
    found = leaderboard.committed(folder_name)
    if found is None:
        return _missing()
    scores = found.scores
    first = scores[["seed", "draw"]].min()
    own = scores[
        (scores["seed"] == first["seed"]) & (scores["draw"] == first["draw"])
        & (scores["method"] == method)
    ]
    if own.empty:
        return _missing()
    display(Markdown(made_by(found.results)))
    return card(report_card.Card(bool(own.loc[own["judged"], "passed"].all()), own))


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """Show the chosen trial of each method, and what the tuning used."""
    best = table[table["chosen"]].copy()
    best["trials"] = best["method"].map(table["method"].value_counts())
    best["method"] = best["method"].map(TITLES)
    used = best[["draw", "n_forget", "seed", "unseen_clips"]].drop_duplicates()
    display(
        Markdown(
            "\n".join(
                f"- tuned on: draw {row.draw}, {row.n_forget} clips, training seed {row.seed}, "
                f"{row.unseen_clips} spare unseen clips; the gap is that to one model retrained "
                "without the draw"
                for row in used.itertuples()
            )
        )
    )
    best["chosen"] = best["overrides"].str.strip("{}").str.replace('"', "")
    shown = best.set_index("method")[["trials", "chosen", "gap"]].round({"gap": 3})
    return shown.rename(columns={"gap": "average gap"})


def budget(table: pd.DataFrame) -> str:
    """Return how many trials the methods had, and which had fewer than most.

    Args:
        table: of `speechunlearn.lab.tuning.trial_table`

    Examples:
        >>> budget(pd.DataFrame({"method": ["adv", "adv", "delete", "delete", "sisa"]}))
        'Trials: 2 of each method, but 1 of SISA, which has nothing to tune.'

    """
    count = table["method"].value_counts()
    most = int(count.max())
    single = [TITLES[name] for name in TITLES if count.get(name, most) == 1 < most]
    if not single:
        return f"Trials: {most} of each method."
    has = "has" if len(single) == 1 else "have"
    return (
        f"Trials: {most} of each method, but 1 of {' and of '.join(single)}, which {has} nothing "
        "to tune."
    )


def ranking(table: pd.DataFrame, *, alone: bool = False) -> pd.DataFrame:
    """Show a leaderboard as a table that a click on a heading sorts.

    Args:
        table: of `speechunlearn.lab.leaderboard.ranking`
        alone: only methods that look at the forget set alone, with their scores and tests

    """
    shown = table[table["alone"]] if alone else table
    pairs, clips = table[["pairs", "clips"]].iloc[0]
    if alone:
        display(
            Markdown(
                f"Means over n = {pairs} pairs of training seed and forget draw. `p`: that a "
                f"method's gap is no other than that of the first, from a paired bootstrap of "
                f"n = {pairs} pairs and of speakers (or what the task keeps apart), by Holm's "
                "correction. A `p` above .05 tells two methods apart no more than chance does."
            )
        )
        columns = {
            "average gap": shown["gap"].map(lambda value: _number(value, 3)),
            "p": shown["p"].map(lambda value: _number(value, 3)),
            **{
                title: shown[name].map(_number) for title, name in {
                    "forget UAR": "forget_uar", "retain UAR": "retain_uar",
                    "unseen UAR": "unseen_uar", "matched": "mia_matched",
                    "likeness": "mia_likelihood_ratio",
                }.items()
            },
        }
    else:
        display(
            Markdown(
                f"Means over n = {pairs} pairs of training seed and forget draw; in brackets 95 % "
                f"intervals of a bootstrap of these {pairs} and of speakers (or what the task "
                f"keeps apart). Answers changed: of n = {clips} clips."
            )
        )
        columns = {
            "data used": shown["needs"].replace("", "–"),
            "average gap": _with_interval(shown, "gap", "gap_low", "gap_high", 3),
            "forgetting distance": _with_interval(
                shown, "forgetting", "forgetting_low", "forgetting_high", 3
            ),
            "utility distance": _with_interval(
                shown, "utility", "utility_low", "utility_high", 3
            ),
            "answers changed": shown["changed"].map(lambda share: f"{_number(100 * share, 1)} %"),
            "cards passed": _passed(shown),
        }
    named = shown["method"] + shown["same_as"].map(lambda name: f" (= {name})" if name else "")
    return pd.DataFrame(columns).set_index(named.rename("method"))


def _passed(table: pd.DataFrame) -> list[str]:
    """Return how many report cards passed, of how many."""
    return [
        f"{passed} of {cards}" if cards else "–"
        for passed, cards in zip(table["cards_passed"], table["cards"], strict=True)
    ]


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Show what the methods of a leaderboard cost."""
    shown = table.assign(method=table["method"].map(TITLES)).set_index("method")
    return shown[["seconds", "forward_backward", "peak_memory_mb"]].round(1)


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """Show what becomes of methods when something about them is changed.

    Args:
        table: of `speechunlearn.lab.leaderboard.parts` or `speechunlearn.lab.leaderboard.repeated`

    """
    names = {
        "gap": "average gap", "forgetting": "forgetting distance", "utility": "utility distance",
        "forget_uar": "forget UAR", "mia_matched": "matched", "mia_likelihood_ratio": "likeness",
    }
    text = {
        shown: [
            _number(value, 3 if name in ("gap", "forgetting", "utility") else 2)
            for value in table[name]
        ]
        for name, shown in names.items()
    }
    return pd.DataFrame(text | {"cards passed": _passed(table)}, index=table.index)


def committed_leaderboard(folder_name: str) -> Shown:
    """Show a committed leaderboard: the ranking, those on the forget set alone, and the costs."""
    found = leaderboard.committed(folder_name)
    if found is None:
        return _missing()
    display(Markdown(made_by(found.results)))
    cells = found.results.cells
    profile, corpus, task = cells[["profile", "corpus", "task"]].iloc[0]
    recipe = json.loads(cells.loc[cells["method"] == "original", "hyperparameters"].iloc[0])
    quick = " -p quick=true" if recipe.get("quick") else ""
    display(
        Markdown(
            "A row again, by its method: "
            f"`speechunlearn run 10 --profile {profile} --corpus {corpus} --root PATH "
            f"-p task={task} -p methods=METHOD{quick}`"
        )
    )
    tuned = tuning.frozen(profile, corpus, task)
    said = [] if tuned is None else [budget(tuned)]
    if leaderboard.OURS in set(cells["method"]):
        said.append(leaderboard.REDESIGNED)
    display(Markdown(" ".join(said)))
    table = found.ranking
    pairs = table["pairs"].iloc[0]
    display(ranking(table))
    display(Markdown("**From the forget set alone**"), ranking(table, alone=True))
    for title, more in (
        ("What makes altered copies work", found.parts),
        ("Five requests in a row", found.repeated),
    ):
        if more is not None:
            display(Markdown(f"**{title}** (means over n = {pairs} pairs)"), beside(more))
    figures.forgetting_and_cost(table)
    return costs(table)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Show how costs grow: a row a size, a column a method, each slope with its interval.

    Args:
        table: of `speechunlearn.lab.scaling.slopes`

    """
    text = table.assign(
        slope=_with_interval(table, "slope", "low", "high"), size=table["axis"].map(scaling.AXES),
        title=table["method"].map(TITLES),
    )
    wide = text.pivot(index="size", columns="title", values="slope").fillna("")
    return wide.loc[list(dict.fromkeys(text["size"])), list(dict.fromkeys(text["title"]))]


def growth_with(table: pd.DataFrame, axis: str) -> None:
    """Say which methods grow with a size, and which were not found to.

    Args:
        table: of `speechunlearn.lab.scaling.slopes`
        axis: name of `speechunlearn.lab.scaling.AXES`

    """
    own = table[table["axis"] == axis]
    lines = []
    for alone, title in ((True, "look at the forget set alone"), (False, "look at more")):
        part = own[[(methods.get(m).needs == {"forget"}) == alone for m in own["method"]]]
        found = ", ".join(
            f"{TITLES[row.method]}: {row.verdict} (slope {_number(row.slope)} "
            f"[{_number(row.low)}, {_number(row.high)}])"
            for row in part.itertuples()
        )
        if found:
            lines.append(f"- of those that {title}: {found}")
    display(Markdown(f"With the size *{scaling.AXES[axis]}*\n\n" + "\n".join(lines)))


def planned(table: pd.DataFrame) -> pd.DataFrame:
    """Show the planner's predictions beside runs, and how many are within a quarter.

    Args:
        table: of `speechunlearn.lab.scaling.predictions`

    """
    within = int(((table["ratio"] - 1).abs() <= 0.25).sum())
    display(
        Markdown(
            f"Within 25 % of the run, by the median: {within} of {len(table)} predictions; "
            f"passes as counted before: {int(table['passes agree'].sum())} of {len(table)}."
        )
    )
    shown = table.assign(method=table["method"].map(TITLES)).set_index("method")
    return shown.rename(columns={"ratio": "predicted / real"}).round(3)


def _number(value: float, digits: int = 2) -> str:
    """Return a rounded number; halves go up, whatever the last bits of a sum say."""
    return "–" if np.isnan(value) else f"{value + 1e-9:.{digits}f}"


def _with_interval(
    table: pd.DataFrame, value: str, low: str, high: str, digits: int = 2
) -> list[str]:
    return [
        f"{_number(v, digits)} [{_number(a, digits)}, {_number(b, digits)}]"
        for v, a, b in zip(table[value], table[low], table[high], strict=True)
    ]


def _missing() -> Shown:
    return display(Markdown("*No results of this profile are committed yet.*"))
