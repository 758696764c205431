"""Commands on finished models and runs: evaluate, report, verify."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tiebreak import terminal
from tiebreak.cli.options import (
    AsJson,
    Columns,
    Confidence,
    Device,
    Precision,
    Samples,
    Sets,
    Values,
    Weights,
    mapping_of,
    weights_of,
)
from tiebreak.commands.table import show, show_verdict
from tiebreak.output import new_file


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Model folders, recipes that ran, names on the hub, files of `tiebreak predict`, or submissions."
        ),
    ],
    labels: Annotated[Path, typer.Argument(help="A file of votes, or, for files alone, a solution.")],
    weights: Weights = None,
    samples: Samples = 1000,
    confidence: Confidence = 0.95,
    map_: Columns = None,
    values: Values = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Score models or predictions by log loss, accuracy, Brier score and calibration, with a verdict on each.

    Several are scored each and blended: with equal weights, with --weights, and with weights by nested
    cross-validation. Changes of log loss are from the first. Last come the shares of the three answers among
    these votes, the best constant prediction. ece_when_calibrated is the
    calibration error (ece) that calibrated predictions would have, ece_limit what it would stay below in 95 %
    of cases, calibration_p the p-value of the test that they are.
    """
    from tiebreak.commands import outputs
    from tiebreak.evaluate.compare_predictions import compare_predictions
    from tiebreak.stats.metrics import Bootstrap

    outputs.refuse_unused(set_, predictions)
    predict = partial(outputs.predict_table, device=device, precision=precision, overrides=set_ or ())
    found = compare_predictions(
        predictions,
        labels,
        Bootstrap(samples, confidence),
        weights_of(weights),
        predict,
        mapping_of(map_, values),
    )
    rows = [
        {"predictions": scored.name, "metric": metric, **figure, "rows": scored.rows}
        | ({"weights": _format_weights(scored.weights, as_json)} if len(predictions) > 1 else {})
        for scored in found
        for metric, figure in scored.figures().items()
    ]
    verdicts = [{"predictions": scored.name, **asdict(scored.verdict)} for scored in found if scored.verdict]
    if as_json:
        terminal.show_json({"rows": rows, "verdicts": verdicts}, indent=2)
        return
    for verdict in verdicts:
        show_verdict(verdict, verdict["predictions"])
    show(rows, as_json)


def report(
    where: Annotated[Path, typer.Argument(help="A recipe that ran, or a folder with metrics.json.")] = Path(),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it here again.")] = None,
    set_: Sets = None,
) -> None:
    """Write the report of a run, with its seconds and machines, and print its path."""
    from tiebreak.commands import outputs

    if output:
        new_file(output, (".html",))
    outputs.refuse_unused(set_, [where])
    terminal.result(outputs.report(where, output, set_ or ()))


def verify(
    where: Annotated[
        Path,
        typer.Argument(help="A recipe that ran, its run's folder, a model folder, or a name on the hub."),
    ] = Path(),
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Read every file that a run has made, or those of a model, and say which is not what was written.

    What is outdated, and why, is said too. Ends with 2 if one is not, or there is none. The next run makes what is damaged again.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands.verify import verify as verified

    outputs.refuse_unused(set_, [where])
    found = list(verified(where, set_ or ()))
    shown = [
        {"name": row.name, "state": f"stale: {row.problem}" if row.state == "stale" else row.state}
        for row in found
    ]
    show([asdict(row) for row in found] if as_json else shown, as_json)
    damaged = [row for row in found if row.state == "damaged"]
    unfinished = [row for row in found if row.state in ("missing", "stale")]
    terminal.note(*(f"{row.name}: {row.problem}; {row.mend}" for row in damaged or unfinished[:1]))
    if damaged or all(row.state == "missing" for row in found):
        raise typer.Exit(2)


def _format_weights(weights: Sequence[float] | None, as_json: bool) -> Any:
    return weights if as_json else ", ".join(f"{weight:.4g}" for weight in weights or ())
