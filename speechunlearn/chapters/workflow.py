"""Running jobs by Snakemake: the plan they come from, the call of Snakemake, and the job itself.

A plan names artefacts by their cache keys and says what each needs. ``workflow/Snakefile`` makes a
job of each and knows one more thing: a marker, an empty file that has the key in its name. Markers
are set right from the cache before Snakemake starts, so the cache alone decides what is finished.
A job is ``python -m speechunlearn.chapters.workflow PLAN NAME MARKER``, on this machine or another.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout

from speechunlearn import schema
from speechunlearn.cache import Cache
from speechunlearn.chapters import context
from speechunlearn.errors import ParameterError, SpeechUnlearnError
from speechunlearn.files import alone, replaced
from speechunlearn.lab import profiles
from speechunlearn.lab.profiles import Profile
from speechunlearn.provenance import PLANNED, REPOSITORY

SNAKEFILE = REPOSITORY / "workflow" / "Snakefile"

#: folders of Snakemake profiles: where jobs run
EXECUTORS = REPOSITORY / "workflow" / "profiles"

#: folder below a run's ``out`` that holds plan, markers, errors and Snakemake's log
FOLDER = ".workflow"

#: seconds that a Slurm without accounts has to remember a job after its end: looks at it may fail
_REMEMBERED = 120
#: between two looks at the queue of a Slurm
_QUEUE_SECONDS = 10.0


@dataclass
class Plan:
    """Which artefacts a run consists of, and which chapters come after them.

    Args:
        cache: folder of finished work
        cwd: folder that relative paths in parameters are relative to
        studies: description of each study by its id
        jobs: by name (kind and cache key, e.g. ``evaluations/3f…``): study, call, needs, title
        chapters: by name: notebook, values, out, needs
        processes: number of processes that train a model together
        later: chapters whose other evaluations are known when the planned ones are there
        computing: instruction set and device that the keys are for

    """

    cache: str
    cwd: str = field(default_factory=os.getcwd)
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    chapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: int = 1
    later: list[str] = field(default_factory=list)
    computing: dict[str, Any] = field(default_factory=dict)

    def is_made(self, name: str) -> bool:
        """Return whether an artefact is complete in the cache."""
        return (Path(self.cache) / name / "artefact.json").is_file()

    def missing(self) -> list[str]:
        """Return the names of the jobs that are still to be done."""
        return [name for name in self.jobs if not self.is_made(name)]

    def write(self, folder: Path) -> Path:
        """Write the plan into a folder, under a name that its content decides."""
        text = json.dumps(asdict(self), indent=1, sort_keys=False)
        file = folder / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        with replaced(file) as partial:
            partial.write_text(text)
        return file

    @classmethod
    def read(cls, file: Path | str) -> Plan:
        """Return the plan that `write` wrote."""
        return cls(**json.loads(Path(file).read_text()))


def executor(folder: str | Path) -> Path:
    """Return the folder of a Snakemake profile: a path, or the name of one that is kept here.

    Raises:
        ParameterError: there is no ``config.yaml`` in it

    """
    for candidate in (Path(folder).expanduser(), EXECUTORS / folder):
        if (candidate / "config.yaml").is_file():
            return candidate.resolve()
    known = ", ".join(sorted(path.parent.name for path in EXECUTORS.glob("*/config.yaml")))
    raise ParameterError(
        f"profile-dir: {str(folder)!r} holds no config.yaml, and is none of {known}"
    )


def execute(
    plan: Plan,
    out: Path,
    *,
    jobs: int = 1,
    profile_dir: str | Path = "local",
    on_progress: Callable[[str], None] = print,
) -> None:
    """Do the jobs of a plan that are not done, then its chapters, by Snakemake.

    No job begins after one has failed; those that are at work end.

    Args:
        plan: what there is to do
        out: folder of the run, below which plan, markers and logs are kept
        jobs: number of them at a time
        profile_dir: Snakemake profile that says where jobs run
        on_progress: progress callback

    Raises:
        ParameterError: an unknown profile, or a folder that cannot be written, or that another
            run works in
        SpeechUnlearnError: a job failed; the message holds its error

    """
    if jobs < 1:
        raise ParameterError(f"jobs: {jobs} is not positive")
    profile_dir = executor(profile_dir)
    folder = out / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder, timeout=0.0):
            _execute(plan, out, folder, jobs, profile_dir, on_progress)
    except Timeout as error:
        raise ParameterError(f"out: another run works in {str(out)!r}") from error
    except OSError as error:
        raise ParameterError(f"out: cannot write to {str(out)!r}: {error}") from error


def _execute(
    plan: Plan, out: Path, folder: Path, jobs: int, profile_dir: Path,
    on_progress: Callable[[str], None],
) -> None:
    """Call Snakemake, which one run at a time does in a folder."""
    shutil.rmtree(folder / "errors", ignore_errors=True)
    _set_markers(plan, folder)
    if not plan.chapters and not plan.missing():
        return
    command = [
        sys.executable, "-m", "speechunlearn.chapters.workflow", "--snakefile", str(SNAKEFILE),
        "--directory", str(folder), "--profile", str(profile_dir), "--jobs", str(jobs),
        "--config", f"plan={plan.write(folder).name}", *slurm_options(profile_dir),
    ]  # fmt: skip
    log = folder / "snakemake.log"
    progress = out / "progress.log"
    progress.write_text("")
    with log.open("w") as output, progress.open() as lines:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=os.environ | {context.PROGRESS: str(progress)},
        )
        try:
            status, queue = None, queued(log)
            while status is None:  # once more after the end: the last lines count too
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(0.5)
                for line in (*lines, *next(queue, ())):
                    on_progress(line.rstrip())
        except BaseException:  # such as Ctrl-C
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if status != 0:
        errors = sorted((folder / "errors").rglob("*.txt"), key=lambda file: file.stat().st_mtime)
        if errors:
            raise SpeechUnlearnError(f"{errors[0].read_text()} (log: {str(log)!r})")
        # one that was cancelled, or whose machine went, could not say so itself
        ended = dict.fromkeys(re.findall(
            r"Error in rule \w+:.*?output: done/(\S+)", log.read_text(errors="replace"), re.DOTALL
        ))
        # of cells that share a job of a cluster, some are done
        missing = set(plan.missing()) & set(ended)
        names = ", ".join(plan.jobs[name]["title"] for name in ended if name in missing)
        what = f"{names}: " if names else ""
        raise SpeechUnlearnError(f"{what}Snakemake ended with status {status}: see {str(log)!r}")


def slurm_options(profile_dir: Path) -> list[str]:
    """Return how Snakemake is to ask a Slurm for its jobs, by what this one answers.

    Snakemake asks ``sacct``, and where Slurm keeps no accounts would wait for ever. ``squeue``
    then tells, if Slurm remembers a job for a while after its end.

    Args:
        profile_dir: of a Snakemake profile; of another executor, or one that says it, nothing is
            asked

    Raises:
        ParameterError: there is no Slurm, or neither command can tell what became of a job

    """
    config = yaml.safe_load((profile_dir / "config.yaml").read_text())
    if config.get("executor") != "slurm" or "slurm-status-command" in config:
        return []
    if shutil.which("sbatch") is None:
        raise ParameterError(f"profile-dir: {str(profile_dir)!r} is for Slurm: no sbatch is here")
    accounts = _said("sacct", "-X", "-n")
    if accounts.returncode == 0:
        return []
    remembered = re.search(r"MinJobAge\s*=\s*(\d+)", _said("scontrol", "show", "config").stdout)
    if remembered is None or int(remembered[1]) < _REMEMBERED:
        raise ParameterError(
            f"profile-dir: this Slurm keeps no accounts ({accounts.stderr.strip()!r}), and forgets "
            f"a job too soon after its end: set MinJobAge={_REMEMBERED} or more in slurm.conf"
        )
    return ["--slurm-status-command", "squeue", "--slurm-no-account"]


def queued(log: Path) -> Iterator[list[str]]:
    """Yield, again and again, what is new of the jobs that Snakemake gave to a Slurm.

    Args:
        log: Snakemake's

    """
    run, before, asked = None, "", 0.0
    while True:
        run = run or re.search(r"SLURM run ID: (\S+)", log.read_text(errors="replace"))
        if run is None or time.monotonic() - asked < _QUEUE_SECONDS:
            yield []
            continue
        asked = time.monotonic()
        answer = _said("squeue", "-h", "-n", run[1], "-t", "PD,R", "-o", "%T %r")
        states = Counter(line.replace("RUNNING None", "RUNNING") for line in
                         answer.stdout.splitlines())
        text = ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
        yield [f"  Slurm: {text}"] if text not in ("", before) else []
        before = text


def _said(*command: str) -> subprocess.CompletedProcess[str]:
    """Return what a command of Slurm answers."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _set_markers(plan: Plan, folder: Path) -> None:
    """Make the markers agree with the cache; a chapter is always run again."""
    for name in (*plan.jobs, *(f"chapters/{name}" for name in plan.chapters)):
        marker = folder / "done" / name
        marker.unlink(missing_ok=True)
        if plan.is_made(name):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


