"""Machine unlearning for speech when only the forget set is at hand."""

__version__ = "0.1.0"
