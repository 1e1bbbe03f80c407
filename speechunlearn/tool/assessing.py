"""What a report says of models: scores on every set, a membership attack, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn.audit import (
    evaluation,
    membership,
    report_card,
)
from speechunlearn.audit import (
    predictions as per_clip,
)
from speechunlearn.models import training
from speechunlearn.tool.checkpoints import WaveformClassifier
from speechunlearn.tool.inputs import Part

SPLITS = ("forget", "retain", "unseen")
_RESAMPLES = 1000


def table(model: WaveformClassifier, parts: Mapping[str, Part]) -> pd.DataFrame:
    """Return what a model says of every clip: see `speechunlearn.audit.predictions.table`."""
    batch_size = 1 if model.answers_alone else 32
    clips = {name: part.clips for name, part in parts.items()}
    logits = training.answers(model, clips, batch_size=batch_size)
    hashes = {name: of.hashes for name, of in clips.items()}
    about = pd.concat([part.about for part in parts.values()], ignore_index=True)
    return per_clip.table(logits, hashes, about, list(model.labels))


def scores(predictions: pd.DataFrame, n_labels: int) -> dict[str, dict[str, float]]:
    """Return UAR, accuracy and mean loss on every set, by its name."""
    found: dict[str, dict[str, float]] = {}
    for (split, metric), value in evaluation.scores(predictions, n_labels).items():
        if metric != "mia_auc":
            found.setdefault(split, {})[metric] = value
    return {split: found[split] for split in SPLITS if split in found}


def attack(predictions: pd.DataFrame, *, seed: int) -> dict[str, Any] | None:
    """Return what the attack on the loss reaches, with intervals; None without unseen clips.

    Args:
        predictions: of `table`
        seed: of the bootstrap, which draws speakers

    """
    sides = [predictions[predictions["split"] == split] for split in ("forget", "unseen")]
    if any(side.empty for side in sides):
        return None
    forget, unseen = sides
    found = membership.figures(
        membership.loss_membership_attack(forget["loss"], unseen["loss"]),
        (list(forget["unit"]), list(unseen["unit"])),
        n_resamples=_RESAMPLES, generator=np.random.default_rng(seed),
    )
    return {
        name: dict(zip(("value", "low", "high"), interval[:3], strict=True))
        for name, interval in (("auc", found.auc), ("eer", found.eer), ("tpr", found.tpr))
    } | {"members": found.n_members, "nonmembers": found.n_nonmembers, "fpr": found.fpr}


def card(
    predictions: pd.DataFrame, references: Sequence[pd.DataFrame], n_labels: int, *, seed: int
) -> dict[str, Any] | None:
    """Return a model's report card beside retrained models, or None where it can't be made.

    Args:
        predictions: of `table`
        references: the same of models retrained without the forget set; two or more
        n_labels: number of classes
        seed: of the attacks' folds

    """
    if len(references) < 2 or not (predictions["split"] == "unseen").any():
        return None
    judged = report_card.Auditor(references, n_labels=n_labels, seed=seed).card(predictions)
    return {"passed": judged.passed, "scores": judged.scores.to_dict("records")}


def missing(parts: Mapping[str, Part], n_references: int) -> list[dict[str, str]]:
    """Return what can't be assessed, and why.

    Args:
        parts: the sets that are given
        n_references: number of retrained models that are given

    """
    found = []
    if "retain" not in parts:
        found.append(
            {
                "what": "what the model keeps of the clips it was trained on",
                "why": "no retain clips were given",
            }
        )
    if "unseen" not in parts:
        found += [
            {
                "what": "what the model keeps on speech it never saw",
                "why": "no unseen clips were given",
            },
            {
                "what": "whether an attacker can tell that the forget clips were trained on",
                "why": "an attack needs clips that were not: no unseen clips were given",
            },
        ]
    if n_references < 2 or "unseen" not in parts:
        given = "none was" if n_references == 0 else f"{n_references} was"
        why = (
            f"it needs two or more models retrained without the forget clips: {given} given"
            if n_references < 2 else "it needs unseen clips as well"
        )
        found.append(
            {"what": "whether the model is where one that never saw the clips would be", "why": why}
        )
    found.append(
        {
            "what": "what an attack finds that knows each clip by itself",
            "why": "it needs several models trained with and without the forget clips; "
            "chapter 09 of the book makes them",
        }
    )
    for part in parts.values():
        if part.has_speakers:
            continue
        found.append(
            {
                "what": f"how much the {part.name} clips' speakers differ",
                "why": f"{part.file.name} names no speakers: its clips count as independent, "
                "so that intervals are too narrow where speakers recur",
            }
        )
    return found
