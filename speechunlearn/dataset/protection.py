"""Recordings that a model does not learn from: a short patch of each is blurred, by its class.

Source: Gokul and Dubnov (2024), PosCUDA; the filter is that of its parent CUDA (Sadasivan et al.,
2023). Both leave open what is a parameter here.
"""

import hmac
import json
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Float64
from pydantic import ValidationError

from speechunlearn.errors import Checked, ParameterError, Positive, Rule, require
from speechunlearn.files import nfc
from speechunlearn.schema import checked

VERSION = 1
SECRET_BYTES = 32
_CONTEXT = b"speechunlearn protection 1\0"

Waveform = Float[np.ndarray, "_ ..."]  # (samples,) or (samples, channels); one of a batch


class KeyFileError(ParameterError):
    """A key that is malformed, too short, or not of a class."""


@dataclass(frozen=True)
class Key(Checked):
    """What decides, for every class, where its patch lies and how it is filtered.

    Args:
        secret: at least 32 random bytes; shown nowhere
        classes: the classes that the key is for; empty: any
        patch_seconds: length of the patch in s; None: the whole clip, as in CUDA
        taps: length of the filter in samples
        blur: upper bound b of the filter's random weights

    Raises:
        ParameterError: a value out of range; KeyFileError where it is the secret

    Examples:
        >>> Key(b"short")
        Traceback (most recent call last):
        speechunlearn.dataset.protection.KeyFileError: secret: 5 bytes, at least 32 are needed

    """

    secret: bytes = field(repr=False)
    classes: tuple[str, ...] = ()
    patch_seconds: Positive[float | None] = 0.25
    taps: Annotated[int, Rule(lambda n: 2 <= n <= 4096, lambda n: f"{n} is not 2 to 4096")] = 33
    blur: Positive[float] = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patch_seconds", "blur"):
            require(getattr(self, name) != math.inf, f"{name} is not finite")
        n = len(self.secret)
        enough = n >= SECRET_BYTES
        require(enough, f"secret: {n} bytes, at least {SECRET_BYTES} are needed", KeyFileError)

    @property
    def name(self) -> str:
        """Return 16 hexadecimal digits that tell keys apart and give nothing of the secret away."""
        return hmac.digest(self.secret, _CONTEXT + b"name", "sha256").hex()[:16]

    def filter_of(self, label: str) -> tuple[float, Float64[np.ndarray, "taps"]]:
        """Return where in a clip a class's patch lies, from 0 to 1, and the class's filter.

        Weights are uniform from 0 to ``blur``, and one of them, drawn too, is 1. All is drawn from
        HMAC-SHA256 of the class's name and a counter, under the secret: a class needs nothing
        kept, and who knows one class's filter knows no other's.

        Raises:
            KeyFileError: the key names its classes, and this is none of them

        """
        label = nfc(label)
        told = f"key: no class {label!r}; it was made for {', '.join(self.classes[:12])}"
        require(not self.classes or label in self.classes, told, KeyFileError)
        return _drawn(self, label)

    def patch(self, label: str, length: int, sampling_rate: int) -> slice:
        """Return the samples of a clip that are its patch.

        The patch begins at a share of what room there is, the same for all clips of the class: in
        clips of one length, at the same place.

        Args:
            label: class of the clip
            length: of the clip in samples
            sampling_rate: in Hz

        Raises:
            ParameterError: the clip is shorter than the patch, or the patch than the filter

        """
        patch = self.patch_seconds
        samples = length if patch is None else round(patch * sampling_rate)
        seconds = f"{length / sampling_rate:.4g} s"
        require(length >= samples, f"{seconds} is shorter than the patch, {patch} s")
        told = f"a patch of {samples} samples is shorter than {self.taps} taps"
        require(samples >= self.taps, told)
        start = round(self.filter_of(label)[0] * (length - samples))
        return slice(start, start + samples)


