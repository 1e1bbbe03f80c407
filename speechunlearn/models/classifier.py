"""The classifier: a transformers speech encoder with a classification head.

An encoder is named in one of three ways: ``nano`` (the wav2vec 2.0 architecture at about 0.6 M
parameters, random weights), a local folder in transformers' layout, or a hub id such as
``facebook/wav2vec2-base``. Checkpoints are safetensors plus a JSON card.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from speechunlearn import registry
from speechunlearn.dataset.clips import Lengths, Logits, Waveforms
from speechunlearn.errors import ModelError, ParameterError

#: wav2vec 2.0 (Baevski et al. 2020) made small. Three convolutions instead of seven give frames at
#: 25 Hz; the first is as wide as a short-time Fourier transform's window (25 ms, a step of 10 ms),
#: which a small corpus can train where seven narrow ones cannot. Layer norm rather than group norm:
#: with the attention mask the logits of a clip then do not depend on the padding of its batch. The
#: convolutions have a bias, or the layer norm would make every frame scale-free and lose the
#: energy contour. What is not named here is as in the config of the original.
NANO: dict[str, Any] = {
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 2),
    "conv_dim": (256, 128, 128),
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "num_conv_pos_embeddings": 16,
    "do_stable_layer_norm": True,
    "classifier_proj_size": 96,
    "feat_proj_dropout": 0.1,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "vocab_size": 4,
}


@dataclass(frozen=True)
class Frontend:
    """How a waveform is prepared for the encoder: its feature-extractor config.

    Args:
        sampling_rate: in Hz
        do_normalize: zero mean and unit variance a clip
        return_attention_mask: whether the encoder is told what is padding

    """

    sampling_rate: int = 16000
    do_normalize: bool = True
    return_attention_mask: bool = True

    @classmethod
    def of(cls, extractor: Any) -> Frontend:
        """Return what transformers' feature extractor does."""
        return cls(
            sampling_rate=int(extractor.sampling_rate),
            do_normalize=bool(getattr(extractor, "do_normalize", True)),
            return_attention_mask=bool(getattr(extractor, "return_attention_mask", False)),
        )


