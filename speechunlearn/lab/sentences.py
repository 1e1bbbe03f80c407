"""Sentences about results, made from them: with what they were run, and what their tables say.

A word that judges (above, below, at every N) is computed as the numbers beside it are. The
page on the paper holds these sentences as they are returned here, which a test sees to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn.errors import ParameterError
from speechunlearn.lab.results import TITLES, number

#: what Ren et al. (2025, arXiv v1, section 3.2) run their methods with, of what decides how far a
#: model moves: adversarial copies a clip (M), attack steps (P), epochs and learning rate
PAPER: dict[str, float] = {"copies": 20, "steps": 50, "epochs": 15, "learning_rate": 3e-5}
#: batch size of the paper's fine-tuning; of unlearning it gives none
PAPER_BATCH = 16

#: methods of the paper, and which of these they have
OF_THE_PAPER: dict[str, tuple[str, ...]] = {
    "remain": ("epochs", "learning_rate"),
    "remain_superloss": ("epochs", "learning_rate"),
    "ran_lab": ("epochs", "learning_rate"),
    "adv": tuple(PAPER),
    "adv_ela": tuple(PAPER),
}

_WORDS = {
    "copies": "M = {}", "steps": "P = {}", "epochs": "epochs: {}",
    "learning_rate": "learning rate {}",
}


def updates(parameters: Mapping[str, Any], n: int) -> int:
    """Return how often the weights move in unlearning, where an epoch is a pass over the copies.

    Args:
        parameters: ``epochs``, ``batch_size`` and, of the adversarial methods, ``copies``
        n: clips to forget

    Examples:
        >>> updates({"copies": 2, "epochs": 4, "batch_size": 16}, 10)
        8
        >>> updates({"copies": 20, "epochs": 15, "batch_size": 16}, 10)
        195

    """
    batches = math.ceil(n * parameters.get("copies", 1) / parameters["batch_size"])
    return int(parameters["epochs"] * batches)


def settings(evaluations: pd.DataFrame) -> str:
    """Return what the paper's methods were run with, and what the paper runs them with.

    Args:
        evaluations: of `speechunlearn.lab.results.Results`

    Returns:
        M, P, epochs, learning rate, weight updates at the smallest N, and whether the Fisher
        information is of clips or of batches; empty where none of the paper's methods is there

    Raises:
        ParameterError: hyperparameters that an evaluation does not name

    """
    evaluations = evaluations[evaluations["method"].isin(OF_THE_PAPER)]
    if evaluations.empty:
        return ""
    said, fisher, n = {}, set(), int(evaluations["n_forget"].min())
    for method in (m for m in OF_THE_PAPER if m in set(evaluations["method"])):
        every, values = _parameters(evaluations, method), _values(evaluations, method)
        parts = [_WORDS[name].format(_or(tried)) for name, tried in values.items()]
        if "copies" in values:
            counts = sorted({updates(parameters, n) for parameters in every})
            parts.append(f"{_or(counts)} weight updates at N = {n}")
        said[TITLES[method]] = ", ".join(parts)
        fisher |= {p["fisher_per"] for p in every if p.get("importance") == "fisher"}
    text = _by_method(said)
    if fisher:
        text += f"; Fisher information per {_or(sorted(fisher))}, where the paper says neither"
    of_the_paper = ", ".join(_WORDS[name].format(_number(value)) for name, value in PAPER.items())
    at_n = updates({"batch_size": PAPER_BATCH} | PAPER, n)
    return (
        f"Run with: {text}. The paper (arXiv:2510.04251v1): {of_the_paper}, which makes {at_n} "
        f"weight updates at N = {n} with batches of {PAPER_BATCH}."
    )


def unlike_the_paper(evaluations: pd.DataFrame, chosen: Iterable[str] = tuple(OF_THE_PAPER)) -> str:
    """Return in what the paper's methods were run otherwise than the paper runs them.

    Args:
        evaluations: of `speechunlearn.lab.results.Results`
        chosen: methods; those that are not the paper's, or not there, are passed over

    Returns:
        such as ``Adv.: M = 2 (the paper: 20)``; empty where nothing differs

    Raises:
        ParameterError: hyperparameters that an evaluation does not name

    """
    said = {}
    for method in (m for m in OF_THE_PAPER if m in set(chosen) & set(evaluations["method"])):
        said[TITLES[method]] = ", ".join(
            f"{_WORDS[name].format(_or(tried))} (the paper: {_number(PAPER[name])})"
            for name, tried in _values(evaluations, method).items() if tried != [PAPER[name]]
        )
    return _by_method(said)


def _by_method(said: Mapping[str, str]) -> str:
    """Return what is said of each method, those together of which the same is said."""
    titles: dict[str, list[str]] = {}
    for title, text in said.items():
        titles.setdefault(text, []).append(title)
    return "; ".join(f"{_and(names)}: {text}" for text, names in titles.items() if text)


def stand_ins(evaluations: pd.DataFrame) -> str:
    """Return which sizes have the model retrained without a larger forget set; empty where none.

    Args:
        evaluations: of `speechunlearn.lab.results.Results`

    """
    retrained = evaluations[
        (evaluations["method"] == "retrain") & (evaluations["forget_kind"] == "clips")
    ]
    by_model = retrained.groupby(["setting", "seed", "seconds"])["n_forget"]
    largest = by_model.transform("max")
    smaller = retrained[retrained["n_forget"] < largest]["n_forget"].groupby(largest, sort=False)
    return " ".join(
        f"{TITLES['retrain']} at N = {_and(sorted(sizes.unique()))} is the model retrained without "
        f"all {n}." for n, sizes in smaller
    )


def of_methods(evaluations: pd.DataFrame, numbers: pd.DataFrame, chance: float) -> list[str]:
    """Return what a table of UARs by method and N says of the paper's methods, by its means alone.

    Args:
        evaluations: that it was made from
        numbers: of `speechunlearn.lab.results.table_of_methods`
        chance: UAR of a guess

    """
    value = numbers.set_index(["method", "split", "n_forget"])["value"].sort_index()
    retrained, original = value["retrain", "forget"], value["original", "unseen"]
    random = value["ran_lab", "unseen"]
    lines = [
        f"**{TITLES['retrain']}**: {_span(retrained)} on the forget set, which it never heard: "
        f"{_compared(retrained, chance, 'chance')}.",
    ]
    for method in ("ran_lab", "adv", "adv_ela"):
        forget, unseen = value[method, "forget"], value[method, "unseen"]
        variant = ""
        beside = f"where the original model has {_span(original)}"
        if method != "ran_lab":
            variant = " (reduced variant)" if unlike_the_paper(evaluations, [method]) else ""
            beside = _compared(unseen, random, TITLES["ran_lab"])
        lines.append(
            f"**{TITLES[method]}**{variant}: {_span(forget)} on the forget set, "
            f"{_compared(forget, chance, 'chance')} and "
            f"{_compared(forget, retrained, 'the retrained model')}; {_span(unseen)} on unseen "
            f"speakers, {beside}."
        )
    return lines


def of_power(table: pd.DataFrame) -> str:
    """Return whether a comparison of distances on two corpora could have told anything.

    Args:
        table: of `speechunlearn.lab.results.further_from_retraining`

    """
    half = (table["high"] - table["low"]) / 2
    larger = table[["one", "other"]].max(axis=1)
    blind = half > larger
    text = (
        f"Half the width of the intervals is {_span(half)}, and the larger of the two distances "
        f"{_span(larger)}: in {int(blind.sum())} of {len(table)} rows a difference as large as the "
        "distance itself would have been undecided."
    )
    return f"{text} **The comparison had no power.**" if blind.all() else text


def _parameters(evaluations: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    return [
        json.loads(text)
        for text in evaluations.loc[evaluations["method"] == method, "hyperparameters"]
    ]


def _values(evaluations: pd.DataFrame, method: str) -> dict[str, list[Any]]:
    """Return the values that each hyperparameter of the paper's has in a method's evaluations."""
    table = pd.DataFrame(_parameters(evaluations, method)).reindex(
        columns=list(OF_THE_PAPER[method])
    )
    for name in table.columns[table.isna().any()]:
        raise ParameterError(f"results: an evaluation of method {method!r} does not say {name!r}")
    return {str(name): sorted(set(values.tolist())) for name, values in table.items()}


def _compared(values: pd.Series, other: pd.Series | float, name: str) -> str:
    """Return at which sizes values are above something else, as rounded in the table."""
    beside = _rounded(other) if isinstance(other, pd.Series) else float(number(other))
    difference = _rounded(values) - beside
    words = {"above": difference > 0, "below": difference < 0, "equal to": difference == 0}
    parts: list[str] = []
    for word, which in words.items():
        if which.all():
            return f"{word} {name} at every N"
        if which.any():
            what = "it" if parts else name
            parts.append(f"{word} {what} at N = {_and([int(n) for n in which.index[which]])}")
    return ", ".join(parts)


def _rounded(values: pd.Series) -> pd.Series:
    """Return values as the tables show them."""
    return values.map(lambda value: float(number(value)))


def _span(values: pd.Series) -> str:
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def _number(value: int | float) -> str:
    return np.format_float_positional(value, trim="-")


def _or(values: Sequence[Any]) -> str:
    return " or ".join(v if isinstance(v, str) else _number(v) for v in values)


def _and(values: Sequence[Any]) -> str:
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"
