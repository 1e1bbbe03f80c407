"""Methods on a pool: distances by hand, the choice of a value, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_study

from benchmarks import judged, pools
from speechunlearn import methods
from speechunlearn.cache import Cache
from speechunlearn.errors import ParameterError
from speechunlearn.lab.study import Study
from speechunlearn.methods import Outcome

SIZES = {
    "max_seconds": 0.2,
    "recipe": {
        "epochs": 1, "learning_rate": 1e-3, "batch_size": 64, "encoder": tiny_study.ENCODER,
        "fast": True,
    },
    "methods": {"ran_lab": {"epochs": 1, "learning_rate": 1e-3}},
}  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A cache and a finished pool of four models."""
    cache, out = (tmp_path_factory.mktemp(name) for name in ("cache", "pool"))
    study = Study(tiny_study.profile(corpus="embedded", **SIZES), cache=Cache(cache))
    design = pools.design(study, "dev:clips:2 clips:4 speaker:1", 4, spare=6, seed=3)
    pools.begin(study, design, out)
    for k in range(4):
        pools.answer(study, design, k, out)
    return cache, out


@pytest.fixture
def judge(desk):
    cache, folder = desk
    for name in ("tuned.csv", "scored.csv"):
        (folder / name).unlink(missing_ok=True)
    return lambda stage: judged.Judge(folder, "", stage, Cache(cache))


@pytest.fixture(scope="module")
def tuned(desk):
    """What tuning writes, and what it says."""
    cache, folder = desk
    lines: list[str] = []
    judged.tune(judged.Judge(folder, "", "tune", Cache(cache)), "ran_lab", lines.append)
    return (folder / "tuned.csv").read_text(), lines


def said(losses, predictions=(0, 1, 0, 1)):
    """Two clips to forget, and of each other part one of both labels, one of them right."""
    rows = [
        {"split": "forget", "label": label, "prediction": p, "loss": loss}
        for label, p, loss in zip((0, 1), predictions, losses, strict=False)
    ]
    for split in ("retain", "spare", "unseen"):
        rows += [
            {"split": split, "label": 0, "prediction": 0, "loss": 1.0},
            {"split": split, "label": 1, "prediction": 0, "loss": 3.0},
        ]
    return pd.DataFrame(rows)


def test_distances_are_those_by_hand():
    references = [said((2.0, 2.0), (0, 0)), said((2.0, 4.0), (0, 1))]
    row = judged.distances(said((0.5, 3.5), (0, 1)), references, 2)
    # AUC: of the four pairs with losses 1 and 3 of the spare clips, .5 is below both, 3.5 none
    assert row["UAR"] == 1 and row["AUC"] == 0.5 and row["loss"] == 2
    # references: UAR .5 and 1; both of the first lie below 3 alone: AUC .5; of the second one: .25
    assert row["UAR, bar"] == 0.75 and row["AUC, bar"] == 0.375
    # medians by clip: 2 and 3; 3.5 alone is above
    assert row["above"] == 0.5
    assert row["forgetting"] == pytest.approx((0.25 + 0.125 + 0) / 3)
    assert row["retain"] == row["unseen"] == 0.5 and row["utility"] == 0


def test_answers_are_a_sign_a_clip_of_the_unseen_ones():
    table = pd.DataFrame({"split": ["unseen", "retain", "unseen", "unseen"],
                          "prediction": [0, 1, 11, 36]})  # fmt: skip
    assert judged.answers(table) == "0bA"


def test_values_go_on_beyond_an_end_that_wins(judge):
    profile = judge("tune").study.profile
    first = judged.values_to_try("ran_lab", profile, pd.DataFrame())
    assert len(first) == 5
    rows = pd.DataFrame({"value": first, "forgetting": 0.1, "utility": 0.0})
    largest = max(first)
    rows.loc[rows["value"] == largest, "forgetting"] = 0.05
    assert judged.values_to_try("ran_lab", profile, rows) == [pytest.approx(3 * largest, rel=1e-2)]
    rows.loc[rows["value"] == 1e-3, "forgetting"] = 0.01
    assert judged.values_to_try("ran_lab", profile, rows) == []
    many = pd.DataFrame({"value": range(1, 10), "forgetting": range(9), "utility": 0.0})
    assert set(judged.values_to_try("ran_lab", profile, pd.concat([rows, many]))) == set()


def test_a_method_is_tuned_then_scored_once_and_goes_on(tuned, judge, desk):
    text, lines = tuned
    (desk[1] / "tuned.csv").write_text(text)
    rows = pd.read_csv(desk[1] / "tuned.csv")
    assert set(rows["set"]) == {"development clips 2 a"}
    assert (rows.groupby("value").size() == 2).all() and len(lines) == len(rows)
    judged.tune(judge("tune"), "ran_lab", lines.append)
    assert len(lines) == len(rows)  # nothing is done twice

    scoring = judge("score")
    judged.score(scoring, "ran_lab", lines.append)
    scored = pd.read_csv(desk[1] / "scored.csv", dtype={"answers": str})
    design = scoring.pool.design
    assert set(scored["set"]) == {s.name for s in design.sets if not s.development}
    value, _ = judged.choose(rows)
    for row in scored.itertuples():
        assert row.model in scoring.pool.originals(row.set)
        assert json.loads(row.hyperparameters)["learning_rate"] == value
        assert row.references == 2 and 0 <= row.changed <= 1
        table = scoring._predictions(row.model, row.set)
        assert len(row.answers) == (table["split"] == "unseen").sum()
    # what is left out of the file is made again, to the same numbers
    scored.iloc[1:].to_csv(desk[1] / "scored.csv", index=False)
    judged.score(judge("score"), "ran_lab", lines.append)
    again = pd.read_csv(desk[1] / "scored.csv", dtype={"answers": str}).set_index(["set", "model"])
    timed = ["seconds", "commit"]
    pd.testing.assert_frame_equal(
        again.drop(columns=timed).sort_index(),
        scored.set_index(["set", "model"]).drop(columns=timed).sort_index(),
    )


