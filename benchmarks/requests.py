"""How well `speechunlearn forget` forgets: many deletion requests, each beside retrained models.

One small request is noise: what models that never heard ten clips say of them differs by a factor
of thirty. So models are made as a pool: all are trained by one plain loop of torch and
transformers, which this package has no part in, and each without a random half of disjoint
requests. A model is an original for the requests that it heard, and a retrained model for those
that it did not: every request has about half of the pool on either side.

    python -m benchmarks.requests pool wav2vec2 --root CORPUS --work FOLDER
    python -m benchmarks.requests forget wav2vec2 --root CORPUS --work FOLDER
    python -m benchmarks.requests summary

``pool`` and ``forget`` keep each finished model and request and go on from there after a kill;
rows go to ``data/benchmarks/requests.csv``. ``summary`` prints, for each system and kind of
request, the share of the way from the original to the retrained models, with the interval of a
bootstrap of requests, and the utility that is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from benchmarks.summary import kept, summary

RESULTS = Path(__file__).resolve().parent.parent / "data" / "benchmarks" / "requests.csv"
RATE = 16000

#: kind of request -> (clips, how many disjoint requests of it); of a speaker: all its clips
KINDS = {"1": (1, 12), "5": (5, 12), "16": (16, 12), "100": (100, 12), "speaker": (0, 4)}
#: requests one after another, of the kind "16"
IN_A_ROW = 5
UNSEEN_SPEAKERS, SPARE = 6, 240
#: unseen speakers whose clips the request has (``--unseen``); the others are scored
TOLD = 3
#: the rule that finds weight and stop was made with a look at the first three models of "ast"
FIRST = 3


@dataclass(frozen=True)
class System:
    """A corpus and a network, and how the plain loop trains it.

    Args:
        corpus: what is read from the root, which is told in the rows
        epochs: passes over the training clips
        learning_rate: the highest of a cycle, of AdamW
        batch_size: clips a step

    """

    corpus: str
    epochs: int
    learning_rate: float
    batch_size: int

    def network(self, labels: Sequence[str]) -> tuple[torch.nn.Module, Any]:
        """Return a network with random weights, and its feature extractor."""
        raise NotImplementedError


class Wav2Vec2(System):
    """A small wav2vec 2.0."""

    def network(self, labels: Sequence[str]) -> tuple[torch.nn.Module, Any]:
        """Return a network with random weights, and its feature extractor."""
        config = Wav2Vec2Config(
            conv_dim=(64, 96), conv_kernel=(80, 8), conv_stride=(40, 8),
            num_feat_extract_layers=2, hidden_size=96, num_hidden_layers=3,
            num_attention_heads=4, intermediate_size=288, num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4, classifier_proj_size=96,
            feat_extract_norm="layer", do_stable_layer_norm=True, layerdrop=0.0,
            apply_spec_augment=False, label2id={label: i for i, label in enumerate(labels)},
            id2label=dict(enumerate(labels)),
        )
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
        return Wav2Vec2ForSequenceClassification(config), extractor


class SpectrogramTransformer(System):
    """A small audio spectrogram transformer."""

    def network(self, labels: Sequence[str]) -> tuple[torch.nn.Module, Any]:
        """Return a network with random weights, and its feature extractor."""
        config = ASTConfig(
            hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=288,
            max_length=100, num_mel_bins=64, patch_size=16, frequency_stride=16, time_stride=8,
            hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
            label2id={label: i for i, label in enumerate(labels)},
            id2label=dict(enumerate(labels)),
        )
        extractor = ASTFeatureExtractor(max_length=100, num_mel_bins=64)
        return ASTForAudioClassification(config), extractor


SYSTEMS: dict[str, System] = {
    "wav2vec2": Wav2Vec2("arabic_speech_commands", 24, 1e-3, 32),
    "ast": SpectrogramTransformer("arabic_speech_commands", 24, 1e-3, 32),
}


@dataclass(frozen=True)
class Design:
    """Who heard what.

    Args:
        clips: path, label, speaker of every clip, and part: ``training``, ``spare`` (of the same
            speakers, heard by no model), ``told`` or ``unseen`` (of other speakers; the first are
            given to the request, the second are what it is scored on)
        requests: kind -> positions in ``clips`` of each request
        heard: kind -> whether each request (columns) was heard by each model (rows)

    """

    clips: pd.DataFrame
    requests: dict[str, list[np.ndarray]]
    heard: dict[str, np.ndarray]

    def training(self, model: int) -> np.ndarray:
        """Return the positions of the clips that a model is trained on."""
        left_out = [
            positions for kind, sets in self.requests.items()
            for number, positions in enumerate(sets) if not self.heard[kind][model, number]
        ]
        kept = (self.clips["part"] == "training").to_numpy(copy=True)
        if left_out:
            kept[np.concatenate(left_out)] = False
        return np.flatnonzero(kept)


def design(root: Path, models: int, seed: int = 0) -> Design:
    """Draw disjoint requests, and for each the half of the models that did not hear it."""
    generator = np.random.default_rng(seed)
    paths = sorted(root.glob("dataset/*/*_NO_*.*"))
    clips = pd.DataFrame({
        "path": [str(path.relative_to(root)) for path in paths],
        "label": [path.parent.name for path in paths],
        "speaker": [path.name.split("_NO_")[0] for path in paths],
    })
    speakers = generator.permutation(sorted(clips["speaker"].unique()))
    unseen, whole = speakers[:UNSEEN_SPEAKERS], speakers[UNSEEN_SPEAKERS:][: KINDS["speaker"][1]]
    clips["part"] = np.where(clips["speaker"].isin(unseen), "unseen", "training")
    clips.loc[clips["speaker"].isin(unseen[:TOLD]), "part"] = "told"
    free = generator.permutation(
        np.flatnonzero((clips["part"] == "training") & ~clips["speaker"].isin(whole))
    )
    clips.loc[free[:SPARE], "part"] = "spare"
    free, requests = free[SPARE:], {}
    for kind, (size, count) in KINDS.items():
        if kind == "speaker":
            requests[kind] = [np.flatnonzero(clips["speaker"] == name) for name in whole]
            continue
        taken, free = free[: size * count], free[size * count :]
        requests[kind] = np.split(taken, count)
    half = np.arange(models) < models // 2

    def draw() -> Design:
        return Design(clips, requests, {
            kind: np.stack([generator.permutation(half) for _ in sets], axis=1)
            for kind, sets in requests.items()
        })

    # of some draws the one whose models are trained on the most equal numbers of clips
    return min(
        (draw() for _ in range(200)),
        key=lambda drawn: float(np.std([len(drawn.training(m)) for m in range(models)])),
    )


def waveforms(root: Path, clips: pd.DataFrame) -> torch.Tensor:
    """Return the first second of each clip, zeros after its end."""
    second = np.zeros((len(clips), RATE), np.float32)
    for row, path in enumerate(clips["path"]):
        samples, rate = soundfile.read(root / path, dtype="float32")
        assert rate == RATE and samples.ndim == 1, path
        second[row, : len(samples[:RATE])] = samples[:RATE]
    return torch.from_numpy(second)


def features(extractor: Any, samples: torch.Tensor) -> torch.Tensor:
    """Return what the network takes, as transformers makes it."""
    made = extractor(list(samples.numpy()), sampling_rate=RATE, return_tensors="pt")
    return made[extractor.model_input_names[0]]


def train(system: System, design: Design, samples: torch.Tensor, model: int, folder: Path) -> None:
    """Train a model by a plain loop, and save it as transformers does."""
    torch.manual_seed(model)
    labels = sorted(design.clips["label"].unique())
    network, extractor = system.network(labels)
    taken = design.training(model)
    inputs = features(extractor, samples[taken])
    targets = torch.tensor([labels.index(label) for label in design.clips["label"].iloc[taken]])
    optimiser = torch.optim.AdamW(network.parameters(), lr=system.learning_rate)
    steps = -(-len(taken) // system.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, system.learning_rate, total_steps=system.epochs * steps
    )
    network.train()
    for _ in range(system.epochs):
        order = torch.randperm(len(taken))
        for batch in order.split(system.batch_size):
            loss = cross_entropy(network(inputs[batch]).logits, targets[batch])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    network.eval().save_pretrained(partial)
    extractor.save_pretrained(partial)
    partial.rename(folder)


@torch.no_grad()
def answers(folder: Path, samples: torch.Tensor) -> np.ndarray:
    """Return a checkpoint's logits, as transformers gives them."""
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    network = AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    found = [network(features(extractor, part)).logits for part in samples.split(64)]
    return torch.cat(found).numpy()


