"""Rewards of answers: the probability that each is preferred to others, a tie counting half.

All pairs of a call are judged in one batch, each in both orders, so that no reward depends on an answer's place.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError
from tiebreak.judge.inputs import as_table
from tiebreak.judge.judge import Judge

Rewards = list[float | None]
"""A reward between 0 and 1 for each answer; None where none can be judged."""


@checked
def against_references(
    judge: Judge, prompts: Sequence[Any], answers: Sequence[Any], references: Sequence[Any]
) -> Rewards:
    """P(answer preferred) + P(tie) / 2 for each answer against its reference; None for a pair that cannot be read.

    Prompts and answers are strings, or lists of chat messages. Raises TiebreakError unless there are as many of each.
    """
    require_equal(prompts=prompts, answers=answers, references=references)
    return _shares_won(judge, zip(prompts, answers, references, strict=True))


@checked
def against_group(judge: Judge, prompts: Sequence[Any], answers: Sequence[Any]) -> Rewards:
    """The mean of P(answer preferred) + P(tie) / 2 over the other answers to the same prompt; None where there are none.

    A prompt's n answers are n (n - 1) / 2 pairs. What cannot be read is left out of the means of others. Raises TiebreakError
    unless there are as many prompts as answers.
    """
    require_equal(prompts=prompts, answers=answers)
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for n, prompt in enumerate(prompts):
        groups[json.dumps(prompt, sort_keys=True, default=str)].append(n)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    shares = _shares_won(judge, ((prompts[i], answers[i], answers[j]) for i, j in pairs))
    won: list[list[float]] = [[] for _ in prompts]
    for (i, j), share in zip(pairs, shares, strict=True):
        if share is not None:
            won[i].append(share)
            won[j].append(1 - share)
    return [sum(shares) / len(shares) if shares else None for shares in won]


def require_equal(**sequences: Sequence[Any]) -> None:
    """Raise TiebreakError unless these have the same length."""
    if len({len(each) for each in sequences.values()}) > 1:
        counts = ", ".join(f"{len(each)} {name}" for name, each in sequences.items())
        raise TiebreakError(f"rewards need as many of each: {counts}")


def _shares_won(judge: Judge, pairs: Iterable[tuple[Any, Any, Any]]) -> Rewards:
    """P(a) + P(tie) / 2 of pairs (prompt, a, b); None where one cannot be read."""
    tables = [_read(prompt, a, b) for prompt, a, b in pairs]
    readable = [table for table in tables if table is not None]
    if not readable:
        return [None] * len(tables)
    p_NC = judge.predict_table(pa.concat_tables(readable), both=True)
    shares = iter((p_NC[:, 0] + p_NC[:, 2] / 2).tolist())
    return [None if table is None else next(shares) for table in tables]


def _read(prompt: Any, a: Any, b: Any) -> pa.Table | None:
    if a is None or b is None:  # in a vote an answer that was never given, here no answer to compare
        return None
    try:
        return as_table([{"prompt": prompt, "response_a": a, "response_b": b}])[0]
    except TiebreakError:
        return None
