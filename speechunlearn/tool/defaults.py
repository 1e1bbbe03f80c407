"""Which method a request is done by where none is named, and each method's hyperparameters.

Both are read from ``defaults.json`` beside this file, which ``data/make_defaults.py`` makes
from the committed leaderboards and trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from speechunlearn import methods, schema
from speechunlearn.errors import ParameterError

#: the least that a method without targets may take before it has forgotten
STEPS = 200

#: no hyperparameter that counts is larger
_LARGEST = 10**9
#: playback rates that a clip can still be told by
_SPEEDS = (0.1, 10.0)


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
    """Return a method and its hyperparameters.

    Where none is named it is, of those that get by with what there is, the one closest to
    retraining on the leaderboards of real speech: the least mean, over these, of its average gap
    by that of the retrained models. Its hyperparameter is found on the request itself where the
    method can find it, and else the geometric mean of those that tuning chose.

    Args:
        available: what there is: ``forget``, ``retain``
        method: its name; None takes the leaderboard's
        given: hyperparameters that the request names

    Raises:
        ParameterError: an unknown method, one that needs the recipe of training, or more clips

    """
    if method is None:
        clips = " and ".join(sorted(available))
        best = _table()["best"][clips]
        method = best["method"]
        chosen = (
            f"closest to retraining on the leaderboards of real speech among the {best['among']} "
            f"methods that get by with {clips}"
        )
    else:
        check(method, available)
        chosen = "named in the request"
    values, how = _hyperparameters(method, given)
    return Choice(method, values, f"{chosen}; {how}")


def usable(method: str) -> bool:
    """Return whether a request can be done by a method at all: it has no recipe, no validation."""
    registered = methods.get(method)
    return not registered.trains_anew and "validation" not in registered.needs


def check(method: str, available: Collection[str]) -> None:
    """Refuse a method that this request can't feed.

    Raises:
        ParameterError: see `choose`

    """
    registered = methods.get(method)
    if registered.trains_anew:
        raise ParameterError(
            f"method: {method!r} trains anew, and a checkpoint does not tell the recipe"
        )
    if "validation" in registered.needs:
        raise ParameterError(
            f"method: {method!r} needs validation clips, which a request does not have"
        )
    needs = {"retain" if need == "statistic" else need for need in registered.needs}
    missing = " and ".join(sorted(needs - set(available)))
    if missing:
        raise ParameterError(f"method: {method!r} needs the {missing} clips")


def parameters(method: str, values: Mapping[str, Any]) -> Any:
    """Return a method's hyperparameters, whatever was given for them.

    Args:
        method: its name
        values: hyperparameters in place of its defaults

    Raises:
        ParameterError: an unknown name, a value of another type, or one that no work can be done
            with: not finite, or a count beyond a billion

    """
    hyperparameters: Any = schema.checked(
        methods.get(method).parameters, values, f"method {method!r}"
    )
    for name, value in vars(hyperparameters).items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ParameterError(f"{name}: {number} is not finite")
            if isinstance(number, int) and number > _LARGEST:
                raise ParameterError(f"{name}: it is beyond {_LARGEST:,}")
            if name == "speeds" and not _SPEEDS[0] <= number <= _SPEEDS[1]:
                raise ParameterError(f"speeds: {number} is not from {_SPEEDS[0]} to {_SPEEDS[1]}")
    return hyperparameters


def budgeted(method: str, parameters: Any, given: Collection[str], clips: int) -> Any:
    """Return hyperparameters with the epochs that few clips need.

    Ten epochs of eight clips are ten steps. A method that uses the forget set alone gets at
    least `STEPS` steps; it ends sooner where its targets or the level of the request are reached
    (`speechunlearn.methods.base.UnlearningData`). Epochs that the request names stay, as do those
    of a method whose epochs are passes over adversarial copies.

    Args:
        method: its name
        parameters: of it
        given: hyperparameters that the request names
        clips: in the forget set

    """
    if not stops(method, given) or hasattr(parameters, "copies"):
        return parameters
    steps = -(-clips // parameters.batch_size)
    return replace(parameters, epochs=max(parameters.epochs, -(-STEPS // steps)))


def stops(method: str, given: Collection[str]) -> bool:
    """Return whether a method ends at the level of a request.

    It does where it has no targets of its own, uses the forget set alone, and the request
    does not name its epochs.
    """
    registered = methods.get(method)
    names = {name.name for name in fields(registered.parameters)} - set(given)
    return registered.needs == {"forget"} and "epochs" in names and "until" not in names


@cache
def _table() -> dict[str, Any]:
    return json.loads(resources.files(__package__).joinpath("defaults.json").read_text("utf-8"))


def _hyperparameters(method: str, given: Collection[str]) -> tuple[dict[str, Any], str]:
    """Return hyperparameters, and where they come from."""
    row, hyperparameter = _table()["methods"].get(method), methods.get(method).hyperparameter
    values = {} if row is None else row["values"]
    if hyperparameter and hyperparameter in given:
        return values, f"{hyperparameter} is the request's own"
    if methods.get(method).finds(methods.parameters(method)):
        return values, (
            f"its hyperparameter ({hyperparameter}) is found on the clips themselves; on the "
            "leaderboards it was tuned"
        )
    if row is None:
        return values, "its hyperparameters are its own defaults: it was not tuned here"
    if row["tuned"]:
        return values, "its hyperparameter was tuned on real speech with a small encoder (a mean)"
    return values, "its hyperparameters are those of the profile cpu, for a small encoder"
