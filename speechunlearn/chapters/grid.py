"""Which artefacts chapters and grids consist of, found without making any of them.

A plan is made by the same studies as what is planned, with a store that writes down what it is
asked for: it reads manifests and what is finished, and makes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from pydantic import Field
from pydantic_core import to_jsonable_python

from speechunlearn import methods, provenance, schema
from speechunlearn.cache import Artefact, Cache
from speechunlearn.chapters import context, workflow
from speechunlearn.chapters.workflow import Plan
from speechunlearn.errors import CorpusError, NotMade, ParameterError
from speechunlearn.lab import experiments, forget_sets
from speechunlearn.lab.experiments import ChapterRun
from speechunlearn.lab.results import Results
from speechunlearn.lab.study import Evaluation, Study


class Recorder(Cache):
    """A store that adds to a plan what it is asked for, and makes nothing.

    Args:
        plan: added to

    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.cache)
        self.plan = plan
        self._instead: dict[str, str] = {}

    def get(self, artefact: Artefact) -> Path:
        """Return the folder of an artefact that is there, after it is written down.

        Raises:
            NotMade: it is not there

        """
        name = self._record(artefact)
        if not self.plan.is_made(name):
            raise NotMade(f"{artefact.title}: not made yet")
        return self.root / name

    def _name(self, artefact: Artefact) -> str:
        return f"{artefact.kind}/{self.folder(artefact.kind, artefact.specification).name}"

    def _record(self, artefact: Artefact) -> str:
        name = self._name(artefact)
        if name in self.plan.jobs:
            return name
        text = json.dumps(artefact.source, sort_keys=True)
        study = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.plan.studies[study] = dict(artefact.source)
        needs = [self._record(need) for need in artefact.needs()]
        if artefact.instead is not None:
            self._instead[name] = self._name(artefact.instead)
        self.plan.jobs[name] = {
            "study": study, "call": to_jsonable_python(artefact.call), "needs": needs,
            "title": artefact.title,
        }
        return name

    def finish(self) -> None:
        """Let smaller forget sets take their copies from the largest, where that is there."""
        computing, jobs = provenance.computing(), self.plan.jobs
        # the jobs set their threads themselves
        self.plan.computing = {name: computing[name] for name in ("instructions", "device")}
        instead = {
            name: largest for name, largest in self._instead.items()
            if largest in jobs or self.plan.is_made(largest)
        }
        for name in instead:
            del jobs[name]
        for job in (*jobs.values(), *self.plan.chapters.values()):
            needs = [instead.get(name, name) for name in job["needs"]]
            job["needs"] = [name for name in dict.fromkeys(needs) if name in jobs]


def of_chapters(chapters: Mapping[Path, Mapping[str, Any]], plan: Plan) -> Plan:
    """Plan what chapters need.

    A chapter whose evaluations depend on the scores of others is in ``later`` until these are
    there.

    Args:
        chapters: checked parameters of each notebook
        plan: added to

    Returns:
        the plan

    """
    store = Recorder(plan)
    for path, parameters in chapters.items():
        before, plan.jobs = plan.jobs, {}
        try:
            ask(path, parameters, store=store)
            plan.chapters[path.stem] = {"needs": list(plan.jobs)}
        except NotMade:
            plan.later.append(path.stem)
        plan.jobs |= before
    store.finish()
    return plan


def ask(notebook: Path, parameters: Mapping[str, Any], **others: Any) -> None:
    """Ask a run's store for all that a chapter will ask it for.

    The notebook's own second cell starts the run, so that what is planned has what it will have.

    Args:
        notebook: the chapter
        parameters: checked; the others have their defaults
        others: fields of the run, such as a store that plans

    Raises:
        NotMade: it depends on what a store that plans does not have
        CorpusError: a corpus that has not enough for it

    """
    values = context.parameters_of(notebook) | dict(parameters)
    cells = json.loads(notebook.read_text())["cells"]
    _, start, *_ = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    space = dict(values)
    exec(compile(start, str(notebook), "exec"), space)
    run = dataclasses.replace(space["run"], **others)
    if notebook.stem not in experiments.CHAPTERS:
        _ = run.study().manifest  # all that it needs
        return
    asked = experiments.CHAPTERS[notebook.stem]
    names = [name for name in inspect.signature(asked).parameters if name != "run"]
    for evaluations in asked(run, **{name: values[name] for name in names}).values():
        list(evaluations)