def _snakemake(arguments: list[str]) -> None:
    """Run Snakemake in this process."""
    if sys.platform == "linux":  # which tells it when its caller dies: it then begins no other job
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    from snakemake.cli import main

    main(arguments)


def make(plan: Plan, name: str) -> None:
    """Make one artefact of a plan, and what it misses, in this process.

    Raises:
        SpeechUnlearnError: it has another key now: code or data changed after the plan was made

    """
    if plan.is_made(name):  # before a job that several cells share was begun again
        return
    job = plan.jobs[name]
    description, call = plan.studies[job["study"]], job["call"]
    # before torch is imported
    profiles.prepare_process(schema.checked(Profile, description["profile"], "profile"))
    from speechunlearn.lab import study
    from speechunlearn.models import distributed

    opened = study.described(description, cache=Cache(plan.cache), on_progress=context.report)
    kind = name.partition("/")[0]
    if kind == "models" and distributed.rank() > 0:
        opened.help_to_train(**opened.artefact(kind, call).call)
        return
    opened.ask(kind, **call)
    if kind == "models":
        distributed.finish()
    # a smaller forget set takes its copies from a larger set that appeared meanwhile
    if kind != "adversarial" and not plan.is_made(name):
        raise SpeechUnlearnError("code or data has changed since this run was planned: run again")
    context.notify(f"  {job['title']} done")