class Classifier(torch.nn.Module):
    """A speech encoder with a classification head.

    Args:
        network: a transformers audio-classification model (wav2vec 2.0, HuBERT, WavLM)
        labels: class names, in the order of the logits
        frontend: how its waveforms are prepared

    """

    network: Any  # transformers' classes, whose attributes torch's typing does not know

    def __init__(self, network: torch.nn.Module, labels: Sequence[str], frontend: Frontend) -> None:
        super().__init__()
        self.network = network
        self.labels = tuple(labels)
        self.frontend = frontend

    def forward(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return logits.

        Args:
            waveform_z: normalised waveforms, zero-padded
            lengths: samples of each clip, the rest is padding

        """
        mask = None
        if self.frontend.return_attention_mask:
            positions = torch.arange(waveform_z.shape[1], device=waveform_z.device)
            mask = (positions[None, :] < lengths[:, None]).long()
        return self.network(waveform_z, attention_mask=mask).logits

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write safetensors, configs and ``card.json`` into a folder."""
        from transformers import Wav2Vec2FeatureExtractor

        self.network.config.id2label = dict(enumerate(self.labels))
        self.network.config.label2id = {label: i for i, label in enumerate(self.labels)}
        with quiet():
            self.network.save_pretrained(folder, safe_serialization=True)
        Wav2Vec2FeatureExtractor(**asdict(self.frontend)).save_pretrained(folder)
        (folder / "card.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


@cache
def carried() -> dict[str, Path]:
    """Return the encoders that are at hand by name: folders, each with weights and a card.

    They lie in ``speechunlearn/encoders``; another package adds one by an entry point of the group
    ``speechunlearn.encoders`` that leads to the path of such a folder.

    Raises:
        RegistryError: an entry point that leads to something else, or two encoders of one name

    """
    carried = Path(str(resources.files("speechunlearn").joinpath("encoders")))
    folders = {path.parent.name: path.parent for path in sorted(carried.glob("*/card.json"))}
    for point, folder in registry.added("speechunlearn.encoders"):
        if point.name == "nano" or point.name in folders:
            there = folders.get(point.name, "nano, which is made anew")
            raise registry.RegistryError(
                f"encoders: {point.name!r} is {str(there)!r} and {registry.said(point)}"
            )
        if not isinstance(folder, str | Path) or not (Path(folder) / "card.json").is_file():
            raise registry.RegistryError(
                f"{registry.said(point)} is {folder!r}, not the path of a folder with a card.json"
            )
        folders[point.name] = Path(folder)
    return folders


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing bars, and warnings of what is checked here."""
    from transformers.utils import logging as hf_logging

    verbosity, logger = hf_logging.get_verbosity(), logging.getLogger("transformers")
    propagate = logger.propagate
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate = propagate
        hf_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def seeded(*seed: int) -> Iterator[torch.Generator]:
    """Seed every source of randomness inside the block; restore them after it.

    transformers draws dropout from torch's global generator and SpecAugment from numpy's, which
    cannot be passed in: both are set here and given back unchanged.

    Args:
        seed: one or more non-negative integers; equal tuples give equal draws

    Yields:
        a generator of the block's own, for what can be passed in

    """
    state = np.random.SeedSequence(list(seed)).generate_state(3)
    numpy_state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(int(state[0]))
        np.random.seed(int(state[1]))
        try:
            yield torch.Generator().manual_seed(int(state[2]))
        finally:
            np.random.set_state(numpy_state)


def build(encoder: str, labels: Sequence[str], seed: int, **config: Any) -> Classifier:
    """Make a classifier from an encoder, with a new head.

    Args:
        encoder: ``nano``, a carried one such as ``nano-pretrained``, a local folder, or a hub id
        labels: class names
        seed: of the random weights (all of ``nano``'s, the head's otherwise)
        config: overrides of the transformers config, e.g. dropout or SpecAugment rates

    Raises:
        ModelError: a folder without config or weights, or an id that cannot be loaded

    """
    if len(labels) < 2:
        raise ParameterError(f"labels: {list(labels)}, but a classifier needs two classes or more")
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    with seeded(seed):
        if encoder == "nano":
            full = Wav2Vec2Config(
                **{**NANO, "num_labels": len(labels), "eos_token_id": None, **config}
            )
            network: Any = Wav2Vec2ForSequenceClassification(full)
            first = network.wav2vec2.feature_extractor.conv_layers[0].get_submodule("conv")
            assert isinstance(first, torch.nn.Conv1d)
            gabor_filters_(first)
            return Classifier(network, labels, Frontend())
        prepared = frontend(encoder)
        return Classifier(_network(encoder, num_labels=len(labels), **config), labels, prepared)


def gabor_filters_(convolution: torch.nn.Conv1d, sampling_rate: int = 16000) -> None:
    """Draw the first layer's random weights near a filter bank, in place.

    Its channels are cosines in four phases under Hann windows, evenly spaced to 1 kHz and on the
    mel scale above, as in learnable front ends (Zeghidour et al. 2021); the biases are normal.
    From white noise instead, a network this small learns from hours of speech, not minutes.

    Args:
        convolution: one input channel; the number of output channels a multiple of four
        sampling_rate: in Hz

    """
    channels, _, width = convolution.weight.shape
    bands = channels // 4
    low = np.linspace(75, 1000, bands // 3, endpoint=False)
    lowest, highest = 2595 * np.log10(1 + np.array([1000, 7600]) / 700)
    mel = np.linspace(lowest, highest, bands - len(low))
    centres = np.concatenate([low, 700 * (10 ** (mel / 2595) - 1)])
    seconds = (np.arange(width) - width / 2) / sampling_rate
    lengths = np.clip(2 / np.gradient(centres), 0.006, width / sampling_rate)[:, None]
    inside = np.abs(seconds) < lengths / 2
    windows = np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * seconds / lengths), 0)[:, None]
    angles = 2 * np.pi * centres[:, None] * seconds
    waves = windows * np.cos(angles[:, None] + np.arange(4)[:, None] * np.pi / 2)
    # speech falls with frequency: lift what is high
    lift = np.sqrt(centres / 1000 + 0.3)[:, None, None]
    filters = waves / np.linalg.norm(waves, axis=2, keepdims=True) * lift
    with torch.no_grad():
        convolution.weight[: 4 * bands, 0] = torch.from_numpy(filters.reshape(-1, width)).float()
        if convolution.bias is not None:
            convolution.bias.normal_(0, 0.2)


def check_encoder(encoder: str) -> None:
    """Raise ModelError if an encoder is a folder that lacks its config or weights."""
    if encoder == "nano":
        return
    source = _resolve(encoder)
    folder = Path(source)
    if not folder.exists():
        if source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise ModelError(f"encoder {encoder!r}: no such folder, and not a hub id (owner/name)")
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"encoder folder {encoder!r} has no config.json")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        card = folder / "card.json"
        how = json.loads(card.read_text()).get("fetch", "") if card.is_file() else ""
        more = f"; to fetch them: {how}" if how else ""
        raise ModelError(f"encoder folder {encoder!r} has no weights (*.safetensors){more}")


def pretrained_on(encoder: str) -> list[str]:
    """Return the corpora, by the names of their folders, that a carried encoder was trained on."""
    if encoder not in carried():
        return []
    card = json.loads((carried()[encoder] / "card.json").read_text())
    return [corpus["folder"] for corpus in card["data"]]


def encoder_hash(encoder: str) -> str:
    """Return a hash of an encoder's weights; of its name where it comes from a hub."""
    digest = hashlib.sha256()
    folder = Path(_resolve(encoder))
    if encoder == "nano" or not folder.is_dir():
        return hashlib.sha256(encoder.encode()).hexdigest()[:16]
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def frontend(encoder: str) -> Frontend:
    """Return how an encoder wants its waveforms prepared: its feature-extractor config.

    Raises:
        ModelError: an encoder without one

    """
    from transformers import AutoFeatureExtractor

    if encoder == "nano":
        return Frontend()
    check_encoder(encoder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(_resolve(encoder))
    except (OSError, ValueError) as error:
        raise ModelError(f"encoder {encoder!r} has no feature-extractor config: {error}") from error
    return Frontend.of(extractor)


def load(folder: Path) -> Classifier:
    """Load a checkpoint that `Classifier.save` wrote.

    Raises:
        ModelError: a folder that is no checkpoint

    """
    check_encoder(str(folder))
    network = _network(str(folder))
    id2label = network.config.id2label
    labels = [id2label[i] for i in range(len(id2label))]
    return Classifier(network, labels, frontend(str(folder))).eval()


def _network(encoder: str, **config: Any) -> Any:
    """Load transformers' classifier, or this package's where transformers has none that is right.

    Args:
        encoder: see `build`; not ``nano``
        config: overrides of its config

    Raises:
        ModelError: it cannot be loaded

    """
    from transformers import AutoConfig, AutoModelForAudioClassification, PretrainedConfig

    source = _resolve(encoder)
    try:
        with quiet():  # transformers warns that the head is new; here it always is
            kind = str(PretrainedConfig.get_config_dict(source)[0].get("model_type"))
            if kind in ("moonshine", "moonshine_classifier"):
                from speechunlearn.models import moonshine

                return moonshine.load(source, **config)
            full = AutoConfig.from_pretrained(source, **config)
            return AutoModelForAudioClassification.from_pretrained(
                source, config=full, ignore_mismatched_sizes=bool(config)
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"encoder {encoder!r} cannot be loaded: {error}") from error


def _resolve(encoder: str) -> str:
    return str(carried().get(encoder, encoder))
