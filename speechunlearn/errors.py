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
