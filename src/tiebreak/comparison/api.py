"""`tiebreak.compare` and `tiebreak.leaderboard`: comparisons in memory."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tiebreak.comparison import analysis
from tiebreak.comparison.judged import Judged, judged
from tiebreak.comparison.results import Comparison, Leaderboard
from tiebreak.comparison.spending import for_leaders
from tiebreak.errors import TiebreakError
from tiebreak.judge.judge import PairJudge
from tiebreak.terminal import counted
from tiebreak.votes.formats.mapping import ColumnMap
from tiebreak.votes.formats.model_outputs import (
    OF_PROMPTS,
    Key,
    Outputs,
    comparisons,
    more_comparisons,
    pair_sizes,
    prompt_key,
    read_given,
    read_outputs,
)
from tiebreak.votes.formats.model_outputs import Comparison as Comparing
from tiebreak.votes.formats.model_votes import read_model_votes
from tiebreak.votes.formats.readers import record_batch
from tiebreak.votes.schema import probabilities

log = logging.getLogger(__name__)


def compare(
    judge: Any,
    outputs: Any,
    votes: Any = None,
    baseline: str | None = None,
    by: str | Sequence[str] = (),
    budget: int | None = None,
    columns: Mapping[str, str] | None = None,
    leaders: bool = False,
    width: float = analysis.WIDTH,
) -> Comparison:
    """Compare models, see `tiebreak.compare`."""
    if not isinstance(judge, PairJudge):
        raise TiebreakError(f"judge is what tiebreak.load gives, or a model folder, not {judge!r:.60}")
    if budget is not None and budget < 1:
        raise TiebreakError(f"budget, the comparisons to judge, is 1 or more, not {budget}")
    if leaders and budget is None:
        raise TiebreakError("leaders says what a budget is spent on: give budget=, the comparisons to judge")
    if not 0 < width < 1:
        raise TiebreakError(f"width, of a win rate's interval, is between 0 and 1, not {width}")
    names = [by] if isinstance(by, str) else list(by)
    mapping = ColumnMap(columns or {})
    found = _outputs(outputs, mapping, column_of(names), votes is not None)
    if found.problems:
        raise TiebreakError(
            f"{len(found.problems)} of the outputs cannot be read, the first is {found.problems[0]}"
        )
    table = None if votes is None else _votes(votes, mapping)
    first = first_part(budget, leaders)
    made = _judge(judge, to_judge(found, baseline, first, table), found)
    if leaders and first is not None and budget is not None:
        rest = _judge(judge, to_judge_next(found, baseline, made, budget, table), found)
        made = Judged(pa.concat_tables([made.table, rest.table]), made.models)
    return analysis.compare(made, matched(made, table), names, width)


def _judge(judge: PairJudge, chosen: Sequence[Comparing], found: Outputs) -> Judged:
    if not chosen:
        return judged([], np.empty((0, 3)), found.models)
    pairs = pa.Table.from_batches([record_batch([one.vote for one in chosen])])
    return judged(chosen, judge.predict_table(pairs, both=True), found.models)


def leaderboard(votes: Any, columns: Mapping[str, str] | None = None) -> Leaderboard:
    """A leaderboard of votes or judged pairs, see `tiebreak.leaderboard`."""
    table = _votes(votes, ColumnMap(columns or {}))
    sides = [table[f"model_{side}"].to_pylist() for side in "ab"]
    if any(name is None for side in sides for name in side):
        raise TiebreakError("a leaderboard needs model_a and model_b of every vote")
    if same := next((a for a, b in zip(*sides, strict=True) if a == b), None):
        raise TiebreakError(f"a vote is between {same} and itself; a leaderboard needs two models")
    models = tuple(dict.fromkeys(name for pair in zip(*sides, strict=True) for name in pair))
    number = {name: n for n, name in enumerate(models)}
    prompts = np.unique([prompt_key(prompt) for prompt in table["prompt"].to_pylist()], return_inverse=True)[
        1
    ]
    rows = analysis.Rows(
        models,
        np.array([[number[name] for name in side] for side in sides]).T,
        prompts,
        None,
        probabilities(table),
        np.ones(len(table), np.int64),
    )
    return analysis.leaderboard(rows, "votes")


def column_of(by: Sequence[str]) -> str | None:
    """The column among what to slice by. Raises TiebreakError for two."""
    found = [name for name in by if name not in OF_PROMPTS]
    if len(found) > 1:
        raise TiebreakError(
            f"slices are by one column, besides {' and '.join(OF_PROMPTS)}; not by {' and '.join(found)}"
        )
    return found[0] if found else None


def _votes(votes: Any, mapping: ColumnMap) -> pa.Table:
    """The votes that can be read; the others are left out with a warning."""
    table, problems = read_model_votes(votes, mapping)
    if problems:
        log.warning("%s", left_out(problems))
    return table


def left_out(problems: Sequence[str]) -> str:
    """What to say of votes that cannot be read."""
    return f"{counted(len(problems), 'vote')} could not be read, the first: {problems[0]}"


def to_judge(
    outputs: Outputs, baseline: str | None, budget: int | None, votes: pa.Table | None
) -> list[Comparing]:
    """The comparisons to judge. Raises TiebreakError where there are none, or votes and none on any of them."""
    wanted = voted(outputs, votes)
    found = comparisons(outputs, baseline, budget, wanted)
    if not found:
        raise TiebreakError(
            "no two models have answers to the same prompt, so that there is nothing to compare"
        )
    if votes is not None and not any(one.key in wanted for one in found):
        raise _no_votes(votes)
    return found


def first_part(budget: int | None, leaders: bool) -> int | None:
    """The part of a budget that is spread evenly: all of it, or half, before the leaders are known."""
    return -(-budget // 2) if budget is not None and leaders else budget


def to_judge_next(
    outputs: Outputs, baseline: str | None, made: Judged, budget: int, votes: pa.Table | None
) -> list[Comparing]:
    """The comparisons to judge with the rest of a budget, which tell the leaders apart, after those of its even part."""
    done = len(made.table)
    more = for_leaders(made, pair_sizes(outputs, baseline), budget - done)
    return more_comparisons(outputs, baseline, done, voted(outputs, votes), more)


def voted(outputs: Outputs, votes: pa.Table | None) -> frozenset[Key]:
    """The comparisons whose texts there are votes on."""
    if votes is None:
        return frozenset()
    models: dict[tuple[str, str], set[str]] = defaultdict(set)
    for prompt, answers in outputs.answers.items():
        for model, answer in answers.items():
            models[prompt, prompt_key(answer)].add(model)
    for vote in (one.vote for one in outputs.given):
        for name, answer in ((vote.model_a, vote.response_a), (vote.model_b, vote.response_b)):
            models[prompt_key(vote.prompt), prompt_key(answer)].add(name or "")
    rows = votes.select(["prompt", "response_a", "response_b"]).to_pylist()
    keys = ([prompt_key(row[name]) for name in ("prompt", "response_a", "response_b")] for row in rows)
    return frozenset(
        (prompt, min(one, other), max(one, other))
        for prompt, a, b in keys
        for one, other in product(models.get((prompt, a), ()), models.get((prompt, b), ()))
    )


def matched(made: Judged, votes: pa.Table | None) -> tuple[Any, Any] | None:
    """The votes on judged comparisons. Raises TiebreakError if none is on any of them."""
    if votes is None:
        return None
    found = made.votes(votes)
    if not found.count_N.any():
        raise _no_votes(votes)
    return found.y_NC, found.count_N


def _no_votes(votes: pa.Table) -> TiebreakError:
    return TiebreakError(
        f"none of the {len(votes)} votes is on one of the comparisons: prompt and both answers have to be those of the outputs, "
        "letter by letter but for space at the ends"
    )


def _outputs(outputs: Any, mapping: ColumnMap, by: str | None, beside_votes: bool) -> Outputs:
    if isinstance(outputs, str | Path):
        return read_outputs([Path(outputs)], mapping, by, beside_votes)
    if hasattr(outputs, "__arrow_c_stream__"):
        return read_given(pa.table(outputs).to_pylist(), mapping, by, beside_votes)
    if isinstance(outputs, Mapping) or not isinstance(outputs, Iterable):
        raise TiebreakError(f"outputs are files, a table or a list of dicts, not {outputs!r:.40}")
    given = list(outputs)
    if given and all(isinstance(one, str | Path) for one in given):
        return read_outputs([Path(one) for one in given], mapping, by, beside_votes)
    return read_given(given, mapping, by, beside_votes)
