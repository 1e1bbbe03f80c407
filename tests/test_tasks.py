"""Tasks: what is named, what is kept apart."""

import pandas as pd
import pytest

from speechunlearn.dataset import tasks
from speechunlearn.errors import CorpusError, ParameterError

FRACTIONS = {"train": 0.5, "validation": 0.25, "test": 0.25}


@pytest.fixture
def words():
    """Eight words of eight speakers, two takes each."""
    rows = [
        (f"/c/{w}/{s}_{take}.wav", f"s{s}", "", f"w{w}", f"{w}-{s}-{take}", "")
        for w in range(8) for s in range(8) for take in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["path", "speaker", "gender", "label", "hash", "split"])


def shared(table, column):
    return (table.groupby(column)["split"].nunique() > 1).any()


def test_keyword_spotting_keeps_speakers_apart(words):
    table = tasks.get("keyword").manifest(words, True, FRACTIONS, 0)
    assert not shared(table, "speaker")
    assert (table["label"] == words["label"]).all() and (table["cluster"] == words["speaker"]).all()
    assert set(table["label"][table["split"] == "train"]) == set(words["label"])


def test_speaker_identification_keeps_words_apart_and_knows_every_speaker(words):
    table = tasks.get("speaker").manifest(words, False, FRACTIONS, 0)
    assert (table["label"] == words["speaker"]).all() and (table["cluster"] == words["label"]).all()
    by_word = table.assign(word=words["label"])
    assert not shared(by_word, "word")
    for split in FRACTIONS:
        assert set(table["label"][table["split"] == split]) == set(words["speaker"])


def test_an_official_split_holds_for_the_task_it_was_made_for_and_for_no_other(words):
    official = words.assign(split=["train"] * 64 + ["validation"] * 32 + ["test"] * 32)
    kept = tasks.get("keyword").manifest(official, True, FRACTIONS, 0)
    assert (kept["split"] == official["split"]).all()
    own = tasks.get("speaker").manifest(official, False, FRACTIONS, 0)
    assert not (own["split"] == official["split"]).all()


def test_a_corpus_made_for_speaker_identification_has_a_folder_a_session(words):
    sessions = words.assign(label=words["speaker"])
    table = tasks.get("speaker").manifest(sessions, True, FRACTIONS, 0)
    assert (table["cluster"] == [path.split("/")[2] for path in words["path"]]).all()
    assert not shared(table, "cluster")


def test_a_csv_of_words_serves_speaker_identification_too(words):
    table = tasks.get("speaker").manifest(words, True, FRACTIONS, 0)
    assert (table["label"] == words["speaker"]).all() and (table["cluster"] == words["label"]).all()


def test_a_class_of_one_unit_is_refused(words):
    lonely = pd.concat([words, words.iloc[:1].assign(label="once", hash="x")])
    with pytest.raises(CorpusError, match="label 'once' has one speaker only"):
        tasks.get("keyword").manifest(lonely, True, FRACTIONS, 0)


def test_an_unknown_task_is_refused():
    with pytest.raises(ParameterError, match="task: 'singing' is not one of emotion, keyword"):
        tasks.get("singing")
