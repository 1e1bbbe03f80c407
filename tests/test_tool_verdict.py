"""The verdict: what decides it, what a card has to notice first, and where it is said."""

import json
import shutil
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from answers import N_LABELS, answers
from checkpoint import clips, write

from speechunlearn.audit.report_card import SCORES, Auditor
from speechunlearn.errors import ParameterError
from speechunlearn.tool import audit, evaluate, forget, ledger, reports, verdicts
from speechunlearn.tool.inputs import ClipSet
from speechunlearn.tool.verdicts import LIKE, NOT_LIKE, UNKNOWN, Tried, decide


def card(*rows, distance=0.1):
    """A report card of a UAR each, (value, low, high), and a distance with the limit 0.2."""
    scores = [
        {"score": "forget_uar", "value": value, "retrained": (low + high) / 2, "low": low,
         "high": high, "judged": True, "passed": low <= value <= high}
        for value, low, high in rows
    ]
    scores.append(
        {"score": "loss_ks", "value": distance, "retrained": 0.1, "low": 0.0, "high": 0.2,
         "judged": True, "passed": distance <= 0.2}
    )
    # what is not judged decides nothing
    scores.append(
        {"score": "average_gap", "value": 9.0, "retrained": 0.1, "low": 0.0, "high": 0.2,
         "judged": False, "passed": False}
    )
    return {"passed": all(row["passed"] for row in scores if row["judged"]), "scores": scores}


PASSED, FAILED = card((0.5, 0.4, 0.6)), card((0.9, 0.4, 0.6))


def row(share, passed, models=20, n=8):
    return Tried(untouched=share, clips=int(share * n), models=models, passed=passed)


GOOD = [row(1.0, 0, 4), row(0.75, 0), row(0.5, 4), row(0.25, 5)]


@pytest.mark.parametrize(
    ("judged", "original", "rows", "value", "said"),
    [
        (FAILED, FAILED, GOOD, NOT_LIKE, "UAR, forget set, is 0.900, where one more of 4"),
        # nothing that a card may miss makes one that failed pass
        (FAILED, PASSED, [row(1.0, 4, 4)], NOT_LIKE, "1 of 2 scores lie outside"),
        (FAILED, None, [], NOT_LIKE, "0.400 to 0.600"),
        (PASSED, FAILED, GOOD, LIKE, "50% (4 of 8: 4 of 20 such models pass)"),
        (PASSED, PASSED, GOOD, UNKNOWN, "so do those of the original"),
        (PASSED, None, [], UNKNOWN, "without the original it cannot be checked"),
        (PASSED, FAILED, [], UNKNOWN, "three or more retrained models: 4 were given"),
        (PASSED, FAILED, [*GOOD[:2], row(0.5, 5)], UNKNOWN, "5 of 20 models with 4 of 8 clips"),
        (PASSED, FAILED, [row(1.0, 1, 4)], UNKNOWN, "1 of 4 models with 8 of 8 clips"),
    ],
)
def test_what_decides(judged, original, rows, value, said):
    found = decide(judged, references=4, original=original, rows=rows)
    assert found["value"] == value
    assert said in found["why"]
    assert found["figure"]["score"] == "forget_uar" or value != NOT_LIKE


def test_the_score_that_is_farthest_outside_decides():
    # by halves of the interval: 0.2 / 0.1 below the loss distance's 0.5 / 0.2, above another's
    found = decide(card((0.7, 0.4, 0.6), (0.61, 0.4, 0.6), distance=0.5), references=3)
    assert found["figure"]["score"] == "loss_ks" and "3 of 3 scores" in found["why"]
    found = decide(card((0.9, 0.4, 0.6), (0.61, 0.4, 0.6), distance=0.3), references=3)
    assert found["figure"]["value"] == 0.9
    saturated = card((0.9, 1.0, 1.0), (0.0, 0.4, 0.6))
    assert decide(saturated, references=3)["figure"]["low"] == 1.0


def test_without_a_card_it_cannot_be_told_and_the_reason_is_given():
    found = decide(None, references=0, no_card="no retrained models were given", shown="So.")
    assert found == {
        "value": UNKNOWN, "why": "no retrained models were given. So.", "figure": None
    }
    with pytest.raises(ParameterError, match="no_card"):
        decide(None, references=0)


