"""JiT: what the model says of a clip is made to change little with the clip.

Source: Foster et al. 2024 (Lipschitz regularisation). As in the authors' code, the
answers to the noisy copies are fixed in each step, so that the answer to the clip moves towards
theirs. Their code clips the copies to the least and greatest value of the batch; a normalised
waveform has no range. It sums over the clips of a batch where here is their mean.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import Positive
from speechunlearn.methods.base import Descent, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, logits_of


@dataclass(frozen=True)
class Parameters(Descent):
    """The descent's, an epoch being one pass over the forget set, and the noise's.

    Args:
        epochs: passes over the forget set (the authors: 1)
        mode: ``eval``: in train mode dropout changes the answer without any noise on the clip
        draws: noisy copies of a clip in each step (the authors: 25)
        sigma: standard deviation of the noise, in units of the z-normalised waveform; chosen by
            the authors for each data set, here not tuned

    """

    epochs: int = 1
    mode: str = "eval"
    draws: Positive[int] = 25
    sigma: Positive[float] = 0.5


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Minimise the mean over draws of ``|f(x_e) - f(x_e + noise)| / |noise|``, of logits."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        clips, generator = data.forget.at(batch.positions), batch.generator()
        logits = logits_of(model, clips, range(len(clips)))
        slopes = []
        for _ in range(parameters.draws):
            answers, size = to_noise(model, clips, parameters.sigma, generator)
            distance = torch.linalg.vector_norm(logits - answers, dim=1)
            slopes.append(distance / size.to(distance))
        return torch.stack(slopes).mean()

    history = descend(
        model, data.forget, loss, parameters, work,
        passes=lambda batch: (len(batch), parameters.draws * len(batch)),
    )
    return Outcome(model, {"history": history})


def to_noise(
    model: Classifier, clips: Clips, sigma: float, generator: torch.Generator
) -> tuple[Float[Tensor, "clips classes"], Float[Tensor, " clips"]]:
    """Return the answers to noisy copies of clips, without a graph, and the norm of the noise."""
    noise = [sigma * torch.randn(length, generator=generator) for length in clips.lengths]
    moved = [w + n for w, n in zip(clips.waveforms_z, noise, strict=True)]
    noisy = replace(clips, waveforms_z=moved)
    with torch.no_grad():
        answers = logits_of(model, noisy, range(len(noisy)))
    return answers, torch.stack([n.norm() for n in noise])


METHOD = Method("jit", "JiT", {"forget"}, Parameters, run)
