"""Anyone's checkpoint, read without running anything that lies in it, and written back in kind.

A checkpoint is a folder, or a hub id, that transformers' ``AutoModelForAudioClassification`` and
``AutoFeatureExtractor`` read: wav2vec 2.0 and its relatives on waveforms, with Moonshine as
`speechunlearn.models.moonshine` registers it, and the Audio Spectrogram Transformer and Whisper's
encoder on spectrograms that are computed here, so that a gradient reaches the waveform. Weights
come from safetensors, or from a pickle that torch reads with ``weights_only=True``; a checkpoint
that asks for code of its own is refused. Of JSON, only what is checked here is used, and its
numbers are bounded by the weights before memory is asked for.
"""

import contextlib
import hashlib
import json
import math
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from speechunlearn.dataset.clips import Lengths, Logits, Waveforms
from speechunlearn.errors import CONTROL, ModelError
from speechunlearn.files import nfc
from speechunlearn.models.classifier import Classifier, Frontend, quiet
from speechunlearn.tool import output_folder

#: architectures that take waveforms
ON_WAVEFORMS = (
    "data2vec-audio", "hubert", "moonshine_classifier", "sew", "sew-d", "unispeech",
    "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm",
)
#: architectures that take spectrograms which are computed here
ON_SPECTROGRAMS = ("audio-spectrogram-transformer", "whisper")

_CONFIG, _EXTRACTOR = "config.json", "preprocessor_config.json"
#: where a recipe saves a processor, its feature extractor lies in this file
_PROCESSOR = "processor_config.json"
_ADAPTER = "adapter_config.json"
_INDEX = ".index.json"
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
#: what transformers takes the weights from: the first of these that is there
_WEIGHTS = (_SAFE, _SAFE + _INDEX, _PICKLED, _PICKLED + _INDEX)

#: a config larger than this is none
_MAX_JSON = 16 * 2**20
_MAX_LABELS, _LONGEST_LABEL = 100_000, 1000
#: settings by which a config asks for more than an architecture, and what for
_REFUSED = {
    "auto_map": "code of its own (auto_map)",
    "quantization_config": "a quantised model (quantization_config)",
    "transformers_weights": "other weights (transformers_weights)",
}
#: losses by which a clip has one label, and the answers are those of a softmax
_ONE_LABEL = (None, "single_label_classification")
_ATTENTION = ("attn_implementation", "_attn_implementation", "experts_implementation")
#: settings that count modules, none of which is without weights
_COUNTS = (
    "num_hidden_layers", "encoder_layers", "encoder_num_hidden_layers", "num_adapter_layers",
)
_MAX_FRAMES = 1000  # a second; published encoders have 25 to 50
#: settings of the extractors -> the least and the most that make sense
_BOUNDS = {
    "sampling_rate": (1000, 192_000), "feature_size": (1, 1024), "num_mel_bins": (1, 1024),
    "max_length": (1, 100_000), "n_fft": (2, 65_536), "hop_length": (1, 65_536),
    "chunk_length": (1, 300), "n_samples": (1, 300 * 192_000),
}
#: seconds of clips that are padded beside the last, of several lengths: some frames are in pairs
_PADDED_SECONDS = (0.2, 0.21, 0.22, 0.23, 2.0)
#: what rounding makes of a logit, by the largest
_ROUNDING = 2e-6


