"""Whether a page shows all that its notebook made: images, tables, audio players and texts.

Whatever a renderer leaves out, it leaves out without a word.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from markdown_it import MarkdownIt

#: what is counted, by the element that shows it
KINDS = {"img": "images", "table": "tables", "audio": "audio players"}


def words(element: Tag) -> str:
    """Return the words of an element, which no wrapping or markup changes."""
    return " ".join(re.findall(r"\w+", element.get_text(" ")))


def made(notebook: dict[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """Return what a notebook's outputs hold.

    Args:
        notebook: its JSON

    Returns:
        how many there are of each kind of `KINDS`, and the words of each output that has some

    """
    kinds: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                kinds["images"] += 1
                continue
            html = "".join(data.get("text/html", ""))
            if not html:
                html = MarkdownIt().render("".join(data.get("text/markdown", "")))
            if html:
                shown = BeautifulSoup(html, "html.parser")
            else:
                shown = BeautifulSoup("<pre></pre>", "html.parser")
                shown.append("".join(output.get("text", data.get("text/plain", ""))))
            kinds.update(kind for name, kind in KINDS.items() for _ in shown.find_all(name))
            if text := words(shown):
                texts[text] += 1
    return kinds, texts


def losses(notebook: dict[str, Any], page: str) -> list[str]:
    """Return what a page does not show of what its notebook made, or shows twice: a line each.

    Args:
        notebook: its JSON
        page: HTML

    """
    outputs = BeautifulSoup(page, "html.parser").select("div.cell_output")
    kinds, texts = made(notebook)
    found = []
    for name, kind in KINDS.items():
        shown = sum(len(output.find_all(name)) for output in outputs)
        if shown != kinds[kind]:
            found.append(f"{kind}: {kinds[kind]} made, {shown} shown")
    everything = " | ".join(words(output) for output in outputs)
    for text, count in texts.items():
        shown = len(re.findall(rf"\b{text}\b", everything))
        if shown < count:
            found.append(f"text made {count} times, shown {shown} times: {text[:80]!r}")
    return found


def check(notebooks: list[Path], html: Path) -> list[str]:
    """Return what the pages of a built book lack of their notebooks, a line each."""
    found = []
    for path in notebooks:
        page = html / "notebooks" / f"{path.stem}.html"
        if not page.is_file():
            found.append(f"{path.name}: no page {page.name}")
            continue
        told = losses(json.loads(path.read_text()), page.read_text())
        found += [f"{path.name}: {line}" for line in told]
    return found
