"""Commands that examine a judge: audit, by people's votes, and bench, by published benchmarks."""

import json
from collections.abc import Iterator, Sequence
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
    mapping_of,
    words,
)
from tiebreak.commands.table import show, show_verdict
from tiebreak.errors import TiebreakError
from tiebreak.output import new_file, write_atomically


def audit(
    where: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, a recipe that ran, a name on the hub, or a file of `tiebreak predict` on the votes.",
        ),
    ],
    votes: Annotated[list[Path], typer.Argument(metavar="VOTES...", help="Files of people's votes.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="A .html file for the page, a .csv file for all disagreements; both may be given.",
        ),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="The column that names who voted; found by itself if it is called so.")
    ] = None,
    family: Annotated[
        str,
        typer.Option(help="Words in the names of models of the judge's own family, such as llama,vicuna."),
    ] = "",
    samples: Samples = 1000,
    confidence: Confidence = 0.95,
    map_: Columns = None,
    values: Values = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Audit a judge by people's votes: does it agree with people as they agree with each other?

    Several people's votes on a pair are columns annotator1, annotator2 and so on, or rows of their own. Also calibration by slice
    and pair of models, position and length bias beside people's own, self-preference, votes that look unlike those it was trained
    on, and the pairs where people choose otherwise, most surprising first.
    """
    from tiebreak.commands import audit as auditing
    from tiebreak.commands import outputs
    from tiebreak.stats.metrics import Bootstrap

    for path in output or ():
        new_file(path, (".html", ".csv"), votes)
    outputs.refuse_unused(set_, [where])
    request = auditing.Request(
        where, votes, annotator, words(family), mapping_of(map_, values), device, precision, set_ or ()
    )
    found = auditing.audit(request, Bootstrap(samples, confidence))
    for path in output or ():
        auditing.write(found, path)
    if as_json:
        terminal.show_json(found, indent=2)
    else:
        show_verdict(found["verdict"], str(where))
        terminal.result("")
        show(_figures(found), as_json=False)
    for path in output or ():
        terminal.note(f"written: {path}")


def _figures(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The main figures with their intervals, a row each."""
    people, calibration = found["agreement"], found["calibration"]
    judge, left_out, among = people["with_judge"], people["leave_one_out"], people["among_people"]
    rows = {
        **(
            {"agreement with one vote": judge["agreement"], "Cohen's kappa with one vote": judge["kappa"]}
            if judge
            else {}
        ),
        **(
            {"agreement among people": among["agreement"], "alpha among people": among["alpha"]}
            if among
            else {}
        ),
        **({"judge less another person": left_out["less_person"]} if left_out else {}),
        "log loss": calibration["log_loss"],
        "accuracy": calibration["accuracy"],
    }
    return [{"figure": name, **estimate} for name, estimate in rows.items()]


def bench(
    where: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Model folders, recipes that ran, or names on the hub."),
    ],
    suite: Annotated[
        list[Path],
        typer.Option(
            "--suite", help="A folder or file of a benchmark, or hub:OWNER/NAME:SPLIT; may be given again."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .json file with all results, or a .yaml file for the hub's .eval_results.",
        ),
    ] = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Score judges on RewardBench 1 and 2, JudgeBench, PPE and LLMBar, in their published files, by their own rules.

    With 95 % intervals; of several models the second and later ones with the paired change from the first and its p-value. Nothing of the
    benchmarks comes with tiebreak.
    """
    from tiebreak.commands import bench as benching
    from tiebreak.commands import outputs

    if output:
        new_file(output, (".json", ".yaml"), suite)
    outputs.refuse_unused(set_, where)
    if output and output.suffix == ".yaml" and len(where) > 1:
        raise TiebreakError(f"{output} has the results of one model; name one, or a .json file")
    found = benching.bench(where, suite, device, precision, set_ or ())
    if output and output.suffix == ".yaml":
        benching.write_eval_results(found, output)
    elif output:
        write_atomically(output, json.dumps(found, indent=2) + "\n")
    if as_json:
        terminal.show_json(found, indent=2)
    else:
        show(list(_bench_rows(found, len(where) > 1)), as_json=False)
    for suite_name, missing in {result["suite"]: result["missing"] for result in found}.items():
        if missing:
            terminal.note(
                f"{suite_name} is not whole, and its score not the published one: no {', '.join(missing)}"
            )
    if output:
        terminal.note(f"written: {output}")


def _bench_rows(found: Sequence[dict[str, Any]], several: bool) -> Iterator[dict[str, Any]]:
    """A row for each figure of each judge."""
    for result in found:
        for figure in result["figures"]:
            change = figure.get("change") or {}
            yield {
                "suite": result["suite"],
                **({"judge": result["judge"]} if several else {}),
                **{name: figure[name] for name in ("name", "value", "low", "high")},
                **({"change": change.get("value"), "p": change.get("p")} if several else {}),
            }
