"""Kill a deletion request at random moments, resume it, and compare what it writes: a script.

Usage: killed.py MODEL FORGET OUT KILLS SEED. Every attempt is a child of its own, which the parent
kills; the imports are done once. The last line is a JSON object of what was seen.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from speechunlearn.tool import audit, forget, forgetting, work

PARAMETERS = {"epochs": 4, "copies": 2, "steps": 6, "learning_rate": 1e-3}


def start(model: str, file: str, out: Path) -> int:
    """Start a request in a child; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        forget(model, file, out, method="adv_ela", parameters=PARAMETERS, seed=2)
        status = 0
    finally:
        os._exit(status)


def state(out: Path) -> str:
    """How far a request was when it was killed."""
    unfinished = out / work.UNFINISHED
    if (out / work.REPORT).is_file():
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
    forgetting._COPIES_A_PIECE = 4  # several pieces, so that kills fall between them
    rng = np.random.default_rng(int(seed))
    audit(model, file)  # imports what a request imports late
    whole = Path(out) / "whole"
    os.waitpid(start(model, file, whole), 0)
    again = Path(out) / "timed"
    begun = time.perf_counter()
    os.waitpid(start(model, file, again), 0)
    seconds = time.perf_counter() - begun
    expected = work.sha256(whole / "model.safetensors")
    seen, equal, trusted = [], [work.sha256(again / "model.safetensors") == expected], []
    for i in range(int(kills)):
        one = Path(out) / f"killed {i}"
        child = start(model, file, one)
        time.sleep(rng.uniform(0, 0.8 * seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seen.append(state(one) if os.WIFSIGNALED(status) else "finished")
        # what lies there looks finished only where it is
        if (one / work.REPORT).is_file():
            trusted.append(work.finished(one) is not None)
        _, status = os.waitpid(start(model, file, one), 0)
        equal.append(
            os.waitstatus_to_exitcode(status) == 0
            and work.finished(one) is not None
            and work.sha256(one / "model.safetensors") == expected
            and not (one / work.UNFINISHED).exists()
        )
    print(json.dumps({"seconds": seconds, "seen": seen, "equal": equal, "trusted": trusted}))


if __name__ == "__main__":
    main()
