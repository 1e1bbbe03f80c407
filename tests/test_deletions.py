"""What a request covers, and which requests are refused before anything is trained."""

import pandas as pd
import pytest

from speechunlearn.errors import ParameterError
from speechunlearn.lab import forget_sets


@pytest.fixture
def train():
    """Three words of three speakers; speaker c is the only one to say 'up'."""
    said = {"a": ["yes", "no"], "b": ["yes", "no"], "c": ["yes", "no", "up"]}
    rows = [
        (speaker, word, f"{speaker}-{word}-{take}")
        for speaker, words in said.items() for word in words for take in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["speaker", "label", "hash"])


def test_a_speakers_deletion_covers_all_clips_of_the_speaker_and_no_other(train):
    found = forget_sets.speakers("a").hashes(train)
    assert found == ["a-yes-0", "a-yes-1", "a-no-0", "a-no-1"]


def test_several_speakers_are_one_request(train):
    found = forget_sets.speakers("a", "b").hashes(train)
    assert set(found) == set(train["hash"][train["speaker"] != "c"])


def test_a_class_is_covered_whole_and_may_be_emptied(train):
    removal = forget_sets.classes("up")
    assert removal.hashes(train) == ["c-up-0", "c-up-1"]
    assert removal.classes_of(train) == ["up"]


def test_draws_are_nested_and_keep_out_what_is_excluded(train):
    excluded = {"a-yes-0", "b-no-1"}
    large = forget_sets.clips(4, 1).hashes(train, exclude=excluded)
    assert forget_sets.clips(3, 1).hashes(train, exclude=excluded) == large[:3]
    assert not set(large) & excluded and len(set(large)) == 4


def test_where_speakers_are_the_classes_a_speakers_deletion_removes_a_class(train):
    named = train.assign(label=train["speaker"])
    removal = forget_sets.speakers("a")
    assert removal.classes_of(named) == ["a"] and removal.classes_of(train) == []
    assert len(removal.hashes(named)) == 4


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (forget_sets.speakers("z"), "speaker 'z' is not in the training set, which has a, b, c"),
        (forget_sets.classes("down"), "class 'down' is not in the training set, which has no, up"),
        (forget_sets.speakers(), "speaker '' is not in the training set"),
        (forget_sets.speakers("c"), "speaker c takes every training clip of class 'up'"),
        (forget_sets.speakers("a", "b", "c"), "speaker a, b, c is the whole training set"),
        (forget_sets.classes("yes", "no", "up"), "is the whole training set"),
        (forget_sets.clips(14, 0), "14 clips is the whole training set"),
        (forget_sets.clips(15, 0), "n=15"),
        (forget_sets.clips(0, 0), "n=0"),
    ],
)
def test_what_cannot_be_deleted_is_refused_with_its_name(train, request_, message):
    with pytest.raises(ParameterError, match=message):
        request_.hashes(train)


def test_chosen_values_are_different_and_leave_one_to_develop_on():
    values = [f"w{i}" for i in range(8)]
    reported = forget_sets.choose_reported(values, 5)
    assert len(set(reported)) == 5
    assert forget_sets.choose_reported(values[::-1], 5) == reported
    assert forget_sets.choose_reported(values, 3) == reported[:3]
    assert forget_sets.choose_reported(values, 7) == forget_sets.choose_reported(values, 6)
    assert len(forget_sets.choose_reported(values[:2], 7)) == 1
    with pytest.raises(ParameterError, match="0 classes or speakers to remove, of 8"):
        forget_sets.choose_reported(values, 0)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_parts_of_a_draw_are_the_draw(train, steps):
    whole = forget_sets.clips(5, 1)
    requests = forget_sets.in_steps(whole, steps)
    found = [request.hashes(train) for request in requests]
    assert [h for part in found for h in part] == whole.hashes(train)
    assert len(found) == steps and max(map(len, found)) - min(map(len, found)) <= 1
    assert requests[0].title == f"{len(found[0])} clips"


@pytest.mark.parametrize(
    ("forget_set", "steps"),
    [(forget_sets.clips(3, 0), 4), (forget_sets.clips(3, 0), 0), (forget_sets.speakers("a"), 1)],
)
def test_what_cannot_be_cut_is_refused(forget_set, steps):
    with pytest.raises(ParameterError, match="cannot be cut into"):
        forget_sets.in_steps(forget_set, steps)