def test_of_one_clip_all_is_half():
    found = decide(PASSED, references=4, original=FAILED, rows=[Tried(
        untouched=1.0, clips=1, models=4, passed=0
    )])
    assert found["value"] == LIKE and "100% (1 of 1: 0 of 4" in found["why"]


def test_a_share_is_noticed_with_all_above_it():
    rows = [row(1.0, 0, 4), row(0.75, 5), row(0.5, 0)]
    assert verdicts.least(rows) == rows[0]
    assert verdicts.least([row(1.0, 4, 4)]) is None
    assert "not even" in verdicts.notices([row(1.0, 4, 4)])


def test_untouched_clips_have_the_originals_answers():
    retrained, original = answers(0), answers(9, forget=3)
    chosen = ["0-forget-003", "0-forget-041"]
    mixed = verdicts.untouched(retrained, original.sample(frac=1, random_state=0), chosen)
    theirs = (mixed["split"] == "forget") & mixed["hash"].isin(chosen)
    assert theirs.sum() == 2
    pd.testing.assert_frame_equal(mixed[theirs], original[theirs])
    pd.testing.assert_frame_equal(mixed[~theirs], retrained[~theirs])


@pytest.fixture(scope="module")
def retrained():
    """Sixty clips, models that are told how much they know of them."""
    return [answers(seed) for seed in range(4)]


@pytest.fixture
def judged_by(monkeypatch):
    """The verdict on a model, by scores that are soon made."""
    fast = ["forget_uar", "unseen_uar", "mia_loss", "mia_matched"]
    monkeypatch.setattr(evaluate, "on_card", lambda table: fast)

    def judge(model, retrained, original):
        tables = {"before": original, "after": model}
        found = {
            "scores": {w: evaluate.scores(t, N_LABELS) for w, t in tables.items()},
            "cards": {
                w: evaluate.card(t, retrained, N_LABELS, seed=0) for w, t in tables.items()
            },
        }
        return evaluate.verdict(tables, retrained, found, N_LABELS, seed=0)

    return judge


def test_a_retrained_model_is_like_and_the_original_is_not(retrained, judged_by):
    original = answers(20, forget=8)
    found = judged_by(answers(30), retrained, original)
    assert found["verdict"]["value"] == LIKE
    assert found["power"][0] == {"untouched": 1.0, "clips": 60, "models": 4, "passed": 0}
    assert all(0 < row["passed"] + 1 <= row["models"] for row in found["power"][:2])
    found = judged_by(original, retrained, original)
    assert found["verdict"]["value"] == NOT_LIKE
    assert found["change"] == {
        "clips": 60, "predictions": 0, "confidence": 0.0, "hardly": True
    }
    assert "nothing shows that it forgot" in found["verdict"]["why"]


def test_where_the_original_is_as_a_retrained_model_nothing_can_be_told(retrained, judged_by):
    found = judged_by(answers(30), retrained, answers(31))
    assert found["verdict"]["value"] == UNKNOWN and "original" in found["verdict"]["why"]
    assert verdicts.least(found["power"]) is None


def test_where_half_of_the_clips_may_be_untouched_nothing_can_be_told(retrained, judged_by):
    original = answers(20, forget=0.8)
    assert not evaluate.card(original, retrained, N_LABELS, seed=0)["passed"]
    found = judged_by(answers(30), retrained, original)
    assert found["verdict"]["value"] == UNKNOWN
    assert "clips untouched" in found["verdict"]["why"]


def test_two_retrained_models_tell_of_those_that_fail_alone(retrained, judged_by):
    original = answers(20, forget=8)
    assert judged_by(answers(32), retrained[:2], original)["verdict"]["value"] == UNKNOWN
    assert judged_by(original, retrained[:2], original)["verdict"]["value"] == NOT_LIKE


def test_the_tries_are_cards_of_the_others(retrained, monkeypatch):
    """All clips untouched, by hand."""
    monkeypatch.setattr(verdicts, "SHARES", (1.0,))
    original = answers(20, forget=2)
    passed = 0
    for i, reference in enumerate(retrained):
        auditor = Auditor(retrained[:i] + retrained[i + 1 :], n_labels=N_LABELS)
        forget = original["split"] == "forget"
        model = pd.concat([original[forget], reference[~forget]])
        passed += auditor.card(model).passed
    (first,) = verdicts.tried(original, retrained, N_LABELS, seed=0)
    assert (first["models"], first["passed"]) == (4, passed)
    assert verdicts.tried(original, retrained[:2], N_LABELS, seed=0) == []


