"""Foreign text made plain: nothing in it moves a cursor, hides, reorders or begins a line, and no token is told.

File names, columns, values of votes, names of models and answers of a hub come from others and end up on terminals
and pages.
"""

import os
import re

_UNSAFE = (
    "\x00-\x1f\x7f-\x9f"  # controls: escape sequences of terminals begin with one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, overrides and isolates of direction
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # what is not seen
    "\u2028\u2029\ud800-\udfff"  # separators of lines; halves of characters, which cannot be written
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_BREAK = re.compile(r"[ \t]*[\t\r\n\v\f\x85\u2028\u2029]\s*")
_OF_A_STYLE = re.compile(rf"\x1b\[[0-9;]*[AKm]|[\t\r\n]|[{_UNSAFE}]")
_TOKEN = re.compile(r"\bhf_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,}|(?<=[Bb]earer )[\w.~+/=-]{8,}")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_WORD, _MESSAGE = 300, 4000
"""Characters of a word and of a line of an error that are shown."""
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")
_FEWEST_CHARACTERS = 5
"""Of a token: a variable that is set to 0 or None holds none."""


def line(text: object) -> str:
    """One line: breaks become spaces, other controls their Python escapes, tokens are left out."""
    return _UNSAFE_CHARACTER.sub(_escaped, _BREAK.sub(" ", redacted(str(text))))


def message(text: object) -> str:
    """As `line`, for an error: words and lines that are longer than any of ours are cut in their middle."""
    return _cut(_LONG_WORD.sub(lambda found: _cut(found[0], _WORD), line(text)), _MESSAGE)


def _cut(text: str, most: int) -> str:
    """The text in at most so many characters, so that what is cut stays as it is when it is cut again."""
    if len(text) <= most:
        return text
    half = most // 2 - len("[1234567890 more]")
    return f"{text[:half]}[{len(text) - 2 * half} more]{text[-half:]}"


def lines(text: object) -> str:
    """As `line`, for a text that may have several."""
    return "\n".join(map(line, str(text).split("\n")))


def printed(text: str) -> str:
    """Output of other libraries: their colours, erased lines and breaks stay, the rest is as in `line`."""
    return _OF_A_STYLE.sub(
        lambda found: found[0] if len(found[0]) > 1 or found[0] in "\t\r\n" else _escaped(found),
        redacted(text),
    )


def redacted(text: str) -> str:
    """A text without tokens of the hub: what looks like one, and what the environment says is one."""
    for name in _TOKEN_VARIABLES:
        if len(token := os.environ.get(name, "").strip()) >= _FEWEST_CHARACTERS:
            text = text.replace(token, "[token]")
    return _TOKEN.sub("[token]", text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
