"""The unlearning methods: one file each, one line each here."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from speechunlearn.errors import ParameterError
from speechunlearn.methods import (
    adv,
    adv_ela,
    altered,
    amun,
    amun_r,
    bad_teacher,
    boundary_expand,
    boundary_shrink,
    cf_k,
    delete,
    eu_k,
    finetune,
    fisher_forgetting,
    influence,
    jit,
    l1_sparse,
    l2ul,
    neggrad,
    neggrad_plus,
    ran_lab,
    remain,
    remain_superloss,
    retrain,
    salun,
    scrub,
    scrub_r,
    sisa,
    sisa_plus,
    ssd,
    unsir,
)
from speechunlearn.methods.base import Method, Outcome, Request

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        retrain, remain, remain_superloss, ran_lab, adv, adv_ela,
        finetune, neggrad, neggrad_plus, scrub, scrub_r, salun, bad_teacher, delete, ssd,
        cf_k, eu_k, l1_sparse, fisher_forgetting, influence, unsir, boundary_shrink,
        boundary_expand, jit, l2ul, amun, amun_r, sisa, sisa_plus, altered,
    )
}

__all__ = ["METHODS", "Method", "Outcome", "Request", "get", "parameters"]


def get(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ParameterError: there is none

    """
    if name not in METHODS:
        raise ParameterError(f"method: {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[name]


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
