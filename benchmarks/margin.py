"""What is lost where adversarial copies that have reached their target are left alone.

    python -m benchmarks.margin FOLDER --root PATH

``FOLDER`` is a pool that `benchmarks.pool` made. Four of its models that heard the development set
forget the first ten clips of it by Adv., with M = 20 copies a clip and P = 50 steps: once with all
steps of every copy, as in the paper, and once with copies that are finished when the logit of their
target is so far above every other. A row a model, bound and margin goes to
``data/benchmarks/margin.csv``; finished ones are kept.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import judged, pools
from benchmarks.judged import Judge
from speechunlearn import methods, provenance
from speechunlearn.cache import Cache
from speechunlearn.files import replaced
from speechunlearn.lab import profiles
from speechunlearn.methods.pgd import adversarial_set
from speechunlearn.models import fast_mode
from speechunlearn.models.loop import Cost

RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "margin.csv"
MODELS, CLIPS, TAUS, MARGINS = 4, 10, (0.1, 0.3), (None, 5.0, 2.0)


def row(judge: Judge, k: int, tau: float, margin: float | None) -> dict[str, Any]:
    """Return what a model is after it forgot, and what its copies took.

    Args:
        judge: of the pool, whose first development set is taken
        k: the model
        tau: bound of the attack
        margin: of copies that are finished; None: all take P steps

    """
    (name,) = {name for name, _ in judge.requests(MODELS)}
    data = pools.request(judge.study, judge.pool.design, k, name)
    forget = data.forget.at(range(CLIPS))
    parameters = methods.parameters("adv", tau=tau, attack_margin=margin)
    model, seed = judge.pool.model(k, judge.study.cache), judge.pool.design.seed_of(k)
    attack = Cost()
    with provenance.measured() as usage, fast_mode.fast(model):
        copies = adversarial_set(
            model, forget, len(model.labels), parameters.attack, seed=seed, cost=attack
        )
    outcome = methods.get("adv").unlearn(
        model, replace(data, forget=forget, adversarial=lambda *asked: copies), parameters,
        seed=seed, fast=True,
    )
    table = judge.pool.table(pools.logits_of(outcome.model, judge.study), name)
    table = judged.only_of("tune", table, judge.units)
    table = table[(table["split"] != "forget") | table["hash"].isin(forget.hashes)]
    return {
        "model": k, "clips": CLIPS, "tau": tau, "margin": margin, "success": copies.success_rate,
        "passes": attack.forward_backward, "seconds": round(usage.seconds, 1),
        **judged.all_scores(table, judge.n_labels), "commit": provenance.commit(),
        "lock": provenance.lock_hash(), "machine": provenance.describe(),
    }  # fmt: skip


def main() -> None:
    """Make the rows that are not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a pool")
    parser.add_argument("--root", default="", help="folder of its corpus")
    parser.add_argument("--cache", default="", help="where its models are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    judge = Judge(asked.folder, asked.root, "tune", Cache(asked.cache or None))
    profiles.prepare_process(judge.study.profile)
    rows = pd.read_csv(asked.out).to_dict("records") if asked.out.is_file() else []
    models = [k for _, k in judge.requests(MODELS)]
    for k, tau, margin in list(itertools.product(models, TAUS, MARGINS))[len(rows):]:
        rows.append(row(judge, k, tau, margin))
        with replaced(asked.out) as partial:
            pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.5g")
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