def supported(
    notebooks: Sequence[Path],
    values: Mapping[str, Any],
    *,
    named: bool,
    on_progress: Callable[[str], None] = print,
) -> list[Path]:
    """Return the chapters that a corpus has enough for; nothing is made.

    Args:
        notebooks: chapters
        values: parameters
        named: each chapter was asked for; else one that the corpus is too small for is left out
        on_progress: told what is left out, and why

    Raises:
        CorpusError: one that was asked for, or all of them, cannot be run on the corpus

    """
    manifests: dict[str, pd.DataFrame] = {}
    refused: dict[Path, str] = {}
    for path in notebooks:
        checked = context.check_parameters(path, values)
        store = Recorder(Plan(str(Cache(values.get("cache") or None).root.absolute())))
        try:
            with contextlib.suppress(NotMade):
                ask(path, checked, store=store, manifests=manifests)
        except CorpusError as error:
            where = f"{values['root']}: " if values.get("root") else ""
            refused[path] = where + str(error).removeprefix(where)
            if named or len(refused) == len(notebooks):
                raise CorpusError(f"{path.stem}: {refused[path]}") from error
    for path, reason in refused.items():
        on_progress(f"{path.stem} is left out: {reason}")
    return [path for path in notebooks if path not in refused]


def execute(
    notebooks: Iterable[Path],
    values: Mapping[str, Any],
    out: Path,
    *,
    jobs: int = 1,
    evaluations: bool = False,
    profile_dir: str | Path = "local",
    on_progress: Callable[[str], None] = print,
) -> list[Path]:
    """Run chapters by papermill, each as a job of the workflow.

    Every chapter's parameters are checked before the first one starts. An executed notebook
    appears under its own name when it is finished; one that failed is kept as ``*.failed.ipynb``.
    No chapter begins after one has failed.

    Args:
        notebooks: chapters
        values: parameters; one that a single chapter lacks is refused
        out: folder of the executed notebooks
        jobs: number of them at a time; work that two of them need is done once
        evaluations: first make each artefact that the chapters need by a job of its own; a chapter
            makes those it misses itself
        profile_dir: Snakemake profile that says where jobs run: a folder, or one of
            ``workflow/profiles`` by its name
        on_progress: progress callback: each start and end

    Returns:
        the executed notebooks

    Raises:
        ParameterError: a parameter, or a folder that cannot be written
        SpeechUnlearnError: a chapter failed; the message holds its error

    """
    checked = {path: context.check_parameters(path, values) for path in notebooks}
    waiting = list(checked)
    while waiting:
        plan = Plan(str(Cache(values.get("cache") or None).root.absolute()))
        if evaluations:
            plan = of_chapters({path: checked[path] for path in waiting}, plan)
        for path in waiting:
            if path.stem not in plan.later:
                chapter = plan.chapters.setdefault(path.stem, {"needs": []})
                chapter |= {"notebook": str(path), "values": checked[path], "out": str(out)}
        workflow.execute(plan, out, jobs=jobs, profile_dir=profile_dir, on_progress=on_progress)
        waiting = [path for path in waiting if path.stem in plan.later]
    return [out / path.name for path in checked]


