"""Remain. Unl. with a curriculum: the forget clips are weighted by SuperLoss.

Source: Castells et al. 2020, with MU-Bench's lambda of 10. The curriculum is that of Cheng & Amiri
2025, as Ren et al. 2025 tell it; that it is SuperLoss is taken from MU-Bench, by the same authors.
"""

from dataclasses import dataclass

from speechunlearn.methods import remain
from speechunlearn.methods.base import Method


@dataclass(frozen=True)
class Parameters(remain.Parameters):
    """Those of `speechunlearn.methods.remain`, with the curriculum on."""

    curriculum: str = "superloss"


METHOD = Method(
    "remain_superloss", "Remain. Unl. + SuperLoss", {"forget", "retain"}, Parameters, remain.run
)
