"""The figures of the book: colour-blind safe, told apart in grey by marker and line.

A figure that one chapter alone shows is drawn in that chapter.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechunlearn.lab.results import TITLES

PALETTE = "colorblind"
_MARKERS = ["o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*"]
LINES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))]
_SVG = "http://www.w3.org/2000/svg"


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return a marker and a colour for each name.

    Both go round, each after its own number, so that it takes 110 names to repeat a pair.
    """
    pairs = zip(cycle(_MARKERS), cycle(sns.color_palette(PALETTE)), strict=False)
    return {
        name: {"marker": marker, "color": colour}
        for name, (marker, colour) in zip(names, pairs, strict=False)
    }


#: a method's marker and colour in every figure, by its name and by its title
OF_METHOD = styles(TITLES)
OF_METHOD |= {TITLES[name]: style for name, style in OF_METHOD.items()}


def panels(
    width: float | int, height: float | int, rows: int = 1, columns: int = 1, **shared: Any
) -> Any:
    """Return a figure of so many inches, and its panels."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **shared)


def curves(axis: Axes, table: pd.DataFrame, **how: Any) -> None:
    """Draw each column over the index; one that is called as a method looks as the method does."""
    style_of = styles(table) | OF_METHOD
    for (name, column), line in zip(table.items(), cycle(LINES), strict=False):
        axis.plot(column, label=name, **{**style_of[name], "linestyle": line, **how})
    axis.legend(frameon=False)


def legend_below(figure: Figure, axis: Axes, **how: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", frameon=False, **how)


def confusion(predictions: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Draw the confusion matrix of one set of clips, each row as shares of its class."""
    classes, few = range(len(labels)), len(labels) <= 10
    shares = pd.crosstab(predictions["label"], predictions["prediction"], normalize="index")
    figure, axis = panels(5.2, 4.2) if few else panels(6.4, 5.4)
    # numbers where there is room for them, shades where there is not
    sns.heatmap(
        shares.reindex(index=classes, columns=classes, fill_value=0), annot=few, fmt=".2f",
        cmap="Greys", vmin=0, vmax=1, cbar=not few, ax=axis, xticklabels=labels,
        yticklabels=labels, annot_kws={"size": 8}, cbar_kws={"label": "share of the class"},
    )
    axis.set(xlabel="model says", ylabel="true class")
    axis.tick_params(axis="x", rotation=45)
    return figure


def by_method(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Draw UAR on the forget set and on unseen speakers by method and N, with intervals.

    Args:
        table: of `speechunlearn.lab.results.table_of_methods`
        paper: the paper's numbers, columns method, n_forget, forget, unseen; drawn as crosses

    """
    sizes = sorted(table["n_forget"].unique())
    order = [m for m in TITLES if m in set(table["method"])]
    place = {method: y for y, method in enumerate(order)}
    figure, axes = panels(
        2.2 + 2.1 * len(sizes), max(5, 0.6 * len(order)), 2, len(sizes), sharex=True, sharey=True,
        squeeze=False,
    )
    titles = {"forget": "forget set", "unseen": "unseen speakers"}
    for row, (split, title) in zip(axes, titles.items(), strict=True):
        for axis, n in zip(row, sizes, strict=True):
            part = table[(table["n_forget"] == n) & (table["split"] == split)].set_index("method")
            for method in (m for m in order if m in part.index):
                score, y, how = part.loc[method], place[method], OF_METHOD[method]
                axis.plot([score["low"], score["high"]], [y, y], color=how["color"], linewidth=2)
                axis.plot(score["value"], y, markersize=7, **how)
            if paper is not None:
                printed = paper[(paper["n_forget"] == n) & paper["method"].isin(order)]
                y = printed["method"].map(place).astype(float) + 0.25
                axis.plot(printed[split], y, "x", color="grey", markersize=5)
            if "retrain" in part.index:
                axis.axvline(part.loc["retrain", "value"], color="grey", linewidth=0.8, zorder=0)
            axis.set(title=f"N = {n}" if split == "forget" else "", xlim=(-0.03, 1.03))
        row[len(sizes) // 2].set_xlabel(f"UAR, {title}")
        row[0].set_yticks(range(len(order)), [TITLES[m] for m in order])
    axes[0, 0].invert_yaxis()
    return figure


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
