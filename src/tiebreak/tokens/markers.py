"""Section markers of the prompt, and texts that a tokenizer would read like one.

A marker in a text is escaped by another colon, before the text is encoded. Some tokenizers change texts first: NFKC makes
"Ａnswer" of wide letters plain ones, SentencePiece's space is the character ▁, and some drop the bytes that they have no
token for. What such a tokenizer makes of a text is seen by decoding its tokens; where that holds a marker, it is what is
escaped.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tiebreak.errors import TiebreakError

MARKERS = ("User question", "Answer A", "Answer B")
_MARKER = re.compile(rf'(\A"{{0,2}}|""")(\n(?:{"|".join(MARKERS)})):')
"""A template's marker inside a text, or at its start, where the template's opening quotes would complete it."""
_COLONS = ("\uff1a", ";", "-")
"""In place of a marker's colon, the first that a tokenizer neither makes a colon of nor drops."""
_SPLITS = ("Split", "Digits", "Punctuation")
"""Pre-tokenizers that keep all characters, but for what they remove by their `behavior`."""


@dataclass(frozen=True)
class Escape:
    """How texts are kept from reading like a marker, for one tokenizer.

    is_exact: the tokens hold each byte of a text, but for NFC, which makes no character of a marker.
    """

    colon: str
    is_exact: bool

    def __call__(self, text: str) -> str:
        """The text with its markers escaped."""
        # a plain search first: the pattern, tried at every character, would cost as much as encoding
        if any(f"\n{marker}:" in text for marker in MARKERS):
            return _MARKER.sub(rf"\1\2{self.colon}", text)
        return text


def escape_for(backend: Tokenizer, name: str) -> Escape:
    """The escape that holds for a tokenizer, whose truncation and padding are switched off.

    Raises TiebreakError if it cannot tell a marker from other text, such as one that lowers letters.
    """
    backend.no_truncation()  # both may come with its file, or stay from an earlier call
    backend.no_padding()
    for marker in MARKERS:
        text = f'"""\n{marker}:\n"""'
        if (got := seen(backend, text).strip(" ")) != text:
            raise TiebreakError(
                f"the tokenizer of {name} makes {got!r} of {text!r}: it changes letters, quotes or line breaks, so that "
                "an answer could pass for another part of the prompt; choose another model"
            )
    for colon in _COLONS:
        escape = Escape(colon, _is_exact(backend))
        # the second colon stays, and would be the marker's if the first were dropped
        if not any(holds_marker(seen(backend, escape(f'"""\n{marker}::'))) for marker in MARKERS):
            return escape
    raise TiebreakError(
        f"the tokenizer of {name} drops or makes a colon of each of {_COLONS}; choose another model"
    )


def seen(backend: Tokenizer, text: str) -> str:
    """The text as the model reads it."""
    return str(backend.decode(backend.encode(text, add_special_tokens=False).ids, skip_special_tokens=False))


def holds_marker(text: str) -> bool:
    return any(f"\n{marker}:" in text for marker in MARKERS) and _MARKER.search(text) is not None


def forged(backend: Tokenizer, ids: Sequence[Sequence[int]]) -> list[tuple[int, str]]:
    """The texts, given as tokens, that hold a marker as the model reads them, with their numbers."""
    texts = backend.decode_batch([list(tokens) for tokens in ids], skip_special_tokens=False)
    return [(n, text) for n, text in enumerate(texts) if holds_marker(text)]


def _is_exact(backend: Any) -> bool:
    normaliser, decoder = backend.normalizer, backend.decoder
    return (
        isinstance(decoder, decoders.ByteLevel)
        and (normaliser is None or isinstance(normaliser, normalizers.NFC))
        and backend.pre_tokenizer is not None
        and _keeps_all(json.loads(backend.pre_tokenizer.__getstate__()))
        and _has_every_byte(backend.model)
        # one such as "Ġ" reads as a space
        and all(
            decoder.decode([token.content]) == token.content
            for token in backend.get_added_tokens_decoder().values()
            if not token.special
        )
    )


def _keeps_all(pre_tokenizer: dict[str, Any]) -> bool:
    """Whether this ends in bytes and removes nothing before that."""
    *before, last = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return last["type"] == "ByteLevel" and all(
        part["type"] in _SPLITS and part.get("behavior") != "Removed" for part in before
    )


def _has_every_byte(model: Any) -> bool:
    """Whether each byte has a token of its own; one that has none is dropped."""
    return (
        isinstance(model, models.BPE)
        and not model.continuing_subword_prefix
        and not model.end_of_word_suffix
        and all(model.token_to_id(byte) is not None for byte in pre_tokenizers.ByteLevel.alphabet())
    )
