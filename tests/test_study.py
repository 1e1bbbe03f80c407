"""A whole study on a tiny corpus: what is made, from what, and what is found again."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import tiny_study

from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.lab import experiments
from speechunlearn.lab import results as protocol
from speechunlearn.lab.forget_sets import DEVELOPMENT, clips
from speechunlearn.lab.results import Results
from speechunlearn.models import training

METHODS = ("original", "retrain", "remain", "remain_superloss", "ran_lab", "adv", "adv_ela")


@pytest.fixture
def study(demos_root, tmp_path):
    return tiny_study.study(demos_root, tmp_path / "cache")


def test_reported_and_development_draws_share_no_clip_and_are_nested(study):
    for forget_id in (0, 1, DEVELOPMENT):
        assert study.hashes(clips(1, forget_id)) == study.hashes(clips(2, forget_id))[:1]
    assert not set(study.hashes(clips(2, 0))) & set(study.hashes(clips(2, DEVELOPMENT)))
    assert study.hashes(clips(2, 0)) != study.hashes(clips(2, 1))


def test_a_retrained_model_has_seen_no_forget_clip(study, monkeypatch):
    seen = []
    real = training.train

    def spy(model, clips, *args, **kwargs):
        seen.append(set(clips.hashes))
        return real(model, clips, *args, **kwargs)

    monkeypatch.setattr(training, "train", spy)
    study.evaluate("retrain", clips(1, 0), 0)
    assert len(seen) == 1
    assert not seen[0] & set(study.hashes(clips(2, 0)))
    assert seen[0] | set(study.hashes(clips(2, 0))) == set(study.train.hashes)


def test_settings_train_on_the_right_speakers(demos_root, tmp_path):
    first = tiny_study.study(demos_root, tmp_path)
    second = tiny_study.study(demos_root, tmp_path, setting="test")
    assert set(first.train.speakers) == {"1", "2"} or set(first.train.speakers) == {"01", "02"}
    assert len(set(second.train.speakers)) == 4
    assert not set(second.train.speakers) & set(second.unseen.speakers)
    assert not set(first.train.speakers) & set(first.unseen.speakers)
    assert set(first.unseen.speakers) < set(second.train.speakers)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_scored_and_recorded_cell(study, method):
    evaluation = study.evaluate(method, clips(2, 0), 0)
    assert evaluation.predictions.groupby("split").size().to_dict() == {
        "forget": 2, "retain": 5, "unseen": 14,
    }
    assert list(
        evaluation.predictions.query("split == 'forget'")["hash"]
    ) == study.hashes(clips(2, 0))
    retained = set(evaluation.predictions.query("split == 'retain'")["hash"])
    assert not retained & set(study.hashes(clips(2, 0)))
    record = evaluation.record
    for column in protocol.KEY:
        assert column in record
    for column in ("corpus_hash", "commit", "lock", "machine", "protocol"):
        assert record[column]
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 1
    assert record["forward_backward"] > 0
    assert json.loads(record["hyperparameters"])["learning_rate"] == 1e-3


def test_the_attack_is_charged_even_where_it_is_found(study):
    first = study.evaluate("adv", clips(2, 0), 0).record
    second = study.evaluate("adv", clips(1, 0), 0).record
    # copies 2, steps 2: 4 passes a clip; 2 epochs over 2 copies a clip, one forget batch a step
    assert first["forward_backward"] == 2 * 4 + 2 * (4 + 2)
    assert second["forward_backward"] == 4 + 2 * (2 + 1)
    with_importance = study.evaluate("adv_ela", clips(2, 0), 0).record
    assert with_importance["forward_backward"] == first["forward_backward"] + 2


def test_finished_work_is_found_by_another_process(demos_root, tmp_path, monkeypatch):
    first = tiny_study.study(demos_root, tmp_path).evaluate("ran_lab", clips(2, 0), 0)

    def refuse(*args, **kwargs):
        raise AssertionError("work was done again")

    monkeypatch.setattr(training, "train", refuse)
    monkeypatch.setattr(training, "predict", refuse)
    second = tiny_study.study(demos_root, tmp_path).evaluate("ran_lab", clips(2, 0), 0)
    pd.testing.assert_frame_equal(first.predictions, second.predictions)
    assert first.record == second.record


def test_other_hyperparameters_seeds_draws_and_data_are_other_cells(study, demos_root, tmp_path):
    base = study.evaluate("ran_lab", clips(2, 0), 0)
    others = [
        study.evaluate("ran_lab", clips(2, 0), 0, learning_rate=2e-3),
        study.evaluate("ran_lab", clips(2, 0), 1),
        study.evaluate("ran_lab", clips(2, 1), 0),
        tiny_study.study(demos_root, tmp_path / "cache", max_seconds=0.2).evaluate(
            "ran_lab", clips(2, 0), 0
        ),
    ]
    for other in others:
        assert not base.predictions["loss"].equals(other.predictions["loss"])
    evaluations = len(list((tmp_path / "cache" / "evaluations").glob("*/made.json")))
    assert evaluations == 5


def test_results_are_written_read_and_scored_against_the_right_reference(study, tmp_path):
    evaluations = [study.evaluate(method, clips(n, 0), 0) for n in (1, 2) for method in METHODS]
    Results.of(evaluations).write(tmp_path / "results")
    Results.of(evaluations[:1]).write(tmp_path / "results")  # again: replaced, not doubled
    results = Results.read(tmp_path / "results")
    assert len(results.evaluations) == len(evaluations)
    rows = results.rows()
    wanted = ["profile", "task", "corpus", "encoder", "method", "n_forget", "tau", "seed",
              "forget_id",
              "split", "metric", "value", "seconds"]
    assert set(wanted) <= set(rows.columns)
    distance = rows[rows["metric"] == "uar_distance"].set_index(["method", "n_forget", "split"])
    uar = rows[rows["metric"] == "uar"].set_index(["method", "n_forget", "split"])
    for n in (1, 2):
        for split in ("forget", "retain", "unseen"):
            expected = abs(
                uar.loc[("adv", n, split), "value"] - uar.loc[("retrain", n, split), "value"]
            )
            assert distance.loc[("adv", n, split), "value"] == pytest.approx(expected)
            assert distance.loc[("retrain", n, split), "value"] == 0


def test_tau_is_chosen_on_the_development_draw(study):
    evaluations = list(experiments.ablation(study))
    results = Results.of(evaluations)
    taus = experiments.chosen_taus(results)
    assert set(taus) == {(m, n) for m in ("adv", "adv_ela") for n in (1, 2)}
    rows = results.rows().query("split == 'unseen' and metric == 'uar' and method == 'adv'")
    best = rows[rows["n_forget"] == 2].sort_values(["value", "tau"], ascending=[False, True])
    assert taus["adv", 2] == best["tau"].iloc[0]
    assert set(results.evaluations["forget_id"]) == {DEVELOPMENT}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau_values": (0.0,)}, "tau_values.0 is 0.0; it should be greater than 0"),
        ({"n_values": (0,)}, "n_values.0 is 0; it should be greater than or equal to 1"),
        ({"encoder": "/nowhere"}, "encoder '/nowhere': no such folder"),
        ({"recipe": {"epochs": 0}}, "epochs: 0"),
        ({"methods": {"adv": {"copys": 3}}}, "method 'adv' has no 'copys'; it has"),
        ({"setting": "both"}, "setting: 'both'"),
    ],
)
def test_bad_values_are_refused_before_a_clip_is_read(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        tiny_study.study(tmp_path / "no corpus here", tmp_path, **values)


def test_more_clips_than_there_are_cannot_be_forgotten(demos_root, tmp_path):
    with pytest.raises(ParameterError, match="n_values: forgetting 7 clips.* the 14 training"):
        _ = tiny_study.study(demos_root, tmp_path, n_values=(7,)).manifest


def test_a_corpus_without_its_test_speakers_is_refused(demos_root, tmp_path):
    for path in (demos_root / "DEMOS").glob("*_49_*"):
        path.unlink()
    for path in (demos_root / "DEMOS").glob("*_42_*"):
        path.unlink()
    with pytest.raises(CorpusError, match=r"has no \['test'\] clips"):
        _ = tiny_study.study(demos_root, tmp_path, setting="test").manifest


SCRIPT = """
import sys, time
from pathlib import Path
tests, root, folder = sys.argv[1:]
sys.path.insert(0, tests)
import forked, tiny_study, torch
from speechunlearn.lab.forget_sets import clips
from speechunlearn.models import classifier
torch.set_num_threads(1)
classifier.build("nano", ["a", "b"], 0, **tiny_study.ENCODER)  # imports what is imported late

