"""The errors a user can cause. Each message names the file or parameter and its value."""

import contextlib
import errno
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


class LackError(SpeechUnlearnError):
    """Memory that this machine lacks now: the same call may go on later, or elsewhere."""


def require(
    holds: object, problem: str, kind: type[SpeechUnlearnError] = ParameterError
) -> None:
    """Raise an error with this message unless something holds."""
    if not holds:
        raise kind(problem)


#: what torch, its kernels, safetensors and the system say where memory is short
_LACK = re.compile(
    "can't allocate memory|cannot allocate memory|not enough memory|out of memory|bad_alloc|"
    "could not create a primitive|failed to allocate|unable to allocate", re.IGNORECASE
)


@contextlib.contextmanager
def lack_is_told() -> Iterator[None]:
    """Turn what is raised where memory is short, whatever was made of it, into LackError.

    Examples:
        >>> with lack_is_told():
        ...     raise CorpusError("clips.csv: unusable") from MemoryError()
        Traceback (most recent call last):
        speechunlearn.errors.LackError: out of memory: run it again when there is more: MemoryError

    """
    try:
        yield
    except LackError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not _is_lack(cause):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        what = f"{type(cause).__name__}: {cause}".rstrip(": ").splitlines()[0][:200]
        raise LackError(f"out of memory: run it again when there is more: {what}") from error


def _is_lack(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, SpeechUnlearnError):  # which may cite anything
        return False
    return isinstance(error, MemoryError) or bool(_LACK.search(str(error)))


class NotMade(SpeechUnlearnError):
    """What is asked for is not there, and is not to be made now: it is being planned."""


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
