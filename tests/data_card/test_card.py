import io
import json
import math
from dataclasses import replace

import pytest
from html_pages import faults
from rich.console import Console
from tiny_models import base

from tiebreak.data_card import card as card_module
from tiebreak.data_card import view
from tiebreak.data_card.card import FRAME_TOKENS, build_card
from tiebreak.data_card.standings import WIDEST_MARGIN
from tiebreak.errors import TiebreakError
from tiebreak.model import hub


def vote(n, winner="model_a", **change):
    return {
        "id": str(n),
        "prompt": f"{n * 7919} {n}? {'abcdefghij'[n % 10] * 9}",
        "response_a": "x" * 40,
        "response_b": "y" * 80,
        "model_a": "m",
        "model_b": "n",
        "winner": winner,
        **change,
    }


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_counts_of_a_small_set(tmp_path):
    votes = [vote(n, ("model_a", "model_b", "tie")[n % 3]) for n in range(30)]
    votes[3] |= {"response_a": None}
    votes[4] |= {"response_b": "x" * 40}
    votes[5] |= {"prompt": ["p", "q"], "response_a": ["a", "b"], "response_b": ["c", "d"]}
    path = write(tmp_path / "votes", [*votes, {"id": "bad"}, vote(99, "nobody")])
    card = build_card({"votes": [path]})
    assert (card.files[0].records, card.files[0].votes) == (32, 30)
    assert card.files[0].rejects == {
        "missing columns": 1,
        "unknown winner: 'nobody'; valid: a, b, tie (or --values 'nobody=?' with a, b or tie for ?)": 1,
    }
    assert card.labels["tie"].value == pytest.approx(1 / 3)
    assert card.files[0].labels == {"a": 10, "b": 10, "tie": 10}
    assert card.voted_groups == card.groups == 30
    assert (card.missing_answers, card.identical_answers) == (1, 1)
    assert card.multi_turn == pytest.approx(1 / 30)
    assert card.longer_wins.votes == 19
    assert card.tokens["prompt"]["max"] <= 7
    assert card.duplicates == 0
    assert {model.name for model in card.standings.models} == {"m", "n"}
    json.dumps(card.as_dict(), allow_nan=False)


def test_columns_that_are_not_read_are_listed(tmp_path):
    path = write(tmp_path / "votes", [vote(n, passage=f"text {n}", meta={"x": 1}) for n in range(4)])
    card = build_card({"votes": [path]})
    assert card.files[0].not_read == ["meta", "passage"]
    assert {s.title: s.rows for s in view.sections(card)}["Columns that are not read"] == [
        ("votes", "meta, passage")
    ]
    assert "meta, passage" in view.html(card)
    card = build_card({"votes": [write(path, [vote(n) for n in range(4)])]})
    assert "Columns that are not read" not in view.html(card)


def test_repeated_pairs_count_once_in_either_order(tmp_path):
    turned = {"response_a": "y" * 80, "response_b": "x" * 40}
    votes = [vote(1), vote(1, "model_b", **turned), vote(1), vote(1, "model_b"), vote(2), vote(2), vote(3)]
    for n, record in enumerate(votes):
        record["id"] = str(n)
    card = build_card({"votes": [write(tmp_path / "votes", votes)]})
    assert card.duplicates == 4
    assert (card.disagreement.repeated, card.disagreement.contradicted) == (2, 1)
    assert card.disagreement.votes == 6
    # 6 of the 12 ordered pairs of votes on the first agree and both on the second; each pair counts once
    assert card.disagreement.agreement.value == pytest.approx((6 / 12 + 1) / 2)
    assert not card.disagreement.agreement.has_interval


def test_planted_overlap_between_files(tmp_path):
    question = "How do I bake a loaf of sourdough bread at home without a scale?"
    one = write(tmp_path / "one", [vote(n) for n in range(20)] + [vote(50, prompt=question)])
    two = write(tmp_path / "two", [vote(n + 100) for n in range(20)] + [vote(51, prompt=f"{question} Thx")])
    card = build_card({"votes": [one], "test": [two]})
    assert card.overlaps == [("one", "two", 1), ("two", "one", 1)]
    assert (card.votes, card.labelled) == (42, 21)


