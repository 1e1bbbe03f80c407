"""What protected recordings leave to be learnt: UAR on clean speech after training on them.

    python -m benchmarks.protection --arabic PATH --ravdess PATH

A run draws speakers (or, to name these, words) to train and test on, the key, the weights and the
order of the batches, all from its number; every condition is tried on the same runs. Models are
trained from scratch by the loop below. Rows are appended as they are there, those that are there
are not made again: interrupt it and go on.

    python -m benchmarks.protection --files 1000

measures `speechunlearn protect` instead, on clips of 3 s of noise, in a process of its own.

    pip install distillmos==0.9.1
    python -m benchmarks.protection --mos --arabic PATH --ravdess PATH

has Distill-MOS (Stahl and Gamper 2025), which is no part of the environment, rate the clips.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
import torchaudio
from scipy.linalg import sqrtm
from scipy.signal import butter, istft, resample_poly, sosfiltfilt, stft
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from speechunlearn import corpora, provenance
from speechunlearn.corpora.base import decode
from speechunlearn.dataset.protection import Key, protect
from speechunlearn.models import classifier

RATE = 16_000
RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "protection.csv"
#: of the Fréchet distance, and of the attacks by a pre-trained encoder: it heard no Arabic
ENCODER = "nano-english"
TASKS = {"keyword": 1.0, "speaker": 1.0, "emotion": 2.0}  # seconds of a clip
WORDS = ("backward", "down", "forward", "left", "no", "right", "start", "stop", "up", "yes")
EPOCHS, BATCH = 10, 32
COPIES = 4  # of a clip, that a trainer changes at random
HEARD = 150  # clips of the Fréchet distance
RATED = 16  # clips a run of which Distill-MOS is asked
CLEAN = 10  # clips a class that a trainer has otherwise


class Condition(NamedTuple):
    """What is tried in a run.

    Attributes:
        question: main, share, one, sweep or attack
        task: keyword, speaker or emotion
        model: of `MODELS`, `ENCODER`, or `quality` of the protected clips without any
        method: none, poscuda or cuda
        patch_seconds: of poscuda
        taps: of the filter
        blur: of the filter
        share: of the training clips that is protected
        classes: that are protected: all, or one
        attack: what the trainer does
        run: number of the run

    """

    question: str
    task: str
    model: str
    method: str
    patch_seconds: float
    taps: int
    blur: float
    share: float
    classes: str
    attack: str
    run: int


class Data(NamedTuple):
    """Clips of a run, (clips, samples) at 16 kHz in [-1, 1], and their classes by name."""

    train: np.ndarray
    train_labels: list[str]
    test: np.ndarray
    test_labels: list[str]


commit = cache(provenance.commit)  # of the code that was imported, whatever changes meanwhile

# The data ---------------------------------------------------------------------------------------


@cache
def manifest(corpus: str, root: Path) -> pd.DataFrame:
    """Return the clips of a corpus."""
    return corpora.read_manifest(corpus, root, skip_bad=True)


@lru_cache(maxsize=4000)
def clip(path: str, seconds: float) -> np.ndarray:
    """Return the middle of a clip, with silence around it where it is shorter."""
    waveform = decode(path)[0]
    length = round(seconds * RATE)
    start = max(0, (len(waveform) - length) // 2)
    waveform = waveform[start : start + length]
    room = length - len(waveform)
    return np.pad(waveform, (room // 2, room - room // 2)).astype(np.float32)


@lru_cache(maxsize=6)
def data(task: str, run: int, arabic: Path, ravdess: Path) -> Data:
    """Draw what a run is trained and tested on: apart by speaker or, of speakers, by word."""
    draw = np.random.default_rng((run, 1))
    if task == "emotion":
        table, apart, held = manifest("ravdess", ravdess), "speaker", 6
    else:
        table = manifest("arabic_speech_commands", arabic)
        if task == "keyword":
            table, apart, held = table[table["label"].isin(WORDS)], "speaker", 10
        else:
            speakers = draw.choice(sorted(table["speaker"].unique()), 10, replace=False)
            table = table[table["speaker"].isin(speakers)]
            table = table.assign(word=table["label"], label=table["speaker"])
            apart, held = "word", 10
            words = draw.choice(sorted(table["word"].unique()), 30, replace=False)
            table = table[table["word"].isin(words)]
    test = table[apart].isin(draw.choice(sorted(table[apart].unique()), held, replace=False))
    parts = []
    for part in (table[~test], table[test]):
        parts += [np.stack([clip(path, TASKS[task]) for path in part["path"]]), list(part["label"])]
    return Data(*parts)


def secret(run: int) -> bytes:
    """Return the secret of a run's key."""
    return hashlib.sha256(f"benchmarks.protection {run}".encode()).digest()


