"""Tables, tests and verdicts computed from cells whose scores are known by hand."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from speechunlearn import files, provenance
from speechunlearn.chapters import figures, pages
from speechunlearn.errors import ParameterError
from speechunlearn.lab import experiments, leaderboard, sentences
from speechunlearn.lab import results as protocol
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.results import Results
from speechunlearn.lab.study import Evaluation

SPEAKERS = [f"s{i}" for i in range(6)]


def evaluation(
    method: str, n: int, right: dict[str, float], *, seed: int = 0, forget_id: str = "0",
    tau: float | None = None, variant: str = "", **changed: float,
) -> Evaluation:
    """Make a cell in which a share of each class's clips is right, the same for each speaker."""
    rows = []
    for split in ("forget", "retain", "unseen"):
        for speaker in SPEAKERS:
            for label in range(7):
                for clip in range(4):
                    said = label if clip < 4 * right[split] else (label + 1) % 7
                    rows.append(
                        {
                            "split": split, "hash": f"{split}{speaker}{label}{clip}",
                            "speaker": speaker, "label": label, "prediction": said,
                            "loss": 0.1 if said == label else 3.0,
                            "confidence": 0.9 if said == label else 0.05,
                        }
                    )
    parameters = {"tau": tau, "batch_size": 16} | sentences.PAPER | changed
    record = {
        "profile": "smoke", "task": "emotion", "corpus": "embedded", "corpus_hash": "x",
        "setting": "validation", "encoder": "nano", "method": method, "n_forget": n, "tau": tau,
        "seed": seed, "forget_id": forget_id, "variant": variant,
        "hyperparameters": json.dumps(parameters), "seconds": 2.0, "peak_memory_mb": 10.0,
        "forward_backward": 8, "forward": 0, "details": "{}", "commit": "c", "lock": "l",
        "machine": "m",
    }
    return Evaluation(record, pd.DataFrame(rows))


def scores(forget: float, unseen: float) -> dict[str, float]:
    return {"forget": forget, "retain": 1.0, "unseen": unseen}


@pytest.fixture
def results() -> Results:
    evaluations = []
    for seed in (0, 1):
        for n in (10, 30):
            at = {"seed": seed, "forget_id": str(seed)}
            evaluations += [
                evaluation("original", n, scores(1.0, 1.0), **at),
                evaluation("retrain", n, scores(0.75, 1.0), **at),
                evaluation("ran_lab", n, scores(0.25, 0.5), **at),
                evaluation("adv", n, scores(0.0, 0.75 if n == 10 else 0.5), tau=0.1, **at),
                evaluation("adv_ela", n, scores(0.25, 1.0), tau=0.3, **at),
            ]
    return Results.of(evaluations)


def verdicts(results: Results) -> dict[tuple[str, object], str]:
    table = experiments.claims(
        results, "validation", chance=1 / 7, generator=np.random.default_rng(0)
    )
    return table.set_index(["claim", "n_forget"])["verdict"].to_dict()


def test_the_table_of_methods_holds_means_distances_and_costs(results):
    table = protocol.table_of_methods(results, "validation", generator=np.random.default_rng(0))
    row = table.set_index(["method", "n_forget", "split"]).loc[("adv", 10, "forget")]
    assert row["value"] == 0.0 and row["distance"] == 0.75
    assert row["runs"] == 2 and row["seconds"] == 2.0 and row["tau"] == 0.1
    # all forget losses 3.0 against unseen losses of which three quarters are 0.1: ties count half
    assert row["mia_auc"] == pytest.approx(0.25 * 0.5)
    # retrained: forget .75 right, unseen all right: P(0.1 < 0.1) = ties
    assert row["mia_auc_distance"] == pytest.approx(0.75 * 0.5 - 0.125)


