"""Running chapters: parameters checked before anything starts, papermill, progress.

A chapter is a notebook of ``notebooks/``. Its first code cell, tagged ``parameters``, holds its
parameters with their defaults; its second hands them to `start`, which checks them again, so a
chapter run by hand, by papermill or by the command line refuses the same mistakes.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechunlearn import corpora, schema
from speechunlearn.cache import Cache
from speechunlearn.dataset import tasks
from speechunlearn.errors import ParameterError, SpeechUnlearnError
from speechunlearn.files import one_at_a_time, replaced
from speechunlearn.lab import profiles
from speechunlearn.provenance import REPOSITORY

if TYPE_CHECKING:
    from speechunlearn.lab.experiments import ChapterRun

NOTEBOOKS = REPOSITORY / "notebooks"

#: environment variable that names the file progress goes to
PROGRESS = "SPEECHUNLEARN_PROGRESS"

#: what a chapter's solutions are run in where the corpus is not the book's
_SOLUTION = "from speechunlearn.chapters import context\n\nwith context.solution():\n"
#: in the place of a recording, which only the embedded corpora let anyone publish
_SILENT = "A recording, to be heard where the notebook is run by hand: a page does not hold it."


def start(
    profile: str,
    corpus: str = "",
    root: str = "",
    encoder: str = "",
    skip_bad: bool = False,
    cache: str = "",
    results: str = "",
    attack: Mapping[str, Any] | None = None,
    task: str = "",
    fast: bool = False,
    **sizes: Any,
) -> ChapterRun:
    """Check a chapter's parameters and prepare the process. Call it before torch is imported.

    Args:
        profile: ``smoke``, ``cpu``, ``paper``, or a YAML file: see `speechunlearn.lab.profiles.get`
        corpus: name of a reader; empty takes the profile's
        root: its folder, or the CSV; empty takes its default
        encoder: ``nano``, ``nano-pretrained``, a local folder or a hub id; empty takes the
            profile's
        skip_bad: leave out clips that cannot be used
        cache: folder of finished work; empty takes the default
        results: folder that results are added to, and a copy of one's own profile; empty writes
            none
        attack: hyperparameters for both adversarial methods, e.g. copies and steps; None and 0
            keep the profile's
        task: what the model names; empty is the corpus's own
        fast: models are trained, and methods run, in less time, see
            `speechunlearn.models.fast_mode`
        sizes: values for the profile's own, e.g. n_values: a list, the text of one, or a single
            value; an empty list, or 0 for a number, keeps the profile's

    Raises:
        ParameterError: an unknown name, a wrong type or a value out of range

    """
    base = profiles.get(profile)
    chosen = base.for_task(task) if task else base
    changed = {
        name: parse_value(value) if isinstance(value, str) else value
        for name, value in sizes.items() if value
    }
    unchanged = {name: getattr(chosen, name, None) for name in sizes}
    chosen = chosen.with_values(**{**unchanged, **changed})
    changed = {name: getattr(chosen, name) for name in changed}
    if fast:
        chosen = chosen.with_values(recipe=chosen.recipe | {"fast": True})
    encoder = encoder or chosen.encoders.get(corpus or chosen.corpus, chosen.encoder)
    overrides = {name: value for name, value in (attack or {}).items() if value}
    attacked = {m: chosen.methods.get(m, {}) | overrides for m in ("adv", "adv_ela") if overrides}
    chosen = chosen.with_values(encoder=encoder, methods=chosen.methods | attacked)
    profiles.prepare_process(chosen)
    from speechunlearn.chapters import tables
    from speechunlearn.lab.experiments import ChapterRun
    from speechunlearn.lab.study import Study

    tables.in_notebooks()
    name = corpora.get(corpus or chosen.corpus).name
    run = ChapterRun(
        chosen, base, changed, name, Path(root).expanduser().resolve() if root else None,
        bool(skip_bad), Cache(cache or None),
        Path(results).expanduser() if results else None, report,
    )
    Study(chosen, name, run.root)  # refuses what it can before anything is read
    if run.results_folder is not None and base.name not in profiles.NAMES:
        copy = run.results_folder / f"{base.name}.yaml"
        with one_at_a_time(run.results_folder), replaced(copy) as partial:
            partial.write_bytes(Path(profile).expanduser().read_bytes())
    return run


def chapters() -> list[Path]:
    """Return the notebooks, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def task_of(notebook: Path) -> str:
    """Return what a chapter's model names; emotions where it does not say."""
    return str(parameters_of(notebook).get("task", "emotion"))


def chapters_for(corpus: str) -> list[Path]:
    """Return the chapters that a corpus serves; all of them where none is named.

    Raises:
        CorpusError: an unknown corpus

    """
    if not corpus:
        return chapters()
    made_for = corpora.get(corpus).task
    served = (made_for, *tasks.ALSO.get(made_for, ()))
    if made_for == tasks.ANY:
        return chapters()
    return [path for path in chapters() if task_of(path) in served]


def corpus_of(notebook: Path, profile: str, corpus: str = "", task: str = "") -> str:
    """Return the corpus that a chapter reads: the one given, or the profile's for its task.

    Args:
        notebook: the chapter
        profile: name of the profile
        corpus: name of a reader; empty takes the profile's
        task: the one given; empty is the chapter's own

    Raises:
        ParameterError: a corpus that does not serve the chapter's task

    """
    task, chosen = task or task_of(notebook), profiles.get(profile)
    if "task" in parameters_of(notebook):
        chosen = chosen.for_task(task)
        if corpus:
            tasks.check(task, corpus, corpora.get(corpus).task)
    return corpora.get(corpus or chosen.corpus).name


