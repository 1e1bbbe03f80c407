"""The experiments of the chapters: which evaluations each of them consists of, and what they say.

`CHAPTERS` has a function for each: its notebook works on what it asks for, and
`speechunlearn.chapters.grid` plans it.

Every function yields evaluations; an evaluation that is in the artefact cache costs nothing, so
chapters share work and an experiment that was stopped goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn import corpora, methods, provenance
from speechunlearn.audit import statistics
from speechunlearn.cache import Cache
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.files import replaced
from speechunlearn.lab import fitting, forget_sets, sentences, tuning
from speechunlearn.lab import leaderboard as board
from speechunlearn.lab.forget_sets import DEVELOPMENT, ForgetSet, clips
from speechunlearn.lab.profiles import Profile
from speechunlearn.lab.results import (
    ANOTHER_SEED,
    COMPONENT,
    TITLES,
    Results,
    across,
    folder_name,
    sequential_variant,
)
from speechunlearn.lab.study import Evaluation, OnProgress, Study, ranked_size_of
from speechunlearn.methods.pgd import AttackParameters

ADVERSARIAL = ("adv", "adv_ela")
#: variant of evaluations of speakers' sequential deletion
SEQUENTIAL_SPEAKERS = "sequential"
REFERENCES = ("original", "retrain")
BASELINES = (*REFERENCES, "remain", "remain_superloss", "ran_lab")

#: methods whose sequential unlearning is evaluated
SEQUENTIAL = ("ran_lab", "adv_ela", "neggrad", "delete", "perturbed")

NOT_CONCATENATED = "no distillation on concatenated clips"
#: parts of `perturbed`: (what is changed, parameters)
COMPONENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no distillation on the copies", {"anchor": 0.0}),
    (NOT_CONCATENATED, {"splices": 0.0}),
    ("targets at the copies", {"weight": 1.0}),
    ("targets half way to the copies", {"weight": 0.5}),
    ("faster copies alone", {"speeds": (1.25,)}),
    ("slower copies alone", {"speeds": (0.8,)}),
    ("copies moved in time, not in speed", {"speeds": (), "shifts": (0.05, 0.3)}),
    ("with dropout", {"mode": "train"}),
)

#: claims of the paper at each N: what is said, of which methods beside which other (None: chance),
#: and by how much
CLAIMS: tuple[tuple[str, tuple[str, ...], str | None, float], ...] = (
    ("forgetting: {} is below chance on the forget set", ADVERSARIAL, None, 0.0),
    ("retention: {} loses less than 0.10 UAR on unseen speakers", ADVERSARIAL, "original", 0.10),
    ("{} has a higher UAR than Ran. Lab. on unseen speakers", ADVERSARIAL, "ran_lab", 0.0),
    ("elastic weights help Adv. on unseen speakers", ("adv_ela",), "adv", 0.0),
)
#: how `claims` decides
RULE = (
    "A difference is *above 0* or *below 0* where its whole 95 % interval and each run by itself "
    "(a training seed and a forget set) are on that side, and *undecided* otherwise. A claim of "
    "the paper *holds* where the difference is above 0 and *fails* where it is below 0. It is *not "
    "tested here* where a method was not run with the paper's M, P, epochs and learning rate."
)

#: choices that the paper leaves open, each changed alone: (what, parameters); one of a kind is the
#: profile's own
OPEN_CHOICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("the profile's choices", {}),
    ("importance: 1 - Fisher", {"importance": "1-fisher"}),
    ("importance: MAS", {"importance": "mas"}),
    ("importance: 1 - MAS", {"importance": "1-mas"}),
    ("importance: none", {"importance": "none"}),
    ("Fisher of single clips", {"fisher_per": "clip"}),
    ("Fisher of a batch", {"fisher_per": "batch"}),
    ("projected once, at the end", {"projection": "end"}),
    ("step size tau / 10", {"step_fraction": 0.1}),
    ("copies made anew each epoch", {"sets": "anew"}),
    ("unlearning in eval mode", {"mode": "eval"}),
)


@dataclass(frozen=True)
class ChapterRun:
    """One execution of a chapter: its profile, and where things are.

    Args:
        asked: sizes, with the chapter's own parameters in place
        base: the profile as it is without them and without a task
        changed: those parameters, for the studies of other tasks; they are not fitted
        corpus: name of a reader
        root: the corpus's folder or CSV; None is its default
        skip_bad: leave out clips that cannot be used
        store: finished work
        results_folder: results are added below it; None writes none
        on_progress: told how far work is

    """

    asked: Profile
    base: Profile
    changed: Mapping[str, Any]
    corpus: str
    root: Path | None
    skip_bad: bool
    store: Cache
    results_folder: Path | None
    on_progress: OnProgress | None = None
    #: what was read of the corpus; a run that is made of this one need not read it again
    manifests: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)
    #: so that clips are in memory once
    _studies: dict[str, Study] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _manifest(self) -> pd.DataFrame:
        if self.corpus not in self.manifests:
            read = corpora.read_manifest(self.corpus, self.root, self.skip_bad)
            self.manifests[self.corpus] = read
        return self.manifests[self.corpus]

    @cached_property
    def fit(self) -> fitting.Fit:
        """The profile as the corpus allows it, and what that changes.

        Raises:
            CorpusError: a corpus that no chapter can be run on

        """
        corpus, table = corpora.get(self.corpus), self._manifest()
        try:
            return fitting.fit(self.asked, table, corpus, self.changed)
        except CorpusError as error:
            where = self.root or corpus.default_root or corpus.name
            raise CorpusError(f"{where}: {error}") from error

    @property
    def profile(self) -> Profile:
        """Sizes as the corpus allows them."""
        return self.fit.profile

    def study(self, setting: str = "validation", **values: Any) -> Study:
        """Return the study of one setting, with values in place of the profile's."""
        profile = self.profile.with_values(**values)
        key = repr((profile, setting))
        if key not in self._studies:
            self._studies[key] = Study(
                profile, self.corpus, self.root, setting=setting, cache=self.store,
                skip_bad=self.skip_bad, on_progress=self.on_progress, read=self._manifest,
            )
        return self._studies[key]

    def of_task(self, task: str, corpus: str) -> ChapterRun:
        """Return the run of another task, on a corpus that needs no folder, in this profile."""
        kept = {name: value for name, value in self.changed.items() if name in ("runs", "compared")}
        other = self.base.for_task(task).with_values(**kept)
        return replace(self, asked=other, corpus=corpus, root=None)

    def results(self, evaluations: Iterable[Evaluation], below: str = "") -> Results:
        """Collect evaluations as they are made, and add them to the results folder.

        Args:
            evaluations: collected in their order
            below: folder in it, for evaluations that are no rows of the main tables

        """
        collected = Results.of(evaluations)
        if self.results_folder is not None:
            collected.write(self.results_folder / below / collected.folder_name)
        return collected

    def ranked(self) -> tuple[str, ...]:
        """Return the methods of the leaderboard: the profile's, or all but the references.

        Raises:
            ParameterError: an unknown method

        """
        return tuning.names(self.profile.ranked)

    def trials(self) -> pd.DataFrame:
        """Return the trials that the methods were tuned by.

        Those that are frozen for profile, corpus and task are taken; others are made.
        """
        chosen = self.ranked()
        table = tuning.frozen(self.profile.name, self.corpus, self.profile.task)
        known = set() if table is None else set(table["method"])
        missing = [name for name in chosen if name not in known]
        tables = [] if table is None else [table[table["method"].isin(chosen)]]
        if missing:
            tried = self.results(trials(self.study(spare=True), missing), "trials")
            tables.append(tuning.trial_table(tried))
            if self.results_folder is not None:
                file = self.results_folder / "tuning" / f"{self._about(self.profile.task)}.csv"
                tuning.freeze(tables[-1], file)
        return pd.concat(tables, ignore_index=True)

    def tuned_hyperparameters(self) -> dict[str, dict[str, Any]]:
        """Return what the trials chose for each method of the leaderboard."""
        return tuning.tuned(self.trials())

    def leaderboard(self, evaluations: Iterable[Evaluation]) -> tuple[Results, pd.DataFrame]:
        """Collect the evaluations of a leaderboard, and judge them; keep both."""
        # a folder of its own: the hyperparameters are other than the main tables'
        collected = self.results(evaluations, "leaderboard")
        if self.results_folder is None:
            return collected, board.scored(collected)
        folder = self.results_folder / "leaderboard" / collected.folder_name
        return collected, board.write_tables(folder)

    def keep(self, table: pd.DataFrame, name: str) -> None:
        """Write a table that is made of no evaluations to the results folder, if any."""
        if self.results_folder is not None:
            folder = self.results_folder / name
            folder.mkdir(parents=True, exist_ok=True)
            with replaced(folder / f"{self._about()}.csv") as partial:
                table.to_csv(partial, index=False)

    def _about(self, task: str = "") -> str:
        """Return what this run's results are called, see `results.folder_name`."""
        return folder_name(self.profile.name, self.corpus, task, self.study().corpus_hash)

    def made_by(self) -> str:
        """Return what made the numbers of this page, in one paragraph."""
        runs = ", ".join(f"{seed}/{forget_id}" for seed, forget_id in self.profile.runs)
        width = self.profile.recipe.get("encoder", {}).get("hidden_size")
        narrowed = f", narrowed to {width} channels" if width else ""
        return textwrap.fill(
            f"Profile {self.profile.name}; corpus: {corpora.get(self.corpus).title}; "
            f"encoder {self.profile.encoder}{narrowed}; "
            f"runs (training seed/forget set): {runs}; "
            f"machine: {provenance.describe()}. {self.fit.sentence}",
            width=88,
        )


