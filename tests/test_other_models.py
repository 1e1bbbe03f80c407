"""Every method and the audit run on every architecture as they are: tiny networks, random weights.

What a method does to a network is tested where its formula is. Here: that nothing in it, in
training or in the audit rests on wav2vec 2.0.
"""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from checkpoint import KINDS, LABELS
from test_methods import FEW

from speechunlearn import methods
from speechunlearn.audit import predictions
from speechunlearn.audit.report_card import Auditor
from speechunlearn.dataset.clips import Clips
from speechunlearn.methods import METHODS, UnlearningData
from speechunlearn.methods.layers import head, layers
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.training import Recipe
from speechunlearn.tool import checkpoints

torch.set_num_threads(1)
#: of transformers' own code of WavLM, at each answer
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

RECIPE = Recipe(epochs=1, learning_rate=1e-2, batch_size=8)
SPECTROGRAMS = {
    "ast": checkpoints.FilterBankClassifier, "whisper": checkpoints.LogMelClassifier,
}
ARCHITECTURES = ["wav2vec2", "hubert", "wavlm", "ast", "whisper", "moonshine"]


def network(kind: str, seed: int) -> Classifier:
    """A tiny classifier of an architecture, as anyone's checkpoint of it would be read."""
    with seeded(seed):
        config, architecture, extractor = KINDS[kind]
        config.id2label = dict(enumerate(LABELS))
        config.label2id = {label: i for i, label in enumerate(LABELS)}
        of_kind = SPECTROGRAMS.get(kind, checkpoints.WaveformClassifier)
        return of_kind(architecture(config), list(LABELS), extractor).eval()


def clips(n: int, seed: int) -> Clips:
    """Noisy tones of a fifth of a second."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(3200)
    waveforms = [
        torch.sin(0.02 * (1 + 3 * (i % 3)) * time) + torch.randn(3200, generator=generator)
        for i in range(n)
    ]
    return Clips(
        [(w - w.mean()) / w.std(correction=0) for w in waveforms], torch.arange(n) % 3,
        [f"{seed}-{i}" for i in range(n)], [f"speaker {i % 4}" for i in range(n)],
    )


FORGET, RETAIN, UNSEEN = clips(4, 1), clips(8, 2), clips(8, 3)


@pytest.fixture(params=ARCHITECTURES)
def fresh(request: pytest.FixtureRequest) -> Callable[[int], Classifier]:
    return lambda seed: network(request.param, seed)


def test_every_method_runs(fresh: Callable[[int], Classifier]) -> None:
    original = fresh(0)
    before = tiny.weights(original)
    data = UnlearningData(
        FORGET, 3, retain=RETAIN, recipe=RECIPE, fresh=fresh, validation=UNSEEN
    )
    for name, method in METHODS.items():
        values = FEW[name] | ({"epochs": 1} if "epochs" in FEW[name] else {})
        outcome = method.unlearn(original, data, methods.parameters(name, **values), seed=0)
        after = tiny.weights(outcome.model)
        assert all(torch.isfinite(weight).all() for weight in after.values()), name
        assert not tiny.equal(before, after), name
    assert tiny.equal(before, tiny.weights(original))


def table(model: Classifier) -> pd.DataFrame:
    parts = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN}
    about = pd.DataFrame([
        {"hash": h, "label": LABELS[int(y)], "speaker": s, "cluster": s, "seconds": 0.2}
        for of in parts.values()
        for h, y, s in zip(of.hashes, of.labels, of.speakers, strict=True)
    ])
    hashes = {name: of.hashes for name, of in parts.items()}
    return predictions.table(training.answers(model, parts), hashes, about, LABELS)


def test_the_audit_judges_it(fresh: Callable[[int], Classifier]) -> None:
    """A card beside three retrained models, each of which has one of its own."""
    retrained = []
    for seed in (1, 2, 3):
        model = fresh(seed)
        training.train(model, RETAIN, RECIPE, seed=seed)
        retrained.append(table(model))
    auditor = Auditor(retrained, n_labels=3)
    card = auditor.card(table(fresh(0)))
    values = card.scores.set_index("score")["value"]
    assert {"forget_uar", "mia_loss", "mia_svc", "average_gap", "loss_ks"} <= set(values.index)
    assert np.isfinite(values).all()
    assert len(auditor.cards_of_retrained()) == 3
    same = auditor.card(retrained[0]).scores.set_index("score")["value"]
    # one of its references is itself: the mean distance to the three is less than to the others
    assert same["loss_ks"] < auditor.cards_of_retrained()[0].scores.set_index("score")["value"][
        "loss_ks"
    ]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_layers_are_counted_from_the_answer_down(kind: str) -> None:
    """The head, the projector where there is one, each block, and all below the blocks."""
    model = network(kind, 0)
    counted = layers(model)
    assert all("classifier" in name for name in counted[0])
    n_blocks = 2 if kind == "moonshine" else 1
    assert len(counted) == n_blocks + (2 if kind == "ast" else 3)
    assert not any(re.search(r"\.layers?\.\d", name) for name in counted[-1])
    top = {"ast": "network.audio_spectrogram_transformer.layernorm.weight",
           "whisper": "network.encoder.layer_norm.weight",
           "moonshine": "network.encoder.layer_norm.weight"}  # fmt: skip
    assert kind not in top or top[kind] in counted[-1 - n_blocks]
    answer = head(model)
    features: list[torch.Tensor] = []
    answer.register_forward_hook(lambda module, args, output: features.append(output))
    logits = model(*FORGET.batch(range(4)))
    assert torch.equal(features[0], logits)
