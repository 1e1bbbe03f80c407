"""A Sphinx extension: formulas as MathML, made at build time by docutils.

Every browser of the last years draws MathML itself. So the pages load no script from elsewhere and
are whole without a network.
"""

from __future__ import annotations

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


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
