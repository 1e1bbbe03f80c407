"""Anyone's checkpoint, read without running anything that lies in it, and written back in kind.

A checkpoint is a folder, or a hub id, that transformers' ``AutoModelForAudioClassification`` and
``AutoFeatureExtractor`` read: wav2vec 2.0 and its relatives on waveforms, and the Audio Spectrogram
Transformer and Whisper's encoder on spectrograms that are computed here, so that a gradient reaches
the waveform. Weights come from safetensors, or from a pickle that torch reads with
``weights_only=True``; a checkpoint that asks for code of its own is refused. Of JSON, only what is
checked here is used, and its numbers are bounded by the weights before memory is asked for.
"""

import contextlib
import hashlib
import json
import math
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from speechunlearn.dataset.clips import Lengths, Logits, Waveforms
from speechunlearn.errors import CONTROL, ModelError
from speechunlearn.models.classifier import Classifier, Frontend, quiet
from speechunlearn.tool import output_folder

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

#: a config larger than this is none
_MAX_JSON = 16 * 2**20
_MAX_LABELS = 100_000
#: settings by which a config asks for more than an architecture, and what for
_REFUSED = {
    "auto_map": "code of its own (auto_map)",
    "quantization_config": "a quantised model (quantization_config)",
    "transformers_weights": "other weights (transformers_weights)",
}
_ATTENTION = ("attn_implementation", "_attn_implementation", "experts_implementation")
#: settings that count modules, none of which is without weights
_COUNTS = ("num_hidden_layers", "encoder_layers", "num_adapter_layers")
_MAX_FRAMES = 1000  # a second; published encoders have 25 to 50
#: settings of the extractors -> the least and the most that make sense
_BOUNDS = {
    "sampling_rate": (1000, 192_000), "feature_size": (1, 1024), "num_mel_bins": (1, 1024),
    "max_length": (1, 100_000), "n_fft": (2, 65_536), "hop_length": (1, 65_536),
    "chunk_length": (1, 300), "n_samples": (1, 300 * 192_000),
}


