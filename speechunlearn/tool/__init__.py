"""A deletion request on anyone's own model, in one call.

>>> from speechunlearn.tool import forget                              # doctest: +SKIP
>>> done = forget("my-model", "clips.csv", out="unlearned")            # doctest: +SKIP
>>> print(done.summary())                                              # doctest: +SKIP

What is asked for is imported when it is: torch and transformers take seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechunlearn.tool.cost import Forecast, forecast
    from speechunlearn.tool.judging import audit
    from speechunlearn.tool.unlearning import Done, forget

__all__ = ["Done", "Forecast", "audit", "forget", "forecast"]

_PLACES = {
    "audit": "judging", "Forecast": "cost", "forecast": "cost", "Done": "unlearning",
    "forget": "unlearning",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
