"""SCRUB: a student that disobeys its teacher, the original, on the forget set alone.

Source: Kurmanji et al. 2023, the objective and the alternation of its algorithm; with ``rewind``,
their SCRUB and Rewind.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import NotNegative, ParameterError
from speechunlearn.methods.base import Distillation, Method, Outcome, UnlearningData, Work, descend
from speechunlearn.methods.losses import Batch, Classifier, divergence, logits_of, predict
from speechunlearn.models.loop import Cost


@dataclass(frozen=True)
class Parameters(Distillation):
    """An epoch is a pass over the retain set, after one over the forget set in the first epochs.

    The defaults are those of the authors' code for its small experiments, but for the descent's
    own; its large ones have alpha 0.001, gamma 0.99, two max epochs of three, and T = 4.

    Args:
        epochs: min passes over the retain set
        max_epochs: number of first epochs that begin with a max pass over the forget set
        alpha: weight of the divergence from the teacher on the retain set
        gamma: weight of the true labels' cross-entropy on the retain set
        temperature: T of every divergence
        rewind: whether to return the epoch whose forget error is closest to that of clips not
            seen in training, instead of the last

    """

    epochs: int = 10
    max_epochs: NotNegative[int] = 3
    alpha: NotNegative[float] = 0.5
    gamma: NotNegative[float] = 1.0
    temperature: float = 2.0
    rewind: bool = False


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Alternate between two losses, each over a pass of its own, with one optimiser.

    Max passes minimise -KL(teacher || f) on the forget set, min passes alpha KL(teacher || f) +
    gamma CE on the retain set. The teacher is fixed, so each clip is asked about once. While the
    student is its teacher, a max step has no gradient but dropout's: the first one, and so the
    first max pass over a forget set of one batch, moves little.

    To rewind, the forget error is taken after each epoch, and the state is kept where that error is
    a new one: of epochs with the same, the first counts, as in the authors' code. The original is
    not among them. The reference is the error of the last student on the validation set, see
    `matching_weights`.
    """
    weights = matching_weights(data) if parameters.rewind else None
    clips = {"max": data.forget, "min": data.rest}
    teacher = {part: predict(model, of, cost=work) for part, of in clips.items()}
    passes: list[str] = []
    for epoch in range(parameters.epochs):
        passes += ["max", "min"] if epoch < parameters.max_epochs else ["min"]
    kept: dict[str, Any] = {"errors": [], "states": {}}

    def loss(model: Classifier, batch: Batch) -> Tensor:
        part = passes[batch.epoch]
        logits = logits_of(model, clips[part], batch.positions)
        distance = divergence(logits, teacher[part][batch.positions], parameters.temperature)
        if part == "max":
            return -distance
        labels = data.rest.labels[batch.positions].to(logits.device)
        return parameters.alpha * distance + parameters.gamma * cross_entropy(logits, labels)

    def note(index: int) -> None:
        if weights is not None and passes[index] == "min":
            error = float(mistakes(model, data.forget, work).mean())
            kept["errors"].append(error)
            if error not in kept["states"]:
                kept["states"][error] = copy.deepcopy(model.state_dict())

    history = descend(
        model, lambda index: clips[passes[index]], loss, replace(parameters, epochs=len(passes)),
        work, after_epoch=note, kept=kept,
    )
    details = {"history": history, "passes": passes}
    if weights is not None:
        assert data.validation is not None  # else there are no weights
        reference = float((weights * mistakes(model, data.validation, work)).sum())
        closest = min(kept["states"], key=lambda error: abs(error - reference))
        model.load_state_dict(kept["states"][closest])
        details |= {
            "forget_errors": kept["errors"],
            "reference_error": reference,
            "rewound_to": kept["errors"].index(closest) + 1,
        }
    return Outcome(model, details)


def mistakes(model: Classifier, clips: Clips, cost: Cost) -> Float[Tensor, " clips"]:
    """Return 1 for each clip that the model gets wrong, else 0."""
    return (predict(model, clips, cost=cost).argmax(1) != clips.labels).double()


def matching_weights(data: UnlearningData) -> Float[Tensor, " clips"]:
    """Return weights that give the validation set the classes of the forget set; they sum to one.

    The authors choose a validation set of the forget set's distribution (of its class, where it is
    one class); here every clip counts, by the share of its class in the forget set.

    Raises:
        ParameterError: no validation set, one with training clips, or one that lacks a class

    """
    validation = data.validation
    if validation is None:
        raise ParameterError("rewind: it needs the validation set, which is not given")
    trained = set(data.forget.hashes) | set(data.retain.hashes if data.retain else ())
    shared = trained & set(validation.hashes)
    if shared:
        raise ParameterError(f"validation: {len(shared)} training clips are among them")
    shares = torch.bincount(data.forget.labels, minlength=data.n_classes).double()
    counts = torch.bincount(validation.labels, minlength=data.n_classes)
    absent = torch.nonzero((shares > 0) & (counts == 0)).flatten().tolist()
    if absent:
        raise ParameterError(f"validation: it has no clip of classes {absent} of the forget set")
    return (shares / shares.sum() / counts.clamp(min=1))[validation.labels]


METHOD = Method("scrub", "SCRUB", {"forget", "retain"}, Parameters, run)
