"""The built book in a browser: `make test-book` runs this after `make book` or `make html`."""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote, urljoin, urlsplit

import browser
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book"))
import complete  # noqa: E402

HTML = ROOT / "_build" / "html"
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
PHONE, TABLET, DESKTOP = (390, 844), (820, 1180), (1280, 900)
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]

#: whether an element, e, is on the screen
SEEN = (
    "(e => { const r = e.getBoundingClientRect();"
    " return r.width > 0 && r.height > 0 && r.right > 1 && r.bottom > 1 && r.left < innerWidth - 1"
    " && r.top < innerHeight - 1 && e.checkVisibility({visibilityProperty: true}); })"
)


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


#: opens all that is folded on a page
UNFOLD = "document.querySelectorAll('article details').forEach(part => { part.open = true; })"


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


@pytest.mark.parametrize("page", [page for page in PAGES if page != "index.html"])
@pytest.mark.parametrize("size, theme", [(TABLET, "dark"), (DESKTOP, "light")])
def test_a_page_on_larger_screens(
    page: str, size: tuple[int, int], theme: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.theme(theme)
    tab.open(urljoin(site, page))
    assert tab.run("document.documentElement.dataset.theme") == theme
    assert tab.run("document.documentElement.scrollWidth") <= size[0]
    assert tab.errors() == []


def test_the_page_of_a_chapter_shows_all_that_its_notebook_made() -> None:
    staged = sorted((HTML.parent / "source" / "notebooks").glob("*.ipynb"))
    assert [f"notebooks/{path.stem}.html" for path in staged] == CHAPTERS
    assert complete.check(staged, HTML) == []


def test_figures_of_chapters_are_numbered_and_captioned(
    site: str, tab: browser.Browser
) -> None:
    for page in CHAPTERS:
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


def visible(selector: str) -> str:
    """The first element of a selector that is on the screen, in JavaScript."""
    return f"[...document.querySelectorAll('{selector}')].find({SEEN})"


MENU, CONTENTS = "#pst-primary-sidebar", "#pst-secondary-sidebar"


def open_menu(tab: browser.Browser, size: tuple[int, int]) -> str:
    """Make the menu visible where it is not, and return the selector of what holds it."""
    if size == DESKTOP:
        return MENU
    tab.click(visible(".primary-toggle"))
    tab.wait(f"!!{visible(f'{MENU}-modal[open] nav a')}")
    return f"{MENU}-modal"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, TABLET, DESKTOP])
