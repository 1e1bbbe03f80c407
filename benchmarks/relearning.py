"""How fast models of real speech learn a forgotten set again, and how like an untrained network.

    python -m benchmarks.relearning --root PATH --cache FOLDER

The originals and the retrained models are those of a pool (`benchmarks.pool`): in run i, the i-th
model that heard the set, and the i-th of those that did not, beside which all others are set.
Methods have what `benchmarks.judged` chose for them. The untrained network has the pool's
architecture, and a seed of its own in each run. A row is kept as its model is done: the same
command goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import judged, pools
from speechunlearn import methods, provenance
from speechunlearn.audit import closeness
from speechunlearn.cache import Cache
from speechunlearn.lab import profiles
from speechunlearn.lab.relearning import relearn
from speechunlearn.lab.study import Study, described
from speechunlearn.methods.base import Descent
from speechunlearn.models import classifier, fast_mode, training
from speechunlearn.models.classifier import Classifier

RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "relearning.csv"
POOL = pools.FOLDER / "cpu-ravdess-nano-pretrained"
METHODS = ("delete", "ran_lab")
#: the rate is random labels' in the profile, as in the chapter on the audit
SETTINGS = Descent(epochs=6, learning_rate=3e-4)


def unlearned(study: Study, pool: pools.Pool, k: int, set_name: str, name: str) -> Classifier:
    """Return what a method, as it was tuned on the pool, makes of model k."""
    method, profile = methods.get(name), study.profile.methods.get(name, {})
    data = pools.request(study, pool.design, k, set_name, method.needs)
    parameters = methods.parameters(name, **{**profile, **judged.chosen(POOL, name)})
    model, seed = pool.model(k, study.cache), pool.design.seed_of(k)
    return method.unlearn(model, data, parameters, seed=seed, fast=True).model


def models(
    study: Study, pool: pools.Pool, run: int, set_name: str
) -> dict[str, Callable[[], Classifier]]:
    """Return what gives each model of a run, the retrained one first."""
    original, references = pool.originals(set_name)[run], pool.references(set_name)
    return {
        "retrain": partial(pool.model, references[run], study.cache),
        "one more": partial(pool.model, references[run - 1], study.cache),
        "original": partial(pool.model, original, study.cache),
        **{name: partial(unlearned, study, pool, original, set_name, name) for name in METHODS},
    }


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", required=True, help="folder of the corpus")
    parser.add_argument("--cache", type=Path, required=True, help="where the pool's models are")
    parser.add_argument("--set", default="clips 100 a", help="forget set of the pool")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    pool = pools.Pool.read(POOL)
    study = described(pool.design.study | {"root": asked.root}, cache=Cache(asked.cache))
    profiles.prepare_process(study.profile)
    forget = study.forget(pool.design.sets[pool.design.of(asked.set)].forget_set)
    rows = pd.read_csv(asked.out) if asked.out.is_file() else pd.DataFrame()
    for run in range(asked.runs):
        untrained = classifier.build("nano", study.labels, seed=run)
        said = training.predict(untrained, forget).softmax(1).double().numpy()
        for name, make in models(study, pool, run, asked.set).items():
            if len(rows) and ((rows["run"] == run) & (rows["model"] == name)).any():
                continue
            model, start = make(), time.perf_counter()
            zrf = closeness.zrf(training.predict(model, forget).softmax(1).double().numpy(), said)
            with fast_mode.fast(model):
                curve = relearn(model, forget, SETTINGS, seed=run)
            row: dict[str, Any] = {
                "run": run, "set": asked.set, "clips": len(forget), "model": name, "zrf": zrf,
                "curve": " ".join(f"{share:.2f}" for share in curve),
                "learning_rate": SETTINGS.learning_rate, "batch_size": SETTINGS.batch_size,
                "seed": run, "seconds": round(time.perf_counter() - start, 1),
                "encoder": study.profile.encoder, "protocol": provenance.protocol_hash(),
                "commit": provenance.commit(), "lock": provenance.lock_hash(),
                "machine": provenance.describe(),
            }
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            rows.to_csv(asked.out, index=False, float_format="%.6g")
            print(run, name, f"ZRF {zrf:.3f}", row["curve"], row["seconds"], flush=True)


if __name__ == "__main__":
    main()
