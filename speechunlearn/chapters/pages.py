"""What a chapter shows of committed results, beside its own: always with what made them.

The numbers are computed from the committed predictions each time, by the same functions as the
chapter's own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from speechunlearn import corpora, methods
from speechunlearn.audit import report_card, statistics
from speechunlearn.audit.report_card import Auditor
from speechunlearn.chapters import interactive
from speechunlearn.lab import experiments, leaderboard, results, scaling, sentences, tuning
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.results import TITLES, Results, number, with_interval


def made_by(shown: Results) -> str:
    """Return what made these evaluations: profile, corpus, encoder, seeds, machine, commit, hours.

    A model that is scored for several sizes of the forget set counts once.
    """
    evaluations, models = shown.evaluations, shown.models
    names = "; ".join(corpora.get(name).title for name in sorted(set(evaluations["corpus"])))
    one = {
        name: "; ".join(sorted({str(v) for v in values})) for name, values in evaluations.items()
    }
    asked = []
    for kind, draws in evaluations.groupby("forget_kind")["forget_id"]:
        drawn = sorted({str(forget_id) for forget_id in draws})
        asked.append(
            f"forget sets {'; '.join(drawn)}" if kind == "clips"
            else f"{len(drawn)} removals by {kind}"
        )
    return (
        f"Profile **{one['profile']}**; corpus: **{names}**; encoder {one['encoder']}; "
        f"training seeds {one['seed']}; {'; '.join(asked)}; {len(models)} models, "
        f"{models['seconds'].sum() / 3600:.1f} h on {one['machine']}; code {one['commit']}."
    )


def _say(*paragraphs: str) -> None:
    """Show paragraphs; empty ones are none."""
    display(Markdown("\n\n".join(text for text in paragraphs if text)))


def _about(shown: Results) -> None:
    """Show what made these evaluations, and what the paper's methods among them were run with."""
    _say(
        made_by(shown), sentences.settings(shown.evaluations),
        sentences.stand_ins(shown.evaluations)
    )


def originals(shown: Results) -> pd.DataFrame:
    """Show UAR and attack of the fine-tuned and the retrained models, a row a run."""
    evaluations = shown.reported().select(method=["original", "retrain"])
    evaluations = evaluations.select(n_forget=evaluations.sizes[-1])
    _say(made_by(evaluations))
    generator = np.random.default_rng(0)
    key = ["setting", "seed", "forget_id", "method"]
    attack = results.across(evaluations.rows(), key)["forget mia_auc"]
    table = []
    for record in evaluations.evaluations.sort_values(
        ["setting", "seed", "method"]
    ).to_dict("records"):
        model = tuple(record[name] for name in key)
        row = dict(zip(key, model, strict=True)) | {"model": TITLES[record["method"]]}
        for split in ("forget", "retain", "unseen"):
            interval = statistics.cluster_bootstrap(
                evaluations.of_evaluation(record["evaluation"], split), generator=generator
            )
            row[f"{split} UAR"] = f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
        table.append(row | {"attack AUC": f"{attack[model]:.2f}"})
    return pd.DataFrame(table).drop(columns="method").set_index([*key[:3], "model"])


def table(shown: Results, setting: str, chosen: Sequence[str]) -> pd.DataFrame:
    """Show the table of methods beside the paper's numbers, and their distances to retraining."""
    evaluations = shown.reported().select(setting=setting, method=list(chosen))
    _about(evaluations)
    numbers = results.table_of_methods(evaluations, setting, generator=np.random.default_rng(0))
    paper = results.paper_table1()
    display(results.readable(numbers, paper[paper["setting"] == setting]))
    if {"retrain", "ran_lab", *experiments.ADVERSARIAL} <= set(numbers["method"]):
        said = sentences.of_methods(evaluations.evaluations, numbers, 1 / evaluations.n_labels)
        _say("".join(f"- {sentence}\n" for sentence in said))
    display(results.distances(numbers))
    return results.costs(evaluations)


