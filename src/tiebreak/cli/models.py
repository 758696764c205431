"""Commands on finished models and runs: predict, rank, label, evaluate, report, verify."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tiebreak import terminal
from tiebreak.cli.options import (
    AsJson,
    Columns,
    Device,
    On,
    Pairs,
    Precision,
    Sets,
    Strict,
    Values,
    Weights,
    arguments_of,
    mapping_of,
    shard_of,
    weights_of,
)
from tiebreak.commands.table import show, show_verdict
from tiebreak.engine.signals import Stop
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import new_file

if TYPE_CHECKING:
    from tiebreak.commands.predict import Request
    from tiebreak.judge.location import Located


def predict(
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... PAIRS...",
            help="Model folders, recipes that ran or names on the hub, then files of pairs; - is JSON Lines on standard "
            "input.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A .jsonl, .csv or .parquet file; - is JSON Lines on standard output."
        ),
    ],
    weights: Weights = None,
    fit: Annotated[
        Path | None, typer.Option(help="Votes to choose the weights on; no model may have trained on them.")
    ] = None,
    format_: Annotated[
        Literal["rows", "kaggle"],
        typer.Option("--format", help="All rows with all their columns, or a submission's columns alone."),
    ] = "rows",
    strict: Strict = False,
    max_error: Annotated[
        float | None,
        typer.Option(
            help="Add the column decision, null where needed to keep the error of the others below this."
        ),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="K/N: only the K-th of N parts; whichever ends last writes the output.")
    ] = "1/1",
    on: On = "local",
    shards: Annotated[int, typer.Option(min=1, help="Jobs to share the work, for --on slurm.")] = 1,
    sbatch: Annotated[list[str] | None, typer.Option(help="A flag for sbatch, such as --time=60.")] = None,
    requeue: Annotated[bool, typer.Option(help="Requeue this job when Slurm says its time is over.")] = False,
    map_: Columns = None,
    values: Values = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
) -> None:
    """Predict P(A), P(B) and P(tie) of pairs of answers, by one model or the weighted mean of several.

    All rows stay, in their order, with all their columns. Of chosen and rejected answers it says p_chosen, p_rejected
    and p_tie. Stopped or killed, the same command goes on where it was.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands import predict as prediction
    from tiebreak.commands.pieces import STANDARD
    from tiebreak.commands.seen_votes import warn_of_seen
    from tiebreak.slurm.shards import requeue_if_stopped
    from tiebreak.votes.formats.readers import read_whole

    if weights and fit:
        raise TiebreakError("--weights and --fit exclude each other: weights are given or fitted")
    located, inputs = outputs.models_and_pairs(where, set_ or ())
    models = [model.folder for model in located]
    outputs.refuse_unused(set_, where[: len(models)])
    mapping = mapping_of(map_, values)
    if on == "slurm" and STANDARD in (output, *inputs):
        raise TiebreakError("jobs have no standard input and output; name files")
    if on == "local" and (shards > 1 or sbatch):
        raise TiebreakError(
            "--shards and --sbatch are for --on slurm; here, start --shard 1/N to N/N yourself"
        )
    if fit:
        warn_of_seen(models, read_whole(fit, "votes", mapping))
    request = prediction.Request(
        models,
        inputs,
        output,
        weights_of(weights),
        fit,
        device,
        precision,
        shard_of(shard),
        format_ == "kaggle",
        strict,
        max_error,
        mapping=mapping,
    )
    if on == "slurm":
        options = {
            "--weights": weights,
            "--fit": fit,
            "--format": format_,
            "--strict": strict,
            "--max-error": max_error,
            "--map": map_,
            "--values": values,
            "--device": device,
            "--precision": precision,
            "--set": set_,
        }
        prediction.check(request)
        _submit_shards(
            [*map(str, where), "-o", str(output), *arguments_of(options)], request, shards, sbatch or ()
        )
        return
    replaced = ", in place of the file that was there" if output.is_file() else ""
    stop = Stop().install()
    try:
        outcome = prediction.predict(request, stop)
    except Interrupted:
        if requeue and requeue_if_stopped(stop.received):
            terminal.note("stopped by Slurm: back in the queue, to go on from here")
            return
        raise
    if not outcome.finished and output == STANDARD:
        terminal.note(f"stopped after {outcome.rows} rows")
        raise typer.Exit(stop.exit_code)
    shown = f", weights {', '.join(f'{weight:.4g}' for weight in outcome.weights)}" if len(models) > 1 else ""
    say = terminal.note if output == STANDARD else terminal.result
    if outcome.finished:
        place = "standard output" if output == STANDARD else output
        say(f"{place}: {outcome.rows} rows{replaced}{shown}")
    else:
        say(f"{output}: shard {shard} is done; the shard that ends last writes the file{shown}")
    if outcome.finished and max_error is not None:
        judged = outcome.rows - outcome.unjudged
        terminal.note(
            f"{outcome.decided} of {judged} pairs are decided ({outcome.decided / max(judged, 1):.1%}); with 95 % confidence "
            f"the error expected of such decisions is below {max_error:.4g}, for pairs like the votes that the model was "
            "calibrated on"
        )
    if outcome.unjudged:
        terminal.note(f"{outcome.unjudged} rows could not be judged, the first because: {outcome.reason}")


