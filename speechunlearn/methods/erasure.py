"""Unlearning an attribute: what no label names and the representation carries all the same.

A forget set is recordings; an attribute, such as the speaker's gender, is in all of them. `project`
takes what a linear reader sees of it out of what the head is given, in closed form; `reverse`
trains the encoder against a reader that learns beside it. Both need clips with the attribute.

Between frames and logits the networks of this package have nothing but affine maps (projector,
mean over the frames, classifier): the pooled representation is the mean of the encoder's last
hidden states, and a projection of it is folded into the projector without a rest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechunlearn.dataset.clips import Clips, sorted_batches
from speechunlearn.errors import ModelError, NotNegative, ParameterError
from speechunlearn.methods.base import Batch, Descent, Work, descend
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.training import at_once, logits_of

#: width of the reader's hidden layer in `reverse`
WIDTH = 64
#: variance of a direction, as a share of the largest, below which it is rounding
_ROUNDING = 1e-9


def attribute(manifest: pd.DataFrame, column: str) -> tuple[Int[np.ndarray, " clips"], list[str]]:
    """Return an attribute's value of each clip, as an index, and the values in their order.

    Args:
        manifest: table of clips, with ``path``
        column: of the attribute, e.g. ``gender``

    Raises:
        ParameterError: no such column, a clip without a value (the first is named), or one value
            only

    """
    if column not in manifest:
        known = ", ".join(map(str, manifest.columns))
        raise ParameterError(f"attribute: no column {column!r}; there are {known}")
    values = manifest[column]
    missing = values.isna() | (values.astype(str).str.strip() == "")
    if missing.any():
        raise ParameterError(
            f"attribute {column!r}: {int(missing.sum())} of {len(values)} clips have no value, "
            f"the first is {str(manifest.loc[missing, 'path'].iloc[0])!r}"
        )
    codes, names = pd.factorize(values.astype(str), sort=True)
    if len(names) < 2:
        raise ParameterError(
            f"attribute {column!r}: {len(names)} value {', '.join(map(repr, names))}: "
            "there is nothing to tell apart"
        )
    return codes, list(names)


def _checked(codes: Sequence[int] | np.ndarray, n: int) -> Int[np.ndarray, " clips"]:
    """Refuse values that are not those of n clips, or that tell none of them apart."""
    codes = np.array(codes)
    if len(codes) != n:
        raise ParameterError(f"codes: {len(codes)} for {n} clips")
    if codes.min() < 0:
        raise ParameterError(f"codes: clip {codes.argmin()} has no value ({codes.min()})")
    if codes.min() == codes.max():
        raise ParameterError("codes: one value only: there is nothing to tell apart")
    return codes


@contextmanager
def headless(model: Classifier, *, projected: bool = False) -> Iterator[torch.nn.Sequential]:
    """Let a classifier answer with its pooled representation inside the block.

    Args:
        model: given back with its head
        projected: with what the projector makes of it, which the classifier's layer is given

    Yields:
        what is left out: it makes the logits of the representation

    Raises:
        ModelError: a network without a linear projector and classifier

    """
    network, names = model.network, ["projector", "classifier"]
    layers: dict[str, Any] = {name: getattr(network, name, None) for name in names}
    for name, layer in layers.items():
        if not isinstance(layer, torch.nn.Linear):
            raise ModelError(f"{type(network).__name__} has no linear layer {name!r}")
    names = names[projected:]
    try:
        for name in names:
            setattr(network, name, torch.nn.Identity())
        yield torch.nn.Sequential(*(layers[name] for name in names))
    finally:
        for name in names:
            setattr(network, name, layers[name])


def representation(
    model: Classifier, clips: Clips, *, projected: bool = False
) -> Float[np.ndarray, "clips width"]:
    """Return the pooled representation of each clip, in eval mode, see `headless`."""
    parts, order = [], []
    was_training = model.training
    model.eval()
    with headless(model, projected=projected), torch.no_grad():
        for positions in sorted_batches(clips.lengths, 32, at_once(model)):
            parts.append(logits_of(model, clips, positions).double().cpu())
            order += positions
    model.train(was_training)
    return torch.cat(parts).numpy()[np.argsort(order)]


def leace(
    pooled: Float[np.ndarray, "clips width"], codes: Int[np.ndarray, " clips"]
) -> tuple[Float[np.ndarray, "width width"], Float[np.ndarray, " width"]]:
    r"""Return the affine map that erases an attribute: the smallest change that does so.

    .. math::

        x \mapsto x - W^+ U U^\top W (x - \bar x), \quad W = (\Sigma_{xx}^{1/2})^+

    with the columns of U spanning those of :math:`W \Sigma_{xz}`, z the attribute one-hot. After
    it the values have equal means, and no linear reader of these clips does better than a constant
    (Belrose et al. 2023, theorem 4.3, https://arxiv.org/abs/2306.03819).

    Args:
        pooled: representation
        codes: value of each clip

    Raises:
        ParameterError: as many values as clips, two or more, are not there

    Returns:
        P and b of :math:`x \mapsto P x + b`

    Examples:
        >>> corners = np.array([[0.0, 1.0], [0.0, 3.0], [2.0, 1.0], [2.0, 3.0]])
        >>> projection, offset = leace(corners, np.array([0, 0, 1, 1]))
        >>> (corners @ projection.T + offset).round(6).tolist()
        [[1.0, 1.0], [1.0, 3.0], [1.0, 1.0], [1.0, 3.0]]

    """
    codes = _checked(codes, len(pooled))
    mean, values = pooled.mean(axis=0), np.eye(codes.max() + 1)[codes]
    centred = pooled - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = variances > _ROUNDING * variances.max()
    scale, directions = np.sqrt(variances[kept]), directions[:, kept]
    cross = (directions / scale).T @ centred.T @ (values - values.mean(axis=0)) / len(centred)
    span, size, _ = np.linalg.svd(cross, full_matrices=False)
    span = span[:, size > _ROUNDING * max(size.max(), 1)]
    projection = np.eye(len(mean)) - (directions * scale) @ span @ span.T @ (directions / scale).T
    return projection, mean - projection @ mean


def fold(
    model: Classifier, projection: Float[np.ndarray, "width width"], offset: Any
) -> Classifier:
    """Return a copy whose projector is given P x + b in place of its pooled x: a checkpoint."""
    model = copy.deepcopy(model)
    layer = model.network.projector
    weight = layer.weight.detach().double().cpu()
    with torch.no_grad():
        layer.bias += (weight @ torch.from_numpy(offset)).to(layer.bias)
        layer.weight.copy_(weight @ torch.from_numpy(projection))
    return model


def project(model: Classifier, clips: Clips, codes: Int[np.ndarray, " clips"]) -> Classifier:
    """Return a copy from whose head an attribute is erased by `leace`; its encoder still has it.

    Args:
        model: the original, unchanged
        clips: that the map is fitted on
        codes: value of each, see `attribute`

    Raises:
        ParameterError: see `leace`

    """
    codes = _checked(codes, len(clips))
    return fold(model, *leace(representation(model, clips), codes))


@dataclass(frozen=True)
class Reversal(Descent):
    """A descent on the task and, reversed, on a reader of the attribute.

    Args:
        weight: of the reversed gradient at the end; it grows as Ganin and Lempitsky's (2015) does

    """

    weight: NotNegative[float] = 1.0


def reverse_gradient(values: Tensor, weight: float) -> Tensor:
    """Return the values; their gradient is times -weight (Ganin and Lempitsky 2015)."""
    same = values.view_as(values)
    same.register_hook(lambda gradient: -weight * gradient)
    return same


def reverse(
    model: Classifier, clips: Clips, codes: Sequence[int] | np.ndarray, reversal: Reversal, *,
    seed: int,
) -> Classifier:
    r"""Return a copy that is trained on its task and against a reader of the attribute.

    The reader (one hidden layer of `WIDTH`) learns the attribute from the pooled representation;
    the encoder gets its gradient reversed, times
    :math:`\lambda (2 / (1 + e^{-10 p}) - 1)` with the share p of the steps that are done. A weight
    of 0 is the same descent without the reversal.

    Args:
        model: the original, unchanged
        clips: training clips with their labels
        codes: value of each, see `attribute`
        reversal: hyperparameters
        seed: source of everything that is drawn

    Raises:
        ParameterError: see `leace`

    """
    truth = torch.as_tensor(_checked(codes, len(clips)))
    model = copy.deepcopy(model)
    steps = reversal.epochs * -(-len(clips) // reversal.batch_size)
    projector = model.network.projector
    with headless(model) as head, seeded(seed):
        reader = torch.nn.Sequential(
            torch.nn.Linear(projector.in_features, WIDTH), torch.nn.ReLU(),
            torch.nn.Linear(WIDTH, int(truth.max()) + 1),
        ).to(projector.weight.device)
        model.beside = torch.nn.ModuleList([head, reader])

        def loss(model: Classifier, batch: Batch) -> Tensor:
            pooled, at = logits_of(model, clips, batch.positions), batch.positions
            weight = reversal.weight * (2 / (1 + np.exp(-10 * batch.step / steps)) - 1)
            guess = reader(reverse_gradient(pooled, weight))
            task = cross_entropy(head(pooled), clips.labels[at].to(pooled.device))
            return task + cross_entropy(guess, truth[at].to(pooled.device))

        descend(model, clips, loss, reversal, Work(seed=seed))
        del model.beside
    return model.eval()
