"""The header of a GGUF file: its metadata, and the names of its tensors (ggml's docs/gguf.md, versions 2 and 3).

The library's own reader takes seconds for a vocabulary, and does not notice where a file breaks off.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Codes of struct by GGUF's numbers of types; 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """Metadata by key, and the names of the tensors."""

    fields: dict[str, Any]
    tensors: tuple[str, ...]


def read(file: Path) -> Header:
    """Raises OSError where there is no file, and ValueError where it is no GGUF file or not whole."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        cursor = _Cursor(content)
        if cursor.take(4) != b"GGUF":
            raise ValueError("it does not begin as one")
        if (version := cursor.number("I")) not in (2, 3):
            raise ValueError(f"its version {version} is neither 2 nor 3")
        tensors, fields = cursor.number("Q"), cursor.number("Q")
        found = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(fields)}
        extents = dict(cursor.tensor() for _ in range(tensors))
        alignment = found.get("general.alignment", 32)
        start = -(-cursor.at // alignment) * alignment
        if any(start + end > len(content) for end in extents.values()):
            raise ValueError("it breaks off")
    return Header(found, tuple(extents))


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

    def tensor(self) -> tuple[str, int]:
        """A tensor's name, and where it ends behind the start of the data."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.text()
        shape = [self.number("Q") for _ in range(self.number("I"))]
        kind, offset = self.number("I"), self.number("Q")
        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return name, offset + prod(shape) // weights * size


def _code(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"it holds a value of the unknown type {kind}")
    return _NUMBERS[kind]
