"""Which artefacts chapters and grids consist of, found without making any of them.

A plan is made by the same studies as what is planned, with a store that writes down what it is
asked for: it reads manifests and what is finished, and makes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from pydantic_core import to_jsonable_python

from speechunlearn import methods, provenance, schema
from speechunlearn.cache import Artefact, Cache
from speechunlearn.chapters import runs
from speechunlearn.chapters.runs import Run
from speechunlearn.chapters.workflow import Plan
from speechunlearn.errors import NotMade, ParameterError
from speechunlearn.lab import experiments, forget_sets
from speechunlearn.lab.results import Results
from speechunlearn.lab.study import Cell, Study


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
        """Let smaller draws take their adversarial copies from the largest, where that is there."""
        self.plan.plan_for(provenance.computing())
        jobs = self.plan.jobs
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

    A chapter whose cells depend on the scores of others is in ``later`` until these are there.

    Args:
        chapters: checked parameters of each notebook
        plan: added to

    Returns:
        the plan

    """
    store = Recorder(plan)
    for path, given in chapters.items():
        before, plan.jobs = plan.jobs, {}
        try:
            for cells in asked(path, given, store).values():
                for _ in cells:
                    pass
            plan.chapters[path.stem] = {"needs": list(plan.jobs)}
        except NotMade:
            plan.later.append(path.stem)
        plan.jobs |= before
    store.finish()
    return plan


def asked(notebook: Path, given: Mapping[str, Any], store: Cache) -> experiments.Asked:
    """Return what a chapter asks for.

    The notebook's own second cell starts the run, so that what is planned has what it will have.

    Args:
        notebook: the chapter
        given: checked parameters; the others have their defaults
        store: finished work, or what plans it

    Raises:
        NotMade: it depends on what a store that plans does not have

    """
    ask = experiments.CHAPTERS.get(notebook.stem)
    if ask is None:
        return {}
    values = runs.parameters_of(notebook) | dict(given)
    cells = json.loads(notebook.read_text())["cells"]
    _, start, *_ = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    space = dict(values)
    exec(compile(start, str(notebook), "exec"), space)
    others = [name for name in inspect.signature(ask).parameters if name != "run"]
    run = dataclasses.replace(space["run"], store=store)
    return ask(run, **{name: values[name] for name in others})


_T = TypeVar("_T")
_Some = Annotated[tuple[_T, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Grid:
    """A grid of cells: the product of its lists.

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
        draws: forget draws: numbers, or ``development``
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
    draws: _Some[int | Literal["development"]] = (0,)
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

    def runs(self) -> list[Run]:
        """Return the run of each corpus and encoder, checked.

        Raises:
            ParameterError: what `runs.start` refuses, or a corpus that is not here

        """
        found = []
        for corpus, encoder in itertools.product(self.corpora or ("",), self.encoders or ("",)):
            run = runs.start(
                self.profile, corpus, self.roots.get(corpus, ""), encoder, self.skip_bad,
                task=self.task, n_values=list(self.n_values), tau_values=list(self.tau_values),
            )
            runs.check_root(run.corpus, run.root)
            found.append(run)
        return found

    def cells(self, study: Study) -> list[Cell]:
        """Ask a study for every cell of the grid, the largest draws first."""
        found = []
        sizes = self.n_values or study.sizes
        for seed, draw, n in itertools.product(
            self.seeds, self.draws, sorted(sizes, reverse=True)
        ):
            for method in self.methods:
                own = {} if method == "original" else vars(methods.parameters(method))
                taus = self.tau_values or study.profile.tau_values if "tau" in own else (None,)
                for tau in taus:
                    given = {} if tau is None else {"tau": tau}
                    found.append(study.cell(method, forget_sets.clips(n, draw), seed, **given))
        return found


def of_grid(grid: Grid) -> Plan:
    """Return the plan of a grid.

    Raises:
        ParameterError: a value out of range
        CorpusError: a corpus that cannot be used

    """
    plan = Plan(str(Cache().root.absolute()))
    store = Recorder(plan)
    for run in grid.runs():
        for setting in grid.settings:
            grid.cells(dataclasses.replace(run, store=store).study(setting))
    store.finish()
    return plan


def collect(grid: Grid, folder: Path) -> list[Path]:
    """Write the results of a grid whose cells are made; return the folders written to."""
    written = []
    for run in grid.runs():
        cells = [cell for setting in grid.settings for cell in grid.cells(run.study(setting))]
        results = Results.of(cells)
        results.write(folder / results.folder_name)
        written.append(folder / results.folder_name)
    return written
