import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.votes.normalise import normalise, sentences


def same(one, other):
    return normalise([one]) == normalise([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, world!", "  HELLO\n world"),
        ("fish and chips", "ﬁsh and ｃｈｉｐｓ"),
        ("hello", "he\u00adl\u200bl\u2060o\ufeff"),
        ("hello", "\u202eh\u2066ello\u2069"),
        ("hello", "h\u0336e\u0336l\u0301l\u0489o\ufe0f"),
        ("hello", "he\U000e0041llo"),
        ("résumé", "resume"),
        ("résumé", unicodedata.normalize("NFD", "résumé")),
        ("tiếng Việt đi", "tieng Viet di"),
        ("Łódź", "lodz"),
        ("pace", "расе"),
        ("HOT BEACH", "НОТ ВЕАСН"),
        ("HOT TAXI", "ΗΟΤ ΤΑΧΙ"),
        ("straße", "STRASSE"),
        ("İzmir", "izmir"),
        ("كَتَبَ", "كتب"),
        ("שָׁלוֹם", "שלום"),
        ("👍🏽 fine", "👍 fine"),
        ("well-known", "well known"),
        ("**bold** - and/or", "bold and or"),
        ("1 + 1", "1+1"),
        ("3 − 2", "3-2"),
        ("x² = 4", "x^2=4"),
        ("a != b", "a ≠ b"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("がく", "か\u3099く"),
        ("водА", "ВОДа"),
        ("νερό", "ΝΕΡΌ"),
    ],
)
def test_one_text_in_other_clothes(one, other):
    assert same(one, other)


@pytest.mark.parametrize(
    "texts",
    [
        ("दिन", "दान", "दीन", "दन"),
        ("काम", "कम"),
        ("ไม", "ไม่", "ไม้"),
        ("கல்", "கால்", "கல"),
        ("눈", "논", "는"),
        ("か", "が"),
        ("كتب", "كتاب"),
        ("ا", "آ", "أ"),
        ("ספר", "סופר"),
        ("вода", "воду"),
        ("1+1", "1-1", "1*1", "1/1", "1%1", "1^1", "1=1", "11", "1 1"),
        ("a+b", "a-b", "a*b", "a/b", "a|b", "a&b", "a<b", "a>b", "a=b", "a≠b", "ab"),
        ("10²", "102"),
        ("3.14", "314"),
        ("C", "C++", "C#"),
        ("5 μm", "5 mm"),
        ("5 €", "5 $", "5"),
        ("O0", "OO", "00"),
        ("😀", "😂"),
        ("?", "!", ""),
    ],
)
def test_other_words_and_sums_stay_apart(texts):
    assert len({normalise([text]) for text in texts}) == len(texts)


def test_a_turn_is_cut_where_a_sentence_or_a_line_ends():
    assert sentences("System: Be brief.\n\nWhat is 1 + 1?") == ["system", "be brief", "what is 1+1"]
    assert sentences(None) == sentences(" \n") == []


@settings(deadline=None)
@given(
    st.text("abcxyzABCXYZ 123"),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("\u0301\u0338\u200b\u00ad\u202e\ufe0f"))),
)
def test_signs_put_into_a_text_do_not_matter(text, signs):
    disguised = text
    for at, sign in signs:
        disguised = disguised[:at] + sign + disguised[at:]
    assert sentences(disguised) == sentences(text)


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F)))
def test_form_and_case_do_not_matter(text):
    for other in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), text.upper()):
        assert sentences(text) == sentences(other)


@pytest.mark.parametrize("marks", ["\u0301\u0323", "\u094d\u093c", "\u3099\u0323"])
def test_marks_without_end_take_linear_time(marks):
    few, many = (normalise([f"क{marks * count}"]) for count in (15, 100_000))
    assert few == many
