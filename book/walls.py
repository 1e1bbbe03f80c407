"""The wings of the package, the walls between them, and their picture: read from the imports.

    python book/walls.py        # say which import breaks a wall; draw book/images/wings.svg anew

A wing is a folder of ``speechunlearn/``; the modules beside the folders are the ground. Each
imports only from the wings that `MAY` names, and `MAY` names only wings below it: there is no way
back up.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "speechunlearn"
PICTURE = ROOT / "book" / "images" / "wings.svg"

_BELOW_LAB = ("ground", "corpora", "audit", "dataset", "models", "methods")

#: wing -> the wings that it may import from, from the ground up
MAY: dict[str, tuple[str, ...]] = {
    "ground": (),
    "corpora": ("ground",),
    "audit": ("ground",),
    "dataset": ("ground", "corpora"),
    "models": ("ground", "dataset"),
    "methods": ("ground", "dataset", "models"),
    "lab": _BELOW_LAB,
    "tool": _BELOW_LAB,
    "chapters": (*_BELOW_LAB, "lab", "tool"),
    "cli": (*_BELOW_LAB, "lab", "tool", "chapters"),
}

#: what each is for, as the picture says it
FOR = {
    "ground": "errors, whole files, where a number came from, finished work found again",
    "corpora": "a folder of recordings → a manifest; one reader a file; no torch",
    "audit": "predictions → scores, intervals, attacks, report card; no torch, no model",
    "dataset": "a manifest → splits, tasks, waveforms in memory",
    "models": "the classifier, training, the faster computation, several processes",
    "methods": "a model and the data it may see → an unlearned model; PGD, importance",
    "lab": "a corpus in a profile → evaluations, results, tuning, leaderboard",
    "tool": "anyone's checkpoint and CSV → an unlearned checkpoint and its report",
    "chapters": "runs a notebook, plans its jobs, draws its figures and tables",
    "cli": "the command line",
}


class Import(NamedTuple):
    """One import of a module of the package by another.

    Attributes:
        file: path below the repository
        line: where it stands
        importer: wing of the file
        imported: name of the module
        wing: wing of that module

    """

    file: str
    line: int
    importer: str
    imported: str
    wing: str


def wing_of(module: str) -> str:
    """Return the wing of a module, e.g. ``speechunlearn.audit.metrics``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY else "ground"


def imports(package: Path = PACKAGE) -> Iterator[Import]:
    """Yield every import of the package from itself, also those inside functions."""
    root = package.parent
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:  # relative: from . and from .x
                    above = name.split(".")
                    above = above[: len(above) - node.level + (path.name == "__init__.py")]
                    base = ".".join([*above, *([base] if base else [])])
                inner = [f"{base}.{alias.name}" for alias in node.names]
                found = sorted({one if one in modules else base for one in inner})
            else:
                continue
            for one in found:
                if one.split(".")[0] == package.name and one != package.name:
                    yield Import(
                        str(path.relative_to(root)), node.lineno, wing_of(name), one, wing_of(one)
                    )


def broken(package: Path = PACKAGE) -> list[str]:
    """Return a line for each import that goes through a wall."""
    return [
        f"{one.file}:{one.line}: {one.importer} may not import {one.imported} ({one.wing})"
        for one in imports(package)
        if one.wing != one.importer and one.wing not in MAY[one.importer]
    ]


def floors(package: Path = PACKAGE) -> dict[str, int]:
    """Return the floor of each wing: one above the highest that it does import from."""
    arrows = {(one.importer, one.wing) for one in imports(package) if one.importer != one.wing}
    found: dict[str, int] = {}
    for wing in MAY:  # from the ground up
        found[wing] = 1 + max((found[b] for a, b in arrows if a == wing), default=0)
    return found


def picture(package: Path = PACKAGE) -> str:
    """Return the wings as SVG, the ground below, with an arc for each pair that imports."""
    order = list(reversed(MAY))
    height, left, wide = 46, 20, 620
    count = Counter((one.importer, one.wing) for one in imports(package))
    modules = Counter(
        wing_of(".".join(path.relative_to(package.parent).with_suffix("").parts))
        for path in package.rglob("*.py") if path.name != "__init__.py"
    )
    middle = {wing: 34 + height * i for i, wing in enumerate(order)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height * len(order) + 24}" '
        'role="img" font-family="sans-serif">',
        "<title>The wings of the package; an arc for every pair of which the upper imports the "
        "lower</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for wing in order:
        y = middle[wing]
        lines += [
            f'<rect x="{left}" y="{y - 18}" width="{wide}" height="36" rx="6" fill="#eef2f7" '
            'stroke="#4a5568"/>',
            f'<text x="{left + 12}" y="{y + 5}" font-size="15" font-weight="bold" '
            f'fill="#1a202c">{wing}</text>',
            f'<text x="{left + 98}" y="{y + 5}" font-size="12" fill="#2d3748">{FOR[wing]} '
            f"({modules[wing]})</text>",
        ]
    for (upper, lower), number in sorted(count.items()):
        if upper == lower:
            continue
        a, b = middle[upper], middle[lower]
        bend = 30 + 22 * (order.index(lower) - order.index(upper))
        lines.append(
            f'<path d="M {left + wide} {a} C {left + wide + bend} {a}, {left + wide + bend} {b}, '
            f'{left + wide} {b}" fill="none" stroke="#2b6cb0" stroke-opacity="0.55" '
            f'stroke-width="{min(1 + number / 15, 4):.1f}"><title>{upper} imports {lower} '
            f"{number} times</title></path>"
        )
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    faults = broken()
    well = f"{len(MAY)} wings on {max(floors().values())} floors, no wall broken"
    print("\n".join(faults) or well)
    PICTURE.write_text(picture())
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
