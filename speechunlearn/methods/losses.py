"""What methods put into their losses: logits with a graph, cross-entropy, divergence."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from speechunlearn.clips import Clips
from speechunlearn.models import Classifier
from speechunlearn.training import Cost


def logits_of(model: Classifier, clips: Clips, positions: list[int], cost: Cost) -> Tensor:
    """Return the logits of some clips, with a graph, and count them."""
    device = next(model.parameters()).device
    waveform_z, lengths = clips.batch(positions)
    cost.forward_backward += len(positions)
    return model(waveform_z.to(device), lengths.to(device))


def true_label_loss(model: Classifier, clips: Clips, positions: list[int], cost: Cost) -> Tensor:
    """Return the cross-entropy of the true labels of some clips, in nats, and count them."""
    logits = logits_of(model, clips, positions, cost)
    return cross_entropy(logits, clips.labels[positions].to(logits.device))


def divergence(
    logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Return how far a student is from its teacher, in nats, the mean over clips.

    .. math:: T^2\, \mathrm{KL}\bigl(\mathrm{softmax}(z_\text{teacher} / T) \,\|\,
              \mathrm{softmax}(z_\text{student} / T)\bigr)

    Source: Hinton et al. 2015; the factor keeps the gradient's size where T grows.

    Args:
        logits: the student's
        teacher_logits: of the same clips; minus infinity gives a class no probability
        temperature: T

    """
    student = log_softmax(logits / temperature, dim=1)
    teacher = softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * kl_div(student, teacher, reduction="batchmean")