@dataclass(frozen=True)
class Origin:
    """A checkpoint as it was read: a result is written from this, whatever its files are by then.

    Args:
        sha256: over the names and contents of its configs and weights
        configs: name -> content of the configs, which a result gets unchanged
        weights: files of the weights
        revision: commit of a hub repository, empty for a folder
        precisions: name of a weight -> its type in the files

    """

    sha256: str
    configs: dict[str, bytes]
    weights: list[Path]
    revision: str
    precisions: dict[str, torch.dtype] = field(default_factory=dict)

    def precision(self, name: str) -> torch.dtype:
        """Return the type of a weight in the files; the most usual of one that is not there."""
        return self.precisions.get(name) or mode([*self.precisions.values(), torch.float32])


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
        self.origin = Origin("", {}, [], "")
        #: whether a clip's answer must be asked for alone: that in a padded batch is another
        self.answers_alone = True

    def forward(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return logits; see `speechunlearn.models.classifier.Classifier.forward`.

        Raises:
            ModelError: the network has no answer, as to clips that are too short for it

        """
        try:
            return self.logits(waveform_z, lengths)
        except (RuntimeError, ValueError) as error:
            seconds = [round(n / self.frontend.sampling_rate, 3) for n in lengths.tolist()]
            raise ModelError(
                f"model {self.source!r} has no answer to clips of {min(seconds)} to "
                f"{max(seconds)} s: {_reason(error)}"
            ) from error

    def logits(self, waveform_z: Waveforms, lengths: Lengths) -> Logits:
        """Return logits, whatever the network raises.

        In a batch that is shorter than one mask (SpecAugment), no time is masked.
        """
        config = self.network.config
        share = getattr(config, "mask_time_prob", 0.0)
        if self.training and share and getattr(config, "apply_spec_augment", False):
            frames = self.network._get_feat_extract_output_lengths(waveform_z.shape[1])
            config.mask_time_prob = share if frames >= config.mask_time_length else 0.0
        try:
            scaled = waveform_z * self.unit if self.unit != 1 else waveform_z
            return super().forward(scaled, lengths)
        finally:
            if share:
                config.mask_time_prob = share

    @property
    def heard_seconds(self) -> float:
        """Seconds from the start of a clip that the model hears; infinite where it hears all."""
        return float("inf")


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
        banks = torch.stack(rows)
        if not self.extractor.do_normalize:
            return banks
        return (banks - self.extractor.mean) / (self.extractor.std * 2)

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
        extractor = self.extractor
        waveform = waveform[:, : extractor.n_samples]
        waveform = torch.nn.functional.pad(waveform, (0, extractor.n_samples - waveform.shape[1]))
        spectrum = torch.stft(
            waveform, extractor.n_fft, extractor.hop_length, return_complex=True,
            window=torch.hann_window(extractor.n_fft, device=waveform.device),
        )[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        filters = torch.as_tensor(extractor.mel_filters, dtype=torch.float32, device=power.device)
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
        source: folder, or hub id (``owner/name``, or ``owner/name@revision``)

    Returns:
        the classifier, in eval mode, its weights in single precision

    Raises:
        ModelError: a checkpoint that is missing, damaged or incomplete, that asks for code of its
            own, or whose features a gradient does not get through

    """
    from transformers import AutoModelForAudioClassification

    folder, revision = _folder(source)
    with quiet(), _named(source):
        if (folder / _ADAPTER).exists():
            raise _Unfit(_merge_first(_json(folder, _ADAPTER)))
        config_json = _json(folder, _CONFIG)
        of_extractor, extractor_json = _extractor_json(folder)
        for name, settings in ((_CONFIG, config_json), (of_extractor, extractor_json)):
            for setting, what in _REFUSED.items():
                if setting in settings:
                    raise _Unfit(f"{name} asks for {what}")
        kind, known = config_json.get("model_type"), (*ON_WAVEFORMS, *ON_SPECTROGRAMS)
        if kind not in known:
            raise _Unfit(f"model_type {kind!r} is not one of {', '.join(known)}")
        if kind == "moonshine_classifier":
            import speechunlearn.models.moonshine  # noqa: F401  (registers it)
        config = _config(kind, config_json)
        extractor = _extractor(config, extractor_json, of_extractor)
        origin = _origin(folder, revision)
        tensors = _tensors(origin.weights)
        _check_sizes(config, extractor, tensors)
        with torch.device("meta"):
            empty = AutoModelForAudioClassification.from_config(config, trust_remote_code=False)
        _check_shapes(empty, tensors)
        network, info = AutoModelForAudioClassification.from_pretrained(
            folder, config=config, trust_remote_code=False, weights_only=True,
            dtype=torch.float32, output_loading_info=True,
            use_safetensors=origin.weights[0].suffix == ".safetensors",
        )
        if _origin(folder, revision) != origin:
            raise _Unfit("its files changed while they were read")
        missing = sorted(info["missing_keys"])
        if missing:
            others = sorted(set(tensors) - set(empty.state_dict()))
            instead = f"; there are some of {others[0]!r}" if others else ""
            raise _Unfit(
                f"no weights of {missing[0]!r} ({len(missing)} missing){instead}: a classifier "
                "that was fine-tuned is needed, saved by save_pretrained"
            )
        _check_finite(source, network.state_dict())
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        kinds = {"audio-spectrogram-transformer": FilterBankClassifier, "whisper": LogMelClassifier}
        model = kinds.get(kind, WaveformClassifier)(network, labels, extractor).eval()
        model.source = str(source)
        model.origin = replace(origin, precisions={
            name: tensor.dtype for name, tensor in tensors.items() if tensor.is_floating_point()
        })
        _check_answers(model)
    if kind == "wavlm":  # of transformers' own code, at each answer
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    return model


def save(model: WaveformClassifier, out: Path) -> None:
    """Write a checkpoint that transformers loads as it does the one that the model came from.

    Configs are that one's, unchanged; weights are safetensors, each in its precision there.

    Args:
        model: what was made of a checkpoint that `load` read
        out: folder that exists

    Raises:
        ModelError: weights that are not finite, or not in their precision

    """
    weights = {
        name: weight.to(model.origin.precision(name)) if weight.is_floating_point() else weight
        for name, weight in model.network.state_dict().items()
    }
    _check_finite("unlearned", weights)
    separate = {name: weight.contiguous().clone() for name, weight in weights.items()}
    save_file(separate, out / _SAFE, metadata={"format": "pt"})
    for name, content in model.origin.configs.items():
        (out / name).write_bytes(content)


def digest(source: str | Path) -> str:
    """Return a SHA-256 over the configs and weights of a checkpoint, by name and content."""
    folder, revision = _folder(source)
    with _named(source):
        return _origin(folder, revision).sha256


def fingerprint(model: WaveformClassifier) -> str:
    """Return a SHA-256 over the weights of a model, whatever files they came from."""
    digests = hashlib.sha256()
    for name, weight in sorted(model.network.state_dict().items()):
        digests.update(name.encode() + b"\0")
        digests.update(weight.cpu().contiguous().numpy().data)
    return digests.hexdigest()


def _check_finite(source: str | Path, weights: dict[str, Tensor]) -> None:
    """Raise ModelError if a weight is NaN or infinite."""
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ModelError(f"model {str(source)!r}: weights of {name!r} are NaN or infinite")


def _folder(source: str | Path) -> tuple[Path, str]:
    """Return the folder of a checkpoint, downloaded from a hub where it is none, and its commit."""
    text = str(source)
    folder = output_folder.path("model", text)
    if folder.is_dir():
        return folder, ""
    if text.startswith((".", "/", "~")) or text.count("/") != 1 or folder.exists():
        file = " (it is a file: name the folder it lies in)" if folder.is_file() else ""
        raise ModelError(f"model {text!r}: no such folder{file}, and not a hub id (owner/name)")
    with _named(source):
        snapshot = _snapshot(text)
    return snapshot, snapshot.name


@cache  # a revision may move: one process takes one commit
def _snapshot(source: str) -> Path:
    """Download what is needed of a hub repository."""
    from huggingface_hub import errors, snapshot_download

    name, _, revision = source.partition("@")
    log_in = "log in (hf auth login, or a token in HF_TOKEN)"
    configs = [_CONFIG, _EXTRACTOR, _PROCESSOR, _ADAPTER]
    try:
        folder = Path(snapshot_download(
            name, revision=revision or None,
            allow_patterns=[*configs, "*.safetensors", _SAFE + _INDEX],
        ))
        if not any((folder / weights).exists() for weights in (_SAFE, _SAFE + _INDEX)):
            snapshot_download(
                name, revision=folder.name,
                allow_patterns=["pytorch_model*.bin", _PICKLED + _INDEX],
            )
    except errors.GatedRepoError as error:
        raise _Unfit(
            f"it is gated: ask for access at https://huggingface.co/{name}, then {log_in}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _Unfit(f"no such repository, or it is private: then {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise _Unfit(f"it has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise _Unfit("the hub cannot be reached, and no copy of it is here") from error
    return folder


def _merge_first(adapter: dict[str, Any]) -> str:
    """Return what to do with an adapter that peft wrote."""
    base = str(adapter.get("base_model_name_or_path"))[:200]
    return (
        f"it is an adapter of {base!r} ({_ADAPTER}): load it with peft, merge it "
        "(PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(merged)), "
        f"save the feature extractor there, and name that folder"
    )


def _origin(folder: Path, revision: str) -> Origin:
    """Return what a checkpoint consists of.

    Raises:
        _Unfit: there are no weights, or no such configs

    """
    configs = {
        name: (folder / name).read_bytes() for name in (_CONFIG, _EXTRACTOR, _PROCESSOR)
        if (folder / name).is_file()
    }
    weights = _weight_files(folder)
    files = [*(folder / name for name in configs), *weights]
    digests = hashlib.sha256()
    for path in files:
        digests.update(path.name.encode() + b"\0" + bytes.fromhex(output_folder.sha256(path)))
    return Origin(digests.hexdigest(), configs, weights, revision)


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        inside = sorted(other.parent.name for other in folder.glob(f"*/{name}"))
        raise _Unfit(f"no {name}" + f"; there is one in {', '.join(inside)}" * bool(inside))
    if path.stat().st_size > _MAX_JSON:
        raise _Unfit(f"{name} has more than {_MAX_JSON} bytes")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Unfit(f"{name} cannot be read: {_reason(error)}") from error
    if not isinstance(settings, dict):
        raise _Unfit(f"{name} holds no object")
    return settings


def _config(kind: str, settings: dict[str, Any]) -> Any:
    """Return transformers' config of a checkpoint, made from JSON that is read and checked.

    Raises:
        _Unfit: a setting that is not one of an architecture, or odd label names

    """
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[kind]
    for name, value in settings.items():
        if name in _ATTENTION and value not in (None, "eager", "sdpa"):
            raise _Unfit(f"{_CONFIG} asks for the kernel {value!r} ({name})")
        if callable(getattr(config_class, name, None)):
            raise _Unfit(f"{_CONFIG} has {name!r}, which is no setting")
    if settings.get("problem_type") not in _ONE_LABEL:
        raise _Unfit(
            f"{_CONFIG}: problem_type is {str(settings['problem_type'])[:40]!r}: only a model that "
            f"gives each clip one label ({_ONE_LABEL[1]}) can be unlearned here"
        )
    number, names = settings.get("num_labels"), settings.get("id2label")
    if number is not None and not (type(number) is int and 2 <= number <= _MAX_LABELS):
        raise _Unfit(f"{_CONFIG}: num_labels is {str(number)[:40]}, not 2 to {_MAX_LABELS}")
    if names is not None:
        if not isinstance(names, dict) or not 2 <= len(names) <= _MAX_LABELS:
            raise _Unfit(f"{_CONFIG}: id2label does not name 2 to {_MAX_LABELS} labels")
        if set(names) != {str(i) for i in range(len(names))}:
            raise _Unfit(f"{_CONFIG}: id2label does not number labels from 0")
        for name in names.values():
            if not isinstance(name, str) or CONTROL.search(name) or len(name) > _LONGEST_LABEL:
                raise _Unfit(f"{_CONFIG}: id2label has {str(name)[:80]!r}, which is no name")
        if len({nfc(name) for name in names.values()}) < len(names):
            raise _Unfit(f"{_CONFIG}: id2label gives two labels one name")
    return config_class.from_dict(dict(settings))


def _extractor_json(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the file that transformers' AutoFeatureExtractor reads, and the settings in it.

    Raises:
        _Unfit: there are none

    """
    if (folder / _PROCESSOR).is_file():
        processor = _json(folder, _PROCESSOR)
        settings = processor.get("feature_extractor", processor.get("audio_processor"))
        if settings is not None:
            if not isinstance(settings, dict):
                raise _Unfit(f"{_PROCESSOR}: its feature extractor is no object")
            return _PROCESSOR, settings
    return _EXTRACTOR, _json(folder, _EXTRACTOR)


def _extractor(config: Any, settings: dict[str, Any], file: str) -> Any:
    """Return transformers' feature extractor of a checkpoint, made from JSON that is checked.

    Raises:
        _Unfit: an extractor of another architecture, or a setting that makes no sense

    """
    from transformers import FEATURE_EXTRACTOR_MAPPING

    extractor_class: Any = FEATURE_EXTRACTOR_MAPPING[type(config)]
    usual = extractor_class.__name__
    named = settings.get("feature_extractor_type", usual)
    if named != usual:
        raise _Unfit(f"{file}: feature_extractor_type is {str(named)[:80]!r}, not {usual!r}")
    for name, (least, most) in _BOUNDS.items():
        value = settings.get(name, least)
        if type(value) is not int or not least <= value <= most:
            raise _Unfit(f"{file}: {name} is {str(value)[:40]}, not {least} to {most}")
    for name in ("do_normalize", "return_attention_mask"):
        if not isinstance(settings.get(name), bool | None):
            raise _Unfit(f"{file}: {name} is {str(settings[name])[:40]!r}, not true or false")
    return extractor_class.from_dict(dict(settings))


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights, by transformers' rule; none lies outside of the folder.

    Raises:
        _Unfit: there are none

    """
    first = next((name for name in _WEIGHTS if (folder / name).exists()), None)
    if first is None:
        raise _Unfit(f"no weights ({' or '.join(_WEIGHTS)})")
    if not first.endswith(_INDEX):
        if not (folder / first).is_file():
            raise _Unfit(f"{first} is no file")
        return [folder / first]
    named = _json(folder, first).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise _Unfit(f"{first} has no weight_map")
    for name in named.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise _Unfit(f"{first} names {name!r}, no file")
        if not (folder / name).is_file():
            raise _Unfit(f"{name}, of {first}, is missing")
    return [folder / name for name in sorted(set(named.values()))]


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    """Return every weight without its numbers: a shape and a type.

    Raises:
        _Unfit: there are none, fewer numbers than a shape says, or a compressed archive: torch
            writes none, and small ones unpack to any size

    """
    from transformers.modeling_utils import load_state_dict

    tensors: dict[str, Tensor] = {}
    for path in files:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise _Unfit(f"{path.name} is compressed")
        for name, weight in load_state_dict(path, map_location="meta").items():
            if isinstance(weight, Tensor):
                if weight.untyped_storage().nbytes() < weight.numel() * weight.element_size():
                    raise _Unfit(f"{path.name} holds less of {name!r} than its shape says")
                tensors[_new(name)] = weight
    if not tensors:
        raise _Unfit(f"{files[0].name} holds no weights by their names: save_pretrained writes it")
    return tensors


def _new(name: str) -> str:
    """Return the name that torch gives a weight today: weight norm had others."""
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return name.removesuffix(old) + f"parametrizations.weight.{new}"
    return name


def _check_sizes(config: Any, extractor: Any, tensors: dict[str, Tensor]) -> None:
    """Refuse numbers that ask for more memory than the weights, or a clip, have use for."""
    # more modules than there are weights: each would be made, empty as it is
    counts = [*_COUNTS, *(["num_conv_pos_embeddings"] * (config.model_type == "data2vec-audio"))]
    for name in counts:
        count = getattr(config, name, None)
        if isinstance(count, int) and count > len(tensors):
            raise _Unfit(f"{_CONFIG} has {name} {count}, more than there are weights")
    # transformers asks for memory of this size even where it makes an empty model
    widest = max(max(tensor.shape, default=1) for tensor in tensors.values())
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


def _check_shapes(empty: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Refuse weights of other shapes than the config's, before any memory is asked for."""
    asked = sum(weight.numel() for weight in empty.state_dict().values())
    held = sum(tensor.numel() for tensor in tensors.values())
    if asked > 2 * held + 1_000_000:
        raise _Unfit(f"{_CONFIG} is of {asked} weights, but there are {held}")
    for name, weight in empty.state_dict().items():
        if name in tensors and weight.shape != tensors[name].shape:
            raise _Unfit(
                f"{name!r} has the shape {list(tensors[name].shape)}, by {_CONFIG} it is "
                f"{list(weight.shape)}"
            )


def _check_answers(model: WaveformClassifier) -> None:
    """Refuse a model whose answer to noise is no finite number for each class.

    Whether the answer to a clip is the same in a padded batch is found out here as well: a group
    norm, for one, takes padding for speech whether or not there is a mask.
    """
    lengths = torch.tensor([int(s * model.frontend.sampling_rate) for s in _PADDED_SECONDS])
    noise = torch.randn(
        len(lengths), int(lengths.max()), generator=torch.Generator().manual_seed(0)
    )
    noise[torch.arange(noise.shape[1]) >= lengths[:, None]] = 0.0
    with torch.no_grad():
        alone = torch.cat([
            model(noise[i : i + 1, :length], lengths[i : i + 1])
            for i, length in enumerate(lengths.tolist())
        ])
        if tuple(alone.shape[1:]) != (len(model.labels),) or not torch.isfinite(alone).all():
            raise _Unfit(
                f"it answers noise by {alone[0].tolist()[:5]}, not by a number for each of "
                f"{len(model.labels)} classes"
            )
        deviation = float((model(noise, lengths) - alone).abs().max())
    model.answers_alone = not deviation <= _ROUNDING * max(1.0, float(alone.abs().max()))
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
