"""The command that compares models: compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak import terminal
from tiebreak.cli import runs
from tiebreak.cli.options import AsJson, Columns, Device, Precision, Sets, Values, mapping_of
from tiebreak.commands.table import show
from tiebreak.errors import TiebreakError

if TYPE_CHECKING:
    from tiebreak.comparison.results import Comparison, Leaderboard, Pair, Standing
    from tiebreak.stats.metrics import Estimate

MOST_MODELS = 12
"""Models of which all are shown beside each other."""


def compare(
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL OUTPUTS...",
            help="A judge's folder, a recipe that ran or a name on the hub, then files of models' outputs (instruction, output, generator, as "
            "alpaca_eval writes them), or of pairs with model_a and model_b.",
        ),
    ],
    votes: Annotated[
        list[Path] | None,
        typer.Option(help="People's votes on a random sample of the same answers; may be given again."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare each model with this one alone.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Win rates apart by language, length, or one column of the outputs."),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Judge this many comparisons at most, spread evenly.")
    ] = None,
    leaders: Annotated[
        bool, typer.Option("--leaders", help="Half of the budget on what tells the first models apart.")
    ] = False,
    width: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Of a win rate's interval: how many votes would do. 0.04 is two points to either side.",
        ),
    ] = 0.04,
    next_: Annotated[
        Path | None,
        typer.Option("--next", help="Write the pairs to vote on next: a .jsonl, .csv or .parquet file."),
    ] = None,
    next_votes: Annotated[int, typer.Option(min=1, max=100_000, help="How many pairs to vote on.")] = 100,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a page (.html), or all of it as .json.")
    ] = None,
    map_: Columns = None,
    values: Values = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Compare models by their outputs: win rates, a leaderboard with intervals and ranks, at equal style too.

    Every two models' answers to the same prompt are judged in both orders. With --votes, people's votes and the judge are taken together:
    intervals hold whatever the judge's errors are, and are the narrower the better it foresees votes. With -o, a stopped command goes on
    where it was, and what the judge said stays in OUT.pairs.parquet.
    """
    from tiebreak.cli.rows import model_before_files
    from tiebreak.commands import compare as comparing
    from tiebreak.commands import outputs
    from tiebreak.commands.compare_judging import PAIRS

    if len(where) < 2:
        raise TiebreakError(
            "no outputs to compare: name their files after the model, as in `tiebreak compare MODEL ada.json bob.json`"
        )
    located = model_before_files(where, set_)
    request = comparing.Request(
        located.folder,
        where[1:],
        output,
        votes or (),
        baseline,
        tuple(by or ()),
        budget,
        leaders,
        width,
        next_,
        next_votes,
        mapping_of(map_, values),
        device,
        precision,
        origin=located.origin,
        judge=outputs.judge_name(where[0], set_ or ()),
    )
    found = comparing.compare(request, runs.stop.install())
    if as_json:
        terminal.show_json(comparing.as_json(request, found), indent=2)
    else:
        _show(found.result)
    terminal.note(*found.remarks, *found.result.notes)
    if next_ is not None:
        pairs = found.result.next_votes.votes
        terminal.note(f"written: {next_}, {terminal.counted(pairs, 'pair')} to vote on, all of them")
    if output is not None:
        terminal.note(f"written: {output}; what the judge said: {output}{PAIRS}")


def _show(found: "Comparison") -> None:
    from tiebreak.comparison.sentences import advice

    terminal.result(found.headline, "")
    others = {board.source: {s.model: s for s in board.standings} for board in found.by_source}
    show([_standing(standing, others) for standing in found.leaderboard.standings], as_json=False)
    terminal.result("")
    show([_pair(pair) for pair in found.pairs], as_json=False)
    if chances := board_chances(found.leaderboard):
        terminal.result("", "P(row is preferred to column) by the strengths, ties as half, in per cent")
        show(chances, as_json=False)
    for name in dict.fromkeys(one.by for one in found.slices):
        slices = [one for one in found.slices if one.by == name]
        terminal.result("")
        show(
            [
                {name: one.name, "n": one.comparisons}
                | {model: percent(rates.win_rate) for model, rates in one.rates.items()}
                for one in slices
            ],
            as_json=False,
        )
    terminal.result("", *advice(found))


def _standing(standing: "Standing", others: "dict[Any, dict[str, Standing]]") -> dict[str, Any]:
    ranks = "" if standing.best_rank is None else f"{standing.best_rank} to {standing.worst_rank}"
    row = {
        "rank": ranks.replace(f"{standing.best_rank} to {standing.best_rank}", str(standing.best_rank)),
        "model": standing.model,
        "Elo": points(standing.elo),
        "win rate": percent(standing.rates.win_rate),
        "n": standing.rates.comparisons,
    }
    return row | {
        f"Elo by {source}": points(of_model[standing.model].elo) for source, of_model in others.items()
    }


def board_chances(board: "Leaderboard") -> list[dict[str, Any]]:
    """The probability that a model is preferred to each other one, a row a model; none for more than MOST_MODELS models."""
    names = [standing.model for standing in board.standings]
    if len(names) > MOST_MODELS:
        return []
    return [
        {"": name}
        | {
            other: "" if other == name or p is None else f"{100 * p:.0f}"
            for other, p in zip(names, row, strict=True)
        }
        for name, row in zip(names, board.p_better, strict=True)
    ]


def _pair(pair: "Pair") -> dict[str, Any]:
    first = pair.rates[0]
    row = {
        "model": pair.model,
        "against": pair.other,
        "n": first.comparisons,
        "wins": percent(first.win),
        "ties": percent(first.tie),
        "loses": percent(first.loss),
        "win rate": percent(first.win_rate),
    }
    row |= {f"by {rates.source}": percent(rates.win_rate) for rates in pair.rates[1:]}
    return row | {"at equal length": percent(pair.at_equal_length)}


def percent(estimate: "Estimate | None") -> str:
    """A share in per cent with its interval."""
    if estimate is None or estimate.value != estimate.value:
        return ""
    span = (
        ""
        if estimate.low is None or estimate.high is None
        else f" ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
    )
    return f"{100 * estimate.value:.1f}{span}"


def points(estimate: "Estimate | None") -> str:
    """A strength with its interval."""
    if estimate is None:
        return ""
    span = (
        ""
        if estimate.low is None or estimate.high is None
        else f" ({round(estimate.low):+d} to {round(estimate.high):+d})"
    )
    return f"{round(estimate.value):+d}{span}"
