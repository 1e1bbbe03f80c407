"""What a method's loss is of, a model and a batch, and what it is made of."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from speechunlearn.dataset.clips import Clips, Logits
from speechunlearn.models.classifier import Classifier as Classifier
from speechunlearn.models.loop import Batch as Batch
from speechunlearn.models.training import logits_of as logits_of
from speechunlearn.models.training import predict as predict


def true_label_loss(
    model: Classifier, clips: Clips, positions: Sequence[int], *, reduction: str = "mean"
) -> Tensor:
    """Return the cross-entropy of the labels of some clips, in nats.

    Args:
        model: a classifier
        clips: with their labels
        positions: of the clips
        reduction: ``mean`` over clips, ``sum``, or ``none``, one number a clip

    """
    logits = logits_of(model, clips, positions)
    labels = clips.labels[list(positions)].to(logits.device)
    return cross_entropy(logits, labels, reduction=reduction)


def divergence(
    logits: Logits, teacher_logits: Logits, temperature: float = 1.0
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
    teacher = softmax(teacher_logits.to(logits) / temperature, dim=1)
    return temperature**2 * kl_div(student, teacher, reduction="batchmean")
