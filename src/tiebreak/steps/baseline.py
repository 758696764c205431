"""After step 2: a simple model of word counts and features, which the judge has to beat."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.recipe import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

VERSION = 3

CURVE = "learning_curve.json"


class Settings(Slice):
    """Nothing: what the model is does not depend on the recipe."""


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write baseline.safetensors, trained on the votes of all folds and extra ones; logits.parquet, what it says of
    the calibration side and the lockbox in both orders; calibration.json, the temperature fitted on the
    calibration side, or where that is empty on the training votes, each judged without its prompt's part of them; and
    learning_curve.json, evaluate.learning's curve on the calibration side, null where that is empty.
    """
    from tiebreak.baseline import curve, files
    from tiebreak.baseline.inputs import Inputs
    from tiebreak.baseline.model import Baseline
    from tiebreak.data import sides, votes
    from tiebreak.evaluate.calibration import TemperatureScaling
    from tiebreak.evaluate.learning import learning_curve
    from tiebreak.evaluate.measure import truth_of
    from tiebreak.evaluate.metrics import Bootstrap, log_loss

    table = votes.read_table(inputs["rows"][0] / "rows.parquet")
    training, aside = sides.training_side(table, votes.LOCKBOX), sides.calibration(table)
    runtime.report("fitting", 0, 1, "models")
    truth = truth_of(training)
    seen, weights_N = Inputs.of(training), votes.weights(training)
    baseline = Baseline().fit_inputs(seen, truth.y_NC, truth.groups_N, weights_N)
    files.write(baseline, output)
    learning = None
    if len(aside):
        runtime.report("learning curve", 0, 1, "models")
        unseen = truth_of(aside)
        votes_seen = seen, truth.y_NC, truth.groups_N, weights_N
        points = curve.points(baseline, *votes_seen, Inputs.of(aside), unseen.y_NC)
        learning = learning_curve(points, unseen.groups_N, Bootstrap())
    (output / CURVE).write_text(json.dumps(learning, indent=2) + "\n", encoding="utf-8")
    said = {"calibration": aside, "lockbox": sides.lockbox(table)}
    p_NC = {split: baseline.predict_proba(side) for split, side in said.items()}
    votes.write_table(_logits(said, p_NC), output / "logits.parquet")
    x_NC, y_NC = p_NC["calibration"], votes.probabilities(aside)
    if not len(aside):
        x_NC, y_NC = baseline.out_of_fold_, truth.y_NC
    scaling = TemperatureScaling().fit(x_NC, y_NC)
    (output / "calibration.json").write_text(json.dumps(scaling.to_json()) + "\n", encoding="utf-8")
    fitted_on = aside if len(aside) else training
    return {
        "learned_from": sorted(sides.groups_of(training)),
        "fitted_on": sorted(sides.groups_of(fitted_on)),
        "votes": len(training),
        "out_of_fold_log_loss": log_loss(baseline.out_of_fold_, truth.y_NC),
        **baseline.weights(),
        **scaling.to_json(),
    }


def _logits(said: "Mapping[str, pa.Table]", p_NC: "Mapping[str, NDArray[np.float64]]") -> "pa.Table":
    """Logarithms of probabilities as a model's logits (data.logits.LOGITS_SCHEMA), in both orders."""
    import numpy as np

    from tiebreak.data.logits import swap_answers, to_table
    from tiebreak.evaluate.metrics import CLIP

    z_NC = np.log(np.maximum(np.concatenate(list(p_NC.values())), CLIP))
    z_RC = np.stack([z_NC, swap_answers(z_NC)], axis=1).reshape(-1, 3).astype(np.float32)
    ids = [vote for side in said.values() for vote in side["id"].to_pylist() for _ in range(2)]
    splits = [split for split, side in said.items() for _ in range(2 * len(side))]
    orders, origins = [0, 1] * len(z_NC), ["out_of_fold"] * len(ids)
    return to_table(ids, orders, z_RC, splits, origins, "baseline", None)
