"""The page: its own files alone, and in a browser the way of a person through it."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from served import served

from tiebreak.serve import page
from tiebreak.serve.keys import Keys

FOLDER = Path(page.__file__).parent
PAIR = {"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe. <b>bold</b>"}


def test_files_come_with_a_strict_policy(client):
    for path in ("/", "/page.css", "/page.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect")} == {"'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page.json").json() == {"model": "tiny", "votes": False}


def test_the_page_is_open_and_what_it_asks_is_not(serve):
    client = serve(keys=Keys.of("a-key-of-16-characters"))
    assert {client.get(path).status_code for path in page.PATHS} == {200}
    assert client.post("/v1/compare", PAIR).status_code == 401


def test_nothing_is_from_elsewhere():
    for file in FOLDER.glob("page.*"):
        assert not re.findall(r"https?://|//[a-z]", file.read_text()), file
    html = (FOLDER / "index.html").read_text()
    assert "://" not in html
    assert not re.findall(r"<style|style=|<script>|\son\w+=", html)


class _Fields(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.labelled = set(), set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag in ("textarea", "input", "select"):
            self.ids.add(found["id"])
        if tag == "label":
            self.labelled.add(found["for"])


def test_every_field_has_a_label():
    fields = _Fields()
    fields.feed((FOLDER / "index.html").read_text())
    assert fields.ids == fields.labelled


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pip install playwright, for the page in a browser"
    )
    if not (program := shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("the page in a browser needs chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=program, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def site(shipped, tmp_path_factory):
    """The address of a server that takes votes, and their file."""
    votes = tmp_path_factory.mktemp("site") / "votes.jsonl"
    with served(shipped, "--votes-file", votes) as (_, url):
        yield url, votes


@pytest.fixture
def tab(browser, site):
    """A page of the site as wide as a phone; anything that goes wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 375, "height": 700})
    tab, wrong = context.new_page(), []
    tab.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(site[0])
    tab.wait_for_selector("#vote:not([hidden])")
    yield tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    assert not [text for text in wrong if not text.startswith("Failed to load resource")]
    context.close()


def fill(tab, pair):
    for name, text in pair.items():
        tab.fill(f"#{name}", text)


def bars(tab):
    tab.wait_for_selector("#result:not([hidden])")
    tab.wait_for_selector("#status:empty", state="attached")
    return tab.eval_on_selector_all("#bars .fill", "bars => bars.map(bar => bar.style.width)")


@pytest.mark.slow
def test_bars_swap_with_the_answers(tab):
    fill(tab, PAIR)
    tab.click("#judge")
    a, b, tie = bars(tab)
    assert tab.locator("#orders .order").count() == 2
    tab.click("#swap")
    assert bars(tab) == [b, a, tie]
    assert a != b


@pytest.mark.slow
def test_keys_alone_judge(tab):
    for text in PAIR.values():
        tab.keyboard.press("Tab")
        tab.keyboard.type(text)
    tab.keyboard.press("Control+Enter")
    bars(tab)
    assert tab.evaluate("document.activeElement.id") == "result-title"


@pytest.mark.slow
def test_what_was_cut_is_told(tab):
    fill(tab, {"prompt": "Why? " * 100, "response_a": "Because. " * 100, "response_b": "No."})
    tab.click("#judge")
    bars(tab)
    told = tab.locator("#cut-list li").all_text_contents()
    assert [re.sub(r"\d+", "N", line) for line in told] == [
        "The prompt: N of N tokens were read.",
        "Answer A: N of N tokens were read.",
    ]


@pytest.mark.slow
def test_a_vote_comes_before_the_judge(tab, site):
    fill(tab, PAIR)
    tab.click("#vote")
    tab.wait_for_selector("#ballot:not([hidden])")
    assert not tab.is_visible("#result")
    first = tab.text_content("#ballot-first")
    tab.click("[data-choice=first]")
    bars(tab)
    vote = json.loads(site[1].read_text().splitlines()[-1])
    assert vote[f"response_{vote['winner']}"] == first == vote[f"response_{vote['shown_first']}"]
    assert tab.text_content("#verdict").startswith(f"You voted for answer {vote['winner'].upper()}.")


@pytest.mark.slow
def test_pairs_of_a_file_are_voted_on_and_exported(tab, site, tmp_path):
    pairs = [{**PAIR, "prompt": f"Question {n}?"} for n in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    tab.set_input_files("#file", tmp_path / "pairs.jsonl")
    seen = []
    for _ in pairs:
        tab.wait_for_selector("#ballot:not([hidden])")
        seen.append(tab.text_content("#ballot-prompt"))
        tab.click("[data-choice=tie]")
        bars(tab)
        if len(seen) < 3:
            tab.click("#vote")
    assert sorted(seen) == ["Question 0?", "Question 1?", "Question 2?"]
    with tab.expect_download() as download:
        tab.click("#export")
    assert download.value.path().read_bytes() == site[1].read_bytes()


@pytest.mark.slow
def test_errors_are_told(tab, site):
    fill(tab, {"prompt": "x", "response_a": "y" * 200_001, "response_b": "z"})
    with tab.expect_response("**/v1/compare") as answer:
        tab.click("#judge")
    assert answer.value.status == 413
    tab.wait_for_selector("#status.error")
    assert "at most 200000 are read" in tab.text_content("#status")
