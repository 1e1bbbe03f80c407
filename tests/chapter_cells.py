"""Cells of chapters, executed alone: what they show is tested where it is written."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def cells(chapter: str) -> Iterator[Any]:
    """Yield the code cells of a chapter."""
    notebook = jupytext.read(NOTEBOOKS / f"{chapter}.py")
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def with_text(chapter: str, text: str) -> str:
    """Return the source of the one cell that holds a text."""
    (source,) = (cell.source for cell in cells(chapter) if text in cell.source)
    return source


def execute(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell; return the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
