"""Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError

if TYPE_CHECKING:
    from tiebreak.commands.finished_run import Run
    from tiebreak.comparison.results import Comparison, Leaderboard
    from tiebreak.data_card.card import Card
    from tiebreak.judge.judge import Judge

__version__ = "0.2.0"
__all__ = ["check", "compare", "leaderboard", "load", "train"]


@checked
def load(
    folder: str | Path,
    device: str | None = None,
    score_tokens: int = 16384,
    precision: str = "auto",
    revision: str | None = None,
) -> "Judge":
    """Load a judge: a model folder, a run that is finished by the folder of its recipe, or a model of the Hugging Face hub by its name,
    OWNER/NAME. `load(folder).predict(pairs)` gives an array (n, 3).

    revision: branch, tag or commit of a model of the hub; its commit is in `judge.package.provenance`. A folder that is
    here comes before a model of the hub.

    device: "cpu" or "cuda"; the GPU where there is one by default. score_tokens: tokens of one forward.
    precision: fp32, bf16, fp16, or fp8, faster on cards that compute it; auto chooses one of the first three.
    Raises TiebreakError if the folder is missing, no such model or damaged, by the hashes that it records, the model of
    the hub is not to be had, or the device is not here.
    """
    from tiebreak.commands.outputs import locate_model
    from tiebreak.judge.judge import load_judge
    from tiebreak.judge.location import locate

    found = locate(folder, revision) if revision else locate_model(Path(folder))
    judge = load_judge(found.folder, device, score_tokens, precision)
    judge.package = found.recorded(judge.package)
    return judge


@checked
def train(
    votes: Any,
    preset: str = "small",
    folder: str | Path = "judge",
    *,
    preferences: Any = None,
    extra: Any = None,
    unlabelled: Any = None,
    test: Any = None,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    progress: Callable[..., None] | None = None,
    **overrides: Any,
) -> "Run":
    """Train a judge of votes: what `tiebreak init` and `tiebreak run` do, in one call. Returns the finished run.

    votes: a file, or several; a table of pyarrow, pandas or polars; or dicts, one a vote; in any format that `tiebreak check` reads.
    preset: tiny, small and others, see `tiebreak init --help`. folder: for the recipe and all that is made. It goes on where an earlier
    call was stopped; with other arguments only what depends on them is made again. preferences, extra, unlabelled, test: more data,
    given likewise, as `tiebreak init` takes them. columns, values: those of other names, as `--map` and `--values` give them.
    progress: called with each line of progress, such as `print`; the line's `.task`, `.text` and, of all tasks, `.ended` of `.tasks`.
    Without it lines and bars go to stderr. overrides: other values of the recipe, with two underscores between its keys:
    `distill__training__epochs=3`.

    `run.judge()` predicts, `run.report()` says how well, `run.verdict` whether to use it.
    Raises TiebreakError for data that cannot be read, an unknown preset or key, a folder with a recipe of another origin, and tasks
    that fail; KeyboardInterrupt on Ctrl-C, once checkpoints are saved.
    """
    from tiebreak.commands.train import train as trained
    from tiebreak.votes.formats.mapping import ColumnMap

    given = {
        "votes": votes,
        "preferences": preferences,
        "extra": extra,
        "unlabelled": unlabelled,
        "test": test,
    }
    mapping = ColumnMap(columns or {}, values or {})
    return trained(given, preset, Path(folder), mapping, progress, overrides)


@checked
def check(
    votes: str | Path | Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> "Card":
    """The data card of files of votes, as `tiebreak check` prints it: labels, lengths, biases, repetition, rows that cannot be read.

    votes: a file, or several. columns, values: those of other names, as `--map` and `--values` give them. Tokens are estimated at four
    bytes each. `card.as_dict()` is plain values for JSON.
    Raises TiebreakError for a file that is missing or of no known format, and if no vote is readable.
    """
    from tiebreak.commands.check import check_files
    from tiebreak.votes.formats.mapping import ColumnMap

    files = [votes] if isinstance(votes, str | Path) else votes
    if not files:
        raise TiebreakError("votes is a file or several, and there is none")
    return check_files(
        {"votes": [Path(file) for file in files]}, None, ColumnMap(columns or {}, values or {})
    )


@checked
def compare(
    judge: Any,
    outputs: Any,
    votes: Any = None,
    baseline: str | None = None,
    by: str | Sequence[str] = (),
    budget: int | None = None,
    columns: Mapping[str, str] | None = None,
    leaders: bool = False,
    width: float = 0.04,
) -> "Comparison":
    """Compare models by their outputs, judged in both orders: win rates, a leaderboard with intervals and ranks, at equal style too.

    judge: what `load` gives, or what it takes. outputs: files, a table or dicts with a prompt (or instruction), an output and its model
    (generator), or pairs with response_a, response_b, model_a and model_b. votes: people's votes on a random sample of the same
    answers, likewise; then all is by votes and judge together (prediction-powered inference), and intervals hold whatever the judge's
    errors are. baseline: compare each model with this one alone. by: "language", "length" and one column, to look at apart. budget:
    comparisons to judge at most. columns: those of other names, as `--map` gives them. leaders: spend half of the budget on what tells
    the first models apart. width: of a win rate's interval, for which the votes that are needed are told.
    Raises TiebreakError for outputs and votes that cannot be read, and for fewer than two models.
    """
    from tiebreak.comparison.api import compare as compared

    judge = load(judge) if isinstance(judge, str | Path) else judge
    return compared(judge, outputs, votes, baseline, by, budget, columns, leaders, width)


@checked
def leaderboard(votes: Any, columns: Mapping[str, str] | None = None) -> "Leaderboard":
    """The leaderboard of models by votes between them: Davidson's strengths, with intervals and ranks.

    votes: a file, a table or dicts with model_a, model_b and winner (or p_a, p_b and p_tie, as `predict` writes them). Votes on the same prompt
    count as dependent on each other; without a prompt each is on one of its own. columns: those of other names.
    Raises TiebreakError for votes that cannot be read.
    """
    from tiebreak.comparison.api import leaderboard as ranked

    return ranked(votes, columns)
