"""What survives what: work that is killed, cut off, damaged or done by several processes at once.

    python -m benchmarks.faults --kills 200 --flips 200 --cuts 40 --races 30

Each trial is a tiny piece of work of one kind in a folder of its own. A fault befalls it; then it
is done again, in the same folder, and what it answers (weights, numbers, files) is compared with
that of undisturbed work. Every attempt is a child that is forked off, so that what is imported is
there. A power cut is simulated, see ``tests/powercut.py``.
"""

from __future__ import annotations

import argparse
import functools
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
from speechunlearn.methods.base import Resume
from speechunlearn.models import training
from speechunlearn.models.loop import Work
from speechunlearn.tool import audit, checkpoints, forget, inputs, ledger, output_folder
from tests import answers, checkpoint, forked, powercut

RESULTS = provenance.REPOSITORY / "data" / "benchmarks" / "faults.csv"
OUTCOMES = ("same result", "refused with words", "wrong")
#: of a report: what is judged, and not when and where
NUMBERS = ("scores", "membership", "verdict", "cards", "result", "method", "details", "notes")
DESCENT = {"epochs": 3, "learning_rate": 1e-3}

#: name of the work -> what does it, in a folder, beside the desk; returns what it answers
Kinds = dict[str, Callable[[Path], Any]]


def kinds(desk: Path, url: str, archive: bytes) -> Kinds:
    """Return every kind of work that keeps something.

    Args:
        desk: folder of a checkpoint, clips and a ledger
        url: of an archive
        archive: its content

    """
    model, clips = desk / "model", desk / "forget.csv"

    def of_forget(folder: Path) -> Any:
        more = {"copies": 2, "steps": 2}
        done = forget(model, clips, folder / "out", method="adv", parameters=DESCENT | more)
        return [done.report[name] for name in NUMBERS], sorted(done.report["outputs"])

    def of_audit(folder: Path) -> Any:
        out = folder / "out"
        if not (out / output_folder.REPORT).exists():  # a second audit is refused
            audit(model, clips, out=out)
        report = output_folder.finished(out)
        return None if report is None else report["scores"]

    def of_ledger(folder: Path) -> Any:
        table = ledger.run(model, desk / "ledger.csv", folder / "out")
        newest = checkpoints.load(folder / "out" / table["id"].iloc[-1])
        return table[["id", "status", "verdict", "why"]].to_csv(), newest.origin.sha256

    def of_training(folder: Path) -> Any:
        network = checkpoints.load(model)
        table = inputs.read("forget", clips, network.labels, sampling_rate=16_000, normalise=True)

        def make(place: Path, resume: Path) -> None:
            work = Work(seed=0, resume=Resume(resume))
            training.train(network, table.clips, training.Recipe(epochs=4), seed=0, cost=work)
            checkpoints.save(network, place)

        return digest(Cache(folder).find_or_make("models", {"seed": 0}, make))

    def of_artefact(folder: Path) -> Any:
        def make(place: Path, resume: Path) -> None:
            (place / "below").mkdir()
            for number in range(6):
                (place / "below" / f"{number}.bin").write_bytes(bytes([number]) * 20_000)
                time.sleep(0.005)

        found = Cache(folder).find_or_make("kind", {"seed": 0}, make)
        return digest(found / "below")

    def of_results(folder: Path) -> Any:
        for method in ("original", "retrain"):
            answered = answers.evaluation(method, answers.answers(len(method)))
            Results.of([answered]).write(folder / "results")
        read = Results.read(folder / "results")
        return read.evaluations.to_csv(), read.predictions.to_csv()

    def of_download(folder: Path) -> Any:
        known = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        corpus = Corpus("x", "x", "x", "x", "x", None, archives=(Archive("1", url, known),))
        root = folder / "corpus"
        if not root.exists():  # what is there is complete
            download(corpus, root, progress=False)
        return digest(root)

    return {
        "forget": of_forget, "audit": of_audit, "ledger": of_ledger, "training": of_training,
        "artefact": of_artefact, "results": of_results, "download": of_download,
    }


def digest(folder: Path) -> list[str]:
    """Return the names and hashes of the files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{f.relative_to(folder)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]


def begin(work: Callable[[Path], Any], folder: Path) -> tuple[int, int]:
    """Start work in a child; return its number, and where its answer can be read."""
    read, write = os.pipe()

    def call() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            said = ["answer", work(folder)]
        except SpeechUnlearnError as error:
            said = ["refused", str(error)]
        except Exception as error:
            said = ["wrong", f"{type(error).__name__}: {error}"]
        with os.fdopen(write, "w") as pipe:
            pipe.write(json.dumps(said, default=str))

    child = forked.start(call)
    os.close(write)
    return child, read


def end(child: int, read: int) -> list[Any]:
    """Wait for work in a child; return what it said."""
    with os.fdopen(read) as pipe:
        said = pipe.read()
    forked.status(child)
    return json.loads(said) if said else ["killed", ""]


def outcome(said: list[Any], expected: Any) -> str:
    """Return which of `OUTCOMES` an answer is."""
    if said[0] == "answer":
        return OUTCOMES[0] if said[1] == expected else OUTCOMES[2]
    return OUTCOMES[1] if said[0] == "refused" else OUTCOMES[2]


def killed(work: Callable[[Path], Any], folder: Path, seconds: float) -> None:
    """Kill work at a moment."""
    child, read = begin(work, folder)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    end(child, read)


def flipped(folder: Path, draw: random.Random, *, all_files: bool = True) -> str:
    """Flip a bit of a file in a folder; return which file, or nothing where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    files = [path for path in files if all_files or not path.is_relative_to(folder / "corpus")]
    if not files:
        return ""
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return str(file.relative_to(folder))


