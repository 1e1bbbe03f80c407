"""What the page on the paper says of one run: its caption, the claims, and the figure.

The sentences of the methods are `speechunlearn.lab.sentences`, which chapters show, too.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from speechunlearn import corpora
from speechunlearn.chapters import figures
from speechunlearn.lab import sentences
from speechunlearn.lab.experiments import ADVERSARIAL
from speechunlearn.lab.results import COMMITTED, TITLES


def provenance(evaluations: pd.DataFrame) -> str:
    """Return what the numbers of some evaluations are about: corpus, profile and encoder."""
    (profile,), (corpus,), (encoder,) = (
        evaluations[column].unique() for column in ("profile", "corpus", "encoder")
    )
    title = corpora.get(corpus).title.partition(":")[0]
    return f"{title}, profile `{profile}`, encoder `{encoder}`"


def caption(
    evaluations: pd.DataFrame, numbers: pd.DataFrame, n_speakers: int, chance: float
) -> str:
    """Return what a reader has to know of a table of UARs by method and N.

    Args:
        evaluations: that it was made from
        numbers: of `speechunlearn.lab.results.table_of_methods`
        n_speakers: unseen speakers
        chance: UAR of a guess

    """
    (setting,) = evaluations["setting"].unique()
    return " ".join(
        part for part in (
            f"{provenance(evaluations)}, {setting} setting: means over "
            f"{int(numbers['runs'].max())} runs (each with its own training seed and forget set), "
            f"{n_speakers} unseen speakers. "
            f"Chance is {chance:.2f}. On the forget set the retrained model's value is the aim, "
            f"not 0. {TITLES['original']} is the model before unlearning.",
            sentences.stand_ins(evaluations), sentences.settings(evaluations),
        ) if part
    )


def of_claims(evaluations: pd.DataFrame, verdicts: pd.DataFrame, n_speakers: int) -> str:
    """Return what is decided of the paper's claims.

    Args:
        evaluations: that the verdicts were made from
        verdicts: of `speechunlearn.lab.experiments.claims`
        n_speakers: unseen speakers

    """
    count = verdicts["verdict"].value_counts()
    untested = int(count.get("not tested here", 0))
    text = "No claim of the paper is decided by these rows"
    if untested < len(verdicts):
        words = ("holds", "fails", "undecided", "not tested here")
        known = ", ".join(f"{word}: {count.get(word, 0)}" for word in words)
        text = f"Of {len(verdicts)} tests of the paper's claims, {known}"
    runs = evaluations[["seed", "forget_id"]].drop_duplicates()
    small = "small " if evaluations["encoder"].str.startswith("nano").all() else ""
    text += ", which are of a reduced variant." if untested else "."
    text += (
        f" They are of {_counted(evaluations['corpus'].nunique(), 'corpus', 'corpora')}, "
        f"{_counted(evaluations['encoder'].nunique(), f'{small}encoder')}, "
        f"{_counted(n_speakers, 'unseen speaker')} and {_counted(len(runs), 'run')}."
    )
    if not (COMMITTED / "paper-demos").is_dir():
        text += " The paper's own setting, wav2vec 2.0 on DEMoS, was not run."
    return text


def span(values: pd.Series, digits: int) -> str:
    """Return the range of some values: ``0.25 to 0.73``."""
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}".replace("-", "−")


def claimed(table: pd.DataFrame, digits: int) -> list[str]:
    """Return what the numbers of a table say of the paper's first five claims.

    Args:
        table: columns method, n_forget, forget, unseen; a row a method, N and, possibly, setting
        digits: of the numbers

    """
    by_size = ["n_forget", *(["setting"] if "setting" in table else [])]
    values = table.set_index(["method", *by_size])
    forget, unseen = values["forget"], values["unseen"]
    proposed = list(ADVERSARIAL)
    copies, elastic = (unseen.loc[method] for method in proposed)
    gains = pd.concat([copies - unseen.loc["ran_lab"], elastic - unseen.loc["ran_lab"]])
    fallen = pd.concat([
        unseen.xs(10, level="n_forget").loc[method] - unseen.xs(100, level="n_forget").loc[method]
        if "setting" in table else
        pd.Series([unseen[method, 10] - unseen[method, 100]])
        for method in ("ran_lab", *proposed)
    ])
    return [
        f"both: {span(forget.loc[proposed], digits)}"
        + (f"; retrained: {span(forget.loc['retrain'], digits)}" if "retrain" in forget else ""),
        f"both: {span(unseen.loc[proposed], digits)}; original: "
        f"{_one_or_span(unseen.loc['original'], digits)}",
        f"difference {span(gains, digits)}",
        f"difference {span(elastic - copies, digits)}",
        f"difference {span(fallen, digits)}",
    ]


def _one_or_span(values: pd.Series, digits: int) -> str:
    low, _, high = span(values, digits).partition(" to ")
    return low if low == high else f"{low} to {high}"


def how_sure(tests: pd.DataFrame) -> str:
    """Return the verdict on a claim, and how many comparisons are for and against it.

    Args:
        tests: rows of `speechunlearn.lab.experiments.claims` that test it

    """
    verdict = ", ".join(dict.fromkeys(tests["verdict"]))
    count = tests["difference"].value_counts()
    of = "; a reduced variant" if verdict == "not tested here" else ""
    return (
        f"{verdict}{of}: {count.get('above 0', 0)} for, {count.get('below 0', 0)} against, "
        f"{count.get('undecided', 0)} undecided."
    )


def _counted(n: int, one: str, several: str = "") -> str:
    words = dict(enumerate(("no", "one", "two", "three", "four", "five", "six")))
    return f"{words.get(n, n)} {one if n == 1 else several or one + 's'}"


def over_n(table: pd.DataFrame, chance: float) -> Figure:
    """Draw UAR on the forget set and on unseen speakers over N, one line a method.

    Retraining, which the others should come close to, is a band: its interval.

    Args:
        table: of `speechunlearn.lab.results.table_of_methods`
        chance: UAR of a guess

    """
    shown = ["original", "remain", "ran_lab", "adv", "adv_ela"]
    styles = {m: figures.OF_METHOD[m] for m in shown if m in set(table["method"])}
    # one above the other: side by side they could not be read on a phone
    figure, axes = figures.panels(6, 6.8, 2, 1, sharex=True)
    titles = {"forget": "on the forget set", "unseen": "on unseen speakers"}
    for axis, (split, title) in zip(axes, titles.items(), strict=True):
        part = table[table["split"] == split].sort_values("n_forget")
        by_name = {method: rows for method, rows in part.groupby("method")}
        retrained = by_name["retrain"]
        x = np.arange(len(retrained))
        axis.fill_between(x, retrained["low"], retrained["high"], color="0.85", zorder=0)
        axis.plot(x, retrained["value"], color="black", linewidth=2.5, label="Retrained: the aim")
        for i, (method, line) in enumerate(zip(styles, cycle(figures.LINES), strict=False)):
            scores = by_name[method]
            shift = (i - (len(styles) - 1) / 2) * 0.11  # or intervals would hide each other
            axis.errorbar(
                x + shift, scores["value"], linestyle=line, linewidth=1.3, elinewidth=0.9,
                yerr=[scores["value"] - scores["low"], scores["high"] - scores["value"]],
                markersize=6, markeredgecolor="black", markeredgewidth=0.5, label=TITLES[method],
                **styles[method],
            )
        axis.axhline(chance, color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label="chance")
        axis.set(
            ylabel=f"UAR {title}", ylim=(-0.03, 1.05), xticks=x, xticklabels=retrained["n_forget"]
        )
    axes[1].set_xlabel("N, clips to forget")
    figures.legend_below(figure, axes[0], ncols=3)
    return figure
