"""Truncation of texts to a token budget: the length that each keeps, and the tokens.

    published   the prompt is capped, answers lose their ends
    balanced    the prompt also takes what the answers leave; each text keeps its start and its end, and of
                several turns the last one has priority

Dimension letters: T tokens.
"""

import numpy as np
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError

Tokens = NDArray[np.int32]


def keep_lengths(
    prompt: int, first: int, second: int, budget: int, prompt_cap: int, spare: bool = False
) -> tuple[int, int, int]:
    """The number of tokens of each text that fit into `budget`.

    Nothing is cut when all fits. Otherwise the prompt is capped first, then the longer answer is cut down to
    the shorter one, then both equally, so that swapping the answers swaps the result. `spare`: the prompt
    may exceed its cap as far as the whole answers leave room.

    Raises TiebreakError if the budget leaves no room for answers.
    """
    if prompt + first + second <= budget:
        return prompt, first, second
    prompt = min(prompt, max(prompt_cap, budget - first - second) if spare else prompt_cap)
    room = budget - prompt
    if room < 2:
        raise TiebreakError(
            f"max_tokens leaves {budget} tokens for the texts, less than the prompt's cap of {prompt_cap} "
            "and one token an answer. Raise max_tokens or lower prompt.prompt_tokens"
        )
    if first + second <= room:
        return prompt, first, second
    if min(first, second) > room // 2:
        return prompt, room // 2, room // 2
    shorter = min(first, second)
    return prompt, min(first, room - shorter), min(second, room - shorter)


def keep_ends(text_T: Tokens, kept: int, last: int, gap: Tokens) -> Tokens:
    """Truncate a text, whose last turn begins at `last`, to `kept` tokens, with `gap` in place of the omitted part.

    The last turn is kept whole, with the start of the turns before it; if even the last turn is too long, as much of
    its start as of its end is kept.
    """
    if kept >= len(text_T):
        return text_T
    turn = text_T[last:]
    room = kept - len(turn)
    if room > len(gap):
        return np.concatenate([text_T[: room - len(gap)], gap, turn])
    if room >= 0:
        return text_T[len(text_T) - kept :]
    inner = kept - len(gap)
    if inner < 2:
        return turn[:kept]
    return np.concatenate([turn[: inner - inner // 2], gap, turn[len(turn) - inner // 2 :]])
