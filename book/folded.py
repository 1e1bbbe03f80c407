"""What of a chapter is folded: code that is not the chapter's subject, and the smoke run.

`arrange` prepares the cells of a staged notebook for MyST-NB; as a Sphinx extension, this wraps the
section `SECTION` of a chapter in ``<details>``. Where the notebook was run with another profile
than smoke, that run is what the page is about, and is open.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes

SECTION = "Run it yourself"
#: what ends in a table of costs, which is folded by itself
COSTED = ("pages.table(", "pages.forget_sets_of(")
#: cells of which the code is shown: the component, and that the package does the same
SHOWN = {"component", "agrees"}


def arrange(notebook: Path) -> None:
    """Say of each code cell whether its code is shown, folded or left out.

    Left out are the start, which every chapter has, what papermill was given, and the code beside
    the answer and what made the page. The parameters go to the section `SECTION`, folded.
    """
    content = json.loads(notebook.read_text())
    cells, parameters = [], []
    for cell in content["cells"]:
        tags, source = cell["metadata"].setdefault("tags", []), "".join(cell["source"])
        if cell["cell_type"] != "code":
            cells.append(cell)
            if source.startswith(f"## {SECTION}\n"):
                cells += parameters
        elif "parameters" in tags:
            texts = {"code_prompt_show": "Parameters", "code_prompt_hide": "Parameters"}
            cell["metadata"] |= {"tags": [*tags, "hide-input"], "mystnb": texts}
            parameters = [cell]
        elif "injected-parameters" not in tags and "context.start(" not in source:
            if "answer" in tags or "made_by()" in source:
                tags.append("remove-input")
            elif not {*SHOWN, "hide-cell", "remove-input"} & {*tags}:
                tags.append("hide-input")
            if "solution" in tags:
                texts = {"code_prompt_show": "Show the solution", "code_prompt_hide": "Solution"}
                cell["metadata"]["mystnb"] = texts
            if "pages.cards(" in source:  # a table to look something up: a row a model
                tags[:] = [tag for tag in tags if tag != "hide-input"] + ["hide-cell"]
            cells.append(cell)
            if any(call in source for call in COSTED) and len(cell["outputs"]) > 1:
                texts = {"code_prompt_show": "What it cost", "code_prompt_hide": "What it cost"}
                cells.append({
                    "cell_type": "code", "execution_count": None, "id": f"{cell['id']}-cost",
                    "metadata": {"tags": ["remove-input", "hide-output"], "mystnb": texts},
                    "source": "# more of the cell above", "outputs": [cell["outputs"].pop()],
                })
    notebook.write_text(json.dumps(content | {"cells": cells}))


def _wrap(app: Any, doctree: nodes.document) -> None:
    """Fold the section; what stands above its first cell or heading stays in sight."""
    for section in doctree.findall(nodes.section):
        if section[0].astext() != SECTION:
            continue
        inside = next(
            (i for i, child in enumerate(section.children)
             if i and not isinstance(child, (nodes.paragraph, nodes.literal_block))),
            len(section.children),
        )  # fmt: skip
        page = Path(app.env.doc2path(app.env.docname)).read_text()
        opened = "" if "Profile smoke;" in page else " open"
        start = f'<details class="run-it-yourself"{opened}><summary>Show the run</summary>'
        section.insert(inside, nodes.raw("", start, format="html"))
        section.append(nodes.raw("", "</details>", format="html"))


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-read", _wrap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