#: what a chapter asks for, by what it is for
Asked = dict[str, Iterable[Any]]
#: hyperparameters of methods, in place of the profile's
Overrides = Mapping[str, Mapping[str, Any]]


def _each(
    study: Study, names: Iterable[str], forget_set: ForgetSet, seed: int, variant: str = "",
    overrides: Overrides = MappingProxyType({}),
) -> Iterator[Evaluation]:
    """Yield methods on one forget set."""
    for name in names:
        evaluation = study.evaluate(name, forget_set, seed, **overrides.get(name, {}))
        yield evaluation.as_variant(variant)


def finetuning(run: ChapterRun) -> Asked:
    """Ask for the first run's two references in each setting."""
    seed, forget_id = run.profile.runs[0]
    forget_set = clips(max(run.profile.n_values), forget_id)
    return {setting: _each(run.study(setting), REFERENCES, forget_set, seed)
            for setting in run.profile.settings}


def paper_baselines(run: ChapterRun) -> Asked:
    """Ask for the paper's baselines on the first run, for every N."""
    study, (seed, forget_id) = run.study(), run.profile.runs[0]
    by_n = (_each(study, BASELINES, clips(n, forget_id), seed) for n in run.profile.n_values)
    return {"baselines": itertools.chain.from_iterable(by_n)}


