"""The header of a GGUF file: its metadata, and its tensors' names and types (ggml's docs/gguf.md, versions 2 and 3).

The library's own reader takes seconds for a vocabulary, and does not detect a truncated file.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Format characters of struct by GGUF's type numbers; 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """Metadata by key, and the types of the tensors by name."""

    fields: dict[str, Any]
    tensors: "dict[str, GGMLQuantizationType]"


@dataclass(frozen=True)
class _Tensor:
    name: str
    kind: "GGMLQuantizationType"
    offset: int
    size: int


def read(file: Path) -> Header:
    """Raises OSError where there is no file, and ValueError where it is no GGUF file or not whole.

    The tensors lie one behind the other, as llama.cpp wants them too, so that a shape or type that is damaged shows.
    """
    if file.stat().st_size == 0:
        raise ValueError("it is empty")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        cursor = _Cursor(content)
        if cursor.take(4) != b"GGUF":
            raise ValueError("it does not begin as one")
        if (version := cursor.number("I")) not in (2, 3):
            raise ValueError(f"its version {version} is neither 2 nor 3")
        tensors, fields = cursor.number("Q"), cursor.number("Q")
        found = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(fields)}
        listed = [cursor.tensor() for _ in range(tensors)]
        alignment = found.get("general.alignment", 32)
        start = end = -(-cursor.at // alignment) * alignment
        for tensor in listed:
            if start + tensor.offset != -(-end // alignment) * alignment:
                raise ValueError(f"{tensor.name} does not begin where the tensor before it ends")
            end = start + tensor.offset + tensor.size
            if end > len(content):
                raise ValueError(f"it breaks off: {tensor.name} ends at byte {end} of {len(content)}")
    kinds = {tensor.name: tensor.kind for tensor in listed}
    if len(kinds) < len(listed):
        raise ValueError("it names a tensor twice")
    return Header(found, kinds)


@dataclass
class _Cursor:
    content: mmap.mmap
    at: int = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.content):
            raise ValueError("it breaks off")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_code(kind))
        inner, count = self.number("I"), self.number("Q")
        if inner in (_STRING, _ARRAY):
            return [self.value(inner) for _ in range(count)]
        code = _code(inner)
        return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(code))))

    def tensor(self) -> _Tensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.text()
        shape = [self.number("Q") for _ in range(self.number("I"))]
        kind, offset = GGMLQuantizationType(self.number("I")), self.number("Q")
        weights, size = GGML_QUANT_SIZES[kind]
        return _Tensor(name, kind, offset, prod(shape) // weights * size)


def _code(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"it holds a value of the unknown type {kind}")
    return _NUMBERS[kind]
