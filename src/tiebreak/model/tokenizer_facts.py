"""Facts of a model's tokenizer: tokens within the embedding table, an EOS that ends rows, markers that no text forges."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.model import hub
from tiebreak.tokens import markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_SPECIAL = ("eos_token", "bos_token", "pad_token", "unk_token")


def prepare(tokenizer: "PreTrainedTokenizerBase", vocabulary: int, name: str) -> int:
    """Check a loaded tokenizer against an embedding table of that many tokens, and give it a padding token; its id.

    Raises TiebreakError for one that rows could not be made with.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TiebreakError(f"the tokenizer of {name} is not a fast one: make a tokenizer.json of it")
    require_backend(backend, vocabulary, name)
    if tokenizer.eos_token_id is None:
        raise TiebreakError(
            f"the tokenizer of {name} has no EOS token, with which every row ends: name one of its tokens as "
            "eos_token in its tokenizer_config.json"
        )
    for token, number in (
        (tokenizer.eos_token, tokenizer.eos_token_id),
        (tokenizer.bos_token, tokenizer.bos_token_id),
    ):
        if number is not None and number >= vocabulary:
            raise _beyond(name, str(token), int(number), vocabulary)
    tokenizer.pad_token_id = found = _padding_token(tokenizer, vocabulary, name)
    return found


def require_backend(backend: Tokenizer, vocabulary: int, name: str) -> None:
    """Raise TiebreakError for tokens of texts beyond the embedding table, and for markers that a text could forge."""
    added: dict[int, Any] = backend.get_added_tokens_decoder()
    for token, number in backend.get_vocab(with_added_tokens=True).items():
        # texts never become special tokens
        if number >= vocabulary and not (number in added and added[number].special):
            raise _beyond(name, token, number, vocabulary)
    markers.escape_for(backend, name)


def require_folder(folder: Path, vocabulary: int, mend: str) -> None:
    """The same of a model folder with a tokenizer.json, and that it names an EOS token."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    try:
        backend = Tokenizer.from_file(str(file))
        backend.encode("a")
    except Exception as error:  # tokenizers raises nothing more special
        raise TiebreakError(f"{file} is damaged: {error}; {mend}") from None
    require_backend(backend, vocabulary, str(folder))
    files = [folder / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
    found = {file: json_files.read_object(file, mend) for file in files if file.is_file()}
    for file, settings in found.items():
        for name in _SPECIAL:
            token = settings.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if not isinstance(text, str | None) or (token is not None and text is None):
                raise TiebreakError(f"{file}: {name} is {token!r:.100}, no token; correct it, or {mend}")
    if not any(settings.get("eos_token") for settings in found.values()):
        prepare(hub.tokenizer(str(folder)), vocabulary, str(folder))


def save(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a tokenizer without what transformers notes of its loading: where it lay, and whether HF_HUB_OFFLINE was set."""
    for name in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder)


def _beyond(name: str, token: str, number: int, vocabulary: int) -> TiebreakError:
    return TiebreakError(
        f"the tokenizer of {name} has the token {token!r} with the id {number}, and the model knows {vocabulary}: "
        "take the tokenizer that belongs to the model"
    )


def _padding_token(tokenizer: "PreTrainedTokenizerBase", vocabulary: int, name: str) -> int:
    """A padding token that no row ends with, for plain transformers, which pools the last token that is not padding.

    Llama has no padding token, and taking EOS would move the pooled token; any other special token will do.
    """
    named = tokenizer.pad_token_id
    if named is not None and named >= vocabulary:
        log.warning(
            "the padding token of %s, %s, is beyond its %d embeddings; another is taken",
            name,
            named,
            vocabulary,
        )
    others = [t for t in sorted(tokenizer.added_tokens_decoder) if t != tokenizer.bos_token_id]
    for token in (named, *others, tokenizer.bos_token_id):
        if token is not None and token != tokenizer.eos_token_id and token < vocabulary:
            return int(token)
    raise TiebreakError(
        f"{name} has no special token besides EOS to pad with: name a pad_token in its tokenizer_config.json"
    )
