"""Table 1: the rotation, sizes and choices of the protocol, tuning, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny_study
import torch

from benchmarks import table1
from benchmarks.table1 import TUNED, Cell, Run, Sizes, Table
from speechunlearn import corpora
from speechunlearn.cache import Cache
from speechunlearn.errors import ParameterError
from speechunlearn.lab import forget_sets, study
from speechunlearn.methods.pgd import adversarial_set
from speechunlearn.models import fast_mode

RECIPE = {
    "epochs": 1, "learning_rate": 1e-3, "batch_size": 64, "fast": True,
    "encoder": tiny_study.ENCODER | {"apply_spec_augment": True, "mask_time_length": 2},
}  # fmt: skip
TINY = Sizes(
    ns=(2, 3), taus=(0.1, 0.7), copies=2, steps=2, epochs=1, corpus="embedded",
    profile=tiny_study.profile(
        corpus="embedded", recipe=RECIPE, max_seconds=0.2, n_values=(2, 3), runs=((0, 0), (1, 1)),
    ),
)  # fmt: skip
NAMES = ("ran_lab", "adv", "adv_ela")


@pytest.fixture(scope="module", autouse=True)
def few_clips():
    """Of the embedded corpus a clip of each speaker and class."""
    few = corpora.read_manifest("embedded").groupby(["speaker", "label"]).head(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "read_manifest", lambda name, root: few)
        yield


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """What tuning and a run write, and what they say."""
    folder, cache = (tmp_path_factory.mktemp(name) for name in ("rows", "cache"))
    lines: list[str] = []
    tuned = Table(folder, "tuned", sizes=TINY, cache=Cache(cache))
    table1.make(tuned, TUNED, [], lambda: tuned.cells(TINY.taus), NAMES, lines.append)
    table = Table(folder, "validation", sizes=TINY, cache=Cache(cache))
    table1.make(table, Run(1), table.plain(), table.cells, table1.METHODS, lines.append)
    return folder, Cache(cache), lines


@pytest.fixture
def table(desk):
    return Table(desk[0], "validation", sizes=TINY, cache=desk[1])


def test_sizes_and_choices_are_the_protocols():
    sizes = Sizes()
    assert sizes.ns == (10, 30, 50, 100) and len(sizes.taus) == 7
    shared = {"epochs": 15, "learning_rate": 3e-4, "batch_size": 16, "mode": "train"}
    attack = shared | {
        "copies": 20, "steps": 50, "tau": 0.3, "step_fraction": 0.25, "projection": "step",
        "attack_mode": "eval", "attack_precision": "float32", "sets": "once",
        "lambda_mis": 0.1, "lambda_adv": 1.0, "attack_batch_size": 32,
    }  # fmt: skip
    assert json.loads(sizes.text(Cell("adv", 10, "", 0.3))) == attack
    assert json.loads(sizes.text(Cell("adv_ela", 10, "batch", 0.3))) == attack | {
        "lambda_ewc": 1000.0, "importance": "fisher", "fisher_per": "batch",
        "importance_mode": "eval",
    }  # fmt: skip
    for name in ("ran_lab", "remain"):
        assert shared.items() <= json.loads(sizes.text(Cell(name, 10))).items()
    profile = sizes.profile
    assert (profile.encoder, profile.threads, profile.recipe["fast"]) == ("nano-pretrained", 1, 1)
    recipe = json.loads(sizes.text(Cell("retrain", 10)))
    assert recipe["epochs"] == 30 and recipe["fast"]


def test_every_speaker_is_unseen_once_in_six_runs(table):
    counts = table.manifest.drop_duplicates("speaker").set_index("speaker")["gender"]
    unseen = []
    for fold in range(6):
        split = table1.rotated(table.manifest, Run(fold)).groupby("speaker")["split"].first()
        parts = {name: set(split.index[split == name]) for name in ("train", "validation", "test")}
        assert [len(part) for part in parts.values()] == [16, 4, 4]
        assert sorted(counts[sorted(parts["validation"])]) == ["female"] * 2 + ["male"] * 2
        unseen += parts["validation"]
        after = table1.rotated(table.manifest, Run((fold + 1) % 6))
        assert parts["test"] == set(after["speaker"][after["split"] == "validation"])
        # in setting test the same are unseen, and five folds are trained on
        other = table.study(Run(fold, setting="test"))
        assert set(other._unseen_manifest["speaker"]) == parts["validation"]
        assert set(other.train_manifest["speaker"]) == set(counts.index) - parts["validation"]
    assert sorted(unseen) == sorted(counts.index)
    with pytest.raises(ParameterError, match="11 female speakers are not 6 parts"):
        table1.folds(table.manifest[table.manifest["speaker"] != counts.index[0]])


def test_a_study_keeps_the_rotation(table):
    run = Run(2)
    rotation = table1.rotated(table.manifest, run)["split"]
    assert table.study(run).manifest["split"].tolist() == rotation.tolist()


def test_forget_sets_are_nested_and_share_no_clip_with_what_was_looked_at(table):
    assert (Run(4, 1).seed, Run(4, 1).draw, TUNED.seed) == (20, 20, 10)
    tuned = set(table.order(table.study(TUNED), TUNED))
    assert len(tuned) == 3 and tuned < table.looked_at
    before = table.study(TUNED).profile
    assert [draw for _, draw in before.runs] == [0, 1] and len(table.looked_at) > 3
    for fold in range(6):
        order = table.order(table.study(Run(fold)), Run(fold))
        assert len(set(order)) == 3 and not set(order) & table.looked_at
    trained = table1.Trained(table, Run(1))
    assert trained.first(2).names == tuple(trained.order[:2])


def test_references_are_retrained_without_exactly_their_clips(table, desk):
    trained = table1.Trained(table, Run(1))
    for n in TINY.ns:
        call = {"without": trained.first(n), "seed": 11}
        specification = trained.study.artefact("models", call).specification
        heard = [h for h in trained.study.train_manifest["hash"] if h not in trained.order[:n]]
        assert specification["clips"] == study._hash_of(heard)
        assert desk[1].find("models", specification)


def test_a_row_says_what_the_model_says(table, desk):
    """The scores of the retrained model, by sums over its own answers."""
    row = table.find(Run(1), Cell("retrain", 3)).iloc[0]
    trained = table1.Trained(table, Run(1))
    model = trained.study.retrained(11, trained.first(3))
    said = trained.predictions(model, 3)
    labels = trained.study.labels
    clips = pd.read_csv(desk[0] / "clips.csv", dtype=str)
    unseen = clips[clips["fold"] == "1"]
    truth = unseen["label"].map(labels.index).to_numpy()
    answers = np.array([table1.SIGNS.index(sign) for sign in row["answers"]])
    recalls = [(answers[truth == k] == k).mean() for k in range(len(labels))]
    assert row["unseen"] == pytest.approx(np.mean(recalls), abs=1e-6)
    sets = pd.read_csv(desk[0] / "sets.csv", dtype=str)
    forget = sets[sets["draw"] == "11"]["hash"].tolist()
    assert forget == trained.order
    truth = clips.set_index("hash")["label"][forget].map(labels.index).to_numpy()
    answers = np.array([table1.SIGNS.index(sign) for sign in row["forget_answers"]])
    right = [(answers[truth == k] == k).mean() for k in np.unique(truth)]
    assert row["forget"] == pytest.approx(np.mean(right), abs=1e-6)
    assert row["forget_all"] == pytest.approx(sum(right) / len(labels), abs=1e-6)
    losses = [said["loss"][said["split"] == part].to_numpy() for part in ("forget", "unseen")]
    lower = (losses[0][:, None] < losses[1]).mean()
    assert row["auc"] == pytest.approx(lower, abs=1e-3)
    assert row["loss"] == pytest.approx(losses[0].mean(), rel=1e-4)
    sizes = said["split"].value_counts()
    assert sizes["retain"] == len(trained.study.train) - 3 and sizes["forget"] == 3
    speakers = said.groupby("split")["speaker"].agg(set)
    assert set(unseen["speaker"]) == speakers["unseen"] and not (
        speakers["tuning"] & (speakers["unseen"] | speakers["retain"])
    )


def test_unlearning_masks_nothing_and_moves_all_but_the_front_end(table, monkeypatch):
    trained = table1.Trained(table, Run(1))
    models = []
    kept = trained.predictions

    def predictions(model, n):
        models.append(model)
        return kept(model, n)

    monkeypatch.setattr(trained, "predictions", predictions)
    trained.row(Cell("ran_lab", 2))
    before = dict(trained.study.original(11).named_parameters())
    assert before and trained.study.original(11).network.config.apply_spec_augment
    assert not models[0].network.config.apply_spec_augment
    for name, weight in models[0].named_parameters():
        if "masked_spec_embed" not in name:
            assert torch.equal(weight, before[name]) == ("feature_extractor" in name), name


def test_one_attack_serves_all_sizes_and_goes_when_its_rows_are_whole(table, desk):
    trained = table1.Trained(table, Run(1))
    parameters = TINY.parameters(Cell("adv", 2, "", 0.1)).attack
    cost = table1.Cost()
    copies = trained._copies(2, 3, None, parameters, 11, cost)
    model, forget = trained.study.original(11), trained.study.forget(trained.first(2))
    with fast_mode.fast(model):
        alone = adversarial_set(model, forget, len(trained.study.labels), parameters, seed=11)
    for one, other in zip(copies.clips.waveforms_z, alone.clips.waveforms_z, strict=True):
        # a sign may turn where a gradient is next to zero
        assert ((one - other).abs() < 1e-5).float().mean() > 0.95
    assert torch.equal(copies.clips.labels, alone.clips.labels)
    assert cost.forward_backward == 2 * TINY.copies * TINY.steps  # two thirds of the attack
    artefact = trained.attack(3, parameters)
    assert desk[1].find(artefact.kind, artefact.specification)
    table1.remove(desk[1].folder(artefact.kind, artefact.specification))
    assert not list((desk[1].root / "adversarial").glob("*/copies.safetensors"))


def test_tuning_and_a_run_are_whole_and_nothing_is_done_twice(table, desk):
    folder, cache, lines = desk
    tuned = Table(folder, "tuned", sizes=TINY, cache=cache)
    assert len(tuned.rows) == 2 * 2 * 3 and len(table.rows) == 2 * (5 + 3)
    assert len(lines) == len(tuned.rows) + len(table.rows)
    table1.make(table, Run(1), table.plain(), table.cells, table1.METHODS, lines.append)
    assert len(lines) == len(tuned.rows) + len(table.rows)
    best = tuned.rows.groupby(["method", "fisher_per", "n"])
    for (method, per, n), part in best:
        tau = part["tau"][part["tuning"] == part["tuning"].max()].min()
        assert table.chosen(method, per, n) == tau
        assert len(table.find(Run(1), Cell(method, n, per, tau))) == 1
    # a row that is lost is made again, to the same numbers
    rows = table.rows
    rows[rows["method"] != "adv"].to_csv(table.file, index=False)
    table1.make(table, Run(1), table.plain(), table.cells, table1.METHODS, lines.append)
    timed = ["seconds", "commit", "peak_memory_mb"]
    again, rows = (
        part.drop(columns=timed).set_index(table1.KEY).sort_index() for part in (table.rows, rows)
    )
    pd.testing.assert_frame_equal(again, rows)


def test_the_figure_takes_rows_that_are_there(table, desk):
    lines: list[str] = []
    figure = Table(desk[0], "figure", sizes=TINY, cache=desk[1])
    cells = [cell for cell in table.cells() if cell.method == "adv"]
    table1.make(figure, Run(1), [], lambda: cells, ["adv"], lines.append, [table])
    columns = [*table1.KEY, "unseen", "answers", "hyperparameters"]
    for cell in cells:
        one, other = figure.find(Run(1), cell), table.find(Run(1), cell)
        assert one[columns].to_dict("records") == other[columns].to_dict("records")


def test_what_does_not_fit_is_refused_by_name(table, desk, monkeypatch, tmp_path):
    with pytest.raises(ParameterError, match=r"adv, N = 2: tau \[0.1, 0.7\] not tuned"):
        Table(tmp_path, "validation", sizes=TINY).cells()
    rows = table.rows
    file = tmp_path / "validation.csv"
    rows.assign(protocol="0123456789ab").to_csv(file, index=False)
    with pytest.raises(ParameterError, match=r"run \(1, 0\), original 2 .*protocol '0123456789ab'"):
        Table(tmp_path, "validation", sizes=TINY)
    rows.to_csv(file, index=False)
    others = {"steps": 3, "copies": 1, "epochs": 2, "learning_rate": 1e-3, "ns": (2,), "taus": (1,)}
    for name, value in others.items():
        with pytest.raises(ParameterError, match="other sizes than the table's"):
            Table(tmp_path, "validation", sizes=replace(TINY, **{name: value}))
    sets = pd.read_csv(desk[0] / "sets.csv")
    monkeypatch.setattr(Table, "order", lambda *_: sets["hash"][sets["draw"] != "11"].tolist()[:3])
    with pytest.raises(ParameterError, match="other clips than are there now"):
        table1.Trained(table, Run(1))
    for text in ("6,0", "0,2", "1", "x,0"):
        with pytest.raises(ParameterError, match="is no fold and repeat"):
            list(table1.runs([text]))
    assert list(table1.runs(["0,0", "5,1"])) == [(0, 0), (5, 1)]
    assert forget_sets.DEVELOPMENT == TUNED.draw
