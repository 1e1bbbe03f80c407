"""Print the book that was built last as one file, ``_build/book.pdf``: needs a Chromium.

It is the single page of Jupyter Book's builder ``pdfhtml``, printed from where its styles and
pictures are: the builder prints it in the folder of the first page. Its other builder, LaTeX, has
the tables of a notebook as plain text, and cuts them.

    python book/pdf.py
"""

import re
import shutil
import subprocess
import sys

import build

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: paper neither scrolls nor plays
STYLE = """<style>@media print {
@page { size: A4; margin: 16mm 14mm; }
html { font-size: 11.5px !important; }
.bd-article table { font-size: 0.8em; }
.bd-article :is(.pst-scrollable-table-container, .wide-table) { overflow: visible; }
.bd-article :is(.cell_output, .output) { overflow: visible; }
.bd-article .more { mask-image: none; }
.bd-article table .pinned { position: static; }
.bd-article :is(figure, tr, math) { break-inside: avoid; }
.bd-article :is(h1, h2, h3) { break-after: avoid; }
.bd-article pre { break-inside: auto !important; }
audio, .headerlink { display: none; }
}</style>"""


def one_page(text: str) -> str:
    """Return a page as it is printed: what is folded is open, and no link leads to a file here."""
    text = text.replace("<details", "<details open").replace("</head>", f"{STYLE}</head>", 1)
    text = text.replace('href="book/intro.html#', 'href="#')
    return re.sub(r'(<a\b[^>]*?) href="(?!#|https?:|mailto:)[^"]*"', r"\1", text)


def main() -> int:
    browser = next((name for name in BROWSERS if shutil.which(name)), None)
    folder = build.ROOT / "_build"
    if browser is None or not (folder / "source").is_dir():
        sys.exit("needs a Chromium, and a built book: make html")
    failed = build.render(
        folder / "source", build.ROOT, "--builder", "custom", "--custom-builder", "singlehtml"
    )
    if failed:
        return failed
    pages = folder / "singlehtml"
    page = pages / "printed.html"  # beside its pictures
    page.write_text(one_page((pages / "book" / "intro.html").read_text()))
    return subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer",
         "--generate-pdf-document-outline", "--virtual-time-budget=20000",
         f"--print-to-pdf={folder / 'book.pdf'}", page.as_uri()],
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
