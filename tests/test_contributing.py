"""The worked examples of CONTRIBUTING.md work."""

import re
import sys
import types
from pathlib import Path

import jupytext
import pandas as pd
import pytest
import tiny
import torch
from conftest import write_clip

from speechunlearn import corpora, runs
from speechunlearn.corpora.base import build_manifest
from speechunlearn.methods import Request
from speechunlearn.training import predict

TEXT = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text()


def example(title: str) -> str:
    """The code of a section."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    return code


@pytest.fixture
def module(monkeypatch):
    def make(title: str) -> types.ModuleType:
        made = types.ModuleType(f"example_{title.replace(' ', '_')}")
        monkeypatch.setitem(sys.modules, made.__name__, made)  # where dataclasses look
        exec(compile(example(title), f"CONTRIBUTING.md, {title}", "exec"), made.__dict__)
        return made

    return make


def test_a_corpus(module, tmp_path):
    for i, speaker in enumerate(("anna", "ben")):
        for j, word in enumerate(("yes", "no")):
            write_clip(tmp_path / word / f"{speaker}-1.wav", seed=2 * i + j)
    corpus = module("A corpus").CORPUS
    assert corpus.name not in corpora.known()
    manifest = build_manifest(corpus, tmp_path, skip_bad=False, progress=False)
    assert sorted(zip(manifest["label"], manifest["speaker"], strict=True)) == [
        ("no", "anna"), ("no", "ben"), ("yes", "anna"), ("yes", "ben"),
    ]  # fmt: skip


def test_a_method(module):
    example = module("A method")
    forget = tiny.clips(6, seed=6, noise=0.5)
    model = tiny.classifier()
    outcome = example.METHOD.unlearn(
        model, Request(forget, 3), example.Parameters(epochs=30, learning_rate=1e-2), seed=0
    )
    history = outcome.details["history"]
    assert history[-1] < history[0]
    assert outcome.cost.forward_backward == 30 * len(forget)
    logits = predict(outcome.model, forget)
    assert torch.softmax(torch.as_tensor(logits), 1).max() < 0.6


def test_a_metric(module):
    assert module("A metric").mean_confidence(pd.Series([0.5, 1.0])) == 0.75


def test_a_chapter(tmp_path):
    notebook = jupytext.reads(example("A chapter"), fmt="py:percent")
    path = tmp_path / "09_name.ipynb"
    jupytext.write(notebook, path)
    defaults = runs.parameters_of(path)
    assert runs.check_parameters(path, {"corpus": "ravdess"}) == {"corpus": "ravdess"}
    start = runs.start(**defaults)
    assert start.profile.name == "smoke"
