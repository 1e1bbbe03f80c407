"""SSD, selective synaptic dampening: weights that matter to the forget set above all shrink.

Source: Foster et al. 2024. Nothing is trained; the training set enters through
its Fisher information alone, which can be kept in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import Checked, ParameterError, Positive, one_of
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.methods.importance import Importance, estimate
from speechunlearn.models.classifier import Classifier


@dataclass(frozen=True)
class Parameters(Checked):
    """Where to dampen and how much; the defaults are those of the authors' code for ResNet-18.

    The training set holds the forget set, so where both are means over clips, F_D is at least
    ``N/|D| F_e``: once N is the fraction 1/selection of the training set, no weight can be
    selected.

    Args:
        selection: alpha; a weight is dampened where F_e > alpha F_D
        dampening: lambda; it is then multiplied by min(lambda F_D / F_e, 1)
        fisher_per: ``clip`` squares each clip's gradient, as the Fisher information is defined;
            ``batch`` that of a batch's mean, as the authors' code does
        batch_size: clips a batch where fisher_per is ``batch``
        mode: ``eval`` (the authors') or ``train`` (dropout on)

    """

    selection: Positive[float] = 10.0
    dampening: Positive[float] = 1.0
    fisher_per: Annotated[str, one_of("clip", "batch")] = "clip"
    batch_size: Positive[int] = 16
    mode: Annotated[str, one_of("train", "eval")] = "eval"


def run(model: Classifier, data: UnlearningData, parameters: Parameters, work: Work) -> Outcome:
    """Dampen the weights that the forget set needs more than the training set does.

    The training set's statistic is taken as it is given, if it is that of these parameters (of
    single clips, in eval mode); else it is computed from the forget and the retain set.
    """

    def fisher(clips: Clips) -> Importance:
        return estimate(
            "fisher", model, clips, clips.labels, per=parameters.fisher_per,
            batch_size=parameters.batch_size, mode=parameters.mode, seed=work.seed, cost=work,
        )

    of_forget = fisher(data.forget)
    kept_fits = parameters.fisher_per == "clip" and parameters.mode == "eval"
    if data.statistic is not None and kept_fits:
        of_all = data.statistic(model)
    elif data.retain is not None:
        size = 1 if parameters.fisher_per == "clip" else parameters.batch_size
        lost, kept = (-(-len(clips) // size) for clips in (data.forget, data.retain))
        of_retain = fisher(data.retain)
        of_all = {
            name: (lost * value + kept * of_retain[name]) / (lost + kept)
            for name, value in of_forget.items()
        }
    else:
        raise ParameterError(
            f"fisher_per: {parameters.fisher_per!r} and mode: {parameters.mode!r} need the "
            "retain set: the statistic that is given is of single clips in eval mode"
        )
    share = dampen_(model, of_forget, of_all, parameters.selection, parameters.dampening)
    return Outcome(model, {"dampened": share})


def dampen_(
    model: torch.nn.Module,
    of_forget: Mapping[str, Tensor],
    of_all: Mapping[str, Tensor],
    selection: float,
    dampening: float,
) -> float:
    r"""Shrink, in place, the weights that the forget set needs above all.

    .. math:: \theta_k \leftarrow \min(\lambda F_{D,k} / F_{e,k}, 1)\, \theta_k
              \quad\text{where}\quad F_{e,k} > \alpha F_{D,k}

    Args:
        model: changed in place
        of_forget: F_e, diagonal Fisher of the forget set by the name of the weight
        of_all: F_D, that of the whole training set
        selection: alpha
        dampening: lambda

    Returns:
        share of the weights that were selected

    Raises:
        ParameterError: a Fisher information that is not finite

    """
    weights = dict(model.named_parameters())
    selected = total = 0
    with torch.no_grad():
        for name, forget in of_forget.items():
            whole = of_all[name].to(forget)
            if not (forget.isfinite().all() and whole.isfinite().all()):
                raise ParameterError(f"the Fisher information of {name!r} is not finite")
            chosen = forget > selection * whole
            # only chosen weights divide by F_e, which is above zero there
            weights[name][chosen] *= (dampening * whole[chosen] / forget[chosen]).clamp(max=1)
            selected += int(chosen.sum())
            total += chosen.numel()
    return selected / total


METHOD = Method("ssd", "SSD", {"forget", "statistic"}, Parameters, run, hyperparameter="selection")
