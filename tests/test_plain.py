"""Foreign text made plain: escape sequences, marks of direction, line breaks, tokens."""

import pytest
from hostile_text import HOSTILE

from tiebreak import plain
from tiebreak.errors import TiebreakError

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_line_is_one_line_that_can_be_printed(name: str) -> None:
    made = plain.line(HOSTILE[name])
    assert made.isprintable()
    assert made.encode()
    assert plain.line(made) == made


def test_what_was_there_can_be_told() -> None:
    assert plain.line("\x1b[31mred") == "\\x1b[31mred"
    assert plain.line("a\u202eb\udcff") == "a\\u202eb\\udcff"
    assert plain.line("a \r\n  b\tc") == "a b c"
    assert plain.lines("a\n\x1bb\n") == "a\n\\x1bb\n"


@pytest.mark.parametrize(
    "text", ["Zażółć 日本語\u3000العربية हिन्दी", "👩\u200d🔬 e\u0301 n\u00a0n", "[bold]C:\\x1b[/bold]", ""]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert plain.line(text) == text


def test_other_libraries_keep_their_colours_and_no_more() -> None:
    bar = "\r\x1b[32m50%\x1b[0m\x1b[K\n\x1b[A"
    assert plain.printed(bar) == bar
    assert plain.printed("\x1b]52;c;x\x07\x1b[2J\u202e") == "\\x1b]52;c;x\\x07\\x1b[2J\\u202e"


def test_no_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "my-secret.of-another-kind")
    for text in (f"401 for {TOKEN}: no", "401 for my-secret.of-another-kind: no"):
        assert plain.line(text) == plain.printed(text) == "401 for [token]: no"
    assert plain.line("Authorization: Bearer abcdefgh12345678") == "Authorization: Bearer [token]"
    monkeypatch.setenv("HF_TOKEN", "1")
    assert (
        plain.line("hf_hub_download, hf_transfer, hf_xet 1.0") == "hf_hub_download, hf_transfer, hf_xet 1.0"
    )


def test_an_error_is_plain_whatever_is_put_into_it() -> None:
    error = TiebreakError(f"no column {HOSTILE['link']}{HOSTILE['lines']} {TOKEN}", "  \x1b[0m valid")
    first, second = str(error).split("\n")
    assert first.isprintable()
    assert TOKEN not in first
    assert second == "  \\x1b[0m valid"


def test_what_is_too_long_for_an_error_is_cut() -> None:
    value = "x" * 5000
    text = str(TiebreakError(f"no step {value!r} in recipe.yaml; Valid: teach"))
    assert len(text) < 400
    assert text.startswith("no step 'xxx")
    assert text.endswith("x' in recipe.yaml; Valid: teach")
    assert " more]xx" in text
    assert str(TiebreakError(text)) == text
    assert len(str(TiebreakError("a b " * 5000))) < 4100
    path = "/home/me/" + "folder/" * 40
    assert str(TiebreakError(path)) == path