def committed_corpora() -> pd.DataFrame:
    """Show what the committed results were made on: units and clips by part, of one run each."""
    rows = []
    for folder in sorted(path.parent for path in results.COMMITTED.glob("*/evaluations.csv")):
        shown = results.Results.read(folder).reported().select(forget_kind="clips")
        first = shown.select(method="original").evaluations.iloc[0]
        clips = shown.of_evaluation(first["evaluation"])
        units = clips.groupby("split")["cluster"].nunique()
        rows.append({
            "corpus": corpora.get(first["corpus"]).title.partition(":")[0], "task": first["task"],
            "classes": shown.n_labels, "unseen units": units["unseen"],
            **clips["split"].value_counts()[["forget", "retain", "unseen"]].add_prefix("clips, "),
        })
    return pd.DataFrame(rows).set_index(["corpus", "task"])


def forget_sets_of(shown: Results, kind: str) -> pd.DataFrame:
    """Show one kind of forget set (clips, class, speaker): the table, distances and costs."""
    part = shown.select(forget_kind=kind)
    _about(part)
    numbers = results.table_of_methods(
        part, "validation", forget_kind=kind, generator=np.random.default_rng(0)
    )
    if kind == "clips":
        display(results.readable(numbers))
    else:
        display(results.readable_by_method(part.reported(), numbers))
    display(results.distances(numbers))
    return results.costs(part)


def speakers_in_a_row(shown: Results) -> pd.DataFrame:
    """Show speakers who were forgotten one after another."""
    return results.sequence_table(shown.select(variant=experiments.SEQUENTIAL_SPEAKERS))


def speech_and_images(speech: Mapping[str, Results], images: Results) -> pd.DataFrame:
    """Show, for each corpus of speech beside images, how far methods stay from retraining.

    Args:
        speech: results of random forget sets, by what they are about
        images: of the control

    """
    every = [*speech.values(), images]
    display(
        Markdown("\n".join(f"- {made_by(shown.select(forget_kind='clips'))}" for shown in every))
    )
    named, tables = {"one": "speech", "other": "images"}, {}
    for name, shown in speech.items():
        table = results.further_from_retraining(shown, images)
        count = table["further"].value_counts()
        _say(
            f"**{name}**: of {len(table)} models, the original's included, "
            f"{count.get('one', 0)} are further from retraining on speech, "
            f"{count.get('other', 0)} on images; {count.get('undecided', 0)} undecided. "
            f"{sentences.of_power(table)}"
        )
        tables[name] = table.replace({"further": named}).rename(columns=named).round(2)
    return pd.concat(tables, names=["speech"])


def tests_and_claims(shown: Results, setting: str) -> pd.DataFrame:
    """Show the tests against random labels, the rule of a verdict, and the paper's claims by it."""
    evaluations = shown.reported().select(setting=setting)
    _about(evaluations)
    tests = results.tests_against(
        evaluations, setting, "ran_lab", experiments.ADVERSARIAL, generator=np.random.default_rng(0)
    )
    display(tests.replace({"method": TITLES}).set_index(["method", "n_forget"]))
    _say(experiments.RULE)
    unlike = sentences.unlike_the_paper(evaluations.evaluations)
    if unlike:
        _say(f"Not tested here: {unlike}.")
    verdicts = experiments.claims(
        evaluations, setting, chance=1 / evaluations.n_labels, generator=np.random.default_rng(0)
    )
    return verdicts.set_index(["claim", "n_forget"])


def figure2(shown: Results) -> pd.DataFrame:
    """Show UAR over tau on the development forget set: the figure and its table."""
    evaluations = shown.select(forget_id=DEVELOPMENT)
    _about(evaluations)
    rows = evaluations.rows().query("split == 'unseen' and metric == 'uar'")
    before = rows.query("method == 'original'")["value"].iloc[0]
    display(interactive.over_tau(rows.query("method != 'original'"), before))
    return experiments.shape_over_tau(evaluations).round(2)


def open_choices(shown: Results) -> pd.DataFrame:
    """Show Adv. + Ela. under each choice that the paper leaves open, and at the paper's M and P."""
    chosen = shown.select(
        evaluation=list(shown.evaluations.loc[shown.evaluations["variant"] != "", "evaluation"])
    )
    _about(chosen)
    return experiments.variants(chosen).round(2)


