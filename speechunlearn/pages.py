"""What a chapter shows of committed results, beside its own: always with what made them.

The numbers are computed from the committed predictions each time, by the same functions as the
chapter's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from speechunlearn import corpora, experiments, figures, results, statistics
from speechunlearn.results import TITLES, Results

Shown = pd.DataFrame | Figure | None


def made_by(shown: Results) -> str:
    """Return what made these cells: profile, corpus, encoder, seeds, machine, commit, hours."""
    cells = shown.cells

    def unique(column: str) -> str:
        return "; ".join(sorted({str(value) for value in cells[column]}))

    names = "; ".join(corpora.get(name).title for name in sorted(set(cells["corpus"])))
    hours = cells["seconds"].sum() / 3600
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
        f"{len(cells)} models, {hours:.1f} h on {unique('machine')}; code {unique('commit')}."
    )


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
    display(Markdown(made_by(cells)))
    numbers = results.table_of_methods(cells, setting, generator=np.random.default_rng(0))
    paper = results.paper_table1()
    display(results.readable(numbers, paper[paper["setting"] == setting]))
    display(results.distances(numbers))
    return results.costs(cells)


def requests(shown: Results | None) -> Shown:
    """Show every kind of request: clips, classes, speakers, sequences, and the audit."""
    if shown is None:
        return _missing()
    display(Markdown(made_by(shown)))
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
    return results.verdict_table(shown)


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
                f"{count.get('other', 0)} on images; {count.get('undecided', 0)} undecided."
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
        axis=1,
    )


def tests_and_claims(shown: Results | None, setting: str) -> Shown:
    """Show the tests against random labels and what becomes of the paper's claims."""
    if shown is None:
        return _missing()
    cells = shown.reported().select(setting=setting)
    display(Markdown(made_by(cells)))
    tests = results.tests_against(
        cells, setting, "ran_lab", experiments.ADVERSARIAL, generator=np.random.default_rng(0)
    )
    display(tests.replace({"method": TITLES}).set_index(["method", "n_forget"]).round(4))
    verdicts = experiments.claims(
        cells, setting, chance=1 / cells.n_labels, generator=np.random.default_rng(0)
    )
    return verdicts.set_index(["claim", "n_forget"]).round(2)


def figure2(shown: Results | None) -> Shown:
    """Show UAR over tau on the development draw: the figure and its table."""
    if shown is None:
        return _missing()
    cells = shown.select(draw=experiments.DEVELOPMENT)
    display(Markdown(made_by(cells)))
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
    display(Markdown(made_by(chosen)))
    return experiments.variants(chosen).round(2)


def _missing() -> Shown:
    return display(Markdown("*No results of this profile are committed yet.*"))
