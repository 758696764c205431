"""The page: its own files alone."""

import re
from html.parser import HTMLParser
from pathlib import Path

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
    assert client.get("/page.json").json() == {"model": "tiny", "votes": False, "pairs": False}


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
