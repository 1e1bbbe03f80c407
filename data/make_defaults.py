"""Make ``speechunlearn/tool/defaults.json`` from the committed leaderboards and trials.

It is what ``speechunlearn forget`` does where a request names no method or no hyperparameter.

    python data/make_defaults.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn import methods
from speechunlearn.lab import leaderboard, profiles, tuning
from speechunlearn.tool.defaults import usable

FILE = Path(__file__).resolve().parents[1] / "speechunlearn" / "tool" / "defaults.json"

#: the leaderboards and trials that count: of real speech
PROFILE = "cpu"
#: what a request may give
GIVEN = ("forget",), ("forget", "retain")


def ratios() -> pd.Series:
    """Return the mean over leaderboards of each method's gap by the retrained models'."""
    found = []
    for file in sorted(leaderboard.FOLDER.glob(f"{PROFILE}-*/scores.csv")):
        scores = pd.read_csv(file)
        gaps = scores[scores["score"] == "average_gap"].groupby("method")["value"].mean()
        found.append(gaps / gaps["retrain"])
    return pd.concat(found, axis=1).dropna().mean(axis=1)


def hyperparameters() -> dict[str, dict[str, Any]]:
    """Return each method's hyperparameters: the profile's, and the mean of those chosen."""
    chosen: dict[str, dict[str, list[float]]] = {}
    for file in sorted(tuning.FOLDER.glob(f"{PROFILE}-*.csv")):
        for method, overrides in tuning.tuned(pd.read_csv(file)).items():
            for name, value in overrides.items():
                chosen.setdefault(method, {}).setdefault(name, []).append(value)
    profile, found = profiles.get(PROFILE).methods, {}
    for method in sorted({*chosen, *profile}):
        if not usable(method):
            continue
        values, own = dict(profile.get(method, {})), methods.parameters(method)
        for name, several in chosen.get(method, {}).items():
            if getattr(own, name) is None:
                continue  # it is found on the request itself
            mean = float(np.exp(np.mean(np.log(several))))
            whole = isinstance(getattr(own, name), int)
            values[name] = round(mean) if whole else float(f"{mean:.3g}")
        found[method] = {
            "values": values,
            "tuned": any(getattr(own, name) is not None for name in chosen.get(method, {})),
        }
    return found


def made() -> dict[str, Any]:
    """Return what the file holds."""
    gaps = ratios()
    best = {}
    for given in GIVEN:
        among = gaps[[
            name for name in gaps.index
            if name in methods.METHODS and usable(name) and methods.get(name).needs <= set(given)
        ]]
        best[" and ".join(given)] = {"method": str(among.idxmin()), "among": len(among)}
    return {"best": best, "methods": hyperparameters()}


def text() -> str:
    """Return the file, one method a line."""
    table = made()
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(own)}" for name, own in table["methods"].items()
    )
    return f'{{"best": {json.dumps(table["best"])},\n "methods": {{\n{lines}\n}}}}\n'


if __name__ == "__main__":
    FILE.write_text(text())
    print(FILE)
