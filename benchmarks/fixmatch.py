"""Is an unlabelled clip remembered, and forgotten: a small network, trained by FixMatch.

    python -m benchmarks.fixmatch --root CORPUS --work FOLDER

The clips, forget sets and six models of `benchmarks.architectures`, but a hundred of the clips
have labels and all others have none, the forget sets among them. FixMatch (Sohn et al. 2020) trains
on these by consistency: what the model says of a strongly altered clip is to be what it says of the
same clip weakly altered, where it is sure of that. What a method that needs labels gets are the
model's own answers. Finished models and runs are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchaudio.transforms import MelSpectrogram

from benchmarks.architectures import MODELS, WORDS, Corpus, corpus, heard
from speechunlearn import methods, provenance
from speechunlearn.dataset.clips import Clips
from speechunlearn.methods.base import UnlearningData
from speechunlearn.models.classifier import Classifier, Frontend, seeded
from speechunlearn.models.training import predict
from speechunlearn.tool import defaults

RESULTS = Path(__file__).resolve().parent.parent / "data" / "benchmarks" / "fixmatch.csv"
LABELLED, STEPS, BATCH, RATIO, THRESHOLD, RATE = 100, 500, 16, 3, 0.8, 5e-3
VIEWS = 8
METHODS: dict[str, dict[str, Any]] = {
    "perturbed": {"steps": 100, "learning_rate": 1e-3}, "ran_lab": {"learning_rate": 3e-4},
    "neggrad": {"learning_rate": 3e-4}, "delete": {"learning_rate": 3e-4}, "finetune": {},
}


class Network(torch.nn.Module):
    """Convolutions on a log mel spectrogram, the mean over time, and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.mel = MelSpectrogram(16_000, n_fft=800, hop_length=640, n_mels=40)
        widths = (40, 64, 64, 64)
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(first, second, 5, padding=2) for first, second in pairwise(widths)
        )
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(widths[-1], classes)

    def forward(self, waveform_z: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Return logits, as transformers' classifiers do; every clip is heard to its end."""
        return SimpleNamespace(logits=self.of_frames(self.frames(waveform_z)))

    def frames(self, waveform_z: Tensor) -> Tensor:
        """Return log mel spectrograms of mean 0, shape ``[clips, bands, frames]``."""
        frames = (self.mel(waveform_z) + 1e-3).log()
        return frames - frames.mean(dim=(1, 2), keepdim=True)

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the logits of spectrograms."""
        for convolution in self.convolutions:
            frames = torch.relu(convolution(frames))
        return self.head(self.dropout(frames.mean(2)))


def network(seed: int) -> Classifier:
    """Return the classifier before it is trained."""
    with seeded(seed):
        return Classifier(Network(len(WORDS)), WORDS, Frontend())


def weak(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Return spectrograms moved by up to a twentieth of their frames, the end coming first."""
    count = frames.shape[2]
    most = count // 20
    shifts = torch.randint(-most, most + 1, (len(frames), 1), generator=generator)
    places = (torch.arange(count)[None] + shifts) % count
    return frames.gather(2, places[:, None].expand(-1, frames.shape[1], -1))


def strong(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Return spectrograms weakly altered, with noise, and a fifth of frames and bands at 0."""
    altered = weak(frames, generator)
    altered = altered + 0.5 * torch.randn(altered.shape, generator=generator)
    for axis in (1, 2):
        count = altered.shape[axis]
        starts = torch.randint(count - count // 5, (len(altered), 1), generator=generator)
        after = torch.arange(count)[None] - starts
        hidden = (after >= 0) & (after < count // 5)
        altered = altered.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None], 0)
    return altered


def consistency(of_weak: Tensor, of_strong: Tensor, threshold: float) -> Tensor:
    """Return FixMatch's loss on unlabelled clips.

    Args:
        of_weak: logits of the weakly altered clips, shape ``[clips, classes]``
        of_strong: logits of the strongly altered ones
        threshold: least probability at which an answer becomes a label

    """
    sure, said = of_weak.detach().softmax(1).max(1)
    losses = cross_entropy(of_strong, said, reduction="none")
    return (losses * (sure >= threshold)).mean()


def frames_of(model: Classifier, clips: Clips) -> Tensor:
    """Return the spectrograms of clips."""
    with torch.no_grad():
        return model.network.frames(clips.batch(range(len(clips)))[0])


def train(model: Classifier, labelled: Clips, unlabelled: Clips, seed: int) -> float:
    """Train a classifier in place; return the share of the last answers that became labels."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    first, second = frames_of(model, labelled), frames_of(model, unlabelled)
    answer, shares = model.network.of_frames, []
    model.train()
    with seeded(seed) as generator:
        for _ in range(STEPS):
            chosen = torch.randint(len(first), (BATCH,), generator=generator)
            others = second[torch.randint(len(second), (RATIO * BATCH,), generator=generator)]
            with torch.no_grad():
                target = answer(weak(others, generator))
            both = torch.cat([weak(first[chosen], generator), strong(others, generator)])
            logits = answer(both)
            loss = cross_entropy(logits[:BATCH], labelled.labels[chosen])
            loss = loss + consistency(target, logits[BATCH:], THRESHOLD)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            shares.append(float((target.softmax(1).max(1).values >= THRESHOLD).float().mean()))
    model.eval()
    return float(np.mean(shares[-50:]))


def parts(of: Corpus) -> tuple[Clips, Clips]:
    """Return the labelled clips, and the unlabelled ones that every model hears."""
    always = of.at("always")
    return always.at(range(LABELLED)), always.at(range(LABELLED, len(always)))


def joined(*several: Clips) -> Clips:
    """Return the clips of several sets as one."""
    return Clips(
        [w for clips in several for w in clips.waveforms_z],
        torch.cat([clips.labels for clips in several]),
        [h for clips in several for h in clips.hashes],
        [s for clips in several for s in clips.speakers],
    )


def trained(of: Corpus, model: int, work: Path) -> Classifier:
    """Train a model, or take it where it is kept."""
    made = network(seed=model)
    file = work / f"fixmatch-{model}.pt"
    if file.exists():
        made.load_state_dict(torch.load(file, weights_only=True))
        return made.eval()
    started = time.process_time()
    labelled, unlabelled = parts(of)
    share = train(made, labelled, joined(unlabelled, of.at(*heard(model))), model)
    torch.save(made.state_dict(), file.with_suffix(".partial"))
    file.with_suffix(".partial").rename(file)
    print(f"{file.name}: {time.process_time() - started:.0f} s, labelled {share:.2f}", flush=True)
    return made


def of_views(model: Classifier, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Return the consistency loss and the agreement of each clip, means over some views.

    No threshold: a clip that the model is no longer sure of would seem to have no loss.
    """
    losses, agree, frames = [], [], frames_of(model, clips)
    for view in range(VIEWS):
        generator = torch.Generator().manual_seed(view)
        with torch.no_grad():
            said = model.network.of_frames(weak(frames, generator)).argmax(1)
            answer = model.network.of_frames(strong(frames, generator))
        losses.append(cross_entropy(answer, said, reduction="none").numpy())
        agree.append((answer.argmax(1) == said).float().numpy())
    return np.mean(losses, axis=0), np.mean(agree, axis=0)


def scores(model: Classifier, of: Corpus, run: int) -> dict[str, float]:
    """Return what a model says of a forget set, of clips that none heard, and of other speakers."""
    forget, spare, unseen = of.at(str(run)), of.at("spare"), of.at("unseen")
    (members, agree), (others, _) = of_views(model, forget), of_views(model, spare)
    inside = np.r_[np.ones(len(forget)), np.zeros(len(spare))]
    true = [
        cross_entropy(predict(model, clips), clips.labels, reduction="none").numpy()
        for clips in (forget, spare)
    ]
    right = predict(model, unseen).argmax(1) == unseen.labels
    return {
        "consistency": float(members.mean()), "agreement": float(agree.mean()),
        "spare_consistency": float(others.mean()),
        "auc": float(roc_auc_score(inside, -np.r_[members, others])),
        "loss": float(true[0].mean()), "loss_auc": float(roc_auc_score(inside, -np.r_[*true])),
        "unseen_uar": float(
            np.mean([right[unseen.labels == k].float().mean() for k in range(len(WORDS))])
        ),
    }


def unlearned(original: Classifier, of: Corpus, run: int, method: str) -> Classifier:
    """Unlearn a forget set whose labels are the original's own answers."""
    forget = of.at(str(run))
    forget = forget.relabelled(predict(original, forget).argmax(1))
    labelled, _ = parts(of)
    values = defaults.choose({"forget", "retain"}, method).values | METHODS[method]
    data = UnlearningData(forget, len(WORDS), retain=labelled)
    parameters = defaults.parameters(method, values)
    return methods.get(method).unlearn(original, data, parameters, seed=run).model


def rows(of: Corpus, run: int, work: Path) -> Iterator[dict[str, Any]]:
    """Yield what each model of a forget set says."""
    where = {
        "commit": provenance.commit(), "lock": provenance.lock_hash(),
        "machine": provenance.describe(),
    }
    about = {"run": run, "n_forget": len(of.at(str(run))), "labelled": LABELLED, "seed": run}
    original = trained(of, run, work)
    yield about | {"method": "original"} | scores(original, of, run) | where
    without = [m for m in range(MODELS) if str(run) not in heard(m)]
    for number, model in enumerate(without):
        yield about | {"method": f"retrained {number}"} | scores(
            trained(of, model, work), of, run
        ) | where
    for method in METHODS:
        yield about | {"method": method} | scores(
            unlearned(original, of, run, method), of, run
        ) | where


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="of Arabic Speech Commands")
    parser.add_argument("--work", type=Path, required=True, help="folder of the models")
    parser.add_argument("--runs", type=int, default=MODELS, help="forget sets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    of = corpus(options.root, options.work, normalise=True)
    for run in range(options.runs):
        before = pd.read_csv(options.out, dtype={"commit": str}) if options.out.exists() else None
        if before is not None and run in set(before["run"]):
            continue
        table = pd.DataFrame(rows(of, run, options.work))
        print(table.iloc[:, 4:12].to_string(index=False), flush=True)
        partial = options.out.with_suffix(".partial")
        pd.concat([before, table]).to_csv(partial, index=False, float_format="%.5g")
        partial.replace(options.out)


if __name__ == "__main__":
    main()
