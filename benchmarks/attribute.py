"""What is left of an attribute that an emotion model was to forget: probes on real speech.

    python -m benchmarks.attribute --root PATH --cache FOLDER
    python -m benchmarks.attribute --what summary

The originals are the models of a pool (`benchmarks.pool`), one a run: each heard the clips of 14 to
16 speakers, and none those of eight others, as many female as male, on whom everything is tested.
The attribute is the gender of the speaker. Beside the original stand: the same with the attribute
projected out of what its head is given (`leace`), trained on against a reader of it (`reversal`, by
weight), or trained on as long without the reversal (`reversal 0`); the encoder before it heard an
emotion (`before`); and the model that DELETE made of the request to remove a class.

Rows are counts by speaker and value, for intervals over speakers and runs: of the task (``target``
task), of probes of the attribute, and of probes of the removed class. They are kept as each model
of a run is done: killed at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import pools
from speechunlearn import methods, provenance
from speechunlearn.audit import probes
from speechunlearn.cache import Cache
from speechunlearn.lab import profiles
from speechunlearn.lab.probing import RESULTS, counts, kept, summary
from speechunlearn.lab.relearning import attribute_reader
from speechunlearn.lab.study import Study, described
from speechunlearn.methods import erasure
from speechunlearn.models import fast_mode, training
from speechunlearn.models.classifier import Classifier

POOL = pools.FOLDER / "cpu-ravdess-nano-pretrained"
COLUMN = "gender"
#: models of which the encoder is trained as a probe: leace's is the original's
ASKED_FOR_THE_CLASS = {"original", "before"}
READ_BY_AN_ENCODER = {"original", "reversal 1", "before"}
#: the reversal's hyperparameters, set by hand beforehand; the weights are told in the rows
REVERSAL = erasure.Reversal(epochs=5, learning_rate=5e-4)
WEIGHTS = (1.0, 0.0)
#: changes of the profile's recipe for the encoder that is trained as a probe
READER = {"epochs": 4, "clean_epochs": 2, "speeds": (1.0,)}
#: where a probe reads: name -> of the model and clips
LEVELS: dict[str, Callable[..., np.ndarray]] = {
    "hidden": erasure.representation,
    "projected": lambda model, clips: erasure.representation(model, clips, projected=True),
    "logits": lambda model, clips: training.predict(model, clips).double().numpy(),
}


class Run:
    """One run: a model of the pool, those that are made of it, and what they are asked.

    Args:
        study: of the pool
        pool: whose models are in the study's cache
        k: number of the model
        removed: class that is removed

    """

    def __init__(self, study: Study, pool: pools.Pool, k: int, removed: str) -> None:
        heard = ~study.train_manifest["hash"].isin(pool.design.absent(k).names)
        manifest, others = study.train_manifest[heard], pools.untrained(study)
        # both at once: a value that one of them lacks is no other value
        codes, self.values = erasure.attribute(pd.concat([manifest, others]), COLUMN)
        self.codes, self.unseen_codes = np.split(codes, [len(manifest)])
        self.train = study.train.at(np.flatnonzero(heard))
        self.unseen = study._load(others)
        self.study, self.labels, self.removed = study, study.labels, removed
        self.seed = pool.design.seed_of(k)
        self.original = pool.model(k, study.cache)

    def models(self) -> dict[str, Callable[[], Classifier]]:
        """Return what makes each model, by name, in the order of importance."""
        def reversed_by(weight: float) -> Classifier:
            with fast_mode.fast(self.original):
                return erasure.reverse(
                    self.original, self.train, self.codes, replace(REVERSAL, weight=weight),
                    seed=self.seed,
                )

        return {
            "original": lambda: self.original,
            "leace": lambda: erasure.project(self.original, self.train, self.codes),
            **{f"reversal {weight:g}": partial(reversed_by, weight) for weight in WEIGHTS},
            "before": lambda: self.study.fresh(self.seed),
            f"delete {self.removed}": self._without_the_class,
        }

    def _without_the_class(self) -> Classifier:
        label = self.train.labels.numpy() == self.labels.index(self.removed)
        forget, retain = (self.train.at(np.flatnonzero(which)) for which in (label, ~label))
        method = methods.get("delete")
        parameters = methods.parameters("delete", **self.study.profile.methods["delete"])
        data = methods.UnlearningData(forget, len(self.labels), retain)
        return method.unlearn(
            self.original, data, parameters, seed=self.seed, fast=True
        ).model

    def rows(self, name: str, model: Classifier) -> Iterator[dict[str, Any]]:
        """Yield the rows of a model: its task, and what probes find on each level."""
        values, classes = np.array(self.values), np.array(self.labels)
        truth = classes[self.unseen.labels.numpy()]
        seen, speakers = {}, np.array(self.unseen.speakers)
        with fast_mode.fast(model):
            for level, read in LEVELS.items():
                if (name, level) == ("before", "logits"):  # of a head with random weights
                    continue
                seen[level] = read(model, self.train), read(model, self.unseen)
        if "logits" in seen:
            yield from counts(
                self.unseen.speakers, truth, classes[seen["logits"][1].argmax(1)], target="task",
                level="logits", probe="", trained_on="",
            )
        is_class = (truth == self.removed).astype(int)
        for level, (known, unseen) in seen.items():
            for kind in probes.KINDS:
                about = {"level": level, "probe": kind}
                told = {
                    "model's speakers": probes.probe(
                        kind, known, self.codes, unseen, seed=self.seed
                    ),
                    "unseen speakers": probes.across_speakers(
                        kind, unseen, self.unseen_codes, speakers, seed=self.seed
                    ),
                }
                for trained_on, answer in told.items():
                    yield from counts(
                        self.unseen.speakers, values[self.unseen_codes], values[answer],
                        target=COLUMN, trained_on=trained_on, **about,
                    )
                if name not in ASKED_FOR_THE_CLASS and "delete" not in name:
                    continue
                answer = probes.across_speakers(
                    kind, unseen, is_class, speakers, seed=self.seed
                )
                either = np.array(["other", self.removed])
                yield from counts(
                    self.unseen.speakers, either[is_class], either[answer], target=self.removed,
                    trained_on="unseen speakers", **about,
                )

    def read_by_an_encoder(self, name: str, model: Classifier) -> list[dict[str, Any]]:
        """Return the rows of the strongest probe: the encoder, trained to tell the attribute."""
        clips = self.train.relabelled(torch.from_numpy(self.codes))
        recipe = replace(self.study.recipe, **READER)
        reader = attribute_reader(model, clips, self.values, recipe, seed=self.seed)
        names = np.array(self.values)
        answer = training.predict(reader, self.unseen).argmax(1).numpy()
        return counts(
            self.unseen.speakers, names[self.unseen_codes], names[answer], target=COLUMN,
            level="encoder", probe="fine-tuned", trained_on="model's speakers",
        )


def add(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Keep some rows, in one step."""
    table, before = pd.DataFrame(rows), kept(path)
    partial = path.with_suffix(".partial")
    (pd.concat([before, table]) if len(before) else table).to_csv(partial, index=False)
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", choices=["run", "summary"], default="run")
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--root", type=Path, help="folder of the corpus")
    parser.add_argument("--cache", type=Path, help="folder that holds the models of the pool")
    parser.add_argument("--runs", type=int, nargs="+", default=[*range(5)], help="models of it")
    parser.add_argument("--removed", default="angry", help="class that is removed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    if asked.what == "summary":
        print(summary(kept(asked.out)).round(3).to_string(index=False))
        return
    if asked.cache is None:
        parser.error("a run needs --cache, where the models of the pool are")
    pool = pools.Pool.read(asked.pool)
    study = described(
        pool.design.study | {"root": None if asked.root is None else str(asked.root)},
        cache=Cache(asked.cache),
    )
    profiles.prepare_process(study.profile)
    erasure.attribute(study.manifest, COLUMN)  # refused before any work
    where = {
        "profile": study.profile.name, "corpus": study.corpus.name,
        "encoder": study.profile.encoder, "commit": provenance.commit(),
        "lock": provenance.lock_hash(), "machine": provenance.describe(),
    }
    for run in asked.runs:
        one = Run(study, pool, run, asked.removed)
        for name, make in one.models().items():
            rows = kept(asked.out)
            rows = rows[(rows["run"] == run) & (rows["model"] == name)]
            model = None
            for probe, ask in (("", one.rows), ("fine-tuned", one.read_by_an_encoder)):
                there = (rows["probe"] == "fine-tuned") == bool(probe)
                if there.any() or (probe and name not in READ_BY_AN_ENCODER):
                    continue
                model = model or make()
                about = {"run": run, "seed": one.seed, "model": name}
                add(asked.out, [about | row | where for row in ask(name, model)])
                print(run, name, probe, flush=True)


if __name__ == "__main__":
    main()
