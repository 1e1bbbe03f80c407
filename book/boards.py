"""What pages and README.md show of the committed leaderboards: tables, sentences, a picture.

    python book/boards.py     # draw book/images/leaderboard.svg, README's picture, anew
"""

from __future__ import annotations

import functools
import textwrap
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from speechunlearn import methods
from speechunlearn.chapters import figures, pages, tables
from speechunlearn.lab import leaderboard, tuning
from speechunlearn.lab.results import TITLES

PICTURE = Path(__file__).parent / "images" / "leaderboard.svg"

#: committed leaderboards: in words, folder, encoder
LEADERBOARDS = (
    ("RAVDESS emotions", "cpu-ravdess", "nano-pretrained"),
    ("Arabic words", "cpu-arabic_speech_commands", "nano-english"),
    ("Arabic speakers", "cpu-arabic_speech_commands-speaker", "nano-english"),
)
#: the models that are no unlearning methods
REFERENCES = ("retrain", "original")
OURS = "Self-distillation to perturbed copies (ours)"


class Board(NamedTuple):
    """A committed leaderboard.

    Attributes:
        words: what it is about
        encoder: the models' encoder
        ranking: a row a model, by the method's name
        sequential: a row a way to carry out the same request in several
        trials: of tuning

    """

    words: str
    encoder: str
    ranking: pd.DataFrame
    sequential: pd.DataFrame
    trials: pd.DataFrame

    @property
    def ranked(self) -> pd.DataFrame:
        """The methods, the one with the smallest average gap first."""
        return self.ranking.drop(index=list(REFERENCES)).sort_values("gap")

    def best(self, forget_only: bool) -> str:
        """Return the method other than ours with the smallest gap."""
        others = self.ranked.drop(index=leaderboard.OURS)
        return str(others.index[others["forget_only"] == forget_only][0])

    def cost(self, method: str) -> float:
        """Return the clips sent forward and backward, relative to retraining."""
        passes = self.ranking["forward_backward"]
        return float(passes[method] / passes["retrain"])


@functools.cache
def committed() -> tuple[Board, ...]:
    """Return the committed leaderboards."""
    return tuple(
        Board(
            words, encoder,
            pd.read_csv(leaderboard.FOLDER / folder / "ranking.csv").set_index("method"),
            pd.read_csv(leaderboard.FOLDER / folder / "sequential.csv").set_index("method"),
            pd.read_csv(tuning.FOLDER / f"{folder}.csv"),
        )
        for words, folder, encoder in LEADERBOARDS
    )


def in_short() -> str:
    """Return the leaderboard of RAVDESS in five rows, a number a cell: README.md has it, too."""
    board = committed()[0]
    rows: list[list[object]] = []
    for method, title in (
        ("original", "Original: nothing forgotten"),
        (leaderboard.OURS, OURS),
        (board.best(True), f"{TITLES[board.best(True)]}: best other forget-set-only method"),
        (board.best(False), f"{TITLES[board.best(False)]}: best method with retained data"),
        ("retrain", "One more retrained model: the aim"),
    ):
        row = board.ranking.loc[method]
        rows.append([title, row["forgetting"], row["utility"], int(row["cards_passed"])])
    cards = int(board.ranking["cards"].iloc[0])
    header = [f"{board.words}", "Forgetting distance", "Utility distance",
              f"Report cards passed, of {cards}"]
    return tables.markdown(header, rows, digits=3) + "\n"


