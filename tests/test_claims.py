"""Claims on Table 1: intervals and Holm's errors by hand, every verdict, and what is refused."""

import math
import shutil
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from benchmarks import claims, table1
from benchmarks.claims import ATTACKS, Asked, Cell, Estimate, Question, Rows, Sample
from speechunlearn import provenance
from speechunlearn.errors import ParameterError
from speechunlearn.lab import results

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ADV, LAB = Cell("adv", 10, "", 0.3), Cell("ran_lab", 10)
above = partial(
    Question, claim="R0", method=("adv", ""), n="10", statistic="difference", measure="unseen",
    first=(ADV,), second=(LAB,), above=0,
)  # fmt: skip


def sample(rights, n_labels=2, resamples=2000, seed=0):
    """Runs of four speakers with as many clips of each class, whose shares of right answers are
    rights[cell][run, speaker], the same of each class."""
    n_runs, n_speakers = next(iter(rights.values())).shape
    n_clips = 20
    runs = []
    for run in range(n_runs):
        speakers = np.repeat(np.arange(n_speakers), n_labels * n_clips)
        labels = np.tile(np.repeat(np.arange(n_labels), n_clips), n_speakers)
        within = np.tile(np.arange(n_clips), n_labels * n_speakers)
        clips = pd.DataFrame({"label": labels, "speaker": speakers})
        clips.index += run * len(clips)
        rows = {}
        for cell, shares in rights.items():
            right = within < np.rint(shares[run, speakers] * n_clips)
            answers = np.where(right, labels, (labels + 1) % n_labels)
            rows[cell] = {"answers": answers, "unseen": right.mean(), "auc": 0.5 + 0.01 * run}
        runs.append(Rows(f"run ({run}, 0)", rows, clips, clips))
    return Sample(runs, n_labels, resamples, seed)


def grid(shares):
    """Shares that a number of clips can have."""
    return np.clip(np.rint(np.asarray(shares) * 20), 0, 20) / 20


def test_the_t_interval_over_runs_is_its_closed_form():
    runs = np.array([0.1, 0.3, 0.2, 0.4, 0.3, 0.2])
    estimate = Estimate(runs, np.full(1000, runs.mean()))
    # mean .25, squared deviations .055 in all: sd sqrt(.011), standard error sqrt(.011 / 6)
    error = math.sqrt(0.011 / 6)
    half = 2.570582 * error  # t(.975) of five degrees of freedom, of a printed table
    assert estimate.ends(0.05)["t"] == pytest.approx((0.25 - half, 0.25 + half), abs=1e-6)
    assert estimate.ends(0.1)["t"][1] == pytest.approx(0.25 + 2.015048 * error, abs=1e-6)
    assert estimate.wider(0.05) == "t"
    assert estimate.detectable(0.05) == pytest.approx((2.570582 + 0.919544) * error, abs=1e-5)
    wide = Estimate(runs, norm.ppf((np.arange(10_000) + 0.5) / 10_000))
    assert wide.wider(0.05) == "bootstrap"
    assert wide.deciding(0.05) == pytest.approx((-1.95996, 1.95996), abs=0.003)
    assert wide.detectable(0.05) == pytest.approx(1.95996 + 0.84162, abs=0.003)


def test_resamples_have_the_spread_of_two_stages():
    """Of means: that between runs, and that of speakers within them, both by hand."""
    generator = np.random.default_rng(1)
    first = grid(generator.uniform(0.4, 1, (12, 4)))
    second = grid(generator.uniform(0, 0.8, (12, 4)))
    runs = sample({ADV: first, LAB: second}, resamples=10_000)
    estimate = above().estimate(runs)
    difference = first - second
    assert estimate.runs == pytest.approx(difference.mean(axis=1))
    variance = difference.mean(axis=1).var() / 12 + difference.var(axis=1).mean() / 4 / 12
    assert estimate.drawn.std() == pytest.approx(math.sqrt(variance), rel=0.03)
    assert estimate.drawn.mean() == pytest.approx(difference.mean(), abs=0.003)
    # both sides have the same draws: a shift of every speaker by .2 has no spread at all
    shifted = sample({ADV: grid(second + 0.2), LAB: second}, resamples=200)
    assert above().estimate(shifted).drawn == pytest.approx(0.2)
    # of a score without answers, runs alone are drawn
    auc = runs.estimate(partial(runs.score, "auc", cell=ADV))
    assert auc.drawn.std() == pytest.approx(0.01 * np.arange(12).std() / math.sqrt(12), rel=0.03)