def test_overlaps_of_very_many_files_are_those_of_their_roles(tmp_path, monkeypatch):
    monkeypatch.setattr(card_module, "MOST_NAMED", 3)
    question = "How do I bake a loaf of sourdough bread at home without a scale?"
    votes = [write(tmp_path / f"votes{n}", [vote(n), vote(60 + n, prompt=question)]) for n in range(3)]
    test = write(tmp_path / "test", [vote(51, prompt=f"{question} Thx"), vote(52)])
    assert build_card({"votes": votes, "test": [test]}).overlaps == [
        ("votes", "test", 3),
        ("test", "votes", 1),
    ]


def test_truncation_under_a_budget(tmp_path):
    votes = [vote(n, prompt="p" * 400, response_a="a" * 4000, response_b="b" * 4000) for n in range(4)] + [
        vote(9)
    ]
    card = build_card({"votes": [write(tmp_path / "votes", votes)]}, budgets=(1024,))
    (budget,) = card.budgets
    assert budget.rows_cut == pytest.approx(0.8)
    whole = 100 + 1000 + 1000
    kept = 1024 - FRAME_TOKENS
    assert budget.tokens_cut == pytest.approx(4 * (whole - kept) / (4 * whole), rel=0.05)


def test_answers_that_become_equal_when_they_are_cut(tmp_path):
    same = "red " * 600
    votes = [vote(n, prompt=f"why {n}", response_a=same + "end", response_b=same + "stop") for n in range(3)]
    path = write(tmp_path / "votes", [*votes, vote(9)])
    card = build_card({"votes": [path]}, hub.tokenizer(str(base("llama"))), budgets=(256, 10_000))
    assert [budget.alike for budget in card.budgets] == [3, 0]
    shown = io.StringIO()
    Console(file=shown, width=160).print(view.terminal(card))
    assert "3 votes have answers that differ only after the cut at 256 tokens" in shown.getvalue()
    assert build_card({"votes": [path]}).budgets[0].alike is None


def test_a_set_without_labels_or_models_has_a_card(tmp_path):
    records = [{name: vote(n)[name] for name in ("prompt", "response_a", "response_b")} for n in range(3)]
    card = build_card({"test": [write(tmp_path / "test", records)]})
    assert card.labelled == 0
    assert card.standings.models == []
    assert math.isnan(card.a_wins.value)
    assert card.as_dict()["a_wins"]["value"] is None
    assert "Labels" not in view.html(card)


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(
        TiebreakError, match="no usable votes in votes: 1 unknown winner: 'x'; valid: a, b, tie"
    ):
        build_card({"votes": [write(tmp_path / "votes", [vote(1, "x"), vote(2, "y")])]})


def test_terminal_and_page_have_the_same_content_and_escape_text(tmp_path):
    votes = [vote(n, model_a="<b>[red]m[/red]</b>") for n in range(5)] + [{"prompt": "?"}]
    card = build_card({"votes": [write(tmp_path / "votes", votes)]})
    console = Console(file=io.StringIO(), width=200)
    console.print(view.terminal(card))
    text = console.file.getvalue()
    assert "nan" not in text, "bins without votes"
    page = view.html(card)
    assert "<b>[red]m[/red]</b>" in text
    assert "<b>" not in page
    assert "&lt;b&gt;[red]m[/red]" in page
    for section in view.sections(card):
        assert section.title in text
        assert section.title in page
    assert "votes: 1 of 6 records cannot be used" in text
    assert not faults(page)
    assert f"{len(list(view.warnings(card)))} things to know before training." in page
    hostile = replace(card, overlaps=[("\u202egpj\x1b[2J.csv", "<b>", 1)])
    assert view.html(hostile).replace("\n", "").isprintable()
    assert "\\u202egpj\\x1b[2J.csv" in view.html(hostile)
    assert not faults(view.html(hostile))
    view.write_html(card, tmp_path / "card.html")
    assert (tmp_path / "card.html").read_text() == page


def test_the_card_of_real_votes(shared_data):
    card = build_card({"votes": [shared_data / "lmsys/train.csv"]})
    assert card.votes == 999
    assert [round(999 * card.labels[name].value) for name in ("a", "b", "tie")] == [352, 352, 295]
    assert card.longer_wins.low > 0.5
    ranked = [model for model in card.standings.models if not model.why_apart]
    assert ranked[0].elo > ranked[-1].elo
    assert max(model.margin for model in ranked) <= WIDEST_MARGIN
    assert len(ranked) < len(card.standings.models)
    assert abs(card.standings.advantage) < card.standings.margin


