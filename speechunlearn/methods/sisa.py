"""SISA: a model for each shard of the training set; a request retrains the shards it touches.

Source: Bourtoule et al. 2021. Exact, like retraining, but of another model: the
original is not used, an ensemble of shards takes its place. Shards are not cut into slices. The
authors' code lets the shards vote, or takes the mean of their probabilities, as is done here.
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import log_softmax

from speechunlearn.dataset.clips import Lengths, Logits, Waveforms
from speechunlearn.errors import Checked, ModelError, ParameterError, Positive
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(Checked):
    """How the training set is cut; each shard is trained with the recipe of fine-tuning.

    Args:
        shards: how many. More make a request cheaper and each model worse: few, as a shard of a
            small corpus has few clips

    """

    shards: Positive[int] = 5


class Sharded(Classifier):
    """Several classifiers as one, which gives each class the mean of their probabilities.

    Args:
        members: one classifier a shard

    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        first = members[0]
        super().__init__(torch.nn.ModuleList(members), first.labels, first.frontend)

    def forward(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return the logarithm of the members' mean probabilities: their softmax are these."""
        answers = [log_softmax(member(waveform_z, lengths), dim=1) for member in self.network]
        return torch.stack(answers).logsumexp(0) - math.log(len(answers))

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Raise ModelError: a checkpoint is one classifier."""
        raise ModelError("an ensemble of shards is no checkpoint; method 'sisa_plus' leaves one")


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Return the ensemble of all shards, none of which has been trained on the forget set."""
    members, details = trained_shards(model, data, parameters, work)
    return Outcome(Sharded(members), details)


def trained_shards(
    model: Classifier, data: UnlearningData, parameters: Parameters, work: Work
) -> tuple[list[Classifier], dict[str, Any]]:
    """Return the shards' classifiers after the request, and what is to be told of it.

    The request's cost is that of the shards that have clips of the forget set. The others are
    as they were before it: where they have to be trained here to be had, their clips are not
    counted, and their seconds are taken off. What training all shards cost before the
    request is in the details. A shard of which no clip is left drops out.
    """
    fresh, recipe = data.anew("sisa")
    retain, device = data.rest, next(model.parameters()).device
    touched = {shard_of(clip, parameters.shards, work.seed) for clip in data.forget.hashes}
    parts: list[list[int]] = [[] for _ in range(parameters.shards)]
    for position, clip in enumerate(retain.hashes):
        parts[shard_of(clip, parameters.shards, work.seed)].append(position)
    members: list[Classifier] = []
    for shard, part in enumerate(parts):
        if not part:
            continue
        # all start alike: their weights can then be averaged (`sisa_plus`)
        member = fresh(work.seed).to(device)
        with contextlib.nullcontext() if shard in touched else work.uncounted():
            training.train(member, retain.at(part), recipe, seed=work.seed, cost=work)
        members.append(member)
    if not members:
        raise ParameterError("retain: no clip is left to train a shard on")
    trained_before = recipe.epochs * (len(data.forget) + len(retain))
    return members, {
        "clips": [len(part) for part in parts],
        "touched": sorted(touched),
        "trained_before": {"forward_backward": trained_before},
    }


def shard_of(clip: str, shards: int, seed: int) -> int:
    """Return the shard of a clip: by its content, so that no request moves another clip."""
    digest = hashlib.sha256(f"{seed} {clip}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


METHOD = Method(
    "sisa", "SISA", {"forget", "retain"}, Parameters, run, hyperparameter="",
    untuned="how the training set is cut is decided before the request", trains_anew=True
)
