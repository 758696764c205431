"""Comparison of models' outputs by a judge, and by people's votes if there are any, as by `tiebreak compare`."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiebreak.commands import row_files
from tiebreak.commands.compare_judging import judge
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.output import new_file, write_atomically
from tiebreak.terminal import counted
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.model_outputs import Comparison, Outputs
from tiebreak.votes.formats.vote import random_side

if TYPE_CHECKING:
    from tiebreak.comparison.judged import Judged, Matched
    from tiebreak.comparison.results import Comparison as Result

SUFFIXES = (".html", ".json")


@dataclass(frozen=True)
class Request:
    """Which outputs to compare, by which model and votes. baseline: compare each with this model alone. by: what to look at apart.
    budget: comparisons to judge. leaders: half of them on what tells the first models apart. width: of a win rate's interval, that is wanted.
    to_vote: the file for the comparisons to vote on next, and next_votes how many. mapping: of the columns. origin: of a model of the hub,
    its name and commit. judge: the model's name on the page.
    """

    model: Path
    outputs: Sequence[Path]
    output: Path | None = None
    votes: Sequence[Path] = ()
    baseline: str | None = None
    by: Sequence[str] = ()
    budget: int | None = None
    leaders: bool = False
    width: float = 0.04
    to_vote: Path | None = None
    next_votes: int = 100
    mapping: ColumnMap = NO_MAP
    device: str | None = None
    precision: str = "auto"
    score_tokens: int = 16384
    origin: Mapping[str, str] = field(default_factory=dict)
    judge: str = "a judge"

    def check(self) -> None:
        """Raise TiebreakError for an output that cannot be written, and a folder that is no model."""
        from tiebreak.judge import package

        package.read(self.model)
        if self.leaders and self.budget is None:
            raise TiebreakError(
                "--leaders says what a budget is spent on: add --budget N, the comparisons to judge"
            )
        if self.output is not None:
            new_file(self.output, SUFFIXES, [*self.outputs, *self.votes])
        if self.to_vote is not None:
            new_file(self.to_vote, row_files.SUFFIXES, [*self.outputs, *self.votes])


@dataclass(frozen=True)
class Compared:
    """What was found, and what to say of the files: answers that are missing, records and votes that could not be used."""

    result: "Result"
    remarks: tuple[str, ...]
    models: tuple[str, ...]
    judged: int


def compare(request: Request, stop: Callable[[], bool] = lambda: False) -> Compared:
    """Judge the comparisons of all outputs, and analyse them.

    Raises TiebreakError for what cannot be read or written; Interrupted, with what is done on disk, once `stop` returns True.
    """
    from tiebreak.commands.seen_votes import seen_votes
    from tiebreak.comparison import analysis, api
    from tiebreak.votes.formats.model_votes import read_model_votes

    request.check()
    votes, problems = read_model_votes(request.votes, request.mapping) if request.votes else (None, [])
    seen = 0
    if votes is not None:
        seen = int(seen_votes(request.model, votes).sum())
    with _kept(request.output) as place:
        work, made = judge(request, votes, place, stop)
    found = None if votes is None else made.votes(votes)
    matched = api.matched(made, votes)
    result = analysis.compare(made, matched, request.by, request.width, request.next_votes)
    remarks = tuple(
        _remarks(work.outputs, problems, found.unmatched if found else 0, len(votes) if votes else 0, seen)
    )
    if request.to_vote is not None:
        _write_to_vote(request.to_vote, result, made, found, work.judged)
    compared = Compared(result, remarks, made.models, len(made.table))
    if request.output is not None:
        write_atomically(request.output, _text(request, compared))
    return compared


def as_json(request: Request, compared: Compared) -> dict[str, Any]:
    """All of it, as `--json` prints it."""
    from tiebreak.judge import package

    about = {"model": str(request.model), **request.origin}
    return {
        **compared.result.as_dict(),
        "judged": compared.judged,
        "remarks": list(compared.remarks),
        "judge": about | {"package": file_digest(request.model / package.NAME)},
    }


def _text(request: Request, compared: Compared) -> str:
    """What the output holds."""
    from tiebreak.comparison.page import page

    if request.output is None or request.output.suffix == ".json":
        return json.dumps(as_json(request, compared), indent=2) + "\n"
    return page(compared.result, request.judge, compared.judged, compared.remarks)


def _write_to_vote(
    path: Path, result: "Result", made: "Judged", found: "Matched | None", judged: Sequence[Comparison]
) -> None:
    """Write the pairs to vote on next, without what the judge says of them."""
    from tiebreak.comparison.spending import to_vote_on

    counts = {(a, b): count for a, b, count in result.next_votes.pairs}
    count_N = found.count_N if found else np.zeros(len(judged), np.int64)
    chosen = [judged[n] for n in to_vote_on(made, count_N, counts)]
    row_files.write(lambda: map(_pair_to_vote_on, chosen), path)


def _pair_to_vote_on(one: Comparison) -> dict[str, Any]:
    """A comparison as a pair of which people are asked, its models on sides drawn by a hash of the texts."""
    vote = random_side(one.vote)
    texts = {"prompt": vote.prompt, "response_a": vote.response_a, "response_b": vote.response_b}
    shown = {name: turns[0] if len(turns) == 1 else turns for name, turns in texts.items()}
    return shown | {"model_a": vote.model_a, "model_b": vote.model_b}


@contextmanager
def _kept(output: Path | None) -> Iterator[Path]:
    """The beginning of the names under which what the judge says is kept: beside the output, or for the time of the command."""
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="tiebreak-") as folder:
        yield Path(folder) / "compare"


def _remarks(
    outputs: Outputs, problems: Sequence[str], unmatched: int, votes: int, seen: int
) -> Iterator[str]:
    from tiebreak.comparison.api import left_out

    if seen:
        yield (
            f"{seen} of these {votes} votes are on prompts that the judge was trained, calibrated or chosen on: what it is worth beside the "
            "votes is overstated, and intervals by votes and judge may not hold. Those by the votes alone do"
        )
    for model, count in outputs.missing().items():
        if any(model in answers for answers in outputs.answers.values()):
            yield f"{model} has no answer to {count} of {len(outputs.answers)} prompts; those are left out of its comparisons"
    if outputs.problems:
        yield f"{counted(len(outputs.problems), 'record')} could not be read, the first: {outputs.problems[0]}"
    if problems:
        yield left_out(problems)
    if unmatched:
        yield f"{unmatched} of {votes} votes are on none of these comparisons, and are left out"