def _submit_shards(arguments: Sequence[str], request: "Request", shards: int, sbatch: Sequence[str]) -> None:
    from tiebreak.slurm.shards import submit

    job = submit(arguments, request.output, shards, request.device != "cpu", sbatch)
    terminal.result(
        f"job {job}: {shards} shards; the last writes {request.output}. Logs: "
        f"{request.output.resolve().parent}/slurm-tiebreak.predict-{job}_*.log; to cancel: scancel {job}"
    )


def rank(
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL CANDIDATES...",
            help="A model folder, a recipe that ran or a name on the hub, then files of prompts with several responses; - "
            "is JSON Lines on standard input.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A .jsonl, .csv or .parquet file; - is JSON Lines on standard output."
        ),
    ],
    pairs: Pairs = None,
    strict: Strict = False,
    map_: Columns = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
) -> None:
    """Rank the responses to each prompt, best first.

    A row has `prompt` and a list of 1 to 64 `responses` (or `completions`, `outputs`, `candidates`). All rows stay, with
    all their columns. `ranking` has the responses' indices, best first; `scores` log odds of mean 0, whose difference is
    that of one response against another; `p_best` the probability that each would be chosen among all. Stopped or killed,
    the same command goes on where it was.
    """
    from tiebreak.commands.pieces import STANDARD, Files
    from tiebreak.commands.rank import Judging
    from tiebreak.commands.rank import rank as ranked

    judging = Judging(_model(where, set_).folder, pairs, device, precision, mapping=mapping_of(map_))
    stop = Stop().install()
    outcome = ranked(Files(where[1:], output, strict=strict), judging, stop)
    if not outcome.finished:
        terminal.note(f"stopped after {outcome.rows} rows")
        raise typer.Exit(stop.exit_code)
    say = terminal.note if output == STANDARD else terminal.result
    say(f"{'standard output' if output == STANDARD else output}: {outcome.rows} rows")
    if outcome.unjudged:
        terminal.note(f"{outcome.unjudged} rows could not be ranked, the first because: {outcome.reason}")


def label(
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL FILE...",
            help="A model folder, a recipe that ran or a name on the hub, then files of pairs, or of prompts with several "
            "responses; - is JSON Lines on standard input.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .parquet file.")],
    format_: Annotated[
        Literal["trl", "messages", "unpaired", "openrlhf", "ultrafeedback"],
        typer.Option("--format", help="Whose columns to write."),
    ] = "trl",
    min_margin: Annotated[
        float, typer.Option(min=0, max=1, help="Keep pairs of at least this P(chosen) - P(rejected).")
    ] = 0.0,
    keep_ties: Annotated[
        bool, typer.Option(help="Keep pairs of which a tie is the most probable answer.")
    ] = False,
    pairs_per_prompt: Annotated[
        int,
        typer.Option(
            min=1, max=63, help="Of several responses: pairs of the best with the worst, the next worst..."
        ),
    ] = 1,
    pairs: Pairs = None,
    strict: Strict = False,
    map_: Columns = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
) -> None:
    """Write preference data for training.

    Chosen is the response that the judge prefers; `margin` is the logarithm of P(chosen) / P(rejected), which TRL's
    RewardTrainer reads. The model's hash, the version and the rules stand in the metadata of Parquet (key tiebreak), and
    beside JSON Lines in OUTPUT.provenance. Stopped or killed, the same command goes on where it was.
    """
    from tiebreak.commands.label import Rules
    from tiebreak.commands.label import label as labelled
    from tiebreak.commands.pieces import Files
    from tiebreak.commands.rank import Judging

    model = _model(where, set_)
    judging = Judging(model.folder, pairs, device, precision, mapping=mapping_of(map_), origin=model.origin)
    rules = Rules(format_, min_margin, keep_ties, pairs_per_prompt)
    outcome = labelled(Files(where[1:], output, strict=strict), judging, rules, Stop().install())
    count = Counter(outcome.counts)
    single = f", {count['single']} with a single response" if count["single"] else ""
    terminal.result(
        f"{output}: {count['kept']} pairs kept; dropped: {count['tie']} ties, {count['below']} below the "
        f"margin; {count['not judged']} rows not judged{single}"
    )
    if outcome.unjudged:
        terminal.note(f"{outcome.unjudged} rows could not be judged, the first because: {outcome.reason}")


def _model(where: Sequence[Path], set_: Sequence[str] | None) -> "Located":
    """The model that comes first. Raises TiebreakError if there are no files after it, or it is one of several."""
    from tiebreak.commands import outputs

    (model, *more), _ = outputs.models_and_pairs(where, set_ or ())
    if more:
        raise TiebreakError(f"{where[1]} is a second model; name one, then files")
    outputs.refuse_unused(set_, where[:1])
    return model


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Model folders, recipes that ran, names on the hub, files of `tiebreak predict`, or submissions."
        ),
    ],
    labels: Annotated[Path, typer.Argument(help="A file of votes, or, for files alone, a solution.")],
    weights: Weights = None,
    samples: Annotated[int, typer.Option(min=2, max=1_000_000, help="Bootstrap samples.")] = 1000,
    confidence: Annotated[float, typer.Option(min=0.01, max=0.999, help="Of the intervals.")] = 0.95,
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
