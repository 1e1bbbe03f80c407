"""Bad teacher: an incompetent teacher for the forget set, the original for the rest.

Source: Chundawat et al. 2023. The authors' code averages the divergence over
clips and classes; here it is the mean over clips, as the divergence is defined.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError, Share
from speechunlearn.methods.base import Distillation, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, divergence, logits_of, predict

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

    retain_share: Share = 0.3


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise KL(random || f) on the forget set and KL(original || f) on retained clips.

    The random network is the classifier before fine-tuning: where the encoder is a pre-trained
    one, its head alone is random. Both teachers are fixed, so each clip is asked about once.
    """
    if data.fresh is None:
        raise ParameterError("method 'bad_teacher' needs a fresh classifier, which is not given")
    incompetent = data.fresh(work.seed + TEACHER_SEED).to(next(model.parameters()).device)
    kept = data.rest.at(drawn(len(data.rest), parameters.retain_share, work.seed))
    clips = _joined(data.forget, kept)
    answers = torch.cat(
        [predict(incompetent, data.forget, cost=work), predict(model, kept, cost=work)]
    )

    def loss(model: Classifier, batch: Batch) -> Tensor:
        logits = logits_of(model, clips, batch.positions)
        return divergence(logits, answers[batch.positions], parameters.temperature)

    return Outcome(model, {"history": descend(model, clips, loss, parameters, work)})


def drawn(clips: int, share: float, seed: int) -> list[int]:
    """Return the positions of a random share of the clips, at least one, in order."""
    generator = torch.Generator().manual_seed(seed)
    count = max(1, round(share * clips))
    return torch.randperm(clips, generator=generator)[:count].sort().values.tolist()


def _joined(first: Clips, second: Clips) -> Clips:
    return Clips(
        [*first.waveforms_z, *second.waveforms_z], torch.cat([first.labels, second.labels]),
        first.hashes + second.hashes, first.speakers + second.speakers,
    )


METHOD = Method("bad_teacher", "Bad teacher", {"forget", "retain"}, Parameters, run)
