"""The leaderboard: ranks, intervals and tests."""

import chapter_cells
import numpy as np
import pandas as pd
import pytest
from answers import N_LABELS, answers, evaluation

from speechunlearn.audit import scoring
from speechunlearn.chapters import pages
from speechunlearn.errors import ParameterError
from speechunlearn.lab import leaderboard
from speechunlearn.lab.results import ANOTHER_SEED, COMPONENT, IN_SEQUENCE, Results

#: how much of the forget set each model remembers
STRENGTHS = {"original": 3.0, "delete": 0.2, "ran_lab": -3.0, "jit": 3.0, "finetune": 1.0}


def evaluations(n_runs=3, n_retrained=4):
    for run in range(n_runs):
        about = {"forget_id": str(run)}
        for method, forget in STRENGTHS.items():
            yield evaluation(
                method, answers(100 * run, forget=forget, forget_id=run), seed=run, **about
            )
        for seed in range(n_retrained):
            about |= {"seed": seed, "variant": "" if seed == run else ANOTHER_SEED}
            own = 100 * run + 50 + seed
            yield evaluation("retrain", answers(own, forget_id=run), **about)
            if seed != run:
                yield evaluation("original", answers(own + 25, forget=3, forget_id=run), **about)


def results(n_runs=3, n_retrained=4):
    return Results.of(evaluations(n_runs, n_retrained))


@pytest.fixture(scope="module")
def made():
    own = results(n_runs=2)
    scores = leaderboard.scored(own)
    table = leaderboard.ranking(
        own, scores, n_resamples=200, generator=np.random.default_rng(0)
    )
    return own, scores, table.set_index("method")


def test_those_closest_to_retraining_come_first(made):
    table = made[2]
    assert set(table.index[:2]) == {"retrain", "delete"}
    assert table.index[-1] == "ran_lab"
    assert table.loc["original", "gap"] == pytest.approx(table.loc["jit", "gap"], abs=1e-12)


