"""Drawings whose points say what they are when they are pointed at: SVG, without a script."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from speechunlearn.chapters import figures
from speechunlearn.lab.results import TITLES

_SVG = "http://www.w3.org/2000/svg"


def with_titles(figure: Figure, titles: Mapping[str, str], what: str) -> HTML:
    """Return a figure as SVG in which some of the artists have a title.

    Args:
        figure: it is closed
        titles: by the ``gid`` of the artist
        what: the whole, for those who do not see it, and its caption

    """
    written = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "speechunlearn"}):
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    plt.close(figure)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(written.getvalue())
    for group in root.iter(f"{{{_SVG}}}g"):
        if group.get("id") in titles:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = titles[group.get("id", "")]
            group.insert(0, title)
            group.set("tabindex", "0")
    root.attrib |= {"role": "img", "aria-label": what, "width": "100%"}
    root.attrib.pop("height")
    # black lines and letters take the page's colour, light or dark
    text = re.sub(r"(?:#000000|black)\b", "currentColor", ElementTree.tostring(root, "unicode"))
    text = text.replace("<text ", '<text fill="currentColor" ')
    return HTML(f"<figure class='wide'>{text}<figcaption>{what}</figcaption></figure>")


def on_the_front(costs: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Return which points no other is better than in both columns (smaller is better).

    Examples:
        >>> on_the_front(np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 2.0], [2.0, 2.0]])).tolist()
        [True, True, False, False]

    """
    one, other = costs[:, None], costs[None]
    smaller = (one <= other).all(axis=2) & (one < other).any(axis=2)
    return np.logical_not(smaller.any(axis=0))


def pareto(table: pd.DataFrame) -> HTML:
    """Draw how far methods are from retraining in utility, over how far in forgetting.

    Args:
        table: of `speechunlearn.lab.leaderboard.ranking`

    """
    style_of, titles = figures.styles(TITLES), {}
    shown = table[~table["method"].isin(["retrain", "original"])]
    front = on_the_front(shown[["forgetting", "utility"]].to_numpy())
    figure, axis = figures.panels(7, 4.6)
    for row in shown.itertuples():
        how = style_of[row.method]
        axis.plot(
            row.forgetting, row.utility, linestyle="none", markersize=8, gid=f"point-{row.method}",
            markerfacecolor=how["color"] if row.forget_only else "none", **how,
        )
        near, far = (
            f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (
                (row.forgetting, row.forgetting_low, row.forgetting_high),
                (row.utility, row.utility_low, row.utility_high),
            )
        )
        titles[f"point-{row.method}"] = (
            f"{TITLES[row.method]}: forgetting distance {near}, utility distance {far}, "
            f"n = {row.runs} runs"
        )
    best = shown[front].sort_values("forgetting")
    axis.plot(best["forgetting"], best["utility"], color="grey", linewidth=0.8, zorder=0)
    # methods with the same answers share a point, and its name
    points = best.groupby(["forgetting", "utility"])["method"].agg(list)
    for number, ((x, y), names) in enumerate(reversed(list(points.items()))):
        left = x < shown["forgetting"].mean()
        axis.annotate(
            ", ".join(TITLES[name] for name in names), (x, y), fontsize=9,
            xytext=(7 if left else -7, -12 if number % 2 else 7), textcoords="offset points",
            horizontalalignment="left" if left else "right",
        )
    axis.margins(x=0.08, y=0.08)
    axis.set(xlabel="forgetting distance", ylabel="utility distance, stretched near 0")
    axis.set_yscale("asinh", linear_width=0.01)
    axis.set_yticks([0, 0.01, 0.03, 0.1, 0.3], ["0", ".01", ".03", ".1", ".3"])
    return with_titles(
        figure, titles,
        "Distance to retraining in both halves: nearer to the lower left corner is better. Filled: "
        "the method uses the forget set alone. Grey: the Pareto front, of which the methods are "
        "named; point at any other to see its name, values and intervals. Which method is on the "
        "front may be chance.",
    )


def over_tau(scores: pd.DataFrame, baseline: float) -> HTML:
    """Draw `speechunlearn.chapters.figures.uar_over_tau`, with what each point is.

    Args:
        scores: tidy rows with method, n_forget, tau, value
        baseline: UAR of the original model

    """
    figure, titles = figures.uar_over_tau(scores, baseline), {}
    sizes = sorted(scores["n_forget"].unique())
    for row in scores.itertuples():
        name = f"{row.method}-{row.n_forget}-{row.tau}"
        axis = figure.axes[sizes.index(row.n_forget)]
        axis.plot(row.tau, row.value, "o", markersize=12, alpha=0, gid=name)
        titles[name] = (
            f"{TITLES[row.method]}, N = {row.n_forget}, tau = {row.tau}: UAR {row.value:.2f} "
            "on unseen speakers, one run"
        )
    return with_titles(
        figure, titles,
        "UAR on unseen speakers over tau, for each N, on the development forget set; grey: before "
        "unlearning. Point at a place on a curve to see what it is.",
    )
