"""Prompts that are the same question form one group: the unit that folds and the lockbox never cut."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from tiebreak.data.streaming import batches

_NOT_WORDS = re.compile(r"[\W_]+")


def normalise(prompt: Sequence[str | None]) -> str:
    """All turns as one text without case, punctuation and spacing (Unicode NFKC).

    A prompt of nothing but punctuation stays as it is.
    """
    text = unicodedata.normalize("NFKC", "\n".join(turn or "" for turn in prompt)).casefold()
    return _NOT_WORDS.sub(" ", text).strip() or " ".join(text.split())


def name(text: str) -> str:
    """The name of a group: a hash of a normalised prompt, 20 hexadecimal digits."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()


def of_files(files: Mapping[str, Path]) -> dict[str, list[str]]:
    """The group of every row of some Parquet files of votes, told apart over all of them together."""
    return {key: [name(normalise(prompt)) for prompt in _prompts(path)] for key, path in files.items()}


def _prompts(path: Path) -> Iterator[list[str | None]]:
    for batch in batches(path, ["prompt"]):
        yield from batch["prompt"].to_pylist()
