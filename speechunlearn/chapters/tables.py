"""How a table of the book is typeset: one function, whatever the table is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral, Real

import pandas as pd

#: what stands where there is no value
MISSING = "–"


def typeset(values: Sequence[object], name: str = "", digits: int = 2) -> list[str]:
    """Return the cells of a column as text.

    Numbers have as many decimals as the column asks for, counts none; a value that is missing is a
    dash; a *p* below .001 says so, and no *p* has a zero that it cannot do without. Text stays.

    Args:
        values: of one column
        name: its heading: ``p`` is a probability under a null hypothesis
        digits: decimals

    Examples:
        >>> typeset([3.0, 21930.0, None])
        ['3', '21,930', '–']
        >>> typeset([0.5, 1.0, float("nan")])
        ['0.50', '1.00', '–']
        >>> typeset([0.00002, 0.0415], "p")
        ['< .001', '.042']

    """
    numbers = [v for v in values if isinstance(v, Real) and not isinstance(v, bool) and v == v]
    sizes = [abs(float(v)) for v in numbers]
    count = all(isinstance(v, Integral) for v in numbers) or (
        all(size.is_integer() for size in sizes) and max(sizes) > 1
    )

    def text(value: object) -> str:
        if value is None or value is pd.NA or value != value:
            return MISSING
        if isinstance(value, bool) or not isinstance(value, Real):
            return str(value)
        if name == "p":
            return "< .001" if value < 0.001 else number(value, 3).removeprefix("0")
        return f"{value:,.0f}" if count else number(value, digits)

    return [text(value) for value in values]


def number(value: Real, digits: int = 2) -> str:
    """Return a rounded number; halves go up, whatever the last bits of a sum say."""
    return MISSING if value != value else f"{float(value) + 1e-9:.{digits}f}"


def with_interval(value: Real, low: Real, high: Real, digits: int = 2) -> str:
    """Return a number with its interval.

    Examples:
        >>> with_interval(0.5, 0.125, float("nan"))
        '0.50 [0.13, –]'

    """
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, possibly with an interval, a unit or 'of so many'.

    Examples:
        >>> [is_number(cell) for cell in ("0.02 [0.01, 0.03]", "11 of 12", "< .001", "N = 10")]
        [True, True, True, False]

    """
    return re.match(r"[-−<]? ?\.?\d", cell) is not None


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]], digits: int = 2) -> str:
    """Return a table in Markdown, columns of numbers to the right.

    Args:
        header: a heading a column
        rows: the cells
        digits: decimals of numbers

    Examples:
        >>> print(markdown(["Method", "Gap"], [["AMUN", 0.0487], ["JiT", None]]))
        | Method | Gap |
        | --- | ---: |
        | AMUN | 0.05 |
        | JiT | – |

    """
    columns = [
        typeset(column, name, digits)
        for name, column in zip(header, zip(*rows, strict=True), strict=False)
    ] or [[] for _ in header]
    marks = []
    for column in columns:
        filled = [cell for cell in column if cell not in ("", MISSING)]
        marks.append("---:" if filled and all(map(is_number, filled)) else "---")
    lines = [list(header), marks, *(list(row) for row in zip(*columns, strict=True))]
    return "\n".join("| " + " | ".join(map(_in_a_line, line)) + " |" for line in lines)


def _in_a_line(cell: str) -> str:
    return cell.replace("\n", " ").replace("|", "\\|")
