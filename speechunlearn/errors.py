"""The errors a user can cause. Each message names the file or parameter and its value."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

#: what no message, page or terminal is to be given: control characters, and half characters
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class SpeechUnlearnError(ValueError):
    """Base class: anything wrong with what the user gave."""


class CorpusError(SpeechUnlearnError):
    """A corpus, clip, manifest or split that cannot be used."""


class ParameterError(SpeechUnlearnError):
    """A parameter with an unknown name, a wrong type or a value out of range."""


class ModelError(SpeechUnlearnError):
    """An encoder or checkpoint that cannot be loaded."""


class NoMemory(SpeechUnlearnError):
    """Memory that this machine does not have now: no fault of a request."""


class NotMade(SpeechUnlearnError):
    """What is asked for is not there, and is not to be made now: it is being planned."""


def lacks_memory(error: BaseException) -> bool:
    """Return whether memory was asked for in vain: of torch, that is a RuntimeError as others."""
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("allocate memory", "OutOfMemoryError", "out of memory")
    )


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Turn whatever is raised where memory is not enough into NoMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise NoMemory(
            f"memory is not enough ({reason[:200]}): give the same command again where there is "
            "more; what is finished is kept"
        ) from error


@dataclass(frozen=True)
class Rule:
    """What the value of a field must be; it stands in the field's annotation."""

    holds: Callable[[Any], bool]
    broken: Callable[[Any], str]


T = TypeVar("T")
Positive = Annotated[T, Rule(lambda v: v is None or v > 0, lambda v: f"{v} is not positive")]
NotNegative = Annotated[T, Rule(lambda value: value >= 0, lambda value: f"{value} is negative")]
Share = Annotated[
    float, Rule(lambda v: 0 < v <= 1, lambda v: f"{v} is not above 0 and at most 1")
]


def one_of(*choices: str) -> Rule:
    """Return the rule of a field that is one of these."""
    said = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return Rule(choices.__contains__, lambda value: f"{value!r} is not {said}")


class Checked:
    """Base of dataclasses whose fields follow the rules of their annotations, inherited ones too.

    Examples:
        >>> @dataclass
        ... class Attack(Checked):
        ...     steps: Positive[int] = 5
        >>> Attack(steps=0)
        Traceback (most recent call last):
        speechunlearn.errors.ParameterError: steps: 0 is not positive

    """

    def __post_init__(self) -> None:
        """Raise ParameterError at the first field that does not."""
        for kind in reversed(type(self).__mro__):
            for name, hint in get_type_hints(kind, include_extras=True).items():
                for rule in getattr(hint, "__metadata__", ()):
                    value = getattr(self, name)
                    if isinstance(rule, Rule) and not rule.holds(value):
                        raise ParameterError(f"{name}: {rule.broken(value)}")