def test_the_verdicts_follow_from_the_scores(results):
    found = verdicts(results)
    below = "forgetting: {} is below chance on the forget set"
    assert found[below.format("Adv."), 10] == "holds"
    assert found[below.format("Adv. + Ela."), 10] == "fails"
    less = "retention: {} loses less than 0.10 UAR on unseen speakers"
    assert found[less.format("Adv."), 10] == "fails"
    assert found[less.format("Adv. + Ela."), 10] == "holds"
    more = "Adv. has a higher UAR than Ran. Lab. on unseen speakers"
    assert found[more, 10] == "holds"
    assert found[more, 30] == "undecided"
    falls = "unseen UAR of {} falls with N"
    assert found[falls.format("Adv."), "10 to 30"] == "holds"
    assert found[falls.format("Ran. Lab."), "10 to 30"] == "undecided"


def test_a_claim_that_one_pair_contradicts_is_undecided(results):
    table = results.evaluations
    second = table[(table["method"] == "adv") & (table["seed"] == 1) & (table["n_forget"] == 10)]
    worse = evaluation("adv", 10, scores(0.0, 0.25), seed=1, forget_id="1", tau=0.1)
    kept = results.select(
        evaluation=list(table["evaluation"][~table["evaluation"].isin(second["evaluation"])])
    )
    evaluations = [
        Evaluation(
            {k: v for k, v in r.items() if k != "evaluation"}, kept.of_evaluation(r["evaluation"])
        )
        for r in kept.evaluations.to_dict("records")
    ]
    changed = Results.of([*evaluations, worse])
    assert verdicts(changed)[
        "Adv. has a higher UAR than Ran. Lab. on unseen speakers", 10
    ] == "undecided"


def test_a_reduced_variant_decides_no_claim_of_the_paper(results):
    """Fewer copies of one method: what it is compared in is not tested, the rest is."""
    reduced = [
        evaluation("adv", n, scores(0.0, 0.75), seed=s, forget_id=str(s), tau=0.1, copies=2)
        for n in (10, 30) for s in (0, 1)
    ]
    others = results.select(method=["original", "retrain", "ran_lab", "adv_ela"])
    evaluations = [
        Evaluation(
            {k: v for k, v in r.items() if k != "evaluation"}, others.of_evaluation(r["evaluation"])
        )
        for r in others.evaluations.to_dict("records")
    ]
    table = experiments.claims(
        Results.of([*evaluations, *reduced]), "validation", chance=1 / 7,
        generator=np.random.default_rng(0),
    ).set_index("claim")
    of_adv = table.index.isin([
        "forgetting: Adv. is below chance on the forget set",
        "retention: Adv. loses less than 0.10 UAR on unseen speakers",
        "Adv. has a higher UAR than Ran. Lab. on unseen speakers",
        "elastic weights help Adv. on unseen speakers",
        "unseen UAR of Adv. falls with N",
    ])
    assert set(table["verdict"][of_adv]) == {"not tested here"}
    assert "not tested here" not in set(table["verdict"][~of_adv])
    below = table.loc["forgetting: Adv. is below chance on the forget set"]
    assert set(below["difference"]) == {"above 0"}  # what was measured is said all the same


def test_a_model_that_is_scored_for_several_sizes_counts_once():
    """Two originals and retrained models of two sizes each; Ran. Lab. is one model a size."""
    evaluations = []
    for seed in (0, 1):
        at = {"seed": seed, "forget_id": str(seed)}
        for n in (10, 30):
            evaluations += [
                evaluation(m, n, scores(1.0, 1.0), **at) for m in ("original", "retrain")
            ]
            evaluations.append(evaluation("ran_lab", n, scores(0.0, 1.0), **at))
    found = Results.of(evaluations)
    assert len(found.evaluations) == 12
    assert found.models["method"].value_counts().to_dict() == {
        "ran_lab": 4, "original": 2, "retrain": 2
    }
    assert "8 models, 0.0 h" in pages.made_by(found)
    # a variant that is the profile's own choice is not a further model, one of another is
    own = evaluation("ran_lab", 10, scores(0.0, 1.0), variant="the profile's choices")
    other = evaluation("ran_lab", 10, scores(0.0, 1.0), variant="faster", learning_rate=1.0)
    assert len(Results.of([*evaluations, own, other]).models) == 9


def test_the_committed_models_are_counted_once():
    real = protocol.committed("cpu", "ravdess").reported().select(setting="validation")
    assert len(real.evaluations) == 84 and len(real.models) == 66
    assert real.models["seconds"].sum() / 3600 == pytest.approx(1.42, abs=0.005)


