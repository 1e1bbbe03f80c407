"""Whole classes, speakers and sequences of requests, on every task, through a tiny study."""

import dataclasses

import numpy as np
import pytest
import tiny_study

from speechunlearn import methods
from speechunlearn.cache import Cache
from speechunlearn.chapters import pages
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.lab import experiments, forget_sets
from speechunlearn.lab import results as protocol
from speechunlearn.lab.results import ANOTHER_SEED, Results
from speechunlearn.lab.study import Study
from speechunlearn.models import training

_SMALL = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "copies": 1, "steps": 1}
METHODS = {
    name: {
        field.name: _SMALL[field.name]
        for field in dataclasses.fields(method.parameters)
        if field.name in _SMALL
    }
    for name, method in methods.METHODS.items()
}


def study(root, tmp_path, task="keyword", **values):
    values = {
        "corpus": "speech_commands", "task": task, "methods": METHODS, "n_values": (2, 4),
        "splits": {"train": 0.5, "validation": 0.25, "test": 0.25}, "removals": 1,
        "sequence_length": 2,
        "retrained_seeds": 3, "runs": ((0, 0),),
    } | values  # fmt: skip
    return Study(tiny_study.profile(**values), None, root, cache=Cache(tmp_path / "cache"))


@pytest.fixture
def spoken(words_root, tmp_path):
    return study(words_root, tmp_path)


@pytest.fixture
def voices(words_root, tmp_path):
    return study(words_root, tmp_path, "speaker")


def test_a_model_retrained_without_a_word_has_never_heard_it(spoken, monkeypatch):
    seen = []
    real = training.train
    monkeypatch.setattr(
        training, "train", lambda m, clips, *a, **k: seen.append(clips) or real(m, clips, *a, **k)
    )
    evaluation = spoken.evaluate("retrain", forget_sets.classes("up"), 0)
    assert spoken.labels.index("up") not in seen[0].labels and len(seen[0].labels.unique()) == 3
    label = spoken.labels.index("up")
    by_split = evaluation.predictions.groupby("split")["label"].agg(set)
    assert by_split["forget"] == {label} and by_split["removed"] == {label}
    assert label not in by_split["unseen"] | by_split["retain"]
    assert evaluation.record[
        "forget_kind"
    ] == "class" and evaluation.record["forget_id"] == "class up"


def test_a_speakers_deletion_leaves_the_unseen_speakers_and_every_word(spoken):
    speaker = spoken.train.speakers[0]
    evaluation = spoken.evaluate("ran_lab", forget_sets.speakers(speaker), 0)
    forget = evaluation.predictions[evaluation.predictions["split"] == "forget"]
    assert set(forget["speaker"]) == {speaker} and len(forget) == 8
    assert "removed" not in set(evaluation.predictions["split"])
    kept = spoken.retain(forget_sets.speakers(speaker))
    assert speaker not in kept.speakers and len(kept) == len(spoken.train) - 8


def test_where_the_model_names_speakers_a_speaker_is_a_class(voices):
    assert set(voices.labels) == {f"{i:08x}" for i in range(8)}
    evaluation = voices.evaluate("neggrad", forget_sets.speakers("00000003"), 0)
    label = voices.labels.index("00000003")
    assert set(evaluation.predictions.query("split == 'removed'")["label"]) == {label}
    # its units are words, and no word is both trained on and tested on
    unseen = evaluation.predictions.query("split in ('unseen', 'removed')")
    trained = evaluation.predictions.query("split in ('forget', 'retain')")
    assert not set(unseen["cluster"]) & set(trained["cluster"])
    assert set(evaluation.predictions["cluster"]) <= {"down", "no", "up", "yes"}


@pytest.mark.parametrize(
    ("task", "kind"), [("keyword", "clips"), ("keyword", "speaker"), ("speaker", "class")]
)
def test_every_method_fulfils_every_kind_of_request(words_root, tmp_path, task, kind):
    tiny = study(words_root, tmp_path, task)
    wanted = {
        "clips": lambda: forget_sets.clips(4, 0),
        "speaker": lambda: forget_sets.speakers(tiny.train.speakers[0]),
        "class": lambda: forget_sets.classes(tiny.labels[0]),
    }[kind]()
    for name, method in methods.METHODS.items():
        record = tiny.evaluate(name, wanted, 0).record
        assert record["needs"] == ", ".join(sorted(method.needs))
        assert record["task"] == task and record["n_classes"] == len(tiny.labels)


def test_requests_one_after_another_start_where_the_last_one_ended(spoken, monkeypatch):
    names = spoken.removable("speaker", 2)
    asked = []
    real = methods.METHODS["delete"].run

    def spy(model, request, parameters, work):
        asked.append((training.predict(model, spoken.unseen), request))
        outcome = real(model, request, parameters, work)
        asked[-1] += (training.predict(outcome.model, spoken.unseen),)
        return outcome

    spy.__module__ = real.__module__
    spied = dataclasses.replace(methods.METHODS["delete"], run=spy)
    monkeypatch.setitem(methods.METHODS, "delete", spied)
    steps = [forget_sets.speakers(name) for name in names]
    first, second = (spoken.evaluate("delete", steps[:k], 0) for k in (1, 2))
    before, request, _ = asked[-1]
    assert before.equal(asked[-2][2])  # the second request meets the model the first one left
    assert set(request.forget.speakers) == {names[1]}
    assert not set(request.retain.speakers) & set(names)  # whose clips are gone, too
    assert set(first.predictions.query("split == 'forget'")["speaker"]) == {names[0]}
    assert set(second.predictions.query("split == 'forget'")["speaker"]) == set(names)
    assert second.record["n_forget"] == 2 * first.record["n_forget"]
    assert not second.predictions["loss"].equals(
        spoken.evaluate("delete", forget_sets.speakers(*names), 0).predictions["loss"]
    )


