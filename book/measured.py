"""What stands on the page of each metric beside its text: a worked number, and real values.

The worked number is the example of the function's docstring, which a test runs. Real values are
those of the committed leaderboard of RAVDESS: a picture with a mark for every method.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import boards
import pandas as pd
from matplotlib.figure import Figure

from speechunlearn.audit import closeness
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
    "report_card": ("cards_passed", "report cards passed"),
    "cost": ("forward_backward", "clips sent forward and backward"),
}
#: those that come from each run's scores instead
IN_ROWS = {
    "accuracy": ("accuracy", "accuracy on the forget set"),
    "mean_loss": ("mean_loss", "mean loss on the forget set (nats)"),
    "distance": ("uar_distance", "UAR on the forget set: distance to the retrained model"),
}
#: the models that are named; the others are marks
NAMED = ("original", leaderboard.OURS, "amun", "retrain")


def values() -> dict[str, tuple[str, pd.Series]]:
    """Return what each metric says of every model of RAVDESS's leaderboard.

    Returns:
        name of the page -> what it is called, and a value a method, means over the runs

    """
    ranking = boards.committed()[0].ranking
    shown = {
        page: (title, ranking[column].dropna())
        for page, (column, title) in IN_RANKING.items()
    }
    rows = leaderboard.committed(boards.LEADERBOARDS[0][1]).results.rows()
    rows = rows[rows["variant"] == ""]
    forget = rows[rows["split"] == "forget"].groupby(["metric", "method"])["value"].mean()
    for page, (metric, title) in IN_ROWS.items():
        shown[page] = (title, forget[metric].dropna())
    uar = rows[rows["metric"] == "uar"].pivot_table(
        index=["method", "seed", "forget_id"], columns="split", values="value"
    )
    retrained = uar.loc["retrain"]
    tow = uar.apply(
        lambda row: closeness.tow(dict(row), dict(retrained.loc[row.name[1:]])), axis=1
    )
    shown["tow"] = (
        "tug of war, of UARs", tow.groupby("method").mean().drop(index="retrain")
    )
    return shown


def strip(title: str, found: pd.Series) -> Figure:
    """Draw a mark a method over one score, the named models above the others."""
    figure, axis = figures.panels(6, 1.9)
    named = [method for method in NAMED if method in found.index]
    others = found.drop(index=named)
    axis.plot(others, [0] * len(others), "|", color="0.45", markersize=14, label="other methods")
    for height, method in enumerate(named):
        style = figures.OF_METHOD[method] | (
            {"marker": "*", "color": "black", "markersize": 13} if method == "retrain" else {}
        )
        axis.plot(
            found[method], 0.5 + 0.5 * height, linestyle="none", markeredgecolor="black",
            markeredgewidth=0.5, label=TITLES[method], **style,
        )
    axis.set(xlabel=title, yticks=[], ylim=(-0.6, 2.6))
    axis.spines[["left", "right", "top"]].set_visible(False)
    figures.legend_below(figure, axis, ncols=3, fontsize=8)
    return figure


def pages(written: Path, folder: Path) -> None:
    """Write a snippet and a picture for each metric.

    Args:
        written: folder of the metrics' pages
        folder: where the snippets go

    """
    folder.mkdir(parents=True)
    on_speech = values()
    runs, cards = (int(boards.committed()[0].ranking[name].iloc[0]) for name in ("runs", "cards"))
    for page in sorted(written.glob("*.md")):
        parts = []
        example = worked(page.read_text())
        if example:
            parts.append(f"## A worked number\n\n```python\n{example}```\n")
        if page.stem in on_speech:
            title, found = on_speech[page.stem]
            title += f", of {cards}" if page.stem == "report_card" else ""
            strip(title, found).savefig(
                folder / f"{page.stem}.svg", metadata={"Date": None}, bbox_inches="tight",
                facecolor="white",
            )
            cells = tables.typeset(list(found))
            told = [
                f"{TITLES[m]} {text}" for m, text in zip(found.index, cells, strict=True)
                if m in NAMED
            ]
            said = f"{title[:1].upper()}{title[1:]}: {', '.join(told)}."
            parts.append(
                "## On real speech\n\n"
                f"```{{figure}} ../../generated/metrics/{page.stem}.svg\n"
                f":name: on-speech-{page.stem}\n:width: 560px\n"
                f':alt: "A mark for each model along an axis: {title}. {said}"\n\n'
                f"{said} RAVDESS emotions, means over {runs} runs; a mark for each method of the "
                "{doc}`leaderboard <../leaderboard>`.\n```\n"
            )
        (folder / f"{page.stem}.md").write_text("\n".join(parts) or "\n")


def worked(text: str) -> str:
    """Return the docstring's example of the first function that a page names and that has one."""
    for name in re.findall(r"{py:(?:func|meth)}`([\w.]+)`", text):
        function = _found(name)
        examples = doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")
        if examples:
            return "".join(
                ">>> " + example.source.rstrip("\n").replace("\n", "\n... ") + "\n" + example.want
                for example in examples
            )
    return ""


def _found(name: str) -> Callable[..., object]:
    """Return a function, or a method of a class, by its whole name."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(_found(module), attribute)