def test_the_gap_on_the_clips_as_they_are_is_that_of_the_scores(made):
    own, _, table = made
    gaps = []
    for run in leaderboard.runs(own).values():
        theirs = [scoring.scores(t, N_LABELS) for t in run.retrained]
        ours = scoring.scores(run.judged["finetune"], N_LABELS)
        keys = [("forget", "uar"), ("retain", "uar"), ("unseen", "uar"), ("forget", "mia_auc")]
        gaps.append(np.mean([abs(ours[k] - np.mean([t[k] for t in theirs])) for k in keys]))
    assert table.loc["finetune", "gap"] == pytest.approx(np.mean(gaps), abs=1e-12)
    for name in ("gap", "forgetting", "utility"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()


def test_the_gap_has_two_halves_and_is_that_of_the_card(made):
    _, scores, table = made
    np.testing.assert_allclose(
        table["gap"], (table["forgetting"] + table["utility"]) / 2, atol=1e-12
    )
    means = scores.groupby(["method", "score"])["value"].mean().unstack()
    for name, score in (
        ("gap", "average_gap"), ("forgetting", "forgetting_distance"),
        ("utility", "utility_distance"),
    ):
        np.testing.assert_allclose(table[name], means.loc[table.index, score], atol=1e-12)
    # nothing was done to the original: what it has not forgotten is its gap
    assert table.loc["original", "forgetting"] > 5 * table.loc["original", "utility"]


def test_answers_changed_and_rows_under_two_names(made):
    own, _, table = made
    by_hand = []
    for run in leaderboard.runs(own).values():
        before, after = run.judged["original"], run.judged["delete"]
        both = before.merge(after, on=["split", "hash"])
        by_hand.append((both["prediction_x"] != both["prediction_y"]).mean())
    assert table.loc["delete", "changed"] == pytest.approx(np.mean(by_hand))
    assert table.loc["original", "changed"] == 0 == table.loc["jit", "changed"]
    # the made-up JiT is the original; a loss that is another in one clip makes a row of its own
    assert table.loc["jit", "same_as"] == "original"
    assert set(table["same_as"].drop("jit")) == {""}
    runs = [c for c in evaluations(n_runs=1)]
    next(c for c in runs if c.record["method"] == "jit").predictions.loc[7, "loss"] += 1e-12
    other = Results.of(runs)
    assert set(
        leaderboard.ranking(
            other, leaderboard.scored(other), n_resamples=100, generator=np.random.default_rng(0)
        )["same_as"]
    ) == {""}
    assert (table["runs"] == 2).all() and (table["clips"] == 2 * 240).all()


def test_only_methods_on_the_forget_set_alone_are_tested_against_the_best_of_them(made):
    table = made[2]
    assert set(table.index[table["forget_only"]]) == {"delete", "ran_lab", "jit"}
    assert np.isnan(table.loc["delete", "p"]) and np.isnan(table.loc["finetune", "p"])
    assert table.loc["ran_lab", "p"] <= 0.05
    # Holm: two comparisons, each with at least 2 / (200 + 1)
    assert table.loc[["ran_lab", "jit"], "p"].min() >= 2 * 2 / 201 - 1e-12


def test_models_that_are_alike_are_not_told_apart():
    gaps = {"delete": np.ones(201), "jit": np.ones(201)}
    table = pd.DataFrame({"method": ["delete", "jit"], "forget_only": True})
    assert leaderboard._against_the_best(table, gaps)[1] == 1.0


def test_the_audit_passes_retrained_models_and_not_the_original(made):
    _, scores, table = made
    assert table.loc["original", "cards_passed"] == 0 == table.loc["ran_lab", "cards_passed"]
    assert table.loc["retrain", "cards_passed"] >= 4
    # four retrained models a pair, each left out once: of theirs, and of every method's
    assert (table["cards"] == 2 * 4).all()
    assert {"seed", "forget_id", "method", "score", "value", "passed"} <= set(scores)


def test_cards_are_of_the_requests_with_three_retrained_models():
    own = Results.of([*evaluations(n_runs=1), evaluation("delete", answers(0), n_forget=7)])
    found = leaderboard.cards(own)
    assert set(found["forget_set"]) == {"60 clips"}
    assert set(found["score"]) == set(leaderboard.FIRST)
    passed = found.groupby(["method", "model"])["passed"].all()
    assert len(passed["retrain"]) == 4 and passed["retrain"].all()
    assert not passed["original"].any() and not passed["ran_lab"].any()
    shown = pages.cards(own)
    assert shown.index.get_level_values("method")[0] == "Original"
    assert list(shown["passed"]).count("passes") == passed.sum()
    with pytest.raises(ParameterError, match="no forget set has three retrained models"):
        leaderboard.cards(results(n_runs=1, n_retrained=2))


def test_what_is_kept_is_a_share_of_the_originals(made):
    own, _, table = made
    uar = own.select(variant="").rows().query("split == 'unseen' and metric == 'uar'")
    means = uar.groupby("method")["value"].mean()
    assert table.loc["delete", "relative_utility"] == pytest.approx(
        means["delete"] / means["original"]
    )


def test_a_method_that_brings_its_own_original_is_set_beside_that(made):
    plain = made[2]
    wrong = answers(0, forget=6.0, forget_id=0)
    wrong.loc[wrong["split"] == "unseen", "prediction"] = 0
    brought = evaluation("original", wrong, variant=f"{leaderboard.BEFORE}delete")
    own = Results.of([*evaluations(n_runs=1), brought])
    kept = leaderboard.ranking(
        own, leaderboard.scored(own), n_resamples=100, generator=np.random.default_rng(0)
    ).set_index("method")["relative_utility"]
    run = leaderboard.runs(own)[0, "0"]
    share = run.unseen_before("jit", N_LABELS) / run.unseen_before(
        "delete", N_LABELS
    )
    assert share > 2 and kept["original"] == 1
    scores = own.select(variant="").rows().query("split == 'unseen' and metric == 'uar'")
    values = scores.set_index("method")["value"]
    assert kept["delete"] == pytest.approx(values["delete"] / values["original"] * share)
    assert kept["jit"] == pytest.approx(values["jit"] / values["original"])
    assert set(plain.index) == set(kept.index)  # what is brought has no row of its own


def test_a_changed_part_stands_beside_the_whole():
    extra = [
        evaluation("perturbed", answers(100 * run, forget=forget, forget_id=run), seed=run,
            forget_id=str(run),
             variant=variant)
        for run in range(2)
        for variant, forget in (("", 0.0), (f"{COMPONENT}not held", -3.0))
    ]
    both = Results.of([*evaluations(n_runs=2), *extra])
    table = leaderboard.component_ablation(both)
    assert list(table.index) == ["nothing", "not held"]
    assert table.loc["not held", "gap"] > 3 * table.loc["nothing", "gap"]
    assert table.loc["not held", "cards_passed"] == 0 < table.loc["nothing", "cards_passed"]
    assert (table["cards"] == 8).all()
    ranked = leaderboard.ranking(
        both, leaderboard.scored(both), n_resamples=100, generator=np.random.default_rng(0)
    ).set_index("method")
    names = ["gap", "forgetting", "utility", "cards_passed", "forget_uar"]
    np.testing.assert_allclose(
        table.loc["nothing", names].astype(float), ranked.loc["perturbed", names].astype(float)
    )
    assert table.loc["nothing", "relative_utility"] == pytest.approx(1.0)


def test_requests_in_several_stand_beside_the_one_at_once():
    extra = [
        evaluation("delete", answers(100 * run, forget=forget, forget_id=run), seed=run,
            forget_id=str(run),
             variant=variant)
        for run in range(2)
        for variant, forget in ((IN_SEQUENCE, -3.0), (f"{IN_SEQUENCE}, loose", -6.0))
    ]
    table = leaderboard.sequential(Results.of([*evaluations(n_runs=2), *extra]))
    assert list(table.index) == [
        "DELETE, at once", "DELETE, in 5 sequential requests",
        "DELETE, in 5 sequential requests, loose"
    ]
    assert table["forget_uar"].is_monotonic_decreasing and table["forget_uar"].is_unique
    assert table["cards_passed"].tolist()[1:] == [0, 0]


def test_what_is_written_comes_back(tmp_path, monkeypatch):
    own = results(n_runs=1, n_retrained=2)
    folder = tmp_path / "cpu-somewhere"
    own.write(folder)
    scores = leaderboard.write_tables(folder)
    monkeypatch.setattr(leaderboard, "FOLDER", tmp_path)
    with pytest.raises(ParameterError, match="no results in .*cpu-nowhere"):
        leaderboard.committed("cpu-nowhere")
    found = leaderboard.committed("cpu-somewhere")
    assert found is not None and len(found.results.evaluations) == len(own.evaluations)
    np.testing.assert_allclose(found.scores["value"], scores["value"], atol=1e-6)
    ranked = leaderboard.ranking(own, scores, generator=np.random.default_rng(0))
    assert list(found.ranking["method"]) == list(ranked["method"])
    assert list(found.ranking["needs"]) == list(ranked["needs"])
    np.testing.assert_allclose(
        found.ranking[["gap", "gap_low", "relative_utility", "p"]],
        ranked[["gap", "gap_low", "relative_utility", "p"]],
        atol=1e-6,
    )
    assert found.component_ablation is None and found.sequential is None
    once = pd.read_parquet(folder / "predictions.parquet")
    before = {path: path.read_bytes() for path in folder.glob("*.csv")}
    (folder / "ranking.csv").unlink()
    leaderboard.write_tables(folder)
    assert before == {path: path.read_bytes() for path in folder.glob("*.csv")}
    # of two retrained models none can be judged by the others: no cards are counted
    assert (found.ranking["cards"] == 0).all()
    assert set(once.select_dtypes("number").dtypes.astype(str)) == {"float32", "int16"}


def test_a_committed_leaderboard_is_shown(tmp_path, monkeypatch):
    extra = [
        evaluation("perturbed", answers(0, forget=forget, forget_id=0), variant=variant)
        for variant, forget in (("", 0.0), (f"{COMPONENT}not held", -3.0))
    ]
    own = Results.of([*evaluations(n_runs=1), *extra])
    own.write(tmp_path / "cpu-somewhere")
    leaderboard.write_tables(tmp_path / "cpu-somewhere")
    monkeypatch.setattr(leaderboard, "FOLDER", tmp_path)
    shown = []
    monkeypatch.setattr(pages, "display", lambda *things: shown.extend(things))
    chapter: dict = {}
    chapter_cells.execute(
        chapter_cells.with_text("10_leaderboard", "def show_committed("), chapter
    )
    chapter["display"] = pages.display
    forget_only = chapter["show_committed"]("cpu-somewhere")
    assert set(forget_only.index) == {"perturbed", "delete", "jit (= original)", "ran_lab"}
    chapter["show_committed_changes"]("cpu-somewhere")
    (parts,) = (table for table in shown if isinstance(table, pd.DataFrame))
    assert list(parts.index) == ["nothing", "not held"]
    text = " ".join(thing.data for thing in shown if hasattr(thing, "data"))
    assert "<svg" in text and "Fine-tune: forgetting distance" in text
    assert "made up" in text and "run 10 --profile cpu --corpus digits" in text
    assert leaderboard.REDESIGNED in text and "n = 1 runs" in text
    scores = leaderboard.committed("cpu-somewhere").scores.query("method == 'original'")
    assert "fails" in set(pages.card(scores)[""])


def test_a_request_without_a_second_retrained_model_is_refused():
    with pytest.raises(ParameterError, match="needs two"):
        leaderboard.runs(results(n_runs=1, n_retrained=1))
