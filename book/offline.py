"""A Sphinx extension: pages that load no script from elsewhere and are whole without a network.

Formulas are MathML, made at build time by docutils: every browser of the last years draws it
itself, with the font in ``_static/fonts``. The scripts that would run cells from within a page
(Thebe) are left out: the launch buttons open a notebook instead.
"""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import accents, over, tex2mathml
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number


def mathml(tex: str, display: bool) -> str:
    """Return a formula as a MathML element.

    Raises:
        ExtensionError: LaTeX that docutils does not know

    """
    try:
        # \frac12 x: to LaTeX each argument is one digit; docutils would draw 12 / x
        braced = re.sub(r"(\\[dt]?frac)\s*(\d)\s*(\d)", r"\1{\2}{\3}", tex.strip())
        drawn = tex2mathml(braced, as_block=display)
    except Exception as error:
        raise ExtensionError(f"formula {tex.strip()!r}: {error}") from error
    return with_indices_beside_accents(drawn)


_SPACE = "{http://www.w3.org/1998/Math/MathML}"
_ACCENTS = {*accents.values(), *(over[name][0] for name in over if name != "overbrace")}


def with_indices_beside_accents(drawn: str) -> str:
    r"""Return a formula in which the index of an accented letter is beside it, not below it.

    docutils 0.21 takes the accent of ``\hat y_e`` for a limit, as that of a sum, and writes
    ``<munderover> y e ^ </munderover>``.

    Args:
        drawn: a MathML element

    """
    ElementTree.register_namespace("", _SPACE[1:-1])
    # the names of characters that HTML knows and XML does not
    named = re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda found: html.unescape(found[0]), drawn)
    root = ElementTree.fromstring(named)
    for both in list(root.iter(f"{_SPACE}munderover")):
        letter, index, above = both
        accent = above.tag == f"{_SPACE}mo" and above.text in _ACCENTS
        if not accent or not {"stretchy", "accent"} & above.attrib.keys():
            continue
        for child in list(both):
            both.remove(child)
        own = "true" if "stretchy" in above.attrib else "false"
        both.tag = f"{_SPACE}msub"
        accented = ElementTree.SubElement(both, f"{_SPACE}mover", accent=own)
        accented.extend([letter, above])
        both.append(index)
    # an exponent as well: all at one letter
    for power in list(root.iter(f"{_SPACE}msup")):
        if power[0].tag == f"{_SPACE}msub" and power[0][0].tag == f"{_SPACE}mover":
            power.tag = f"{_SPACE}msubsup"
            power[:1] = list(power[0])
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{mathml(node.astext(), False)}</span>')
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(mathml(node.astext(), True))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
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
