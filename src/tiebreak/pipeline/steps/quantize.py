"""Step 7: quantize to 8 bits by GPTQ; the score head stays unquantized."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import replacing_folder, write_atomically
from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.schema import Prompt, Quantize, Recipe
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.pipeline.workload import VoteLengths, Workload

VERSION = 6


class Settings(Slice):
    quantize: Quantize
    prompt: Prompt
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write model/, quantised, and calibration_rows.json: the calibration rows, and as many others on
    which the change of logits is measured too. No vote of the lockbox is among them.
    """
    import numpy as np

    from tiebreak.judge import gptq, int8
    from tiebreak.judge.scoring import score
    from tiebreak.model.classifier import Classifier, load
    from tiebreak.tokens.prompt import tokenize
    from tiebreak.votes import splits

    source = inputs["model"][0] / "model"
    votes = _calibration_votes(inputs["rows"][0], 2 * settings.quantize.calibration_rows, settings.seed)
    count = min(settings.quantize.calibration_rows, len(votes))
    rows_R2 = np.stack([np.arange(len(votes)), np.arange(len(votes)) % 2], axis=1)
    stored = load(source, device=runtime.device)
    tokens = tokenize(votes, stored.tokenizer, settings.prompt)
    max_tokens = settings.quantize.max_tokens

    def logits(classifier: Classifier) -> Any:
        return score(classifier, tokens, rows_R2, max_tokens, runtime.score_tokens, runtime.report)

    def on_layer(done: int, total: int) -> None:
        runtime.report("quantising", done, total, "layers")
        if runtime.should_stop() and done < total:
            raise Interrupted(f"stopped after {done} of {total} layers, which will be quantised again")

    before_RC = logits(stored)
    del stored
    documents = [tokens.row(vote, order, max_tokens) for vote, order in rows_R2[:count].tolist()]
    with replacing_folder(output / "model") as partial:
        quantized = gptq.quantize(source, partial, documents, settings.quantize.group, on_layer=on_layer)
        after_RC = logits(int8.load_classifier(partial, device=runtime.device))
        metrics = {
            "calibration_rows": count,
            "bytes_before": quantized.bytes_before,
            "bytes_after": quantized.bytes_after,
            "layers_rounded": len(quantized.rounded),
            **_logit_change_metrics("calibration", before_RC[:count], after_RC[:count]),
            **_logit_change_metrics("others", before_RC[count:], after_RC[count:]),
        }
        _write_package(source, partial, {"method": "gptq", "bits": 8, "groups": quantized.groups, **metrics})
    keys = [{"id": vote, "order": n % 2} for n, vote in enumerate(votes["id"].to_pylist())]
    listed = json.dumps({"calibration": keys[:count], "others": keys[count:]}, indent=1, ensure_ascii=False)
    write_atomically(output / "calibration_rows.json", listed + "\n")
    return metrics | {"learned_from": sorted(splits.groups_of(votes.slice(0, count)))}


def _calibration_votes(folder: Path, count: int, seed: int) -> "pa.Table":
    """Up to `count` votes of the training sides, extra votes among them, in random order."""
    import numpy as np

    from tiebreak.votes import splits
    from tiebreak.votes.schema import LOCKBOX, read_table

    training = splits.training_votes(read_table(folder / "rows.parquet"), LOCKBOX)
    if len(training) == 0:
        raise TiebreakError(f"{folder} has no vote outside the lockbox to calibrate with; add votes")
    order = np.random.default_rng(splits.derive_seed(seed, "quantize")).permutation(len(training))
    return training.take(order[:count])


def _logit_change_metrics(rows: str, before_RC: Any, after_RC: Any) -> dict[str, float]:
    """The change of logits, as metrics; none without rows."""
    from dataclasses import asdict

    from tiebreak.judge.quantization_error import logit_change

    if len(before_RC) == 0:
        return {}
    return {f"logit_change_{rows}_{k}": v for k, v in asdict(logit_change(before_RC, after_RC)).items()}


def _write_package(source: Path, target: Path, done: dict[str, Any]) -> None:
    """Write tiebreak.json of the source with the quantization's provenance, and copy a baseline that ships with it."""
    from tiebreak.baseline import files
    from tiebreak.judge import package

    shipped = package.read(source)
    if shipped.blend is not None:
        shutil.copyfile(source / files.NAME, target / files.NAME)
    package.write(shipped.model_copy(update={"provenance": shipped.provenance | {"quantized": done}}), target)


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, subset, tokens

    rows = subset(votes.of("votes"), recipe.quantize.calibration_rows)
    return Workload(scored=tokens(rows, recipe.quantize.max_tokens))


STEP = Step(
    "quantize",
    VERSION,
    run,
    number=7,
    needs_gpu=always,
    writes=("quantized",),
    workload=workload,
)
