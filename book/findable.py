"""A Sphinx extension: what a search engine, who is sent a link, and who cites is told of a page."""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes

#: of pages without a paragraph
DESCRIPTION = (
    "Machine unlearning for speech models from the forget set alone: deletion requests (GDPR, "
    "right to erasure), methods and metrics beside retrained models."
)
#: the picture that is shown beside a link
PICTURE = "_static/social.png"


def description(doctree: nodes.document | None) -> str:
    """Return what a page is about: its first paragraph, in up to 200 characters."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        words = " ".join(paragraph.astext().split())
        if len(words) > 40:
            return words if len(words) <= 200 else words[:199].rpartition(" ")[0] + " …"
    return DESCRIPTION


def tags(title: str, about: str, base: str, page: str, cited: dict[str, str]) -> str:
    """Return the elements of a page's head.

    Args:
        title: of the page
        about: its description
        base: the address of the book; empty where it has none yet
        page: its name
        cited: what a reference manager is told beside the title

    """
    said = {"og:type": "article", "og:title": title, "og:description": about}
    if base:
        said |= {"og:image": f"{base.rstrip('/')}/{PICTURE}",
                 "og:url": f"{base.rstrip('/')}/{page}.html"}
    lines = [f'<meta name="description" content="{html.escape(about)}">']
    lines += [f'<meta property="{k}" content="{html.escape(v)}">' for k, v in said.items()]
    cited = {"citation_title": title} | cited
    lines += [f'<meta name="{k}" content="{html.escape(v)}">' for k, v in cited.items()]
    return "\n".join([*lines, '<meta name="twitter:card" content="summary_large_image">'])


def add(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    title, config = plain(context.get("title", "")), app.config
    cited = {
        "citation_inbook_title": config.html_title, "citation_author": config.author,
        "citation_publication_date": config.copyright,
    }
    context["metatags"] = context.get("metatags", "") + tags(
        title, description(doctree), config.html_baseurl, page, cited
    )
    # the foot is one text on all pages, which lie at different depths
    context["theme_extra_footer"] = context.get("theme_extra_footer", "").replace(
        "references.html", context["pathto"]("book/references")
    )


def plain(title: str) -> str:
    """Return a title without its markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", title))


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
