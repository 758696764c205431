"""Score a table a part at a time, saving each part as it is done."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from tiebreak import distributed
from tiebreak.data import logits as logits_of
from tiebreak.data.prompt import tokenize
from tiebreak.data.votes import read_table, write_table
from tiebreak.errors import Interrupted
from tiebreak.model.classifier import Classifier
from tiebreak.predict.scorer import both_orders, score
from tiebreak.recipe import Prompt
from tiebreak.runtime import Runtime

VOTES_A_PART = 2048


def score_in_parts(
    classifier: Classifier,
    table: pa.Table,
    prompt: Prompt,
    max_tokens: int,
    model: str,
    fold: int | None,
    runtime: Runtime,
) -> pa.Table:
    """Logits (data.logits.LOGITS_SCHEMA) of votes in both orders; `table` is as data.sides.marked makes it.

    Only the leading process gets them, others an empty table. Kept and stopped as `in_parts` says.
    """
    scored = partial(_score, classifier, prompt, max_tokens, model, fold, runtime)
    done = in_parts(scored, table, runtime)
    return pa.concat_tables(done) if done else logits_of.LOGITS_SCHEMA.empty_table()


def in_parts(scored: Callable[[pa.Table], pa.Table], table: pa.Table, runtime: Runtime) -> list[pa.Table]:
    """What `scored` makes of each part of a table; only the leading process gets them, others none.

    Parts that an earlier, killed run saved in `runtime.scratch` are not scored again. Raises Interrupted
    between two parts when the runtime asks to stop.
    """
    leads = distributed.leads()  # alone looks for files: another node may not see for a while what it wrote
    runtime.scratch.mkdir(parents=True, exist_ok=True)
    done = []
    for start in range(0, len(table), VOTES_A_PART):
        path = runtime.scratch / f"part-{start:09d}.parquet"
        if not distributed.first(leads and path.exists()):
            if distributed.most(runtime.should_stop())[0]:
                raise Interrupted(f"stopped after {start} of {len(table)} votes; they are saved")
            part = scored(table.slice(start, VOTES_A_PART))
            if leads:
                write_table(part, path)
        if leads:
            done.append(read_table(path))
    return done


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
    keys = part.select(["id", "split", "origin"]).take(rows[:, 0]).to_pydict()
    return logits_of.to_table(
        keys["id"], rows[:, 1].tolist(), z_RC, keys["split"], keys["origin"], model, fold
    )
