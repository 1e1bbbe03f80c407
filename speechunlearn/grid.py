"""Which artefacts chapters and grids consist of, found without making any of them.

A plan is made by a study that writes down what it is asked for: it gives the same calls the same
cache keys as `speechunlearn.study.Study`, reads the manifest, and trains nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from pydantic import Field

from speechunlearn import deletions, experiments, methods, runs, schema, tuning, workflow
from speechunlearn.attacks import AttackParameters
from speechunlearn.cache import Cache
from speechunlearn.deletions import Deletion
from speechunlearn.errors import ParameterError
from speechunlearn.profiles import Profile
from speechunlearn.results import Results
from speechunlearn.runs import Run
from speechunlearn.study import Cell, Study, together
from speechunlearn.workflow import Plan


class Planner(Study):
    """A study that adds to a plan what it is asked for, and makes nothing.

    Args:
        plan: added to
        args: as of `Study`
        kwargs: as of `Study`

    """

    def __init__(self, plan: Plan, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = plan
        description = workflow.described(
            self.profile, corpus=self.corpus.name, setting=self.setting, skip_bad=self.skip_bad,
            root=None if self.root is None else str(self.root.absolute()),
        )
        text = json.dumps(description, sort_keys=True)
        self.id = hashlib.sha256(text.encode()).hexdigest()[:12]
        plan.studies[self.id] = description

    def _cell(
        self, method: str, steps: tuple[Deletion, ...], seed: int, overrides: dict[str, Any]
    ) -> Cell:
        specification, parameters = self._cell_specification(method, steps, seed, overrides)
        whole = together(steps)
        needs = [self.plan_model(whole if method == "retrain" else None, seed)]
        if parameters is not None:
            attack = getattr(parameters, "attack", None)
            if attack is not None and len(steps) == 1:
                needs.append(self.plan_set(whole, seed, attack))
            if "statistic" in methods.get(method).needs:
                needs.append(self._plan(
                    "statistics", self._statistic_specification(seed), seed, {},
                    f"statistic, seed {seed}", needs[:1],
                ))
        if len(steps) > 1:  # which leaves the model that this one begins with
            self._cell(method, steps[:-1], seed, overrides)
            before, _ = self._cell_specification(method, steps[:-1], seed, overrides)
            needs.append(self._name("cells", before))
        given = "".join(f", {name} {value}" for name, value in overrides.items())
        title = f"{method}, {_title(steps[-1])}, seed {seed}{given}"
        if len(steps) > 1:
            title += f", request {len(steps)}"
        self._plan(
            "cells", specification, seed,
            {"method": method, "steps": [asdict(step) for step in steps], "overrides": overrides},
            title, needs,
        )
        return Cell({}, pd.DataFrame())

    def plan_model(self, without: Deletion | None, seed: int) -> str:
        """Plan the original model, or one retrained without a forget set."""
        if without is None:
            hashes, title = self.train_manifest["hash"].tolist(), "original model"
        else:
            largest = self._largest(without)
            hashes = self._hashes_without(self.hashes(largest))
            title = f"model retrained without {_title(largest)}"
        call = {"without": None if without is None else asdict(without)}
        return self._plan(
            "models", self._model_specification(hashes, seed), seed, call,
            f"{title}, seed {seed}", [],
        )

    def plan_set(self, deletion: Deletion, seed: int, parameters: AttackParameters) -> str:
        """Plan adversarial copies; the largest draw's serve instead where they are planned, too."""
        largest = self._largest(deletion)
        of_largest = self._name("adversarial", self._set_specification(largest, seed, parameters))
        own = self._plan(
            "adversarial", self._set_specification(deletion, seed, parameters), seed,
            {"deletion": asdict(deletion), "parameters": asdict(parameters)},
            f"adversarial copies of {_title(deletion)}, seed {seed}, tau {parameters.tau:g}",
            [self.plan_model(None, seed)],
        )
        if own != of_largest:
            self.plan.jobs[own]["instead"] = of_largest
        return own

    def _name(self, kind: str, specification: dict[str, Any]) -> str:
        return f"{kind}/{self.cache.folder(kind, specification).name}"

    def _plan(
        self, kind: str, specification: dict[str, Any], seed: int, call: dict[str, Any],
        title: str, needs: list[str],
    ) -> str:
        name = self._name(kind, specification)
        what = f"{self.task.name}, {self.corpus.name}, {self.setting}: {title}"
        self.plan.jobs.setdefault(
            name,
            {"study": self.id, "call": call | {"seed": seed}, "needs": needs, "title": what},
        )
        return name


