"""Resumable scoring of a table in parts, each saved when done."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from tiebreak import distributed
from tiebreak.errors import Interrupted
from tiebreak.judge.logits import LOGITS_SCHEMA, to_table
from tiebreak.judge.scoring import both_orders, score
from tiebreak.model.classifier import Classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.runtime import Runtime
from tiebreak.tokens.prompt import tokenize
from tiebreak.votes.schema import read_table, swap_answers, write_table

VOTES_PER_PART = 2048


def score_in_parts(
    classifier: Classifier,
    table: pa.Table,
    prompt: Prompt,
    max_tokens: int,
    model: str,
    fold: int | None,
    runtime: Runtime,
) -> pa.Table:
    """Logits (judge.logits.LOGITS_SCHEMA) of votes in both orders; `table` is from votes.splits.tag_splits.

    Only the main process gets them, others an empty table. Parts are saved and interrupted as in `map_in_parts`.
    """
    score_part = partial(_score, classifier, prompt, max_tokens, model, fold, runtime)
    parts = map_in_parts(score_part, table, runtime)
    return pa.concat_tables(parts) if parts else LOGITS_SCHEMA.empty_table()


def map_in_parts(
    score_part: Callable[[pa.Table], pa.Table], table: pa.Table, runtime: Runtime
) -> list[pa.Table]:
    """Apply `score_part` to each part of a table; only the main process gets the results, others none.

    Parts that an earlier, killed run saved in `runtime.scratch` are not scored again. Raises Interrupted
    between two parts when the runtime asks to stop.
    """
    is_main = distributed.is_main_process()  # only it looks for files: another node may see them late
    runtime.scratch.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(table), VOTES_PER_PART):
        path = runtime.scratch / f"part-{start:09d}.parquet"
        if not distributed.broadcast(is_main and path.exists()):
            if distributed.all_reduce_max(runtime.should_stop())[0]:
                raise Interrupted(f"stopped after {start} of {len(table)} votes; they are saved")
            part = score_part(table.slice(start, VOTES_PER_PART))
            if is_main:
                write_table(part, path)
        if is_main:
            parts.append(read_table(path))
    return parts


def _score(
    classifier: Classifier,
    prompt: Prompt,
    max_tokens: int,
    model: str,
    fold: int | None,
    runtime: Runtime,
    part: pa.Table,
) -> pa.Table:
    rows = both_orders(np.arange(len(part)))
    tokens = tokenize(part, classifier.tokenizer, prompt)
    z_RC = score(classifier, tokens, rows, max_tokens, runtime.score_tokens, runtime.report)
    return to_table(part, swap_answers(z_RC.reshape(-1, 2, 3), [False, True]), model, fold)
