"""Running chapters as jobs of the workflow: `speechunlearn run`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from speechunlearn.chapters import runs, workflow
from speechunlearn.chapters.workflow import Plan
from speechunlearn.errors import ParameterError


def execute(
    notebooks: Iterable[Path],
    values: Mapping[str, Any],
    out: Path,
    *,
    jobs: int = 1,
    cells: bool = False,
    profile_dir: str | Path = "local",
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Run chapters by papermill, each as a job of the workflow.

    Every chapter's parameters are checked before the first one starts. An executed notebook
    appears under its own name when it is finished; one that failed is kept as ``*.failed.ipynb``.
    No chapter begins after one has failed.

    Args:
        notebooks: chapters
        values: parameters; one that a single chapter lacks is refused
        out: folder of the executed notebooks
        jobs: so many at a time; work that two of them need is done once
        cells: first make each artefact that the chapters need by a job of its own; a chapter
            makes those it misses itself
        profile_dir: Snakemake profile that says where jobs run: a folder, or one of
            ``workflow/profiles`` by its name
        say: told of each start and end

    Returns:
        the executed notebooks

    Raises:
        ParameterError: a parameter, or a folder that cannot be written
        SpeechUnlearnError: a chapter failed; the message holds its error

    """
    if jobs < 1:
        raise ParameterError(f"jobs: {jobs} is not positive")
    notebooks = list(notebooks)
    checked = {path: runs.check_parameters(path, values) for path in notebooks}
    waiting = list(notebooks)
    while waiting:
        plan = Plan(_cache_root(values))
        if cells:
            from speechunlearn.chapters import grid

            plan = grid.of_chapters({path: checked[path] for path in waiting}, plan)
        for path in waiting:
            if path.stem not in plan.later:
                chapter = plan.chapters.setdefault(path.stem, {"needs": []})
                chapter |= {"notebook": str(path), "values": checked[path], "out": str(out)}
        workflow.execute(plan, out, jobs=jobs, profile_dir=profile_dir, say=say)
        waiting = [path for path in waiting if path.stem in plan.later]
    return [out / path.name for path in notebooks]


def _cache_root(values: Mapping[str, Any]) -> str:
    from speechunlearn.cache import Cache

    return str(Cache(values.get("cache") or None).root.absolute())
