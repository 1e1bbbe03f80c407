"""Which method a request is done by where none is named: what the leaderboard says."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from speechunlearn import leaderboard, methods, profiles, tuning
from speechunlearn.errors import ParameterError

#: methods that train anew, by the recipe that made the model, which a checkpoint does not tell
BY_RECIPE = ("retrain", "sisa", "sisa_plus", "eu_k")
#: and one that chooses among its steps by clips that are neither trained on nor reported
BY_VALIDATION = ("scrub_r",)

#: the leaderboards that count: of real speech
PROFILE = "cpu"
#: where there is none
FALLBACK = "altered"


class Choice(NamedTuple):
    """A method, its hyperparameters, and why these.

    Attributes:
        method: its name
        values: hyperparameters in place of its defaults
        why: one sentence

    """

    method: str
    values: dict[str, Any]
    why: str


def choose(
    available: Collection[str], method: str | None = None, given: Collection[str] = ()
) -> Choice:
    """Return a method and its strength.

    Where none is named it is, of those that get by with what there is, the one closest to
    retraining on the leaderboards of real speech: the least mean, over these, of its average gap
    by that of the retrained models. Its strength is the geometric mean of those that tuning chose.

    Args:
        available: what there is: ``forget``, ``retain``
        method: its name; None takes the leaderboard's
        given: hyperparameters that the request names

    Raises:
        ParameterError: an unknown method, one that needs the recipe of training, or more clips

    """
    if method is not None:
        check(method, available)
        values, how = _strength(method, given)
        return Choice(method, values, f"named in the request; {how}")
    ratios = _ratios()
    usable = [
        name for name in methods.METHODS
        if name not in (*BY_RECIPE, *BY_VALIDATION) and methods.get(name).needs <= set(available)
    ]
    if ratios.empty:
        values, how = _strength(FALLBACK, given)
        return Choice(FALLBACK, values, f"no leaderboard of real speech is there; {how}")
    ratios = ratios[ratios.index.isin(usable)]
    best = str(ratios.idxmin())
    values, how = _strength(best, given)
    why = (
        f"closest to retraining on the leaderboards of real speech among the {len(ratios)} methods "
        f"that get by with {' and '.join(sorted(available))}; {how}"
    )
    return Choice(best, values, why)


def check(method: str, available: Collection[str]) -> None:
    """Refuse a method that this request can't feed.

    Raises:
        ParameterError: see `choose`

    """
    needs = methods.get(method).needs
    if method in BY_RECIPE:
        raise ParameterError(
            f"method: {method!r} trains anew, and a checkpoint does not tell the recipe"
        )
    if method in BY_VALIDATION:
        raise ParameterError(
            f"method: {method!r} needs validation clips, which a request does not have"
        )
    missing = sorted(needs - set(available) - {"statistic"})
    if "statistic" in needs and "retain" not in available:
        missing.append("retain")
    if missing:
        raise ParameterError(
            f"method: {method!r} needs the {' and '.join(sorted(set(missing)))} clips"
        )


def _ratios() -> pd.Series:
    """Return the mean over leaderboards of each method's gap by the retrained models'."""
    found = []
    for folder in sorted(leaderboard.FOLDER.glob(f"{PROFILE}-*/scores.csv")):
        scores = pd.read_csv(folder)
        gaps = scores[scores["score"] == "average_gap"].groupby("method")["value"].mean()
        found.append(gaps / gaps["retrain"])
    if not found:
        return pd.Series(dtype=float)
    return pd.concat(found, axis=1).dropna().mean(axis=1)


def _strength(method: str, given: Collection[str]) -> tuple[dict[str, Any], str]:
    """Return hyperparameters, and where they come from."""
    values = dict(profiles.get(PROFILE).methods.get(method, {}))
    chosen: dict[str, list[float]] = {}
    for file in sorted(tuning.FOLDER.glob(f"{PROFILE}-*.csv")):
        for name, value in tuning.chosen(pd.read_csv(file)).get(method, {}).items():
            chosen.setdefault(name, []).append(value)
    own = methods.parameters(method)
    for name, found in chosen.items():
        mean = float(np.exp(np.mean(np.log(found))))
        values[name] = round(mean) if isinstance(getattr(own, name), int) else float(f"{mean:.3g}")
    strength = tuning.STRENGTHS.get(method)
    if strength is not None and strength.parameter in given:
        return values, f"its strength ({strength.parameter}) is the request's own"
    if chosen:
        return values, "its strength is the mean of those tuned on real speech with a small encoder"
    return values, "its strength is that of the profile cpu, for a small encoder"