def heard() -> HTML:
    """Return players of ``data/heard``: a clip, its adversarial copies and what was added to it."""
    folder, players = results.COMMITTED.parent / "heard", []
    louder = json.loads((folder / "made_by.json").read_text())["louder"]
    said = {
        "clip": "The clip: the model answers *{0.said}*",
        "copy": "tau = {0.tau}, SNR {0.snr_db} dB: the model answers *{0.said}* "
        "(target *{0.target}*)",
        "perturbation-alone": "What was added at tau = {0.tau}, alone",
        "perturbation-louder": f"The same, {louder} times as loud",
    }
    for row in pd.read_csv(folder / "heard.csv").itertuples():
        stem = Path(str(row.file)).stem
        text = said[stem if stem in said else stem.split("-")[0]].format(row)
        text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
        sound = base64.b64encode((folder / str(row.file)).read_bytes()).decode()
        players.append(
            f'<p>{text}:<br><audio controls preload="none" src="data:audio/flac;base64,{sound}">'
            "</audio></p>"
        )
    return HTML("\n".join(players))


def attacks(auditor: Auditor, model: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Show what every attack reaches on a model, beside the retrained models."""
    table = auditor.attacks(model, generator=generator)
    figures = {"auc": "AUC", "eer": "EER", "tpr": "TPR\u00a01\u00a0%"}
    beside = {name: table[name].map(number) for name in ("retrained", "distance", "spread")}
    text = table.assign(
        attack=table["attack"].map(report_card.NAMES).str.removesuffix(", AUC"),
        measure=table["measure"].map(figures), value=_with_interval(table, "value", "low", "high"),
        **beside,
    )
    return text.set_index(["attack", "measure"])[["value", *beside]]


def imbalance(auditor: Auditor) -> pd.DataFrame:
    """Show what still tells the matched pairs apart."""
    left = auditor.matching.imbalance
    return pd.DataFrame([{
        "pairs": left.n_pairs, "without a partner": left.n_unmatched,
        "same class": left.agreement["label"],
        "mean difference of duration (s)": left.mean_difference,
        "in standard deviations": left.standardised,
    }]).round(3)


def card(judged: report_card.Card) -> pd.DataFrame:
    """Show a report card: a row a score, and whether it passes."""
    table = judged.scores
    verdict = np.where(table["passed"], "passes", "fails").astype(object)
    share = ~table["score"].isin(report_card.DISTANCES)
    low, high = table["low"].clip(lower=0), table["high"].mask(share, table["high"].clip(upper=1))
    text = pd.DataFrame({
        "score": table["score"].map(report_card.NAMES),
        "value": table["value"].map(number), "retrained": table["retrained"].map(number),
        "of one more retrained": "[" + low.map(number) + ", " + high.map(number) + "]",
        "": np.where(table["judged"], verdict, "(" + verdict + ")"),
    })
    passed = "passes for a retrained one" if judged.passed else "does not pass for a retrained one"
    _say(f"The model **{passed}**.")
    return text.set_index("score")


def cards(shown: Results) -> pd.DataFrame:
    """Show a card of two scores for each model of the forget sets with three retrained ones."""
    names = {"forget_uar": "forget UAR", "mia_loss": "attack AUC"}
    table = leaderboard.cards(shown, tuple(names))
    table = table.sort_values(
        "method", kind="stable", key=lambda column: column.map(list(TITLES).index)
    )
    rows = []
    for (request, method, model), card in table.groupby(
        ["forget_set", "method", "model"], sort=False
    ):
        row = {"forget_set": request, "method": TITLES[method], "model": model}
        for score in card.itertuples():
            low, high = max(0.0, score.low), min(1.0, score.high)
            row[names[score.score]] = round(score.value, 2)
            row[f"{names[score.score]} of one more retrained"] = f"[{low:.2f},\u00a0{high:.2f}]"
        rows.append(row | {"passed": "passes" if card["passed"].all() else "fails"})
    return pd.DataFrame(rows).set_index(["forget_set", "method", "model"])


def committed_card(folder_name: str, method: str) -> pd.DataFrame | None:
    """Show a method's report card in the first run of a committed leaderboard."""
    board = leaderboard.committed(folder_name)
    first = board.scores[["seed", "forget_id"]].min()
    scores = board.scores.set_index(["seed", "forget_id", "method"])
    scores = scores[scores.index == (first["seed"], first["forget_id"], method)]
    if scores.empty:
        _say("*No results of this method are committed yet.*")
        return None
    _say(made_by(board.results))
    return card(report_card.Card(bool(scores.loc[scores["judged"], "passed"].all()), scores))


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """Show the chosen trial of each method, and what the tuning used."""
    best = table[table["chosen"]].set_index("method")
    used = best.drop_duplicates(["forget_id", "n_forget", "seed", "unseen_clips"])
    _say("\n".join(
        f"- tuned on: forget set {row.forget_id}, {row.n_forget} clips, seed {row.seed}, "
        f"{row.unseen_clips} spare unseen clips; the gap is that to one model retrained "
        "without the forget set"
        for row in used.itertuples()
    ))
    shown = pd.DataFrame({
        "trials": table["method"].value_counts(),
        "chosen": best["overrides"].str.strip("{}").str.replace('"', ""),
        "average gap": best["gap"].round(3),
    })
    return shown.loc[best.index].rename(index=TITLES)


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
    has = "has" if len(single) == 1 else "have"
    but = f", but 1 of {' and of '.join(single)}, which {has} nothing to tune" if single else ""
    return f"Trials: {most} of each method{but}."


def ranking(table: pd.DataFrame, *, forget_only: bool = False) -> pd.DataFrame:
    """Show a leaderboard as a table that a click on a heading sorts.

    Args:
        table: of `speechunlearn.lab.leaderboard.ranking`
        forget_only: only methods that use the forget set alone, with their scores and tests

    """
    shown = table[table["forget_only"]] if forget_only else table
    runs, clips = table[["runs", "clips"]].iloc[0]
    said = f"Means over n = {runs} runs (a training seed and a forget set each)"
    if forget_only:
        said += (
            ". `p`: that a method's gap is no other than that of the first, from a paired "
            f"bootstrap of n = {runs} runs and of speakers (or what the task keeps apart), by "
            "Holm's correction. A `p` above .05 tells two methods apart no more than chance does."
        )
        columns = _shown(
            shown, "gap", "p", "forget_uar", "retain_uar", "unseen_uar", "mia_matched",
            "mia_likelihood_ratio",
        )
    else:
        said += (
            f"; in brackets 95 % intervals of a bootstrap of these {runs} and of speakers (or "
            f"what the task keeps apart). Answers changed: of n = {clips} clips."
        )
        columns = {"data used": shown["needs"].replace("", "–")} | {
            _NAMES[name]: _with_interval(shown, name, f"{name}_low", f"{name}_high", 3)
            for name in ("gap", "forgetting", "utility")
        }
        columns |= {
            "answers changed": shown["changed"].map(lambda share: f"{number(100 * share, 1)} %"),
            "cards passed": _passed(shown),
        }
    _say(said)
    named = shown["method"] + shown["same_as"].map(lambda name: f" (= {name})" if name else "")
    return pd.DataFrame(columns).set_index(named.rename("method"))


#: columns of a leaderboard, as readers see them
_NAMES = {
    "gap": "average gap", "forgetting": "forgetting distance", "utility": "utility distance",
    "p": "p", "forget_uar": "forget UAR", "retain_uar": "retain UAR", "unseen_uar": "unseen UAR",
    "mia_matched": "matched", "mia_likelihood_ratio": "likeness",
}


def _shown(table: pd.DataFrame, *columns: str) -> dict[str, Any]:
    """Return columns of a leaderboard as text: distances and p with three digits."""
    fine = ("gap", "forgetting", "utility", "p")
    return {
        _NAMES[name]: table[name].map(lambda v, digits=3 if name in fine else 2: number(v, digits))
        for name in columns
    }


def _passed(table: pd.DataFrame) -> list[str]:
    """Return how many report cards passed, of how many."""
    return [
        f"{passed} of {cards}" if cards else "–"
        for passed, cards in zip(table["cards_passed"], table["cards"], strict=True)
    ]


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Show what the methods of a leaderboard cost."""
    shown = table.assign(method=table["method"].map(TITLES)).set_index("method")
    return shown[["seconds", "forward_backward", "peak_memory_mb"]].round({"peak_memory_mb": 0})


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """Show what becomes of methods when something about them is changed.

    Args:
        table: of `speechunlearn.lab.leaderboard.component_ablation` or
            `speechunlearn.lab.leaderboard.sequential`

    """
    text = _shown(
        table, "gap", "forgetting", "utility", "forget_uar", "mia_matched", "mia_likelihood_ratio"
    )
    return pd.DataFrame(text | {"cards passed": _passed(table)}, index=table.index)


def committed_leaderboard(folder_name: str) -> pd.DataFrame:
    """Show a committed leaderboard: what made it, both distances, forget-set-only methods.

    Every row of it is on the page of the leaderboards.
    """
    board = leaderboard.committed(folder_name)
    table, evaluations = board.ranking, board.results.evaluations
    profile, corpus, task = evaluations[["profile", "corpus", "task"]].iloc[0]
    recipe = json.loads(
        evaluations.loc[evaluations["method"] == "original", "hyperparameters"].iloc[0]
    )
    fast = " -p fast=true" if recipe.get("fast") else ""
    tuned = tuning.frozen(profile, corpus, task)
    said = [] if tuned is None else [budget(tuned)]
    said += [leaderboard.REDESIGNED] if leaderboard.OURS in set(evaluations["method"]) else []
    for text in (
        made_by(board.results),
        "A row again, by its method: "
        f"`speechunlearn run 10 --profile {profile} --corpus {corpus} --root PATH "
        f"-p task={task} -p methods=METHOD{fast}`",
        " ".join(said),
    ):
        _say(text)
    display(interactive.pareto(table))
    display(Markdown("**Methods that use the forget set alone**"))
    return ranking(table, forget_only=True)


def changed(folder_name: str) -> None:
    """Show what becomes of methods of a committed leaderboard when something of them is changed."""
    board = leaderboard.committed(folder_name)
    runs = board.ranking["runs"].iloc[0]
    for title, more in (
        ("Component ablation of self-distillation", board.component_ablation),
        ("Sequential unlearning, in five requests", board.sequential),
    ):
        if more is not None:
            display(Markdown(f"**{title}** (means over n = {runs} runs)"), beside(more))


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
    rows = table[table["axis"] == axis]
    lines = []
    for forget_only, title in ((True, "use the forget set alone"), (False, "use more")):
        part = rows[[(methods.get(m).needs == {"forget"}) == forget_only for m in rows["method"]]]
        slope = _with_interval(part, "slope", "low", "high")
        verdicts = ", ".join(
            f"{TITLES[method]}: {verdict} (slope {text})"
            for method, verdict, text in zip(part["method"], part["verdict"], slope, strict=True)
        )
        if verdicts:
            lines.append(f"- of those that {title}: {verdicts}")
    _say(f"With the size *{scaling.AXES[axis]}*\n\n" + "\n".join(lines))


def planned(table: pd.DataFrame) -> pd.DataFrame:
    """Show the planner's predictions beside runs, and how many are within a quarter.

    Args:
        table: of `speechunlearn.lab.scaling.predictions`

    """
    within = int(((table["ratio"] - 1).abs() <= 0.25).sum())
    _say(
        f"Within 25 % of the run, by the median: {within} of {len(table)} predictions; "
        f"passes as counted before: {int(table['passes agree'].sum())} of {len(table)}."
    )
    shown = table.assign(method=table["method"].map(TITLES)).set_index("method")
    return shown.rename(columns={"ratio": "predicted / real"}).round(3)


def _with_interval(
    table: pd.DataFrame, value: str, low: str, high: str, digits: int = 2
) -> list[str]:
    return [
        with_interval(*of_row, digits)
        for of_row in zip(table[value], table[low], table[high], strict=True)
    ]
