"""Baseline step, after step 2: a model of word counts and features to compare the judge with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.output import write_atomically
from tiebreak.pipeline.step import Step
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

VERSION = 5

CURVE = "learning_curve.json"


class Settings(Slice):
    """No settings: the model does not depend on the recipe."""


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write the trained baseline, its logits, calibration and learning curve, and a summary of the training votes' features.

    baseline.safetensors is trained on the votes of all folds and extra ones; logits.parquet are its logits of the
    calibration side and the lockbox in both orders; calibration.json is the temperature fitted on the calibration
    side, or if that is empty on out-of-fold predictions of the training votes; learning_curve.json is the curve of
    stats.learning_curve on the calibration side, null if that is empty.
    """
    import numpy as np

    from tiebreak.baseline import curve, files, training_features
    from tiebreak.baseline.inputs import Inputs
    from tiebreak.baseline.model import Baseline
    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.judge.logits import to_table
    from tiebreak.stats.calibration import TemperatureScaling
    from tiebreak.stats.learning_curve import learning_curve
    from tiebreak.stats.metrics import CLIP, Bootstrap, log_loss
    from tiebreak.votes import schema, splits

    table = schema.read_table(inputs["rows"][0] / "rows.parquet")
    training, calibration_votes = splits.training_votes(table, schema.LOCKBOX), splits.calibration(table)
    runtime.report("fitting", 0, 1, "models")
    truth = labelled_votes(training)
    seen, weights_N = Inputs.of(training), schema.weights(training)
    baseline = Baseline().fit_inputs(seen, truth.y_NC, truth.groups_N, weights_N)
    files.write(baseline, output)
    training_features.write(training_features.TrainingFeatures.fit(seen, truth.groups_N), output)
    scored = {"calibration": calibration_votes, "lockbox": splits.lockbox(table)}
    unseen = {split: Inputs.of(side) for split, side in scored.items() if len(side)}
    learning = None
    if len(calibration_votes):
        runtime.report("learning curve", 0, 1, "models")
        calibrating = labelled_votes(calibration_votes)
        votes_seen = seen, truth.y_NC, truth.groups_N, weights_N
        points = curve.points(baseline, *votes_seen, unseen["calibration"], calibrating.y_NC)
        learning = learning_curve(points, calibrating.groups_N, Bootstrap())
    write_atomically(output / CURVE, json.dumps(learning, indent=2) + "\n")
    p_NC = dict.fromkeys(scored, np.empty((0, 3)))
    p_NC |= {split: baseline.predict_inputs(inputs_of) for split, inputs_of in unseen.items()}
    z_NC = np.log(np.maximum(np.concatenate(list(p_NC.values())), CLIP))
    logits = to_table(splits.tag_splits(scored), np.stack([z_NC, z_NC], axis=1), "baseline", None)
    schema.write_table(logits, output / "logits.parquet")
    x_NC, y_NC = p_NC["calibration"], schema.probabilities(calibration_votes)
    if not len(calibration_votes):
        x_NC, y_NC = baseline.out_of_fold_, truth.y_NC
    scaling = TemperatureScaling().fit(x_NC, y_NC)
    write_atomically(output / "calibration.json", json.dumps(scaling.to_json()) + "\n")
    fitted_on = calibration_votes if len(calibration_votes) else training
    return {
        "learned_from": sorted(splits.groups_of(training)),
        "fitted_on": sorted(splits.groups_of(fitted_on)),
        "votes": len(training),
        "out_of_fold_log_loss": log_loss(baseline.out_of_fold_, truth.y_NC),
        **baseline.weights(),
        **scaling.to_json(),
    }


STEP = Step("baseline", VERSION, run, is_prerequisite=True)
