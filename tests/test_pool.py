"""A pool of models: who hears what, and that what was heard is what the design says."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import tiny as tiny_weights
import tiny_study
import torch

from benchmarks import pools
from speechunlearn import provenance
from speechunlearn.cache import Cache
from speechunlearn.errors import ParameterError
from speechunlearn.lab import forget_sets, profiles
from speechunlearn.lab.forget_sets import DEVELOPMENT
from speechunlearn.lab.study import Study
from speechunlearn.models import training
from speechunlearn.provenance import REPOSITORY

SETS = "dev:clips:2 clips:1x2 clips:4 clips:0.05 takes:2 speaker:1x2"
MODELS = 4
SIZES = {
    "max_seconds": 0.2,
    "recipe": {
        "epochs": 1, "learning_rate": 1e-3, "batch_size": 64, "encoder": tiny_study.ENCODER,
        "fast": True,
    },
}  # fmt: skip


def tiny(cache, **values):
    """The embedded corpus with the smallest network."""
    return Study(tiny_study.profile(corpus="embedded", **(SIZES | values)), cache=Cache(cache))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def design(study):
    return pools.design(study, SETS, MODELS, spare=6, seed=3)


@pytest.fixture(scope="module")
def folder(study, design, tmp_path_factory):
    """A finished pool."""
    out = tmp_path_factory.mktemp("pool")
    pools.begin(study, design, out)
    for k in range(MODELS):
        pools.answer(study, design, k, out)
    return out


@pytest.mark.parametrize(("models", "sets"), [(32, 22), (12, 16), (13, 5), (2, 1), (33, 3)])
def test_each_set_is_out_of_half_of_the_models(models, sets):
    heard = pools.balanced(models, sets, seed=0)
    assert heard.shape == (models, sets) and set(np.unique(heard)) <= {0, 1}
    assert (abs(heard.sum(0) - models / 2) <= 0.5 + (models > 12)).all()
    if models >= 12:
        assert (heard[:12].sum(0) == 6).all()
    assert (pools.balanced(models, sets, seed=0) == heard).all()


def test_which_sets_a_model_hears_says_nothing_of_another_set():
    heard = pools.balanced(32, 22, seed=0)
    pairs = np.corrcoef(heard.T)[np.triu_indices(22, 1)]
    assert abs(pairs).max() < 0.3 and abs(pairs).mean() < 0.06
    assert (heard != pools.balanced(32, 22, seed=1)).any()


def test_sets_are_disjoint_and_of_the_size_and_kind_that_was_asked(study, design):
    train = study.train_manifest.set_index("hash")
    kinds = [s.kind for s in design.sets]
    assert kinds == ["clips"] * 5 + ["takes"] + ["speaker"] * 2
    sizes = [len(s.hashes) for s in design.sets]
    assert sizes[:5] == [2, 1, 1, 4, round(0.05 * len(train))]
    every = [h for s in design.sets for h in s.hashes] + list(design.spare)
    assert len(set(every)) == len(every) and set(every) <= set(train.index)
    assert design.sets[0].development and not any(s.development for s in design.sets[1:])
    for one in design.sets[6:]:
        speaker = one.name.removeprefix("speaker ")
        assert set(one.hashes) == set(train.index[train["speaker"] == speaker])
        assert not train.loc[list(design.spare), "speaker"].eq(speaker).any()
    about = pools.about_clips(study, design)
    takes = about[about["part"] == "takes 2 a"]
    assert takes["utterance"].nunique() == 2
    assert set(about["utterance"][about["hash"].isin(takes["hash"])]) == set(takes["utterance"])
    others = about[about["utterance"].isin(takes["utterance"])]
    assert len(others) == len(takes) == 4


def test_reported_sets_hold_no_clip_that_an_earlier_forget_set_holds(study, design):
    tuned = set(study.hashes(forget_sets.clips(2, DEVELOPMENT)))
    looked_at = tuned.union(
        *(study.hashes(forget_sets.clips(2, forget_id)) for forget_id in (0, 1))
    )
    assert set(design.sets[0].hashes) <= tuned
    for one in design.sets[1:6]:
        assert not looked_at & set(one.hashes)


def test_a_model_is_trained_on_exactly_what_the_design_says(study, tmp_path, monkeypatch):
    seen, real = [], training.train
    design = pools.design(study, SETS, MODELS, spare=6, seed=5)

    def spy(model, clips, *args, seed, **kwargs):
        seen.append((seed, clips.hashes))
        return real(model, clips, *args, seed=seed, **kwargs)

    monkeypatch.setattr(training, "train", spy)
    pools.answer(study, design, 1, tmp_path)
    never = {*design.spare, *design.left_out}
    for one, heard in zip(design.sets, design.heard[1], strict=True):
        never |= set() if heard else set(one.hashes)
    assert seen == [(5001, [h for h in study.train_manifest["hash"] if h not in never])]


def test_a_pool_is_read_as_it_was_made(study, design, folder):
    found = pools.Pool.read(folder)
    assert found.design.digest == design.digest and len(found.models) == MODELS
    assert len(found.clips) == len(study.manifest) == found.logits.shape[1]
    assert found.logits.dtype == np.float16
    for column in ("seconds", "peak_memory_mb", "commit", "lock", "machine", "clips"):
        assert found.models[column].notna().all()
    name = "clips 4 a"
    assert {*found.originals(name), *found.references(name)} == set(range(MODELS))
    assert len(found.originals(name)) == len(found.references(name)) == 2
    k = found.references(name)[0]
    table = found.predictions(k, name)
    sizes = table.groupby("split").size()
    assert sizes["forget"] == 4 and sizes["spare"] == 6
    assert sizes["unseen"] == len(pools.untrained(study))
    model = study.retrained(design.seed_of(k), design.absent(k))
    said = training.predict(model, study.forget(design.sets[3].forget_set)).argmax(1)
    stored = found.model(k, study.cache)
    assert tiny_weights.equal(tiny_weights.weights(stored), tiny_weights.weights(model))
    with pytest.raises(ParameterError, match=f"model {k} is not in"):
        found.model(k, Cache(folder))
    order = list(design.sets[3].hashes)
    forget = table[table["split"] == "forget"].set_index("hash").loc[order]
    assert forget["prediction"].tolist() == said.tolist()


def test_a_reference_that_heard_its_set_is_refused_by_name(folder, design, tmp_path):
    copied(folder, tmp_path)
    k = pools.Pool.read(folder).references("takes 2 a")[0]
    file = tmp_path / f"model-{k:02d}.npz"
    stored = dict(np.load(file))
    clips = pd.read_csv(tmp_path / "clips.csv")
    stored["heard"][clips.index[clips["part"] == "takes 2 a"][0]] = True
    np.savez_compressed(file, **stored)
    with pytest.raises(ParameterError, match=f"model-0{k}.npz heard a clip of 'takes 2 a'"):
        pools.Pool.read(tmp_path)


def test_a_model_of_another_training_list_is_refused(study, design, tmp_path, monkeypatch):
    real = study.artefact
    other = dataclasses.replace(design, spare=())

    def leaky(kind, call):
        return real(kind, call | {"without": other.absent(0)})

    monkeypatch.setattr(study, "artefact", leaky)
    with pytest.raises(ParameterError, match="model 0 was trained on other clips"):
        pools.answer(study, design, 0, tmp_path)


def test_designs_are_not_mixed(study, design, folder, tmp_path):
    other = pools.design(study, SETS, MODELS, spare=6, seed=4)
    with pytest.raises(ParameterError, match="holds a pool of another design"):
        pools.begin(study, other, folder)
    copied(folder, tmp_path)
    (tmp_path / "design.json").write_text(json.dumps(dataclasses.asdict(other)))
    with pytest.raises(ParameterError, match=r"model-00\.npz is of another design"):
        pools.Pool.read(tmp_path)
    with pytest.raises(ParameterError, match="'spare' shares a clip"):
        dataclasses.replace(design, spare=design.sets[0].hashes)


def test_answers_under_two_protocols_are_no_pool(folder, tmp_path):
    copied(folder, tmp_path)
    file = tmp_path / "model-02.npz"
    stored = dict(np.load(file))
    about = json.loads(str(stored["about"]))
    assert about["protocol"] == provenance.protocol_hash()
    stored["about"] = np.array(json.dumps(about | {"protocol": "another"}))
    np.savez_compressed(file, **stored)
    with pytest.raises(ParameterError, match=r"model-02\.npz was answered under protocol 'anot"):
        pools.Pool.read(tmp_path)


def test_a_method_sees_only_what_its_model_heard(study, design):
    found = [k for k in range(MODELS) if design.heard[k, design.of("clips 4 a")]]
    request = pools.request(study, design, found[0], "clips 4 a")
    assert request.forget.hashes == list(design.sets[3].hashes)
    absent = set(design.absent(found[0]).names)
    heard = set(study.train.hashes) - absent
    assert set(request.retain.hashes) == heard - set(request.forget.hashes)
    [k] = [k for k in range(MODELS) if k not in found][:1]
    with pytest.raises(ParameterError, match=f"model {k} has not heard 'clips 4 a'"):
        pools.request(study, design, k, "clips 4 a")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("", "there are none"), ("clips", "'clips' is not KIND:SIZE"),
        ("voices:3", "'voices:3' is not"), ("clips:0", "'clips:0' is not"),
        ("takes:0.5", "'takes:0.5' is not"), ("clips:9999", "that 'clips 9999 a' could hold"),
        ("clips:1x27", "at most 26"), ("speaker:99", "'speaker 99 a' could hold"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(study, sets, message):
    with pytest.raises(ParameterError, match=message):
        pools.design(study, sets, MODELS, spare=6, seed=0)


def test_a_clip_of_a_whole_speaker_and_a_whole_class_is_in_neither(tmp_path):
    made = pools.design(tiny(tmp_path), "speaker:1 class:1", 2, spare=0, seed=0)
    assert made.left_out and not {h for s in made.sets for h in s.hashes} & set(made.left_out)
    assert set(made.left_out) <= set(made.absent(0).names) & set(made.absent(1).names)


CHILD = """
import sys, torch
import test_pool
from pathlib import Path
from benchmarks import pools
torch.set_num_threads(int(sys.argv[1]))
study, out = test_pool.tiny(Path(sys.argv[2])), Path(sys.argv[3])
design = pools._design(out / "design.json")
for k in range(test_pool.MODELS):
    pools.answer(study, design, k, out)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_gives_the_same(
    study, design, folder, tmp_path, monkeypatch
):
    cache, out = tmp_path / "cache", tmp_path / "out"
    pools.begin(study, design, out)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(torch.get_num_threads()), str(cache), str(out)],
        cwd=REPOSITORY / "tests", env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    while not (out / "model-00.npz").exists():
        time.sleep(0.01)
        assert child.poll() is None
    child.kill()
    child.wait()
    assert not (out / "model-03.npz").exists()
    assert len(pools.Pool.read(out).models) < MODELS
    monkeypatch.setattr(study, "cache", Cache(cache))
    for k in range(MODELS):
        pools.answer(study, design, k, out)
    assert np.array_equal(pools.Pool.read(out).logits, pools.Pool.read(folder).logits)
    assert {path.name for path in out.iterdir()} == {path.name for path in folder.iterdir()}


