"""What forgetting takes on a large model: memory, and seconds beside an epoch of training.

    python -m benchmarks.large_model --clips 16 --seconds 10 --method perturbed

The model is a wav2vec 2.0 of the size of wav2vec2-base with random weights, the clips are noise:
neither memory nor time depends on what is heard. Each piece of work is a process of its own, so
that its largest resident memory is its own: the request, with a budget of one epoch; one epoch of
training on the same clips (Adam, batches of 16, as they are in `speechunlearn.models.training`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from speechunlearn import provenance

RATE = 16_000
RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "large_model.csv"
#: hyperparameters that make an epoch of a method's descent its only one
ONE_EPOCH = {"epochs": 1}


def checkpoint(folder: Path, classes: int = 7) -> None:
    """Write a wav2vec 2.0 of the size of wav2vec2-base, as transformers does."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    torch.manual_seed(0)
    labels = {f"class {k}": k for k in range(classes)}
    config = Wav2Vec2Config(label2id=labels, id2label={k: name for name, k in labels.items()})
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)


def recordings(folder: Path, count: int, seconds: float, classes: int = 7) -> Path:
    """Write noise, and the CSV of it."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        noise = generator.normal(scale=0.1, size=round(seconds * RATE)).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", noise, RATE)
        rows.append((f"{number}.wav", f"class {number % classes}", f"speaker {number % 5}"))
    table = pd.DataFrame(rows, columns=["path", "label", "speaker"])
    table.to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def work(what: str, folder: Path, clips: Path, parameters: dict) -> dict[str, float]:
    """Do one piece of work in this process; return what it took."""
    from speechunlearn.models import training
    from speechunlearn.tool import forget
    from speechunlearn.tool.unlearning import prepare

    torch.set_num_threads(1)
    started, steps = time.process_time(), 0
    if what == "training":
        prepared = prepare(folder, {"forget": clips})
        started = time.process_time()
        recipe = training.Recipe(epochs=1)
        training.train(prepared.model, prepared.sets["forget"].clips, recipe, seed=0)
    else:
        done = forget(
            folder, clips, folder.parent / "unlearned", method=what, parameters=parameters
        )
        steps = done.report["details"].get("steps", 0)
    return {
        "processor_seconds": round(time.process_time() - started, 1), "steps": steps,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--method", default="perturbed")
    parser.add_argument("--parameters", type=json.loads, default=ONE_EPOCH, help="as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        what, folder, clips = asked.work
        print(json.dumps(work(what, Path(folder), Path(clips), asked.parameters)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        checkpoint(folder)
        clips = recordings(Path(scratch), asked.clips, asked.seconds)
        for what in ("training", asked.method):
            command = [
                sys.executable, "-m", "benchmarks.large_model", "--parameters",
                json.dumps(asked.parameters), "--work", what, str(folder), str(clips),
            ]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            taken = json.loads(told.splitlines()[-1])
            rows.append({
                "work": what, "clips": asked.clips, "seconds": asked.seconds, **taken,
                "commit": provenance.commit(), "lock": provenance.lock_hash(),
                "machine": provenance.describe(),
            })
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if asked.out.exists():
        table = pd.concat([pd.read_csv(asked.out, dtype={"commit": str}), table])
    table.to_csv(asked.out, index=False)


if __name__ == "__main__":
    main()
