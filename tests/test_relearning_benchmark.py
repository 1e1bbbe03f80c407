"""Relearning on real speech: the right models, and a whole table."""

import pandas as pd
import pytest

from benchmarks import pools, relearning


def test_a_run_sets_its_models_beside_one_that_never_heard_the_set(monkeypatch):
    pool = pools.Pool.read(relearning.POOL)
    monkeypatch.setattr(pools.Pool, "model", lambda self, k, cache: k)
    monkeypatch.setattr(relearning, "unlearned", lambda study, pool, k, *about: (k, about[-1]))
    study = type("Study", (), {"cache": None})()
    used = [
        {name: make() for name, make in relearning.models(study, pool, run, "clips 100 a").items()}
        for run in range(3)
    ]
    heard = pool.design.heard[:, pool.design.of("clips 100 a")]
    for one in used:
        assert heard[one["original"]] and not heard[one["retrain"]] and not heard[one["one more"]]
        assert one["retrain"] != one["one more"]
        assert one["delete"] == (one["original"], "delete")
    assert len({one["retrain"] for one in used}) == len({one["original"] for one in used}) == 3


def test_the_committed_table_is_whole():
    rows = pd.read_csv(relearning.RESULTS)
    models = {"retrain", "one more", "original", *relearning.METHODS}
    assert (rows.groupby("run")["model"].agg(set) == models).all() and rows["run"].nunique() == 3
    assert rows.notna().all().all() and rows["zrf"].between(0, 1).all()
    curves = rows["curve"].map(lambda text: [float(share) for share in text.split()])
    steps = relearning.SETTINGS.epochs * -(-rows["clips"] // relearning.SETTINGS.batch_size)
    assert (curves.map(len) == steps + 1).all()
    start = curves.str[0].groupby(rows["model"]).mean()
    assert start["original"] > 0.98
    methods_start = start[[*relearning.METHODS]].to_numpy()
    assert methods_start == pytest.approx(start["retrain"], abs=0.1)  # as the page says