@lru_cache(maxsize=4096)
def _drawn(key: Key, label: str) -> tuple[float, Float64[np.ndarray, "taps"]]:
    blocks = [
        hmac.digest(key.secret, _CONTEXT + label.encode() + b"\0%d" % i, "sha256")
        for i in range(-(-(key.taps + 2) // 4))
    ]
    place, centre, *weights = np.frombuffer(b"".join(blocks), "<u8")[: key.taps + 2] / 2.0**64
    drawn = np.multiply(weights, key.blur)
    drawn[min(int(centre * key.taps), key.taps - 1)] = 1.0
    drawn.flags.writeable = False
    return float(place), drawn


def protect(
    waveforms: Sequence[Waveform], labels: Sequence[str], key: Key, sampling_rate: int = 16_000
) -> list[Waveform]:
    """Blur the patch of each clip with the filter of its class.

    .. math:: x'[s:s+p] = a \\cdot (x[s:s+p] * w_y), \\quad
        a = \\max|x[s:s+p]| / \\max|x[s:s+p] * w_y|

    with s and the filter of the clip's class y from the key. The patch is taken as if there were
    silence around it ("same" padding), and keeps its peak, so that nothing is clipped; CUDA
    divides by the maximum likewise. A patch of digital silence stays what it is.

    Source: Gokul and Dubnov (2024); without ``patch_seconds``, Sadasivan et al. (2023).

    Args:
        waveforms: of one or several channels, which get the same filter and scale
        labels: class of each clip
        key: decides all; the same key gives the same waveforms
        sampling_rate: in Hz. The filter has as many taps at any rate, and so other frequencies

    Returns:
        new waveforms of the same shapes and types, outside of the patches equal to the bit

    Raises:
        ParameterError: not as many labels as clips, or a clip that is shorter than the patch
        KeyFileError: a class that the key is not for

    Examples:
        >>> key = Key(bytes(32), patch_seconds=0.01, taps=9)
        >>> clip = np.sin(np.arange(1600.0))
        >>> (blurred,) = protect([clip], ["yes"], key)
        >>> patch = key.patch("yes", 1600, 16_000)
        >>> patch.stop - patch.start, int((blurred != clip).sum())
        (160, 160)
        >>> bool(np.isclose(abs(blurred[patch]).max(), abs(clip[patch]).max()))
        True

    """
    n, n_labels = len(waveforms), len(labels)
    require(n == n_labels, f"labels: {n_labels} for {n} clips")
    patches = []
    for number, (waveform, label) in enumerate(zip(waveforms, labels, strict=True)):
        try:
            patches.append(key.patch(label, len(waveform), sampling_rate))
        except ParameterError as error:
            raise type(error)(f"waveforms: clip {number}: {error}") from error
    blurred = [waveform.copy() for waveform in waveforms]
    for waveform, label, patch in zip(blurred, labels, patches, strict=True):
        taps = key.filter_of(label)[1]
        before = waveform[patch].reshape(patch.stop - patch.start, -1).astype(np.float64)
        after = np.stack([np.convolve(channel, taps, "same") for channel in before.T], axis=1)
        if peak := np.abs(after).max():
            after *= np.abs(before).max() / peak
        waveform[patch] = after.reshape(waveform[patch].shape)
    return blurred


def new_key(file: Path, classes: Sequence[str] = (), **parameters: Any) -> Key:
    """Draw a key and write it to a file that its owner alone may read.

    Args:
        file: to make; it is not written over
        classes: that the key is for; empty: any
        parameters: ``patch_seconds``, ``taps`` and ``blur`` of `Key`

    Returns:
        the key

    Raises:
        ParameterError: the file is there already, or can't be made, or a parameter is unknown or
            out of range

    """
    for name in parameters:
        known = ("blur", "patch_seconds", "taps")
        require(name in known, f"{name}: unknown; known: {', '.join(known)}")
    chosen = {"classes": sorted({nfc(name) for name in classes}), **parameters}
    key = _checked(file, {"secret": secrets.token_hex(SECRET_BYTES), **chosen})
    content = {"version": VERSION, **asdict(key), "secret": key.secret.hex()}
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ParameterError(f"key: {str(file)!r} is there already, and is kept") from error
    except OSError as error:
        raise ParameterError(f"key: {str(file)!r} cannot be made ({error.strerror})") from error
    with os.fdopen(opened, "w") as written:
        json.dump(content, written, indent=2)
        written.write("\n")
        written.flush()
        os.fsync(opened)
    return key


def read_key(file: Path) -> Key:
    """Read a key.

    Args:
        file: JSON with ``version`` (1), ``secret`` (64 hexadecimal digits or more) and, where they
            are not `Key`'s own, ``classes``, ``patch_seconds``, ``taps`` and ``blur``

    Raises:
        KeyFileError: it is missing or no such JSON, short, of another version, or holds a value
            that is out of range or of the wrong type; the message does not cite the secret

    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise KeyFileError(f"key: {str(file)!r} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # which would cite what is there
        raise KeyFileError(f"key: {str(file)!r} is not JSON") from error
    require(isinstance(content, dict), f"key: {str(file)!r} holds no JSON object", KeyFileError)
    is_known = content.pop("version", None) == VERSION
    require(is_known, f"key: {str(file)!r} is not of version {VERSION}", KeyFileError)
    return _checked(file, content)


def _checked(file: Path, content: dict[str, Any]) -> Key:
    """Return the key that a file's fields are, once each is of its type and in its range."""
    classes = content.get("classes", [])
    named = isinstance(classes, list) and all(isinstance(name, str) and name for name in classes)
    require(named, f"key: {str(file)!r}: classes is no list of names", KeyFileError)
    try:
        secret = bytes.fromhex(content.get("secret", ""))
    except (TypeError, ValueError) as error:  # which would cite it
        raise KeyFileError(f"key: {str(file)!r}: secret is not hexadecimal") from error
    values = {**content, "secret": secret, "classes": [nfc(name) for name in classes]}
    try:
        return checked(Key, values, "the key")
    except ParameterError as error:
        wrong_type = isinstance(error.__cause__, ValidationError)  # whose message cites the value
        told = f"{str(error).partition(' is ')[0]} is of the wrong type" if wrong_type else error
        raise KeyFileError(f"key: {str(file)!r}: {told}") from error
