"""The errors a user can cause. Each message names the file or parameter and its value."""

import re

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


class NotMade(SpeechUnlearnError):
    """What is asked for is not there, and is not to be made now: it is being planned."""


def check_positive(of: object, *names: str) -> None:
    """Raise ParameterError unless these parameters are positive."""
    for name in names:
        if not getattr(of, name) > 0:
            raise ParameterError(f"{name}: {getattr(of, name)} is not positive")


def check_not_negative(of: object, *names: str) -> None:
    """Raise ParameterError unless these parameters are 0 or more."""
    for name in names:
        if not getattr(of, name) >= 0:
            raise ParameterError(f"{name}: {getattr(of, name)} is negative")


def check_choice(of: object, name: str, *choices: str) -> None:
    """Raise ParameterError unless a parameter is one of these."""
    if getattr(of, name) not in choices:
        *others, last = choices
        said = f"{', '.join(others)} or {last}"
        raise ParameterError(f"{name}: {getattr(of, name)!r} is not {said}")
