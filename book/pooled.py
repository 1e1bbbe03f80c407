"""What the page of the pools shows of each: who was judged, pictures, tables, what was not run.

Every folder of ``data/pools`` with ``scored.csv`` is a part of the page. What is shown of it comes
from the tables that ``python -m benchmarks.judged show FOLDER`` writes beside it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from benchmarks.judged import LEFT_OUT
from benchmarks.judgement import APART, CLOSED, DISTANCES, LEAST, on_front
from speechunlearn import corpora, methods
from speechunlearn.chapters import figures, tables
from speechunlearn.lab.results import MISSING, TITLES, number, with_interval

POOLS = Path(__file__).resolve().parent.parent / "data" / "pools"
NAMES = TITLES | {"references": "Left-out references"}


class Judged(NamedTuple):
    """What a pool's scored methods came to.

    Attributes:
        folder: of the pool
        design: what ``design.json`` says
        rows: of ``judged.csv``, by method
        few: of ``judged-few.csv``, on the sets that methods with an attack are scored on; None
            where no such method is whole
        curves: of ``curves.csv``
        scored: number of requests that each method was scored on

    """

    folder: Path
    design: dict
    rows: pd.DataFrame
    curves: pd.DataFrame
    scored: pd.Series
    few: pd.DataFrame | None = None

    @classmethod
    def read(cls, folder: Path) -> Judged:
        """Read a pool's tables.

        Raises:
            ValueError: they are not those of the rows that are there by now

        """
        scored = pd.read_csv(folder / "scored.csv", usecols=["method"])["method"].value_counts()
        command = f"run 'python -m benchmarks.judged show {folder}'"
        if not (folder / "judged.csv").is_file():
            raise ValueError(f"{folder} has no judged.csv: {command}")
        rows = pd.read_csv(folder / "judged.csv", index_col="method")
        whole = set(scored.index[scored == rows["requests"].iloc[0]])
        if changed := whole ^ (set(rows.index) - set(APART)):
            raise ValueError(f"{folder / 'judged.csv'} is not of {sorted(changed)}: {command}")
        design = json.loads((folder / "design.json").read_text())
        file = folder / "judged-few.csv"
        few = pd.read_csv(file, index_col="method") if file.is_file() else None
        return cls(folder, design, rows, pd.read_csv(folder / "curves.csv"), scored, few)

    @property
    def title(self) -> str:
        """Corpus, task and encoder in words."""
        study, known = self.design["study"], corpora.get(self.design["study"]["corpus"])
        task = study["profile"]["task"] or known.task
        return f"{known.title.partition(':')[0]}, {task}, {Path(study['profile']['encoder']).name}"

    @property
    def useless(self) -> list[str]:
        """Methods whose best trial is no closer to the references than their original."""
        return list(self.rows.index[self.rows["useful"].astype(str) == "False"])

    @property
    def shown(self) -> pd.DataFrame:
        """The rows that compete, and originals and references, the nearest in both first."""
        return self.rows.drop(index=self.useless).sort_values("both")


def pages(target: Path, names: Sequence[str]) -> None:
    """Write the part of each pool into one file, and its pictures beside it.

    Args:
        target: the file
        names: methods of the book

    """
    parts = []
    for folder in sorted(file.parent for file in POOLS.glob("*/scored.csv")):
        judged = Judged.read(folder)
        matplotlib.rcParams["svg.hashsalt"] = "book"
        drawn = {"front": front(judged), "curves": curves(judged)}
        for name, figure in drawn.items():
            file = target.with_name(f"{folder.name}-{name}.svg")
            figure.savefig(file, metadata={"Date": None}, facecolor="white")
        parts.append(part(judged, names))
    target.write_text("\n".join(parts))


def part(judged: Judged, names: Sequence[str]) -> str:
    """Return what the page says of a pool.

    Args:
        judged: its tables
        names: methods of the book

    """
    folder = judged.folder.name
    text = f"## {judged.title}\n\n{about(judged)}\n\n"
    text += _figure(
        folder, "front",
        "Scatter plot with a name at each point: utility distance across, forgetting distance "
        "upwards, both logarithmic, with 95 percent intervals as thin lines. A dashed line joins "
        f"the methods of the Pareto front: {_listed(front_of(judged), 'none')}. The original lies "
        f"at {_at(judged, 'original')}, left-out references at {_at(judged, 'references')}.",
        "Distance to retrained models in forgetting and in utility: nearer to the lower left "
        "corner is better. Thin lines are 95 % intervals; the dashed line joins the methods that "
        "no other one beats in both.",
    )
    for title, name, content in (
        ("Distances, and how sure the best is.", "distances", distances(judged)),
        ("What each method needs and does.", "more", more(judged)),
    ):
        text += "\n" + _captioned(judged, title, name, *content)
    if judged.useless:
        text += (
            "\n**Not tuned to anything useful.** On the development set, the best value of these "
            "is no closer to the references than their original. They do not compete.\n\n"
            f"{tables.markdown(*useless(judged))}\n"
        )
    if judged.few is not None:
        on_few = judged._replace(rows=judged.few)
        text += (
            "\n**On some of the sets.** Methods that attack many copies of each clip were run on "
            f"n = {int(judged.few['requests'].iloc[0])} of these requests. All methods on these:\n"
        )
        for title, name, content in (
            ("Distances on some of the sets.", "distances-few", distances(on_few)),
            ("What each method does on them.", "more-few", more(on_few)),
        ):
            text += "\n" + _captioned(judged, title, name, *content)
    points = int(judged.curves["requests"].max())
    text += "\n" + _figure(
        folder, "curves",
        "One small chart a method: UAR on the set to forget across, UAR on unseen clips upwards, "
        "a line through the values of its hyperparameter, the other methods in grey behind it. "
        "The square is the original, the star and the vertical line are the references.",
        "Each method over the values of its one hyperparameter, on the development set (means over "
        f"n = {points} requests): where its line crosses the vertical one, it forgets as much as "
        "retraining does, and can be compared with others. Black star: retrained models. Square: "
        "the original. Grey: the other methods. Its rows: "
        f"`speechunlearn rows pools/{folder}/tuned`",
    )
    return f"{text}\n{not_run(judged, names)}\n"


def about(judged: Judged) -> str:
    """Return in words what was judged."""
    sets = [one for one in judged.design["sets"] if not one["development"]]
    counts = Counter((one["kind"], len(one["hashes"])) for one in sets)
    kinds = {"clips": "random clips", "takes": "all takes of some utterances",
             "speaker": "a whole speaker", "class": "a whole class"}  # fmt: skip
    sizes = "; ".join(
        f"{kinds[kind]}: " + ", ".join(f"{count} of {n}" for (k, n), count in counts.items()
                                       if k == kind)
        for kind in dict.fromkeys(kind for kind, _ in counts)
    )  # fmt: skip
    requests, models = int(judged.rows["requests"].iloc[0]), len(judged.design["inclusion"])
    profile = judged.design["study"]["profile"]
    large = sum(len(one["hashes"]) >= LEAST for one in sets)
    return (
        f"Profile `{profile['name']}`, encoder `{Path(profile['encoder']).name}`: {models} models, "
        f"each trained without a random half of the sets. Sets to forget: {len(sets)} ({sizes} "
        f"clips). A request is a set and an original that heard it: {requests / len(sets):g} "
        f"originals a set, n = {requests} requests. Distances are those of the {large} sets of "
        f"{LEAST} clips or more."
    )


def front_of(judged: Judged) -> list[str]:
    """Return the methods that no other one is better than in both distances, by utility."""
    rows = judged.shown.drop(index=list(APART)).sort_values("utility")
    first, second = (rows[[name]].to_numpy() for name in DISTANCES)
    return list(rows.index[on_front(first, second)[:, 0]]) if len(rows) else []


def front(judged: Judged) -> Figure:
    """Draw the methods by both distances, with their names."""
    rows = judged.shown
    figure, axis = figures.panels(6.4, 4.8)
    axis.set(xscale="log", yscale="log", xlabel="utility distance to retrained models",
             ylabel="forgetting distance to retrained models")  # fmt: skip
    line = rows.loc[front_of(judged)]
    axis.plot(line["utility"], line["forgetting"], "--", color="0.6", linewidth=1, zorder=1)
    for method, row in rows.iterrows():
        x, y = row["utility"], row["forgetting"]
        how = {"color": "0.75", "linewidth": 1, "zorder": 0}
        axis.plot([row["utility, low"], row["utility, high"]], [y, y], **how)
        axis.plot([x, x], [row["forgetting, low"], row["forgetting, high"]], **how)
        axis.plot(x, y, linestyle="none", markersize=14 if method == "references" else 8,
                  markeredgecolor="black", markeredgewidth=0.6, **style(str(method)))  # fmt: skip
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_minor_locator(NullLocator())
        scale.set_major_formatter("{x:g}")
    axis.margins(0.16)
    places = rows[["utility", "forgetting"]].itertuples(index=False)
    name_points(axis, dict(zip(rows.index.map(NAMES), places, strict=True)))
    return figure


def style(method: str) -> dict[str, object]:
    """Return marker and colour of a row: references are a black star."""
    star = {"marker": "*", "color": "black"}
    return star if method == "references" else figures.OF_METHOD[method]


def name_points(axis: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Write names beside points, each where it meets the fewest names and points before it."""
    figure = axis.get_figure()
    figure.canvas.draw()
    marks = [
        Bbox.from_bounds(x - 5, y - 5, 10, 10)
        for x, y in axis.transData.transform(list(points.values()))
    ]
    names: list[Bbox] = []
    for name, point in points.items():
        tries = []
        for x, side in ((8, "left"), (-8, "right"), (0, "center")):
            for y in (8, -14, -3, 20, -26, 32, -38):
                text = axis.annotate(
                    name, point, (x, y), fontsize=8.5, ha=side, zorder=5,
                    textcoords="offset points", arrowprops={"arrowstyle": "-", "color": "0.5",
                                                            "linewidth": 0.5, "shrinkA": 0},
                )  # fmt: skip
                text.update_positions(figure.canvas.get_renderer())
                box = Text.get_window_extent(text)  # without its line
                outside = not (axis.bbox.x0 < box.x0 and box.x1 < axis.bbox.x1)
                # two names on each other cannot be read, a name on a mark can
                cost = 4 * (box.count_overlaps(names) + outside) + box.count_overlaps(marks)
                tries.append((cost, text, box))
        fewest = min(tries, key=lambda one: one[0])
        for one in tries:
            if one is not fewest:
                one[1].remove()
        names.append(fewest[2])


