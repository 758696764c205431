"""The terminal: results on stdout, all else on stderr. Every command prints through here, foreign text made plain."""

import io
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from tiebreak import plain
from tiebreak.full_disk import STANDARD_OUTPUT

if TYPE_CHECKING:
    from rich.console import RenderableType


class _Guarded:
    """A stream for all that Python prints, such as by libraries, as `plain.printed` makes it."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        self.unguarded.write(plain.printed(text))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


class _StandardOutput(io.FileIO):
    """The file of standard output, whose errors name it: those of a full disk name none."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def _named(stream: TextIO) -> TextIO:
    """A stream like that of standard output, with errors that name it."""
    try:
        file = _StandardOutput(stream.fileno(), "wb", closefd=False)
    except io.UnsupportedOperation:  # it is in memory
        return stream
    buffer = io.BufferedWriter(file)
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=stream.isatty())


class _LineFormatter(logging.Formatter):
    """A line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        return plain.line(record.getMessage())


@contextmanager
def guarded() -> Iterator[None]:
    """Guard stdout and stderr against what others print, and a traceback that ends the process."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Guarded(_named(sys.stdout)), _Guarded(sys.stderr)
    try:
        yield
    finally:
        with suppress(OSError):  # which `whole_output` has told, if anyone asks
            sys.stdout.flush()
        sys.stdout, sys.stderr = before
        sys.excepthook = _print_traceback  # typer has set its own meanwhile


@contextmanager
def whole_output() -> Iterator[None]:
    """Standard output to its end. Raises OSError where it cannot be written, and exits quietly where nobody reads it."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(1)


def log_to_stderr() -> None:
    """Print the project's log records, each on a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("tiebreak").setLevel(logging.INFO)


def result(*texts: object) -> None:
    """Print results on stdout, a line each."""
    for text in texts:
        print(plain.line(text))


def note(*texts: object) -> None:
    """Print on stderr what is no result, a line each."""
    for text in texts:
        print(plain.line(text), file=sys.stderr)


def counted(count: int, noun: str) -> str:
    """The number of things of a kind, such as `1 row` and `2 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def show_json(value: Any, indent: int | None = None) -> None:
    """Print JSON on stdout, in ASCII."""
    print(json.dumps(value, indent=indent))


def show(renderable: "RenderableType", soft_wrap: bool = False) -> None:
    """Print a table or a styled text on stdout."""
    from tiebreak.console import Terminal

    Terminal().print(renderable, soft_wrap=soft_wrap)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace, file=_Guarded(sys.stderr))