@dataclass(frozen=True)
class _PlannedRun(Run):
    """A run whose studies plan."""

    plan: Plan = dataclasses.field(default_factory=lambda: Plan(""))

    def study(self, setting: str = "validation", **values: Any) -> Planner:
        return self._study(self.profile.with_values(**values), self.corpus, self.root, setting)

    def plain(self) -> Run:
        """Return the run whose studies make what they are asked for."""
        return Run(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Run)})

    def _study(
        self, profile: Profile, corpus: str, root: Path | None, setting: str
    ) -> Planner:
        return Planner(
            self.plan, profile, corpus, root, setting=setting, cache=Cache(self.cache),
            skip_bad=self.skip_bad,
        )


def of_chapters(chapters: Mapping[Path, Mapping[str, Any]], plan: Plan) -> Plan:
    """Plan what chapters need.

    A chapter whose cells depend on the scores of others is in ``later`` until these are there.

    Args:
        chapters: checked parameters of each notebook
        plan: added to

    Returns:
        the plan

    """
    for path, given in chapters.items():
        own = Plan(plan.cache)
        if path.stem in _CHAPTERS:
            values = runs.parameters_of(path) | dict(given)
            run = runs.start(**_arguments(values))
            if not _CHAPTERS[path.stem](_PlannedRun(**vars(run), plan=own), values):
                plan.later.append(path.stem)
        plan.studies |= own.studies
        plan.jobs = own.jobs | plan.jobs
        plan.chapters[path.stem] = {"needs": list(own.jobs)}
    _share_sets(plan)
    for name in plan.later:
        del plan.chapters[name]
    return plan


#: parameters that a chapter does not hand to `runs.start`
_OWN = ("other_copies", "other_steps", "axes")


def _arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chapter's parameters as `runs.start` takes them."""
    arguments = {k: v for k, v in values.items() if k not in _OWN}
    attack = {name: arguments.pop(name) for name in ("copies", "steps") if name in arguments}
    if "size" in arguments:  # a chapter of the leaderboard
        arguments["ranked_size"] = arguments.pop("size")
        chosen = arguments.pop("method", "")
        arguments["ranked"] = [chosen] if chosen else arguments.pop("methods")
    if "methods" in arguments:
        arguments["compared"] = arguments.pop("methods")
    return arguments | {"attack": attack}


def _share_sets(plan: Plan) -> None:
    """Let smaller draws take their adversarial copies from the largest draw's set."""
    instead = {
        name: job.pop("instead") for name, job in list(plan.jobs.items()) if "instead" in job
    }
    instead = {
        name: largest for name, largest in instead.items()
        if largest in plan.jobs or plan.is_made(largest)
    }
    for name in instead:
        del plan.jobs[name]
    for job in (*plan.jobs.values(), *plan.chapters.values()):
        needs = [instead.get(name, name) for name in job["needs"]]
        job["needs"] = [name for name in dict.fromkeys(needs) if name in plan.jobs]


