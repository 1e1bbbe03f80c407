"""What a chapter shows of committed results, beside its own: always with what made them.

The numbers are computed from the committed predictions each time, by the same functions as the
chapter's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from speechunlearn import corpora
from speechunlearn.audit import report_card, statistics
from speechunlearn.lab import experiments, leaderboard, results, sentences
from speechunlearn.lab.results import TITLES, Results, number


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


def write(*paragraphs: str) -> None:
    """Show paragraphs in Markdown; empty ones are left out."""
    display(Markdown("\n\n".join(text for text in paragraphs if text)))


def about(shown: Results) -> None:
    """Show what made these evaluations, and what the paper's methods among them were run with."""
    write(
        made_by(shown), sentences.settings(shown.evaluations),
        sentences.stand_ins(shown.evaluations)
    )


def table(shown: Results, setting: str, chosen: Sequence[str]) -> pd.DataFrame:
    """Show the table of methods beside the paper's numbers, and their distances to retraining."""
    evaluations = shown.reported().select(setting=setting, method=list(chosen))
    about(evaluations)
    numbers = results.table_of_methods(evaluations, setting, generator=np.random.default_rng(0))
    paper = results.paper_table1()
    display(results.readable(numbers, paper[paper["setting"] == setting]))
    if {"retrain", "ran_lab", *experiments.ADVERSARIAL} <= set(numbers["method"]):
        said = sentences.of_methods(evaluations.evaluations, numbers, 1 / evaluations.n_labels)
        write("".join(f"- {sentence}\n" for sentence in said))
    display(results.distances(numbers))
    return results.costs(evaluations)


def forget_sets_of(shown: Results, kind: str) -> pd.DataFrame:
    """Show one kind of forget set (clips, class, speaker): the table, distances and costs."""
    part = shown.select(forget_kind=kind)
    about(part)
    numbers = results.table_of_methods(
        part, "validation", forget_kind=kind, generator=np.random.default_rng(0)
    )
    if kind == "clips":
        display(results.readable(numbers))
    else:
        display(results.readable_by_method(part.reported(), numbers))
    display(results.distances(numbers))
    return results.costs(part)


def card(scores: pd.DataFrame) -> pd.DataFrame:
    """Show a report card: a row a score, and whether it passes.

    Args:
        scores: of `speechunlearn.audit.report_card.Card`

    """
    verdict = scores["passed"].map({True: "passes", False: "fails"})
    share = ~scores["score"].isin(report_card.DISTANCES)
    low, high = scores["low"].clip(lower=0), scores["high"]
    high = high.mask(share, high.clip(upper=1))
    text = pd.DataFrame({
        "score": scores["score"].map(report_card.NAMES),
        "value": scores["value"].map(number), "retrained": scores["retrained"].map(number),
        "of one more retrained": "[" + low.map(number) + ", " + high.map(number) + "]",
        "": verdict.where(scores["judged"], "(" + verdict + ")"),
    })
    passes = scores.loc[scores["judged"], "passed"].all()
    write(f"The model **{'passes' if passes else 'does not pass'} for a retrained one**.")
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


def t_intervals(rows: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Return the mean over runs, its 95 % t interval and the number of runs, by condition.

    Examples:
        >>> rows = pd.DataFrame({"method": ["none"] * 3, "uar": [0.7, 0.8, 0.9]})
        >>> t_intervals(rows, ["method"], "uar").round(3).to_dict("records")
        [{'method': 'none', 'value': 0.8, 'low': 0.552, 'high': 1.048, 'n': 3}]

    """
    groups = rows.dropna(subset=[value]).groupby(list(by), sort=False)[value]
    return pd.DataFrame(
        [(*condition, *statistics.t_interval(of.to_numpy()), len(of)) for condition, of in groups],
        columns=[*by, "value", "low", "high", "n"],
    )