def test_the_command_makes_a_pool(tmp_path, monkeypatch, capsys):
    profile = tmp_path / "tiny.yaml"
    values = dataclasses.asdict(tiny_study.profile(corpus="embedded", **SIZES))
    profile.write_text(json.dumps({k: v for k, v in values.items() if k not in ("name", "tasks")}))
    monkeypatch.setenv("SPEECHUNLEARN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(profiles, "prepare_process", lambda profile: None)
    out = tmp_path / "out"
    asked = ["pool.py", "--profile", str(profile), "--out", str(out)]
    asked += ["--models", "2", "--spare", "4"]
    main = runpy.run_path(str(REPOSITORY / "benchmarks" / "pool.py"))["main"]
    monkeypatch.setattr(sys, "argv", [*asked, "--sets", "clips:2 speaker:1"])
    main()
    assert "a set is heard by 0.500 of the models" in capsys.readouterr().out
    assert len(pools.Pool.read(out).models) == 2
    main = runpy.run_path(str(REPOSITORY / "benchmarks" / "pool.py"))["main"]
    monkeypatch.setattr(sys, "argv", [*asked, "--sets", "clips:3"])
    with pytest.raises(ParameterError, match="holds a pool of another design"):
        main()


def copied(folder, to):
    """Copy a pool's files."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize("folder", sorted(pools.FOLDER.glob("*")), ids=lambda path: path.name)
def test_a_committed_pool_is_balanced_and_its_table_is_of_its_models(folder):
    pool = pools.Pool.read(folder)
    assert pool.models["model"].tolist() == list(range(len(pool.models)))
    assert len(pool.models) >= pools.FIRST
    table = pools.summary(pool).set_index("set")
    assert (table["originals"] + table["references"] == len(pool.models)).all()
    assert (table["originals"] - table["references"]).abs().max() <= 2
    shown = pd.read_csv(folder / "summary.csv", index_col="set")
    pd.testing.assert_frame_equal(table.round(3), shown, check_exact=False, atol=1e-3)
    # by hand, from what is stored: the mean of -log p of the label over a set's clips
    name = table.index[-1]
    k = pool.references(name)[0]
    chosen = (pool.clips["part"] == name).to_numpy()
    logits = pool.logits[k][chosen].astype(float)
    truth = [pool.design.labels.index(label) for label in pool.clips["label"][chosen]]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(truth)), truth]
    forget = pool.predictions(k, name).query("split == 'forget'")
    assert forget["loss"].mean() == pytest.approx(losses.mean(), abs=1e-4)