def cut(work: Callable[[Path], Any], folder: Path, event: int, seed: int) -> int:
    """Do work whose power is cut at an event, or after its end; return how many there were."""

    def under(folder: Path) -> int:
        disk = powercut.Disk(folder, event, seed)
        disk.watch()
        work(folder)
        events = disk.counted
        disk.cut()
        return events

    return end(*begin(under, folder))[1]


def server(archive: bytes) -> tuple[str, int]:
    """Serve an archive, slowly, from a child; return its address and the child's number."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
            self.send_response(416 if start >= len(archive) else 206 if start else 200)
            self.send_header("Content-Length", str(max(0, len(archive) - start)))
            self.end_headers()
            for at in range(start, len(archive), 1 << 16):
                self.wfile.write(archive[at : at + (1 << 16)])
                time.sleep(0.01)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    return f"http://127.0.0.1:{served.server_port}/a.zip", forked.start(served.serve_forever)


def trials(
    kinds: Kinds, folder: Path, asked: dict[str, int], draw: random.Random
) -> Iterator[tuple[str, str, str, str]]:
    """Yield fault, kind, outcome and what was said, of one trial after another."""
    expected, seconds, events = {}, {}, {}
    for kind, work in kinds.items():
        begun = time.monotonic()
        said = end(*begin(work, folder / f"whole {kind}"))
        assert said[0] == "answer", said
        expected[kind], seconds[kind] = said[1], time.monotonic() - begun
        events[kind] = cut(work, folder / f"counted {kind}", 0, 0)
    for fault, count in asked.items():
        for number in range(count):
            kind = list(kinds)[number % len(kinds)]
            work, one = kinds[kind], folder / "trials" / f"{fault} {number}"
            again = functools.partial(begin, work, one)
            what = ""
            if fault == "kill":
                killed(work, one, draw.uniform(0, seconds[kind]))
            elif fault == "bit":
                if draw.random() < 0.5:
                    killed(work, one, draw.uniform(0.3, 1.0) * seconds[kind])
                else:
                    shutil.copytree(folder / f"whole {kind}", one)
                what = flipped(one, draw, all_files=kind != "download")
            elif fault == "cut":
                cut(work, one, draw.randrange(1, events[kind] + 2), number)
            else:
                if draw.random() < 0.5:
                    killed(work, one, draw.uniform(0.3, 1.0) * seconds[kind])
                if kind == "artefact":
                    what = flipped(one, draw)
                racing = [again() for _ in range((2, 8)[number % 2])]
                said = [end(*process) for process in racing]
                bad = [one for one in said if outcome(one, expected[kind]) == OUTCOMES[2]]
                if bad:
                    yield fault, kind, OUTCOMES[2], str(bad[0])
                    continue
            said = end(*again())
            yield fault, kind, outcome(said, expected[kind]), f"{what} {str(said)[:300]}"
            shutil.rmtree(one, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for fault, count in (("kills", 200), ("flips", 200), ("cuts", 40), ("races", 30)):
        parser.add_argument(f"--{fault}", type=int, default=count)
    parser.add_argument("--only", nargs="*", help="kinds of work", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    draw = random.Random(options.seed)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(60):
            archive.writestr(f"{number % 5}/{number}.wav", draw.randbytes(8000))
    url, serving = server(packed.getvalue())
    seen: Counter[tuple[str, str, str]] = Counter()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            desk = Path(scratch) / "desk"
            checkpoint.write(desk / "model")
            for seed, name in enumerate(("forget", "second")):
                checkpoint.clips(desk, name, 4, seed)
            rows = ["id,forget,method", "a,forget.csv,ran_lab", "b,second.csv,ran_lab"]
            (desk / "ledger.csv").write_text("\n".join(rows) + "\n")
            audit(desk / "model", desk / "forget.csv")  # imports what it imports late
            of = kinds(desk, url, packed.getvalue())
            of = {name: of[name] for name in options.only or of}
            asked = {"kill": options.kills, "bit": options.flips, "cut": options.cuts,
                     "race": options.races}
            for fault, kind, came, said in trials(of, Path(scratch), asked, draw):
                seen[fault, kind, came] += 1
                if came != OUTCOMES[0]:
                    print(fault, kind, came, said, flush=True)
    finally:
        os.kill(serving, signal.SIGKILL)
    table = pd.DataFrame([
        {"fault": fault, "work": kind, "tried": sum(seen[fault, kind, one] for one in OUTCOMES)}
        | {one: seen[fault, kind, one] for one in OUTCOMES}
        | {"commit": provenance.commit(), "lock": provenance.lock_hash(),
           "machine": provenance.describe()}
        for fault in asked for kind in of if any(seen[fault, kind, one] for one in OUTCOMES)
    ])
    print(table.iloc[:, :6].to_string(index=False))
    table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