@pytest.mark.parametrize("page", [START, "notebooks/05_table1.html"])
def test_every_toggle_does_something(
    page: str, size: tuple[int, int], theme: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.theme(theme)
    tab.open(urljoin(site, page))
    tab.run("localStorage.clear()")
    tab.open(urljoin(site, page))
    # the menu remembers from page to page how far it was scrolled
    tab.run(f"document.querySelectorAll('{MENU}, {MENU} *').forEach(e => {{ e.scrollTop = 0; }})")
    for selector, count in {
        ".primary-toggle": 1,
        ".secondary-toggle": int(size != DESKTOP),  # there the contents are always in sight
        ".theme-switch-button": 1,
        ".search-button, .search-button-field": 1,
    }.items():
        seen = f"[...document.querySelectorAll('{selector}')].filter({SEEN}).length"
        tab.wait(f"{seen} === {count}")
    assert tab.run(f"!!{visible('header.bd-header')}") is False

    # menu
    if size == DESKTOP:
        assert tab.run(f"!!{visible(f'{MENU} nav a')}")
        tab.click(visible(".primary-toggle"))
        tab.wait(f"!{visible(f'{MENU} nav a')}")
        tab.click(visible(".primary-toggle"))
        tab.wait(f"!!{visible(f'{MENU} nav a')}")
        assert tab.run(f"!!{visible(f'{CONTENTS} nav a')}")
    else:
        for toggle, sidebar in ((".primary-toggle", MENU), (".secondary-toggle", CONTENTS)):
            assert not tab.run(f"!!{visible(f'{sidebar} nav a')}")
            tab.click(visible(toggle))
            tab.wait(f"!!{visible(f'{sidebar}-modal[open] nav a')}")
            tab.send("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape")
            tab.wait(f"!document.querySelector('{sidebar}-modal').open")
            tab.wait(f"!{visible(f'{sidebar} nav a')}")

    # theme: the system's, light and dark follow each other
    colour = "getComputedStyle(document.body).backgroundColor"
    icon = f"{visible('.theme-switch-button svg, .theme-switch-button i')}?.outerHTML"
    modes, colours = [], {}
    for _ in range(3):
        before = tab.run(icon)
        tab.click(visible(".theme-switch-button"))
        tab.wait(f"{icon} !== {json.dumps(before)}")
        modes.append(tab.run("document.documentElement.dataset.mode"))
        colours[tab.run("document.documentElement.dataset.theme")] = tab.run(colour)
    assert sorted(modes) == ["auto", "dark", "light"]
    assert set(colours) == {"light", "dark"} and colours["light"] != colours["dark"]

    # search
    tab.click(visible(".search-button, .search-button-field"))
    tab.wait(f"!!{visible('#pst-search-dialog[open] input')}")
    assert tab.run("document.activeElement.name") == "q"
    assert tab.errors() == []


@pytest.mark.parametrize("size", [PHONE, TABLET, DESKTOP])
def test_a_link_of_the_menu_leads_to_its_page(
    size: tuple[int, int], site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.open(urljoin(site, START))
    menu = open_menu(tab, size)
    target = "notebooks/01_corpus.html"
    tab.wait(f"document.querySelector('{menu}').getAnimations().length === 0")
    tab.click(f"document.querySelector('{menu} nav a[href$=\"{target}\"]')")
    tab.wait(f"location.pathname === '/{target}' && document.readyState === 'complete'")
    assert tab.run(f"!!{visible('article h1')}")
    assert tab.errors() == []


@pytest.mark.parametrize(
    "page",
    [*CHAPTERS, "book/leaderboard.html", "book/pool_leaderboard.html", "book/methods.html"],
)
def test_no_table_or_code_of_a_chapter_is_wider_than_its_page(
    page: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, page))
    tab.run("document.fonts.ready")
    wide = tab.run(
        "[...document.querySelectorAll('article table, article .highlight pre')]"
        ".filter(e => { for (let b = e; b.tagName !== 'ARTICLE'; b = b.parentElement)"
        "   if (b.scrollWidth > b.clientWidth + 1 && getComputedStyle(b).display !== 'inline')"
        "     return true; })"
        ".map(e => e.innerText.slice(0, 80))"
    )
    assert wide == []


@pytest.mark.parametrize(
    "page",
    [*CHAPTERS, "book/status.html", "book/leaderboard.html", "book/pool_leaderboard.html"],
)
def test_a_table_wider_than_a_phone_says_so_and_keeps_its_first_column(
    page: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*PHONE)
    tab.open(urljoin(site, page))
    tab.run(UNFOLD)
    left = "(cell => cell.getBoundingClientRect().left)"
    count = tab.run(
        "(window.wide = [...document.querySelectorAll('article table')]"
        ".map(table => ({table, box: table.parentElement}))"
        ".filter(({box}) => box.scrollWidth > box.clientWidth + 1)"
        ".map(({table, box}) => ({box, column: [...table.querySelectorAll('th, td')]"
        f".filter(cell => {left}(cell) < {left}(table) + 2)}}))).length"
    )
    for number in range(count):
        one = f"window.wide[{number}]"
        fades = f"(getComputedStyle({one}.box).maskImage !== 'none')"
        at = f"{one}.column.map(cell => {left}(cell) - {left}({one}.box))"
        assert tab.run(f"{one}.column.length") > 1
        tab.wait(fades)
        share = f"{one}.column.at(-1).getBoundingClientRect().width / {one}.box.clientWidth"
        assert tab.run(share) < 0.6  # there is room for another
        tab.run(f"{one}.box.scrollLeft = 1e6")
        tab.wait(f"!{fades}")
        assert tab.run(f"{one}.box.scrollLeft") > 0
        assert all(abs(place) <= 1.5 for place in tab.run(at))
    assert tab.errors() == []


def test_formulas_are_drawn_with_the_font_of_the_book(site: str, tab: browser.Browser) -> None:
    tab.open(urljoin(site, "book/method.html"))
    tab.run("document.fonts.ready.then(() => true)")
    used = tab.run("[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)")
    assert any("STIX Two Math" in family for family in used), used
    assert tab.run("getComputedStyle(document.querySelector('math')).fontFamily").startswith(
        '"STIX Two Math"'
    )


def test_the_leaderboard_is_sorted_by_a_click(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "notebooks/10_leaderboard.html"))
    tab.run(UNFOLD)
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


