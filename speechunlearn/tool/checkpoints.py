"""Anyone's checkpoint, read without running anything that lies in it, and written back in kind.

A checkpoint is a folder, or a hub id, that transformers' ``AutoModelForAudioClassification`` and
``AutoFeatureExtractor`` read: wav2vec 2.0 and its relatives on waveforms, and the Audio Spectrogram
Transformer and Whisper's encoder on spectrograms that are computed here, so that a gradient reaches
the waveform. Weights come from safetensors, or from a pickle that torch reads with
``weights_only=True``; a checkpoint that asks for code of its own is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechunlearn.errors import ModelError
from speechunlearn.models import Classifier, Frontend

#: architectures that take waveforms
ON_WAVEFORMS = (
    "data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2",
    "wav2vec2-conformer", "wavlm",
)
#: architectures that take spectrograms which are computed here
ON_SPECTROGRAMS = ("audio-spectrogram-transformer", "whisper")

_CONFIG, _EXTRACTOR = "config.json", "preprocessor_config.json"
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"


class WaveformClassifier(Classifier):
    """A classifier on waveforms, as `speechunlearn.models.Classifier`, of any of `ON_WAVEFORMS`.

    Args:
        network: a transformers audio-classification model
        labels: class names, in the order of the logits
        extractor: transformers' feature extractor of the checkpoint
        unit: what a waveform is divided by before it comes here, a power of two, so that nothing
            is rounded: 1 where the extractor normalises

    """

    def __init__(
        self, network: torch.nn.Module, labels: list[str], extractor: Any, unit: float = 1.0
    ) -> None:
        frontend = Frontend(
            sampling_rate=int(extractor.sampling_rate),
            do_normalize=_normalises(network, extractor),
            return_attention_mask=bool(getattr(extractor, "return_attention_mask", False)),
        )
        super().__init__(network, labels, frontend)
        self.extractor = extractor
        self.unit = unit

    def forward(
        self, waveform_z: Float[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Return logits; see `speechunlearn.models.Classifier.forward`."""
        return super().forward(waveform_z * self.unit if self.unit != 1 else waveform_z, lengths)

    @property
    def heard_seconds(self) -> float:
        """Seconds from the start of a clip that the model hears; infinite where it hears all."""
        return float("inf")

    @property
    def answers_alone(self) -> bool:
        """Whether a clip's answer must be asked for alone: the network takes padding for speech."""
        return not self.frontend.return_attention_mask


