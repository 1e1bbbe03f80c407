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


@pytest.fixture(scope="module")
def scores(tuned, desk):
    """What scoring writes."""
    cache, folder = desk
    (folder / "tuned.csv").write_text(tuned[0])
    (folder / "scored.csv").unlink(missing_ok=True)
    judged.score(judged.Judge(folder, "", "score", Cache(cache)), "ran_lab", str)
    return (folder / "scored.csv").read_text()


@pytest.fixture
def scored(tuned, scores, desk):
    """A folder with trials and scores, and the scores."""
    (desk[1] / "tuned.csv").write_text(tuned[0])
    (desk[1] / "scored.csv").write_text(scores)
    return desk[1], judged.read(desk[1] / "scored.csv")


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
    first = judged.values_to_try("ran_lab", profile, pd.DataFrame(), 1)
    assert len(first) == 5
    rows = pd.DataFrame({"value": first, "forgetting": 0.1, "utility": 0.0})
    largest = max(first)
    rows.loc[rows["value"] == largest, "forgetting"] = 0.05
    further = judged.values_to_try("ran_lab", profile, rows, 1)
    assert further == [pytest.approx(3 * largest, rel=1e-2)]
    rows.loc[rows["value"] == 1e-3, "forgetting"] = 0.01
    assert judged.values_to_try("ran_lab", profile, rows, 1) == []
    # a value that was tried on one of two requests is to be finished
    twice = pd.concat([rows, rows[rows["value"] != 1e-3]])
    assert judged.values_to_try("ran_lab", profile, twice, 2) == [1e-3]
    many = pd.DataFrame({"value": range(1, 10), "forgetting": range(9), "utility": 0.0})
    assert judged.values_to_try("ran_lab", profile, pd.concat([rows, many]), 1) == []


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
    assert judged.values_to_try("perturbed", scoring.study.profile, pd.DataFrame(), 4) == []
    assert judged.chosen(scoring.folder, "perturbed") == {}
    monkeypatch.setattr(judged, "methods", SimpleNamespace(
        get=lambda name: SimpleNamespace(
            needs=frozenset({"forget"}), hyperparameter="weight", finds=lambda parameters: True,
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


def test_what_was_guessed_of_a_set_is_told_beside_what_it_was(judge, scored):
    """The original's loss is the pool's, a speaker's level what it loses on unseen clips."""
    folder, rows = scored
    rows.assign(method="perturbed").to_csv(folder / "scored.csv", index=False)
    scoring = judge("score")
    table = judged.levels(scoring)
    rows = judged.read(folder / "scored.csv")
    assert table["reached"].tolist() == rows["loss"].tolist()
    for row in table.itertuples():
        said = scoring.pool.predictions(row.model, row.set)
        loss = said["loss"][said["split"] == "forget"].mean()
        assert row.original == pytest.approx(loss, abs=1e-5)
        assert row.unseen == pytest.approx(scoring.unseen_loss(row.model, row.set), abs=1e-5)
        assert (row.level == row.unseen) == row.set.startswith("speaker")


def test_what_is_whole_is_summed_up_beside_originals_and_references(scored):
    folder, rows = scored
    found = judged.shown(folder, resamples=20)
    assert list(found.index) == ["original", "references", "ran_lab"]
    assert (found["requests"] == len(rows)).all()
    assert found.loc["ran_lab", "changed"] == pytest.approx(rows["changed"].mean())
    large = rows[rows["clips"] >= judged.judgement.LEAST]
    for name in ("forgetting", "utility"):
        assert found.loc["ran_lab", name] == pytest.approx(large[name].mean(), abs=1e-5)
    assert found.loc["original", "loss closed"] == 0
    # alone, it is the best; unless no value of it is closer than the original
    compared = ["forgetting, best", "utility, MCS p", "front"]
    trials = judged.read(folder / "tuned.csv")
    trials.assign(forgetting=1.0).to_csv(folder / "tuned.csv", index=False)
    useless = judged.shown(folder, resamples=2)
    assert useless.loc["ran_lab", "useful"] is False and "front" not in useless
    trials.assign(forgetting=0.0, utility=0.0).to_csv(folder / "tuned.csv", index=False)
    assert (judged.shown(folder, resamples=2).loc["ran_lab", compared] == 1).all()
    rows.iloc[1:].to_csv(folder / "scored.csv", index=False)
    assert list(judged.shown(folder, resamples=20).index) == ["original", "references"]


def test_methods_with_an_attack_are_scored_on_eight_sets_of_the_pool():
    design = pools.Pool.read(pools.FOLDER / "cpu-ravdess-nano-pretrained").design
    sizes = ("1 a", "5 a", "10 a", "16 a", "30 a", "100 a", "100 b")
    *clips, speaker = judged.few_of(design)
    assert clips == [f"clips {size}" for size in sizes] and speaker.startswith("speaker")
    assert [name for name in ("adv", "adv_ela", "l2ul", "amun", "ran_lab", "perturbed")
            if judged.makes_copies(name)] == ["adv", "adv_ela", "l2ul"]  # fmt: skip


def test_the_few_sets_are_shown_by_themselves(scored, monkeypatch):
    folder, rows = scored
    names = [one.name for one in pools.Pool.read(folder).design.sets if not one.development]
    monkeypatch.setattr(judged, "few_of", lambda design: names[-1:])
    begun = rows[rows["set"] == names[-1]].assign(method="adv")
    pd.concat([rows, begun]).to_csv(folder / "scored.csv", index=False)
    assert "adv" not in judged.shown(folder, resamples=2).index
    few = judged.shown(folder, resamples=2, few=True)
    assert list(few.index) == ["original", "references", "ran_lab", "adv"]
    assert (few["requests"] == len(begun)).all()
    asked = judged.Judge(folder, "", "score", Cache(folder)).requests
    assert {name for name, _ in asked(8, few=True)} == {names[-1]} < {name for name, _ in asked(8)}


def test_requests_are_told_as_those_of_the_benchmark_are(scored):
    folder, rows = scored
    table = judged.requests_of(folder, "ran_lab")
    unlearned = table[table["who"] == "unlearned"]
    assert sorted(unlearned["loss"].round(5)) == sorted(rows["loss"].round(5))
    assert (table.groupby("request")["who"].count() == 2 + 2).all()  # two references of four models
    pool = pools.Pool.read(folder)
    for row in table[table["who"] == "original"].itertuples():
        said = pool.predictions(row.model, row.set)
        assert row.loss == pytest.approx(said["loss"][said["split"] == "forget"].mean())
    # a kind of which a request is missing is not told
    gone = rows["set"] == rows["set"].iloc[0]
    rows[~gone].to_csv(folder / "scored.csv", index=False)
    assert set(judged.requests_of(folder, "ran_lab")["set"]) == set(rows["set"][~gone])
    assert judged.requests_of(folder, "delete").empty


def test_what_was_scored_with_other_values_is_not_scored_again(judge, scored):
    folder, _ = scored
    rows = pd.read_csv(folder / "tuned.csv")
    value, _ = judged.choose(rows)
    rows.loc[rows["value"] != value, ["forgetting", "utility"]] = -1.0
    rows.to_csv(folder / "tuned.csv", index=False)
    with pytest.raises(ParameterError, match="was scored on .* development sets now"):
        judged.score(judge("score"), "ran_lab", str)


def test_what_does_not_fit_is_refused_by_name(tuned, judge, desk, monkeypatch):
    with pytest.raises(ParameterError, match="'ran_lab' was not tuned on this pool"):
        judged.score(judge("score"), "ran_lab", str)
    (desk[1] / "tuned.csv").write_text(tuned[0])
    rows = pd.read_csv(desk[1] / "tuned.csv")
    rows.assign(protocol="0123456789ab").to_csv(desk[1] / "tuned.csv", index=False)
    with pytest.raises(ParameterError, match="model [0-3], is of protocol '0123456789ab', not"):
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


def first(rows, **values):
    """Return rows, the first with other values."""
    rows = rows.astype(object)
    for name, value in values.items():
        rows.loc[0, name] = value
    return rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda rows: first(rows, protocol="0123456789ab"), "is of protocol '0123456789ab', not"),
        (lambda rows: first(rows, clips=7), "has 7 clips and 2 references, the set 4 and 2"),
        (lambda rows: first(rows, references=1), "has 4 clips and 1 references, the set 4 and 2"),
        (lambda rows: first(rows[::-1].reset_index(drop=True), hyperparameters='{"epochs": 9}'),
         "has other hyperparameters than the method's first row: {'batch"),
        (lambda rows: pd.concat([rows, rows.tail(1)]), "is there twice: the set was looked at"),
        (lambda rows: first(rows, set="development clips 2 a"), "what was looked at before is not"),
        (lambda rows: first(rows, model=min({0, 1, 2, 3} - set(rows["model"][:2]))),
         "is of a model that did not hear the set"),
    ],
)  # fmt: skip
def test_a_row_that_makes_no_table_is_refused_by_name(scored, bad, reason):
    folder, rows = scored
    bad(rows).to_csv(folder / "scored.csv", index=False)
    with pytest.raises(ParameterError) as caught:
        judged.shown(folder, resamples=2)
    assert reason in str(caught.value)
    assert "scored.csv: the row of 'ran_lab' on '" in str(caught.value)


