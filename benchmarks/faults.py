"""What survives what: work that is killed, cut off, damaged or done by several processes at once.

    python -m benchmarks.faults --kill 200 --bit 200 --cut 40 --race 30

Each trial is a tiny piece of work of one kind in a folder of its own. A fault befalls it; then it
is done again, in the same folder, and what it answers (weights, numbers, files) is compared with
that of undisturbed work. Every attempt is a child that is forked off, so that what is imported is
there. A power cut is simulated, see ``tests/powercut.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import io
import json
import logging
import os
import random
import shutil
import signal
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from speechunlearn import provenance
from speechunlearn.cache import Cache
from speechunlearn.corpora.base import Archive, Corpus
from speechunlearn.corpora.download import download
from speechunlearn.errors import SpeechUnlearnError
from speechunlearn.lab.results import Results
from speechunlearn.models import training
from speechunlearn.models.loop import Work
from speechunlearn.tool import audit, checkpoints, forget, inputs, ledger, output_folder
from tests import answers, checkpoint, forked, powercut

RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "faults.csv"
FAULTS = {"kill": 200, "bit": 200, "cut": 40, "race": 30}
OUTCOMES = ("same result", "refused with words", "wrong")
#: of a report: what is judged, and not when and where
NUMBERS = ("scores", "membership", "verdict", "cards", "result", "method", "details", "notes")
#: hyperparameters of the request
TINY = {"epochs": 3, "learning_rate": 1e-3, "copies": 2, "steps": 2}

#: does a piece of work in a folder; returns what it answers, in JSON's types
Job = Callable[[Path], Any]


@contextlib.contextmanager
def kinds(desk: Path) -> Iterator[dict[str, Job]]:
    """Yield every kind of work that keeps something.

    Args:
        desk: folder to write a checkpoint, clips and a ledger to

    """
    model = checkpoint.write(desk / "model")
    clips, second = (checkpoint.clips(desk, f"{n}", 4, n) for n in range(2))
    requests = desk / "ledger.csv"
    requests.write_text(
        f"id,forget,method\na,{clips.name},ran_lab\nb,{second.name},ran_lab\n"
    )
    audit(model, clips)  # imports what it imports late
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(60):
            archive.writestr(f"{number % 5}/{number}.wav", random.Random(number).randbytes(8000))
    known = f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}"
    url, server = serve(packed.getvalue())
    corpus = Corpus("x", "x", "x", "x", "x", None, archives=(Archive("1", url, known),))

    def of_forget(folder: Path) -> Any:
        done = forget(model, clips, folder / "out", method="adv", parameters=TINY)
        return [done.report[name] for name in NUMBERS], sorted(done.report["outputs"])

    def of_audit(folder: Path) -> Any:
        out = folder / "out"
        if not (out / output_folder.REPORT).exists():  # a second audit is refused
            audit(model, clips, out=out)
        report = output_folder.finished(out)
        return None if report is None else report["scores"]

    def of_ledger(folder: Path) -> Any:
        table = ledger.run(model, requests, folder / "out")
        newest = checkpoints.load(folder / "out" / table["id"].iloc[-1])
        return table[["id", "status", "verdict", "why"]].to_csv(), newest.origin.sha256

    def of_training(folder: Path) -> Any:
        network = checkpoints.load(model)
        read = inputs.read("forget", clips, network.labels, sampling_rate=16_000, normalise=True)

        def make(place: Path, resume: Path) -> None:
            work = Work(seed=0, resume=resume)
            training.train(network, read.clips, training.Recipe(epochs=4), seed=0, cost=work)
            checkpoints.save(network, place)

        return digest(Cache(folder).find_or_make("models", {"seed": 0}, make))

    def of_artefact(folder: Path) -> Any:
        def make(place: Path, resume: Path) -> None:
            (place / "below").mkdir()
            for number in range(6):
                (place / "below" / f"{number}.bin").write_bytes(bytes([number]) * 20_000)
                time.sleep(0.005)

        return digest(Cache(folder).find_or_make("kind", {"seed": 0}, make))

    def of_results(folder: Path) -> Any:
        for method in ("original", "retrain"):
            answered = answers.evaluation(method, answers.answers(len(method)))
            Results.of([answered]).write(folder / "results")
        read = Results.read(folder / "results")
        return read.evaluations.to_csv(), read.predictions.to_csv()

    def of_download(folder: Path) -> Any:
        root = folder / "corpus"
        if not root.exists():  # what is there is complete
            download(corpus, root)
        return digest(root)

    try:
        yield {
            "forget": of_forget, "audit": of_audit, "ledger": of_ledger, "training": of_training,
            "artefact": of_artefact, "results": of_results, "download": of_download,
        }
    finally:
        os.kill(server, signal.SIGKILL)
        forked.status(server)


def serve(content: bytes) -> tuple[str, int]:
    """Serve a file, slowly, from a child; return its address and the child's number."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
            self.send_response(416 if start >= len(content) else 206 if start else 200)
            self.send_header("Content-Length", str(max(0, len(content) - start)))
            self.end_headers()
            for at in range(start, len(content), 1 << 16):
                self.wfile.write(content[at : at + (1 << 16)])
                time.sleep(0.01)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with server:  # whose socket is the child's from then on
        return f"http://127.0.0.1:{server.server_port}/a.zip", forked.start(server.serve_forever)