def work(name):
    recipe = tiny_study.profile().recipe | {"epochs": 12}
    study = tiny_study.study(root, f"{folder}/{name}", recipe=recipe)
    for method in ("original", "ran_lab", "adv", "adv_ela"):
        predictions = study.evaluate(method, clips(2, 0), 0).predictions
        predictions.to_csv(f"{folder}/{name}-{method}.csv", index=False)

begun = time.perf_counter()
assert forked.status(forked.start(work, "whole")) == 0
seconds = time.perf_counter() - begun
generator = torch.Generator().manual_seed(0)
for _ in range(3):
    moment = float(torch.rand((), generator=generator)) * 0.4 * seconds
    print(forked.killed_after(moment, work, "killed"), flush=True)
assert forked.status(forked.start(work, "killed")) == 0
"""


def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(demos_root, tmp_path):
    """Every attempt is a process of its own, which is killed."""
    tests = os.path.dirname(tiny_study.__file__)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tests, demos_root, tmp_path], capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "True"  # killed at work
    whole, killed = (
        {path.name.removeprefix(name): path.read_bytes() for path in tmp_path.glob(f"{name}-*.csv")}
        for name in ("whole", "killed")
    )
    assert len(whole) == 4 and killed == whole


def test_a_draw_in_parts_forgets_all_of_it_step_by_step(study):
    from speechunlearn.lab import forget_sets
    from speechunlearn.lab.study import together

    whole = forget_sets.clips(2, 0)
    steps = forget_sets.in_steps(whole, 2)
    assert together(steps) == whole
    made = study.evaluate("ran_lab", steps, 0)
    assert made.record["n_forget"] == 2 and made.record["forget_id"] == "0"
    request = study.unlearning_data(tuple(steps), 0, frozenset())
    assert request.forget.hashes == study.hashes(whole)[1:]
    assert request.retain is not None
    assert not set(request.retain.hashes) & set(study.hashes(whole))
    assert not made.predictions["loss"].equals(
        study.evaluate("ran_lab", whole, 0).predictions["loss"]
    )
    with pytest.raises(ParameterError, match="do not follow"):
        together(steps[::-1])
    tuning = forget_sets.clips(2, DEVELOPMENT)
    parts = [study.hashes(part) for part in forget_sets.in_steps(tuning, 2)]
    assert [len(part) for part in parts] == [1, 1] and sum(parts, []) == study.hashes(tuning)
