"""What stands on the page of each metric beside its text: a worked number, and real values.

The worked number is the example of the function's docstring, which a test runs, and a picture of it
(`pictures`). Real values are those of committed tables of RAVDESS: the leaderboard's, and what
`benchmarks.relearning` found; a picture has a mark for every method.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boards
import numpy as np
import pandas as pd
import pictures
from matplotlib.figure import Figure

from speechunlearn import corpora, provenance
from speechunlearn.audit import closeness, membership, scoring
from speechunlearn.chapters import figures, tables
from speechunlearn.lab import leaderboard
from speechunlearn.lab.results import TITLES

#: the metric pages that a column of the ranking is about, and what a reader calls it
IN_RANKING = {
    "uar": ("forget_uar", "UAR on the forget set"),
    "mia_auc": ("mia_loss", "AUC of the attack on the loss"),
    "mia_regression": ("mia_regression", "AUC of the attack by logistic regression"),
    "mia_svc": ("mia_svc", "AUC of the SVC attack"),
    "mia_matched": ("mia_matched", "AUC of the attack on matched clips"),
    "mia_likelihood_ratio": ("mia_likelihood_ratio", "AUC of the likeness to the originals"),
    "loss_distribution": ("loss_ks", "Kolmogorov-Smirnov distance of the losses"),
    "activation_distance": ("activation_distance", "activation distance on the forget set"),
    "average_gap": ("gap", "average gap"),
    "statistics": ("gap", "average gap with its 95 % interval"),
    "report_card": ("cards_passed", "report cards passed"),
    "cost": ("forward_backward", "clips sent forward and backward"),
}
#: those that come from each run's scores instead
IN_ROWS = {
    "accuracy": ("accuracy", "accuracy on the forget set"),
    "mean_loss": ("mean_loss", "mean loss on the forget set (nats)"),
    "distance": ("uar_distance", "UAR on the forget set: distance to the retrained model"),
}
RELEARNING = provenance.REPOSITORY / "data" / "benchmarks" / "relearning.csv"
#: the models that are named; the others are marks
NAMED = ("original", leaderboard.OURS, "amun", "retrain")


class Values(NamedTuple):
    """What a metric says of models of real speech.

    Attributes:
        title: what the value is called
        of_method: a value a method, means over runs
        about: of which runs and models

    """

    title: str
    of_method: pd.Series
    about: str


def values() -> dict[str, Values]:
    """Return what each metric says of models of RAVDESS, by the name of its page."""
    board = boards.committed()[0]
    ranking, results = board.ranking, leaderboard.committed(boards.LEADERBOARDS[0][1]).results
    about = (
        f"RAVDESS emotions, means over {int(ranking['runs'].iloc[0])} runs; a mark for each method "
        "of the {doc}`leaderboard <../leaderboard>`."
    )
    shown = {page: (title, ranking[column]) for page, (column, title) in IN_RANKING.items()}
    rows = results.rows()
    rows = rows[rows["variant"] == ""]
    run = ["seed", "forget_id"]
    scores = rows.pivot_table(index=["method", *run], columns=["split", "metric"], values="value")
    for page, (metric, title) in IN_ROWS.items():
        shown[page] = title, scores["forget", metric].groupby("method").mean()
    pair, names = confused(results)
    titles = {
        "mia_features": "mean modified entropy on the forget set (nats)",
        "mia_performance": "share of the forget set found at 1 % false alarms",
        "interclass_confusion": f"share of unseen {names} clips confused",
        "tow": "tug of war, of UARs",
        "gum": "global unlearning metric, bounded",
    }
    evaluations = results.evaluations.query("variant == ''").set_index(["method", *run])
    of_runs = []
    for key, evaluation in evaluations.iterrows():
        table = results.of_evaluation(evaluation["evaluation"])
        forget, unseen = (table[table["split"] == split] for split in ("forget", "unseen"))
        losses = membership.loss_membership_attack(forget["loss"], unseen["loss"])
        confusion = closeness.interclass_confusion(unseen["label"], unseen["prediction"], pair)
        row = {
            "method": key[0], "mia_features": forget["modified_entropy"].mean(),
            "mia_performance": membership.tpr_at_fpr(losses).tpr,
            "interclass_confusion": confusion.share,
        }
        if key[0] != "retrain":
            judged, original, retrained = (
                scores.loc[(method, *key[1:])] for method in (key[0], "original", "retrain")
            )
            auc, uar = ("forget", "mia_auc"), ("unseen", "uar")
            chance = scoring.auc_variance(retrained[auc], len(forget), len(unseen))
            row["tow"] = closeness.tow(
                *(dict(one.xs("uar", level="metric")) for one in (judged, retrained))
            )
            row["gum"] = closeness.gum_bounded(
                mia_original=original[auc], mia_unlearned=judged[auc],
                mia_retrained=retrained[auc], score_unlearned=judged[uar],
                score_retrained=retrained[uar],
                seconds_unlearned=0.0 if key[0] == "original" else evaluation["seconds"],
                seconds_retrained=evaluations.loc[("retrain", *key[1:]), "seconds"],
                resolution=math.sqrt(chance),
            ).value
        of_runs.append(row)
    means = pd.DataFrame(of_runs).groupby("method").mean()
    shown |= {page: (title, means[page]) for page, title in titles.items()}
    return {
        page: Values(title, series.dropna(), about) for page, (title, series) in shown.items()
    } | relearned()


def confused(results: Any) -> tuple[list[int], str]:
    """Return the two classes that retrained models confuse most in unseen clips, and their names.
    """
    labels = corpora.known()["ravdess"].labels
    kept = results.evaluations.query("method == 'retrain' and variant == ''")["evaluation"]
    unseen = pd.concat([results.of_evaluation(name, "unseen") for name in kept])
    counts = pd.crosstab(unseen["label"], unseen["prediction"]).to_numpy()
    both = np.triu(counts + counts.T, k=1)
    pair = [int(k) for k in np.unravel_index(both.argmax(), both.shape)]
    return pair, " and ".join(labels[k] for k in pair)


def relearning_curves() -> pd.Series:
    """Return the accuracy after each step of relearning, by run and model."""
    rows = pd.read_csv(RELEARNING).set_index(["run", "model"])
    return rows["curve"].map(lambda text: [*map(float, text.split())])


def relearned() -> dict[str, Values]:
    """Return what `benchmarks.relearning` found."""
    rows, curves = pd.read_csv(RELEARNING), relearning_curves()
    index = pd.Series({
        key: closeness.anamnesis(curve, curves[key[0], "retrain"], curves[key[0], "original"][0])
        .value for key, curve in curves.items() if key[1] != "retrain"
    })
    zrf = rows.assign(model=rows["model"].replace("one more", "retrain")).groupby("model")["zrf"]
    about = (
        f"RAVDESS emotions, {rows['clips'].iloc[0]} clips to forget, means over "
        f"{rows['run'].nunique()} runs with models of a pool (`data/benchmarks/relearning.csv`)."
    )
    return {
        "anamnesis": Values(
            "anamnesis index", index.groupby(level=1).mean().rename({"one more": "retrain"}), about
        ),
        "zrf": Values("zero retrain forgetting", zrf.mean(), about),
    }


def named(of_method: pd.Series) -> list[str]:
    """Return the methods that are named beside the others: all where they are few."""
    few = len(of_method) <= len(NAMED)
    return [method for method in TITLES if method in of_method.index and (few or method in NAMED)]


def strip(title: str, of_method: pd.Series, ends: pd.DataFrame | None = None) -> Figure:
    """Draw a mark a method over one score, the named models above the others.

    Args:
        title: of the score
        of_method: values
        ends: of an interval of each

    """
    figure, axis = figures.panels(4.4, 2.4)
    methods = named(of_method)
    others = of_method.drop(index=methods)
    if len(others):
        axis.plot(
            others, [0] * len(others), "|", color="0.45", markersize=14, label="other methods"
        )
    for row, method in enumerate(methods):
        style = figures.OF_METHOD[method] | (
            pictures.RETRAINED if method == "retrain" else {"markersize": 8}
        )
        height = 0.5 + 0.5 * row
        if ends is not None:
            axis.plot(ends.loc[method], [height] * 2, color=style["color"], linewidth=2)
        axis.plot(
            of_method[method], height, linestyle="none", markeredgecolor="black",
            markeredgewidth=0.5, label=TITLES[method], **style,
        )
    axis.set(xlabel=title, yticks=[], ylim=(-0.6, 0.6 + 0.5 * len(methods)))
    axis.spines[["left", "right", "top"]].set_visible(False)
    figures.legend_below(figure, axis, ncols=2, fontsize=9)
    return figure


def coming_back() -> Figure:
    """Draw how accurate models are while they learn the forget set again, means over runs."""
    figure, axis = figures.panels(4.4, 3)
    curves = relearning_curves().groupby(level="model").agg(lambda runs: np.mean([*runs], axis=0))
    for (name, curve), line in zip(
        ((m, curves[m]) for m in TITLES if m in curves), figures.LINES, strict=False
    ):
        style = pictures.RETRAINED if name == "retrain" else figures.OF_METHOD[name]
        axis.plot(curve, line, label=TITLES[name], color=style["color"])
    axis.axhline(0.95 * curves["original"][0], color="grey", linewidth=0.8)
    axis.set(xlabel="steps of relearning", ylabel="accuracy on the forget set")
    axis.spines[["right", "top"]].set_visible(False)
    figures.legend_below(figure, axis, ncols=2, fontsize=9)
    return figure


def pages(written: Path, folder: Path) -> None:
    """Write a snippet and pictures for each metric.

    Args:
        written: folder of the metrics' pages
        folder: where the snippets go

    """
    folder.mkdir(parents=True)
    on_speech = values()
    ranking = boards.committed()[0].ranking
    for page in sorted(path.stem for path in written.glob("*.md")):
        function = explained((written / f"{page}.md").read_text())
        parts = ["## A worked number\n"] if function or page in pictures.DRAWN else []
        if page in pictures.DRAWN:
            picture, alt, caption = pictures.of(page, function)
            pictures.save(picture, folder / f"{page}-idea.svg")
            parts.append(figure(f"{page}-idea", "idea", 400, f"{alt} {caption}", caption))
        if function is not None:
            parts.append(f"```python\n{examples(function)}```\n")
        if page in on_speech:
            title, of_method, about = on_speech[page]
            ends = ranking[["gap_low", "gap_high"]] if page == "statistics" else None
            title += f", of {int(ranking['cards'].iloc[0])}" if page == "report_card" else ""
            drawn, seen = strip(title, of_method, ends), "A mark for each model along an axis"
            if page == "anamnesis":
                drawn, seen = coming_back(), "A curve for each model over the steps of relearning"
            pictures.save(drawn, folder / f"{page}.svg")
            texts = dict(zip(of_method.index, tables.typeset(list(of_method)), strict=True))
            if ends is not None:
                texts |= {m: f"{texts[m]} [{a:.2f}, {b:.2f}]" for m, a, b in ends.itertuples()}
            told = [f"{TITLES[method]} {texts[method]}" for method in named(of_method)]
            said = f"{_first_up(title)}: {', '.join(told)}."
            parts.append("## On real speech\n")
            parts.append(figure(page, "on-speech", 440, f"{seen}. {said}", f"{said} {about}"))
        (folder / f"{page}.md").write_text("\n".join(parts))
    rows = [
        [f"{{ref}}`{_first_up(title)} <metric-{page}>`", *tables.typeset([*scores.reindex(NAMED)])]
        for page, (title, scores, _) in on_speech.items() if page != "statistics"
    ]
    header = ["RAVDESS emotions", *(TITLES[method] for method in NAMED)]
    (folder / "overview.md").write_text(tables.markdown(header, rows) + "\n")


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def figure(file: str, name: str, width: int, alt: str, caption: str) -> str:
    """Return a picture with its caption, in Markdown."""
    plain = alt.replace('"', "'").replace("$", "").replace("`", "")
    return (
        f"```{{figure}} ../../generated/metrics/{file}.svg\n"
        f":name: {name}-{file.removesuffix('-idea')}\n:width: {width}px\n"
        f':alt: "{plain}"\n\n{caption}\n```\n'
    )


def explained(text: str) -> Callable[..., object] | None:
    """Return the first function that a page names and whose docstring has an example."""
    for name in re.findall(r"{py:(?:func|meth)}`([\w.]+)`", text):
        function = _found(name)
        if ">>> " in (inspect.getdoc(function) or ""):
            return function
    return None


def examples(function: Callable[..., object]) -> str:
    """Return a docstring's examples."""
    return "".join(
        ">>> " + example.source.rstrip("\n").replace("\n", "\n... ") + "\n" + example.want
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")
    )


def _found(name: str) -> Callable[..., object]:
    """Return a function, or a method of a class, by its whole name."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(_found(module), attribute)
