"""Bad teacher: an incompetent teacher for the forget set, the original for the rest.

Source: Chundawat et al. 2023. The authors' code averages the divergence over
clips and classes; here it is the mean over clips, as the divergence is defined.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import (
    Distillation,
    Method,
    Outcome,
    Progress,
    Request,
    check_share,
    descend,
)
from speechunlearn.methods.losses import divergence, logits_of
from speechunlearn.models import Classifier
from speechunlearn.training import Cost, predict

#: keeps the incompetent teacher's seed away from those that classifiers are trained from: from
#: the same seed, it would be the very network that the original grew out of
TEACHER_SEED = 1_000_000


@dataclass(frozen=True)
class Parameters(Distillation):
    """An epoch is one pass over the forget set and the drawn part of the retain set, mixed.

    Args:
        retain_share: part of the retain set that is drawn, once, above 0 and at most 1 (the
            authors: 0.3)
        temperature: T of both divergences (the authors: 1)

    """

    retain_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("retain_share", self.retain_share)


def run(
    model: Classifier, request: Request, parameters: Parameters, seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Minimise KL(random || f) on the forget set and KL(original || f) on retained clips.

    The random network is the classifier before fine-tuning: where the encoder is a pre-trained
    one, its head alone is random. Both teachers are fixed, so each clip is asked about once.
    """
    assert request.retain is not None  # Method.unlearn has checked it
    if request.fresh is None:
        raise ParameterError("method 'bad_teacher' needs a fresh classifier, which is not given")
    cost = Cost()
    device = next(model.parameters()).device
    incompetent = request.fresh(seed + TEACHER_SEED).to(device)
    kept = request.retain.at(drawn(len(request.retain), parameters.retain_share, seed))
    clips = _joined(request.forget, kept)
    answers = torch.cat(
        [predict(incompetent, request.forget, cost=cost), predict(model, kept, cost=cost)]
    ).to(device)

    def loss(model: Classifier, positions: list[int]) -> Tensor:
        logits = logits_of(model, clips, positions, cost)
        return divergence(logits, answers[positions], parameters.temperature)

    history = descend(model, clips, loss, parameters, seed=seed, progress=progress)
    return Outcome(model, cost, {"history": history})


def drawn(clips: int, share: float, seed: int) -> list[int]:
    """Return the positions of a random share of the clips, at least one, in order."""
    generator = torch.Generator().manual_seed(seed)
    count = max(1, round(share * clips))
    return torch.randperm(clips, generator=generator)[:count].sort().values.tolist()


def _joined(first: Clips, second: Clips) -> Clips:
    return Clips(
        first.waveforms_z + second.waveforms_z, torch.cat([first.labels, second.labels]),
        first.hashes + second.hashes, first.speakers + second.speakers,
    )


METHOD = Method(
    "bad_teacher", "Bad teacher", frozenset({"forget", "retain"}), Parameters, run,
    strength="learning_rate", resumes=False,
)