def test_tests_against_a_baseline_have_the_papers_z_beside_the_paired(results):
    table = protocol.tests_against(
        results, "validation", "ran_lab", ["adv"], generator=np.random.default_rng(0)
    ).set_index("n_forget")
    assert table.loc[10, "difference"] == pytest.approx(0.25)
    n = 6 * 7 * 4
    pooled = (0.75 + 0.5) / 2
    z = 0.25 / np.sqrt(pooled * (1 - pooled) * 2 / n)
    assert table.loc[10, "z"] == pytest.approx(z)
    assert table.loc[10, "p_paired"] < 0.01
    # 42 clips that Adv. alone gets right in each pair
    assert table.loc[10, "p_mcnemar"] == pytest.approx(2 * 0.5**42)
    assert table.loc[30, "difference"] == 0 and table.loc[30, "p_mcnemar"] == 1


def test_the_readable_table_has_the_papers_numbers_beside_ours(results):
    table = protocol.table_of_methods(results, "validation", generator=np.random.default_rng(0))
    paper = protocol.paper_table1().query("setting == 'validation'")
    shown = protocol.readable(table, paper)
    assert shown.loc[(10, "Adv."), "unseen, paper"] == "0.840"
    assert shown.loc[(30, "Ran. Lab."), "forget, paper"] == "0.048"
    assert shown.loc[(10, "Original"), "forget, paper"] == "–"
    assert shown.loc[(10, "Retrained"), "unseen, paper"] == "–"
    assert shown.loc[(10, "Adv."), "unseen"].startswith("0.75 [")
    methods = list(dict.fromkeys(table["method"]))
    in_order = [title for name, title in protocol.TITLES.items() if name in methods]
    assert [*shown.index] == [(n, title) for n in (10, 30) for title in in_order]


def test_the_papers_table_is_whole():
    paper = protocol.paper_table1()
    assert len(paper) == 5 * 4 * 2
    best = paper.set_index(["method", "n_forget", "setting"])
    assert best.loc[("adv_ela", 10, "validation"), "unseen"] == 0.855
    assert best.loc[("ran_lab", 100, "test"), "unseen"] == 0.482


def test_variants_and_development_cells_stay_out_of_the_main_tables(results, tmp_path):
    extra = [
        evaluation("adv_ela", 10, scores(0.0, 0.0), tau=0.3, variant="step size"),
        evaluation("adv", 10, scores(0.0, 0.0), tau=0.2, forget_id=DEVELOPMENT),
    ]
    Results.of(extra).write(tmp_path)
    results.write(tmp_path)
    both = Results.read(tmp_path)
    assert len(both.evaluations) == len(results.evaluations) + 2
    assert set(both.reported().evaluations["evaluation"]) == set(results.evaluations["evaluation"])
    shown = experiments.variants(both)
    assert shown.loc[(10, "step size"), "unseen UAR"] == 0
    assert shown.loc[(10, "step size"), "AUC to retrained"] == pytest.approx(
        abs(0.5 - 0.75 * 0.5)
    )


def test_those_that_write_side_by_side_lose_nothing(tmp_path):
    parts = [Results.of([evaluation("adv", n, {"forget": 0, "retain": 1, "unseen": 1})])
             for n in range(1, 9)]
    parts[0].write(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(part.write, tmp_path) for part in parts[1:]]
        while not all(future.done() for future in written):  # whoever reads finds whole files
            found = Results.read(tmp_path)
            assert all(len(found.of_evaluation(name)) for name in found.evaluations["evaluation"])
        for future in written:
            future.result()
    assert sorted(Results.read(tmp_path).evaluations["n_forget"]) == list(range(1, 9))


def test_a_write_that_is_cut_off_leaves_what_was_there(tmp_path, monkeypatch):
    one, other = (Results.of([evaluation("adv", n, {"forget": 0, "retain": 1, "unseen": 1})])
                  for n in (1, 2))
    one.write(tmp_path)

    def cut_off(table, path, **how):
        path.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", cut_off)
        with pytest.raises(KeyboardInterrupt):
            other.write(tmp_path)
    assert list(Results.read(tmp_path).evaluations["n_forget"]) == [1]
    other.write(tmp_path)
    assert sorted(Results.read(tmp_path).evaluations["n_forget"]) == [1, 2]
    names = {path.name for path in tmp_path.iterdir()} - {files.LOCK}
    assert names == {"evaluations.csv", "predictions.parquet", "SHA256SUMS"}


