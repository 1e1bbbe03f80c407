"""Stand-ins for the deep-learning libraries: pages are made from stored results without them.

The package computes tables from committed results with pandas, but its modules name torch in
signatures and base classes. `install` puts empty modules in the place of torch and what is built on
it, in this process alone. As a Sphinx extension it does the same for the API pages, and fails the
build if the real torch was loaded after all.
"""

from __future__ import annotations

import sys
from typing import Any

from sphinx.ext.autodoc.mock import MockFinder, ismock

LIBRARIES = ["torch", "torchaudio", "transformers", "safetensors", "accelerate"]


def install() -> None:
    """Put stand-ins in place. Call it before the package is imported."""
    if any(isinstance(finder, MockFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, MockFinder(LIBRARIES))
    import torch

    # jaxtyping asks for a class where it writes a shape beside it
    torch.Tensor = type("Tensor", (), {"__module__": "torch"})


def check() -> None:
    """Raise RuntimeError if a real library was loaded."""
    loaded = [name for name in LIBRARIES if name in sys.modules and not ismock(sys.modules[name])]
    if loaded:
        raise RuntimeError(f"the book is rendered without {', '.join(loaded)}, but it was loaded")


def setup(app: Any) -> dict[str, bool]:
    install()
    app.connect("build-finished", lambda *_: check())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