_T = TypeVar("_T")
_Some = Annotated[tuple[_T, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Grid:
    """A grid of evaluations: the product of its lists.

    Args:
        profile: as of `speechunlearn.lab.profiles.get`; sets what the grid does not
        task: what the model names; empty is the corpus's own, with the profile's usual sizes
        corpora: names of readers; empty: the profile's
        roots: folder or CSV of a corpus by its name; without it, its own place
        encoders: as of a chapter's ``encoder``; empty: the profile's
        settings: ``validation``, ``test``
        methods: ``original``, or names in `speechunlearn.methods.METHODS`
        n_values: sizes of the forget set; empty: the profile's
        tau_values: for methods that have a tau; empty: the profile's
        seeds: training seeds
        forget_ids: forget sets: numbers, or ``development``
        skip_bad: leave out clips that cannot be used

    """

    profile: str = "smoke"
    task: str = ""
    corpora: tuple[str, ...] = ()
    roots: dict[str, str] = dataclasses.field(default_factory=dict)
    encoders: tuple[str, ...] = ()
    settings: _Some[Literal["validation", "test"]] = ("validation",)
    methods: _Some[str] = (*experiments.BASELINES, *experiments.ADVERSARIAL)
    n_values: tuple[int, ...] = ()
    tau_values: tuple[float, ...] = ()
    seeds: _Some[int] = (0,)
    forget_ids: _Some[int | Literal["development"]] = (0,)
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for name in self.methods:
            if name != "original":
                methods.get(name)
        strange = sorted(set(self.roots) - set(self.corpora))
        if strange:
            raise ParameterError(f"grid: roots has {strange[0]!r}, which corpora has not")

    @classmethod
    def of(cls, values: Mapping[str, Any], file: Path | None = None) -> Grid:
        """Return a grid of plain values; a single one stands for a list of one.

        Args:
            values: by name
            file: YAML or JSON; its values are taken where these have none

        Raises:
            ParameterError: a file that cannot be read, an unknown name, a wrong type or a value
                out of range

        """
        where = "grid"
        if file is not None:
            values, where = schema.read(file) | dict(values), f"grid {str(file)!r}"
        return schema.checked(cls, values, where)

    def runs(self) -> Iterator[ChapterRun]:
        """Return the run of each corpus and encoder, checked.

        Raises:
            ParameterError: what `context.start` refuses, or a corpus that is not here

        """
        for corpus, encoder in itertools.product(self.corpora or ("",), self.encoders or ("",)):
            run = context.start(
                self.profile, corpus, self.roots.get(corpus, ""), encoder, self.skip_bad,
                task=self.task, n_values=list(self.n_values), tau_values=list(self.tau_values),
            )
            context.check_root(run.corpus, run.root)
            yield run

    def evaluations(self, study: Study) -> Iterator[Evaluation]:
        """Ask a study for every evaluation of the grid, the largest forget sets first."""
        sizes = sorted(self.n_values or study.sizes, reverse=True)
        for seed, forget_id, n, method in itertools.product(
            self.seeds, self.forget_ids, sizes, self.methods
        ):
            bounded = method != "original" and hasattr(methods.parameters(method), "tau")
            taus = self.tau_values or study.profile.tau_values
            for changed in [{"tau": tau} for tau in taus] if bounded else [{}]:
                yield study.evaluate(method, forget_sets.clips(n, forget_id), seed, **changed)


def of_grid(grid: Grid) -> Plan:
    """Return the plan of a grid.

    Raises:
        ParameterError: a value out of range
        CorpusError: a corpus that cannot be used

    """
    plan = Plan(str(Cache().root.absolute()))
    store = Recorder(plan)
    for run in list(grid.runs()):  # all are checked before one is planned
        for setting in grid.settings:
            list(grid.evaluations(dataclasses.replace(run, store=store).study(setting)))
    store.finish()
    return plan


def collect(grid: Grid, folder: Path) -> list[Path]:
    """Write the results of a grid whose evaluations are made; return the folders written to."""
    written = []
    for run in grid.runs():
        evaluations = [
            evaluation for setting in grid.settings
            for evaluation in grid.evaluations(run.study(setting))
        ]
        results = Results.of(evaluations)
        results.write(folder / results.folder_name)
        written.append(folder / results.folder_name)
    return written
