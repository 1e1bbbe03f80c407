"""Tuning: every method gets as many trials of its hyperparameter, on clips not reported.

A trial is a method with one value of a hyperparameter (its ``METHOD`` says which) on the
development forget set, which shares no clip with a reported forget set, and its utility is read on
speakers (or words) that neither training nor the reported tables use. What comes closest to the
retrained model is chosen and frozen in a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from speechunlearn import methods
from speechunlearn.audit.report_card import average_gap
from speechunlearn.errors import ParameterError
from speechunlearn.files import one_at_a_time, replaced
from speechunlearn.lab.results import Results, folder_name
from speechunlearn.provenance import REPOSITORY

FOLDER = REPOSITORY / "data" / "tuning"

#: variant of trial evaluations, kept apart from what is reported
TRIAL = "trial"

#: by how much a hyperparameter is scaled, the profile's own value first
FACTORS = (1.0, 1 / 3, 3.0, 1 / 9, 9.0)


def candidates(
    method: str, values: Mapping[str, Any], n_trials: int
) -> list[dict[str, float | int]]:
    """Return the overrides to try.

    Args:
        method: its name
        values: the profile's hyperparameters of it
        n_trials: number of trials, the same for every method; one without such a hyperparameter
            gets one

    Raises:
        ParameterError: an unknown method, or a number of trials that is not from 1 to
            ``len(FACTORS)``

    Examples:
        >>> candidates("delete", {"learning_rate": 3e-5}, 2)
        [{'learning_rate': 3e-05}, {'learning_rate': 1e-05}]

    """
    if not 1 <= n_trials <= len(FACTORS):
        raise ParameterError(f"trials: {n_trials} is not from 1 to {len(FACTORS)}")
    parameters = methods.parameters(method, **values)
    told = methods.get(method)
    if not told.hyperparameter:
        return [{}]
    base = getattr(parameters, told.hyperparameter)
    tried = told.tried or tuple(float(f"{base * factor:.3g}") for factor in FACTORS)
    return [{told.hyperparameter: value} for value in tried[:n_trials]]


def trial_table(results: Results) -> pd.DataFrame:
    """Return every trial with its gap, and which one of each method was chosen.

    Args:
        results: evaluations of `speechunlearn.lab.experiments.trials`

    Returns:
        columns method, overrides (JSON), gap, forget, retain, unseen (UAR), mia_auc, seconds,
        chosen, and what the tuning used: forget_id, n_forget, seed, unseen_clips; the gap is
        infinite where a model answers nothing usable

    Raises:
        ParameterError: no trials, or none of the retrained model

    """
    trials = results.evaluations[results.evaluations["variant"].str.startswith(TRIAL)]
    if "retrain" not in set(trials["method"]):
        raise ParameterError("tuning: there are no trials of the retrained model to compare with")
    scores = results.of_one_protocol().select(variant=list(trials["variant"])).rows()
    splits = ("forget", "retain", "unseen")
    values = {
        variant: trial.set_index(["split", "metric"])["value"].to_dict()
        for variant, trial in scores.groupby(["method", "variant"])
    }
    rows = []
    for record in trials[~trials["method"].isin(["original", "retrain"])].to_dict("records"):
        trial = values[record["method"], record["variant"]]
        rows.append(
            {"method": record["method"], "overrides": record["variant"].removeprefix(f"{TRIAL} "),
             "gap": average_gap(trial, [values["retrain", TRIAL]]),
             **{split: trial[split, "uar"] for split in splits},
             "mia_auc": trial["forget", "mia_auc"],
             **{name: record[name] for name in ("seconds", "forget_id", "n_forget", "seed")},
             "unseen_clips": len(results.of_evaluation(record["evaluation"], "unseen"))}
        )
    table = pd.DataFrame(rows)
    best = table.groupby("method", sort=False)["gap"].idxmin()
    return table.assign(chosen=table.index.isin(best))


def tuned(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the chosen overrides of each method.

    Args:
        table: of `trial_table`

    """
    return table[table["chosen"]].set_index("method")["overrides"].map(json.loads).to_dict()


def path(profile: str, corpus: str, task: str = "") -> Path:
    """Return where the frozen trials of a profile, corpus and task are, or would be."""
    return FOLDER / f"{folder_name(profile, corpus, task)}.csv"


def frozen(profile: str, corpus: str, task: str = "") -> pd.DataFrame | None:
    """Return the frozen trials, or None where none are.

    Raises:
        ParameterError: a file that does not name each method's choice once

    """
    file = path(profile, corpus, task)
    if not file.is_file():
        return None
    table = pd.read_csv(file, dtype={"forget_id": str})
    count = table.groupby("method")["chosen"].sum()
    if (count != 1).any():
        wrong = sorted(count.index[count != 1])
        raise ParameterError(f"{file}: of {wrong} not one trial is chosen")
    return table


def freeze(table: pd.DataFrame, file: Path) -> None:
    """Write trials where `frozen` finds them; those of other methods stay.

    Args:
        table: of `trial_table`
        file: of `path`

    """
    with one_at_a_time(file.parent):  # chapters may run side by side
        if file.is_file():
            before = pd.read_csv(file, dtype={"forget_id": str})
            table = pd.concat([before[~before["method"].isin(table["method"])], table])
        with replaced(file) as partial:
            table.sort_values(["method", "gap"]).round(6).to_csv(partial, index=False)


def names(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return these methods, or all that are not the references, in the order of the registry.

    Raises:
        ParameterError: an unknown method, or one of the references

    """
    for name in chosen:
        if methods.get(name).name == "retrain":
            raise ParameterError("methods: 'retrain' is what methods are compared with")
    return tuple(chosen) or tuple(name for name in methods.METHODS if name != "retrain")
