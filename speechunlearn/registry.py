"""What a folder of the package defines, and what other packages add by entry points."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from speechunlearn.errors import SpeechUnlearnError

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
    things: dict[str, T] = {}
    places: dict[str, str] = {}

    def add(thing: T, place: str) -> None:
        name = str(thing.name)  # type: ignore[attr-defined]
        if things.get(name, thing) is not thing:
            raise RegistryError(
                f"{package.rpartition('.')[2]}: {name!r} is defined by {places[name]} and by "
                f"{place}"
            )
        things[name], places[name] = thing, places.get(name, place)

    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, kind):
                add(value, module.__name__)
    for point, value in added(package):
        if not isinstance(value, kind):
            raise RegistryError(f"{said(point)} is a {type(value).__name__}, not a {kind.__name__}")
        add(value, said(point))
    return things


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