def test_the_bootstrap_covers_a_known_difference():
    generator, covered = np.random.default_rng(0), []
    for _ in range(50):
        run = generator.normal(0, 0.05, (2, 12, 1)) + generator.normal(0, 0.1, (2, 12, 4))
        # rounded at random, so that the mean stays: .7 and .55
        shares = np.floor((run + np.array([0.7, 0.55])[:, None, None]) * 20 + generator.uniform(
            size=run.shape)) / 20  # fmt: skip
        estimate = above().estimate(sample({ADV: shares[0], LAB: shares[1]}, resamples=200))
        low, high = estimate.ends(0.05)["bootstrap"]
        covered.append(low <= 0.15 <= high)
    assert 0.9 <= np.mean(covered) <= 1


def test_each_verdict():
    inside, outside, across = (0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1)
    question = above()
    assert [question.verdict(ends) for ends in (inside, outside, across)] == [
        "holds", "fails", "undecided"
    ]  # fmt: skip
    below = above(above=-math.inf, below=0.143)
    assert below.limit == "below 0.143" and below.verdict((0.0, 0.0)) == "holds"
    assert below.verdict((0.1, 0.143)) == "undecided" and below.verdict((0.15, 0.2)) == "fails"
    equal = above(above=-0.05, below=0.05)
    assert equal.verdict((-0.04, 0.04)) == "holds" and equal.verdict((0.06, 0.08)) == "fails"
    assert equal.verdict((-0.06, 0.04)) == equal.verdict((-0.06, 0.06)) == "undecided"
    assert equal.verdict((-0.08, -0.06)) == "fails"
    assert question.beyond((0.1, 0.3)) == pytest.approx(1)
    together = claims._together
    assert together(pd.Series(["holds", "holds"])) == "holds"
    assert together(pd.Series(["holds", "undecided"])) == "undecided"
    assert together(pd.Series(["holds", "undecided", "fails"])) == "fails"
    assert together(pd.Series(["fails", "not tested"])) == "not tested"


@pytest.mark.parametrize(
    ("p_values", "errors"),
    [
        # .001 < .05 / 4, .015 < .05 / 3, .02 < .05 / 2, .04 < .05: all are decided
        ((0.02, 0.001, 0.04, 0.015), (0.025, 0.0125, 0.05, 0.05 / 3)),
        # .02 > .05 / 3: the three that are left stay there, though .02 < .05
        ((0.02, 0.001, 0.04, 0.02), (0.05 / 3, 0.0125, 0.05 / 3, 0.05 / 3)),
        # .013 > .05 / 4: none
        ((0.02, 0.013, 0.04, 0.02), (0.0125,) * 4),
    ],
)
def test_holm_by_hand(p_values, errors):
    def beyond(p):
        """How far a normal interval of half-width q / q(p) is off 0, where the mean is 1."""
        return lambda error: norm.isf(p / 2) / norm.isf(error / 2) - 1

    assert claims.holm([beyond(p) for p in p_values], 0.05) == pytest.approx(errors)


def test_a_family_is_decided_at_the_errors_of_holm():
    """Four N of one method, of which the last has nothing to show."""
    generator = np.random.default_rng(3)
    cells = [Cell("adv", n, "", 0.3) for n in (10, 30, 50, 100)]
    rights = {LAB: np.full((6, 4), 0.5)}
    for cell, mean in zip(cells, (0.9, 0.85, 0.8, 0.5), strict=True):
        rights[cell] = grid(generator.uniform(-0.1, 0.1, (6, 4)) + mean)
    asked = [above(first=(cell,), n=str(cell.n)) for cell in cells]
    asked.append(above(claim="R8", table="figure"))
    table = claims.judged(asked, {"validation": sample(rights)}, {"figure": "figure.csv lacks x"})
    rows = table.set_index(["claim", "n"])
    assert rows.loc["R0", "verdict"].tolist() == ["holds"] * 3 + ["undecided"]
    assert (rows.loc["R0", "together"] == "undecided").all()
    errors = 1 - rows.loc["R0", "level"].to_numpy(float)
    assert sorted(errors) == pytest.approx([0.0125, 0.05 / 3, 0.025, 0.05])
    assert errors[3] == max(errors)
    estimate = asked[3].estimate(sample(rights))
    last = rows.loc["R0", "100"]
    assert (last["low"], last["high"]) == pytest.approx(estimate.deciding(0.05))
    assert last["detectable"] == pytest.approx(estimate.detectable(0.05))
    assert rows.loc["R0", "detectable"].isna().tolist() == [True] * 3 + [False]
    assert last["runs"] == 6 and 0 < last["z_test_p"] < 1
    clips = 6 * 4 * 2 * 20
    z = (rights[cells[0]].mean() - 0.5) / math.sqrt(
        2 * (pooled := (rights[cells[0]].mean() + 0.5) / 2) * (1 - pooled) / clips
    )
    assert rows.loc[("R0", "10"), "z_test_p"] == pytest.approx(norm.sf(z))
    absent = rows.loc[("R8", "10")]
    assert (absent["verdict"], absent["missing"]) == ("not tested", "figure.csv lacks x")
    assert set(table["claim"][table["verdict"] == "not testable here"]) == {"R7b", "R10"}


