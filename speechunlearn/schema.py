"""Values that come from outside, checked against types: of a file, a command line, a notebook.

A whole number passes for a float, a list for a tuple, and a single value for a list of one; nothing
else is taken for what it is not.
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from speechunlearn.errors import ParameterError, require

T = TypeVar("T")
_SHOWN = 200  # characters of a value that a message cites


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-3`` is a number, as in YAML 1.2, and a key stands once."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"{name!r} stands twice", problem_mark=node.start_mark
                )
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(file: Path) -> dict[str, Any]:
    """Return what a YAML or JSON file holds, by name.

    Raises:
        ParameterError: a file that cannot be read, or that holds something else

    """
    try:
        values = yaml.load(file.read_text(), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"cannot read {str(file)!r}: {error}") from error
    named = isinstance(values, dict) and all(isinstance(name, str) for name in values)
    require(named, f"{str(file)!r} does not hold name: value")
    return values


def checked(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return a dataclass of these values.

    Args:
        kind: the dataclass
        values: its fields by name; those that are not there have their defaults
        where: what the values belong to, for messages: a file, a profile

    Raises:
        ParameterError: an unknown or missing name, or a value of another type

    Examples:
        >>> from speechunlearn.lab.forget_sets import ForgetSet
        >>> checked(ForgetSet, {"kind": "speaker", "names": "anna"}, "request").names
        ('anna',)
        >>> checked(ForgetSet, {"kind": "clips", "n": "3"}, "request")
        Traceback (most recent call last):
        speechunlearn.errors.ParameterError: request: n is '3'; it should be a valid integer

    """
    hints = _hints(kind)
    for name in sorted(values):
        require(name in hints, f"{where} has no {name!r}; it has {', '.join(hints)}")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = field.default is field.default_factory is dataclasses.MISSING
        require(field.name in values or not needed, f"{where}: {field.name} is missing")
    return kind(**{n: value_of(hints[n], v, f"{where}: {n}") for n, v in values.items()})


def value_of(kind: Any, value: Any, what: str) -> Any:
    """Return a value as one of a type.

    Args:
        kind: the type, e.g. ``int`` or ``tuple[float, ...]``
        value: as it was given
        what: its name, for messages

    Raises:
        ParameterError: a value of another type

    """
    inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    many = get_origin(inner) or inner
    if many in (list, tuple):
        value = many(value if isinstance(value, list | tuple) else [value])
    if many is not list:
        value = with_tuples(value)
    try:
        return _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        inside = "".join(f".{key}" for key in first["loc"])
        problem = first["msg"].replace("Input should", "it should")
        shown = repr(first["input"])
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise ParameterError(f"{what}{inside} is {shown}; {problem}") from error


def with_tuples(value: Any) -> Any:
    """Return a value with tuples for its lists, however deep."""
    if isinstance(value, list | tuple):
        return tuple(map(with_tuples, value))
    if isinstance(value, Mapping):
        return {key: with_tuples(inner) for key, inner in value.items()}
    return value


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


_adapter = cache(TypeAdapter)