def main(arguments: list[str]) -> int:
    """Do a job, leave its marker; return 1 where it failed, and say why in a file.

    Args:
        arguments: plan, name and marker of the job; or, beginning with ``--``, Snakemake's

    """
    if arguments[0].startswith("--"):
        _snakemake(arguments)
        return 0
    plan_file, name = Path(arguments[0]).resolve(), arguments[1]
    marker, plan = Path(arguments[2]).absolute(), Plan.read(plan_file)
    if plan.computing:
        os.environ[PLANNED] = json.dumps(plan.computing)
    try:
        os.chdir(plan.cwd)
        if name.startswith("models/") and plan.processes > 1 and "WORLD_SIZE" not in os.environ:
            from speechunlearn.models import distributed

            return distributed.launch(
                ["speechunlearn.chapters.workflow", str(plan_file), name, str(marker)],
                plan.processes
            )
        if name.startswith("chapters/"):
            context.run_chapter(**plan.chapters[name.partition("/")[2]])
        else:
            make(plan, name)
    except Exception as error:
        traceback.print_exc()
        kind = "" if isinstance(error, SpeechUnlearnError) else f"{type(error).__name__}: "
        what = f"{plan.jobs[name]['title']}: " if name in plan.jobs else ""
        file = plan_file.parent / "errors" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{what}{kind}{error}")
        return 1
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
