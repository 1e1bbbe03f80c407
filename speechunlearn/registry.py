"""What a folder of the package defines, and what other packages add by entry points."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from speechunlearn.errors import SpeechUnlearnError, require

T = TypeVar("T")


class RegistryError(SpeechUnlearnError):
    """Something that another package adds, and that cannot be used."""


def found(package: str, kind: type[T]) -> dict[str, T]:
    """Return all things of a kind, by their ``name``.

    They are the values of this type in the modules of a folder of the package, and those that the
    entry points of the group of that name lead to.

    Args:
        package: e.g. ``speechunlearn.methods``, which is also the entry points' group
        kind: type of the things

    Raises:
        RegistryError: an entry point that cannot be loaded or leads to something else, or two
            things of one name

    """
    places: list[tuple[Any, str]] = []
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        values = (value for value in vars(module).values() if isinstance(value, kind))
        places += [(value, module.__name__) for value in values]
    for point, value in added(package):
        told = f"{said(point)} is a {type(value).__name__}, not a {kind.__name__}"
        require(isinstance(value, kind), told, RegistryError)
        places.append((value, said(point)))
    first: dict[str, tuple[T, str]] = {}
    for thing, place in places:
        there, before = first.setdefault(thing.name, (thing, place))
        told = f"{package.rpartition('.')[2]}: {thing.name!r} is defined by {before} and by {place}"
        require(there is thing, told, RegistryError)
    return {name: thing for name, (thing, _) in first.items()}


def added(group: str) -> Iterator[tuple[EntryPoint, Any]]:
    """Yield the entry points of a group, in the order of their names, each with what it leads to.

    Raises:
        RegistryError: one that cannot be loaded

    """
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        try:
            yield point, point.load()
        except Exception as error:
            raise RegistryError(
                f"{said(point)} cannot be loaded: {type(error).__name__}: {error}"
            ) from error


def said(point: EntryPoint) -> str:
    """Return an entry point in words that name its package."""
    package = point.dist.name if point.dist is not None else "unknown"
    return f"entry point {point.name} = {point.value!r} of the package {package!r}"
