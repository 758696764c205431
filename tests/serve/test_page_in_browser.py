"""The page in a browser: the way of a person through it, by mouse and by keys, at two widths, in light and dark.

A file of its own: while Playwright is at work, nothing else in the process can run an event loop.
"""

import json
import re
import shutil

import pytest
from served import served

PAIR = {"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe. <b>bold</b>"}
TO_VOTE = [{**PAIR, "prompt": f"To vote on {n}?"} for n in range(3)]


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


@pytest.fixture(params=[(375, "light"), (1300, "dark")], ids=["phone", "desk"])
def visit(request, browser):
    """visit(address): a page there; anything that goes wrong in it, or is wider than the window, fails the test."""
    width, colours = request.param
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=colours)
    tab, wrong = context.new_page(), []
    tab.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: wrong.append(str(error)))

    def opened(address):
        tab.goto(address)
        tab.wait_for_selector("#vote:not([hidden])")
        return tab

    yield opened
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert not [text for text in wrong if not text.startswith("Failed to load resource")]
    context.close()


@pytest.fixture
def tab(visit, site):
    return visit(site[0])


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


@pytest.mark.slow
def test_the_next_pairs_are_voted_on_by_keys_alone_each_once(visit, shipped, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in TO_VOTE))
    votes = tmp_path / "votes.jsonl"
    with served(shipped, "--votes-file", votes, "--pairs", tmp_path / "pairs.jsonl") as (_, url):
        tab, seen = visit(url), []

        def press(selector):
            tab.focus(selector)
            with tab.expect_response("**/v1/votes**"):
                tab.keyboard.press("Enter")
            tab.wait_for_selector("#status:empty", state="attached")

        press("#pair .next")
        skipped = tab.text_content("#ballot-prompt")
        press("#skip")
        for left in (3, 2, 1):
            seen.append(tab.text_content("#ballot-prompt"))
            assert tab.text_content("#ballot-left").startswith(f"{left} pair")
            press("[data-choice=tie]")
            assert tab.evaluate("document.activeElement.id") == "result-title"
            tab.keyboard.press("Tab")
            assert tab.evaluate("document.activeElement.className") == "next"
            with tab.expect_response("**/v1/votes/next"):
                tab.keyboard.press("Enter")
            tab.wait_for_selector("#judge:not([disabled])", state="attached")
        assert tab.text_content("#status") == "All pairs have a vote."
    assert seen[-1] == skipped, "it comes again after all others"
    assert sorted(seen) == [pair["prompt"] for pair in TO_VOTE]
    assert [json.loads(line)["prompt"] for line in votes.read_text().splitlines()] == seen


@pytest.mark.slow
def test_nothing_is_wrong_for_a_screen_reader(tab):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python"
    ).Axe()

    def violations():
        found = axe.run(tab).response["violations"]
        return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]

    assert violations() == []
    fill(tab, {"prompt": "Why? " * 100, "response_a": "Because. " * 100, "response_b": "No."})
    tab.click("#judge")
    bars(tab)
    assert violations() == []
    tab.click("#vote")
    tab.wait_for_selector("#ballot:not([hidden])")
    assert violations() == []
    tab.click("#skip")
    fill(tab, {"prompt": "x", "response_a": "y" * 200_001, "response_b": "z"})
    tab.click("#judge")
    tab.wait_for_selector("#status.error")
    assert violations() == []
