"""Commands on the rows of files: predict, rank, label, next. All rows are worked on here, or by jobs that share them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from tiebreak import terminal
from tiebreak.cli import runs
from tiebreak.cli.options import (
    Columns,
    Device,
    On,
    Pairs,
    Precision,
    Requeue,
    RowsOutput,
    Sbatch,
    Sets,
    Shard,
    Shards,
    Strict,
    Values,
    Weights,
    arguments_of,
    mapping_of,
    shard_of,
    weights_of,
)
from tiebreak.engine.signals import Stop
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.recipe.basics import MAX_SEED

if TYPE_CHECKING:
    from tiebreak.commands.label import Labelled
    from tiebreak.commands.next_pairs import Chosen
    from tiebreak.commands.pieces import Files, Outcome
    from tiebreak.commands.predict import Predicted
    from tiebreak.judge.location import Located

AnOutcome = TypeVar("AnOutcome", bound="Outcome")


def predict(
    context: typer.Context,
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... PAIRS...",
            help="Model folders, recipes that ran or names on the hub, then files of pairs; - is JSON Lines on standard "
            "input.",
        ),
    ],
    output: RowsOutput,
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
    shard: Shard = "1/1",
    on: On = "local",
    shards: Shards = 1,
    sbatch: Sbatch = None,
    requeue: Requeue = False,
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
    from tiebreak.commands.seen_votes import warn_of_seen
    from tiebreak.votes.formats.readers import read_whole

    if weights and fit:
        raise TiebreakError("--weights and --fit exclude each other: weights are given or fitted")
    located, inputs = outputs.models_and_pairs(where, set_ or ())
    models = [model.folder for model in located]
    outputs.refuse_unused(set_, where[: len(models)])
    mapping = mapping_of(map_, values)
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
    if fit:
        warn_of_seen(models, read_whole(fit, "votes", mapping))
    sharing = _Sharing(context, request.files, shard, on, shards, sbatch or (), requeue)
    outcome = sharing.do(partial(prediction.predict, request), _predicted, partial(prediction.check, request))
    if outcome and max_error is not None:
        judged = outcome.rows - outcome.unjudged
        terminal.note(
            f"{outcome.decided} of {terminal.counted(judged, 'pair')} decided ({outcome.decided / max(judged, 1):.1%}); with "
            f"95 % confidence the error expected of such decisions is below {max_error:.4g}, for pairs like the votes that "
            "the model was calibrated on"
        )


def _predicted(outcome: "Predicted") -> str:
    weights = ", ".join(f"{weight:.4g}" for weight in outcome.weights)
    return terminal.counted(outcome.rows, "row") + (
        f", weights {weights}" if len(outcome.weights) > 1 else ""
    )


def rank(
    context: typer.Context,
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL CANDIDATES...",
            help="A model folder, a recipe that ran or a name on the hub, then files of prompts with several responses; - is JSON Lines on "
            "standard input.",
        ),
    ],
    output: RowsOutput,
    pairs: Pairs = None,
    strict: Strict = False,
    shard: Shard = "1/1",
    on: On = "local",
    shards: Shards = 1,
    sbatch: Sbatch = None,
    requeue: Requeue = False,
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
    from tiebreak.commands.pieces import Files
    from tiebreak.commands.rank import Judging, check
    from tiebreak.commands.rank import rank as ranked

    judging = Judging(
        model_before_files(where, set_).folder, pairs, device, precision, mapping=mapping_of(map_)
    )
    files = Files(where[1:], output, shard_of(shard), strict)
    sharing = _Sharing(context, files, shard, on, shards, sbatch or (), requeue)
    sharing.do(
        partial(ranked, files, judging),
        lambda found: terminal.counted(found.rows, "row"),
        partial(check, files, judging),
    )


def label(
    context: typer.Context,
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL FILE...",
            help="A model folder, a recipe that ran or a name on the hub, then files of pairs, or of prompts with several responses; - is "
            "JSON Lines on standard input.",
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
    shard: Shard = "1/1",
    on: On = "local",
    shards: Shards = 1,
    sbatch: Sbatch = None,
    requeue: Requeue = False,
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
    from tiebreak.commands.label import Rules, check
    from tiebreak.commands.label import label as labelled
    from tiebreak.commands.pieces import Files
    from tiebreak.commands.rank import Judging

    model = model_before_files(where, set_)
    judging = Judging(model.folder, pairs, device, precision, mapping=mapping_of(map_), origin=model.origin)
    rules = Rules(format_, min_margin, keep_ties, pairs_per_prompt)
    files = Files(where[1:], output, shard_of(shard), strict)
    sharing = _Sharing(context, files, shard, on, shards, sbatch or (), requeue)
    sharing.do(partial(labelled, files, judging, rules), _labelled, partial(check, files, judging))


def next_(
    context: typer.Context,
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... PAIRS...",
            help="Model folders, recipes that ran or names on the hub, then files of pairs; - is JSON Lines on standard "
            "input.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl, .csv or .parquet file.")],
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="Pairs to choose; all if not given.")
    ] = None,
    votes: Annotated[
        list[Path] | None,
        typer.Option(help="Votes that there are, whose pairs are left out; may be given again."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the draw.")] = 0,
    strict: Strict = False,
    shard: Shard = "1/1",
    on: On = "local",
    shards: Shards = 1,
    sbatch: Sbatch = None,
    requeue: Requeue = False,
    map_: Columns = None,
    device: Device = None,
    precision: Precision = "auto",
    set_: Sets = None,
) -> None:
    """Choose the unvoted pairs to vote on next, the next one first.

    Pairs are drawn by how much the predictions of them disagree, as in both orders, by the baseline, where one ships, and by
    other models, if several are given. The rows of the pairs have all their columns, and the disagreement in `disagreement`.
    Stopped or killed, the same command goes on where it was.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands.next_pairs import Choice, check, next_pairs
    from tiebreak.commands.pieces import Files

    located, inputs = outputs.models_and_pairs(where, set_ or ())
    models = [model.folder for model in located]
    outputs.refuse_unused(set_, where[: len(models)])
    choice = Choice(models, count, votes or (), seed, device, precision, mapping_of(map_))
    files = Files(inputs, output, shard_of(shard), strict)
    sharing = _Sharing(context, files, shard, on, shards, sbatch or (), requeue)
    sharing.do(partial(next_pairs, files, choice), _chosen, partial(check, files, choice))