def pool(name: str, root: Path, work: Path, models: int) -> Iterator[Path]:
    """Train the models that are not there yet; yield the folder of each."""
    drawn, system = design(root, models), SYSTEMS[name]
    samples = waveforms(root, drawn.clips)
    (work / name).mkdir(parents=True, exist_ok=True)
    for model in range(models):
        folder = work / name / f"model-{model:02d}"
        if not folder.exists():
            started = time.process_time()
            train(system, drawn, samples, model, folder)
            print(f"{folder}: {time.process_time() - started:.0f} s", flush=True)
        if not (folder / "answers.npy").exists():
            np.save(folder / "answers.npy", answers(folder, samples))
        yield folder


def figures(
    logits: np.ndarray, design: Design, positions: np.ndarray
) -> dict[str, float]:
    """Return what a model says of a request's clips, and of those that no model heard.

    Args:
        logits: of every clip
        design: of the pool
        positions: of the request's clips

    Returns:
        mean loss and UAR of the forget set, AUC of the attack on the loss (the forget set beside
        unheard clips of the same speakers, or of a whole speaker beside unseen speakers), UAR on
        unseen speakers

    """
    labels = sorted(design.clips["label"].unique())
    truth = np.array([labels.index(label) for label in design.clips["label"]])
    log_p = torch.log_softmax(torch.from_numpy(logits).double(), 1).numpy()
    losses, right = -log_p[np.arange(len(truth)), truth], logits.argmax(1) == truth

    def uar(at: np.ndarray) -> float:
        return float(np.mean([right[at][truth[at] == c].mean() for c in np.unique(truth[at])]))

    parts = {part: np.flatnonzero(design.clips["part"] == part) for part in ("spare", "unseen")}
    whole = len(set(design.clips["speaker"].iloc[positions])) == 1 and len(positions) > 100
    outside = parts["unseen" if whole else "spare"]
    heard = np.r_[np.ones(len(positions)), np.zeros(len(outside))]
    return {
        "loss": float(losses[positions].mean()), "uar": uar(positions),
        "auc": float(roc_auc_score(heard, -np.r_[losses[positions], losses[outside]])),
        "unseen_uar": uar(parts["unseen"]),
    }


