"""Text normalisation for comparison: case, punctuation, spacing, accents, invisible characters and look-alikes.

Only comparison uses this form; texts themselves stay as they are. Compatibility forms (full width, ligatures:
NFKC) and case are folded as in Unicode's caseless matching. Besides:

dropped      format characters (category Cf: zero width, soft hyphen, bidi, tags), variation selectors, fillers,
             and skin tones; the diacritics of Latin, Greek and Cyrillic, with the tones of Vietnamese, because
             many people do not type them; Arabic harakat and Hebrew points, which are aids to reading.
kept         all other marks. The vowel signs of Devanagari, Tamil or Thai are letters: दिन, दान and दीन are three
             words. So are nukta, dakuten, hamza and the jamo of a Hangul syllable.
look-alikes  letters that look like a Latin one become it, in upper and lower case alike, so that a text in one
             script stays what it is (a choice of Unicode's confusables, UTS #39; digits are no letters).
operators    + = < > | ~ ^ and signs of money stay; - * / % & # do next to a digit or between single
             letters, and # after one. 1+1 is not 1-1, but well-known is well known.
"""

import re
import unicodedata
from collections.abc import Sequence

from tiebreak.votes.formats.dialog import Turns

_DROPPED_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # diacritics
    "\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06ed\u08d3-\u08ff"  # harakat
    "\u0591-\u05c7"  # Hebrew points
    "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"  # variation selectors
)
_FOLDED = (
    str.maketrans(
        "авсеніјкморѕтхуԁԛԝһӏ"
        + "αβεηικορτυνχζ"
        + "ɡɑıđłøħŧօսհ"
        + "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"
        + "‐‑‒–—−"
        + "×∗÷⁄∕",
        "abcehijkmopstxydqwhl"
        + "abehikoptuvxz"
        + "gaidlohtouh"
        + "abcdefghijklmnoprstuvwyz"
        + "------"
        + "**///",
        "\u0640\u115f\u1160\u3164\uffa0\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff",  # tatweel, fillers, skin tones
    )
    | {ord(digit): f"^{n}" for n, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)
_ENDS = ".!?:;\n\r\u2028\u2029。！？：；।؟۔"
_GLUE = "\0"
_PUNCTUATION = "-*/%&#"
_SIGN = re.compile(r"[-*/%&#+=<>|~^$]")
_MOST_MARKS = 30
_MANY_MARKS = re.compile(rf"[^\w\s\0-\u02ff]{{{_MOST_MARKS},}}")


def normalise(prompt: Turns) -> str:
    """All turns as one normalised text; one of nothing but punctuation stays as it is."""
    text = " ".join(sentence for turn in prompt for sentence in sentences(turn))
    return text or " ".join("\n".join(turn or "" for turn in prompt).split())


def sentences(turn: str | None) -> list[str]:
    """The normalised sentences of a turn, cut where a sentence or line may end."""
    text = (turn or "").replace("!=", "≠")
    if not text.isascii():
        text = unicodedata.normalize("NFC", _MANY_MARKS.sub(_stream_safe, text))
    text = _SIGN.sub(_sign, text.translate(_LETTERS))
    return [_join_words(words) for part in text.split("\n") if (words := part.split())]


def _stream_safe(run: re.Match[str]) -> str:
    """The run with at most 30 combining marks on a letter (UAX #15), since ordering them takes quadratic time."""
    kept, marks = [], 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _join_words(words: Sequence[str]) -> str:
    text = " ".join(words)
    return (
        text.replace(f" {_GLUE}", "").replace(f"{_GLUE} ", "").replace(_GLUE, "") if _GLUE in text else text
    )


def _sign(match: re.Match[str]) -> str:
    """The sign where it is an operator, with no space around; a space where it is punctuation."""
    sign, text = match[0], match.string
    if sign in _PUNCTUATION:
        before = text[max(match.start() - 3, 0) : match.start()].rstrip(" ")
        after = text[match.end() : match.end() + 3].lstrip(" ")
        if not (before[-1:].isdigit() or after[:1].isdigit()):
            variable = before[-1:].isalpha() and not before[-2:-1].isalpha()
            if not (variable and (sign == "#" or (after[:1].isalpha() and not after[1:2].isalpha()))):
                return " "
    return _GLUE + sign + _GLUE


class _Letters(dict[int, str]):
    """A cached translation table of characters; a newline stands where a sentence may end."""

    def __missing__(self, code: int) -> str:
        character = chr(code).translate(_FOLDED)
        symbol = unicodedata.category(chr(code))[0] == "S"  # ≠ is not = with a stroke through it
        parts = _DROPPED_MARKS.sub("", unicodedata.normalize("NFKC" if symbol else "NFKD", character))
        letters = map(_letter, parts.casefold().translate(_FOLDED))
        return self.setdefault(code, unicodedata.normalize("NFC", "".join(letters)))


def _letter(character: str) -> str:
    kind = unicodedata.category(character)
    if character in _ENDS:
        return "\n"
    if kind[0] in "LMN" or _SIGN.match(character):
        return character
    if kind in ("Sm", "Sc"):
        return _GLUE + character + _GLUE
    return "" if kind == "Cf" else " "


_LETTERS = _Letters()
