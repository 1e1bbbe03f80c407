"""Kill a deletion request at random moments, resume it, and compare what it writes: a script.

Usage: killed.py MODEL FORGET OUT KILLS SEED. Every attempt is a child of its own, which the parent
kills; the imports are done once. The time that a request takes is cut into as many pieces as there
are kills, and one falls at random into each. The last line is a JSON object of what was seen.
"""

import json
import sys
import time
from pathlib import Path

import forked
import numpy as np
import torch

from speechunlearn.tool import audit, forget, output_folder

PARAMETERS = {"epochs": 4, "copies": 2, "steps": 6, "learning_rate": 1e-3}


def request(model: str, file: str, out: Path) -> None:
    """What is asked for, time and again."""
    forget(model, file, out, method="adv_ela", parameters=PARAMETERS, seed=2)


def state(out: Path) -> str:
    """How far a request was when it was killed."""
    unfinished = out / output_folder.UNFINISHED
    if (out / output_folder.REPORT).is_file():
        return "published"
    if (unfinished / "made").is_dir():
        return "publishing"
    if list(unfinished.glob("unlearned/*/artefact.json")):
        return "unlearned"
    if list(unfinished.glob("unlearned/*.resume")):
        return "descending"
    if list(unfinished.glob("adversarial/*/artefact.json")):
        return "attacking"
    return "nothing kept" if unfinished.is_dir() else "not begun"


def main() -> None:
    model, file, out, kills, seed = sys.argv[1:]
    torch.set_num_threads(1)
    # several pieces, so that kills fall between them
    sys.modules[forget.__module__]._COPIES_A_PIECE = 4
    rng = np.random.default_rng(int(seed))
    audit(model, file)  # imports what a request imports late
    whole = Path(out) / "whole"
    forked.status(forked.start(request, model, file, whole))
    again = Path(out) / "timed"
    begun = time.perf_counter()
    forked.status(forked.start(request, model, file, again))
    seconds = time.perf_counter() - begun
    expected = output_folder.sha256(whole / "model.safetensors")
    seen, equal, trusted = [], [output_folder.sha256(again / "model.safetensors") == expected], []
    for i in range(int(kills)):
        one = Path(out) / f"killed {i}"
        moment = (i + rng.uniform()) / int(kills) * 0.9 * seconds
        killed = forked.killed_after(moment, request, model, file, one)
        seen.append(state(one) if killed else "finished")
        # what lies there looks finished only where it is
        if (one / output_folder.REPORT).is_file():
            trusted.append(output_folder.finished(one) is not None)
        status = forked.status(forked.start(request, model, file, one))
        equal.append(
            status == 0
            and output_folder.finished(one) is not None
            and output_folder.sha256(one / "model.safetensors") == expected
            and not (one / output_folder.UNFINISHED).exists()
        )
    print(json.dumps({"seconds": seconds, "seen": seen, "equal": equal, "trusted": trusted}))


if __name__ == "__main__":
    main()