class SpectrogramClassifier(WaveformClassifier):
    """A classifier whose features are computed from the waveform, differentiably."""

    def forward(
        self, waveform_z: Float[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Return logits; see `speechunlearn.models.Classifier.forward`."""
        inside = torch.arange(waveform_z.shape[1], device=waveform_z.device) < lengths[:, None]
        return self.network(self.features(waveform_z * self.unit * inside, lengths)).logits

    def features(
        self, waveform: Float[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch rows columns"]:
        """Return what the extractor makes of waveforms, with a gradient.

        Args:
            waveform: in the units of the file, zero-padded
            lengths: samples of each clip

        """
        raise NotImplementedError

    @property
    def answers_alone(self) -> bool:
        """See `WaveformClassifier`; every clip is brought to one length here."""
        return False


class FilterBankClassifier(SpectrogramClassifier):
    """The Audio Spectrogram Transformer (Gong et al. 2021): log mel filter banks of Kaldi."""

    def features(
        self, waveform: Float[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames bands"]:
        """See `SpectrogramClassifier.features`."""
        from torchaudio.compliance import kaldi

        rows = []
        for clip, length in zip(waveform, lengths.tolist(), strict=True):
            bank = kaldi.fbank(
                clip[None, :length], sample_frequency=self.frontend.sampling_rate,
                window_type="hanning", num_mel_bins=self.extractor.num_mel_bins,
            )[: self.extractor.max_length]
            rows.append(
                torch.nn.functional.pad(bank, (0, 0, 0, self.extractor.max_length - len(bank)))
            )
        found = torch.stack(rows)
        if not self.extractor.do_normalize:
            return found
        return (found - self.extractor.mean) / (self.extractor.std * 2)

    @property
    def heard_seconds(self) -> float:
        """See `WaveformClassifier`: frames come every 10 ms."""
        return self.extractor.max_length / 100


class LogMelClassifier(SpectrogramClassifier):
    """Whisper's encoder (Radford et al. 2022): log mel spectrograms of a fixed length."""

    def features(
        self, waveform: Float[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch bands frames"]:
        """See `SpectrogramClassifier.features`."""
        own = self.extractor
        waveform = waveform[:, : own.n_samples]
        waveform = torch.nn.functional.pad(waveform, (0, own.n_samples - waveform.shape[1]))
        spectrum = torch.stft(
            waveform, own.n_fft, own.hop_length, return_complex=True,
            window=torch.hann_window(own.n_fft, device=waveform.device),
        )[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        filters = torch.as_tensor(own.mel_filters, dtype=torch.float32, device=power.device)
        log = (filters.T @ power).clamp(min=1e-10).log10()
        loudest = log.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log, loudest - 8.0) + 4.0) / 4.0

    @property
    def heard_seconds(self) -> float:
        """See `WaveformClassifier`."""
        return self.extractor.n_samples / self.frontend.sampling_rate


def load(source: str | Path) -> WaveformClassifier:
    """Read a checkpoint.

    Args:
        source: folder, or hub id (owner/name)

    Returns:
        the classifier, in eval mode, its weights in single precision

    Raises:
        ModelError: a checkpoint that is missing, damaged or incomplete, that asks for code of its
            own, or whose features a gradient does not get through

    """
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    folder = _folder(source)
    config_json = _json(folder, _CONFIG)
    extractor_json = _json(folder, _EXTRACTOR)
    for name, found in ((_CONFIG, config_json), (_EXTRACTOR, extractor_json)):
        if "auto_map" in found:
            raise ModelError(f"model {str(source)!r}: {name} asks for code of its own (auto_map)")
    kind = config_json.get("model_type")
    if kind not in (*ON_WAVEFORMS, *ON_SPECTROGRAMS):
        known = ", ".join((*ON_WAVEFORMS, *ON_SPECTROGRAMS))
        raise ModelError(f"model {str(source)!r}: model_type {kind!r} is not one of {known}")
    if kind == "wavlm":  # of transformers' own code, at each answer
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    shapes = _shapes(folder)
    layers = config_json.get("num_hidden_layers", config_json.get("encoder_layers", 1))
    if isinstance(layers, int) and layers > len(shapes):
        raise ModelError(
            f"model {str(source)!r}: {_CONFIG} has {layers} layers, more than there are weights"
        )
    with _quiet(), _refused(source):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            empty = AutoModelForAudioClassification.from_config(config, trust_remote_code=False)
        _check_shapes(source, empty, shapes)
        network, info = AutoModelForAudioClassification.from_pretrained(
            folder, config=config, trust_remote_code=False, weights_only=True,
            dtype=torch.float32, output_loading_info=True,
            use_safetensors=any(folder.glob("*.safetensors")),
        )
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"model {str(source)!r} has no weights of {missing[0]!r} ({len(missing)} missing): "
            "a classifier that was fine-tuned is needed"
        )
    labels = [str(config.id2label.get(i)) for i in range(config.num_labels)]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ModelError(f"model {str(source)!r}: label names {labels} are not two or more, once")
    check_finite(source, network)
    kinds = {"audio-spectrogram-transformer": FilterBankClassifier, "whisper": LogMelClassifier}
    with _refused(source):
        model = kinds.get(str(kind), WaveformClassifier)(network, labels, extractor)
    if not 1000 <= model.frontend.sampling_rate <= 192_000:
        raise ModelError(f"model {str(source)!r}: sampling_rate {model.frontend.sampling_rate} Hz")
    return model.eval()


def save(model: WaveformClassifier, source: str | Path, out: Path) -> None:
    """Write a checkpoint that transformers loads as it does the source.

    Configs are the source's own, unchanged; weights are safetensors in the source's precision.

    Args:
        model: what was made of the source
        source: the checkpoint it came from
        out: folder that exists

    Raises:
        ModelError: weights that are not finite

    """
    from transformers.utils import logging as hf_logging

    check_finite("unlearned", model.network)
    hf_logging.disable_progress_bar()
    origin = _folder(source)
    before = next((n.dtype for n in _dtypes(origin)), torch.float32)
    network = model.network
    if before != torch.float32:
        network = network.to(before)
    try:
        network.save_pretrained(out, safe_serialization=True)
    finally:
        network.to(torch.float32)
    for name in (_CONFIG, _EXTRACTOR):
        (out / name).write_bytes((origin / name).read_bytes())


def digest(source: str | Path) -> str:
    """Return a SHA-256 over the config and weights of a checkpoint, by name and content."""
    folder = _folder(source)
    found = hashlib.sha256()
    files = [folder / _CONFIG, folder / _EXTRACTOR, *_weight_files(folder)]
    for path in files:
        found.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def check_finite(source: str | Path, network: torch.nn.Module) -> None:
    """Raise ModelError if a weight is NaN or infinite."""
    for name, weight in network.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ModelError(f"model {str(source)!r}: weights of {name!r} are NaN or infinite")


def _folder(source: str | Path) -> Path:
    """Return the folder of a checkpoint, after downloading it where it is a hub id."""
    text = str(source)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if text.startswith((".", "/", "~")) or text.count("/") != 1 or folder.exists():
        raise ModelError(f"model {text!r}: no such folder, and not a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    with _refused(source):
        return Path(
            snapshot_download(
                text, allow_patterns=[_CONFIG, _EXTRACTOR, "*.safetensors", f"*{_INDEX}"]
            )
        )


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ModelError(f"model {str(folder)!r} has no {name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model {str(folder)!r}: {name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"model {str(folder)!r}: {name} holds no object")
    return found


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights; none lies outside of the folder.

    Raises:
        ModelError: there are none

    """
    safe = sorted(folder.glob("*.safetensors"))
    found = safe or sorted(folder.glob("pytorch_model*.bin"))
    if not found:
        raise ModelError(f"model {str(folder)!r} has no weights (*.safetensors)")
    for index in folder.glob(f"*{_INDEX}"):
        named = _json(folder, index.name).get("weight_map", {})
        if not isinstance(named, dict):
            raise ModelError(f"model {str(folder)!r}: {index.name} has no weight_map")
        for name in set(named.values()):
            if not isinstance(name, str) or Path(name).name != name:
                raise ModelError(f"model {str(folder)!r}: {index.name} names {name!r}, no file")
            if not (folder / name).is_file():
                raise ModelError(f"model {str(folder)!r}: {name}, of {index.name}, is missing")
    return found


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight in the files, from their headers."""
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    with _refused(folder):
        for path in _weight_files(folder):
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    shapes |= {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
            else:
                state = torch.load(path, map_location="meta", weights_only=True)
                shapes |= {k: tuple(v.shape) for k, v in state.items() if hasattr(v, "shape")}
    return shapes


def _dtypes(folder: Path) -> Iterator[Tensor]:
    """Yield the weights' slices of the first file, as empty tensors of their type."""
    from safetensors import safe_open

    for path in _weight_files(folder)[:1]:
        if path.suffix != ".safetensors":
            return
        with safe_open(path, framework="pt") as file:
            for key in file.keys():
                weight = file.get_slice(key)
                if str(weight.get_dtype()).startswith(("F", "BF")):
                    yield weight[:0]


def _check_shapes(
    source: str | Path, empty: torch.nn.Module, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Refuse weights of other shapes than the config's, before any memory is asked for."""
    for name, weight in empty.state_dict().items():
        if name in shapes and tuple(weight.shape) != shapes[name]:
            raise ModelError(
                f"model {str(source)!r}: {name!r} has the shape {list(shapes[name])}, "
                f"by {_CONFIG} it is {list(weight.shape)}"
            )


def _normalises(network: torch.nn.Module, extractor: Any) -> bool:
    """Whether the extractor gives every clip zero mean and unit variance."""
    on_waveforms = getattr(network.config, "model_type", "") in ON_WAVEFORMS
    return on_waveforms and bool(getattr(extractor, "do_normalize", True))


@contextlib.contextmanager
def _refused(source: str | Path) -> Iterator[None]:
    """Turn whatever a library says of a damaged checkpoint into a ModelError that names it.

    What lies in a checkpoint is anyone's, and the libraries that parse it raise almost anything.
    """
    try:
        yield
    except (ModelError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise ModelError(f"model {str(source)!r} cannot be loaded: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from writing bars and warnings of what is checked here."""
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logger = logging.getLogger("transformers")
    propagate = logger.propagate
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate = propagate
        hf_logging.set_verbosity(verbosity)