def test_equal_forgetting_is_read_between_two_taus():
    curve = [Cell("adv", 10, "", tau) for tau in (0.1, 0.2, 0.3)]
    shares = zip(curve, (0.5, 0.7, 0.9), strict=True)
    rights = {cell: np.full((3, 4), share) for cell, share in shares}
    runs = sample(rights, resamples=100)
    for run in runs.runs:
        for cell, forget in zip(curve, (0.6, 0.4, 0.0), strict=True):
            run.of[cell]["forget"] = forget
        run.of[Cell("retrain", 10)] = {"forget": 0.3}
    question = above(first=tuple(curve), second=(), over="equal", table="figure")
    # a quarter of the way from .4 to 0
    assert question.estimate(runs).runs == pytest.approx(0.75)
    assert question.estimate(runs).drawn == pytest.approx(0.75)
    runs.runs[1].of[Cell("retrain", 10)]["forget"] = 0.7
    row = claims.judged([question], {"figure": runs}, {}).iloc[0]
    assert row["verdict"] == "not tested" and row["missing"].endswith("forget UAR: run (1, 0)")
    spread = above(first=tuple(curve), second=(), over="sd")
    assert spread.estimate(runs).runs == pytest.approx(0.2)  # of .5, .7, .9


# Rows of files

SIZES = table1.Sizes(ns=(10, 100), taus=(0.1, 0.4, 0.7))
shown = partial(table1.shown, sizes=SIZES, resamples=200)


def write(folder, n_runs):
    """Made-up rows of every file: six or more runs, Figure 2, no setting test."""
    sizes, generator = SIZES, np.random.default_rng(0)
    clips = pd.DataFrame(
        {"hash": f"{speaker:02}{label}{take}", "speaker": f"{speaker:02}", "label": label,
         "fold": speaker % 6}
        for speaker in range(24) for label in LABELS for take in range(2)
    )  # fmt: skip
    clips.to_csv(folder / "clips.csv", index=False)
    truth = dict(zip(clips["hash"], clips["label"].map(LABELS.index), strict=True))
    sets: list[pd.DataFrame] = []
    text = cache(sizes.text)

    def answered(hashes, right):
        labels = np.array([truth[content] for content in hashes])
        wrong = generator.uniform(size=len(labels)) >= right
        said = np.where(wrong, (labels + 1) % 7, labels)
        recalls = [(said[labels == k] == k).mean() for k in np.unique(labels)]
        return "".join(map(str, said)), np.mean(recalls), sum(recalls) / 7

    def row(run, cell, order, right, forget):
        answers, unseen, _ = answered(clips["hash"][clips["fold"] == run.fold], right)
        said, present, of_all = answered(order[: cell.n], forget)
        return {
            **run.about, **cell._asdict(), "hyperparameters": text(cell._replace(n=0)),
            "forget": present, "forget_all": of_all,
            "auc": generator.uniform(0.2, 0.4) + 0.3 * (cell.tau == 0),
            "retain": 0.9, "tuning": 0.9 - abs(cell.tau - 0.4) + 0.05 * (cell.fisher_per == "clip"),
            "unseen": unseen, "answers": answers, "forget_answers": said,
            "protocol": provenance.protocol_hash(),
        }

    rows = {"tuned": [], "validation": [], "figure": []}
    runs = table1.REPORTED["validation"][:n_runs]
    for name, asked in {"tuned": [table1.TUNED], "validation": runs,
                        "figure": table1.REPORTED["figure"][:n_runs]}.items():
        for run in asked:
            order = generator.permutation(clips["hash"][clips["fold"] != run.fold])[:100]
            known = [part for part in sets if (part["draw"] == str(run.draw)).all()]
            if known:
                order = known[0]["hash"].to_numpy()
            elif not run.development:
                about = {key: value for key, value in run.about.items() if key != "seed"}
                sets.append(pd.DataFrame({"place": range(100), "hash": order, **about}))
            for n in sizes.ns:
                taus = [0.4] if name == "validation" else sizes.taus
                cells = [Cell(m, n, per, tau) for m, per in ATTACKS for tau in taus]
                for cell in cells:
                    rows[name].append(row(run, cell, order, 0.9 - 2 * (cell.tau - 0.4) ** 2, 0))
                if name == "validation":
                    for m, right, forget in (
                        ("original", 0.9, 1), ("retrain", 0.9, 0.6), ("remain", 0.9, 0.7),
                        ("remain_superloss", 0.9, 0.7), ("ran_lab", 0.3, 0.3),
                    ):  # fmt: skip
                        rows[name].append(row(run, Cell(m, n), order, right, forget))
    pd.concat(sets).to_csv(folder / "sets.csv", index=False)
    for name, part in rows.items():
        pd.DataFrame(part).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write(folder, 6)
    return folder