def curves(judged: Judged) -> Figure:
    """Draw UAR on the set and on unseen speakers over each method's hyperparameter."""
    by_method = dict(list(judged.curves.sort_values("value").groupby("method", sort=False)))
    original, references = (by_method.pop(name).iloc[0] for name in APART)
    shown = {name: by_method[name] for name in judged.shown.index if name in by_method}
    lines = max(1, math.ceil(len(shown) / 3))
    figure, axes = figures.panels(6.8, 0.6 + 2.1 * lines, lines, 3, sharex=True, sharey=True,
                                  squeeze=False)  # fmt: skip
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (name, curve) in zip(axes.flat, shown.items(), strict=False):
        for other in shown.values():
            axis.plot(other["UAR"], other["unseen"], color="0.85", linewidth=1, zorder=0)
        axis.axvline(references["UAR"], color="0.6", linewidth=0.8, zorder=1)
        axis.plot(curve["UAR"], curve["unseen"], markersize=5, **style(name))
        axis.plot(original["UAR"], original["unseen"], "s", color="white",
                  markeredgecolor="black", markersize=7)  # fmt: skip
        axis.plot(references["UAR"], references["unseen"], **style("references"), markersize=11)
        axis.set_title(NAMES[name], fontsize=9)
    for row in axes:
        row[0].set_ylabel("unseen UAR")
    for axis in axes.flat[max(0, len(shown) - 3) : len(shown)]:
        axis.set_xlabel("forget UAR")
        axis.tick_params(labelbottom=True)
    return figure


