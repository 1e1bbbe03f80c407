"""How a table of the book is typeset: one function, whatever the table is about."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from xml.etree import ElementTree

import pandas as pd

from speechunlearn.lab.results import MISSING, TITLES, number

#: columns of results as a reader calls them
HEADINGS = {
    "n_forget": "N", "forget_id": "forget set", "forget_set": "forget set", "p_paired": "p",
    "p_mcnemar": "p, McNemar", "p_z": "p, z-test", "forward_backward": "clips forward and backward",
    "peak_memory_mb": "peak memory (MiB)",
}
#: decimals of a column, where they are not two
DIGITS = {"seconds": 1, "average gap": 3, "in standard deviations": 3}


def typeset(values: Sequence[object], name: str = "", digits: int = 2) -> list[str]:
    """Return the cells of a column as text.

    Numbers have as many decimals as the column asks for, counts none; a value that is missing is a
    dash; a *p* below .001 says so, and no *p* has a zero that it cannot do without. Text stays.

    Args:
        values: of one column
        name: its heading: ``p``, or ``p, test``, is a probability under a null hypothesis
        digits: decimals

    Examples:
        >>> typeset([3.0, 21930.0, None])
        ['3', '21,930', '–']
        >>> typeset([0.5, 1.0, float("nan")])
        ['0.50', '1.00', '–']
        >>> typeset([0.00003, 0.00001])
        ['0.000030', '0.000010']
        >>> typeset([0.00002, 0.0415], "p")
        ['< .001', '.042']

    """
    numbers = [v for v in values if isinstance(v, Real) and not isinstance(v, bool) and v == v]
    sizes = [abs(float(v)) for v in numbers]
    if sizes and 0 < max(sizes) < 10.0**-digits / 2:
        digits = 1 - math.floor(math.log10(max(sizes)))  # two of the largest
    count = all(isinstance(v, Integral) for v in numbers) or (
        all(size.is_integer() for size in sizes) and max(sizes) > 1
    )

    def text(value: object) -> str:
        if value is None or value is pd.NA or value != value:
            return MISSING
        if isinstance(value, bool) or not isinstance(value, Real):
            return str(value)
        if name.split(",")[0] == "p":
            return "< .001" if value < 0.001 else number(value, 3).removeprefix("0")
        return f"{value:,.0f}" if count else number(value, digits)

    return [text(value) for value in values]


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
        marks.append("---:" if _numeric(column) else "---")
    lines = [list(header), marks, *(list(row) for row in zip(*columns, strict=True))]
    return "\n".join("| " + " | ".join(map(_in_a_line, line)) + " |" for line in lines)


def _numeric(cells: Iterable[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", MISSING)]
    return bool(filled) and all(map(is_number, filled))


def _in_a_line(cell: str) -> str:
    return cell.replace("\n", " ").replace("|", "\\|")


def html(frame: pd.DataFrame) -> str:
    """Return a table as a notebook shows it: as `typeset` has it, by readers' names.

    Examples:
        >>> table = html(pd.DataFrame({"n_forget": [3.0], "p_z": [0.0]}, index=["adv"]))
        >>> cells = ("<th>Adv.</th>", '<th class="number">N</th>', ">&lt; .001</td>")
        >>> [cell in table for cell in cells]
        [True, True, True]

    """
    text = frame.copy()
    for place, name in enumerate(map(_heading, frame.columns)):
        last = str(name[-1] if isinstance(name, tuple) else name)
        cells = typeset(frame.iloc[:, place].tolist(), last, DIGITS.get(last, 2))
        text.isetitem(place, pd.array(cells, dtype=object))
    numeric = [_numeric(text.iloc[:, place]) for place in range(text.shape[1])]
    text.index, text.columns = map(_named, (frame.index, frame.columns))
    table = ElementTree.fromstring(text.to_html(border=0))
    for row in table.iter("tr"):
        for cell, right in zip(list(row)[-len(numeric) :], numeric, strict=False):
            if right and "colspan" not in cell.attrib:
                cell.set("class", "number")
    return ElementTree.tostring(table, encoding="unicode", method="html")


def _named(axis: pd.Index) -> pd.Index:
    names = [_heading(name) for name in axis.names]
    return axis.map(_heading).set_names(names) if len(axis) else axis


def _heading(name: object) -> object:
    if isinstance(name, tuple):
        return tuple(map(_heading, name))
    return (TITLES | HEADINGS).get(name, name) if isinstance(name, str) else name


def in_notebooks() -> None:
    """Let a notebook show every table as `html` has it; nothing outside of one."""
    from IPython import get_ipython

    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, html)
