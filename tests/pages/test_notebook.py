"""What notebooks show: well-formed, escaped, with the figures of the result."""

import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hostile_text import HOSTILE
from shipped_judge import ship

import tiebreak
from tiebreak.judge.decisions import Decisions
from tiebreak.judge.ranking import Ranking
from tiebreak.pages.notebook import Bar, Table, fragment
from tiebreak.runtime import Event
from tiebreak.votes import examples

MARKUP = '<img src=x onerror="alert(1)"><b>ada</b> & co'
TAGS = {"div", "p", "strong", "small", "table", "caption", "tr", "th", "td"}


class Reader(HTMLParser):
    """Cells of all tables, row by row. Fails for a tag that is not closed or not ours, or has an attribute that is not ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS
        assert attributes == ([("class", "dataframe")] if tag == "table" else [])
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("text", [MARKUP, *HOSTILE.values()])
def test_texts_of_others_do_no_harm(text):
    html = fragment(text, [Table((text,), [(text,)], text)], [text])
    assert html.isprintable()
    assert len(Reader(html).rows) == 2


def test_a_cell_is_shown_as_it_is():
    assert Reader(fragment("x", [Table(("", "n"), [(MARKUP, 3), ("b", None)])])).rows == [
        ["", "n"],
        [MARKUP, "3"],
        ["b", "–"],
    ]


def test_a_leaderboard_shows_its_standings():
    votes = [
        {"model_a": MARKUP, "model_b": "bob", "winner": winner, "prompt": f"{number}?"}
        for number in range(40)
        for winner in ("a", "b" if number % 3 else "a", "tie")
    ]
    found = tiebreak.leaderboard(votes)
    header, *rows = Reader(found._repr_html_()).rows
    assert header[:4] == ["model", "rank", "Elo", "win rate, %"]
    assert [row[0] for row in rows] == [standing.model for standing in found.standings]
    assert rows[0][2].startswith(f"{found.standings[0].elo.value:.0f} (")
    assert rows[0][3].startswith(f"{100 * found.standings[0].rates.win_rate.value:.1f} (")
    assert rows[0][4] == "120"
    assert len(header) == 5


def test_a_ranking_shows_the_best_first():
    ranking = Ranking(np.array([-1.0, 1.5, -0.5]), 0.0, [(0, 1), (1, 2)], [1, 1, 1])
    _, *rows = Reader(ranking._repr_html_()).rows
    assert [row[:2] for row in rows] == [["1", "+1.500"], ["2", "-0.500"], ["0", "-1.000"]]
    assert rows[0][2] == f"{np.exp(1.5) / (np.exp(1.5) + np.exp(-0.5) + np.exp(-1)):.1%}"


def test_decisions_are_counted():
    html = Decisions(["a", None, "a", "tie"], 0.8)._repr_html_()
    assert Reader(html).rows[1:] == [["a", "2"], ["left to people", "1"], ["tie", "1"]]
    assert "75% of 4 pairs decided" in html


def test_a_card_shows_its_tables():
    html = tiebreak.check(examples.FRESH)._repr_html_()
    rows = Reader(html).rows
    assert ["fresh.csv", "120", "120", "0", "40"] in rows
    assert "<strong>120 votes</strong>" in html


def test_a_judge_says_what_it_is(tmp_path):
    judge = tiebreak.load(ship(tmp_path / "model", 0))
    rows = dict(Reader(judge._repr_html_()).rows)
    assert rows["folder"] == str(tmp_path / "model")
    assert rows["orders"] == "both"


def test_a_bar_moves_in_place(monkeypatch):
    shown = []

    def display(html, display_id):
        assert display_id
        shown.append([html])
        return SimpleNamespace(update=shown[-1].append)

    for name in ("ipykernel", "IPython"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    bar = Bar()
    for ended in (0, 1):
        bar(Event("teach/<b>", "step 3", ended, 17))
    texts = [
        f'<progress value="{ended}" max="17"></progress> [{ended}/17] teach/&lt;b&gt;: step 3'
        for ended in (0, 1)
    ]
    assert shown == [texts]


def test_a_bar_is_lines_where_there_is_no_notebook(capsys):
    Bar()(Event("split/votes", "done\x1b[2J", 1, 17))
    assert capsys.readouterr().err == "[1/17] split/votes: done\\x1b[2J\n"