def distances(judged: Judged) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the table of distances."""
    header = ["Method", "Forgetting distance", "Utility distance", "Best in forgetting",
              "Best in utility", "On the front", "Confidence set of forgetting, p",
              "Confidence set of utility, p"]  # fmt: skip
    rows: list[list[object]] = []
    for method, row in judged.shown.iterrows():
        rows.append([
            _linked(str(method)), *(_interval(row, name) for name in DISTANCES),
            *(number(row.get(name, math.nan)) for name in
              ("forgetting, best", "utility, best", "front")),
            *(_in_set(row.get(f"{name}, MCS p", math.nan)) for name in DISTANCES),
        ])  # fmt: skip
    return header, rows


def more(judged: Judged) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the table of what else is known of each method."""
    header = ["Method", "Data used", "Answers changed", *(f"Closed: {name}" for name in CLOSED),
              "Unseen UAR at equal forgetting"]  # fmt: skip
    rows: list[list[object]] = []
    for method, row in judged.shown.iterrows():
        equal = number(row["unseen, equal"])
        if method not in APART and math.isnan(row["unseen, equal"]):
            equal = MISSING if math.isnan(row["trial"]) else "no value of it reaches"
        needs = None if method in APART else ", ".join(sorted(methods.get(str(method)).needs))
        rows.append([_linked(str(method)), needs, row["changed"],
                     *(_interval(row, f"{name} closed") for name in CLOSED), equal])  # fmt: skip
    return header, rows