def test_copy_buttons_and_launch_buttons_where_the_repository_has_an_address(
    site: str, tab: browser.Browser
) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "notebooks/05_table1.html"))
    launches = tab.run(
        "[...document.querySelectorAll('.dropdown-launch-buttons a')].map(a => a.href)"
    )
    if yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]:
        assert any("mybinder.org" in a and "notebooks/05_table1.ipynb" in a for a in launches)
        assert any(
            "colab.research.google.com/github" in a and a.endswith("notebooks/05_table1.ipynb")
            for a in launches
        )
    else:
        assert launches == []
        assert tab.run("document.querySelectorAll('.btn-source-issues-button').length") == 0
    assert tab.run("document.querySelectorAll('button.copybtn').length") > 0


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("book/")])
def test_a_page_that_is_no_chapter_has_less_than_twelve_screens(
    page: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, page))
    assert tab.run("document.documentElement.scrollHeight") < 12 * DESKTOP[1]


def test_the_papers_claims_stand_on_one_screen(site: str, tab: browser.Browser) -> None:
    tab.size(*DESKTOP)
    tab.open(urljoin(site, "book/paper.html"))
    table = "document.querySelector('table.compact')"
    assert tab.run(f"{table}.getBoundingClientRect().bottom") <= DESKTOP[1]
    assert tab.run(f"{table}.tBodies[0].rows.length") == 6


ON_EACH_SCREEN = pytest.mark.parametrize(
    ("size", "theme"), [(s, t) for s in (PHONE, DESKTOP) for t in ("light", "dark")]
)
DOORS = {
    "I have a deletion request": ("book/request.html", "A deletion request"),
    "I know the paper": ("book/paper.html", "The paper"),
    "I want to learn it": ("notebooks/01_corpus.html", "1. "),
}


def go(tab: browser.Browser, element: str, page: str) -> None:
    """Click something that leads to a page of the book, and wait until it is there."""
    tab.click(element)
    tab.wait(f"location.pathname === '/{page}' && document.readyState === 'complete'")


@pytest.mark.parametrize("words", list(DOORS))
@ON_EACH_SCREEN
def test_a_door_of_the_first_screen_opens(
    words: str, size: tuple[int, int], theme: str, site: str, tab: browser.Browser
) -> None:
    page, title = DOORS[words]
    tab.size(*size)
    tab.theme(theme)
    tab.open(urljoin(site, START))
    door = (
        "[...document.querySelectorAll('.doors .sd-card')]"
        f".find(card => card.innerText.includes({json.dumps(words)}))"
    )
    assert tab.run(f"{door}.getBoundingClientRect().bottom") <= size[1]
    go(tab, door, page)
    assert tab.run("document.querySelector('article h1').innerText").startswith(title)
    assert tab.errors() == []