def shown() -> str:
    """Return the first page's picture with its caption, the short table, and what they are of."""
    board = committed()[0]
    runs, clips = int(board.ranking["runs"].iloc[0]), leaderboard.committed(
        LEADERBOARDS[0][1]
    ).results.sizes[-1]
    return (
        "```{figure} ../generated/leaderboard.svg\n:name: found\n:width: 600px\n"
        ':alt: "Scatter plot of methods by utility distance, across, and forgetting distance, '
        "upwards, both logarithmic. The original lies at the upper left, one more retrained model "
        "at the bottom. Self-distillation lies below the original; "
        f"{TITLES[board.best(True)]} and {TITLES[board.best(False)]} lie lower, and further to the "
        'right, than it."\n\n'
        f"Each mark is a method that was asked to forget {clips} clips of RAVDESS, acted emotions "
        "of real people. The star is a model that never heard them, beside others of its kind: the "
        "nearer to it, the better. The original forgot nothing, and lost nothing.\n```\n\n"
        f"{in_short()}\n"
        "The {ref}`distances <metric-average_gap>` are those to models **retrained** without the "
        "clips; a {ref}`report card <metric-report_card>` passes where every score lies where one "
        f"more retrained model's would. Means over n = {runs} runs, profile `cpu`, encoder "
        f"`{board.encoder}`. {{doc}}`leaderboard` has every method on "
        f"{len(LEADERBOARDS)} corpora, with intervals.\n"
    )


def long_table() -> tuple[list[str], list[list[object]]]:
    """Return all rows of all leaderboards, the smallest gap first, and their header."""
    header = ["Method", "Corpus", "Encoder", "Data used", "Average gap [95 % interval]",
              "Forgetting distance", "Utility distance", "Cards passed", "Cost"]
    rows: list[list[object]] = []
    for board in committed():
        for method, row in board.ranking.sort_values("gap").iterrows():
            reference = method in REFERENCES
            rows.append([
                TITLES[str(method)] if reference else f"{{ref}}`{TITLES[str(method)]} "
                f"<method-{method}>`",
                board.words, board.encoder, "–" if reference else row["needs"],
                f"{row['gap']:.3f} [{row['gap_low']:.3f}, {row['gap_high']:.3f}]",
                f"{row['forgetting']:.3f}", f"{row['utility']:.3f}",
                f"{row['cards_passed']} of {row['cards']}",
                None if method == "original" else board.cost(str(method)),
            ])
    return header, rows


def place(board: Board, method: str) -> str | None:
    """Return a method's average gap and its place, or None where it is not ranked."""
    ranked = board.ranked
    if method not in ranked.index:
        return None
    return f"{ranked.loc[method, 'gap']:.3f} ({list(ranked.index).index(method) + 1})"


def rows_of(method: str) -> str:
    """Return the rows of a method: one a leaderboard."""
    header = ["Corpus", "Average gap", "Place", "Forgetting distance", "Utility distance",
              "Cards passed", "Cost, × retraining"]
    rows: list[list[object]] = []
    for board in committed():
        if method not in board.ranking.index:
            continue
        row, ranked = board.ranking.loc[method], list(board.ranked.index)
        rows.append([
            board.words, f"{row['gap']:.3f}",
            f"{ranked.index(method) + 1} of {len(ranked)}" if method in ranked else None,
            f"{row['forgetting']:.3f}", f"{row['utility']:.3f}",
            f"{row['cards_passed']} of {row['cards']}", board.cost(method),
        ])
    return tables.markdown(header, rows) + "\n" if rows else ""


