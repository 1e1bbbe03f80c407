"""Tuning: as many trials for each method, on clips that no table reports."""

import json

import pytest
from answers import answers, evaluation

from speechunlearn import methods
from speechunlearn.cache import Cache
from speechunlearn.chapters import context
from speechunlearn.errors import ParameterError
from speechunlearn.lab import experiments, profiles, tuning
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.results import Results
from speechunlearn.lab.study import Study


def test_candidates_by_hand():
    assert tuning.candidates("delete", {"learning_rate": 3e-5}, 5) == [
        {"learning_rate": rate} for rate in (3e-5, 1e-5, 9e-5, 3.33e-6, 2.7e-4)
    ]
    assert tuning.candidates("eu_k", {}, 3) == [{"k": 1}, {"k": 2}, {"k": 3}]
    assert tuning.candidates("sisa", {}, 5) == [{}]


@pytest.mark.parametrize("method", [name for name in methods.METHODS if name != "retrain"])
@pytest.mark.parametrize("n_trials", [1, 5])
def test_every_method_gets_as_many_different_trials(method, n_trials):
    values = profiles.get("cpu").for_task("keyword").methods.get(method, {})
    tried = tuning.candidates(method, values, n_trials)
    assert len({json.dumps(t) for t in tried}) == (
        n_trials if methods.get(method).hyperparameter else 1
    )
    for overrides in tried:
        methods.parameters(method, **{**values, **overrides})


@pytest.mark.parametrize("n_trials", [0, 6])
def test_a_number_of_trials_out_of_range_is_refused(n_trials):
    with pytest.raises(ParameterError, match=f"trials: {n_trials}"):
        tuning.candidates("delete", {}, n_trials)


def trial_cells():
    """Random labels at three hyperparameters, of which the middle one is as the retrained model."""
    yield evaluation("retrain", answers(0), forget_id=DEVELOPMENT, variant=tuning.TRIAL)
    for rate, forget in ((1e-3, -3.0), (1e-4, 0.0), (1e-5, 3.0)):
        variant = f"{tuning.TRIAL} {json.dumps({'learning_rate': rate})}"
        yield evaluation(
            "ran_lab", answers(0, forget=forget), forget_id=DEVELOPMENT, variant=variant
        )


def trial_results():
    return Results.of(trial_cells())


def test_the_trial_closest_to_retraining_is_chosen():
    table = tuning.trial_table(trial_results())
    assert list(table["chosen"]) == [False, True, False]
    assert table["gap"].iloc[1] == 0 and (table["gap"].iloc[[0, 2]] > 0.05).all()
    assert tuning.tuned(table) == {"ran_lab": {"learning_rate": 1e-4}}
    assert set(table["unseen_clips"]) == {120}


def test_without_the_retrained_model_nothing_is_chosen():
    results = trial_results().select(method="ran_lab")
    with pytest.raises(ParameterError, match="no trials of the retrained model"):
        tuning.trial_table(results)


def test_frozen_trials_come_back_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    assert tuning.frozen("cpu", "ravdess") is None
    table = tuning.trial_table(trial_results())
    file = tuning.path("cpu", "ravdess")
    tuning.freeze(table, file)
    tuning.freeze(table.assign(method="delete"), file)
    found = tuning.frozen("cpu", "ravdess")
    assert set(found["method"]) == {"ran_lab", "delete"} and len(found) == 6
    assert tuning.tuned(found)["delete"] == {"learning_rate": 1e-4}
    assert tuning.path("cpu", "ravdess", "emotion") == file
    assert tuning.path("cpu", "arabic_speech_commands", "speaker") != tuning.path(
        "cpu", "arabic_speech_commands"
    )


def test_a_file_that_chooses_no_trial_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    table = tuning.trial_table(trial_results()).assign(chosen=False)
    tuning.freeze(table, tuning.path("cpu", "ravdess"))
    with pytest.raises(ParameterError, match="ran_lab"):
        tuning.frozen("cpu", "ravdess")


@pytest.fixture
def study(tmp_path):
    profile = profiles.get("smoke").for_task("keyword").with_values(recipe={"epochs": 1})
    return lambda **values: Study(profile.with_values(**values), cache=Cache(tmp_path))


def test_trials_see_no_clip_that_is_reported(study):
    spare, reported = study(spare=True), study()
    trial = experiments.ranked_forget_set(spare, DEVELOPMENT)
    tuned_on = spare.scored_hashes(trial)
    seen = set(tuned_on["forget"]) | set(tuned_on["unseen"])
    for forget_id in range(3):
        parts = reported.scored_hashes(experiments.ranked_forget_set(reported, forget_id))
        assert seen.isdisjoint(parts["forget"]) and seen.isdisjoint(parts["unseen"])
    assert tuned_on["unseen"] and set(tuned_on["unseen"]).isdisjoint(spare.train_manifest["hash"])


def test_trials_on_reported_clips_are_refused(study):
    with pytest.raises(ParameterError, match="spare"):
        next(experiments.trials(study(), ["delete"]))


def test_a_setting_without_spare_clips_is_refused(tmp_path):
    profile = profiles.get("smoke").with_values(spare=True)
    with pytest.raises(ParameterError, match="spare"):
        Study(profile, setting="test", cache=Cache(tmp_path))


def test_a_share_and_a_number_of_clips_are_sizes(study):
    own = study(ranked_size=0.05)
    n = round(0.05 * len(own.train_manifest))
    assert experiments.ranked_forget_set(own, 0).n == n
    assert experiments.ranked_forget_set(study(ranked_size=7.0), 0).n == 7
    with pytest.raises(ParameterError, match="ranked_size is 0.0; it should be greater than 0"):
        study(ranked_size=0.0)
    for size in (0.6, 1000.0):
        with pytest.raises(ParameterError, match=f"size: {size:g}"):
            experiments.ranked_forget_set(study(ranked_size=size), 0)


def test_what_cannot_be_tuned_or_ranked_is_refused_before_training(study, monkeypatch):
    monkeypatch.setattr(Study, "evaluate", lambda *given, **values: pytest.fail("a model was made"))
    with pytest.raises(ParameterError, match="trials: 9"):
        next(experiments.trials(study(spare=True, trials=9), ["delete"]))
    with pytest.raises(ParameterError, match="references: 1"):
        next(experiments.ranked(study(references=1), ["delete"], {}))
    with pytest.raises(ParameterError, match="method: 'magic'"):
        tuning.names(["magic"])
    with pytest.raises(ParameterError, match="'retrain'"):
        tuning.names(["retrain"])


def test_trials_are_made_once_and_kept_apart(tmp_path, monkeypatch):
    run = context.start("smoke", task="keyword", ranked=["ran_lab"], results=str(tmp_path / "out"))
    made = []

    def trials(study, chosen):
        assert study.profile.spare and list(chosen) == ["ran_lab"]
        made.append(chosen)
        yield from trial_cells()

    monkeypatch.setattr(experiments, "trials", trials)
    assert run.tuned_hyperparameters() == {"ran_lab": {"learning_rate": 1e-4}}
    # the main tables have none of them
    assert not list((tmp_path / "out").glob("*/evaluations.csv"))
    assert (tmp_path / "out" / "trials" / "cpu-digits-keyword" / "evaluations.csv").is_file()
    # once frozen, they are not made again
    file = tmp_path / "out" / "tuning" / tuning.path("smoke", run.corpus, "keyword").name
    monkeypatch.setattr(tuning, "FOLDER", file.parent)
    assert run.tuned_hyperparameters() == {"ran_lab": {"learning_rate": 1e-4}} and len(made) == 1