def useless(judged: Judged) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the methods that were not tuned to anything useful."""
    header = ["Method", "Both distances, its best value", "Both distances, the original",
              "Forgetting distance", "Utility distance"]  # fmt: skip
    rows: list[list[object]] = [
        [_linked(name), number(judged.rows["trial"][name], 3),
         number(judged.rows["trial"]["original"], 3),
         *(_interval(judged.rows.loc[name], distance) for distance in DISTANCES)]
        for name in judged.useless
    ]  # fmt: skip
    return header, rows


def not_run(judged: Judged, names: Sequence[str]) -> str:
    """Return which methods of the book were not run on a pool, and which are not finished."""
    shown = set(judged.rows.index) | set(() if judged.few is None else judged.few.index)
    asked = [name for name in names if name not in LEFT_OUT and name not in shown]
    begun = {name: judged.scored[name] for name in asked if name in judged.scored}
    requests = int(judged.rows["requests"].iloc[0])
    never = _listed([name for name in asked if name not in begun], "none")
    text = f"**Not run:** {never}."
    if begun:
        unfinished = "; ".join(
            f"{_linked(name)}, {count} of {requests} requests" for name, count in begun.items()
        )
        text += f" **Begun, and not shown before it is whole:** {unfinished}."
    return text


def _listed(names: Sequence[str], none: str) -> str:
    return ", ".join(NAMES[name] for name in names) or none


def _at(judged: Judged, name: str) -> str:
    row = judged.rows.loc[name]
    return f"{number(row['utility'])} and {number(row['forgetting'])}"


def _linked(method: str) -> str:
    return NAMES[method] if method in APART else f"{{ref}}`{NAMES[method]} <method-{method}>`"


def _interval(row: pd.Series, name: str) -> str:
    text = with_interval(row[name], row[f"{name}, low"], row[f"{name}, high"])
    return text.replace(", ", ",\u00a0")


def _in_set(p: float) -> str:
    if math.isnan(p):
        return MISSING
    (text,) = tables.typeset([p], "p")
    return f"{text},\u00a0{'in' if p >= 0.1 else 'out'}"


def _figure(folder: str, name: str, alt: str, caption: str) -> str:
    return (
        f"```{{figure}} ../generated/{folder}-{name}.svg\n:name: {folder}-{name}\n:width: 600px\n"
        f':alt: "{alt}"\n\n{caption}\n```\n'
    )


def _captioned(
    judged: Judged, title: str, name: str, header: list[str], rows: list[list[object]]
) -> str:
    caption = f"{title} Its rows: `speechunlearn rows pools/{judged.folder.name}/scored`"
    return (
        f"::::{{table}} {caption}\n:name: {judged.folder.name}-{name}\n:class: filtered\n\n"
        f"{tables.markdown(header, rows)}\n::::\n"
    )
