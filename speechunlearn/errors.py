"""The errors a user can cause. Each message names the file or parameter and its value."""


class SpeechUnlearnError(ValueError):
    """Base class: anything wrong with what the user gave."""


class CorpusError(SpeechUnlearnError):
    """A corpus, clip, manifest or split that cannot be used."""


class ParameterError(SpeechUnlearnError):
    """A parameter with an unknown name, a wrong type or a value out of range."""


class ModelError(SpeechUnlearnError):
    """An encoder or checkpoint that cannot be loaded."""