def test_a_method_that_finds_its_hyperparameter_is_told_what_unseen_clips_lose(judge, monkeypatch):
    scoring, requests = judge("score"), []
    assert judged.values_to_try("perturbed", scoring.study.profile, pd.DataFrame()) == []
    assert judged.chosen(scoring.folder, "perturbed") == {}
    monkeypatch.setattr(judged, "methods", SimpleNamespace(
        get=lambda name: SimpleNamespace(
            needs=frozenset({"forget"}), hyperparameter="weight",
            unlearn=lambda model, data, *rest, **others: (
                requests.append(data), Outcome(model)
            )[1],
        ),
        parameters=methods.parameters,
    ))
    for one in scoring.pool.design.sets[1:]:
        k = scoring.pool.originals(one.name)[0]
        scoring.judge("perturbed", {}, one.name, k)
        table = pools.Pool.predictions(scoring.pool, k, one.name)
        unit = scoring.pool.clips.set_index("hash")["split"][table["hash"]].to_numpy()
        mean = table["loss"][(table["split"] == "unseen") & (unit == "test")].mean()
        assert requests[-1].unseen_loss == pytest.approx(mean)
        assert requests[-1].level == (requests[-1].unseen_loss if one.kind == "speaker" else None)
    assert {one.kind for one in scoring.pool.design.sets[1:]} == {"clips", "speaker"}


def test_what_is_whole_is_summed_up_beside_originals_and_references(tuned, judge, desk):
    (desk[1] / "tuned.csv").write_text(tuned[0])
    scoring = judge("score")
    judged.score(scoring, "ran_lab", str)
    found = judged.shown(desk[1], resamples=20)
    scored = judged.read(desk[1] / "scored.csv")
    assert list(found.index) == ["original", "references", "ran_lab"]
    assert (found["requests"] == len(scored)).all()
    assert found.loc["ran_lab", "changed"] == pytest.approx(scored["changed"].mean())
    large = scored[scored["clips"] >= judged.judgement.LEAST]
    for name in ("forgetting", "utility"):
        assert found.loc["ran_lab", name] == pytest.approx(large[name].mean(), abs=1e-5)
    assert found.loc["original", "loss closed"] == 0
    scored.iloc[1:].to_csv(desk[1] / "scored.csv", index=False)
    assert list(judged.shown(desk[1], resamples=20).index) == ["original", "references"]


def test_what_was_scored_with_other_values_is_not_scored_again(tuned, judge, desk):
    (desk[1] / "tuned.csv").write_text(tuned[0])
    judged.score(judge("score"), "ran_lab", str)
    rows = pd.read_csv(desk[1] / "tuned.csv")
    value, _ = judged.choose(rows)
    rows.loc[rows["value"] != value, ["forgetting", "utility"]] = -1.0
    rows.to_csv(desk[1] / "tuned.csv", index=False)
    with pytest.raises(ParameterError, match="was scored on .* development sets now"):
        judged.score(judge("score"), "ran_lab", str)


def test_what_does_not_fit_is_refused_by_name(tuned, judge, desk, monkeypatch):
    with pytest.raises(ParameterError, match="'ran_lab' was not tuned on this pool"):
        judged.score(judge("score"), "ran_lab", str)
    (desk[1] / "tuned.csv").write_text(tuned[0])
    rows = pd.read_csv(desk[1] / "tuned.csv")
    rows.assign(protocol="0123456789ab").to_csv(desk[1] / "tuned.csv", index=False)
    with pytest.raises(ParameterError, match="a row is of protocol '0123456789ab'"):
        judge("tune")
    monkeypatch.setattr(judged.provenance, "protocol_hash", lambda: "ba9876543210")
    with pytest.raises(ParameterError, match="not that of data/protocol.md, 'ba9876543210'"):
        judge("score")


def test_only_the_unseen_units_of_the_stage_count(judge):
    tuning, scoring = judge("tune"), judge("score")
    name = tuning.pool.design.sets[0].name
    parts = {}
    for stage in (tuning, scoring):
        table = stage._predictions(0, name)
        unseen = set(table["hash"][table["split"] == "unseen"])
        units = stage.pool.clips.set_index("hash")["split"][sorted(unseen)].unique()
        assert list(units) == [judged.UNSEEN[stage.stage]]
        parts[stage.stage] = unseen
    assert parts["tune"] and parts["score"] and not parts["tune"] & parts["score"]
    assert np.isfinite(scoring.pool.logits).all()
