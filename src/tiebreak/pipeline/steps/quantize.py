"""Step 7: quantize to 8 bits by GPTQ; the score head stays unquantized."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import replacing_folder, write_atomically
from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.schema import Prompt, Quantize, Recipe
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.judge.package import Package
    from tiebreak.model.classifier import Classifier
    from tiebreak.pipeline.workload import VoteLengths, Workload

VERSION = 8


class Settings(Slice):
    quantize: Quantize
    prompt: Prompt
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write model/, quantised, and calibration_rows.json: the calibration rows, and as many others on
    which the change of logits is measured too. No vote of the lockbox is among them.

    The package holds counts of the quantised model's own decisions on the calibration side, for `stats.guarantees`.
    """
    import numpy as np

    from tiebreak.judge import gptq, int8, package
    from tiebreak.judge.scoring import score
    from tiebreak.model.classifier import Classifier, load
    from tiebreak.tokens.prompt import tokenize
    from tiebreak.votes import schema, splits

    source, rows = inputs["model"][0] / "model", schema.read_table(inputs["rows"][0] / "rows.parquet")
    votes = _gptq_votes(rows, 2 * settings.quantize.calibration_rows, settings.seed)
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
        quantized_model = int8.load_classifier(partial, device=runtime.device)
        after_RC = logits(quantized_model)
        metrics = {
            "calibration_rows": count,
            "bytes_before": quantized.bytes_before,
            "bytes_after": quantized.bytes_after,
            "layers_rounded": len(quantized.rounded),
            **_logit_change_metrics("calibration", before_RC[:count], after_RC[:count]),
            **_logit_change_metrics("others", before_RC[count:], after_RC[count:]),
        }
        done = {"method": "gptq", "bits": 8, "groups": quantized.groups, **metrics}
        unseen = _unseen_votes(rows, inputs["model"][0])
        package.write(_package(source, partial, quantized_model, unseen, settings, runtime, done), partial)
    keys = [{"id": vote, "order": n % 2} for n, vote in enumerate(votes["id"].to_pylist())]
    listed = json.dumps({"calibration": keys[:count], "others": keys[count:]}, indent=1, ensure_ascii=False)
    write_atomically(output / "calibration_rows.json", listed + "\n")
    seen_groups = {"learned_from": votes.slice(0, count), "fitted_on": unseen}
    return metrics | {name: sorted(splits.groups_of(table)) for name, table in seen_groups.items()}


def _gptq_votes(rows: "pa.Table", count: int, seed: int) -> "pa.Table":
    """Up to `count` votes of the training sides, extra votes among them, in random order."""
    import numpy as np

    from tiebreak.votes import splits
    from tiebreak.votes.schema import LOCKBOX

    training = splits.training_votes(rows, LOCKBOX)
    if len(training) == 0:
        raise TiebreakError("there is no vote outside the lockbox to calibrate with; add votes")
    order = np.random.default_rng(splits.derive_seed(seed, "quantize")).permutation(len(training))
    return training.take(order[:count])


def _logit_change_metrics(rows: str, before_RC: Any, after_RC: Any) -> dict[str, float]:
    """The change of logits, as metrics; none without rows."""
    from dataclasses import asdict

    from tiebreak.judge.quantization_error import logit_change

    if len(before_RC) == 0:
        return {}
    return {f"logit_change_{rows}_{k}": v for k, v in asdict(logit_change(before_RC, after_RC)).items()}


def _unseen_votes(rows: "pa.Table", model: Path) -> "pa.Table":
    """The calibration side. Raises TiebreakError if the model has learned from it."""
    from tiebreak.votes import splits

    unseen = splits.calibration(rows)
    if len(unseen):
        seen.require_unseen(splits.groups_of(unseen), seen.learned_from([model]), "a bound on the error")
    return unseen


def _package(
    source: Path,
    target: Path,
    model: "Classifier",
    unseen: "pa.Table",
    settings: Settings,
    runtime: Runtime,
    done: dict[str, Any],
) -> "Package":
    """The package of the source, with the quantization's provenance and counts of unseen votes.

    Copies a baseline and the training features that ship with it.
    """
    from tiebreak.baseline import files, training_features
    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.judge import package
    from tiebreak.judge.logits import from_table
    from tiebreak.judge.postprocessing import Postprocessing
    from tiebreak.judge.scoring_parts import score_in_parts
    from tiebreak.stats.guarantees import Guarantees
    from tiebreak.votes import splits

    shipped = package.read(source)
    if shipped.blend is not None:
        shutil.copyfile(source / files.NAME, target / files.NAME)
    if (source / training_features.NAME).is_file():
        shutil.copyfile(source / training_features.NAME, target / training_features.NAME)
    guarantees = None
    if len(unseen):
        tagged, max_tokens = splits.tag_splits({"calibration": unseen}), shipped.tta.max_tokens
        logits = score_in_parts(model, tagged, shipped.prompt, max_tokens, "student", None, runtime)
        (scored,) = from_table(logits)
        p_NC = Postprocessing.from_package(shipped, target).to_probabilities(unseen, scored.z_NOC)
        truth = labelled_votes(unseen)
        seed = splits.derive_seed(settings.seed, "guarantees")
        guarantees = Guarantees.fit(p_NC, truth.y_NC, truth.groups_N, seed).to_json()
    provenance = shipped.provenance | {"quantized": done}
    return shipped.model_copy(update={"provenance": provenance, "guarantees": guarantees})


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, subset, tokens

    rows = subset(votes.of("votes"), recipe.quantize.calibration_rows)
    unseen = tokens(votes.share(recipe.split.calibration_share), recipe.tta.max_tokens)
    return Workload(scored=tokens(rows, recipe.quantize.max_tokens) + 2 * unseen)


STEP = Step(
    "quantize",
    VERSION,
    run,
    number=7,
    needs_gpu=always,
    writes=("quantized",),
    workload=workload,
    library=("llmcompressor", "quantize"),
)