def test_curves_are_means_over_the_requests_of_each_value(judge, scored):
    folder, _ = scored
    trials = judged.read(folder / "tuned.csv")
    trials.iloc[1:].to_csv(folder / "tuned.csv", index=False)  # the first value is not whole
    curves = judged.curves(folder)
    value = trials["value"][0]
    assert list(curves["method"][:2]) == ["original", "references"]
    assert set(curves["value"][2:]) == set(trials["value"]) - {value}
    by_value = trials.groupby("value")[["UAR", "unseen", "forgetting", "utility"]].mean()
    for row in curves[2:].itertuples():
        expected = by_value.loc[row.value].tolist()
        assert [row.UAR, row.unseen, row.forgetting, row.utility] == pytest.approx(expected)
    bars = trials.groupby("model")[["UAR, bar", "unseen, bar"]].first().mean()
    assert curves.loc[1, ["UAR", "unseen"]].tolist() == pytest.approx(bars.tolist(), abs=1e-5)
    (folder / "tuned.csv").unlink()
    assert list(judged.curves(folder)["method"]) == ["original", "references"]
    pool = judged.Pool.read(folder)
    name = next(one.name for one in pool.design.sets if one.development)
    units = pool.clips.set_index("hash")["split"]
    originals = [
        judged.all_scores(judged.only_of("tune", pool.predictions(k, name), units), tuning.n_labels)
        for tuning in [judge("tune")] for k in pool.originals(name)
    ]
    for score in ("UAR", "unseen"):
        mean = np.mean([scores[score] for scores in originals])
        assert curves.loc[0, score] == pytest.approx(mean)


