"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Average, Prompt, Slice, Tta
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average, and model/, the base with it merged in.

    The model's temperature is fitted on every student's held-out votes together: after averaging, no vote
    outside the lockbox is left that the model was not trained on.
    """
    from tiebreak.ensemble.average import average
    from tiebreak.model.classifier import load
    from tiebreak.model.lora import read_adapter, save_adapter
    from tiebreak.model.merge import merge, save
    from tiebreak.predict import package

    (base,), (rows,), students = inputs["base"], inputs["rows"], inputs["students"]
    state, lora = average([read_adapter(folder / "adapter") for folder in students], settings.average.method)
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = load(base, device=runtime.device)
    merge(classifier, state, lora)
    save(classifier, output / "model")
    temperature = _pooled_temperature(rows, students)
    package.write(
        package.Package(
            prompt=settings.prompt,
            tta=settings.tta,
            calibration={"temperature": temperature},
            provenance={"average": settings.average.method, "adapters": [s.name for s in students]},
        ),
        output / "model",
    )
    return {"adapters": len(students), "rank": lora.rank, "temperature": temperature}


def _pooled_temperature(rows: Path, students: tuple[Path, ...]) -> float:
    import numpy as np
    import pyarrow.compute as pc

    from tiebreak.data import sides, votes
    from tiebreak.data.logits import by_vote, mean_over_orders
    from tiebreak.evaluate.calibration import TemperatureScaling
    from tiebreak.train.rows import labels_of

    table = sides.voted(votes.read_table(rows / "rows.parquet"))
    labels = dict(zip(table["id"].to_pylist(), labels_of(table)[:, 0], strict=True))
    p_NC, labels_NC = [], []
    for folder in students:
        logits = votes.read_table(folder / "logits.parquet")
        ids, z_NOC = by_vote(logits.filter(pc.equal(logits["split"], "held_out")))
        p_NC.append(mean_over_orders(z_NOC))
        labels_NC.append(np.stack([labels[vote] for vote in ids]))
    scaling = TemperatureScaling().fit(np.concatenate(p_NC), np.concatenate(labels_NC))
    return float(scaling.temperature_)