def digest(folder: Path) -> list[str]:
    """Return the names and hashes of the files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{f.relative_to(folder)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]


def begin(work: Job, folder: Path) -> tuple[int, int]:
    """Start work in a child; return its number, and where its answer can be read."""
    read, write = os.pipe()

    def call() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            said = [OUTCOMES[0], work(folder)]
        except SpeechUnlearnError as error:
            said = [OUTCOMES[1], str(error)]
        except Exception as error:
            said = [OUTCOMES[2], f"{type(error).__name__}: {error}"]
        with os.fdopen(write, "w") as pipe:
            pipe.write(json.dumps(said, default=str))

    child = forked.start(call)
    os.close(write)
    return child, read


def end(child: int, read: int) -> tuple[str, Any]:
    """Wait for work in a child; return which of `OUTCOMES` it ended with, and what it said."""
    with os.fdopen(read) as pipe:
        said = pipe.read()
    forked.status(child)
    came, what = json.loads(said) if said else (OUTCOMES[2], "it was killed")
    return came, what


def kill(work: Job, folder: Path, seconds: float) -> None:
    """Kill work at a moment."""
    child, read = begin(work, folder)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    end(child, read)


def flip(folder: Path, draw: random.Random) -> str:
    """Flip a bit of a file in a folder; return which file, or nothing where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    # a corpus, once it is unpacked, is the user's: manifests hold the hashes of its clips
    files = [path for path in files if not path.is_relative_to(folder / "corpus")]
    if not files:
        return ""
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return str(file.relative_to(folder))


def cut(work: Job, folder: Path, event: int, seed: int) -> int:
    """Do work whose power is cut at an event, or after its end; return how many there were."""

    def under(folder: Path) -> int:
        disk = powercut.Disk(folder, event, seed)
        disk.watch()
        work(folder)
        events = disk.counted
        disk.cut()
        return events

    came, events = end(*begin(under, folder))
    return events if came == OUTCOMES[0] else 0


def trials(
    jobs: dict[str, Job], folder: Path, asked: dict[str, int], draw: random.Random
) -> Iterator[tuple[str, str, str, str]]:
    """Yield fault, kind of work, outcome and what was said, of one trial after another.

    Args:
        jobs: of `kinds`
        folder: to work in
        asked: fault -> trials, of the kinds in turn
        draw: of the moments, bits and processes

    """
    expected, seconds, events = {}, {}, {}
    for kind, work in jobs.items():
        begun = time.monotonic()
        came, expected[kind] = end(*begin(work, folder / f"whole {kind}"))
        assert came == OUTCOMES[0], expected[kind]
        seconds[kind] = time.monotonic() - begun
        events[kind] = cut(work, folder / f"counted {kind}", 0, 0)
    for fault, number in ((fault, i) for fault, count in asked.items() for i in range(count)):
        kind = list(jobs)[number % len(jobs)]
        work, one, said = jobs[kind], folder / f"{fault} {number}", []
        if fault == "cut":
            cut(work, one, draw.randrange(1, events[kind] + 2), number)
        elif fault == "kill" or draw.random() < 0.5:
            kill(work, one, draw.uniform(0, 1) * seconds[kind])
        elif fault == "bit":
            shutil.copytree(folder / f"whole {kind}", one)
        what = flip(one, draw) if fault == "bit" or (fault, kind) == ("race", "artefact") else ""
        if fault == "race":
            # the eight and the two fall on every kind
            racing = [begin(work, one) for _ in range(8 if number // len(jobs) % 2 else 2)]
            said = [end(*process) for process in racing]
            said = [ended for ended in said if ended[0] != OUTCOMES[1]]  # another works there
        said.append(end(*begin(work, one)))
        for came, answer in said:
            if came == OUTCOMES[0] and answer != expected[kind]:
                came = OUTCOMES[2]
            if came != OUTCOMES[0]:
                break
        yield fault, kind, came, f"{what} {answer}"[:300]
        shutil.rmtree(one, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for fault, count in FAULTS.items():
        parser.add_argument(f"--{fault}", type=int, default=count, help="trials")
    parser.add_argument("--only", nargs="*", help="kinds of work", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    seen: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as scratch, kinds(Path(scratch) / "desk") as jobs:
        jobs = {name: jobs[name] for name in options.only or jobs}
        asked = {fault: getattr(options, fault) for fault in FAULTS}
        for fault, kind, came, said in trials(jobs, Path(scratch), asked, random.Random(
            options.seed
        )):
            seen[fault, kind, came] += 1
            if came != OUTCOMES[0]:
                print(f"{fault} {kind}: {came}: {said}", flush=True)
    rows = []
    for fault, kind in dict.fromkeys((fault, kind) for fault, kind, _ in seen):
        counts = {came: seen[fault, kind, came] for came in OUTCOMES}
        rows.append({
            "fault": fault, "work": kind, "tried": sum(counts.values()), **counts,
            "commit": provenance.commit(), "lock": provenance.lock_hash(),
            "machine": provenance.describe(),
        })
    table = pd.DataFrame(rows)
    print(table.iloc[:, :6].to_string(index=False))
    table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