@pytest.mark.parametrize("known", [0.6, 2.0, 8.0])
def test_models_with_half_of_the_clips_untouched_are_seldom_called_like(known, monkeypatch):
    """However well the original knows the clips; and retrained models are where that is noticed."""
    monkeypatch.setattr(verdicts, "SHARES", (1.0, 0.5))
    scores = ["forget_uar", "mia_loss"]
    monkeypatch.setattr(evaluate, "on_card", lambda table: scores)
    said: dict[str, list[str]] = {"half": [], "retrained": []}
    for world in range(3):
        base = 100 * (world + 1)
        references = [answers(base + i) for i in range(4)]
        original, model = answers(base + 9, forget=known), answers(base + 5)
        rows = verdicts.tried(original, references, N_LABELS, seed=0, scores=scores)
        hashes = model.loc[model["split"] == "forget", "hash"]
        half = hashes.sample(len(hashes) // 2, random_state=world).tolist()
        cards = {
            name: evaluate.card(table, references, N_LABELS, seed=0)
            for name, table in (
                ("half", verdicts.untouched(model, original, half)), ("retrained", model),
                ("original", original),
            )
        }
        for name, found in said.items():
            verdict = decide(
                cards[name], references=4, original=cards["original"], rows=rows
            )
            found.append(verdict["value"])
    assert LIKE not in said["half"]
    assert NOT_LIKE not in said["retrained"]
    assert (LIKE in said["retrained"]) == (known > 1)


@pytest.mark.parametrize(
    ("n_references", "retain"), [(0, 6), (1, 6), (2, 6), (3, 6), (3, 0)]
)
@pytest.mark.parametrize(
    ("forget", "unseen", "speakers"),
    [(1, 1, 1), *((n, 6, speakers) for n in (1, 2, 3) for speakers in (1, 2))],
)
def test_what_so_few_clips_do_not_allow_is_left_out_and_named(
    forget, unseen, speakers, n_references, retain, monkeypatch
):
    """Every size of request goes through the audit: no exception, nothing missing in silence."""

    def few(table):
        sizes = {"forget": forget, "retain": retain, "unseen": unseen}
        parts = [table[table["split"] == split].head(n) for split, n in sizes.items()]
        clusters = [f"{part['split'].iloc[0]} {i % speakers}" for part in parts
                    for i in range(len(part))]
        return pd.concat(parts, ignore_index=True).assign(cluster=clusters)

    monkeypatch.setattr(verdicts, "SHARES", (1.0,))
    references = [few(answers(seed)) for seed in range(n_references)]
    tables = {"before": few(answers(8, forget=8)), "after": few(answers(9))}
    report = {
        "scores": {w: evaluate.scores(t, N_LABELS) for w, t in tables.items()},
        "membership": {w: evaluate.attack(t, seed=0) for w, t in tables.items()},
        "cards": {w: evaluate.card(t, references, N_LABELS, seed=0) for w, t in tables.items()},
    }
    verdict = evaluate.verdict(tables, references, report, N_LABELS, seed=0)["verdict"]
    assert verdict["value"] in (LIKE, NOT_LIKE, UNKNOWN) and verdict["why"]
    auc = report["membership"]["after"]["auc"]
    assert (0 <= auc["low"] <= auc["high"] <= 1) == (min(forget, unseen) > 1)
    parts = dict.fromkeys(tables["after"]["split"], MagicMock(ClipSet, has_speakers=True))
    gaps = evaluate.missing(tables["after"], parts, n_references)
    named = {gap["what"] for gap in gaps}
    single = [name for name, n in (("forget", forget), ("unseen", unseen)) if n == 1]
    assert {f"how far other {name} clips would move the attack on the loss" for name in single} == {
        what for what in named if "would move" in what
    }
    card = report["cards"]["after"]
    assert (card is None) == (n_references < 2)
    if card is None:
        assert "whether the model is where one that never saw the clips would be" in named
        assert "retrained model" in verdict["why"]
        return
    on_card = {row["score"] for row in card["scores"] if row["judged"]}
    for score in SCORES:
        what = SCORES[score].removesuffix(", AUC")
        told_elsewhere = score == "mia_likelihood_ratio" or (score == "retain_uar" and not retain)
        assert score in on_card or what in named or told_elsewhere
        assert not (score in on_card and what in named)
    assert ("mia_regression" in on_card) == (min(forget, unseen) > 1)
    assert ("mia_svc" in on_card) == (speakers > 1 and retain > 0)
    assert all(np.isfinite(row["value"]) for row in card["scores"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A checkpoint, clips, and a request with three models beside that are called retrained."""
    folder = tmp_path_factory.mktemp("desk")
    write(folder / "model")
    for seed, (name, n) in enumerate((("forget", 6), ("retain", 6), ("unseen", 9), ("one", 1))):
        clips(folder, name, n, seed)
    rows = (folder / "unseen.csv").read_text().splitlines()
    others = [line.replace("speaker", "person") for line in rows[1:]]
    (folder / "others.csv").write_text("\n".join([rows[0], *others]) + "\n")
    for i in range(4):
        write(folder / f"other {i}", seed=i + 1)
    return folder


def test_it_is_the_first_line_of_all_that_is_written(desk, tmp_path):
    done = forget(
        desk / "model", desk / "forget.csv", tmp_path / "out", unseen=desk / "others.csv",
        retain=desk / "retain.csv", method="ran_lab",
        parameters={"epochs": 1, "learning_rate": 1e-12},
    )
    report = done.report
    verdict = json.loads((tmp_path / "out" / "report.json").read_text())["verdict"]
    assert done.verdict == verdict["value"] == UNKNOWN and verdict["figure"] is None
    assert verdict["why"].startswith("no retrained models were given. What the model itself shows")
    assert "it answers as the original does" in verdict["why"]
    assert "hardly changed" in verdict["why"] and "of 6 predictions 0 changed" in verdict["why"]
    assert done.summary().startswith(f"verdict: {UNKNOWN}: no retrained models were given")
    section = reports.section(report).splitlines()
    assert section[2].startswith(f"Verdict: **{UNKNOWN}**: no retrained models")
    page = (tmp_path / "out" / "report.html").read_text()
    body = page[page.index("</h1>") :]
    assert body.index("Verdict: cannot be told") < body.index("<p>")
    # what is the result, what was not done, who else is there
    import hashlib

    digest = hashlib.sha256((tmp_path / "out" / "model.safetensors").read_bytes()).hexdigest()
    assert report["result"] == {"model.safetensors": digest}
    assert "cannot be said that it forgot" in body[: body.index("What decides")]
    assert f"Request <code>{report['request'][:12]}</code>" in body
    assert all(f"<td>forget/{i}.wav</td>" in body for i in range(6))
    assert "<td>speaker 0</td>" in body and "(speaker 0, speaker 1" in body
    assert "4 speakers, clips within (to forget)" in body
    assert "4 speakers, clips within (to forget)" in done.summary()
    for text in (body, (tmp_path / "out" / "README.md").read_text()):
        assert digest in text and "6 recordings of 4 speakers" in text
        assert reports.NOT_DONE in text and "were forgotten" not in text
        assert "Of the same speakers are 6 retain clips" in text
        assert "No unseen clip is of these speakers." in text
    assert report["same_speakers"]["retain"] == [f"retain/{i}.wav" for i in range(6)]
    assert "retain/0.wav" in body
    # a printer shows what a reader would have to open
    assert "<details>" not in page and page.count("<details open>") == 3


def test_answers_that_moved_are_said_to_have_moved_and_no_more(desk, tmp_path):
    done = forget(
        desk / "model", desk / "forget.csv", tmp_path / "out", method="ran_lab",
        parameters={"epochs": 30, "learning_rate": 1e-2},
    )
    assert done.verdict == UNKNOWN and not done.report["change"]["hardly"]
    assert "only retrained models show" in done.report["verdict"]["why"]


def test_an_audit_says_the_same(desk, tmp_path):
    given = {"unseen": desk / "unseen.csv", "references": [desk / f"other {i}" for i in range(3)]}
    found = audit(desk / "model", desk / "one.csv", out=tmp_path / "audit", **given)
    assert found.verdict in (NOT_LIKE, UNKNOWN) and found.report["power"] == []
    named = [gap["what"] for gap in found.report["not_assessed"]]
    assert "logistic-regression attack" in named
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "1 recording of 1 speaker" in page and "A model is said to have forgotten" in page
    with_original = audit(
        desk / "model", desk / "forget.csv", original=desk / "other 3", **given
    ).report
    assert with_original["power"][0]["clips"] == 6
    assert verdicts.notices(with_original["power"]) in reports.summary(with_original)
    alone = audit(desk / "model", desk / "forget.csv")
    assert "its UAR is" in alone.report["verdict"]["why"]
    assert "one retrained model" in audit(
        desk / "model", desk / "forget.csv", references=given["references"][:1]
    ).report["verdict"]["why"]


@pytest.mark.parametrize(("known", "doubted"), [(0.0, True), (3.0, False)])
def test_an_original_that_does_not_know_the_clips_is_doubted(known, doubted):
    table = answers(1, forget=known, unseen=0.5)
    attack, scores = evaluate.attack(table, seed=0), evaluate.scores(table, N_LABELS)
    report = {
        "membership": {"before": attack, "after": None}, "scores": {"before": scores},
        "model": {"labels": list("abc")},
    }
    said = evaluate.doubts(report)
    assert bool(said) == doubted
    if doubted:
        assert all("does not seem to know" in note for note in said) and "AUC 0.3" in said[-1]
    all_right = evaluate.scores(answers(1, forget=9.0), N_LABELS)
    no_attack = {"membership": {"before": None, "after": None}, "scores": {"before": all_right}}
    assert evaluate.doubts(report | no_attack) == []
    # by itself an unlearned model is not to know them
    alone = report | {"membership": {"model": attack}, "scores": {"model": scores}}
    assert evaluate.doubts(alone) == []
    # of three classes, less than two thirds of clips that it was trained on
    for split, models in (("forget", 2), ("retain", 2), ("forget", 1), ("retain", 1)):
        whens = ["before", "after"][:models]
        shifted = all_right | {split: all_right[split] | {"uar": 0.66, "accuracy": 0.5}}
        notes = evaluate.doubts(
            report | {"membership": dict.fromkeys(whens), "scores": dict.fromkeys(whens, shifted)}
        )
        assert len(notes) == (split == "retain" or models > 1)
        assert all(f"the {split} clips" in note for note in notes)
        assert all("50% of them" in note and "the crop" in note for note in notes)


def test_a_ledger_keeps_the_verdict(desk, tmp_path):
    (desk / "ledger.csv").write_text("id,forget,method\na,forget.csv,ran_lab\nb,gone.csv,\n")
    table = ledger.run(desk / "model", desk / "ledger.csv", tmp_path / "out").set_index("id")
    assert list(table["verdict"]) == [UNKNOWN, ""]
    assert table.loc["a", "why"].startswith("no retrained models")
    assert table.loc["a", "reason"] == "" == table.loc["b", "why"]
    state = json.loads((tmp_path / "out" / "ledger.json").read_text())
    report = json.loads((tmp_path / "out" / "a" / "report.json").read_text())
    assert state["done"]["a"]["verdict"] == report["verdict"]
    assert report["request_id"] == "a"
    assert "Request <code>a</code>" in (tmp_path / "out" / "a" / "report.html").read_text()


def test_what_is_required_decides_the_exit_status(desk, tmp_path, monkeypatch, capsys):
    from speechunlearn import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["speechunlearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    given = ["--model", desk / "model", "--forget", desk / "forget.csv"]
    asked = ["forget", *given, "--out", tmp_path / "out", "--method", "ran_lab", "-p", "epochs=1"]
    assert run(*asked, "--require") == 3
    said = capsys.readouterr()
    assert said.out.startswith(f"verdict: {UNKNOWN}: ")
    assert "required: indistinguishable" in said.err
    assert run(*asked) == 0  # what was made is there all the same
    assert run("audit", *given, "--require") == 3
    like = {"value": LIKE, "why": "planted", "figure": None}
    monkeypatch.setattr(evaluate.verdicts, "decide", lambda *a, **k: like)
    assert run("audit", *given, "--require") == 0


def test_a_report_of_another_format_is_not_taken_for_the_result(desk, tmp_path):
    from speechunlearn.tool.output_folder import OutputError

    call = {"method": "ran_lab", "parameters": {"epochs": 1}}
    forget(desk / "model", desk / "forget.csv", tmp_path / "out", **call)
    copy = shutil.copytree(tmp_path / "out", tmp_path / "old")
    report = json.loads((copy / "report.json").read_text())
    del report["sha256"]
    (copy / "report.json").write_text(json.dumps(report | {"format": 1}))
    with pytest.raises(OutputError, match="another version wrote it, or it was changed"):
        forget(desk / "model", desk / "forget.csv", copy, **call)