def test_six_runs_are_shown_with_every_claim(folder):
    lines: list[str] = []
    table, answers = shown(folder, lines.append)
    assert lines[:4] == [
        "tuned.csv: 18 of 18 cells", "validation.csv: 96 of 192 cells",
        "test.csv: 0 of 64 cells", "figure.csv: 54 of 54 cells",
    ]  # fmt: skip
    assert "run (0, 1) lacks 16 cells, first original 10;" in lines[4]
    assert len(table) == 2 * (5 + 3) and set(table["runs"]) == {6}
    rows = pd.read_csv(folder / "validation.csv", keep_default_na=False)
    for measure in ("forget_all", "forget", "unseen", "retain", "auc"):
        means = rows.groupby(["method", "fisher_per", "n"])[measure].mean()
        column = table.set_index(["method", "fisher_per", "n"])[measure].sort_index()
        assert column.to_numpy() == pytest.approx(means.sort_index().to_numpy(), abs=1e-5)
        assert (table[f"{measure}_low"] <= table[measure] + 1e-9).all()
        assert (table[f"{measure}_high"] >= table[measure] - 1e-9).all()
    by_claim = answers.groupby("claim")["verdict"].agg(set)
    assert set(by_claim.index) == {f"R{k}" for k in range(1, 11)} | {"R3b", "R7b", "Q1", "Q2"}
    for claim in ("R1", "R3", "R3b", "Q1"):
        assert by_claim[claim] == {"holds"}, claim
    assert by_claim["R9"] == {"not tested"} and by_claim["R10"] == {"not testable here"}
    assert answers["missing"][answers["claim"] == "R9"].str.contains(
        r"test.csv, 0 complete runs; run \(0, 0\) lacks 16 cells"
    ).all()
    # no tau leaves anything of the forget set
    assert by_claim["Q2"] == {"not tested"}
    # the better one is that with Fisher per clip, by the tuning fold
    assert set(answers["statistic"][answers["claim"] == "R3"]) == {
        "unseen UAR, adv_ela clip - ran_lab"
    }
    best = rows.query("method == 'adv_ela' and fisher_per == 'clip'").set_index(["n", "fold"])
    other = rows.query("method == 'ran_lab'").set_index(["n", "fold"])
    difference = (best["unseen"] - other["unseen"]).groupby(level="n").mean()
    values = answers[answers["claim"].isin(["R3", "R3b"])]["value"].astype(float)
    assert values.to_numpy() == pytest.approx(difference.to_numpy(), abs=1e-5)