def key_of(condition: Condition) -> Key:
    """Return the key of a condition."""
    patch = None if condition.method == "cuda" else condition.patch_seconds
    return Key(secret(condition.run), (), patch, condition.taps, condition.blur)


def published(condition: Condition, clips: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return the training clips as they are published, and which of them are protected."""
    labels = np.array(clips.train_labels)
    draw = np.random.default_rng((condition.run, 2))
    order = draw.permutation(len(labels))
    chosen = np.zeros(len(labels), bool)
    if condition.method != "none":
        chosen[order[: round(condition.share * len(labels))]] = True
        if condition.classes == "one":
            chosen &= labels == one_class(condition, clips)
    waveforms = clips.train.copy()
    if chosen.any():
        key = key_of(condition)
        waveforms[chosen] = protect(list(waveforms[chosen]), list(labels[chosen]), key)
    return waveforms, chosen


def one_class(condition: Condition, clips: Data) -> str:
    """Return the class of which a run asks alone."""
    names = sorted(set(clips.train_labels))
    return names[int(np.random.default_rng((condition.run, 3)).integers(len(names)))]


# What a trainer does ----------------------------------------------------------------------------


def _same(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return waveforms


def _shifted(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Cut 70 % of a clip at random and lay it at random into silence."""
    length = waveforms.shape[1]
    kept = round(0.7 * length)
    changed = np.zeros_like(waveforms)
    for before, after in zip(waveforms, changed, strict=True):
        start, place = draw.integers(0, length - kept + 1, 2)
        after[place : place + kept] = before[start : start + kept]
    return changed


def _resampled(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """To 8 kHz and back."""
    there = resample_poly(waveforms, 1, 2, axis=1)
    return resample_poly(there, 2, 1, axis=1)[:, : waveforms.shape[1]].astype(np.float32)


def _lowpass(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Below 1.5 kHz."""
    return sosfiltfilt(butter(6, 1500, fs=RATE, output="sos"), waveforms).astype(np.float32)


def _denoised(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Wiener gain by frame and frequency; the noise is the tenth quietest frame of each."""
    _, _, spectrum = stft(waveforms, RATE, nperseg=512)
    power = np.abs(spectrum) ** 2
    noise = np.quantile(power, 0.1, axis=2, keepdims=True)
    gain = np.maximum(1 - noise / (power + 1e-12), 0.1)
    return istft(spectrum * gain, RATE, nperseg=512)[1][:, : waveforms.shape[1]].astype(np.float32)


def _filtered(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A filter of the same kind, drawn anew for each clip and copy, over all of it."""
    whole = Key(draw.bytes(32), (), None)
    return np.stack(protect(list(waveforms), [str(i) for i in range(len(waveforms))], whole))


def _patched(waveforms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Three patches of each clip and copy, each with a filter of its own."""
    for _ in range(3):
        key = Key(draw.bytes(32))
        waveforms = np.stack(
            protect(list(waveforms), [str(i) for i in range(len(waveforms))], key)
        )
    return waveforms


#: name -> change of the training clips, whether it is drawn, and whether tests are changed too
ATTACKS: dict[str, tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], bool, bool]] = {
    "none": (_same, False, False),
    "crop and shift": (_shifted, True, False),
    "resample": (_resampled, False, True),
    "low-pass": (_lowpass, False, True),
    "denoise": (_denoised, False, True),
    "random filter": (_filtered, True, False),
    "random patches": (_patched, True, False),
    "clean clips": (_same, False, False),
    "clean clips alone": (_same, False, False),
    "encoder frozen": (_same, False, False),
    "encoder fine-tuned": (_same, False, False),
}


# The models -------------------------------------------------------------------------------------


class Convolutional(nn.Module):
    """Convolutions over time, the mean of which is classified; no place in the clip is known.

    Of a waveform, the first is one of 80 samples each 32: as a matrix, which is the same, sooner.
    """

    def __init__(self, channels: int, classes: int, raw: bool = False) -> None:
        super().__init__()
        self.frames = nn.Linear(80, 32) if raw else None
        layers: list[nn.Module] = [nn.ReLU(), nn.MaxPool1d(2)] if raw else []
        for before, after, stride in ((32 if raw else channels, 48, 2), (48, 48, 1), (48, 64, 2)):
            layers += [nn.BatchNorm1d(before), nn.Conv1d(before, after, 3, stride, 1), nn.ReLU()]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.frames is not None:
            x = self.frames(x[:, 0].unfold(1, 80, 32)).transpose(1, 2)
        return self.head(self.layers(x).mean(2))


class Recurrent(nn.Module):
    """Two directions of a GRU, the mean of whose states is classified."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(4 * channels, 48, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(_stacked(x))[0].mean(1))


class Transformer(nn.Module):
    """Two layers with learnt positions, the mean of whose outputs is classified."""

    def __init__(self, channels: int, classes: int, frames: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * channels, 64)
        self.places = nn.Parameter(0.02 * torch.randn(frames // 4, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.first(_stacked(x)) + self.places).mean(1))


def _stacked(x: Tensor) -> Tensor:
    """Four frames to one: (clips, frames / 4, 4 channels)."""
    x = x[:, :, : x.shape[2] // 4 * 4].transpose(1, 2)
    return x.reshape(len(x), x.shape[1] // 4, -1)


MODELS = ("raw conv", "mfcc conv", "mfcc gru", "mfcc transformer")


def build(model: str, features: Tensor, classes: int) -> nn.Module:
    """Return a model with random weights, for features of (clips, channels, frames)."""
    channels, frames = features.shape[1:]
    return {
        "raw conv": partial(Convolutional, channels, classes, raw=True),
        "mfcc conv": partial(Convolutional, channels, classes),
        "mfcc gru": partial(Recurrent, channels, classes),
        "mfcc transformer": partial(Transformer, channels, classes, frames),
    }[model]()


@cache
def _mfcc() -> Any:
    mel = {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 40}
    return torchaudio.transforms.MFCC(RATE, 20, melkwargs=mel)


def features_of(model: str, waveforms: np.ndarray) -> Tensor:
    """Return the waveform, with unit variance, or 20 MFCC each 10 ms: (clips, channels, frames)."""
    x = torch.from_numpy(np.ascontiguousarray(waveforms, np.float32))
    x = x / (x.std(1, keepdim=True) + 1e-4)
    return x[:, None] if model == "raw conv" else _mfcc()(x)


def fit(model: nn.Module, x: Tensor, y: Tensor, steps: int, seed: int, rate: float) -> None:
    """Minimise the cross-entropy: AdamW, one cycle, batches of 32."""
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    queue = torch.empty(0, dtype=torch.int64)
    model.train()
    for _ in range(steps):
        if len(queue) < BATCH:
            queue = torch.cat([queue, torch.randperm(len(x), generator=order)])
        chosen, queue = queue[:BATCH], queue[BATCH:]
        loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()


@torch.inference_mode()
def predicted(model: nn.Module, x: Tensor) -> np.ndarray:
    """Return the likeliest class of each clip."""
    model.eval()
    return torch.cat([model(part).argmax(1) for part in x.split(64)]).numpy()


# One row ----------------------------------------------------------------------------------------


def row(condition: Condition, clips: Data) -> dict[str, Any]:
    """Try a condition; return what was measured."""
    began = time.monotonic()
    waveforms, chosen = published(condition, clips)
    if condition.model == "quality":
        scores = quality(clips.train, waveforms)
    else:
        scores = trained(condition, clips, waveforms, chosen)
    return {
        **condition._asdict(), "n_train": len(clips.train), "n_test": len(clips.test),
        "n_classes": len(set(clips.train_labels)), "n_protected": int(chosen.sum()), **scores,
        "seconds": round(time.monotonic() - began, 2), "commit": commit(),
        "lock": provenance.lock_hash(), "machine": provenance.describe(),
    }


def trained(
    condition: Condition, clips: Data, waveforms: np.ndarray, chosen: np.ndarray
) -> dict[str, Any]:
    """Train on published clips; return UAR on them and on clean ones, and of what is protected."""
    names = sorted(set(clips.train_labels))
    y, truth = (np.array([names.index(label) for label in labels])
                for labels in (clips.train_labels, clips.test_labels))
    change, drawn, tests_too = ATTACKS[condition.attack]
    draw = np.random.default_rng((condition.run, 4))
    copies = [change(waveforms, draw) for _ in range(COPIES if drawn else 1)]
    test = change(clips.test, draw) if tests_too else clips.test
    torch.manual_seed(condition.run)
    if condition.attack.startswith("encoder"):
        train_says, says = by_encoder(condition, waveforms, y, test, len(names))
    else:
        x = torch.cat([features_of(condition.model, copy) for copy in copies])
        y_copies = torch.from_numpy(np.tile(y, len(copies)))
        x_test = features_of(condition.model, test)
        mean, spread = x.mean((0, 2), keepdim=True), x.std((0, 2), keepdim=True)
        x, x_test = (x - mean) / spread, (x_test - mean) / spread
        network = build(condition.model, x, len(names))
        steps = EPOCHS * -(-len(y) // BATCH)
        if condition.attack != "clean clips alone":
            fit(network, x, y_copies, steps, condition.run, 3e-3)
        if condition.attack.startswith("clean clips"):
            few = np.concatenate([draw.permutation(np.flatnonzero(y == k))[:CLEAN]
                                  for k in range(len(names))])
            clean = (features_of(condition.model, clips.train[few]) - mean) / spread
            alone = condition.attack.endswith("alone")
            fit(network, clean, torch.from_numpy(y[few]), steps if alone else steps // 3,
                condition.run, 3e-3 if alone else 1e-3)
        train_says, says = predicted(network, x[: len(y)]), predicted(network, x_test)
    recalls = recall_score(truth, says, labels=range(len(names)), average=None)
    asked = names.index(one_class(condition, clips))
    return {
        "uar": round(float(recalls.mean()), 4), "recall_one": round(float(recalls[asked]), 4),
        "uar_train": round(float(recall_score(y, train_says, average="macro")), 4),
    }


@torch.inference_mode()
def embedded(waveforms: np.ndarray) -> np.ndarray:
    """Return the mean and spread over time of what the carried encoder answers, by clip."""
    network = classifier.build(ENCODER, ["a", "b"], seed=0).network.wav2vec2.eval()
    x = torch.from_numpy(waveforms)
    x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-7)
    hidden = [network(part).last_hidden_state for part in x.split(64)]
    return torch.cat([torch.cat([h.mean(1), h.std(1)], 1) for h in hidden]).double().numpy()


def by_encoder(
    condition: Condition, waveforms: np.ndarray, y: np.ndarray, test: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the answers, to training and test clips, of a model on the carried encoder."""
    if condition.attack == "encoder frozen":
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        train, there = embedded(waveforms), embedded(test)
        return model.fit(train, y).predict(train), model.predict(there)
    names = [str(k) for k in range(classes)]
    network = classifier.build(ENCODER, names, seed=condition.run).network

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x).logits

    both = [torch.from_numpy(part) for part in (waveforms, test)]
    x, x_test = ((p - p.mean(1, keepdim=True)) / (p.std(1, keepdim=True) + 1e-4) for p in both)
    model = Logits()
    fit(model, x, torch.from_numpy(y), 8 * -(-len(y) // BATCH), condition.run, 1e-3)
    return predicted(model, x), predicted(model, x_test)


def quality(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Return mean SNR in dB, and the Fréchet distance between clips and protected clips.

    Beside it stands that between two random halves of the clips, which is no distance.
    """
    signal, noise = (before**2).sum(1), ((after - before) ** 2).sum(1)
    heard = noise > 0
    snr = 10 * np.log10(signal[heard] / noise[heard])
    a, b = (embedded(part[:HEARD])[:, :96] for part in (before, after))
    order = np.random.default_rng(0).permutation(len(a))
    return {
        "snr_db": round(float(snr.mean()), 3), "frechet": round(frechet(a, b), 4),
        "frechet_halves": round(frechet(a[order[::2]], a[order[1::2]]), 4),
    }


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance of the Gaussians that fit two sets of features.

    .. math:: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})
    """
    first, second = np.cov(a.T), np.cov(b.T)
    root = np.real(sqrtm(first @ second))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


@cache
def _rater() -> Any:
    import distillmos

    return distillmos.ConvTransformerSQAModel().eval()


@lru_cache(maxsize=8)
def _rated(clips: bytes, samples: int) -> float:
    rows = np.frombuffer(clips, np.float32).reshape(-1, samples).copy()
    with torch.inference_mode():
        return float(torch.cat([_rater()(one) for one in torch.from_numpy(rows).split(1)]).mean())


def rating(condition: Condition, clips: Data) -> dict[str, Any]:
    """Return the mean opinion score from 1 to 5 that is estimated, without and with protection."""
    began = time.monotonic()
    order = np.random.default_rng((condition.run, 5)).permutation(len(clips.train))[:RATED]
    before, after = clips.train[order], published(condition, clips)[0][order]
    rest = {name: value for name, value in condition._asdict().items() if name != "model"}
    return {
        **rest, "n": len(order),
        "mos_unprotected": round(_rated(before.tobytes(), before.shape[1]), 4),
        "mos": round(_rated(after.tobytes(), after.shape[1]), 4),
        "seconds": round(time.monotonic() - began, 2), "commit": commit(),
        "lock": provenance.lock_hash(), "machine": provenance.describe(),
    }


# What is tried, the most important first --------------------------------------------------------

PATCH, TAPS, BLUR = 0.25, 33, 0.3


def conditions(runs: int = 5, fewer: int = 3) -> Iterator[Condition]:
    """Yield what is tried: runs of keywords, fewer of speakers and emotions."""

    def of(
        question: str, task: str, model: str, method: str, patch: float = PATCH, taps: int = TAPS,
        blur: float = BLUR, share: float = 1.0, classes: str = "all", attack: str = "none",
    ) -> Iterator[Condition]:
        model = ENCODER if attack.startswith("encoder") else model
        for run in range(runs if task == "keyword" else fewer):
            yield Condition(
                question, task, model, method, patch, taps, blur, share, classes, attack, run
            )

    both, all_three = ("poscuda", "cuda"), ("none", "poscuda", "cuda")
    main = partial(of, "main", "keyword")
    for method in all_three:
        yield from main("mfcc conv", method)
    attack = partial(of, "attack", "keyword", "mfcc conv")
    for change in ("crop and shift", "random filter", "clean clips"):
        yield from attack("poscuda", attack=change)
    yield from attack("none", attack="clean clips alone")
    for method in both:
        yield from main("quality", method)
        yield from of("one", "speaker", "mfcc conv", method, classes="one")
    for model in ("mfcc conv", "quality"):
        yield from of("sweep", "keyword", model, "poscuda", patch=0.5)
    for method in all_three:
        yield from of("main", "speaker", "mfcc conv", method)
    for method in all_three[:2]:
        yield from attack(method, attack="encoder frozen")
    for model in ("mfcc gru", "mfcc transformer"):
        for method in all_three[:2]:
            yield from main(model, method)
    yield from of("share", "keyword", "mfcc conv", "poscuda", share=0.5)
    for method in all_three:
        yield from of("main", "emotion", "mfcc conv", method)
    for model in ("mfcc conv", "quality"):
        yield from of("sweep", "keyword", model, "poscuda", patch=0.1)
    for method in all_three:
        yield from main("raw conv", method)
    for model in ("mfcc gru", "mfcc transformer"):
        yield from main(model, "cuda")
    yield from attack("poscuda", attack="low-pass")
    for change in ("crop and shift", "random filter", "low-pass", "clean clips"):
        yield from attack("none", attack=change)
    for share in (0.75, 0.25, 0.1):
        yield from of("share", "keyword", "mfcc conv", "poscuda", share=share)
    for method in both:
        yield from of("one", "keyword", "mfcc conv", method, classes="one")
    varied: list[dict[str, Any]] = [
        {"taps": 9}, {"taps": 129}, {"blur": 0.1}, {"blur": 1.0},
    ]
    for values in varied:
        for model in ("mfcc conv", "quality"):
            yield from of("sweep", "keyword", model, "poscuda", **values)
    for change in ("resample", "denoise", "random patches"):
        for method in all_three[:2]:
            yield from attack(method, attack=change)
    for task in ("speaker", "emotion"):
        for method in both:
            yield from of("main", task, "quality", method)
        for method in all_three[:2]:
            yield from of("attack", task, "mfcc conv", method, attack="encoder frozen")
    for task in ("speaker", "emotion"):
        for model in (*MODELS[2:], MODELS[0]):
            for method in all_three:
                yield from of("main", task, model, method)
    for method in all_three[:2]:
        yield from attack(method, attack="encoder fine-tuned")
    for change in ("crop and shift", "random filter", "clean clips", "encoder frozen"):
        yield from attack("cuda", attack=change)
    for share in (0.5, 0.75, 0.25, 0.1):
        for model in (*MODELS[2:], MODELS[0]):
            yield from of("share", "keyword", model, "poscuda", share=share)
    for change in ("low-pass", "resample", "denoise", "random patches", "encoder fine-tuned"):
        yield from attack("cuda", attack=change)
    for task in ("speaker", "emotion"):
        yield from of("attack", task, "mfcc conv", "cuda", attack="encoder frozen")


COLUMNS = [
    *Condition._fields, "n_train", "n_test", "n_classes", "n_protected", "uar", "recall_one",
    "uar_train", "snr_db", "frechet", "frechet_halves", "seconds", "commit", "lock", "machine",
]


def files(count: int) -> dict[str, Any]:
    """Protect files of noise by the command line; return what it took."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = ["path,label"]
        draw = np.random.default_rng(0)
        for number in range(count):
            soundfile.write(f"{scratch}/{number}.wav", 0.1 * draw.normal(size=3 * RATE), RATE)
            rows.append(f"{number}.wav,class {number % 10}")
        Path(scratch, "clips.csv").write_text("\n".join(rows) + "\n")
        began = time.monotonic()
        told = subprocess.run(
            [sys.executable, "-c", ALONE, "protect", "--new-key", "--clips",
             f"{scratch}/clips.csv", "--key", f"{scratch}/my.key", "--out", f"{scratch}/out"],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout.split()
    return {
        "clips": count, "seconds_of_a_clip": 3, "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(float(told[0]), 1), "peak_memory_mb": int(told[1]) // 1024,
        "commit": commit(), "lock": provenance.lock_hash(), "machine": provenance.describe(),
    }


#: the command line, and then its processor seconds and peak of resident memory in kB: that of
#: `resource` would be no less than its parent's
ALONE = """
import time
from speechunlearn import cli
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code, ended.code
lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
print(time.process_time(), lines["VmHWM"].split()[0])
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arabic", type=Path, help="Arabic Speech Commands")
    parser.add_argument("--ravdess", type=Path)
    parser.add_argument("--files", type=int, default=0, help="measure the command, on so many")
    parser.add_argument("--mos", action="store_true", help="have Distill-MOS rate the clips")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.files:
        measured = pd.DataFrame([files(options.files)])
        print(measured.iloc[0].to_dict())
        measured.to_csv(options.out.with_name("protect_files.csv"), index=False)
        return
    if not (options.arabic and options.ravdess):
        parser.error("--arabic and --ravdess are needed")
    torch.set_num_threads(1)
    if options.mos:
        asked = sorted((c for c in conditions() if c.model == "quality"), key=lambda c: c.run)
        rated = [
            rating(one, data(one.task, one.run, options.arabic, options.ravdess)) for one in asked
        ]
        pd.DataFrame(rated).to_csv(options.out.with_name("protection_mos.csv"), index=False)
        return
    table = pd.DataFrame(columns=COLUMNS)
    if options.out.exists():
        table = pd.read_csv(options.out, dtype={"commit": str}, keep_default_na=False)
    there = {tuple(map(str, values)) for values in table[list(Condition._fields)].to_numpy()}
    for condition in conditions():
        if tuple(map(str, condition)) in there:
            continue
        clips = data(condition.task, condition.run, options.arabic, options.ravdess)
        measured = pd.DataFrame([row(condition, clips)]).reindex(columns=COLUMNS)
        measured.to_csv(options.out, mode="a", index=False, header=not options.out.exists())
        print(measured.iloc[0][[*Condition._fields, "uar", "uar_train", "snr_db", "frechet",
                                "seconds"]].tolist(), flush=True)


if __name__ == "__main__":
    main()