def check_root(corpus: str, root: str | Path | None) -> None:
    """Check that a corpus is where it is said to be.

    Raises:
        ParameterError: it needs a folder and none is given, or that is not there
        CorpusError: an unknown corpus

    """
    reader = corpora.get(corpus)
    where = Path(root).expanduser() if root else reader.default_root
    if where is None and reader.table is None:
        raise ParameterError(f"corpus {corpus!r} needs --root; to get it: {reader.how_to_get}")
    if where is not None and not where.exists():
        raise ParameterError(f"root: {str(where)!r} does not exist")


def find_chapters(name_or_number: str) -> list[Path]:
    """Return the notebooks of a number (``4``, ``04``: all its parts) or a name.

    Args:
        name_or_number: a name is ``04_…`` or what follows

    Raises:
        ParameterError: there is none

    """
    paths = []
    for path in chapters():
        number, name = path.stem.split("_", 1)
        if name_or_number in (path.stem, path.name, name) or (
            name_or_number.isdigit() and int(name_or_number) == int(number)
        ):
            paths.append(path)
    if not paths:
        known = ", ".join(path.stem for path in chapters())
        raise ParameterError(f"chapter {name_or_number!r} is none of {known}")
    return paths


def parameters_of(notebook: Path) -> dict[str, Any]:
    """Return a notebook's parameters and their defaults.

    Raises:
        ParameterError: a notebook without a cell tagged ``parameters``

    """
    for cell in json.loads(notebook.read_text())["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            parameters = {}
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    parameters[node.targets[0].id] = ast.literal_eval(node.value)
            return parameters
    raise ParameterError(f"{notebook.name} has no cell tagged 'parameters'")


def check_parameters(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a notebook's parameters, checked against its defaults.

    A whole number is taken where the default is a float, and a single value where it is a list.

    Raises:
        ParameterError: a name the notebook does not have, or a value of another type

    """
    defaults = parameters_of(notebook)
    unknown = sorted(set(values) - set(defaults))
    if unknown:
        raise ParameterError(
            f"{notebook.stem} has no parameter {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(defaults)}"
        )
    return {
        name: schema.value_of(type(defaults[name]), value, f"{notebook.stem}: parameter {name!r}")
        for name, value in values.items()
    }


def parse_value(text: str) -> Any:
    """Return ``text`` as a Python number, list, bool, None or string; ``1e-3`` is a number.

    What is nested too deep to be any of these is a string.
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def run_chapter(
    notebook: str, values: Mapping[str, Any], out: str, needs: Iterable[str] = ()
) -> None:
    """Run one chapter by papermill, in a kernel of its own; its job in the workflow.

    Args:
        notebook: path of the chapter
        values: checked parameters
        out: folder of the executed notebook
        needs: artefacts that were made before

    Raises:
        SpeechUnlearnError: the chapter failed; its notebook is kept as ``*.failed.ipynb``

    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    path, folder = Path(notebook), Path(out)
    notify(f"{path.stem} …")
    failed = folder / f"{path.stem}.failed.ipynb"
    failed.unlink(missing_ok=True)
    chapter = nbformat.read(path, as_version=4)
    of_the_book = values.get("profile", "smoke") == "smoke" and not values.get("corpus")
    sources = {} if of_the_book else {
        cell.id: cell.source
        for cell in chapter.cells if "solution" in cell.metadata.get("tags", [])
    }
    for cell in chapter.cells:
        if cell.id in sources:
            cell.source = _SOLUTION + textwrap.indent(cell.source, "    ")

    def keep(executed: Path, target: Path) -> None:
        done = nbformat.read(executed, as_version=4)
        for place in ("input_path", "output_path"):  # the first holds the stored chapter whole
            done.metadata.papermill.pop(place, None)
        for cell in done.cells:
            cell.source = sources.get(cell.id, cell.source)
            for output in [] if of_the_book else cell.get("outputs", []):
                if "<audio" in output.get("data", {}).get("text/html", ""):
                    output["data"] = {"text/plain": _SILENT}
        with replaced(target) as partial:
            nbformat.write(done, partial)

    # what is executed holds recordings, which have no place where results are taken from
    with tempfile.TemporaryDirectory() as scratch:
        working = Path(scratch) / path.name
        try:
            papermill.execute_notebook(
                chapter, str(working), parameters=dict(values), kernel_name="python3",
                cwd=os.getcwd(), progress_bar=False,
            )
        except BaseException as error:
            if working.exists():
                keep(working, failed)
            if not isinstance(error, PapermillExecutionError):
                raise
            raise SpeechUnlearnError(
                f"{path.stem} failed in cell {error.exec_count}: {error.ename}: {error.evalue} "
                f"(see {str(failed)!r})"
            ) from error
        keep(working, folder / path.name)
    notify(f"{path.stem} done: {folder / path.name}")


@contextlib.contextmanager
def solution() -> Iterator[None]:
    """Let an exercise have another answer on a corpus that is not the book's: it ends nothing."""
    try:
        yield
    except AssertionError:
        print("Not so on this corpus: the answer is that of the corpus which the book shows.")


def report(what: str, done: int, total: int) -> None:
    """Say how far work is: to the run's progress file, or on stderr outside a notebook.

    Nothing is printed inside a notebook: progress is no part of the page.
    """
    notify(f"  {what}: {done}/{total}")


def notify(text: str) -> None:
    """Add a line to the run's progress file; print it on stderr outside a run and a notebook."""
    target = os.environ.get(PROGRESS)
    if target:
        with open(target, "a") as file:
            file.write(text + "\n")
    elif "ipykernel" not in sys.modules:
        print(text.strip(), file=sys.stderr, flush=True)
