"""The unlearning methods: one file each, found by its ``METHOD``.

Another package adds one by an entry point of the group ``speechunlearn.methods`` that names its
`speechunlearn.methods.base.Method`.
"""

from dataclasses import fields
from functools import cache
from typing import Any

from speechunlearn import registry
from speechunlearn.errors import ParameterError
from speechunlearn.methods.base import Method, Outcome, UnlearningData

__all__ = ["METHODS", "Method", "Outcome", "UnlearningData", "get", "parameters"]

#: the paper's, in the order of its table; the others follow by name
_PAPER = ("retrain", "remain", "remain_superloss", "ran_lab", "adv", "adv_ela")

#: every method by its name; found when it is first asked for, as another package's may import
#: `speechunlearn.methods.base` before it has defined its own
METHODS: dict[str, Method]


@cache
def _found() -> dict[str, Method]:
    methods = registry.found(__name__, Method)
    order = {name: place for place, name in enumerate(_PAPER)}
    return dict(sorted(methods.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        return _found()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ParameterError: there is none

    """
    known = _found()
    if name not in known:
        raise ParameterError(f"method: {name!r} is not one of {', '.join(known)}")
    return known[name]


def parameters(name: str, **values: Any) -> Any:
    """Return a method's parameters, with these values in place of the defaults.

    Raises:
        ParameterError: a name that the method does not have

    """
    method = get(name)
    known = [field.name for field in fields(method.parameters)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ParameterError(f"method {name!r} has no parameter {unknown}; it has {known}")
    return method.parameters(**values)
