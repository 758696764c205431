"""Lines of text files: UTF-8 or Windows-1252, with any of the three line ends, and limited in what they unfold to."""

import io
import logging
import zlib
from collections import deque
from collections.abc import Iterator
from gzip import GzipFile
from pathlib import Path
from typing import Any

import pyarrow as pa

from tiebreak.errors import TiebreakError
from tiebreak.limits import RAISE, raised

log = logging.getLogger(__name__)

MAX_RECORD = 64 << 20
"""Characters of one record; a longer one is a reject. A 10 MB answer fits, its JSON escapes too."""

MOST_UNFOLDED = 1000
"""How many times its own size a file may unfold to, beyond the first GiB."""
_FREE_BYTES = 1 << 30

_LOOK_AHEAD = 4 << 20
_BROKEN_STREAM = (EOFError, OSError, zlib.error, pa.ArrowException)

Stream = io.BufferedReader | GzipFile


def _ends_lines_with_cr(stream: Stream) -> bool:
    """True if a header or a JSON object ends with a carriage return alone, as files of old Macs and some exports do."""
    try:
        start = stream.peek(_LOOK_AHEAD)
    except _BROKEN_STREAM:
        return False
    first, end, rest = start.partition(b"\r")
    if not end or b"\n" in first or rest[:1] in (b"\n", b""):
        return False
    if first.lstrip()[:1] == b"{":
        return first.rstrip()[-1:] == b"}" and rest.lstrip()[:1] in (b"{", b"")
    return first.lstrip()[:1] != b"[" and first.count(b'"') % 2 == 0


class _CarriageReturns(io.RawIOBase):
    """A stream with its carriage returns as line ends."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class Unfolded:
    """The bytes that a file has unfolded to so far. Raises TiebreakError for many more than files of votes do."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        self._times = raised(MOST_UNFOLDED)
        self._left = raised(_FREE_BYTES) + self._times * self.size

    def add(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TiebreakError(
                f"{self.path} has {self.size} bytes and unfolds to more than {self._times} times that; {RAISE}, and plain "
                "CSV or JSON Lines may have any size"
            )


class Lines:
    """Decoded lines of a byte stream: each as UTF-8, or else as Windows-1252 if the file is in that encoding.

    It is if among the first lines with a byte above 127 none is UTF-8 and all are cp1252; `path` names it in
    the warning. A byte of neither becomes a lone surrogate (`damaged`). `broken` is the reason why the stream
    ended early, if it did.
    """

    def __init__(self, path: Path, stream: Stream) -> None:
        self.path = path
        self.stream = io.BufferedReader(_CarriageReturns(stream)) if _ends_lines_with_cr(stream) else stream
        self.broken = ""
        self._unfolded = Unfolded(path)
        self._most = raised(MAX_RECORD)
        self._fallback = ""
        self._buffered: deque[bytes] = deque()
        self._at_start = True

    def __iter__(self) -> Iterator[str]:
        while raw := self._buffered.popleft() if self._buffered else self._read():
            if self._at_start:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                self._at_start = False
            yield raw.decode("ascii") if raw.isascii() else self._decode(raw)

    def _read(self) -> bytes:
        try:
            raw = self.stream.readline(self._most)
        except _BROKEN_STREAM as error:
            self.broken = str(error) or type(error).__name__
            return b""
        self._unfolded.add(len(raw))
        return raw

    def _decode(self, raw: bytes) -> str:
        if _decodes(raw, "utf-8"):
            self._fallback = self._fallback or "utf-8"
            return raw.decode("utf-8")
        self._fallback = self._fallback or self._detect_fallback(raw)
        return raw.decode(self._fallback, "surrogateescape")

    def _detect_fallback(self, raw: bytes) -> str:
        """The encoding of lines that are not UTF-8, `raw` the first; buffers the lines that it reads."""
        size = 0
        while _decodes(raw, "cp1252"):
            raw = self._read()
            self._buffered.append(raw)
            size += len(raw)
            if not raw or size > _LOOK_AHEAD:
                log.warning("%s is not UTF-8; read as Windows-1252 (Latin-1)", self.path)
                return "cp1252"
            if not raw.isascii() and _decodes(raw, "utf-8"):
                break
        return "utf-8"


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def damaged(text: str) -> bool:
    """True if some bytes of the text did not decode: nothing else makes lone surrogates."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