def _finetuning(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    seed, draw = run.profile.pairs[0]
    for setting in run.profile.settings:
        study = run.study(setting)
        study.plan_model(None, seed)
        for method in ("original", "retrain"):
            study.cell(method, deletions.clips(max(run.profile.n_values), draw), seed)
    return True


def _baselines(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    list(experiments.baselines(run.study()))
    return True


def _adversarial_and_elastic(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    study, profile = run.study(), run.profile
    seed, draw = profile.pairs[0]
    n = min(profile.n_values)
    for tau in profile.tau_values:
        parameters = methods.parameters("adv", **{**profile.methods.get("adv", {}), "tau": tau})
        study.plan_set(deletions.clips(n, draw), seed, parameters.attack)
    list(experiments.gaps(study, n, profile.tau_values[len(profile.tau_values) // 2]))
    if values["other_copies"] and values["other_steps"]:
        list(experiments.sizes(
            study, n, profile.tau_values[0], values["other_copies"], values["other_steps"]
        ))
    return True


def _table1(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    list(experiments.ablation(run.study()))
    if any(name.startswith("cells/") for name in run.plan.missing()):
        return False  # tau is chosen from their scores
    made = run.plain().study()
    taus = experiments.chosen_taus(Results.of(experiments.ablation(made)))
    for setting in run.profile.settings:
        list(experiments.table1(run.study(setting), taus))
    return True


def _ablation(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    list(experiments.ablation(run.study()))
    return True


def _requests(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    study, profile = run.study(), run.profile
    list(experiments.clip_requests(study, profile.compared))
    list(experiments.removals(study, "class", profile.compared))
    if study.task.label != "speaker":
        list(experiments.removals(study, "speaker", profile.compared))
    list(experiments.one_after_another(study, profile.in_sequence))
    if study.task.name == "keyword":
        images = run.study_of("image", "digits")
        list(experiments.clip_requests(images, images.profile.compared))
    return True


def _audit(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    return _ranked(run, run.profile.pairs[:1])


def _leaderboard(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    done = _ranked(run, run.profile.pairs)
    if done:
        asked = run.study(), run.ranked(), run.plain().strengths()
        list(experiments.parts(*asked))
        list(experiments.repeated(*asked))
    return done


def _request(run: _PlannedRun, values: Mapping[str, Any]) -> bool:
    study = run.study(pairs=run.profile.pairs[:1])
    seed, draw = study.pairs[0]
    study.plan_model(None, seed)
    for other in range(run.profile.references):
        study.plan_model(experiments.ranked_request(study, draw), other)
    return True


def _ranked(run: _PlannedRun, pairs: tuple[tuple[int, int], ...]) -> bool:
    frozen = tuning.frozen(run.profile.name, run.corpus, run.profile.task)
    known = set() if frozen is None else set(frozen["method"])
    missing = [method for method in run.ranked() if method not in known]
    if missing:
        list(experiments.trials(run.study(spare=True), missing))
        if any(name.startswith("cells/") for name in run.plan.missing()):
            return False  # strengths are chosen from their scores
    strengths = run.plain().strengths()
    list(experiments.ranked(run.study(pairs=pairs), run.ranked(), strengths))
    return True


#: what the chapters ask of their studies; each returns whether that is all
_CHAPTERS: dict[str, Callable[[_PlannedRun, Mapping[str, Any]], bool]] = {
    "02_finetuning": _finetuning,
    "03_baselines": _baselines,
    "04_adversarial_and_elastic": _adversarial_and_elastic,
    "05_table1": _table1,
    "06_ablation": _ablation,
    "07_keyword_spotting": _requests,
    "08_speaker_identification": _requests,
    "09_audit": _audit,
    "10_leaderboard": _leaderboard,
    "11_request": _request,
}


_T = TypeVar("_T")
_Some = Annotated[tuple[_T, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Grid:
    """A grid of cells: the product of its lists.

    Args:
        profile: as of `speechunlearn.profiles.get`; sets what the grid does not
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
                    found.append(study.cell(method, deletions.clips(n, draw), seed, **given))
        return found


def of_grid(grid: Grid) -> Plan:
    """Return the plan of a grid.

    Raises:
        ParameterError: a value out of range
        CorpusError: a corpus that cannot be used

    """
    plan = Plan(str(Cache().root.absolute()))
    for run in grid.runs():
        for setting in grid.settings:
            grid.cells(_PlannedRun(**vars(run), plan=plan).study(setting))
    _share_sets(plan)
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


def _title(deletion: Deletion) -> str:
    draw = f", draw {deletion.draw}" if deletion.kind == "clips" else ""
    return f"{deletion.title}{draw}"
