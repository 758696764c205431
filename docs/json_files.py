"""Shapes of the JSON files and outputs that have no model of their own in the package, for `generate.py` to make schemas of.

A key that is not here fails the test that validates what the commands write.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel

from tiebreak.comparison.results import Comparison
from tiebreak.data_card.card import Card
from tiebreak.engine.finding import Finding


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Figure(Part):
    """A figure with its interval, null where there are too few prompts for one."""

    value: float | None
    low: float | None
    high: float | None


class Calibration(Part):
    """Calibration error of ten bins, what a calibrated model would show, the limit of that, and the test's p."""

    value: float | None
    when_calibrated: float | None
    limit: float | None
    p: float | None


class Shares(Part):
    a: float
    b: float
    tie: float


class Way(Part):
    """A way to predict: a stage of the recipe, with the mean of both orders or without, calibrated or not."""

    stage: str
    both_orders: bool
    calibrated: bool


class Variant(Way):
    """A way to predict, and how well it does."""

    log_loss: Figure
    accuracy: Figure
    brier: Figure
    ece: Calibration


class OneModel(Part):
    """One of several models of a variant."""

    name: str
    log_loss: float
    accuracy: float


class Rung(Variant):
    """A variant on the lockbox. change: of its log loss against `below`. spread: the standard deviation of its models' log losses."""

    models: int
    folds: list[OneModel] = []
    spread: float | None = None
    below: Way | None = None
    change: Figure | None = None


class Fold(Variant):
    """A variant on the votes of a fold, a number or all. fitted_here: chosen on these votes, so that it tells of nothing else."""

    fold: int | str
    split: str
    origin: str
    fitted_here: bool
    rows: int


class Evidence(Part):
    """A finding of a verdict. holds: true, false, or null where the votes are too few to tell."""

    about: str
    holds: bool | None
    text: str
    change: Figure | None
    resolvable: float | None
    test: dict[str, Any] | None


class Verdict(Part):
    use: bool
    headline: str
    findings: list[Evidence]


class Metrics(Part):
    """`metrics.json` of the step evaluate: what the report shows. Losses are in nats."""

    name: str
    leaderboard_log_loss: float | None
    lockbox_rows: int
    lockbox_prompts: int
    prior_log_loss: float | None
    teacher_log_loss: float | None
    student_log_loss: float | None
    final_log_loss: float | None
    prior: Shares
    confidence: float
    bootstrap_samples: int
    ladder: list[Rung]
    folds: list[Fold]
    calibration: list[dict[str, Any]]
    abstention: dict[str, Any] | None
    verdict: Verdict | None
    bias: dict[str, Any] | None = None
    augmentation: list[dict[str, Any]] | None = None
    learning_curve: dict[str, Any] | None


class Audit(Part):
    """What `tiebreak audit --json` prints."""

    judge: str
    votes_from: list[str]
    verdict: dict[str, Any]
    votes: int
    pairs: int
    prompts: int
    confidence: float
    agreement: dict[str, Any]
    calibration: dict[str, Any]
    bias: dict[str, Any]
    self_preference: dict[str, Any] | None
    shift: dict[str, Any] | None
    seen: int | None
    surprises: Any
    slip_rate: float | None
    disagreements: list[dict[str, Any]]


class Change(Figure):
    """A paired difference. p: of no difference."""

    p: float | None


class BenchFigure(Figure):
    """A score. change: from the first judge that was named."""

    name: str
    change: Change | None = None


class BenchResult(Part):
    """A judge on a benchmark. eval_results: an entry of `.eval_results/*.yaml` of the hub."""

    judge: str
    suite: str
    dataset: str
    questions: int
    missing: list[str]
    figures: list[BenchFigure]
    eval_results: list[dict[str, Any]]


class Bench(RootModel[list[BenchResult]]):
    """What `tiebreak bench -o FILE.json` writes and `--json` prints."""


@dataclass(frozen=True, kw_only=True)
class PrintedComparison(Comparison):
    """What `tiebreak compare -o FILE.json` writes and `--json` prints. judge: where it is, and the hash of its tiebreak.json."""

    judged: int
    remarks: list[str]
    judge: dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class PrintedCard(Card):
    """What `tiebreak check --json` prints: the data card and the findings of the checks."""

    preflight: list[Finding]


class StatusRow(Part):
    """A task in what `tiebreak status --json` prints. state: done, running, pending, failed, cancelled, missing or stale."""

    task: str
    state: str
    detail: str


class Statuses(RootModel[list[StatusRow]]):
    """What `tiebreak status --json` prints."""
