"""The benchmark of deletion requests: who heard what, and what its rows come to."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import REPOSITORY

from benchmarks import requests
from benchmarks.summary import summary


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Ten speakers say eight words three times."""
    monkeypatch.setattr(requests, "KINDS", {"1": (1, 3), "5": (5, 2), "speaker": (0, 2)})
    monkeypatch.setattr(requests, "UNSEEN_SPEAKERS", 2)
    monkeypatch.setattr(requests, "TOLD", 1)
    monkeypatch.setattr(requests, "SPARE", 12)
    for word in "abcdefgh":
        (tmp_path / "dataset" / word).mkdir(parents=True)
        for speaker in range(10):
            for take in range(3):
                path = tmp_path / "dataset" / word / f"{speaker:02d}_NO_{take}.wav"
                soundfile.write(path, np.zeros(160), 16000)
    return tmp_path


def test_each_request_is_heard_by_half_of_the_models_and_no_clip_is_in_two(corpus):
    drawn = requests.design(corpus, 6)
    sets = [positions for kind in drawn.requests.values() for positions in kind]
    assert sorted(map(len, sets)) == [1, 1, 1, 5, 5, 24, 24]
    together = np.concatenate(sets)
    assert len(set(together)) == len(together)
    assert set(drawn.clips["part"].iloc[together]) == {"training"}
    for kind, heard in drawn.heard.items():
        assert (heard.sum(0) == 3).all()
        for number, positions in enumerate(drawn.requests[kind]):
            for model in range(6):
                inside = np.isin(positions, drawn.training(model))
                assert inside.all() if heard[model, number] else not inside.any()
    parts = drawn.clips.groupby("part")
    assert parts.size().to_dict() == {"spare": 12, "told": 24, "training": 180, "unseen": 24}
    told, unseen = (set(parts.get_group(part)["speaker"]) for part in ("told", "unseen"))
    assert len(told) == len(unseen) == 1 and told != unseen
    assert not (told | unseen) & set(parts.get_group("training")["speaker"])


def test_figures_of_a_request_by_hand(corpus):
    drawn = requests.design(corpus, 6)
    labels = sorted(drawn.clips["label"].unique())
    truth = np.array([labels.index(label) for label in drawn.clips["label"]])
    logits = np.zeros((len(truth), len(labels)))  # a loss of log 8 for all
    positions = drawn.requests["5"][0]
    logits[positions, truth[positions]] = 5.0
    found = requests.figures(logits, drawn, positions)
    assert found["loss"] == pytest.approx(np.log(np.exp(5) + 7) - 5)
    assert found["uar"] == 1.0 and found["auc"] == 1.0
    assert found["unseen_uar"] == pytest.approx(1 / 8)  # all are called the first label


def rows(request, original, unlearned, retrained, unseen=0.5, after=0.5, kind="5"):
    about = {"system": "s", "kind": kind, "request": request, "step": 0, "auc": 0.5, "uar": 0.5}
    return [
        about | {"who": "original", "loss": original, "unseen_uar": unseen, "uar": 1.0, "auc": 1.0},
        about | {"who": "unlearned", "loss": unlearned, "unseen_uar": after},
        *(about | {"who": f"retrained {i}", "loss": value, "unseen_uar": unseen}
          for i, value in enumerate(retrained)),
    ]


def test_the_share_that_is_closed_is_a_ratio_of_means_by_hand():
    table = pd.DataFrame(
        rows("5-0", 0.0, 1.0, (1.0, 3.0), after=0.45) + rows("5-1", 1.0, 2.0, (1.4, 1.6))
    )
    (found,) = summary(table).to_dict("records")
    # moved by 1 and 1; the gaps are 2 and 0.5
    assert found["loss"].startswith("0.80 [0.50, 2.00]")
    assert found["loss beyond"] == "1 of 2" and found["uar"].startswith("1.00")
    assert found["utility"].startswith("0.950 [0.900, 1.000]")


def test_requests_for_the_same_clips_are_drawn_with_their_set():
    """Two sets, of which all is closed and nothing: their models say nothing of further sets."""
    table = pd.DataFrame([
        row | {"set": request[:-1]}
        for request, unlearned in (("a0", 1.0), ("a1", 1.0), ("b0", 0.0), ("b1", 0.0))
        for row in rows(request, 0.0, unlearned, (1.0, 1.0))
    ])
    (found,) = summary(table).to_dict("records")
    assert found["loss"] == "0.50 [0.00, 1.00]"
    (alone,) = summary(table.drop(columns="set"), 20_000).to_dict("records")
    assert alone["loss"] == "0.50 [0.00, 1.00]"  # two of four: all alike in 1 of 8 resamples
    many = pd.concat([
        table.assign(request=table["request"] + str(i)) for i in range(8)
    ])
    assert summary(many).loc[0, "loss"] == "0.50 [0.00, 1.00]"
    # 32 requests by themselves: a standard error of .09
    low, high = map(float, summary(many.drop(columns="set")).loc[0, "loss"][6:-1].split(", "))
    assert low > 0.25 and high < 0.75


def test_the_committed_rows_are_whole():
    table = pd.read_csv(REPOSITORY / "data" / "benchmarks" / "requests.csv", dtype={"kind": str})
    assert not table[["loss", "uar", "auc", "unseen_uar"]].isna().any(axis=None)
    for _, group in table.groupby(["system", "request", "step"]):
        who = group["who"].str.split().str[0].value_counts()
        assert who["original"] == who["unlearned"] == 1 and who["retrained"] >= 5
    made = table[table["who"] == "unlearned"]
    assert made[["commit", "lock", "machine", "seconds", "details"]].notna().all(axis=None)
