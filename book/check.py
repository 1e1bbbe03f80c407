"""Check the stored notebooks: executed, in order, without error, and in step with their text form.

nbval compares only cells that have an execution count, so an unexecuted notebook would pass it
without anything being compared. Prints each fault and returns 1 when there is one.
"""

import sys
from pathlib import Path

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def content(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
    """What the two forms of a notebook share: type, text and tags of every cell."""
    return [
        (cell.cell_type, cell.source.strip(), sorted(cell.metadata.get("tags", [])))
        for cell in notebook.cells
    ]


def faults(path: Path) -> list[str]:
    """What is wrong with one stored notebook, one line a fault."""
    found = []
    notebook = nbformat.read(path, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"{path.name}: cells not executed once from top to bottom: {counts}")
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{path.name}: code cell {number} stores an error: {output.ename}")
    text = path.with_suffix(".py")
    if not text.is_file():
        found.append(f"{path.name}: no text form {text.name}")
    elif content(jupytext.read(text)) != content(notebook):
        found.append(f"{path.name}: differs from {text.name} (make notebooks brings them in step)")
    return found


def main() -> int:
    found = []
    notebooks = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not notebooks:
        found.append(f"{NOTEBOOKS.name}: no notebook there")
    for text in sorted(NOTEBOOKS.glob("*.py")):
        if not text.with_suffix(".ipynb").is_file():
            found.append(f"{text.name}: no notebook {text.stem}.ipynb (make notebooks makes it)")
    for path in notebooks:
        found += faults(path)
    print("\n".join(found) or f"{len(notebooks)} notebooks executed and in step with their text")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
