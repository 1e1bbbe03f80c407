"""A Sphinx extension: pages that load no script from elsewhere and are whole without a network.

Formulas are MathML, made at build time by docutils: every browser of the last years draws it
itself. The scripts that would run cells from within a page (Thebe) are left out: the launch buttons
open a notebook instead.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def mathml(tex: str, display: bool) -> str:
    """Return a formula as a MathML element.

    Raises:
        ExtensionError: LaTeX that docutils does not know

    """
    try:
        return tex2mathml(tex.strip(), as_block=display)
    except Exception as error:
        raise ExtensionError(f"formula {tex.strip()!r}: {error}") from error


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{mathml(node.astext(), False)}</span>')
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


_THEBE = ("init_thebe_core", "update_thebe_context")


def without_thebe(app: Any, config: Any) -> None:
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if getattr(listener.handler, "__name__", "") in _THEBE:
                app.disconnect(listener.id)


def readable(
    app: Any, what: str, name: str, item: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str, Any] | None:
    """Shorten a signature that Sphinx cannot parse, since a default has no source."""
    if not signature or "<factory>" not in signature:
        return None
    short = re.sub(r"~(?:\w+\.)*(\w+)", r"\1", signature)
    return short.replace("<factory>", "…"), returns


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", without_thebe)
    app.connect("autodoc-process-signature", readable)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
