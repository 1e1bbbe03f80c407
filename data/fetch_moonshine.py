"""Fetch the encoder ``moonshine-tiny`` from the package that carries it.

    python data/fetch_moonshine.py [--wheel FILE] [--out FOLDER]

The wheel ``moonshine-voice`` 0.0.4 (67 MB, MIT) holds the encoder of Moonshine tiny-en (Jeffries et
al. 2024) in ONNX Runtime's own format, a flatbuffer. The matrices of its linear layers are unsigned
8-bit numbers with one scale and one zero point each; all else is float32. Here they are read,
multiplied out and written as safetensors beside the config and card that lie in the repository.
Wheel member and result are checked by their SHA-256. The linear weights are thus not the published
float32 ones: each is off by up to half a step of its matrix.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from speechunlearn.errors import ModelError, SpeechUnlearnError
from speechunlearn.files import replaced

OUT = Path(__file__).resolve().parents[1] / "speechunlearn" / "encoders" / "moonshine-tiny"
PACKAGE, PLATFORM = "moonshine-voice==0.0.4", "manylinux_2_35_x86_64"
MEMBER = "moonshine_voice/assets/tiny-en/encoder_model.ort"
SHA256 = "e091ae52fc2a912197af8f7b7ae2e8365b656ff58463313e0660cce59d9e81d3"
#: of names, shapes and values of the result
TENSORS = "29bdf289aa18491e025bbc7da174fb50676c4c14385af582adfc7cc253528e81"

#: ONNX's element types
_TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8"}
#: operators that multiply by a quantised matrix -> which inputs are matrix, scale and zero point
_PRODUCTS = {"MatMulIntegerToFloat": (1, 3, 5), "DynamicQuantizeMatMul": (1, 2, 3)}


class Table:
    """A table of a flatbuffer: its fields are found by their number in the schema.

    Args:
        blob: the whole buffer
        place: where the table begins

    """

    def __init__(self, blob: bytes, place: int) -> None:
        self.blob, self.place = blob, place

    @classmethod
    def root(cls, blob: bytes) -> Table:
        """Return the table that a buffer is of."""
        return cls(blob, _number(blob, 0, "<I"))

    def _field(self, number: int) -> int:
        """Return where a field lies; 0 where it is left out."""
        offsets = self.place - _number(self.blob, self.place, "<i")
        if 4 + 2 * number >= _number(self.blob, offsets, "<H"):
            return 0
        offset = _number(self.blob, offsets + 4 + 2 * number, "<H")
        return self.place + offset if offset else 0

    def _followed(self, number: int) -> int:
        place = self._field(number)
        return place + _number(self.blob, place, "<I") if place else 0

    def table(self, number: int) -> Table:
        """Return a table."""
        return Table(self.blob, self._followed(number))

    def integer(self, number: int) -> int:
        """Return a 32-bit number, 0 by default."""
        place = self._field(number)
        return _number(self.blob, place, "<i") if place else 0

    def values(self, number: int, size: int = 1) -> bytes:
        """Return the bytes of a vector, or a text."""
        place = self._followed(number)
        if not place:
            return b""
        return self.blob[place + 4 : place + 4 + size * _number(self.blob, place, "<I")]

    def offsets(self, number: int) -> Iterator[int]:
        """Yield where the elements of a vector of tables or texts lie."""
        place = self._followed(number)
        for i in range(_number(self.blob, place, "<I") if place else 0):
            at = place + 4 + 4 * i
            yield at + _number(self.blob, at, "<I")

    def tables(self, number: int) -> list[Table]:
        """Return a vector of tables."""
        return [Table(self.blob, place) for place in self.offsets(number)]

    def texts(self, number: int) -> list[str]:
        """Return a vector of texts."""
        return [
            self.blob[at + 4 : at + 4 + _number(self.blob, at, "<I")].decode()
            for at in self.offsets(number)
        ]


def _number(blob: bytes, place: int, form: str) -> int:
    return int(struct.unpack_from(form, blob, place)[0])


def weights(blob: bytes) -> dict[str, np.ndarray]:
    """Return the state of transformers' ``MoonshineEncoder``.

    Args:
        blob: an encoder in ONNX Runtime's format: session (1: model), model (7: graph), graph (0:
            constants, 2: nodes), constant (0: name, 2: shape, 3: type, 4: values), node (0: name,
            5: operator, 8: inputs)

    """
    graph = Table.root(blob).table(1).table(7)
    constants = {}
    for tensor in graph.tables(0):
        shape = np.frombuffer(tensor.values(2, 8), "<i8")
        values = np.frombuffer(tensor.values(4), _TYPES[tensor.integer(3)])
        constants[tensor.values(0).decode()] = values.reshape(shape)
    kept = re.compile(r"(layers\.\d+\.|conv\d|layer_norm)[\w.]*(weight|bias)")
    state = {name: value for name, value in constants.items() if kept.fullmatch(name)}
    for node in graph.tables(2):
        name, operator, inputs = node.values(0).decode(), node.values(5).decode(), node.texts(8)
        # of the group norm, scale and offset became operators of their own
        if name in ("/groupnorm/Mul", "/groupnorm/Add"):
            part = "weight" if name.endswith("Mul") else "bias"
            state[f"groupnorm.{part}"] = constants[inputs[1]].reshape(-1)
        if operator not in _PRODUCTS:
            continue
        matrix, scale, zero = (constants[inputs[i]] for i in _PRODUCTS[operator])
        layer = re.match(r"/(layers\.\d+)/(self_attn|mlp)/(\w+)/", name)
        if layer is None:
            raise ModelError(f"{MEMBER}: the matrix of {name!r} has no place")
        floats = (matrix.astype(np.float32) - zero.astype(np.float32)) * scale
        state[".".join(layer.groups()) + ".weight"] = floats.T  # ONNX multiplies from the right
    return {name: np.ascontiguousarray(state[name], np.float32) for name in sorted(state)}


def digest(state: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(f"{name} {state[name].shape} ".encode() + state[name].tobytes())
    return found.hexdigest()


def fetch(wheel: Path, out: Path) -> None:
    """Write an encoder's weights.

    Args:
        wheel: of the package
        out: gets model.safetensors

    Raises:
        ModelError: a wheel without the encoder, or with another one

    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            blob = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"wheel {str(wheel)!r}: no {MEMBER}: {error}") from error
    found = hashlib.sha256(blob).hexdigest()
    if found != SHA256:
        raise ModelError(f"{MEMBER} of {str(wheel)!r} has SHA-256 {found}, not {SHA256}")
    state = weights(blob)
    if digest(state) != TENSORS:
        raise ModelError(f"the weights have SHA-256 {digest(state)}, not {TENSORS}")
    out.mkdir(parents=True, exist_ok=True)
    with replaced(out / "model.safetensors") as partial:
        save_file(state, partial, {"format": "pt"})


def main() -> int:
    """Run the command line; return its status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="use this file; by default pip fetches it")
    parser.add_argument("--out", type=Path, default=OUT, help="by default where the card lies")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel = asked.wheel
            if wheel is None:
                command = [
                    sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                    folder, "--only-binary=:all:", "--platform", PLATFORM, PACKAGE,
                ]  # fmt: skip
                if subprocess.run(command, check=False).returncode:
                    raise ModelError(f"pip cannot fetch {PACKAGE}")
                [wheel] = Path(folder).glob("*.whl")
            fetch(wheel, asked.out)
    except SpeechUnlearnError as error:
        print(f"fetch_moonshine: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