def test_less_than_six_runs_are_not_shown(folder, tmp_path):
    for file in folder.glob("*.csv"):
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        lost = (file.stem == "validation") & (rows.get("fold") == "2")
        lost = lost & (rows.get("method") == "ran_lab") & (rows.get("n") == "100")
        rows[~lost].to_csv(tmp_path / file.name, index=False)
    lines: list[str] = []
    lacks = r"takes 6 complete runs: .* 5 .*; run \(2, 0\) lacks 1 cells, first ran_lab 100"
    with pytest.raises(ParameterError, match=lacks):
        shown(tmp_path, lines.append)
    assert "validation.csv: 95 of 192 cells" in lines
    with pytest.raises(ParameterError, match="adv, N = 10: tau .* not tuned"):
        shown(tmp_path / "absent", lines.append)
    assert lines[-1] == "figure.csv: 0 of 54 cells"


def test_answers_that_give_another_score_are_refused(folder, tmp_path):
    for file in folder.glob("*.csv"):
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        if file.stem == "validation":
            rows.loc[rows.index[rows["method"] == "remain"][0], "unseen"] = "0.5"
        rows.to_csv(tmp_path / file.name, index=False)
    with pytest.raises(ParameterError, match=r"run \(0, 0\), remain 10: unseen 0.5, but 0\."):
        shown(tmp_path, str)
    file = tmp_path / "figure.csv"
    pd.read_csv(file, dtype=str).assign(protocol="0123456789ab").to_csv(file, index=False)
    with pytest.raises(ParameterError, match="figure.csv, run .* protocol '0123456789ab'"):
        shown(tmp_path, str)


def test_what_has_no_rows_is_not_tested_by_name(folder, tmp_path):
    for file in folder.glob("*.csv"):
        if file.stem != "figure":
            shutil.copy(file, tmp_path)
    _, answers = shown(tmp_path, str)
    # those of the tau that was chosen are in validation.csv
    absent = answers[answers["table"] == "figure"]
    assert set(absent["claim"]) == {"R7", "R8", "Q2"} and (absent["verdict"] == "not tested").all()
    assert absent["missing"].str.startswith(
        "figure.csv, 0 complete runs; run (0, 0) lacks 12 cells, first adv 10 0.1; run (1, 0)"
    ).all()
    assert (absent["runs"] == 0).all() and absent["value"].isna().all()


def test_questions_are_asked_of_the_cells_that_tuning_chose():
    tuned = {
        Cell(name, n, per, tau): tau if tau < 0.6 else tau * (per == "batch") * (n == 50)
        for name, per in ATTACKS for n in table1.Sizes().ns for tau in table1.Sizes().taus
    }  # fmt: skip
    sizes = table1.Sizes()
    asked = list(Asked(tuned, results.paper_table1(), sizes.ns, sizes.taus).questions())
    better = {one.n: one.first[0] for one in asked if one.claim in ("R3", "R3b")}
    assert better == {
        "10": Cell("adv", 10, "", 0.5), "30": Cell("adv", 30, "", 0.5),
        "50": Cell("adv_ela", 50, "batch", 0.7), "100": Cell("adv", 100, "", 0.5),
    }  # fmt: skip
    inner = [one.first[0].tau for one in asked if one.claim == "R7" and one.method[1] == "batch"]
    assert inner == [0.5, 0.5, 0.5, 0.5, 0.6, 0.6, 0.5, 0.5]
    assert {one.second[0].tau for one in asked if one.claim == "R7"} == {0.1, 0.7}
    assert len({one.family for one in asked if one.claim in ("R3", "R3b")}) == 1
    assert len({one.family for one in asked if one.claim == "R9"}) == 4
    counts = pd.Series([one.claim for one in asked]).value_counts()
    assert counts[["R1", "R2", "R4", "R6", "R8", "Q1", "Q2"]].tolist() == [12, 8, 2, 4, 9, 12, 8]

    def paper(claim, method=""):
        of_claim = [one for one in asked if one.claim == claim and one.method[0].startswith(method)]
        return list({(one.method[0], one.n): one.paper for one in of_claim}.values())

    assert paper("R1", "adv_ela") == ["0.000", "0.024", "0.029", "0.071"]
    assert paper("R2", "ran_lab") == ["0.143", "-0.095", "0.048", "0.040"]
    assert paper("R3") == ["0.109", "0.356", "0.193"] and paper("R3b") == ["0.153"]
    assert paper("R4") == ["0.018"] and paper("R5") == ["0.442", "0.426"]
    assert paper("R6") == ["0.000", "-0.003", "0.004", "0.011"]
    assert paper("R9", claims.BETTER) == ["0.222", "0.241", "0.208"]
    assert {*paper("R8"), *paper("Q1"), *paper("Q2")} == {""}
