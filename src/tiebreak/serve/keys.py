"""API keys: those that a server accepts, compared in constant time, and where it may listen without any."""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from tiebreak.errors import TiebreakError
from tiebreak.regular_file import require_regular

VARIABLE = "TIEBREAK_API_KEY"
SHORTEST = 16
"""Characters of a key: 16 random ones cannot be guessed."""


@dataclass(frozen=True)
class Keys:
    """The SHA-256 digests of the accepted keys; none: everybody is let in."""

    digests: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, *keys: str) -> Self:
        return cls(tuple(sha256(key.encode()).digest() for key in keys))

    def __bool__(self) -> bool:
        return bool(self.digests)

    def accepts(self, authorization: bytes) -> bool:
        """True if an Authorization header bears one of the keys. Takes as long whichever it is."""
        scheme, _, key = authorization.partition(b" ")
        found = sha256(key.strip()).digest()
        matches = [hmac.compare_digest(found, digest) for digest in self.digests]
        return scheme.lower() == b"bearer" and any(matches)


def read(file: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of a file, one a line (# begins a comment), or else of the environment.

    Raises TiebreakError for a file that cannot be read or holds no key, and for a key that is too short.
    """
    if file is None:
        found = [key] if (key := environment.get(VARIABLE, "").strip()) else []
        source = f"the variable {VARIABLE}"
    else:
        found, source = _lines(file), str(file)
    for key in found:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise TiebreakError(
                f"{source} has a key that is not {SHORTEST} or more ASCII characters without spaces; make one with: "
                "openssl rand -hex 32"
            )
    return Keys.of(*found)


def _lines(file: Path) -> list[str]:
    require_regular(file)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TiebreakError(
            f"the file of keys {file} cannot be read: {reason}; it has one key a line"
        ) from None
    if not (keys := [line for line in lines if line and not line.startswith("#")]):
        raise TiebreakError(f"the file of keys {file} holds no key; it has one a line")
    return keys


def require_key(host: str, keys: Keys, without_key: bool) -> None:
    """Raise TiebreakError if others than this machine's programs could connect without a key, unless that is asked for."""
    if not (keys or without_key or is_loopback(host)):
        raise TiebreakError(
            f"--host {host} lets others connect, and there is no key: name a file with --api-key-file, set {VARIABLE}, "
            "or say --without-key if a network that you trust is all that reaches it"
        )


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