def test_a_method_whose_best_trial_is_no_better_than_the_original_is_not_useful():
    table = pd.DataFrame(
        [("original", None, 1.0, 0.5, 0.4, 0.02), ("references", None, 0.6, 0.55, 0.0, 0.0),
         ("good", 1, 0.8, 0.5, 0.3, 0.1), ("good", 2, 0.4, 0.3, 0.1, 0.3),
         ("bad", 1, 1.0, 0.4, 0.4, 0.1), ("bad", 2, 0.9, 0.3, 0.35, 0.1)],
        columns=["method", "value", "UAR", "unseen", "forgetting", "utility"],
    )  # fmt: skip
    tried = judged.tried(table)
    assert tried["trial"][["original", "good", "bad"]].tolist() == pytest.approx([0.42, 0.4, 0.45])
    assert tried["useful"].tolist() == [None, None, True, False]
    equal = tried["unseen, equal"]
    assert equal["good"] == pytest.approx(0.4) and equal["references"] == 0.55
    assert np.isnan(equal[["original", "bad"]].astype(float)).all()


def test_unseen_uar_at_equal_forgetting_is_the_largest_that_the_curve_passes():
    curve = pd.DataFrame({"value": [1, 2, 3, 4], "UAR": [1, 0.5, 0.5, 1.0],
                          "unseen": [0.5, 0.3, 0.4, 0.2]})  # fmt: skip
    assert judged.at_equal_forgetting(curve, 0.75) == pytest.approx(0.4)  # and .3 on the way back
    assert judged.at_equal_forgetting(curve, 0.5) == pytest.approx(0.4)
    assert np.isnan(judged.at_equal_forgetting(curve.head(1), 0.9))


def test_trials_on_a_reported_set_are_refused_by_name(scored):
    folder, rows = scored
    trials = judged.read(folder / "tuned.csv")
    first(trials, set=rows["set"][0]).to_csv(folder / "tuned.csv", index=False)
    with pytest.raises(ParameterError, match=r"tuned\.csv: .* 'clips 4 a', model \d, is on no set"):
        judged.shown(folder, resamples=2)
    first(trials, hyperparameters=trials["hyperparameters"][0].replace("train", "eval")).to_csv(
        folder / "tuned.csv", index=False
    )
    with pytest.raises(ParameterError, match=r"tuned\.csv: .* has other hyperparameters than"):
        judged.shown(folder, resamples=2)


def test_a_reference_that_heard_its_set_makes_no_table(scored, tmp_path):
    for file in scored[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    pool = judged.Pool.read(tmp_path)
    k = pool.references("clips 4 a")[0]
    stored = dict(np.load(tmp_path / f"model-{k:02d}.npz"))
    stored["heard"][np.flatnonzero(pool.clips["part"] == "clips 4 a")[0]] = True
    np.savez_compressed(tmp_path / f"model-{k:02d}.npz", **stored)
    with pytest.raises(ParameterError, match=f"model-0{k}.npz heard a clip of 'clips 4 a'"):
        judged.shown(tmp_path, resamples=2)
