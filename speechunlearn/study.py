"""A study: one corpus, one profile, one setting; every model and score of it is made or found.

Notebooks, the command line and the benchmarks all go through `Study`. Whatever takes time is an
artefact in the cache (see `speechunlearn.cache`): the manifest, a fine-tuned model, a retrained
model, an adversarial set, the predictions of an unlearned model.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from speechunlearn import clips as clips_module
from speechunlearn import corpora, machine, methods, models, splits, training
from speechunlearn.attacks import AdversarialSet, AttackParameters, adversarial_set
from speechunlearn.cache import Cache, code_hash, stack
from speechunlearn.clips import Clips
from speechunlearn.errors import CorpusError, ParameterError
from speechunlearn.models import Classifier
from speechunlearn.profiles import Profile
from speechunlearn.training import Cost, Recipe

log = logging.getLogger(__name__)

#: name of the forget draw on which parameters are chosen; reported draws share no clip with it
DEVELOPMENT = "development"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cell:
    """One model of a study, scored clip by clip.

    Args:
        record: profile, corpus, method, hyperparameters, seeds, cost, provenance
        predictions: columns split (forget, retain, unseen), hash, speaker, label, prediction,
            loss, confidence

    """

    record: dict[str, Any]
    predictions: pd.DataFrame

    def as_variant(self, name: str) -> Cell:
        """Return the cell under a name of its own, kept apart from the main tables."""
        return Cell(self.record | {"variant": name}, self.predictions)


class Study:
    """Models and scores of one corpus in one setting.

    Args:
        profile: sizes and hyperparameters
        corpus: name of a reader; None takes the profile's
        root: the corpus's folder, or the CSV; None takes its default
        setting: ``validation`` (train on train, test on validation speakers) or ``test``
            (train on train and validation, test on test speakers)
        cache: where finished work is kept
        skip_bad: leave out clips that cannot be used, instead of refusing the corpus
        report: called with (what, done, of how many) as work goes on

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
        report: Report | None = None,
    ) -> None:
        if setting not in ("validation", "test"):
            raise ParameterError(f"setting: {setting!r} is not validation or test")
        self.profile = profile
        self.corpus = corpora.get(corpus or profile.corpus)
        self.root = Path(root).expanduser() if root is not None else None
        self.setting = setting
        self.cache = cache or Cache()
        self.skip_bad = skip_bad
        self.report = report
        self.recipe = Recipe(**profile.recipe)
        for name, values in profile.methods.items():
            methods.parameters(name, **values)
        for tau in profile.tau_values:
            AttackParameters(tau=tau)
        if not profile.n_values or min(profile.n_values) < 1:
            raise ParameterError(f"n_values: {profile.n_values} are not all positive")
        models.check_encoder(profile.encoder)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """Every clip of the corpus once, with its split."""
        table = corpora.read_manifest(self.corpus.name, self.root, self.skip_bad)
        table = table.drop_duplicates("hash").reset_index(drop=True)
        if (table["split"] == "").all():
            table = splits.speaker_split(table, self.profile.splits, self.profile.split_seed)
        absent = {"train", "validation", "test"} - set(table["split"])
        if self.setting == "validation":
            absent -= {"test"}
        if absent:
            raise CorpusError(f"corpus {self.corpus.name!r} has no {sorted(absent)} clips")
        train = table["split"].isin(self.train_parts)
        wanted = max(self.profile.n_values)
        available = int(train.sum())
        if 2 * wanted >= available:
            raise ParameterError(
                f"n_values: forgetting {wanted} clips, and as many on a development draw, "
                f"leaves nothing of the {available} training clips of {self.corpus.name!r}"
            )
        return table

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of training seed and forget draw in this setting."""
        return self.profile.pairs[: self.profile.pairs_in_test if self.setting == "test" else None]

    @property
    def train_parts(self) -> tuple[str, ...]:
        """Splits that are trained on in this setting."""
        return ("train",) if self.setting == "validation" else ("train", "validation")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.corpus.labels or tuple(sorted(self.manifest["label"].unique()))

    @cached_property
    def corpus_hash(self) -> str:
        """Hash of the contents, labels and splits of the manifest."""
        columns = self.manifest[["hash", "label", "speaker", "split"]].sort_values("hash")
        return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()[:16]

    @cached_property
    def train_manifest(self) -> pd.DataFrame:
        """Clips that are trained on in this setting."""
        return self._rows(self.manifest["split"].isin(self.train_parts))

    @cached_property
    def train(self) -> Clips:
        """Training clips, in memory."""
        return self._load(self.train_manifest)

    @cached_property
    def unseen(self) -> Clips:
        """Clips of speakers that no model of this setting was trained on, in memory."""
        return self._load(self._rows(self.manifest["split"] == self.setting))

    def draw(self, n: int, draw: int | str) -> list[str]:
        """Return the hashes of the n clips of a forget draw; smaller draws are nested in larger.

        No reported draw shares a clip with the development draw.
        """
        size = max(self.profile.n_values)
        kept_for_tuning = splits.forget_draw(self.train_manifest, max(size, n), DEVELOPMENT)
        if draw == DEVELOPMENT:
            return kept_for_tuning[:n]
        return splits.forget_draw(self.train_manifest, n, draw, exclude=set(kept_for_tuning))

    def forget(self, n: int, draw: int | str) -> Clips:
        """Return the forget set, in the order of its draw."""
        return self._of_hashes(self.draw(n, draw))

    def retain(self, n: int, draw: int | str) -> Clips:
        """Return the training clips outside a forget draw."""
        return self._without(self.draw(n, draw))

    def parts(self, n: int, draw: int | str) -> dict[str, Clips]:
        """Return the clips that a model is scored on.

        The retain set is scored on a sample from outside the largest draw, the same for every n.
        """
        retain = self.retain(max(n, max(self.profile.n_values)), draw)
        sample = self.profile.retain_sample
        if sample is not None and sample < len(retain):
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(retain), generator=generator)[:sample].sort().values
            retain = retain.at(chosen.tolist())
        return {"forget": self.forget(n, draw), "retain": retain, "unseen": self.unseen}

    def fresh(self, seed: int) -> Classifier:
        """Return the classifier as it is before fine-tuning."""
        model = models.build(self.profile.encoder, self.labels, seed, **self.recipe.encoder)
        return model.to(_device())

    def original(self, seed: int) -> Classifier:
        """Return the classifier fine-tuned on all training clips."""
        return self._trained(self.train, seed)

    def retrained(self, seed: int, draw: int | str, n: int | None = None) -> Classifier:
        """Return the classifier trained from the start without a forget draw.

        Args:
            seed: of weights, order, augmentation and dropout
            draw: forget draw
            n: its size; None takes the largest, which may stand in for the smaller ones

        """
        n = n or max(self.profile.n_values)
        return self._trained(self.retain(n, draw), seed)

    def history(self, seed: int) -> pd.DataFrame:
        """Return the training loss of the original model by epoch."""
        folder = self._trained_folder(self.train, seed)
        losses = json.loads((folder / "card.json").read_text())["history"]
        return pd.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses})

    def cell(
        self, method: str, n: int, draw: int | str, seed: int, **overrides: Any
    ) -> Cell:
        """Score one model, making it if need be.

        Args:
            method: ``original``, or a name in `speechunlearn.methods.METHODS`
            n: size of the forget set
            draw: forget draw
            seed: training seed; also of the method's own randomness
            overrides: hyperparameters in place of the profile's

        """
        specification = self._base(seed) | {
            "method": method,
            "forget": _hash_of(self.draw(n, draw)),
            "parts": _hash_of([h for p in self.parts(n, draw).values() for h in p.hashes]),
        }
        parameters: Any = None
        if method in ("original", "retrain"):
            module = "speechunlearn.training"
            if method == "retrain":
                # the largest draw's model is the reference of the draws nested in it
                specification["without"] = _hash_of(self.draw(max(self.profile.n_values), draw))
        else:
            parameters = methods.parameters(
                method, **{**self.profile.methods.get(method, {}), **overrides}
            )
            specification["parameters"] = asdict(parameters)
            module = methods.get(method).run.__module__
        specification["code"] = code_hash(module, "speechunlearn.training")

        def make(folder: Path, resume: Path) -> None:
            self._make_cell(folder, method, parameters, n, draw, seed)

        folder = self.cache.find_or_make("cells", specification, make)
        made = json.loads((folder / "made.json").read_text())
        record = {
            "profile": self.profile.name,
            "task": self.corpus.task,
            "corpus": self.corpus.name,
            "corpus_hash": self.corpus_hash,
            "setting": self.setting,
            "encoder": self.profile.encoder,
            "method": method,
            "n_forget": n,
            "tau": getattr(parameters, "tau", None),
            "seed": seed,
            "draw": str(draw),
            "variant": "",
            "hyperparameters": json.dumps(
                asdict(self.recipe if parameters is None else parameters), sort_keys=True
            ),
        } | made
        return Cell(record, pd.read_parquet(folder / "predictions.parquet"))

    def adversarial(
        self,
        n: int,
        draw: int | str,
        seed: int,
        parameters: AttackParameters,
        cost: Cost | None = None,
    ) -> AdversarialSet:
        """Return adversarial copies of a forget draw against the original model.

        A clip's copies do not depend on its batch, so where those of the largest draw are there,
        a smaller draw takes the first of them, and is charged its share of their cost.
        """
        largest = max(self.profile.n_values)
        specification = self._base(seed) | {
            "parameters": asdict(parameters),
            "code": code_hash("speechunlearn.attacks"),
        }
        of_largest = specification | {"forget": _hash_of(self.draw(max(n, largest), draw))}
        made_for = n
        folder = self.cache.find("adversarial", of_largest)
        if folder is not None:
            made_for = max(n, largest)
        source = self.forget(made_for, draw)

        def make(folder: Path, resume: Path) -> None:
            made_cost = Cost()
            with machine.measured() as usage:
                made = adversarial_set(
                    self.original(seed), source, len(self.labels), parameters, seed=seed,
                    cost=made_cost,
                    progress=self._reporter(f"adversarial copies, tau {parameters.tau:g}"),
                )
            tensors = {f"{i:06d}": w for i, w in enumerate(made.clips.waveforms_z)}
            tensors |= {"labels": made.clips.labels, "reached": made.reached}
            save_file(tensors, folder / "copies.safetensors")
            (folder / "made.json").write_text(
                json.dumps({"seconds": usage.seconds} | asdict(made_cost))
            )

        found = True
        if folder is None:
            own = specification | {"forget": _hash_of(source.hashes)}
            found = self.cache.find("adversarial", own) is not None
            folder = self.cache.find_or_make("adversarial", own, make)
        tensors = load_file(folder / "copies.safetensors")
        repeated = source.at([i for i in range(made_for) for _ in range(parameters.copies)])
        copies = Clips(
            [tensors[f"{i:06d}"] for i in range(len(repeated))],
            tensors["labels"], repeated.hashes, repeated.speakers,
        )
        if cost is not None:
            made = json.loads((folder / "made.json").read_text())
            cost.forward_backward += round(made["forward_backward"] * n / made_for)
            cost.forward += round(made["forward"] * n / made_for)
            if found:  # else the caller's clock has been running
                cost.kept_seconds += made["seconds"] * n / made_for
        return AdversarialSet(copies, tensors["reached"], parameters.copies).of_first(n)

    def request(self, n: int, draw: int | str, seed: int) -> methods.Request:
        """Return a forget draw as a request to a method."""

        def adversarial(
            model: Classifier, parameters: AttackParameters, attack_seed: int, cost: Cost
        ) -> AdversarialSet:
            # the method asks before its first step: `model` is still the original
            return self.adversarial(n, draw, attack_seed, parameters, cost)

        return methods.Request(
            forget=self.forget(n, draw),
            n_classes=len(self.labels),
            retain=self.retain(n, draw),
            fresh=self.fresh,
            recipe=self.recipe,
            adversarial=adversarial,
        )

    def _make_cell(
        self, folder: Path, method: str, parameters: Any, n: int, draw: int | str, seed: int
    ) -> None:
        what = f"{method}, N={n}, draw {draw}, seed {seed}"
        if method in ("original", "retrain"):
            clips = self.train if method == "original" else self.retain(
                max(self.profile.n_values), draw
            )
            card = json.loads((self._trained_folder(clips, seed) / "card.json").read_text())
            model = self._trained(clips, seed)
            made = {key: card[key] for key in _MADE}
        else:
            original, request = self.original(seed), self.request(n, draw, seed)
            with machine.measured() as usage:
                outcome = methods.get(method).unlearn(
                    original, request, parameters, seed=seed, progress=self._reporter(what)
                )
            model = outcome.model
            made = {
                "seconds": usage.seconds + outcome.cost.kept_seconds,
                "peak_memory_mb": usage.peak_memory_mb,
                "forward_backward": outcome.cost.forward_backward,
                "forward": outcome.cost.forward,
                "details": json.dumps(outcome.details),
            } | self._provenance()
        training.predictions(model, self.parts(n, draw)).to_parquet(folder / "predictions.parquet")
        (folder / "made.json").write_text(json.dumps(made))

    def _trained(self, clips: Clips, seed: int) -> Classifier:
        return models.load(self._trained_folder(clips, seed)).to(_device())

    def _trained_folder(self, clips: Clips, seed: int) -> Path:
        specification = self._base(seed) | {
            "clips": _hash_of(clips.hashes),
            "code": code_hash("speechunlearn.training"),
        }

        def make(folder: Path, resume: Path) -> None:
            model, cost = self.fresh(seed), Cost()
            what = f"training on {len(clips)} clips, seed {seed}"
            with machine.measured() as usage:
                history = training.train(
                    model, clips, self.recipe, seed=seed, cost=cost,
                    progress=self._reporter(what), resume=resume,
                )
            card = {
                "seconds": usage.seconds,
                "peak_memory_mb": usage.peak_memory_mb,
                "forward_backward": cost.forward_backward,
                "forward": cost.forward,
                "details": "{}",
                "history": history,
                "specification": specification,
            } | self._provenance()
            model.save(folder, card)

        return self.cache.find_or_make("models", specification, make)

    def _base(self, seed: int) -> dict[str, Any]:
        """Return what every artefact of this study depends on."""
        return {
            "corpus": self.corpus.name,
            "corpus_hash": self.corpus_hash,
            "train": _hash_of(self.train_manifest["hash"]),
            "labels": list(self.labels),
            "encoder": self.profile.encoder,
            "encoder_hash": models.encoder_hash(self.profile.encoder),
            "recipe": asdict(self.recipe),
            "top_db": self.profile.top_db,
            "max_seconds": self.profile.max_seconds,
            "seed": seed,
            "stack": stack(),
        }

    def _provenance(self) -> dict[str, str]:
        return {
            "commit": machine.commit(),
            "lock": machine.lock_hash(),
            "machine": machine.describe(),
        }

    def _load(self, manifest: pd.DataFrame) -> Clips:
        frontend = models.frontend(self.profile.encoder)
        return clips_module.load(
            manifest, self.labels, sampling_rate=frontend.sampling_rate,
            top_db=self.profile.top_db, max_seconds=self.profile.max_seconds,
            normalise=frontend.do_normalize,
        )

    def _rows(self, chosen: pd.Series) -> pd.DataFrame:
        return self.manifest[chosen].reset_index(drop=True)

    def _of_hashes(self, hashes: list[str]) -> Clips:
        position = {h: i for i, h in enumerate(self.train.hashes)}
        return self.train.at([position[h] for h in hashes])

    def _without(self, hashes: list[str]) -> Clips:
        out = set(hashes)
        return self.train.at([i for i, h in enumerate(self.train.hashes) if h not in out])

    def _reporter(self, what: str) -> Callable[..., None] | None:
        if self.report is None:
            return None
        report = self.report
        return lambda done, total, *rest: report(what, done, total)


_MADE = (
    "seconds", "peak_memory_mb", "forward_backward", "forward", "details",
    "commit", "lock", "machine",
)


def _hash_of(hashes: Any) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
