"""Which model is better, on real votes: a judge and a third of people's votes, beside all of their votes.

    python benchmarks/compare_real.py DATA [--write]

DATA holds pairs/*.parquet and lmsys/train.csv (docs: see the result's page). The judge is the baseline, trained on votes of other
collections whose prompts are not in those that are compared. Prints tables, then one line of JSON; --write keeps both.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import table

import tiebreak
from tiebreak.baseline.model import Baseline
from tiebreak.comparison import analysis
from tiebreak.comparison.judged import judged
from tiebreak.comparison.results import Comparison, Leaderboard
from tiebreak.stats.metrics import log_loss
from tiebreak.votes.formats.model_outputs import comparisons, prompt_key, read_outputs
from tiebreak.votes.formats.readers import read_all, record_batch
from tiebreak.votes.schema import probabilities

RESULT = Path(__file__).parent / "results" / "compare-real-cpu-202612"
TRAINED_ON = ("pairs/autoj_human.parquet", "pairs/llmeval2_human.parquet", "lmsys/train.csv")
COMPARED = {"tulu": "pairs/tulu_human_eval.parquet", "pandalm": "pairs/pandalm_human.parquet"}
SHARE = 1 / 3


def keys(votes: pa.Table) -> list[str]:
    return [prompt_key(prompt) for prompt in votes["prompt"].to_pylist()]


def train(data: Path) -> Baseline:
    """The judge, without votes on prompts of what is compared."""
    votes, _ = read_all([data / name for name in TRAINED_ON])
    taboo = {key for name in COMPARED.values() for key in keys(read_all([data / name])[0])}
    votes = votes.filter(pa.array([key not in taboo for key in keys(votes)]))
    prompts = np.unique(keys(votes), return_inverse=True)[1]
    return Baseline().fit(votes, probabilities(votes), prompts)


def compared(judge: Baseline, file: Path) -> tuple[Comparison, Leaderboard, float]:
    """By a third of the prompts' votes and the judge, by all votes, and the judge's log loss."""
    outputs = read_outputs([file])
    chosen = comparisons(outputs)
    pairs = pa.Table.from_batches([record_batch([one.vote for one in chosen])])
    p_NC = judge.predict_proba(pairs)
    made = judged(chosen, p_NC, outputs.models)
    found = made.votes(read_all([file])[0])
    random = np.random.default_rng(0)
    prompts = made.prompts
    kept_N = (random.random(prompts.max() + 1) < SHARE)[prompts]
    some = np.where(kept_N[:, None], found.y_NC, np.nan), np.where(kept_N, found.count_N, 0)
    every = analysis.leaderboard(analysis.rows_of(made, (found.y_NC, found.count_N)), "votes")
    return analysis.compare(made, some), every, log_loss(p_NC, np.nan_to_num(found.y_NC, nan=1 / 3))


def rows_of(found: Comparison, every: Leaderboard) -> Iterator[dict[str, Any]]:
    """A row a model: its strength by each source."""
    boards = {"all votes": every, "a third and the judge": found.leaderboard}
    boards |= {{"votes": "a third", "judge": "the judge"}[board.source]: board for board in found.by_source}
    for standing in every.standings:
        row: dict[str, Any] = {"model": standing.model}
        for name, board in boards.items():
            elo = next(s for s in board.standings if s.model == standing.model).elo
            row[name] = (
                None
                if elo is None
                else [round(x, 2) if x is not None else None for x in (elo.value, elo.low, elo.high)]
            )
        yield row


def measured(data: Path) -> dict[str, Any]:
    """All figures."""
    judge = train(data)
    found = {}
    for name, file in COMPARED.items():
        one, every, loss = compared(judge, data / file)
        assert one.worth is not None
        found[name] = {
            "votes": every.comparisons,
            "used": one.worth.compared,
            "effective_votes": round(one.worth.effective_votes, 1),
            "judge_weight": round(one.worth.judge_weight, 3),
            "log_loss": round(loss, 4),
            "headline": one.headline,
            "notes": list(one.notes),
            "models": list(rows_of(one, every)),
        }
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    found = measured(chosen.data)
    shown = "\n\n".join(_shown(name, one) for name, one in found.items())
    facts = {
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        "scikit-learn": version("scikit-learn"),
    }
    line = json.dumps({"benchmark": "compare-real", **facts, "found": found})
    print(shown, line, sep="\n\n")
    if chosen.write:
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(page(shown, facts))


def _shown(name: str, one: dict[str, Any]) -> str:
    rows = [{key: _cell(value) for key, value in row.items()} for row in one["models"]]
    return f"""### {name}: {one["used"]} of {one["votes"]} comparisons with votes

> {one["headline"]}

{table(tuple(rows[0]), rows)}

The judge (log loss {one["log_loss"]}) has the weight {one["judge_weight"]}: {one["used"]} votes with it are as exact as {one["effective_votes"]:.0f} alone."""


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value or "")
    middle, low, high = value
    return f"{middle:+.0f}" if low is None else f"{middle:+.0f} ({low:+.0f} to {high:+.0f})"


def page(shown: str, facts: dict[str, Any]) -> str:
    return f"""# Which model is better: real votes

Measured in December 2026; Python {facts["python"]}, scikit-learn {facts["scikit-learn"]}, tiebreak {facts["tiebreak"]}. Made by

    python benchmarks/compare_real.py DATA --write

People compared models in Tulu's expert evaluation and in PandaLM's test set. Here a third of the prompts, drawn at random, keep their votes; all
comparisons are judged. So the votes that were held back show who was right. The judge is the weakest there is, the baseline of words and
features, trained on Auto-J, LLMEval2 and the first 999 votes of LMSYS without the prompts in question. Strengths are in Elo points.

{shown}

## What it shows

A judge of words is worth little, and costs nothing: its figures alone may be far off those of all votes, with narrow intervals that know nothing of
it, while those by votes and judge stay with the votes.

## Caveats

Two sets, one draw of a third. The strengths by all votes are no truth either: they have intervals of their own, and a third of them is what
the others have used.
"""


if __name__ == "__main__":
    main()
