"""Hash of a pair of answers to a prompt, the same when the answers are exchanged."""

from hashlib import blake2b

from tiebreak.votes.formats.dialog import Turns
from tiebreak.votes.normalise import normalise


def pair_hash(prompt: Turns, a: Turns, b: Turns) -> tuple[int, bool]:
    """64 bits of a pair's texts, and True where its answers stand in the other order than that in which they are compared."""
    sides = [repr(a), repr(b)]
    text = "\0".join([normalise(prompt), *sorted(sides)])
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big"), sides[0] > sides[1]