@ON_EACH_SCREEN
def test_a_request_from_the_door_to_the_report(
    size: tuple[int, int], theme: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.theme(theme)
    tab.open(urljoin(site, START))
    go(tab, "document.querySelector('.doors .sd-card')", "book/request.html")
    headings = tab.run(
        "[...document.querySelectorAll('article h2')].map(h => h.firstChild.textContent)"
    )
    assert headings == ["What you need", "The command", "How to read the report",
                        "When to retrain instead", "What to write back"]
    assert tab.run("document.querySelector('article .highlight').innerText").startswith(
        "speechunlearn forget --model"
    )
    (chapter,) = [page for page in CHAPTERS if page.endswith("_request.html")]
    # one whose middle is within it: not broken over lines
    link = (
        f"[...document.querySelectorAll('article a[href$=\"{Path(chapter).name}\"]')]"
        ".find(a => a.getClientRects().length === 1)"
    )
    go(tab, link, chapter)
    report = "document.querySelector('iframe[title=\"The report of the audit\"]')"
    tab.run(f"{report}.scrollIntoView()")
    tab.wait(f"{report}.contentDocument?.body?.innerText.includes('Verdict:')")
    assert tab.errors() == []


@ON_EACH_SCREEN
def test_the_leaderboard_is_filtered_and_sorted(
    size: tuple[int, int], theme: str, site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.theme(theme)
    tab.open(urljoin(site, "book/leaderboard.html"))

    def choose(name: str, value: str) -> None:
        tab.run(
            f"(menu => {{ menu.value = {json.dumps(value)}; "
            "menu.dispatchEvent(new Event('change')); })([...document.querySelectorAll("
            f"'.filters label')].find(l => l.innerText.startsWith('{name}'))"
            ".querySelector('select'))"
        )

    def column(name: str) -> list[str]:
        return tab.run(
            "(table => { const at = [...table.tHead.rows[0].cells].findIndex("
            f"c => c.innerText.trim().startsWith('{name}')); return [...table.tBodies[0].rows]"
            ".filter(row => row.checkVisibility()).map(row => row.cells[at].innerText.trim()); })"
            "(document.querySelector('table.filtered'))"
        )

    everything = column("Method")
    for name, value in {
        "Data used": "forget", "Corpus": "Arabic words", "Encoder": "nano-english", "Cost": "0.1"
    }.items():
        choose(name, value)
    rows = column("Method")
    assert 0 < len(rows) < len(everything) / 3
    assert set(column("Data used")) == {"forget"} and set(column("Corpus")) == {"Arabic words"}
    assert set(column("Encoder")) == {"nano-english"}
    assert all(float(cost) <= 0.1 for cost in column("Cost"))
    count = tab.run("document.querySelector('.filters output').value")
    assert count == f"{len(rows)} of {len(everything)} rows"
    heading = (
        "[...document.querySelectorAll('table.filtered th')]"
        ".find(th => th.innerText.startsWith('Utility distance'))"
    )
    tab.run(f"{heading}.click()")
    distances = [float(text) for text in column("Utility distance")]
    assert distances == sorted(distances) and len(distances) == len(rows)
    assert "▲" in tab.run(f"getComputedStyle({heading}, '::after').content")
    for name in ("Data used", "Corpus", "Encoder", "Cost"):
        choose(name, "")
    assert sorted(column("Method")) == sorted(everything)
    assert tab.errors() == []


QUESTIONS = yaml.safe_load((Path(__file__).parent / "questions.yml").read_text())


@functools.cache
def article(page: str) -> str:
    """The words of a page, without menus."""
    text = (HTML / page).read_text()
    found = BeautifulSoup(text, "html.parser").find("article", class_="bd-article")
    return " ".join(found.get_text(" ").split())


@functools.cache
def linked(page: str) -> frozenset[str]:
    """The pages that a page links to, in its text and its menu."""
    targets = (
        ((HTML / page).parent / unquote(urlsplit(address).path)).resolve()
        for address in names(HTML / page).addresses
        if not urlsplit(address).scheme and urlsplit(address).path.endswith(".html")
    )
    return frozenset(
        path.relative_to(HTML.resolve()).as_posix() for path in targets if path.is_file()
    )


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"])
def test_a_newcomers_question_is_answered_within_two_clicks_and_one_search(
    asked: dict[str, Any], site: str, tab: browser.Browser
) -> None:
    answering = {page for page in asked["pages"] if asked["answer"] in article(page)}
    assert answering == set(asked["pages"])
    one = linked(START)
    assert answering & one or any(answering & linked(page) for page in one)
    tab.size(*PHONE)
    tab.open(urljoin(site, f"search.html?q={quote_plus(asked['search'])}"))
    tab.wait("/finished|matching/i.test(document.querySelector('#search-results').innerText)"
             " && document.querySelectorAll('#search-results li a').length > 0")
    hits = tab.run(
        "[...document.querySelectorAll('#search-results li a')].slice(0, 8)"
        ".map(a => new URL(a.href).pathname.slice(1))"
    )
    assert answering & set(hits), hits
    assert tab.errors() == []


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_answers_on_its_first_screen_and_its_run_unfolds(
    page: str, size: tuple[int, int], site: str, tab: browser.Browser
) -> None:
    tab.size(*size)
    tab.open(urljoin(site, page))
    answer = "document.querySelector('article .cell_output')"
    assert tab.run(f"{answer}.getBoundingClientRect().bottom") <= size[1]
    assert tab.run(f"{answer}.innerText.length") > 80
    run = "document.querySelector('details.run-it-yourself')"
    if page.rpartition("/")[2] < "11":
        assert not tab.run(f"{run}.open")
        closed = tab.run("document.documentElement.scrollHeight")
        tab.click(f"{run}.querySelector('summary')")
        assert tab.run(f"{run}.open")
        assert tab.run("document.documentElement.scrollHeight") > closed
    code = "document.querySelector('article details.hide.above-input')"
    if tab.run(f"!!{code}"):
        tab.run(f"{code}.closest('details.run-it-yourself')?.setAttribute('open', '')")
        tab.click(f"{code}.querySelector('summary')")
        assert tab.run(f"{code}.open && {code}.querySelector('pre').offsetHeight > 0")
    assert tab.errors() == []