def test_validation_clips_are_neither_trained_on_nor_scored(spoken):
    wanted = forget_sets.classes("up")
    request = spoken.unlearning_data((wanted,), 0, {"validation"})
    given = set(request.validation.hashes)
    assert given and not given & {*spoken.train.hashes, *spoken.unseen.hashes}
    assert set(request.validation.labels.tolist()) == {spoken.labels.index("up")}
    assert spoken.unlearning_data((wanted,), 0).validation is None


def test_the_cached_statistic_is_of_all_training_clips(spoken):
    from speechunlearn.methods import importance

    direct = importance.estimate("fisher", spoken.original(0), spoken.train, spoken.train.labels)
    kept = spoken.statistic(0)
    assert kept.keys() == direct.keys()
    assert all(kept[name].allclose(direct[name]) for name in kept)


def test_the_experiments_give_every_table_of_a_chapter(spoken):
    chosen = ("delete", "finetune")
    clips = Results.of(experiments.random_forget_sets(spoken, chosen))
    assert set(clips.evaluations["n_forget"]) == {2, 4}
    retrained = clips.evaluations[clips.evaluations["method"] == "retrain"]
    assert list(retrained["variant"]).count(ANOTHER_SEED) == 2
    rng = np.random.default_rng(0)
    table = protocol.table_of_methods(clips, "validation", n_resamples=100, generator=rng)
    assert set(table["split"]) == {"forget", "retain", "unseen"} and set(table["runs"]) == {1}
    judged = pages.cards(clips)
    assert list(judged.index.get_level_values("method")).count("Retrained") == 3
    assert set(judged["passed"]) <= {"passes", "fails"}

    classes = Results.of(experiments.removals(spoken, "class", chosen))
    table = protocol.table_of_methods(
        classes, "validation", forget_kind="class", n_resamples=100, generator=rng
    )
    readable = protocol.readable_by_method(classes, table)
    assert list(readable.index) == ["Original", "Retrained", "DELETE", "Fine-tune"]
    assert readable.loc["DELETE", "data used"] == "forget"
    assert list(readable.columns) == ["data used", "forget", "retain", "unseen", "removed"]
    assert protocol.distances(table).loc["DELETE"].index[0] == "forget UAR"
    went = protocol.confused_with(classes, spoken.labels)
    removed = classes.evaluations["forget_id"].iloc[0].removeprefix("class ")
    assert set(went.index.get_level_values("removed")) == {removed}
    assert not went["instead"].str.contains(removed).any()

    rows = protocol.sequence_table(Results.of(experiments.sequential_speakers(spoken, ("delete",))))
    assert list(rows.loc["DELETE"].index) == [1, 2] and list(rows.loc["Retrained"].index) == [2]


def test_sizes_are_numbers_and_shares_of_the_training_clips(words_root, tmp_path):
    tiny = study(words_root, tmp_path, n_values=(3,), shares=(0.125, 0.25))
    assert tiny.sizes == (3, 4, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shares": (0.5,)}, "shares.0 is 0.5; it should be less than 0.5"),
        ({"shares": (0.0,)}, "shares.0 is 0.0; it should be greater than 0"),
        ({"n_values": (), "shares": ()}, "n_values"),
        ({"task": "emotion"}, "corpus 'speech_commands' is of task 'keyword': it has no 'emotion'"),
        ({"task": "singing"}, "task: 'singing'"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_read(
    words_root, tmp_path, values, message
):
    with pytest.raises(ParameterError, match=message):
        study(words_root, tmp_path, **values)


def test_of_few_classes_as_many_are_removed_as_leave_one_and_one_to_develop_on(spoken):
    assert len(spoken.labels) == 4
    assert spoken.removable("class", 3) == spoken.removable("class", 2)


def test_a_word_of_one_speaker_is_refused(words_root, tmp_path, clip_writer):
    clip_writer(words_root / "once" / "00000001_nohash_0.wav", seed=77)
    with pytest.raises(CorpusError, match="'once' has one speaker only"):
        _ = study(words_root, tmp_path).manifest


def test_named_classes_and_speakers_are_asked_for_and_checked_first(words_root, tmp_path):
    tiny = study(words_root, tmp_path)
    known = tiny.train.speakers[0]
    named = study(words_root, tmp_path, classes=("up", "no"), speakers=(known,))
    asked = experiments.forget_set_table(named)
    assert list(asked.loc["a class", "of"]) == ["up", "no"]
    assert asked.loc["a speaker", "of"] == known
    for values, message in (
        ({"classes": ("sing",)}, "forget set: class 'sing' is not in the training set"),
        ({"speakers": ("nobody",)}, "forget set: speaker 'nobody' is not in the training set"),
    ):
        with pytest.raises(ParameterError, match=message):
            _ = study(words_root, tmp_path, **values).manifest


def test_digits_are_images_of_their_own_and_need_no_folder(tmp_path):
    from speechunlearn.lab import profiles

    images = profiles.get("smoke").for_task("image")
    digits = Study(images, cache=Cache(tmp_path))
    assert len(digits.manifest) == 1797 == digits.manifest["hash"].nunique()
    assert not set(digits.train.hashes) & set(digits.unseen.hashes)
    assert all(len(image) == 64 for image in digits.train.waveforms_z)
    first = digits.train.waveforms_z[0]
    assert float(first.mean()) == pytest.approx(0, abs=1e-6)
    assert float(first.std(correction=0)) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ParameterError, match="'digits' is of task 'image'"):
        Study(profiles.get("smoke").for_task("keyword"), "digits")
