"""Prediction of a file of pairs, as by `tiebreak predict`."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tiebreak.judge.ensemble import Ensemble
from tiebreak.judge.judge import as_table
from tiebreak.output import new_file, replacing
from tiebreak.stats.blend import weighted
from tiebreak.votes.schema import LABELS, write_table

COMPETITION_COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")


def predict_file(
    models: Sequence[Path],
    pairs: Path,
    output: Path,
    device: str | None = None,
    weights: Sequence[float] | None = None,
    fit: Path | None = None,
    precision: str = "auto",
) -> tuple[int, list[float]]:
    """Predict every pair of a file. Returns their number, and the weight of each model.

    output: .parquet with id, p_a, p_b, p_tie, or .csv with the competition's columns. fit: votes to fit
    the weights on. precision: as in `tiebreak.load`. Raises TiebreakError for an output that cannot be, a folder that is no
    model, pairs that cannot be read, weights that do not fit the models, a device that is not here, or a
    precision that the card lacks.
    """
    new_file(output, (".csv", ".parquet"), (pairs, *([fit] if fit else [])))
    ensemble = Ensemble(models, weights, device, precision=precision)
    table = as_table(pairs)
    if fit:
        ensemble.fit(fit)
    p_NC = weighted(ensemble.weights_, ensemble.predict_table(table))
    names = COMPETITION_COLUMNS if output.suffix == ".csv" else tuple(f"p_{label}" for label in LABELS)
    predicted = pa.table({"id": table["id"]} | {name: pa.array(p_NC[:, c]) for c, name in enumerate(names)})
    if output.suffix == ".parquet":
        write_table(predicted, output)
    else:
        _write_csv(predicted, output)
    return len(table), ensemble.weights_.tolist()


def _write_csv(table: pa.Table, path: Path) -> None:
    from pyarrow import csv

    with replacing(path) as file:
        csv.write_csv(table, file, csv.WriteOptions(quoting_style="needed"))
