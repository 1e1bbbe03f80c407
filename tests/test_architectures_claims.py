"""Claims about architectures are judged by their runs: three made up, by hand."""

import chapter_cells
import numpy as np
import pandas as pd
import pytest

from speechunlearn.chapters import other_models


def row(run, method, auc, loss, unseen_uar=0.5, loss_ks=0.1):
    return {"architecture": "ast", "run": run, "method": method, "auc": auc, "loss": loss,
            "unseen_uar": unseen_uar, "loss_ks": loss_ks}  # fmt: skip


@pytest.fixture
def table():
    """AUC above by 0.1, 0.2, 0.3; loss at 0.0, of the retrained 0.9 and 1.1; one method at 0.8."""
    rows = []
    for run in range(3):
        rows += [
            row(run, "original", 0.6 + 0.1 * run, 0.0), row(run, "retrained 0", 0.45, 0.9),
            row(run, "retrained 1", 0.55, 1.1), row(run, "ran_lab", 0.5, 0.8, 0.1 * run),
            row(run, "adv_ela", 0.5, 0.2 + 0.3 * run, 0.1 * run + 0.2 * (run == 1)),
        ]
    return pd.DataFrame(rows)


def test_a_claim_is_judged_by_the_t_interval_of_its_runs(table):
    judged = other_models.claims(table).set_index("claim")
    remembers = judged.iloc[0]
    # mean 0.2, standard deviation 0.1, and 4.303 of its standard errors
    assert remembers["value"] == pytest.approx(0.2)
    assert remembers["high"] == pytest.approx(0.2 + 4.302653 * 0.1 / np.sqrt(3))
    assert remembers["verdict"] == "undecided" and remembers["runs"] == 3
    named = {claim.split(" close")[0]: row for claim, row in judged.iterrows()}
    # at 0.8 in each run, of a way of 1: 0.3 beyond the half
    assert named["Random labels"]["value"] == pytest.approx(0.3)
    assert named["Random labels"]["verdict"] == "yes"
    assert named["Adv. + Ela."]["value"] == pytest.approx(0.0)
    assert named["Adv. + Ela."]["verdict"] == "undecided"
    assert not any("Fine-tuning" in claim for claim in judged.index)  # it was not run


def test_a_claim_that_is_refuted_is_said_to_be(table):
    table.loc[table["method"] == "original", "auc"] = 0.1
    table.loc[table["method"].str.startswith("retrained"), "auc"] += table["run"] * 0.01
    judged = other_models.claims(table)
    assert judged.iloc[0]["verdict"] == "no" and judged.iloc[0]["high"] < 0


def test_the_committed_tables_hold_what_the_chapter_reads():
    table = pd.read_csv(other_models.RESULTS)
    assert {"commit", "lock", "machine", "seed"} <= set(table.columns)
    assert not table.duplicated(["architecture", "run", "method"]).any()
    runs = table.groupby(["architecture", "run"])["method"].agg(set)
    assert all({"original", "retrained 0", "retrained 1", "retrained 2"} <= who for who in runs)
    assert set(table["architecture"]) <= set(other_models.TITLES)


def test_what_is_committed_elsewhere_is_taken_as_it_is():
    """Of AST, twelve requests: by how much more an attack knows, computed a second time."""
    rows = pd.read_csv(other_models.RESULTS.with_name("requests.csv"), dtype={"kind": str})
    rows = rows[(rows["kind"] == "16") & (rows["system"] == "ast")]
    differences = [
        float(of.loc[of["who"] == "original", "auc"].iloc[0])
        - float(of.loc[of["who"].str.startswith("retrained"), "auc"].mean())
        for _, of in rows.groupby("request")
    ]
    judged = other_models.claims(other_models.rows())
    (remembers, *_) = judged[judged["architecture"] == "ast_requests"].to_dict("records")
    assert remembers["runs"] == 12 and remembers["value"] == pytest.approx(np.mean(differences))
    words = judged[judged["architecture"] == "wav2vec2"]
    assert len(words) == 6 and set(words["runs"]) == {3}


def test_what_is_said_of_unlabelled_clips_is_of_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(other_models, "RESULTS", tmp_path / "architectures.csv")
    pd.DataFrame([
        {"run": run, "method": method, "consistency": loss, "auc": 0.5 + 0.1 * (loss < 1),
         "unseen_uar": 0.8}
        for run in range(3)
        for method, loss in (("original", 0.5), ("retrained 0", 1.0 + run), ("retrained 1", 2.0))
    ]).to_csv(tmp_path / "fixmatch.csv")  # fmt: skip
    names = {"pd": pd, "other_models": other_models}
    source = chapter_cells.with_text("15_other_models", "fixmatch.csv")
    shown = chapter_cells.execute(source, names)
    # 0.5 either way of 2: the means of the runs are 1.5, 2 and 2.5
    half = 4.302653 * 0.5 / np.sqrt(3)
    assert names["means"]["retrained"]["consistency"] == pytest.approx((2, 2 - half, 2 + half))
    assert shown.loc["Original", "attack AUC"] == "0.60 [0.60, 0.60]"
    assert list(shown["runs"]) == [3, 3]


def test_what_the_page_says_of_the_table_is_so():
    verdicts = other_models.claims(other_models.rows()).set_index(["claim", "architecture"])
    remembers, *others = other_models.CLAIMS
    remembered = verdicts.loc[remembers, "verdict"]
    assert (remembered == "yes").all() and len(remembered) == 7
    moonshine = other_models.rows().query("architecture == 'moonshine'")
    moonshine = moonshine.assign(method=moonshine["method"].str.split().str[0])
    assert moonshine.groupby("method")["run"].nunique().eq(6).all()
    means = moonshine.groupby("method")[["loss", "unseen_uar"]].mean()
    past = means.drop(index=["original", "retrained"])
    assert means["loss"]["retrained"] < 0.02
    assert (past["loss"] > 3 * means["loss"]["retrained"]).all()
    assert (past["unseen_uar"] < means["unseen_uar"]["original"] - 0.01).all()
    closes = [c for c in others if "closes more than half" in c or "close more than half" in c]
    assert len(closes) == 3
    for claim in closes:
        found = verdicts.loc[claim, "verdict"]
        assert (found[["ast", "whisper", "hubert", "wavlm"]] == "no").all()
