"""The built book in a browser: `make test-book` runs this after `make book` or `make html`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import browser
import pytest

HTML = Path(__file__).resolve().parent.parent / "_build" / "html"
CHROMIUM = browser.find()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (HTML / "index.html").is_file(), reason="there is no built book: make html builds it"
    ),
]

PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.relative_to(HTML).parts
)
#: where index.html leads on to
START = "book/intro.html"
PHONE, DESKTOP = (390, 844), (1280, 900)


class Names(HTMLParser):
    """The addresses that a page points to, and the places in it that can be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self.addresses |= {values[name] for name in ("href", "src") if name in values}


@functools.cache
def names(page: Path) -> Names:
    return Names(page.read_text())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the book, served from this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HTML)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    tab = browser.Browser(CHROMIUM)
    yield tab
    tab.close()


def broken_links(html: Path, page: str) -> list[str]:
    """The addresses within a site that lead nowhere."""
    broken = []
    for address in sorted(names(html / page).addresses):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not address.strip("#"):
            continue  # of another site, a data URL, or the page itself
        target = (html / page).parent / unquote(parts.path) if parts.path else html / page
        if not target.is_file():
            broken.append(address)
        elif (
            parts.fragment and target.suffix == ".html"
            and unquote(parts.fragment) not in names(target.resolve()).places
        ):
            broken.append(address)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    assert not broken_links(HTML, page)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_nothing_from_elsewhere(page: str) -> None:
    text = (HTML / page).read_text()
    loaded = [
        line.strip()[:200]
        for line in text.splitlines()
        if ("<script" in line and 'src="http' in line)
        or ('rel="stylesheet"' in line and 'href="http' in line)
    ]
    assert not loaded


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_the_browser(page: str, site: str, tab: browser.Browser) -> None:
    tab.size(*PHONE)
    tab.open(urljoin(site, page), leads_to=urljoin(site, START if page == "index.html" else page))
    # what comes into view loads now
    tab.run("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    tab.run("document.querySelectorAll('audio').forEach(audio => {"
            " audio.preload = 'auto'; audio.readyState || audio.load(); })")
    tab.wait("[...document.images].every(image => image.complete)")
    tab.wait("[...document.querySelectorAll('audio')].every("
             " audio => audio.error || audio.readyState >= 1)")

    assert tab.run("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert tab.run(
        "[...document.images].filter(i => !i.alt.trim() || i.alt.startsWith('../'))"
        ".map(i => i.src.slice(0, 99))"
    ) == []
    assert tab.run(
        "[...document.querySelectorAll('audio')].filter(a => a.error || !(a.duration > 0))"
        ".map(a => a.currentSrc.slice(0, 40))"
    ) == []
    width = tab.run("document.documentElement.scrollWidth")
    wide = tab.run(
        "[...document.querySelectorAll('main *')].filter(e => "
        "e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.highlight, .math, "
        "table, pre')).slice(0, 5).map(e => e.tagName + '.' + e.className)"
    )
    assert width <= PHONE[0], f"{width} px wide at {PHONE[0]}: {wide}"
    assert tab.errors() == []


def test_figures_of_chapters_are_numbered_and_captioned(
    site: str, tab: browser.Browser
) -> None:
    for page in (page for page in PAGES if page.startswith("notebooks/")):
        tab.open(urljoin(site, page))
        bare = tab.run(
            "[...document.querySelectorAll('main article img')].filter("
            "i => !i.closest('figure')?.querySelector('.caption-number'))"
            ".map(i => i.src)"
        )
        assert bare == [], page


def test_search_finds_elastic_weight(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "search.html?q=elastic+weight"))
    tab.wait("/finished|matching/i.test(document.querySelector('#search-results').innerText)"
             " && document.querySelectorAll('#search-results li a').length > 0")
    titles = tab.run("[...document.querySelectorAll('#search-results li a')].map(a => a.innerText)")
    assert any("Adv. + Ela." in title for title in titles), titles
    assert tab.errors() == []


def test_theme_switch(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, START))
    tab.run("localStorage.clear()")
    tab.open(urljoin(site, START))
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = {tab.run("document.documentElement.dataset.theme"): tab.run(colour)}
    for _ in range(3):
        tab.run("[...document.querySelectorAll('.theme-switch-button')]"
                ".find(button => button.offsetParent).click()")
        seen[tab.run("document.documentElement.dataset.theme")] = tab.run(colour)
    assert set(seen) == {"light", "dark"}
    assert seen["light"] != seen["dark"]


def test_the_leaderboard_is_sorted_by_a_click(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "notebooks/10_leaderboard.html"))
    heading = (
        "[...document.querySelectorAll('table.dataframe th.sortable')]"
        ".find(th => th.innerText.trim().startsWith('answers changed'))"
    )
    column = (
        f"(() => {{ const th = {heading}; return [...th.closest('table').tBodies[0].rows]"
        ".map(row => parseFloat(row.cells[th.cellIndex].innerText)); })()"
    )
    as_written = tab.run(column)
    tab.run(f"{heading}.click()")
    upwards = tab.run(column)
    tab.run(f"{heading}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter'}}))")
    downwards = tab.run(column)
    assert sorted(as_written) == upwards != as_written
    assert downwards == upwards[::-1]
    assert tab.run(f"{heading}.getAttribute('aria-sort')") == "descending"
    assert tab.errors() == []


def test_launch_and_copy_buttons(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "notebooks/05_table1.html"))
    launches = tab.run(
        "[...document.querySelectorAll('.dropdown-launch-buttons a')].map(a => a.href)"
    )
    assert any("mybinder.org" in a and "notebooks/05_table1.ipynb" in a for a in launches)
    assert any(
        "colab.research.google.com/github" in a and a.endswith("notebooks/05_table1.ipynb")
        for a in launches
    )
    assert tab.run("document.querySelectorAll('button.copybtn').length") > 0