class WaveformClassifier(Classifier):
    """A classifier on waveforms, as `speechunlearn.models.classifier.Classifier`, of any of
    `ON_WAVEFORMS`.

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
        frontend = Frontend.of(extractor)
        if getattr(network.config, "model_type", "") not in ON_WAVEFORMS:
            frontend = replace(frontend, do_normalize=False)  # spectrograms are, not waveforms
        super().__init__(network, labels, frontend)
        self.extractor = extractor
        self.unit = unit
        self.source = ""  # where it came from, for messages

    def forward(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return logits; see `speechunlearn.models.classifier.Classifier.forward`.

        Raises:
            ModelError: the network has no answer, as to clips that are too short for it

        """
        try:
            return self.logits(waveform_z, lengths)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            seconds = [round(n / self.frontend.sampling_rate, 3) for n in lengths.tolist()]
            raise ModelError(
                f"model {self.source!r} has no answer to clips of {min(seconds)} to "
                f"{max(seconds)} s: {_reason(error)}"
            ) from error

    def logits(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return logits, whatever the network raises."""
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

    def logits(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """See `WaveformClassifier.logits`."""
        inside = torch.arange(waveform_z.shape[1], device=waveform_z.device) < lengths[:, None]
        return self.network(self.features(waveform_z * self.unit * inside, lengths)).logits

    def features(
        self, waveform: Waveforms, lengths: Lengths
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
        self, waveform: Waveforms, lengths: Lengths
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
        self, waveform: Waveforms, lengths: Lengths
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
    from transformers import AutoModelForAudioClassification

    folder = _folder(source)
    with quiet(), _named(source):
        config_json, extractor_json = _json(folder, _CONFIG), _json(folder, _EXTRACTOR)
        for name, found in ((_CONFIG, config_json), (_EXTRACTOR, extractor_json)):
            for setting, what in _REFUSED.items():
                if setting in found:
                    raise _Unfit(f"{name} asks for {what}")
        if (folder / "adapter_config.json").exists():
            raise _Unfit("it is an adapter of another: merge them first")
        kind, known = config_json.get("model_type"), (*ON_WAVEFORMS, *ON_SPECTROGRAMS)
        if kind not in known:
            raise _Unfit(f"model_type {kind!r} is not one of {', '.join(known)}")
        config = _config(kind, config_json)
        extractor = _extractor(kind, extractor_json)
        shapes = _shapes(folder)
        _check_sizes(config, extractor, shapes)
        with torch.device("meta"):
            empty = AutoModelForAudioClassification.from_config(config, trust_remote_code=False)
        _check_shapes(empty, shapes)
        network, info = AutoModelForAudioClassification.from_pretrained(
            folder, config=config, trust_remote_code=False, weights_only=True,
            dtype=torch.float32, output_loading_info=True,
            use_safetensors=any(folder.glob("*.safetensors")),
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise _Unfit(
                f"no weights of {missing[0]!r} ({len(missing)} missing): "
                "a classifier that was fine-tuned is needed"
            )
        check_finite(source, network)
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        kinds = {"audio-spectrogram-transformer": FilterBankClassifier, "whisper": LogMelClassifier}
        model = kinds.get(kind, WaveformClassifier)(network, labels, extractor).eval()
        model.source = str(source)
        _check_answers(model)
    if kind == "wavlm":  # of transformers' own code, at each answer
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    return model


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
    check_finite("unlearned", model.network)
    origin = _folder(source)
    with _named(source):
        before = _dtype(origin)
    network = model.network
    if before != torch.float32:
        network = network.to(before)
    try:
        with quiet():
            network.save_pretrained(out, safe_serialization=True)
    finally:
        network.to(torch.float32)
    for name in (_CONFIG, _EXTRACTOR):
        (out / name).write_bytes((origin / name).read_bytes())


def digest(source: str | Path) -> str:
    """Return a SHA-256 over the config and weights of a checkpoint, by name and content."""
    folder = _folder(source)
    found = hashlib.sha256()
    with _named(source):
        for path in [folder / _CONFIG, folder / _EXTRACTOR, *_weight_files(folder)]:
            found.update(path.name.encode() + b"\0" + bytes.fromhex(output_folder.sha256(path)))
    return found.hexdigest()


def check_finite(source: str | Path, network: torch.nn.Module) -> None:
    """Raise ModelError if a weight is NaN or infinite."""
    for name, weight in network.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ModelError(f"model {str(source)!r}: weights of {name!r} are NaN or infinite")


def _folder(source: str | Path) -> Path:
    """Return the folder of a checkpoint, after downloading it where it is a hub id."""
    text = str(source)
    folder = output_folder.path("model", text)
    if folder.is_dir():
        return folder
    if text.startswith((".", "/", "~")) or text.count("/") != 1 or folder.exists():
        raise ModelError(f"model {text!r}: no such folder, and not a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    wanted = [_CONFIG, _EXTRACTOR, "*.safetensors", f"*{_INDEX}"]
    with _named(source):
        return Path(snapshot_download(text, allow_patterns=wanted))


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise _Unfit(f"no {name}")
    if path.stat().st_size > _MAX_JSON:
        raise _Unfit(f"{name} has more than {_MAX_JSON} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Unfit(f"{name} cannot be read: {_reason(error)}") from error
    if not isinstance(found, dict):
        raise _Unfit(f"{name} holds no object")
    return found


def _config(kind: str, found: dict[str, Any]) -> Any:
    """Return transformers' config of a checkpoint, made from JSON that is read and checked.

    Raises:
        _Unfit: a setting that is not one of an architecture, or odd label names

    """
    from transformers import CONFIG_MAPPING

    made = CONFIG_MAPPING[kind]
    for name, value in found.items():
        if name in _ATTENTION and value not in (None, "eager", "sdpa"):
            raise _Unfit(f"{_CONFIG} asks for the kernel {value!r} ({name})")
        if callable(getattr(made, name, None)):
            raise _Unfit(f"{_CONFIG} has {name!r}, which is no setting")
    number, names = found.get("num_labels"), found.get("id2label")
    if number is not None and not (type(number) is int and 2 <= number <= _MAX_LABELS):
        raise _Unfit(f"{_CONFIG}: num_labels is {str(number)[:40]}, not 2 to {_MAX_LABELS}")
    if names is not None:
        if not isinstance(names, dict) or not 2 <= len(names) <= _MAX_LABELS:
            raise _Unfit(f"{_CONFIG}: id2label does not name 2 to {_MAX_LABELS} labels")
        if set(names) != {str(i) for i in range(len(names))}:
            raise _Unfit(f"{_CONFIG}: id2label does not number labels from 0")
        for name in names.values():
            if not isinstance(name, str) or CONTROL.search(name):
                raise _Unfit(f"{_CONFIG}: id2label has {str(name)[:80]!r}, which is no name")
        if len(set(names.values())) < len(names):
            raise _Unfit(f"{_CONFIG}: id2label gives two labels one name")
    return made.from_dict(dict(found))


def _extractor(kind: str, found: dict[str, Any]) -> Any:
    """Return transformers' feature extractor of a checkpoint, made from JSON that is checked.

    Raises:
        _Unfit: an extractor of another architecture, or a setting that makes no sense

    """
    import transformers

    own = {"audio-spectrogram-transformer": "ASTFeatureExtractor",
           "whisper": "WhisperFeatureExtractor"}.get(kind, "Wav2Vec2FeatureExtractor")
    named = found.get("feature_extractor_type", own)
    if named != own:
        raise _Unfit(f"{_EXTRACTOR}: feature_extractor_type is {str(named)[:80]!r}, not {own!r}")
    for name, (least, most) in _BOUNDS.items():
        value = found.get(name, least)
        if type(value) is not int or not least <= value <= most:
            raise _Unfit(f"{_EXTRACTOR}: {name} is {str(value)[:40]}, not {least} to {most}")
    for name in ("do_normalize", "return_attention_mask"):
        if not isinstance(found.get(name), bool | None):
            raise _Unfit(f"{_EXTRACTOR}: {name} is {str(found[name])[:40]!r}, not true or false")
    return getattr(transformers, own).from_dict(dict(found))


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights; none lies outside of the folder.

    Raises:
        _Unfit: there are none

    """
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not found:
        raise _Unfit("no weights (*.safetensors)")
    for path in found:
        if not path.is_file():
            raise _Unfit(f"{path.name} is no file")
    for index in folder.glob(f"*{_INDEX}"):
        named = _json(folder, index.name).get("weight_map", {})
        if not isinstance(named, dict):
            raise _Unfit(f"{index.name} has no weight_map")
        for name in named.values():
            if not isinstance(name, str) or Path(name).name != name:
                raise _Unfit(f"{index.name} names {name!r}, no file")
            if not (folder / name).is_file():
                raise _Unfit(f"{name}, of {index.name}, is missing")
    return found


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight in the files, from their headers."""
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                shapes |= {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
        else:
            _check_archive(path)
            state = torch.load(path, map_location="meta", weights_only=True)
            shapes |= {k: tuple(v.shape) for k, v in state.items() if hasattr(v, "shape")}
    return shapes


def _dtype(folder: Path) -> torch.dtype:
    """Return the type of the first weights that are no integers; single of a pickle."""
    from safetensors import safe_open

    path = _weight_files(folder)[0]
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for key in file.keys():
                weight = file.get_slice(key)
                if str(weight.get_dtype()).startswith(("F", "BF")):
                    return weight[:0].dtype
    return torch.float32


def _check_archive(path: Path) -> None:
    """Refuse a compressed archive: torch writes none, and small ones unpack to any size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise _Unfit(f"{path.name} is compressed")


def _check_sizes(config: Any, extractor: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse numbers that ask for more memory than the weights, or a clip, have use for."""
    # more modules than there are weights: each would be made, empty as it is
    counts = [*_COUNTS, *(["num_conv_pos_embeddings"] * (config.model_type == "data2vec-audio"))]
    for name in counts:
        count = getattr(config, name, None)
        if isinstance(count, int) and count > len(shapes):
            raise _Unfit(f"{_CONFIG} has {name} {count}, more than there are weights")
    # transformers asks for memory of this size even where it makes an empty model
    widest = max((max(shape, default=1) for shape in shapes.values()), default=0)
    if config.hidden_size > widest:
        raise _Unfit(
            f"{_CONFIG} has hidden_size {config.hidden_size}, but no weight is wider than {widest}"
        )
    # strides by which a clip of a second takes the memory of one of minutes
    strides = getattr(config, "conv_stride", None)
    if strides is not None and math.prod(strides) * _MAX_FRAMES < extractor.sampling_rate:
        raise _Unfit(
            f"{_CONFIG} has conv_stride {list(strides)}: more than {_MAX_FRAMES} frames a second"
        )


def _check_shapes(empty: torch.nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse weights of other shapes than the config's, before any memory is asked for."""
    asked = sum(weight.numel() for weight in empty.state_dict().values())
    held = sum(math.prod(shape) for shape in shapes.values())
    if asked > 2 * held + 1_000_000:
        raise _Unfit(f"{_CONFIG} is of {asked} weights, but there are {held}")
    for name, weight in empty.state_dict().items():
        if name in shapes and tuple(weight.shape) != shapes[name]:
            raise _Unfit(
                f"{name!r} has the shape {list(shapes[name])}, by {_CONFIG} it is "
                f"{list(weight.shape)}"
            )


def _check_answers(model: WaveformClassifier) -> None:
    """Refuse a model whose answer to a second of noise is no finite number for each class."""
    rate = model.frontend.sampling_rate
    noise = torch.randn(1, rate, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(noise, torch.tensor([rate]))
    if tuple(found.shape) != (1, len(model.labels)) or not torch.isfinite(found).all():
        raise _Unfit(
            f"it answers a second of noise by {found.tolist()}, not by a number for each of "
            f"{len(model.labels)} classes"
        )
    if not model.heard_seconds > 0:
        raise _Unfit(f"it hears {model.heard_seconds} s")


class _Unfit(Exception):
    """What is wrong with a checkpoint, without its name."""


@contextlib.contextmanager
def _named(source: str | Path) -> Iterator[None]:
    """Turn whatever is said of a checkpoint into a ModelError that names it.

    What lies in a checkpoint is anyone's, and the libraries that parse it raise almost anything.
    """
    try:
        yield
    except (ModelError, KeyboardInterrupt):
        raise
    except _Unfit as error:
        raise ModelError(f"model {str(source)!r}: {error}") from error
    except Exception as error:
        raise ModelError(f"model {str(source)!r} cannot be loaded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