def shown(card, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(view.terminal(card))
    return console.file.getvalue()


def test_repeated_votes_narrow_no_interval_and_bound_the_log_loss(tmp_path):
    once = [vote(n, ("model_a", "model_b", "tie")[n % 3]) for n in range(60)]
    thrice = [record | {"id": f"{record['id']}-{k}"} for record in once for k in range(3)]
    one = build_card({"votes": [write(tmp_path / "once", once)]})
    three = build_card({"votes": [write(tmp_path / "thrice", thrice)]})
    for name, found in three.labels.items():
        assert (found.low, found.high) == pytest.approx((one.labels[name].low, one.labels[name].high))
    assert (three.a_wins.low, three.a_wins.votes) == (pytest.approx(one.a_wins.low), one.a_wins.votes)
    assert [m.votes for m in three.standings.models] == [3 * m.votes for m in one.standings.models]
    assert (three.disagreement.agreement.value, three.disagreement.noise) == (1, 0)
    assert "chance that two votes on such a pair agree" in shown(three)
    assert "chance that two votes" not in shown(one)


def test_near_duplicate_prompts_count_as_one(tmp_path):
    question = "How do I bake a loaf of sourdough bread at home without a scale?"
    votes = [vote(n, prompt=question + " Thx" * (n % 2)) for n in range(100)]
    card = build_card({"votes": [write(tmp_path / "votes", votes)]})
    assert not card.labels["a"].has_interval
    assert "100.0% (prompts: 1)" in shown(card)
    assert "nan" not in shown(card)


def test_a_baseline_that_is_always_first_is_no_position_bias(tmp_path):
    winners = ("model_a", "model_a", "model_a", "model_b", "tie")
    votes = [vote(n, winners[n % 5], model_a="baseline", model_b=f"m{n % 2}") for n in range(100)]
    card = build_card({"votes": [write(tmp_path / "votes", votes)]})
    assert card.standings.advantage is None
    assert [m.name for m in card.standings.models if m.why_apart] == ["baseline"]
    text = " ".join(shown(card).split())
    assert "position bias" not in text
    assert (
        "baseline was always shown first, so its strength cannot be told from the position's effect" in text
    )
    json.dumps(card.as_dict(), allow_nan=False)
    assert card.as_dict()["standings"]["models"][-1]["elo"] is None


def test_position_bias_is_separated_from_strength_where_models_are_named(tmp_path):
    sides = {"model_a": "m", "model_b": "n"}
    by_strength = [vote(n, "model_a" if n % 5 else "model_b", **sides) for n in range(100)] + [
        vote(n, "model_b" if n % 5 else "model_a", model_a="n", model_b="m") for n in range(100, 120)
    ]
    by_position = [vote(n, "model_a" if n % 5 else "model_b", **sides) for n in range(100)] + [
        vote(n, "model_a" if n % 5 else "model_b", model_a="n", model_b="m") for n in range(100, 200)
    ]
    assert "position" not in " ".join(
        view.warnings(build_card({"votes": [write(tmp_path / "a", by_strength)]}))
    )
    assert "position bias: side A is worth +2" in shown(
        build_card({"votes": [write(tmp_path / "b", by_position)]})
    )


@pytest.mark.parametrize("width", [60, 100])
def test_the_card_fits_the_terminal(tmp_path, width):
    votes = [vote(n, ("model_a", "model_b")[n % 2], model_a=f"a-long-model-name-{n % 7}") for n in range(90)]
    text = shown(build_card({"votes": [write(tmp_path / "votes", votes)]}), width)
    assert max(map(len, text.splitlines())) <= width


def test_few_votes_and_votes_of_one_label_are_warned_of(tmp_path):
    votes = write(tmp_path / "votes", [vote(n, "tie") for n in range(20)])
    pairs = write(tmp_path / "pairs", [vote(n + 100) for n in range(300)])
    ties = build_card({"votes": [votes], "preferences": [pairs]})
    assert "! all 20 votes are ties" in shown(ties), "preferences are no votes"
    assert (ties.voted_groups, ties.groups) == (20, 320)
    enough = build_card({"votes": [pairs], "extra": [votes]})
    assert "! all 300 votes prefer A" in shown(enough)
    assert "few to learn" not in shown(enough)
    assert not any("votes" in warning for warning in view.warnings(build_card({"preferences": [votes]})))
