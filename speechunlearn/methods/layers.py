"""The layers of a classifier, counted from its answer down."""

import contextlib
import re
from collections.abc import Collection, Iterator

import torch

from speechunlearn.errors import ParameterError
from speechunlearn.models.classifier import Classifier

#: architectures with a norm after their last block, beside those whose config says so
_NORM_ON_TOP = ("audio-spectrogram-transformer", "moonshine_classifier", "whisper")
_NORM = re.compile(r"\.(encoder|\w+_transformer)\.layer_?norm\.")


def layers(model: Classifier) -> list[list[str]]:
    """Return the names of the weights of each layer, the classification head first.

    Of a transformers model, the layers are the head; the projector, with the weights of a sum over
    blocks, if there are any; each transformer block, from the top, the norm after the last block
    belonging to it; and all below the blocks (convolutions, projection of the features, positions)
    as one. Of another network, they are its children, the last one first.
    """
    names = [name for name, _ in model.named_parameters()]
    # "network.<child>.<...>"; what has no child is a sum over blocks, which feeds the projector
    children = list(dict.fromkeys(n.split(".")[1] for n in names if n.count(".") > 1))
    depth = {child: place for place, child in enumerate(reversed(children))}
    blocks = {n: int(m[1]) for n in names if (m := re.search(r"\.layers?\.(\d+)\.", n))}
    config = getattr(model.network, "config", None)
    norm_on_top = (
        getattr(config, "do_stable_layer_norm", False)
        or getattr(config, "model_type", "") in _NORM_ON_TOP
    )

    def place(name: str) -> tuple[int, int]:
        child = depth.get(name.split(".")[1], 1)
        if name in blocks:
            return child, -blocks[name]
        if blocks and norm_on_top and _NORM.search(name):
            return child, -max(blocks.values())
        return child, 1

    places = sorted({place(name) for name in names})
    return [[name for name in names if place(name) == here] for here in places]


def last(model: Classifier, k: int) -> list[str]:
    """Return the names of the weights of the last k layers.

    Raises:
        ParameterError: the classifier has fewer layers

    """
    every_layer = layers(model)
    if k > len(every_layer):
        raise ParameterError(f"k: {k}, but the classifier has {len(every_layer)} layers")
    return [name for layer in every_layer[:k] for name in layer]


def head(model: Classifier) -> torch.nn.Module:
    """Return the layer that gives the logits: of a head of several modules, the last one."""
    return model.get_submodule(layers(model)[0][-1].rpartition(".")[0])


@contextlib.contextmanager
def only_trainable(model: torch.nn.Module, names: Collection[str]) -> Iterator[None]:
    """Hold every weight but these where it is; let all move again after it."""
    trainable = {name: weight.requires_grad for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        weight.requires_grad_(trainable[name] and name in names)
    try:
        yield
    finally:
        for name, weight in model.named_parameters():
            weight.requires_grad_(trainable[name])