def csv_of(drawn: Design, positions: Sequence[int], file: Path) -> Path:
    """Write the CSV of some clips."""
    drawn.clips.iloc[positions][["path", "label", "speaker"]].to_csv(file, index=False)
    return file


def asked(drawn: Design, models: int) -> Iterator[tuple[str, str, int, list[np.ndarray]]]:
    """Yield the kind and the name of a request, the original, and its clips, in their order.

    Each request is made of one model that heard it; those in a row of every model that heard as
    many. Each of these is scored on its own clips after the last.
    """
    for kind, sets in drawn.requests.items():
        for number, positions in enumerate(sets):
            heard = np.flatnonzero(drawn.heard[kind][:, number])
            heard = heard[heard >= FIRST]
            yield kind, f"{kind}-{number}", int(heard[number % len(heard)]), [positions]
    for model in range(FIRST, models):
        heard = np.flatnonzero(drawn.heard["16"][model])[:IN_A_ROW]
        if len(heard) == IN_A_ROW:
            row = [drawn.requests["16"][number] for number in heard]
            yield "in a row", f"row-{model}", model, row


def rows(
    name: str, root: Path, work: Path, models: int, parameters: dict[str, Any],
    method: str | None, done: Collection[str], kinds: Collection[str],
) -> Iterator[list[dict[str, Any]]]:
    """Carry out the requests that are not done; yield what original, result and retrained say."""
    from speechunlearn import provenance
    from speechunlearn.tool import forget

    drawn = design(root, models)
    samples = waveforms(root, drawn.clips)
    folders = [work / name / f"model-{model:02d}" for model in range(models)]
    said = [np.load(folder / "answers.npy") for folder in folders]
    where = {
        "commit": provenance.commit(), "lock": provenance.lock_hash(),
        "machine": provenance.describe(),
    }
    told = np.flatnonzero(drawn.clips["part"] == "told")
    for kind, request, model, steps in asked(drawn, models):
        if request in done or kind not in kinds:
            continue
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            unseen = csv_of(drawn, told, Path(scratch) / "unseen.csv")
            source, started = folders[model], time.process_time()
            for number, clips in enumerate(steps):
                made = forget(
                    source, csv_of(drawn, clips, Path(scratch) / f"{number}.csv"),
                    Path(scratch) / f"out-{number}", root=root, seed=number,
                    method=method, parameters=parameters, unseen=unseen,
                    whole_speakers=kind == "speaker",
                )
                source = made.out
            seconds = time.process_time() - started
            after = answers(source, samples)
        found = {key: value for key, value in made.report["details"].items() if key != "history"}
        collected = []
        for number, positions in enumerate(steps):
            about = {
                "system": name, "kind": kind, "request": request, "step": number, "model": model,
                "clips": len(positions), "method": made.report["method"]["name"],
            }
            collected += [
                about | {"who": "original"} | figures(said[model], drawn, positions),
                about | {"who": "unlearned"} | figures(after, drawn, positions)
                | {"seconds": round(seconds, 1), "details": json.dumps(found)} | where,
            ]
            collected += [
                about | {"who": f"retrained {other}"} | figures(said[other], drawn, positions)
                for other in range(models)
                if not len(np.intersect1d(drawn.training(other), positions))
            ]
        yield collected


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["pool", "forget", "summary"])
    parser.add_argument("system", nargs="?", choices=list(SYSTEMS))
    parser.add_argument("--root", type=Path, help="folder of the corpus")
    parser.add_argument("--work", type=Path, help="folder of the pool's models")
    parser.add_argument("--models", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "in a row"], help="these alone")
    parser.add_argument("--method", help="in place of what forget recommends")
    parser.add_argument("--parameters", type=json.loads, default={}, help="as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.what == "summary":
        print(summary(kept(asked.out)).to_string(index=False))
        return
    if asked.system is None or asked.root is None or asked.work is None:
        parser.error(f"{asked.what} needs a system, --root and --work")
    for folder in pool(asked.system, asked.root, asked.work, asked.models):
        print(folder, flush=True)
    if asked.what == "forget":
        before = kept(asked.out)
        done = set() if before.empty else set(before[before["system"] == asked.system]["request"])
        for made in rows(
            asked.system, asked.root, asked.work, asked.models, asked.parameters, asked.method,
            done, asked.kinds or [*KINDS, "in a row"],
        ):
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            whole = pd.concat([kept(asked.out), pd.DataFrame(made)])
            partial = asked.out.with_suffix(".partial")
            whole.to_csv(partial, index=False, float_format="%.5g")
            partial.replace(asked.out)
            print(pd.DataFrame(made).iloc[:3].to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