def adversarial_and_elastic(run: ChapterRun, other_copies: int = 0, other_steps: int = 0) -> Asked:
    """Ask for copies of the smallest forget set at each tau, and for what is left open, varied.

    Args:
        run: of the chapter
        other_copies: M of one more setting; 0: none
        other_steps: P of that setting; 0: none

    """
    study, taus, (seed, forget_id) = run.study(), run.profile.tau_values, run.profile.runs[0]
    forget_set = clips(min(run.profile.n_values), forget_id)
    hyperparameters = run.profile.methods.get("adv", {})

    def copies() -> Iterator[tuple[float, AttackParameters]]:
        """Have the copies made, and yield each tau and its attack."""
        for tau in taus:
            attack = methods.parameters("adv", **{**hyperparameters, "tau": tau}).attack
            study.ask("adversarial", forget_set=forget_set, seed=seed, parameters=attack)
            yield tau, attack

    def open_choices() -> Iterator[Evaluation]:
        yield study.evaluate("original", forget_set, seed).as_variant("before unlearning")
        yield study.evaluate("retrain", forget_set, seed).as_variant("retrained")
        for what, choice in OPEN_CHOICES:
            choice = {"tau": taus[len(taus) // 2], **choice}
            yield study.evaluate("adv_ela", forget_set, seed, **choice).as_variant(what)

    def sizes() -> Iterator[Evaluation]:
        sizes = {"tau": taus[0], "copies": other_copies, "steps": other_steps}
        for method in ADVERSARIAL if other_copies and other_steps else ():
            what = f"{TITLES[method]}, M = {other_copies}, P = {other_steps}"
            yield study.evaluate(method, forget_set, seed, **sizes).as_variant(what)

    return {"copies": copies(), "open_choices": open_choices(), "sizes": sizes()}


def replication(run: ChapterRun) -> Asked:
    """Ask for Table 1 in each setting; its taus come from the ``development`` evaluations."""
    development = list(ablation(run.study()))
    taus = chosen_taus(Results.of(development))

    def table1(study: Study) -> Iterator[Evaluation]:
        for (seed, forget_id), n in itertools.product(study.runs, study.profile.n_values):
            chosen = {method: {"tau": taus[method, n]} for method in ADVERSARIAL}
            names = (*BASELINES, *ADVERSARIAL)
            yield from _each(study, names, clips(n, forget_id), seed, overrides=chosen)

    tables: Asked = {setting: table1(run.study(setting)) for setting in run.profile.settings}
    return {"development": development, **tables}


def over_tau(run: ChapterRun) -> Asked:
    """Ask for Figure 2."""
    return {"ablation": ablation(run.study())}


def ablation(study: Study) -> Iterator[Evaluation]:
    """Yield both adversarial methods over tau and N on the development forget set: Figure 2."""
    seed, _ = study.runs[0]
    # the largest first: the smaller forget sets take their copies from its set
    sizes = sorted(study.profile.n_values, reverse=True)
    yield study.evaluate("original", clips(sizes[0], DEVELOPMENT), seed)
    for tau, n in itertools.product(study.profile.tau_values, sizes):
        chosen = dict.fromkeys(ADVERSARIAL, {"tau": tau})
        yield from _each(study, ADVERSARIAL, clips(n, DEVELOPMENT), seed, overrides=chosen)


def kinds_of_forget_sets(run: ChapterRun) -> Asked:
    """Ask for every kind of forget set on words or speakers; ``images`` beside words."""
    study, profile = run.study(), run.profile
    asked: Asked = {
        "clips": random_forget_sets(study, profile.compared),
        "class": removals(study, "class", profile.compared),
        "sequential": sequential_speakers(study, profile.sequence_methods),
    }
    if study.task.label != "speaker":
        asked["speaker"] = removals(study, "speaker", profile.compared)
    if study.task.name == "keyword":
        images = run.of_task("image", "digits").study()
        asked["images"] = random_forget_sets(images, images.profile.compared)
    return asked


def some_kinds(*kinds: str) -> Callable[[ChapterRun], Asked]:
    """Return what asks for some kinds of forget set, as a part of a chapter does."""
    def asked(run: ChapterRun) -> Asked:
        every = kinds_of_forget_sets(run)
        return {kind: every[kind] for kind in kinds if kind in every}

    return asked


def audited(run: ChapterRun) -> Asked:
    """Ask for the first run's models, and those that they are judged by."""
    study = run.study(runs=run.profile.runs[:1])
    return {"ranked": ranked(study, run.ranked(), run.tuned_hyperparameters())}


def leaderboard(run: ChapterRun) -> Asked:
    """Ask for every model of the leaderboard; hyperparameters come from the trials."""
    asked = run.study(), run.ranked(), run.tuned_hyperparameters()
    return {
        "ranked": ranked(*asked), "component_ablation": component_ablation(*asked),
        "sequential": sequential(*asked)
    }


def one_request(run: ChapterRun) -> Asked:
    """Ask for the models of one request: the original, and some retrained without its clips."""
    study, (seed, forget_id) = run.study(runs=run.profile.runs[:1]), run.profile.runs[0]
    study.ask("models", without=None, seed=seed)
    for other in range(study.profile.references):
        study.ask("models", without=ranked_forget_set(study, forget_id), seed=other)
    return {}


def one_original(run: ChapterRun) -> Asked:
    """Ask for the original model of the first run."""
    run.study("validation").ask("models", without=None, seed=run.profile.runs[0][0])
    return {}


#: what each chapter asks for; a chapter that is not here asks for nothing
CHAPTERS: dict[str, Callable[..., Asked]] = {
    "02_finetuning": finetuning,
    "03_baselines": paper_baselines,
    "04_adversarial_and_elastic": adversarial_and_elastic,
    "05_table1": replication,
    "06_ablation": over_tau,
    "07_keyword_spotting": some_kinds("clips", "images"),
    "07_keyword_spotting_class": some_kinds("class"),
    "07_keyword_spotting_speaker": some_kinds("speaker", "sequential"),
    "08_speaker_identification": kinds_of_forget_sets,
    "09_audit": audited,
    "10_leaderboard": leaderboard,
    "11_request": one_request,
    "14_attribute": one_original,
}


def chosen_taus(results: Results) -> dict[tuple[str, int], float]:
    """Return the tau of each adversarial method and N of highest UAR on unseen speakers.

    On the development forget set, which is the paper's rule; of equal ones the smallest.

    Raises:
        ParameterError: no development evaluations

    """
    taus = {key: float(uars.idxmax()) for key, uars in _over_tau(results).items()}
    if not taus:
        raise ParameterError("tau cannot be chosen: there are no development evaluations")
    return taus


def _over_tau(results: Results) -> dict[tuple[str, int], pd.Series]:
    """Return UAR on unseen speakers over tau by method and N, on the development forget set."""
    chosen = results.select(method=list(ADVERSARIAL), forget_id=DEVELOPMENT)
    if chosen.evaluations.empty:
        return {}
    rows = chosen.rows().query("split == 'unseen' and metric == 'uar'").set_index("tau")
    by_key = rows.sort_index().groupby(["method", "n_forget"])["value"]
    return {(str(method), int(n)): uars for (method, n), uars in by_key}


def random_forget_sets(study: Study, chosen: Sequence[str]) -> Iterator[Evaluation]:
    """Yield methods on random forget sets of every size, on every run."""
    for (seed, forget_id), n in itertools.product(study.runs, study.sizes):
        yield from _each(study, (*REFERENCES, *chosen), clips(n, forget_id), seed)
    # what is closer to a retrained model than these are to each other is close enough
    seed, forget_id = study.runs[0]
    yield from _further(study, ("retrain",), clips(max(study.sizes), forget_id), seed,
                        study.profile.retrained_seeds)


def _further(
    study: Study, names: Sequence[str], forget_set: ForgetSet, seed: int, count: int
) -> Iterator[Evaluation]:
    """Yield references of a forget set from the first training seeds but one."""
    for other in range(count):
        if other != seed:
            yield from _each(study, names, forget_set, other, ANOTHER_SEED)


def removals(study: Study, kind: str, chosen: Sequence[str]) -> Iterator[Evaluation]:
    """Yield methods on the removal of whole classes, or of all clips of speakers, one by one.

    Args:
        study: its profile says how many
        kind: ``class`` or ``speaker``
        chosen: methods

    """
    for name, (seed, _) in zip(study.removable(kind), itertools.cycle(study.runs), strict=False):
        yield from _each(study, (*REFERENCES, *chosen), ForgetSet(kind, names=(name,)), seed)


def forget_set_table(study: Study) -> pd.DataFrame:
    """Return what will be asked of the models, before any is trained.

    Raises:
        ParameterError: a forget set that cannot be made of this corpus

    """
    asked = {"some clips": [f"{n} of {len(study.train_manifest)}" for n in study.sizes]}
    asked["a class"] = study.removable("class")
    if study.task.label != "speaker":
        asked["a speaker"] = study.removable("speaker")
    names = study.removable("speaker", study.profile.sequence_length)
    asked["one speaker after another"] = [", ".join(names)]
    return pd.Series(asked, name="of").explode().rename_axis("forget set").to_frame()


def ranked_forget_set(study: Study, forget_id: int | str) -> ForgetSet:
    """Return a random forget set of the leaderboard's size.

    Raises:
        ParameterError: a size that is not a number of clips or share of them, or that leaves
            nothing beside it and a development forget set as large

    """
    available = len(study.train_manifest)
    n = ranked_size_of(study.profile, available)
    if not 0 < n < available / 2:
        size = study.profile.ranked_size
        raise ParameterError(f"size: {size:g} is {n} clips, of {available} training clips")
    return clips(n, forget_id)


def trials(study: Study, chosen: Sequence[str]) -> Iterator[Evaluation]:
    """Yield the trials that methods are tuned by, and the model retrained without their forget set.

    Args:
        study: its profile has ``spare`` unseen clips, so that none is reported
        chosen: methods

    Raises:
        ParameterError: a study whose unseen clips are reported, or a number of trials out of range

    """
    if not study.profile.spare:
        raise ParameterError("spare: trials are not to see the clips that are reported")
    seed, forget_set = study.runs[0][0], ranked_forget_set(study, DEVELOPMENT)
    profile = study.profile
    tried = [
        (method, candidate) for method in chosen for candidate in tuning.candidates(
            method, profile.methods.get(method, {}), profile.trials
        )
    ]  # before anything is trained
    yield study.evaluate("retrain", forget_set, seed).as_variant(tuning.TRIAL)
    for method, candidate in tried:
        variant = f"{tuning.TRIAL} {json.dumps(candidate)}"
        yield study.evaluate(method, forget_set, seed, **candidate).as_variant(variant)


def ranked(study: Study, chosen: Sequence[str], hyperparameters: Overrides) -> Iterator[Evaluation]:
    """Yield the evaluations of the leaderboard: methods on every run, and what they are judged by.

    Args:
        study: its profile says how many models of either kind they are judged by
        chosen: methods
        hyperparameters: hyperparameters of each in place of the profile's: of `tuning.tuned`

    Raises:
        ParameterError: fewer than two models to judge by

    """
    count = study.profile.references
    if count < 2:
        raise ParameterError(f"references: {count} retrained model has no spread; two have")
    for seed, forget_id in study.runs:
        forget_set = ranked_forget_set(study, forget_id)
        for method in REFERENCES:
            yield study.evaluate(method, forget_set, seed)
            yield from _further(study, (method,), forget_set, seed, count)
        yield from _each(study, chosen, forget_set, seed, overrides=hyperparameters)


def component_ablation(
    study: Study, chosen: Sequence[str], hyperparameters: Overrides
) -> Iterator[Evaluation]:
    """Yield `perturbed` with one component changed, on every run, where it is among the chosen.

    Args:
        study: its profile
        chosen: methods of the leaderboard
        hyperparameters: as of `ranked`

    """
    speeds = study.profile.methods.get("perturbed", {}).get("speeds", ())
    some = {  # where the profile has speeds of its own, those of one side
        "faster copies alone": tuple(speed for speed in speeds if speed > 1),
        "slower copies alone": tuple(speed for speed in speeds if speed < 1),
    }
    tuned = hyperparameters.get("perturbed", {})
    for seed, forget_id in study.runs if "perturbed" in chosen else ():
        forget_set = ranked_forget_set(study, forget_id)
        for what, changed in COMPONENTS:
            changed = {"speeds": some[what]} if some.get(what) else changed
            variant, parameters = f"{COMPONENT}{what}", {**tuned, **changed}
            yield study.evaluate("perturbed", forget_set, seed, **parameters).as_variant(variant)


def sequential(
    study: Study, chosen: Sequence[str], hyperparameters: Overrides
) -> Iterator[Evaluation]:
    """Yield methods on the leaderboard's forget sets in five requests, each on what the last left.

    `perturbed` is there a second time, without the concatenated clips.

    Args:
        study: its profile
        chosen: methods of the leaderboard; those of `SEQUENTIAL` are taken
        hyperparameters: as of `ranked`

    """
    for seed, forget_id in study.runs:
        forget_set = ranked_forget_set(study, forget_id)
        steps = forget_sets.in_steps(forget_set, min(fitting.N_REQUESTS, forget_set.n))
        variant = sequential_variant(len(steps))
        for method in (name for name in SEQUENTIAL if name in chosen):
            tuned = hyperparameters.get(method, {})
            yield study.evaluate(method, steps, seed, **tuned).as_variant(variant)
            if method == "perturbed":
                evaluation = study.evaluate(method, steps, seed, **{**tuned, "splices": 0.0})
                yield evaluation.as_variant(f"{variant}, {NOT_CONCATENATED}")


def sequential_speakers(study: Study, chosen: Sequence[str]) -> Iterator[Evaluation]:
    """Yield methods on the sequential deletion of speakers, and retraining without all of them."""
    seed, _ = study.runs[0]
    names = study.removable("speaker", study.profile.sequence_length)
    whole, steps = forget_sets.speakers(*names), [forget_sets.speakers(name) for name in names]
    yield from _each(study, REFERENCES, whole, seed, SEQUENTIAL_SPEAKERS)
    for method, k in itertools.product(chosen, range(1, len(steps) + 1)):
        yield study.evaluate(method, steps[:k], seed).as_variant(SEQUENTIAL_SPEAKERS)


def variants(results: Results) -> pd.DataFrame:
    """Return UAR by variant and set, and the attack's AUC with its distance to the retrained's."""
    wide = across(results.rows().query("variant != ''"), ["n_forget", "variant"])
    shown = {f"{split} uar": f"{split} UAR" for split in ("forget", "retain", "unseen")}
    shown |= {"forget mia_auc": "attack AUC", "forget mia_auc_distance": "AUC to retrained"}
    table = wide.reindex(columns=list(shown)).rename(columns=shown)
    return table.rename_axis(index=["N", "variant"])


def claims(
    results: Results,
    setting: str,
    *,
    chance: float,
    n_resamples: int = 2000,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return what becomes of the paper's claims on these evaluations, by `RULE`.

    Args:
        results: evaluations of `table1`
        setting: ``validation`` or ``test``
        chance: UAR of a guess, one over the number of classes
        n_resamples: of the paired, speaker-clustered bootstrap
        generator: its randomness

    Returns:
        columns claim, n_forget, value, low, high, difference, verdict; value is a difference of
        UARs that is above 0 where the claim is right, difference says whether it is

    Raises:
        ParameterError: evaluations of the paper's methods that do not say what they were run with

    """
    evaluations = results.select(setting=setting).reported()
    least, most = evaluations.sizes[0], evaluations.sizes[-1]
    asked: list[tuple[str, int | str, tuple[str, int], tuple[str, int] | None, float]] = [
        (claim.format(TITLES[one]), n, (one, n), None if other is None else (other, n), margin)
        for claim, ones, other, margin in CLAIMS for one in ones for n in evaluations.sizes
    ]
    asked += [
        (f"unseen UAR of {TITLES[m]} falls with N", f"{least} to {most}", (m, least),
         (m, most), 0.0)
        for m in ("ran_lab", *ADVERSARIAL) if least < most
    ]
    how: dict[str, Any] = dict(clusters="cluster", n_resamples=n_resamples, generator=generator)
    rows = []
    for claim, n, one, other, margin in asked:
        if other is None:
            interval = statistics.pooled_bootstrap(evaluations.tables(*one, "forget"), **how)
            value, high, low = (chance - part for part in interval)
            runs = chance - evaluations.uars(*one, "forget")
        else:
            of_both = (evaluations.tables(*which, "unseen") for which in (one, other))
            difference = statistics.paired_bootstrap(*of_both, **how)
            value, low, high = (part + margin for part in difference[:3])
            runs = evaluations.uars(*one, "unseen") - evaluations.uars(*other, "unseen") + margin
        side, verdict = "undecided", "undecided"
        if low > 0 and (runs > 0).all():
            side, verdict = "above 0", "holds"
        elif high < 0 and (runs < 0).all():
            side, verdict = "below 0", "fails"
        methods_compared = [which[0] for which in (one, other) if which]
        if sentences.unlike_the_paper(evaluations.evaluations, methods_compared):
            verdict = "not tested here"
        rows.append((claim, n, value, low, high, side, verdict))
    columns = ["claim", "n_forget", "value", "low", "high", "difference", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def shape_over_tau(results: Results) -> pd.DataFrame:
    """Return, for each method and N, UAR on unseen speakers at the ends of tau and at its best.

    The paper sees less than 0.4 at the smallest tau, and less again at the largest than before.
    """
    table = []
    for (method, n), uars in _over_tau(results).items():
        first, best, last = uars.iloc[0], uars.max(), uars.iloc[-1]
        table.append(
            {"method": TITLES[method], "N": n, "smallest tau": first, "best": best,
             "best tau": uars.idxmax(), "largest tau": last,
             "rises, then falls": bool(first < best > last)}
        )
    return pd.DataFrame(table)
