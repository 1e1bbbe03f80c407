"""SCRUB+R: SCRUB, rewound to the epoch whose forget error is that of clips it never saw.

Source: Kurmanji et al. 2023, SCRUB and Rewind.
"""

from dataclasses import dataclass

from speechunlearn.methods import scrub
from speechunlearn.methods.base import Method


@dataclass(frozen=True)
class Parameters(scrub.Parameters):
    """Those of `speechunlearn.methods.scrub`, with rewinding on."""

    rewind: bool = True


METHOD = Method("scrub_r", "SCRUB+R", {"forget", "retain", "validation"}, Parameters, scrub.run)
