"""Make ``data/heard``: a clip of real speech under attack, to be heard in chapter 04.

    python data/make_heard.py RECORDING MODEL

RECORDING is ``tests/jfk.flac`` of OpenAI's Whisper repository (in the public domain, see the README
beside the clips), MODEL the folder of an emotion classifier. What the model says is asked of the
files as they are written, in 16 bits.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from speechunlearn import provenance
from speechunlearn.dataset import audio
from speechunlearn.dataset.clips import Clips
from speechunlearn.methods import pgd
from speechunlearn.models import classifier

FOLDER = Path(__file__).resolve().parent / "heard"
SHA256 = "63a4b1e4c1dc655ac70961ffbf518acd249df237e5a0152faae9a4a836949715"
RATE = 16_000
SECONDS = (0.2, 2.3)  # "And so, my fellow Americans"
TAUS = (0.1, 0.3, 0.7)
STEPS, SEED, LOUDER = 50, 0, 10
SCALE = 0.04  # of a standard deviation, so that nothing is clipped


def read(recording: str) -> Tensor:
    """Return the clip: mono, 16 kHz, z-normalised."""
    if hashlib.sha256(Path(recording).read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{recording}: not the recording that this is about")
    waveform, rate = soundfile.read(recording)
    first, last = (round(second * rate) for second in SECONDS)
    waveform = resample_poly(waveform[first:last].mean(1), RATE // 100, rate // 100)
    return torch.from_numpy(audio.normalise(waveform.astype(np.float32)))


def write(name: str, waveform_z: Tensor) -> Tensor:
    """Write a waveform; return what is in the file."""
    file = FOLDER / f"{name}.flac"
    soundfile.write(file, SCALE * waveform_z.numpy(), RATE, subtype="PCM_16")
    return torch.from_numpy(soundfile.read(file, dtype="float32")[0]) / SCALE


def main(recording: str, model_folder: str) -> None:
    """Attack the clip, and write what is to be heard of it."""
    FOLDER.mkdir(exist_ok=True)
    model = classifier.load(Path(model_folder)).eval()

    @torch.inference_mode()
    def said(stored: Tensor) -> int:
        waveform_z = torch.from_numpy(audio.normalise(stored.numpy()))
        return int(model(waveform_z[None], torch.tensor([len(waveform_z)])).argmax())

    clip_z = read(recording)
    stored = write("clip", clip_z)
    clips = Clips([clip_z], torch.tensor([said(stored)]), ["recording"], ["speaker"])
    rows = [{"file": "clip.flac", "said": model.labels[said(stored)]}]
    for tau in TAUS:
        parameters = pgd.AttackParameters(tau=tau, copies=1, steps=STEPS)
        attacked = pgd.adversarial_set(model, clips, len(model.labels), parameters, seed=SEED).clips
        copy = write(f"copy-{tau}", attacked.waveforms_z[0])
        rows.append({
            "file": f"copy-{tau}.flac", "tau": tau, "said": model.labels[said(copy)],
            "target": model.labels[int(attacked.labels[0])],
            "snr_db": round(pgd.signal_to_noise_db(stored, copy), 1),
        })  # fmt: skip
        if tau == TAUS[0]:
            delta = attacked.waveforms_z[0] - clip_z
            for name, factor in (("alone", 1), ("louder", LOUDER)):
                write(f"perturbation-{name}", factor * delta)
                rows.append({"file": f"perturbation-{name}.flac", "tau": tau})
    table = pd.DataFrame(rows)
    table.to_csv(FOLDER / "heard.csv", index=False)
    card = json.loads((Path(model_folder) / "card.json").read_text())["specification"]
    made_by = {
        "recording_sha256": SHA256, "seconds": SECONDS, "copies": 1, "steps": STEPS, "seed": SEED,
        "louder": LOUDER,
        "model": {key: card[key] for key in ("corpus", "corpus_hash", "encoder", "seed", "train")},
        "commit": provenance.commit(), "lock": provenance.lock_hash(),
        "machine": provenance.describe(),
    }  # fmt: skip
    (FOLDER / "made_by.json").write_text(json.dumps(made_by, indent=1) + "\n")
    print(table.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