def sentences() -> str:
    """Return what the committed leaderboards say, in sentences."""
    first, apart, passed, several, utility, forgetting = [], [], [], [], [], []
    for board in committed():
        words, ranking, title = board.words, board.ranking, TITLES[leaderboard.OURS]
        ours, original, retrained = (
            ranking.loc[name] for name in (leaderboard.OURS, "original", "retrain")
        )
        forget_only = ranking[ranking["forget_only"]].sort_values("gap")
        best = forget_only.index[0]
        told = forget_only["p"].drop(best) < 0.05
        first.append(f"{methods.get(best).title} on {words}")
        apart.append(f"{told.sum()} of the {len(told)} others on {words}")
        once = board.sequential.loc[f"{title}, at once"]
        five = board.sequential.loc[f"{title}, in 5 sequential requests"]
        several.append(
            f"from {once['forgetting']:.3f} to {five['forgetting']:.3f} and from "
            f"{once['utility']:.3f} to {five['utility']:.3f} on {words}"
        )
        utility.append(f"{ours['utility']:.3f} on {words} (retrained: {retrained['utility']:.3f})")
        forgetting.append(f"{closed(ranking, leaderboard.OURS):.0f} % on {words}")
        passed.append(
            f"on {words} {ours['cards_passed']} of {ours['cards']} of self-distillation, "
            f"{original['cards_passed']} of {original['cards']} of the original, "
            f"{retrained['cards_passed']} of {retrained['cards']} of retrained models"
        )
    board = committed()[0]
    ranking = board.ranking
    points = 100 * (ranking.loc["original", "retain_uar"] - ranking.loc["amun", "retain_uar"])
    lines = [
        f"**First of the forget-set-only methods:** {_listed(first)}. A test against the first "
        f"(n = {ranking['runs'].iloc[0]} runs, Holm's correction) tells apart from it "
        f"{_listed(apart)}; AMUN and self-distillation it never tells apart.",
        f"**What self-distillation does.** It keeps utility: its distance is {_listed(utility)}. "
        f"It closes part of the original's distance in forgetting: {_listed(forgetting)}.",
        f"**What AMUN does.** On {board.words} it closes {closed(ranking, 'amun'):.0f} % of the "
        f"distance in forgetting, at a cost of {points:.0f} points of UAR on the retain set.",
        f"**Cards passed:** {'; '.join(passed)}.",
        "**Sequential unlearning**, in five requests, changes the distances of self-distillation "
        f"in forgetting and in utility {'; '.join(several)}.",
        f"**Not the same budget.** {pages.budget(board.trials)} {leaderboard.REDESIGNED}",
    ]
    return "".join(
        textwrap.fill(line, 118, initial_indent="- ", subsequent_indent="  ",
                      break_long_words=False, break_on_hyphens=False) + "\n"
        for line in lines
    )


def closed(ranking: pd.DataFrame, method: str) -> float:
    """Return how much of the original's forgetting distance a method closes, in percent."""
    distance = ranking["forgetting"]
    return 100 * (1 - distance[method] / distance["original"])


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def picture() -> Figure:
    """Draw the two halves of the gap on RAVDESS: nearer to the lower left corner is better."""
    board = committed()[0]
    named = {
        "original": "Original", leaderboard.OURS: "Self-distillation (ours)",
        board.best(True): TITLES[board.best(True)], board.best(False): TITLES[board.best(False)],
        "retrain": "One more retrained model",
    }
    figure, axis = figures.panels(6, 4.2)
    others = board.ranking.drop(index=list(named))
    for forget_only, face, label in (
        (True, "0.55", "uses the forget set alone"), (False, "white", "uses more data"),
    ):
        part = others[others["forget_only"] == forget_only]
        axis.plot(part["utility"], part["forgetting"], "o", color="0.45", markersize=5,
                  markerfacecolor=face, label=label)
    for method, title in named.items():
        row = board.ranking.loc[method]
        style = figures.OF_METHOD[method] | (
            {"marker": "*", "color": "black", "markersize": 14} if method == "retrain" else
            {"markersize": 9}
        )
        axis.plot(row["utility"], row["forgetting"], linestyle="none",
                  markeredgecolor="black", markeredgewidth=0.6, **style)
        below = method in ("retrain", board.best(True))
        axis.annotate(title, (row["utility"], row["forgetting"]), fontsize=9, ha="left",
                      xytext=(7, -13 if below else 7), textcoords="offset points")
    ticks = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4]
    axis.set(xscale="log", yscale="log")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        scale.set_ticks([], minor=True)
    axis.set(
        xlabel="utility distance to retrained models",
        ylabel="forgetting distance to retrained models",
        xlim=(0.0035, 0.5), ylim=(0.02, 0.6),
    )
    axis.legend(frameon=False, fontsize=8, loc="lower right", title=board.words, title_fontsize=8)
    return figure


def save(path: Path, **how: object) -> None:
    """Write the picture; the same bytes each time."""
    matplotlib.rcParams["svg.hashsalt"] = "book"
    how = {"facecolor": "white"} | how
    metadata = {"Date": None} if path.suffix == ".svg" else None
    picture().savefig(path, metadata=metadata, **how)


if __name__ == "__main__":
    save(PICTURE)
