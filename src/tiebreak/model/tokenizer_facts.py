"""Facts of a model's tokenizer: tokens within the embedding table, an EOS that ends rows, markers that no text forges."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.model import hub
from tiebreak.tokens import markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


_TYPE = "__type"
_ROLES = ("eos", "bos", "pad", "unk", "sep", "cls", "mask")


class _Token(BaseModel):
    model_config = ConfigDict(strict=True)
    content: str


class _Typed(_Token):
    type: Literal["AddedToken"] = Field(alias=_TYPE)


_AToken = str | _Typed | None


class _Settings(BaseModel):
    """The settings of a tokenizer where there is nothing odd about them. With any others, only loading it tells."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    eos_token: _AToken = None
    bos_token: _AToken = None
    pad_token: _AToken = None
    unk_token: _AToken = None
    sep_token: _AToken = None
    cls_token: _AToken = None
    mask_token: _AToken = None
    additional_special_tokens: list[str | _Typed] = []
    added_tokens_decoder: dict[str, _Token] = {}
    padding_side: Literal["right", "left"] = "right"
    truncation_side: Literal["right", "left"] = "right"
    model_max_length: float | None = None
    model_input_names: list[str] = []
    chat_template: str | None = None
    tokenizer_class: str | None = None
    processor_class: str | None = None
    name_or_path: str | None = None
    backend: str | None = None
    split_special_tokens: bool = False
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    add_prefix_space: Literal[False] | None = None
    clean_up_tokenization_spaces: bool | None = None
    spaces_between_special_tokens: bool | None = None
    use_default_system_prompt: bool | None = None
    legacy: bool | None = None
    errors: str | None = None

    @property
    def tokens(self) -> list[str]:
        """The special tokens that have a role."""
        named = (getattr(self, f"{role}_token") for role in _ROLES)
        return [token.content if isinstance(token, _Token) else token for token in named if token]


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
    found = {
        folder / name: json_files.read_object(folder / name, mend)
        for name in _SETTINGS
        if (folder / name).is_file()
    }
    odd = [problem for file, settings in found.items() for problem in _odd(file, settings, backend)]
    if odd or not any(settings.get("eos_token") for settings in found.values()):
        _require_loads(folder, vocabulary, odd, mend)


def _odd(file: Path, settings: dict[str, Any], backend: Tokenizer) -> Iterator[str]:
    """What is odd about the settings of a tokenizer, each as the key and its value."""
    if file.name == _SETTINGS[1]:  # where a token needs no type
        settings = {
            key: value | {_TYPE: "AddedToken"} if isinstance(value, dict) else value
            for key, value in settings.items()
        }
    try:
        read = _Settings.model_validate(settings)
    except ValidationError as error:
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        yield from (f"{file}: {name} is {settings[name]!r:.100}" for name in names)
    else:
        yield from (
            f"{file}: no token is {token!r:.100}" for token in read.tokens if not _is_token(token, backend)
        )


def _is_token(token: str, backend: Tokenizer) -> bool:
    try:
        return backend.token_to_id(token) is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may hold
        return False


def _require_loads(folder: Path, vocabulary: int, odd: Sequence[str], mend: str) -> None:
    """Load a tokenizer, which takes seconds. Raises TiebreakError, with what is odd about it, if that fails."""
    try:
        loaded = hub.tokenizer(str(folder))
        prepare(loaded, vocabulary, str(folder))
        loaded("a")
    except TiebreakError as error:
        raise TiebreakError(
            "; ".join([*odd, str(error)]) + (f"; correct it, or {mend}" if odd else "")
        ) from None
    except Exception as error:  # transformers' classes raise whatever they stumble over
        raise TiebreakError(f"{'; '.join(odd)}: {error}; correct it, or {mend}") from None


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
