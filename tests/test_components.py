"""Chapters 01 to 10, and 13, rebuild what they are about, and assert that the package does it too.

The asserts themselves run where the stored notebooks are compared. Here: that none has lost them.
"""

import ast
from pathlib import Path
from types import SimpleNamespace

import chapter_cells
import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from speechunlearn.chapters import figures

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
#: the first notebook of each number: what comes after it is a part, and works with the same code
FIRST = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"), reverse=True)}
CHAPTERS = [FIRST[f"{i:02d}"] for i in (*range(1, 11), 13)]
WIDTH = 88  # of a page's code column
A_DOZEN = 16  # lines of a definition, docstring included


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def trees(cells):
    return [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]


def asserts(tree):
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def defined(tree):
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def of_the_package(cells):
    """Names that are imported from the package."""
    return {
        alias.asname or alias.name for tree in trees(cells) for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("speechunlearn")
        for alias in node.names
    }


def calls(cells):
    """What is called in some cells, by name."""
    nodes = (node for tree in trees(cells) for node in ast.walk(tree))
    return {
        node.func.id for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def faults(notebook):
    """What a chapter lacks, one line a fault."""
    components, agreements, solutions = (
        tagged(notebook, tag) for tag in ("component", "agrees", "solution")
    )
    found = [
        f"no cell that {what}" for what, cells in
        {"defines it": components, "compares it": agreements}.items() if not cells
    ]
    functions = [function for tree in trees(components) for function in defined(tree)]
    called = calls(notebook.cells)
    for function in functions:
        if function.end_lineno - function.lineno >= A_DOZEN:
            found.append(f"{function.name} is too long to be read at a glance")
        if function.name not in called:
            found.append(f"{function.name} is never called")
        if not ast.get_docstring(function):
            found.append(f"{function.name} does not say what it is")
    if components and not functions:
        found.append("no definition")
    package = of_the_package(notebook.cells)
    for tree in trees(agreements):
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if not asserts(tree) or not names & package:
            found.append("a comparison that asserts nothing of the package")
    if len(solutions) < 2:
        found.append(f"{len(solutions)} solutions")
    for cell, tree in zip(solutions, trees(solutions), strict=True):
        if not asserts(tree) or "hide-cell" not in cell.metadata["tags"]:
            found.append("a solution that asserts nothing, or is not folded")
    for cell in [*components, *agreements, *solutions]:
        found += [
            f"wider than the page: {line!r}" for line in cell.source.splitlines()
            if len(line) > WIDTH
        ]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found += [f"no {title!r}" for title in ("What to remember", "Exercises") if title not in text]
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_rebuilds_its_component(path):
    assert faults(jupytext.read(path)) == []


def test_no_chapter_is_passed_over():
    assert [path.name[:2] for path in CHAPTERS] == [f"{i:02d}" for i in (*range(1, 11), 13)]


@pytest.mark.parametrize(
    "tag, change, said",
    [
        ("agrees", lambda source: source.replace("assert ", "print, "), "asserts nothing of"),
        ("solution", lambda source: source.replace("assert ", "print, "), "a solution that"),
        ("component", lambda source: source.replace("def read", "def unread"), "never called"),
        ("component", lambda source: "import numpy", "no definition"),
        ("agrees", lambda source: source + "\n" + "x = 1  #" + 90 * "-", "wider than"),
    ],
)
def test_what_is_lost_is_named(tag, change, said):
    notebook = jupytext.read(CHAPTERS[0])
    for cell in tagged(notebook, tag):
        cell.source = change(cell.source)
    assert any(said in fault for fault in faults(notebook))


def drawn(chapter, text, **names):
    """The axes that a cell draws, from what it would find."""
    names |= {"figures": figures, "np": np, "pd": pd}
    chapter_cells.execute(chapter_cells.with_text(chapter, text), names)
    plt.close("all")
    return names["figure"].axes


def test_importance_is_drawn_by_layer():
    importance = {
        "network.wav2vec2.masked_spec_embed": torch.zeros(3),
        "network.wav2vec2.encoder.layers.0.attention.k_proj.weight": torch.ones(2, 2),
        "network.wav2vec2.encoder.layers.0.attention.k_proj.bias": torch.full((4,), 3.0),
        "network.wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0":
            torch.full((1,), 7.0),
        "network.classifier.weight": torch.full((2,), 5.0),
    }
    (axis,) = drawn(
        "04_adversarial_and_elastic", "def layer_of", original=None, forget=None, wrong=None,
        fisher=lambda *_: importance,
    )
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["layers 0", "pos_conv_embed conv", "classifier"]
    assert [bar.get_width() for bar in axis.patches] == [2, 7, 5]


def test_dark_pairs_are_those_the_attack_wins():
    clips = pd.DataFrame({
        "split": ["forget"] * 2 + ["unseen"] * 3, "hash": list("abcde"),
        "loss": [0.3, 0.1, 0.2, 0.4, 0.05],
    })
    (axis,) = drawn("09_audit", "won = ", tables=SimpleNamespace(judged={"x": clips}), method="x")
    assert axis.collections[0].get_array().reshape(2, 3).tolist() == [
        [False, True, True], [False, False, True],
    ]
