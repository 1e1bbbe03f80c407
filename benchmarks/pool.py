"""Make a pool of models: each trained without a random half of some disjoint forget sets.

    python -m benchmarks.pool --corpus ravdess --root PATH --sets "clips:10x3 speaker:1x2"

What it is for and what it writes: `benchmarks.pools`. The design is drawn and written before
anything is trained. Models are trained in their order, the first 12 are a balanced pool of their
own; each is kept in the cache, and what it says is one file in ``--out``. Killed at any moment, the
same command goes on. Models are trained with ``fast`` computation.

Sets are items with blanks between them, ``KIND:SIZE`` or ``KIND:SIZExCOUNT``:

    clips:10x3     three sets of ten random clips
    clips:0.05     one of a twentieth of the training clips
    takes:8        every take of eight utterances
    speaker:1x2    two whole speakers, one a set
    class:1        a whole class
    dev:clips:50   fifty clips of the development forget set: something may be chosen on them
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import pools
from speechunlearn.errors import SpeechUnlearnError
from speechunlearn.lab import profiles, study
from speechunlearn.lab.study import Study


def answer(asked: dict[str, Any], k: int) -> str:
    """Train model k of a pool, or find it; return what it took, in a line."""
    of, design = opened(asked)
    start = time.perf_counter()
    pools.answer(of, design, k, Path(asked["out"]))
    return f"model {k:02d}: {time.perf_counter() - start:.0f} s"


_open: dict[str, tuple[Study, pools.Design]] = {}


def opened(asked: dict[str, Any]) -> tuple[Study, pools.Design]:
    """Return study and design, once a process."""
    if "it" not in _open:
        profile = profiles.get(asked["profile"])
        if asked["task"]:
            profile = profile.for_task(asked["task"])
        changed: dict[str, Any] = {"recipe": profile.recipe | {"fast": True}}
        for name in ("encoder", "threads"):
            if asked[name]:
                changed[name] = asked[name]
        profile = profile.with_values(**changed)
        profiles.prepare_process(profile)
        of = study.Study(profile, asked["corpus"] or None, asked["root"] or None)
        design = pools.design(of, asked["sets"], asked["models"], asked["spare"], asked["seed"])
        _open["it"] = of, design
    return _open["it"]


def main() -> None:
    """Make the pool that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--corpus", default="", help="its name; the profile's own by default")
    parser.add_argument("--root", default="", help="its folder, or the CSV")
    parser.add_argument("--task", default="", help="where it is not the corpus's own: speaker")
    parser.add_argument("--encoder", default="", help="the profile's by default")
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--sets", required=True, help="as above")
    parser.add_argument("--spare", type=int, default=64, help="clips that no model hears")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="", help="folder; below data/pools/ by default")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one model each")
    asked = vars(parser.parse_args())
    of, design = opened(asked)
    if not asked["out"]:
        own = of.task.name == of.corpus.task
        task = "" if own else f"-{of.task.name}"
        name = f"{of.profile.name}-{of.corpus.name}{task}-{Path(of.profile.encoder).name}"
        asked["out"] = str(pools.FOLDER / name)
    pools.begin(of, design, Path(asked["out"]))
    models = range(asked["models"])
    heard = [len(of.train_manifest) - len(design.absent(k).names) for k in models]
    print(
        f"{len(design.sets)} sets of {sum(len(s.hashes) for s in design.sets)} clips, "
        f"{len(design.spare)} spare: a model hears {min(heard)} to {max(heard)} of "
        f"{len(of.train_manifest)} training clips, {sum(heard) / len(heard):.0f} on average; "
        f"a set is heard by {design.heard.mean():.3f} of the models",
        flush=True,
    )
    if asked["jobs"] == 1:
        for k in models:
            print(answer(asked, k), flush=True)
    else:
        with ProcessPoolExecutor(asked["jobs"], mp_context=get_context("spawn")) as processes:
            for line in processes.map(answer, [asked] * len(models), models):
                print(line, flush=True)
    summary = pools.summary(pools.Pool.read(Path(asked["out"])))
    summary.to_csv(Path(asked["out"]) / "summary.csv", index=False, float_format="%.3f")


if __name__ == "__main__":
    try:
        main()
    except SpeechUnlearnError as error:
        sys.exit(f"error: {error}")
