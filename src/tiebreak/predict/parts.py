"""Score a table in both orders, saving each part as it is done."""

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


def score_in_parts(
    classifier: Classifier,
    table: pa.Table,
    prompt: Prompt,
    max_tokens: int,
    model: str,
    fold: int | None,
    runtime: Runtime,
    votes_a_part: int = 2048,
) -> pa.Table:
    """Logits (data.logits.LOGITS_SCHEMA) of votes in both orders; `table` has a column `split`.

    Parts that an earlier, killed run saved in `runtime.scratch` are not scored again. Raises Interrupted
    between two parts when the runtime asks to stop.
    """
    runtime.scratch.mkdir(parents=True, exist_ok=True)
    done = []
    for start in range(0, len(table), votes_a_part):
        path = runtime.scratch / f"part-{start:09d}.parquet"
        if not distributed.first(path.exists()):
            if distributed.most(runtime.should_stop())[0]:
                raise Interrupted(f"stopped after {start} of {len(table)} votes; they are saved")
            part = table.slice(start, votes_a_part)
            scored = _score(classifier, part, prompt, max_tokens, model, fold, runtime)
            if distributed.leads():
                write_table(scored, path)
            distributed.meet()
        done.append(read_table(path))
    return pa.concat_tables(done) if done else logits_of.LOGITS_SCHEMA.empty_table()


def _score(
    classifier: Classifier,
    part: pa.Table,
    prompt: Prompt,
    max_tokens: int,
    model: str,
    fold: int | None,
    runtime: Runtime,
) -> pa.Table:
    rows = both_orders(np.arange(len(part)))
    tokens = tokenize(part, classifier.tokenizer, prompt)
    z_RC = score(classifier, tokens, rows, max_tokens, runtime.score_tokens, runtime.report)
    keys = part.select(["id", "split"]).take(rows[:, 0]).to_pydict()
    origin = ["in_sample" if split == "train" else "out_of_fold" for split in keys["split"]]
    return logits_of.to_table(keys["id"], rows[:, 1].tolist(), z_RC, keys["split"], origin, model, fold)
