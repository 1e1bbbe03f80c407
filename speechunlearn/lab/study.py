"""A study: one corpus, one profile, one setting; every model and score of it is made or found.

Notebooks, the command line and the benchmarks all go through `Study`. Whatever takes time is an
artefact in the cache (see `speechunlearn.cache`): the manifest, a fine-tuned model, a retrained
model, an adversarial set, the predictions of an unlearned model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import validate_call
from pydantic_core import to_jsonable_python
from safetensors import numpy as arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechunlearn import corpora, methods, provenance, schema
from speechunlearn.audit import predictions as per_clip
from speechunlearn.cache import Artefact, Cache, code_hash, stack
from speechunlearn.dataset import clips as clips_module
from speechunlearn.dataset import tasks
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import CorpusError, NotMade, ParameterError
from speechunlearn.lab import forget_sets
from speechunlearn.lab.forget_sets import ForgetSet
from speechunlearn.lab.profiles import Profile
from speechunlearn.methods import importance
from speechunlearn.methods.pgd import AdversarialSet, AttackParameters, adversarial_set
from speechunlearn.models import classifier, distributed, fast_mode, training
from speechunlearn.models.classifier import Classifier
from speechunlearn.models.loop import Cost, Progress, Work, seldom
from speechunlearn.models.training import Recipe

log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """One model of a study, scored clip by clip.

    Args:
        record: profile, corpus, method, hyperparameters, seeds, cost, provenance; empty where the
            evaluation is only planned
        predictions: what it says of every clip of the splits forget, retain, unseen and removed,
            see `speechunlearn.audit.predictions.table`

    """

    record: dict[str, Any]
    predictions: pd.DataFrame

    def as_variant(self, name: str) -> Evaluation:
        """Return the evaluation under a name of its own, kept apart from the main tables."""
        record = self.record | {"variant": name} if self.record else {}
        return Evaluation(record, self.predictions)


class Study:
    """Models and scores of one corpus in one setting.

    Args:
        profile: sizes and hyperparameters
        corpus: name of a reader; None takes the profile's
        root: the corpus's folder, or the CSV; None takes its default
        setting: ``validation`` (train on train, test on validation speakers) or ``test``
            (train on train and validation, test on test speakers)
        cache: where finished work is kept; a store that only writes down what it is asked for
            makes this a plan (see `speechunlearn.chapters.grid.Recorder`)
        skip_bad: leave out clips that cannot be used, instead of refusing the corpus
        on_progress: progress callback: (what, done, total)
        read: gives the corpus's manifest where it was read already; None reads it

    Raises:
        ParameterError: a value that is out of range, before anything is trained
        CorpusError: a corpus, clip or split that cannot be used

    """

    def __init__(
        self,
        profile: Profile,
        corpus: str | None = None,
        root: Path | str | None = None,
        *,
        setting: str = "validation",
        cache: Cache | None = None,
        skip_bad: bool = False,
        on_progress: OnProgress | None = None,
        read: Callable[[], pd.DataFrame] | None = None,
    ) -> None:
        if setting not in ("validation", "test"):
            raise ParameterError(f"setting: {setting!r} is not validation or test")
        self.profile = profile = profile.with_values()  # checked
        self.corpus = corpora.get(corpus or profile.corpus)
        self.task = tasks.get(profile.task or self.corpus.task)
        tasks.check(self.task.name, self.corpus.name, self.corpus.task)
        self.root = None if root is None else Path(root).expanduser()
        self.setting = setting
        self.cache = cache or Cache()
        self.skip_bad = skip_bad
        self.on_progress = on_progress
        self._read = read
        self._hashes: dict[ForgetSet, list[str]] = {}
        self._computing = provenance.computing()
        if profile.spare and setting == "test":
            raise ParameterError("spare: setting 'test' leaves no unseen clips to spare")
        self.recipe = schema.checked(Recipe, profile.recipe, "recipe")
        if self.recipe.fast and distributed.processes() > 1:
            raise ParameterError("fast: several processes train a model in the usual computation")
        for name, values in profile.methods.items():
            schema.checked(methods.get(name).parameters, values, f"method {name!r}")
        if not (profile.n_values or profile.shares):
            raise ParameterError("n_values and shares are both empty: no clip is to be forgotten")
        classifier.check_encoder(profile.encoder)
        for folder in classifier.pretrained_on(profile.encoder):
            if self.corpus.name.startswith(folder):
                raise ParameterError(
                    f"encoder {profile.encoder!r} was pre-trained on {folder}: a model retrained "
                    f"from it on corpus {self.corpus.name!r} would know the forgotten clips"
                )

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """Every clip of the corpus once, as the task sees it, with its split."""
        table = (
            corpora.read_manifest(self.corpus.name, self.root, self.skip_bad)
            if self._read is None else self._read()
        )
        table = as_seen(table, self.corpus, self.profile)
        absent = {*self.train_splits, self.setting} - set(table["split"])
        if absent:
            raise CorpusError(
                f"corpus {self.corpus.name!r} has no {sorted(absent)} clips: its split is to name "
                "some, or to be left out, and one is drawn"
            )
        train = table[table["split"].isin(self.train_splits)]
        most = max(sizes_of(self.profile, len(train)))
        if 2 * most >= len(train):
            raise ParameterError(
                f"n_values: forgetting {most} clips, and as many on a development forget set, "
                f"leaves nothing of the {len(train)} training clips of {self.corpus.name!r}"
            )
        for kind, names in (("class", self.profile.classes), ("speaker", self.profile.speakers)):
            for name in names:  # refused before anything is trained
                ForgetSet(kind, names=(name,)).hashes(train)
        return table

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the random forget sets: the profile's numbers and shares."""
        return sizes_of(self.profile, len(self.train_manifest))

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Runs in this setting: training seed and number of the random forget set."""
        return self.profile.runs[: self.profile.runs_in_test if self.setting == "test" else None]

    @property
    def train_splits(self) -> tuple[str, ...]:
        """Splits that are trained on in this setting."""
        return ("train",) if self.setting == "validation" else ("train", "validation")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        known = self.corpus.labels if _made_for(self.corpus, self.task) else None
        return known or tuple(sorted(self.manifest["label"].unique()))

    @cached_property
    def corpus_hash(self) -> str:
        """Hash of the contents, labels and splits of the manifest."""
        columns = self.manifest[["hash", "label", "speaker", "split"]].sort_values("hash")
        return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()[:16]

    @cached_property
    def train_manifest(self) -> pd.DataFrame:
        """Clips that are trained on in this setting."""
        return self._rows(self.manifest["split"].isin(self.train_splits))

    @cached_property
    def train(self) -> Clips:
        """Training clips, in memory."""
        return self._load(self.train_manifest)

    @cached_property
    def unseen(self) -> Clips:
        """Clips of speakers that no model of this setting was trained on, in memory.

        The profile says whether they are those that are reported, or the spare ones. Where no clip
        is spare, a single trial, which chooses nothing, may read the reported ones.
        """
        return self._load(self._unseen_manifest)

    @cached_property
    def _unseen_manifest(self) -> pd.DataFrame:
        asked = {self.setting}
        if self.profile.spare:
            asked = set(self.manifest["split"]) - {*self.train_splits, self.setting} or asked
            if self.setting in asked and self.profile.trials > 1:
                raise ParameterError(
                    f"trials: {self.profile.trials}, but no unseen clip is spare to choose by: "
                    "only 1 is possible"
                )
        return self._rows(self.manifest["split"].isin(asked))

    def hashes(self, forget_set: ForgetSet) -> list[str]:
        """Return the contents that a forget set covers.

        No reported forget set shares one with the development forget set.
        """
        if forget_set not in self._hashes:
            largest = self._largest(forget_set).n
            self._hashes[forget_set] = forget_sets.apart(self.train_manifest, forget_set, largest)
        return list(self._hashes[forget_set])

    def forget(self, forget_set: ForgetSet) -> Clips:
        """Return the clips of a forget set; those of a random one in its order."""
        return _at_hashes(self.train, self.hashes(forget_set))

    def retain(self, forget_set: ForgetSet) -> Clips:
        """Return the training clips that a forget set leaves."""
        return self._without(self.hashes(forget_set))

    def scored_clips(self, forget_set: ForgetSet) -> dict[str, Clips]:
        """Return the clips that a model is scored on.

        The retain set is scored on a sample; for random forget sets from outside the largest forget
        set, the same for every n. ``removed`` holds the unseen clips of classes that are to be
        forgotten.
        """
        return {
            name: _at_hashes(self.train if name in ("forget", "retain") else self.unseen, hashes)
            for name, hashes in self.scored_hashes(forget_set).items()
        }

    def scored_hashes(self, forget_set: ForgetSet) -> dict[str, list[str]]:
        """Return the contents of `parts`; no clip is read for it."""
        retain = self._hashes_without(self.hashes(self._largest(forget_set)))
        sample = self.profile.retain_sample or len(retain)
        if sample < len(retain):
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(retain), generator=generator)[:sample].sort().values
            retain = [retain[i] for i in chosen.tolist()]
        unseen = self._unseen_manifest
        inside = unseen["label"].isin(forget_set.classes_of(self.train_manifest))
        parts = {
            "forget": self.hashes(forget_set), "retain": retain,
            "unseen": unseen["hash"][~inside].tolist(),
        }
        if inside.any():
            parts["removed"] = unseen["hash"][inside].tolist()
        return parts

    def removable(self, kind: str, n: int = 0) -> list[str]:
        """Return the classes or speakers whose removal is reported.

        They are the profile's own; or as many as it says, or as there can be, see
        `forget_sets.removable`.

        Args:
            kind: ``class`` or ``speaker``
            n: how many, one after another; 0 is the profile's number of removals

        Raises:
            CorpusError: none can be removed

        """
        named = self.profile.classes if kind == "class" else self.profile.speakers
        if named:
            return list(named[: n or None])
        tested = self._unseen_manifest["label"].unique()
        return forget_sets.removable(
            kind, self.train_manifest, tested, n or self.profile.removals, sequential=n > 0
        )

    def _largest(self, forget_set: ForgetSet) -> ForgetSet:
        """Return the largest forget set that a random one is nested in; another one itself."""
        if forget_set.kind != "clips":
            return forget_set
        return forget_sets.clips(max(*self.sizes, forget_set.n), forget_set.forget_id)

    def fresh(self, seed: int) -> Classifier:
        """Return the classifier as it is before fine-tuning."""
        model = classifier.build(self.profile.encoder, self.labels, seed, **self.recipe.encoder)
        return model.to(_device())

    def original(self, seed: int) -> Classifier:
        """Return the classifier fine-tuned on all training clips."""
        return self._load_model(self.cache.get(self._model(None, seed)))

    def retrained(self, seed: int, forget_set: ForgetSet) -> Classifier:
        """Return the classifier trained from the start without a forget set.

        The largest random forget set stands in for those nested in it.
        """
        return self._load_model(self.cache.get(self._model(forget_set, seed)))

    def unlearned(
        self, method: str, forget_set: ForgetSet, seed: int, **overrides: Any
    ) -> Classifier:
        """Return the classifier that a method leaves, for what its scores on clips do not tell.

        Args:
            method: name in `speechunlearn.methods.METHODS`, other than ``retrain``
            forget_set: what is to be forgotten
            seed: training seed; also of the method's own randomness
            overrides: hyperparameters in place of the profile's

        """
        return self._load_model(self._after(method, (forget_set,), seed, overrides))

    def help_to_train(self, seed: int, without: ForgetSet | None) -> None:
        """Take part in the training of a model that another process makes.

        Args:
            seed: training seed
            without: the forget set that it is retrained without; None is the original model

        """
        clips = self.train if without is None else self.retain(self._largest(without))
        distributed.help_to_train(self.fresh(seed), clips, self.recipe, seed=seed)

    def history(self, seed: int) -> pd.DataFrame:
        """Return the training loss of the original model by epoch."""
        folder = self.cache.get(self._model(None, seed))
        losses = json.loads((folder / "card.json").read_text())["history"]
        return pd.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses})

    def evaluate(
        self, method: str, forget_set: ForgetSet | Sequence[ForgetSet], seed: int, /,
        **overrides: Any,
    ) -> Evaluation:
        """Score one model, making it if need be.

        Args:
            method: ``original``, or a name in `speechunlearn.methods.METHODS`
            forget_set: what is to be forgotten; of several, one request after another
            seed: training seed; also of the method's own randomness
            overrides: hyperparameters in place of the profile's

        Returns:
            the evaluation; one that is planned alone has no record

        """
        steps = (forget_set,) if isinstance(forget_set, ForgetSet) else tuple(forget_set)
        whole, parameters = together(steps), self._parameters(method, overrides)
        try:
            folder = self.cache.get(self._scores(method, steps, seed, overrides))
        except NotMade:
            return Evaluation({}, pd.DataFrame())
        predictions = per_clip.table(
            arrays.load_file(folder / "logits.safetensors"), self.scored_hashes(whole),
            self.manifest, self.labels,
        )
        hyperparameters = asdict(self.recipe if parameters is None else parameters)
        needs = "" if method == "original" else ", ".join(sorted(methods.get(method).needs))
        record = {
            "profile": self.profile.name, "task": self.task.name, "n_classes": len(self.labels),
            "corpus": self.corpus.name, "corpus_hash": self.corpus_hash, "setting": self.setting,
            "encoder": self.profile.encoder, "method": method, "needs": needs,
            "forget_kind": whole.kind, "n_forget": len(self.hashes(whole)),
            "tau": getattr(parameters, "tau", None), "seed": seed, "forget_id": whole.name,
            "variant": "", "hyperparameters": json.dumps(hyperparameters, sort_keys=True),
            "protocol": "",  # of evaluations that were made before there was one
        }
        return Evaluation(record | json.loads((folder / "made.json").read_text()), predictions)

    def artefact(self, kind: str, call: Mapping[str, Any]) -> Artefact:
        """Return what a plan names by its kind and call; nothing is made.

        Args:
            kind: ``models`` (without, seed), ``adversarial`` (deletion, seed, parameters),
                ``statistics`` (seed) or ``evaluations`` (method, steps, seed, overrides)
            call: arguments by name; also as JSON has them

        """
        builders: dict[str, Callable[..., Artefact]] = {
            "models": self._model, "adversarial": self._copies, "statistics": self._statistics,
            "evaluations": self._scores,
        }
        return validate_call(builders[kind])(**call)

    def ask(self, kind: str, **call: Any) -> None:
        """Have something made, if it is not there; see `artefact`. Nothing is loaded."""
        with contextlib.suppress(NotMade):
            self.cache.get(self.artefact(kind, call))

    @cached_property
    def description(self) -> dict[str, Any]:
        """What `described` makes this study from in another process, as JSON types."""
        return to_jsonable_python(
            {
                "profile": asdict(self.profile), "corpus": self.corpus.name,
                "root": None if self.root is None else str(self.root.absolute()),
                "setting": self.setting, "skip_bad": self.skip_bad,
            }
        )

    def _artefact(
        self, kind: str, specification: dict[str, Any], make: Callable[[Path, Path], None],
        title: str, call: dict[str, Any], **others: Any,
    ) -> Artefact:
        title = f"{self.task.name}, {self.corpus.name}, {self.setting}: {title}"
        return Artefact(kind, specification, make, title, call, self.description, **others)

    def _parameters(self, method: str, overrides: dict[str, Any]) -> Any:
        """Return a method's hyperparameters; None for the two references."""
        if method in ("original", "retrain"):
            return None
        return methods.parameters(method, **{**self.profile.methods.get(method, {}), **overrides})

    def _scores(
        self, method: str, steps: tuple[ForgetSet, ...], seed: int, overrides: dict[str, Any]
    ) -> Artefact:
        """Return the answers of the model after some requests."""
        whole, parameters = together(steps), self._parameters(method, overrides)
        trained = self._model(whole if method == "retrain" else None, seed)
        specification = self._base(seed) | {
            "method": method, "forget": _hash_of(self.hashes(whole)), "kept": "logits",
            "parts": _hash_of([h for part in self.scored_hashes(whole).values() for h in part]),
        }
        module = "speechunlearn.models.training"
        if method == "retrain":
            # the largest forget set's model is the reference of the forget sets nested in it
            specification["without"] = _hash_of(self.hashes(self._largest(whole)))
        if parameters is not None:
            specification["parameters"] = asdict(parameters)
            module = methods.get(method).run.__module__
            if len(steps) > 1:
                specification["steps"] = [_hash_of(self.hashes(step)) for step in steps]
        specification["code"] = code_hash(module, "speechunlearn.models.training")

        def make(folder: Path, resume: Path) -> None:
            if parameters is not None and len(steps) == 1:
                model, record = self._unlearn(method, parameters, steps, seed, overrides, resume)
            else:
                there = (
                    self.cache.get(trained) if parameters is None
                    else self._after(method, steps, seed, overrides)
                )
                record = json.loads((there / "card.json").read_text())
                model = self._load_model(there)
            answers = training.answers(model, self.scored_clips(whole))
            arrays.save_file(answers, folder / "logits.safetensors")
            kept = {key: record[key] for key in _MADE} | {"protocol": provenance.protocol_hash()}
            (folder / "made.json").write_text(json.dumps(kept))

        def needs() -> list[Artefact]:
            first, attack = [trained], getattr(parameters, "attack", None)
            if attack is not None and len(steps) == 1:
                first.append(self._copies(whole, seed, attack))
            if parameters is not None and "statistic" in methods.get(method).needs:
                first.append(self._statistics(seed))
            if len(steps) > 1:  # which leaves the model that this one begins with
                first.append(self._scores(method, steps[:-1], seed, overrides))
            return first

        return self._artefact(
            "evaluations", specification, make, _what(method, steps, seed, overrides),
            {"method": method, "steps": steps, "seed": seed, "overrides": overrides}, needs=needs,
        )

    def adversarial(
        self,
        forget_set: ForgetSet,
        seed: int,
        parameters: AttackParameters,
        cost: Cost | None = None,
    ) -> AdversarialSet:
        """Return adversarial copies of a forget set against the original model.

        A clip's copies do not depend on its batch, so where those of the largest forget set are
        there, a smaller forget set takes the first of them, and is charged its share of their cost.
        """
        of_set, n = self._copies(forget_set, seed, parameters), len(self.hashes(forget_set))
        instead = of_set.instead
        largest = instead and self.cache.find(instead.kind, instead.specification)
        kept = largest or self.cache.find(of_set.kind, of_set.specification)
        folder = kept or self.cache.get(of_set)
        source = self.forget(self._largest(forget_set) if largest else forget_set)
        tensors = load_file(folder / "copies.safetensors")
        repeated = source.at([i for i in range(len(source)) for _ in range(parameters.copies)])
        waveforms_z = [tensors[f"{i:06d}"] for i in range(len(repeated))]
        copies = replace(repeated, waveforms_z=waveforms_z, labels=tensors["labels"])
        if cost is not None:
            counted = json.loads((folder / "made.json").read_text())
            share = n / len(source)
            cost.forward_backward += round(counted["forward_backward"] * share)
            cost.forward += round(counted["forward"] * share)
            if kept:  # else the caller's clock has been running
                cost.kept_seconds += counted["seconds"] * share
        return AdversarialSet(copies, tensors["reached"], parameters.copies).of_first(n)

    def _copies(self, forget_set: ForgetSet, seed: int, parameters: AttackParameters) -> Artefact:
        """Return the adversarial copies of a forget set."""
        specification = self._base(seed) | {
            "parameters": asdict(parameters),
            "code": code_hash("speechunlearn.methods.pgd"),
            "forget": _hash_of(self.hashes(forget_set)),
        }

        def make(folder: Path, resume: Path) -> None:
            model, source = self.original(seed), self.forget(forget_set)
            work = Work(progress=self._reporter(f"adversarial copies, tau {parameters.tau:g}"))
            with provenance.measured() as usage, self._computed(model):
                adversarial = adversarial_set(
                    model, source, len(self.labels), parameters, seed=seed, cost=work
                )
            tensors = {f"{i:06d}": w for i, w in enumerate(adversarial.clips.waveforms_z)}
            tensors |= {"labels": adversarial.clips.labels, "reached": adversarial.reached}
            save_file(tensors, folder / "copies.safetensors")
            (folder / "made.json").write_text(
                json.dumps({"seconds": usage.seconds} | asdict(work.counted()))
            )

        largest = self._largest(forget_set)
        return self._artefact(
            "adversarial", specification, make,
            f"adversarial copies of {_title(forget_set)}, seed {seed}, tau {parameters.tau:g}",
            {"forget_set": forget_set, "seed": seed, "parameters": parameters},
            needs=lambda: [self._model(None, seed)],
            instead=None if largest == forget_set else self._copies(largest, seed, parameters),
        )

    def unlearning_data(
        self, steps: Sequence[ForgetSet], seed: int, needs: Collection[str] = frozenset()
    ) -> methods.UnlearningData:
        """Return the data that a method may see, after the requests that came before.

        Args:
            steps: the requests so far, the one to fulfil last
            seed: training seed of the original model
            needs: what the method uses; ``validation`` clips are only loaded for it

        """
        def adversarial(
            model: Classifier, parameters: AttackParameters, attack_seed: int, cost: Cost
        ) -> AdversarialSet:
            # the method asks before its first step: `model` is still the original
            return self.adversarial(steps[-1], attack_seed, parameters, cost)

        return methods.UnlearningData(
            forget=self.forget(steps[-1]),
            n_classes=len(self.labels),
            retain=self._without({h for step in steps for h in self.hashes(step)}),
            fresh=self.fresh,
            recipe=self.recipe,
            # copies against a model that has been changed already are the method's to make
            adversarial=adversarial if len(steps) == 1 else None,
            statistic=lambda model: self.statistic(seed),
            validation=self._validation(steps[-1]) if "validation" in needs else None,
        )

    def _validation(self, forget_set: ForgetSet) -> Clips | None:
        """Return clips of the forget set's classes that are neither trained on nor scored."""
        spare = {"train", "validation", "test"} - {*self.train_splits, self.setting}
        classes = {self.labels[int(label)] for label in self.forget(forget_set).labels}
        chosen = self.manifest["split"].isin(spare) & self.manifest["label"].isin(classes)
        return self._load(self._rows(chosen)) if chosen.any() else None

    def _unlearn(
        self, method: str, parameters: Any, steps: tuple[ForgetSet, ...], seed: int,
        overrides: dict[str, Any], resume: Path,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Fulfil the last of some requests on the model that the others left; return its cost."""
        before = (
            self.original(seed) if len(steps) == 1
            else self._load_model(self._after(method, steps[:-1], seed, overrides))
        )
        data = replace(self.unlearning_data(steps, seed, methods.get(method).needs), resume=resume)
        with provenance.measured() as usage:
            outcome = methods.get(method).unlearn(
                before, data, parameters, seed=seed,
                progress=self._reporter(_what(method, steps, seed, overrides)),
                fast=self.recipe.fast,
            )
        seconds = usage.seconds + outcome.cost.kept_seconds
        return outcome.model, self._made(usage, seconds, outcome.cost, outcome.details)

    def _after(
        self, method: str, steps: tuple[ForgetSet, ...], seed: int, overrides: dict[str, Any]
    ) -> Path:
        """Return the checkpoint that some requests leave, one after another."""
        parameters = self._parameters(method, overrides)
        specification = self._base(seed) | {
            "method": method,
            "parameters": asdict(parameters),
            "steps": [_hash_of(self.hashes(step)) for step in steps],
            "code": code_hash(methods.get(method).run.__module__, "speechunlearn.models.training"),
        }

        def make(folder: Path, resume: Path) -> None:
            model, record = self._unlearn(method, parameters, steps, seed, overrides, resume)
            model.save(folder, record)

        return self.cache.find_or_make("unlearned", specification, make)

    def statistic(self, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information of the whole training set under the original model.

        It is what a trainer may keep where the training clips are gone (see `methods.ssd`).
        """
        folder = self.cache.get(self._statistics(seed))
        device = _device()
        loaded = load_file(folder / "fisher.safetensors")
        return {name: value.to(device) for name, value in loaded.items()}

    def _statistics(self, seed: int) -> Artefact:
        def make(folder: Path, resume: Path) -> None:
            model = self.original(seed)
            with self._computed(model):
                fisher = importance.estimate("fisher", model, self.train, self.train.labels)
            save_file(fisher, folder / "fisher.safetensors")

        specification = self._base(seed) | {"code": code_hash("speechunlearn.methods.importance")}
        return self._artefact(
            "statistics", specification, make, f"statistic, seed {seed}", {"seed": seed},
            needs=lambda: [self._model(None, seed)],
        )

    def _computed(self, model: Classifier) -> contextlib.AbstractContextManager[None]:
        """Return a block in which a model is computed as the recipe says."""
        return fast_mode.fast(model) if self.recipe.fast else contextlib.nullcontext()

    def _load_model(self, folder: Path) -> Classifier:
        return classifier.load(folder).to(_device())

    def _model(self, without: ForgetSet | None, seed: int) -> Artefact:
        """Return the original model, or the one trained without a forget set.

        The largest random forget set stands in for those nested in it.
        """
        largest = without and self._largest(without)
        title = f"model retrained without {_title(largest)}" if largest else "original model"
        hashes = self._hashes_without(self.hashes(largest) if largest else [])
        specification = self._base(seed) | {
            "clips": _hash_of(hashes),
            "code": code_hash("speechunlearn.models.training"),
        }

        def make(folder: Path, resume: Path) -> None:
            clips, model = _at_hashes(self.train, hashes), self.fresh(seed)
            reporter = self._reporter(f"training on {len(clips)} clips, seed {seed}")
            work = Work(progress=reporter, resume=resume)
            with provenance.measured() as usage:
                history = training.train(
                    distributed.shared(model, resume), clips, self.recipe, seed=seed, cost=work
                )
            record = self._made(usage, usage.seconds + work.kept_seconds, work, {})
            model.save(folder, record | {"history": history, "specification": specification})

        call = {"without": without, "seed": seed}
        return self._artefact("models", specification, make, f"{title}, seed {seed}", call)

    def _base(self, seed: int) -> dict[str, Any]:
        """Return what every artefact of this study depends on."""
        profile = self.profile
        return {
            "corpus": self.corpus.name, "corpus_hash": self.corpus_hash,
            "train": _hash_of(self.train_manifest["hash"]), "labels": list(self.labels),
            "encoder": profile.encoder, "encoder_hash": classifier.encoder_hash(profile.encoder),
            "recipe": asdict(self.recipe), "top_db": profile.top_db,
            "max_seconds": profile.max_seconds, "seed": seed, "stack": stack(),
            "computing": self._computing,
        }

    def _made(
        self, usage: provenance.Usage, seconds: float, work: Cost, details: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a model cost, and what made it: `_MADE`."""
        machine, together = provenance.describe(), distributed.processes()
        machine += f", {together} processes" if together > 1 else ""
        machine += ", fast computation" if self.recipe.fast else ""
        return {
            "seconds": seconds, "peak_memory_mb": usage.peak_memory_mb,
            "forward_backward": work.forward_backward, "forward": work.forward,
            "details": json.dumps(details), "commit": provenance.commit(),
            "lock": provenance.lock_hash(), "machine": machine,
            "protocol": provenance.protocol_hash(),
        }

    def _load(self, manifest: pd.DataFrame) -> Clips:
        if self.corpus.load is not None:
            values = [torch.from_numpy(of_clip) for of_clip in self.corpus.load(manifest)]
            return Clips.of(manifest, self.labels, values)
        frontend = classifier.frontend(self.profile.encoder)
        return clips_module.load(
            manifest, self.labels, sampling_rate=frontend.sampling_rate,
            top_db=self.profile.top_db, max_seconds=self.profile.max_seconds,
            normalise=frontend.do_normalize,
        )

    def _rows(self, chosen: pd.Series) -> pd.DataFrame:
        return self.manifest[chosen].reset_index(drop=True)

    def _without(self, hashes: Collection[str]) -> Clips:
        return _at_hashes(self.train, self._hashes_without(hashes))

    def _hashes_without(self, hashes: Collection[str]) -> list[str]:
        out = set(hashes)
        return [h for h in self.train_manifest["hash"] if h not in out]

    def _reporter(self, what: str) -> Progress | None:
        on_progress = self.on_progress
        if on_progress is None:
            return None
        return seldom(lambda name, done, total, loss: on_progress(f"{what}, {name}", done, total))


_MADE = (
    "seconds", "peak_memory_mb", "forward_backward", "forward", "details",
    "commit", "lock", "machine",
)


def described(description: Mapping[str, Any], **others: Any) -> Study:
    """Return the study of a `Study.description`.

    Args:
        description: as it was, or as JSON has it
        others: cache and report

    """
    profile = schema.checked(Profile, description["profile"], "profile")
    return Study(**{**description, "profile": profile, **others})


def as_seen(table: pd.DataFrame, corpus: corpora.Corpus, profile: Profile) -> pd.DataFrame:
    """Return a corpus's manifest as the profile's task sees it, every clip once, with its split.

    Raises:
        CorpusError: it cannot be split

    """
    task = tasks.get(profile.task or corpus.task)
    return task.manifest(
        table.drop_duplicates("hash").reset_index(drop=True), _made_for(corpus, task),
        profile.splits, profile.split_seed,
    )


def _made_for(corpus: corpora.Corpus, task: tasks.Task) -> bool:
    """Return whether a corpus's labels and split were made for a task."""
    return corpus.task in (task.name, tasks.ANY)


def sizes_of(profile: Profile, n_train: int) -> tuple[int, ...]:
    """Return the sizes of a profile's random forget sets for so many training clips."""
    shares = (max(1, round(share * n_train)) for share in profile.shares)
    return tuple(sorted({*profile.n_values, *shares}))


def ranked_size_of(profile: Profile, n_train: int) -> int:
    """Return the size of a profile's forget sets of the leaderboard for so many training clips."""
    size = profile.ranked_size
    return int(size) if size >= 1 else round(size * n_train)


def _what(method: str, steps: Sequence[ForgetSet], seed: int, overrides: Mapping[str, Any]) -> str:
    changed = "".join(f", {name} {value}" for name, value in overrides.items())
    place = f", request {len(steps)}" if len(steps) > 1 else ""
    return f"{method}, {_title(steps[-1])}, seed {seed}{changed}{place}"


def _title(forget_set: ForgetSet) -> str:
    number = f", forget set {forget_set.forget_id}" if forget_set.kind == "clips" else ""
    return f"{forget_set.title}{number}"


def together(steps: Sequence[ForgetSet]) -> ForgetSet:
    """Return several speakers, or the steps of a random forget set, as one; a single one itself.

    Raises:
        ParameterError: steps of a forget set that do not follow each other from its start

    """
    if len(steps) == 1:
        return steps[0]
    if steps[0].kind == "clips":
        ends = [0, *(step.n for step in steps)]
        if [step.offset for step in steps] != ends[:-1] or len({s.forget_id for s in steps}) > 1:
            raise ParameterError("steps: those of a forget set do not follow each other")
        return forget_sets.clips(steps[-1].n, steps[-1].forget_id)
    return forget_sets.speakers(*(name for step in steps for name in step.names))


def _at_hashes(clips: Clips, hashes: Sequence[str]) -> Clips:
    position = {h: i for i, h in enumerate(clips.hashes)}
    return clips.at([position[h] for h in hashes])


def _hash_of(hashes: Any) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