def _chosen(outcome: "Chosen") -> str:
    voted = f"; {terminal.counted(outcome.voted, 'pair')} with a vote left out" if outcome.voted else ""
    repeated = f"; {terminal.counted(outcome.repeated, 'repeated pair')} left out" if outcome.repeated else ""
    return f"{outcome.chosen} of {terminal.counted(outcome.rows, 'pair')}{voted}{repeated}"


def _labelled(outcome: "Labelled") -> str:
    count = Counter(outcome.counts)
    single = f", {count['single']} with a single response" if count["single"] else ""
    missing = f", {count['missing']} with a text missing" if count["missing"] else ""
    return (
        f"{terminal.counted(count['kept'], 'pair')} kept; dropped: {terminal.counted(count['tie'], 'tie')}, {count['below']} "
        f"below the margin; {terminal.counted(count['not judged'], 'row')} not judged{single}{missing}"
    )


def model_before_files(where: Sequence[Path], set_: Sequence[str] | None) -> "Located":
    """The model that comes first. Raises TiebreakError if there are no files after it, or it is one of several."""
    from tiebreak.commands import outputs

    (model, *more), _ = outputs.models_and_pairs(where, set_ or ())
    if more:
        raise TiebreakError(f"{where[1]} is a second model; name one, then files")
    outputs.refuse_unused(set_, where[:1])
    return model


_SHARING = ("shard", "on", "shards", "sbatch", "requeue")


@dataclass(frozen=True)
class _Sharing:
    """Who works on the rows: this process, alone or on one shard of them, or jobs of a cluster."""

    context: typer.Context
    files: "Files"
    shard: str
    on: str
    shards: int
    sbatch: Sequence[str]
    requeue: bool

    def do(
        self,
        work: Callable[[Stop], AnOutcome],
        summary: Callable[[AnOutcome], str],
        check: Callable[[], object],
    ) -> AnOutcome | None:
        """Do the work or submit jobs for it, and say what became of it. Returns the outcome if the output is written here.

        check: raises TiebreakError for what every job would end with.
        """
        if self.on == "slurm":
            self._require_files()
            check()
            self._submit()
            return None
        if self.shards > 1 or self.sbatch:
            raise TiebreakError(
                "--shards and --sbatch are for --on slurm; here, start --shard 1/N to N/N yourself"
            )
        return self._do_here(work, summary)

    def _require_files(self) -> None:
        from tiebreak.commands.pieces import STANDARD

        if STANDARD in (self.files.output, *self.files.inputs):
            raise TiebreakError("jobs have no standard input and output; name files")

    def _submit(self) -> None:
        """Submit the command as it was given, a job a shard."""
        from tiebreak.slurm.shards import logs_of, submit

        output = self.files.output
        arguments = [str(self.context.info_name), *arguments_of(self.context, without=_SHARING)]
        job = submit(arguments, output, self.shards, self.context.params["device"] != "cpu", self.sbatch)
        terminal.result(
            f"job {job}: {terminal.counted(self.shards, 'shard')}; the last writes {output}. Logs: "
            f"{logs_of(arguments, output, job)}; to cancel: scancel {job}"
        )

    def _do_here(
        self, work: Callable[[Stop], AnOutcome], summary: Callable[[AnOutcome], str]
    ) -> AnOutcome | None:
        from tiebreak.commands.pieces import STANDARD
        from tiebreak.slurm.shards import requeue_if_stopped

        replaces = self.files.output.is_file()
        stop = runs.stop.install()
        try:
            outcome = work(stop)
        except Interrupted:
            if self.requeue and requeue_if_stopped(stop.received):
                terminal.note("stopped by Slurm: back in the queue, to go on from here")
                return None
            raise
        self._say(outcome, summary(outcome), replaces)
        if outcome.unjudged:
            what = terminal.counted(outcome.unjudged, "row")
            terminal.note(f"{what} could not be judged, the first because: {outcome.reason}")
        if self.files.output == STANDARD and not outcome.finished:
            raise typer.Exit(stop.exit_code)
        return outcome if outcome.written else None

    def _say(self, outcome: "Outcome", summary: str, replaces: bool) -> None:
        from tiebreak.commands.pieces import STANDARD

        output, shard = self.files.output, "" if self.shard == "1/1" else f"shard {self.shard} is done; "
        if output == STANDARD:
            stopped = f"stopped after {terminal.counted(outcome.rows, 'row')}"
            terminal.note(f"standard output: {summary}" if outcome.finished else stopped)
        elif outcome.written:
            terminal.result(
                f"{output}: {summary}{', in place of the file that was there' if replaces else ''}"
            )
        elif outcome.finished:
            terminal.result(f"{output}: {shard}another process has written the file")
        else:
            terminal.result(f"{output}: {shard}the shard that ends last writes the file")
