"""Training by several processes gives the weights of one."""

import os
from pathlib import Path

import pytest
import tiny
import torch

from speechunlearn.models import distributed, training
from speechunlearn.models.loop import Work
from speechunlearn.models.training import Recipe

WORKER = """
import sys
from pathlib import Path
import tiny, torch
from speechunlearn.models import distributed, training
from speechunlearn.models.loop import Work
from speechunlearn.models.training import Recipe
torch.set_num_threads(1)
state, out = map(Path, sys.argv[1:])
model = tiny.wav2vec2(activation_dropout=0.0, final_dropout=0.0, layerdrop=0.0,
                      apply_spec_augment=False)
clips = tiny.clips(17)
recipe = Recipe(epochs=3, learning_rate=1e-2, batch_size=8, weight_decay=0.05, clip_gradient=1.0,
                frontend_rate=0.3, speeds=(0.9, 1.0))
if distributed.rank() == 0:
    history = training.train(
        distributed.shared(model, state), clips, recipe, seed=3, cost=Work(resume=state))
    torch.save({"history": history, "weights": model.state_dict()}, out)
    distributed.finish()
else:
    distributed.help_to_train(model, clips, recipe, seed=3)
"""


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(WORKER)
    # its first epoch was that of one process; 17 clips leave a last batch that one of two sits out
    recipe = Recipe(
        epochs=1, learning_rate=1e-2, batch_size=8, weight_decay=0.05, clip_gradient=1.0,
        frontend_rate=0.3, speeds=(0.9, 1.0),
    )
    off = {"activation_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0}
    clips, state = tiny.clips(17), tmp_path / "state"
    model = tiny.wav2vec2(apply_spec_augment=False, **off)
    training.train(model, clips, recipe, seed=3, cost=Work(resume=state))
    path = [str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    out = tmp_path / "out.pt"
    before = state.read_bytes()
    assert distributed.launch(["worker", str(state), str(out)], 2) == 0
    shared = torch.load(out)
    state.write_bytes(before)
    history = training.train(
        model, clips, Recipe(**(vars(recipe) | {"epochs": 3})), seed=3,
        cost=Work(resume=state),
    )
    assert shared["history"] == pytest.approx(history, abs=1e-5)
    alone = model.state_dict()
    assert shared["weights"].keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared["weights"][name], value, rtol=1e-4, atol=1e-5)


def test_one_process_trains_by_itself():
    assert (distributed.processes(), distributed.rank()) == (1, 0)
    distributed.finish()  # nobody waits
    model = tiny.classifier()
    assert distributed.shared(model) is model
