"""A copy of the repository, with what is not committed yet, and commands that run in it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import REPOSITORY

_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "a test"), ("EMAIL", "test@example.org"))
}


def run(*command: object, cwd: Path, path: Path | str | None = None, **variables: str) -> str:
    """Return what a command says, with a folder in front of Python's path; fail with its errors."""
    environment = os.environ | _IDENTITY | variables
    if path is not None:
        environment |= {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def python(*arguments: object, cwd: Path, path: Path | str | None = None) -> str:
    """Return what Python says, on one thread."""
    return run(sys.executable, *arguments, cwd=cwd, path=path, OMP_NUM_THREADS="1")


_ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from speechunlearn import cli
said = []
for call in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as caught:
        if isinstance(call, str):
            exec(call, {"__name__": "__main__"})
        else:
            sys.argv = ["speechunlearn", *call]
            try:
                cli.main()
            except SystemExit as end:
                assert not end.code, (call, end.code)
    said.append(caught.getvalue())
print(json.dumps(said))
"""


def sequential_speakers(
    calls: Mapping[str, str | Sequence[object]], cwd: Path, path: Path | str
) -> dict[str, str]:
    """Return what programs (text) and command lines of the package (lists) say, by their names.

    All in one process: most of what each would take in one of its own is imports.
    """
    asked = [call if isinstance(call, str) else [str(a) for a in call] for call in calls.values()]
    said = python("-c", _ONE_AFTER_ANOTHER, json.dumps(asked), cwd=cwd, path=path)
    return dict(zip(calls, json.loads(said.splitlines()[-1]), strict=True))


def copy_to(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Copy what git knows or would add, but for some folders; skip the test where git is not."""
    known = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY,
        capture_output=True, text=True,
    )
    if known.returncode != 0:
        pytest.skip("this is no git repository: what belongs to it is not known")
    for name in known.stdout.split("\0"):
        if name.startswith(tuple(f"{left}/" for left in without)) or name == ".venv":
            continue
        if name and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def commit_all(folder: Path) -> str:
    """Make a folder a repository with one commit; return its first twelve digits."""
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", "All.", cwd=folder)
    return run("git", "rev-parse", "--short=12", "HEAD", cwd=folder).strip()