@pytest.mark.parametrize("name", ["evaluations.csv", "predictions.parquet"])
def test_no_bit_of_results_is_believed(tmp_path, name):
    part = Results.of([evaluation("adv", 1, {"forget": 0, "retain": 1, "unseen": 1})])
    part.write(tmp_path)
    content = (tmp_path / name).read_bytes()
    for share in (0.2, 0.45, 0.7, 0.95):
        flipped = bytearray(content)
        flipped[int(share * len(content))] ^= 4
        (tmp_path / name).write_bytes(flipped)
        for call in (Results.read, part.write):
            with pytest.raises(ParameterError, match=f"{name} is not what was written"):
                call(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert list(Results.read(tmp_path).evaluations["n_forget"]) == [1]


def of_distances(**distances: tuple[float, ...]) -> Results:
    """Make a run for each distance of a method to a perfect retrained model."""
    evaluations = []
    for run in range(len(next(iter(distances.values())))):
        at = {"seed": run, "forget_id": str(run)}
        evaluations.append(evaluation("retrain", 10, scores(1.0, 1.0), **at))
        evaluations += [
            evaluation(method, 10, scores(1.0 - values[run], 1.0), **at)
            for method, values in distances.items()
        ]
    return Results.of(evaluations)


def test_which_corpus_is_further_from_retraining_by_welchs_interval():
    one = of_distances(adv=(0.25, 0.5, 0.75), ran_lab=(1.0, 1.0, 0.75), delete=(0.5, 0.5, 0.5))
    other = of_distances(adv=(0.0, 0.25, 0.5), ran_lab=(0.0, 0.0, 0.25))
    table = protocol.further_from_retraining(one, other)
    assert list(table.index) == ["Ran. Lab.", "Adv."]
    # variances 1/16 and 1/16 of three runs, 4 degrees of freedom: t = 2.7764
    reach = 2.7764 * np.sqrt(2 / 16 / 3)
    adv = table.loc["Adv."]
    assert adv["one"] == 0.5 and adv["other"] == 0.25
    assert adv["low"] == pytest.approx(0.25 - reach, abs=1e-4)
    assert adv["high"] == pytest.approx(0.25 + reach, abs=1e-4)
    assert adv["further"] == "undecided"
    assert table.loc["Ran. Lab.", "further"] == "one"
    assert protocol.further_from_retraining(other, one).loc["Ran. Lab.", "further"] == "other"


def test_one_pair_cannot_say_which_corpus_is_further():
    with pytest.raises(ParameterError, match="1 run"):
        protocol.further_from_retraining(of_distances(adv=(0.5,)), of_distances(adv=(0.5,)))


def test_tau_has_the_papers_rule():
    evaluations = [
        evaluation("adv", 10, scores(0.0, unseen), tau=tau, forget_id=DEVELOPMENT)
        for tau, unseen in ((0.1, 0.25), (0.3, 0.75), (0.5, 0.75), (0.7, 0.5))
    ]
    results = Results.of(evaluations)
    assert experiments.chosen_taus(results) == {("adv", 10): 0.3}
    shape = experiments.shape_over_tau(results).iloc[0]
    assert (shape["smallest tau"], shape["best"], shape["largest tau"]) == (0.25, 0.75, 0.5)
    assert shape["rises, then falls"]
    with pytest.raises(ParameterError, match="there are no development evaluations"):
        experiments.chosen_taus(results.select(tau=0.9))


def test_an_empty_or_absent_folder_is_named(tmp_path):
    with pytest.raises(ParameterError, match="no results in .*nothing"):
        Results.read(tmp_path / "nothing")
    with pytest.raises(ParameterError, match="there are no evaluations"):
        Results.of([])


def test_figures_are_drawn_from_the_tables(results):
    table = protocol.table_of_methods(results, "validation", generator=np.random.default_rng(0))
    paper = protocol.paper_table1().query("setting == 'validation'")
    figure = figures.by_method(table, paper)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == ["Original", "Retrained", "Ran. Lab.", "Adv.", "Adv. + Ela."]


def test_every_method_of_the_registry_is_drawn():
    """And no two look alike, however many there are."""
    table = pd.DataFrame(
        [
            {"method": method, "n_forget": 10, "split": split, "value": v, "low": v, "high": v}
            for v, method in enumerate(protocol.TITLES)
            for split in ("forget", "unseen")
        ]
    )
    assert len(protocol.TITLES) > 7
    figure = figures.by_method(table)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == list(protocol.TITLES.values())
    for axis in figure.axes:
        points = [line for line in axis.get_lines() if line.get_marker() != "None"]
        assert [line.get_ydata()[0] for line in points] == list(range(len(shown)))
        assert len({(line.get_marker(), line.get_color()) for line in points}) == len(shown)
    # a method looks the same in a figure without the others
    part = figures.by_method(table[table["method"].isin(["adv", "ssd"])])
    assert {line.get_marker() for line in part.axes[0].get_lines()} - {"None"} == {
        points[list(protocol.TITLES).index(method)].get_marker() for method in ("adv", "ssd")
    }
    _, axis = figures.panels(2, 2)
    figures.curves(axis, pd.DataFrame({f"model {i}": [1.0, 0.5] for i in range(25)}))
    lines = axis.get_lines()
    assert len({(line.get_marker(), line.get_color()) for line in lines}) == 25


def test_cells_of_before_and_after_the_other_tasks_live_in_one_folder(tmp_path):
    old = evaluation("original", 10, scores(1.0, 1.0))
    new = evaluation("retrain", 10, scores(0.75, 1.0))
    record = new.record | {"n_classes": 7, "needs": "forget, retain", "forget_kind": "clips"}
    Results.of([old]).write(tmp_path)
    clustered = new.predictions.assign(cluster=new.predictions["speaker"])
    Results.of([Evaluation(record, clustered)]).write(
        tmp_path
    )
    both = Results.read(tmp_path)
    assert both.n_labels == 7 and set(both.evaluations["forget_kind"]) == {"clips"}
    assert sorted(both.evaluations["needs"]) == ["", "forget, retain"]
    assert (both.predictions["cluster"] == both.predictions["speaker"]).all()


def under(made: Evaluation, protocol: str) -> Evaluation:
    """The same cell, made under another protocol."""
    return Evaluation(made.record | {"protocol": protocol}, made.predictions)


def test_rows_of_two_protocols_make_no_table(tmp_path):
    one, two = (evaluation(m, 10, scores(0.5, 0.5)) for m in ("ran_lab", "adv"))
    third = evaluation("retrain", 10, scores(0.5, 0.5))
    same = Results.of([under(c, "abc") for c in (one, two, third)])
    assert len(same.reported().evaluations) == 3
    same.write(tmp_path)
    assert set(Results.read(tmp_path).evaluations["protocol"]) == {"abc"}
    for other in ("def", ""):
        mixed = Results.of([under(one, "abc"), under(two, other), under(third, "abc")])
        message = (
            rf"\(adv, N=10, seed 0, forget set 0\) was made under protocol "
            f"'{other or 'none'}'"
        )
        with pytest.raises(ParameterError, match=message):
            mixed.reported()
        with pytest.raises(ParameterError, match=message):
            leaderboard.runs(mixed)
        generator = np.random.default_rng(0)
        with pytest.raises(ParameterError, match=message):
            protocol.table_of_methods(mixed, "validation", generator=generator)


def test_rows_of_before_there_was_a_protocol_are_read_as_before(results, tmp_path):
    assert len(results.reported().evaluations)
    results.write(tmp_path)
    assert len(Results.read(tmp_path).reported().evaluations) == len(results.reported().evaluations)


def test_the_protocol_is_the_committed_file():
    text = (provenance.REPOSITORY / "data" / "protocol.md").read_bytes()
    assert provenance.protocol_hash() == hashlib.sha256(text).hexdigest()[:12]
