"""Tests of script detection."""

import pytest

from tiebreak.votes.scripts import SCRIPTS, script


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the capital of France?", "Latin"),
        ("Žluťoučký kůň, naïve façade", "Latin"),
        ("Как дела? ok", "Cyrillic"),
        ("写一首关于春天的诗", "Han"),
        ("日本語で自己紹介をしてください", "Kana"),
        ("안녕하세요", "Hangul"),
        ("مرحبا", "Arabic"),
        ("שלום", "Hebrew"),
        ("नमस्ते", "Devanagari"),
        ("สวัสดี", "Thai"),
        ("Γειά σου", "Greek"),
        ("Привет, world", "Cyrillic"),
        ("12 + 30 = ?", "none"),
        ("", "none"),
    ],
)
def test_script(text: str, name: str) -> None:
    assert script([text]) == name
    assert name in SCRIPTS
