"""Pages in a browser: on a phone and a desk, in light and dark, to axe-core, with names that break nowhere, on paper.

A file of its own: while Playwright is at work, nothing else in the process can run an event loop.
"""

import shutil
from pathlib import Path

import pytest
from sample_pages import ESTIMATE, PARTS, PARTS_VALUES, VALUES, example
from whole_pages import audited, checked, compared

from tiebreak import pages
from tiebreak.pages import plots

pytestmark = pytest.mark.slow
LONG = "a-name-that-breaks-nowhere".replace("-", "") * 12


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pip install playwright, for pages in a browser"
    )
    if not (program := shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("pages in a browser need chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=program, args=["--no-sandbox"])


@pytest.fixture(
    params=[(375, "light"), (375, "dark"), (1300, "light"), (1300, "dark")], ids=lambda p: f"{p[0]}-{p[1]}"
)
def tab(request, browser):
    width, colours = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=colours, bypass_csp=True
    )
    yield context.new_page()
    context.close()


@pytest.fixture(params=["example", "long names", "parts"])
def page(request, package):
    match request.param:
        case "example":
            return pages.render(package(example()), "page.html.j2", **VALUES)
        case "long names":
            rows = [{"name": LONG, "strength": ESTIMATE}]
            values = VALUES | {"judge": LONG, "rows": rows, "chart": plots.intervals([(LONG, ESTIMATE)])}
            values["findings"] = [{"holds": False, "text": LONG}]
            return pages.render(package(example()), "page.html.j2", **values)
        case "parts":
            return pages.render(package(PARTS), "page.html.j2", **PARTS_VALUES | {"text": LONG})


@pytest.fixture(params=["report", "compare", "audit", "check"])
def whole_page(request):
    match request.param:
        case "report":
            return Path(request.getfixturevalue("tiny_run").summary["report"]).read_text()
        case "compare":
            return compared()
        case "audit":
            return audited()
        case "check":
            return checked()


def test_a_page_is_no_wider_than_the_window_and_axe_finds_nothing(tab, page):
    fits_and_axe_finds_nothing(tab, page)


def test_whole_pages_fit_and_on_a_desk_so_does_each_of_their_tables(tab, whole_page):
    """Disagreements of an audit are opened, so that axe sees them."""
    fits_and_axe_finds_nothing(tab, whole_page.replace("<details>", "<details open>"))
    wide = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth)"
    if tab.viewport_size["width"] > 1000:
        assert not tab.evaluate(f"{wide}.map(part => part.ariaLabel)")


def fits_and_axe_finds_nothing(tab, page):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    tab.set_content(page)
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
    found = axe.Axe().run(tab)
    assert not found.violations_count, found.generate_report()


def test_on_paper_a_page_is_light_and_shows_whole_tables(browser, package):
    context = browser.new_context(viewport={"width": 700, "height": 1000}, color_scheme="dark")
    tab = context.new_page()
    tab.set_content(pages.render(package(example()), "page.html.j2", **VALUES))
    tab.emulate_media(media="print")
    assert tab.eval_on_selector("body", "body => getComputedStyle(body).color") == "rgb(29, 33, 38)"
    assert tab.eval_on_selector(".scroll", "div => getComputedStyle(div).overflowX") == "visible"
    assert tab.is_visible(".wide")
    assert not tab.is_visible(".narrow")
    context.close()


def test_what_is_smuggled_in_does_not_run_and_is_not_fetched(browser, package):
    context = browser.new_context()
    tab = context.new_page()
    refused = []
    tab.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    page = pages.render(package(example()), "page.html.j2", **VALUES)
    smuggled = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x' onerror='document.title = 1'>"
    tab.set_content(page.replace("</main>", f"{smuggled}</main>"))
    assert tab.title() == "Which of 2 models is better"
    assert refused == [("http://127.0.0.1:9/x", "csp")]
    context.close()
