"""Schema of the recipe: one typed tree of all settings of a run. Unknown keys are refused.

Each step receives only its own slice of this tree; a slice is part of the key of the step's artifact, so settings
that change a result belong here or in `models.py`, and all others (scheduling, output) in `execution.py`.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tiebreak.errors import nearest
from tiebreak.recipe.basics import MAX_SEED
from tiebreak.recipe.execution import Compute, Slurm
from tiebreak.recipe.limits import LIFT, MOST_TASKS, AtMost
from tiebreak.recipe.models import Models
from tiebreak.recipe.values import (
    FOLD_SECTIONS,
    MANY,
    ROLES,
    Cap,
    CapOrRange,
    FieldName,
    Folds,
    FoldSection,
    LabelName,
    Location,
    Name,
    Positive,
    Role,
    Rows,
    Share,
    Slice,
    Tokens,
    ValueText,
    Weight,
)


class Data(Slice):
    """Files of votes. Paths are relative to the recipe's folder."""

    votes: tuple[Location, ...] = Field(
        min_length=1, description="files, folders, or data sets of the hub as hub:OWNER/NAME"
    )
    extra: tuple[Location, ...] = Field((), description="more votes, for the training sides only")
    preferences: tuple[Location, ...] = Field((), description="preference pairs for step 1 (UltraFeedback)")
    unlabelled: tuple[Location, ...] = Field(
        (), description="pairs without votes: teachers score them, students learn from that alone"
    )
    test: tuple[Location, ...] = Field((), description="unlabelled pairs to predict for a submission")
    solution: Location | None = Field(
        None, description="labels of the test pairs, for the leaderboard log loss"
    )
    columns: dict[FieldName, str] = Field(
        {},
        description="columns of other names, as prompt: question; data.votes must have them, other files may",
    )
    values: dict[ValueText, LabelName] = Field({}, description="what values of winner mean, as 'A>B': a")
    max_rejected_share: Share = Field(0.02, description="more unreadable rows than this is an error")
    incomplete_files: bool = Field(
        False, description="take what there is of a file that breaks off; false: an error"
    )
    pairs_per_prompt: Rows | None = Field(
        None,
        description="of several scored answers to a prompt (UltraFeedback), how many pairs; null for all",
    )

    def files(self) -> dict[Role, tuple[str, ...]]:
        """The files of each role that has any, in order."""
        return {role: found for role in ROLES if (found := getattr(self, role))}


class Prompt(Slice):
    """The prompt template, and the truncation of long texts."""

    template: Literal["published"] = Field("published", description="the text around prompt and answers")
    truncation: Literal["published", "balanced"] = Field(
        "published", description="how what is too long is cut; see how-it-works.md"
    )
    prompt_tokens: Tokens = Field(256, description="cap on the prompt, only where the whole is too long")


class Training(Slice):
    """One training of adapters and score head. A row is one vote shown in one order."""

    learning_rate: float = Field(1e-5, gt=0, description="at its peak, for rows_per_step rows a step")
    head_rate: float = Field(1.0, gt=0, description="the score head's learning rate, as a multiple")
    epochs: Annotated[float, AtMost(10_000)] = Field(
        2.0, gt=0, description="passes over the votes; each shows both orders"
    )
    max_steps: Cap = Field(-1, description="cap on optimizer steps; -1 for none")
    max_hours: Annotated[float, AtMost(10**6)] | None = Field(
        None,
        gt=0,
        description="training ends by then, with the step it has reached; the result depends on speed",
    )
    rows_per_step: Rows = Field(64, description="the global batch, counted in rows")
    max_tokens: Tokens = Field(1024, description="tokens of one row; longer ones are truncated")
    warmup_steps: Annotated[int, MANY] = Field(100, ge=0, description="linear; a cosine down to zero follows")
    weight_decay: Weight = Field(0.0, description="of AdamW")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    orders_together: bool = Field(True, description="both orders of a vote in the same optimizer step")


class PostPretrain(Slice):
    """Step 1: every model learns the task on preference pairs; the adapters carry over."""

    enabled: bool = Field(True, description="false: skip the step, even with preference pairs")
    subset_votes: Cap = Field(-1, description="votes kept, seeded; -1 for all")
    training: Training = Training(epochs=1.0)


class Split(Slice):
    """Step 2: folds that keep the votes of a prompt together, and two sides that no model trains on: a lockbox for
    results alone, and votes to calibrate and choose on.
    """

    count: int = Field(5, ge=2, le=20, description="folds")
    lockbox_share: Share = Field(0.05, description="share of the votes set aside for the result")
    calibration_share: Share = Field(
        0.1,
        description="share set aside to calibrate and choose on; 0: the held-out votes, where soft labels are in-sample",
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=MAX_SEED + 1,
        description="of folds and sides; null for the recipe's. Given, other seeds of training keep the split",
    )
    drop_overlaps: bool = Field(
        True, description="rows leave the training sides whose prompt is among the test pairs or votes"
    )

    @model_validator(mode="after")
    def _check_shares(self) -> "Split":
        if (set_aside := self.lockbox_share + self.calibration_share) >= 1:
            raise ValueError(
                f"lockbox_share and calibration_share are {set_aside:g} together: nothing is left to train on"
            )
        return self


class Baseline(Slice):
    """The baseline beside the steps: a model of word counts and plain features, trained on the same votes, with which
    the report compares the judge.
    """

    enabled: bool = Field(
        True, description="false: no such model, no row of it in the report and no blend with it"
    )


class Teach(Slice):
    """Step 3: a teacher for each fold."""

    folds: Folds = Field(
        None, description="folds to train; null for all, here and below for those of the step before"
    )
    subset_votes: Cap = Field(-1, description="votes kept of a fold's training side, seeded; -1 for all")
    training: Training = Training()


class Logits(Slice):
    """Step 4: teachers score training and held-out rows in both orders."""

    folds: Folds = Field(None, description="folds to score; null for those of teach")
    subset_votes: CapOrRange = Field(
        -1, description="training votes scored, seeded: a number, a range drawn from per fold, or -1 for all"
    )
    subset_votes_of: dict[str, CapOrRange] = Field({}, description="the same for the teachers named")
    shards: Annotated[Positive, AtMost(10_000)] = Field(
        1, description="tasks that share the rows of one teacher and fold"
    )
    soft_labels: Literal["in_sample", "out_of_fold"] = Field(
        "in_sample", description="from the fold's own teacher, or from the one that held the row out"
    )
    max_tokens: Tokens = Field(1024, description="tokens of one row")


class TeacherTerm(Slice):
    """The loss term of one teacher: kl KL(teacher_T || student_T) + cosine (1 - cos). The defaults are
    distill's; a value that a teacher of per_teacher leaves out is distill's own.
    """

    kl_weight: Weight = Field(0.2, description="of KL(teacher_T || student_T)")
    cosine_weight: Weight = Field(0.2, description="of 1 - cos(teacher_T, student_T)")
    temperature: float = Field(
        1.0,
        gt=0,
        description="T: both sides are softmax(logits / T). The loss has no factor T^2, so kl_weight must grow "
        "by T^2 to keep its gradient (Hinton et al. 2015, arXiv:1503.02531)",
    )


class Distill(TeacherTerm):
    """Step 5: loss = label CE + sum over teachers of [kl KL + cosine (1 - cos)], each with its weight."""

    folds: Folds = Field(None, description="folds to train; null for those of logits")
    students: Literal["folds", "one"] = Field(
        "folds",
        description="a student a fold, averaged; or one on the votes of all folds, if labels are out of fold",
    )
    label_weight: Weight = Field(0.2, description="of the cross-entropy with the label")
    label_smoothing: Share = Field(0.0, description="share of the label spread evenly over the classes")
    per_teacher: dict[str, TeacherTerm] = Field(
        {}, description="other values for the teachers named; what one leaves out is distill's own"
    )
    average_orders: bool = Field(False, description="a teacher's mean over both orders is the soft label")
    extra_weight: Weight = Field(1.0, description="what an extra vote counts beside a vote")
    unlabelled_weight: Weight | None = Field(
        None, description="what a pair without votes counts beside a vote; null for extra_weight"
    )
    training: Training = Training(learning_rate=5e-5)

    @model_validator(mode="after")
    def _check_loss_weights(self) -> "Distill":
        terms = [self, *self.per_teacher.values()]
        if not (self.label_weight or any(term.kl_weight or term.cosine_weight for term in terms)):
            raise ValueError(
                "label_weight, kl_weight and cosine_weight are all 0: there is nothing to learn from"
            )
        return self

    @model_validator(mode="after")
    def _complete_teacher_terms(self) -> "Distill":
        # here, not in the step: keys and dumps of a recipe do not show which values were left out
        own = {key: getattr(self, key) for key in TeacherTerm.model_fields}
        for name, term in self.per_teacher.items():
            self.per_teacher[name] = TeacherTerm(**own | term.model_dump(exclude_unset=True))
        return self


class Average(Slice):
    """Step 6: `exact` is the mean of the products BA; `published` averages A and B apart."""

    method: Literal["exact", "published"] = Field("exact", description="see above")
    calibration: Literal["temperature", "vector", "matrix", "best"] = Field(
        "temperature",
        description="of the average, symmetric in the answers; best: the least cross-validated log loss",
    )
    blend: Literal["auto", "none", "linear", "log", "matrix"] = Field(
        "auto",
        description="with the baseline, on the calibration side; auto: the best, if nested cross-validation says that "
        "it pays by more than a standard error",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _refuse_removed_method(cls, method: Any) -> Any:
        if removed := {"soup": "greedy soups", "weighted": "weighted averages"}.get(str(method)):
            raise ValueError(f"{removed} gained next to nothing and are gone; use exact or published")
        return method


class Quantize(Slice):
    """Step 7: GPTQ (Frantar et al. 2022, arXiv:2210.17323); the score head is left alone."""

    bits: Literal[8] = Field(8, description="of a weight")
    group: Rows = Field(128, description="weights that share a scale")
    calibration_rows: Rows = Field(128, description="rows of the training sides to calibrate with")
    max_tokens: Tokens = Field(1024, description="tokens of one of them")


class Tta(Slice):
    """Step 8: predict in both orders, undo the swap, take the mean."""

    both_orders: bool = Field(True, description="false: the stored order only, at half the cost")
    share: Share = Field(
        1.0, description="of the votes, the least certain ones, that are shown in both orders; 1 for all"
    )
    max_tokens: Tokens = Field(2000, description="tokens of one row")


class Evaluate(Slice):
    """Step 9: metrics with confidence intervals, the report, a submission of the test pairs."""

    bootstrap_samples: Rows = Field(1000, description="resamples of the rows for each interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the intervals")
    weight_folds: bool = Field(
        False, description="blend the folds' students too, by 1 / log loss on unseen votes"
    )


class Recipe(Slice):
    """All settings of a run, in the order of its steps."""

    name: Name
    seed: int = Field(0, ge=0, lt=MAX_SEED + 1)
    run_dir: Location = Field("run", description="where artifacts live, relative to the recipe's folder")
    data: Data
    models: Models
    prompt: Prompt = Prompt()
    post_pretrain: PostPretrain = PostPretrain()
    split: Split = Split()
    baseline: Baseline = Baseline()
    teach: Teach = Teach()
    logits: Logits = Logits()
    distill: Distill = Distill()
    average: Average = Average()
    quantize: Quantize = Quantize()
    tta: Tta = Tta()
    evaluate: Evaluate = Evaluate()
    compute: Compute = Compute()
    slurm: Slurm = Slurm()

    @model_validator(mode="after")
    def _check_token_budgets(self) -> "Recipe":
        budgets = {
            f"{step}.training.max_tokens": getattr(self, step).training.max_tokens
            for step in ("post_pretrain", "teach", "distill")
        }
        budgets |= {f"{step}.max_tokens": getattr(self, step).max_tokens for step in ("logits", "tta")}
        for name, budget in budgets.items():
            if budget < 2 * self.prompt.prompt_tokens:
                raise ValueError(
                    f"{name} is {budget}, less than twice prompt.prompt_tokens {self.prompt.prompt_tokens}: "
                    "a long prompt would leave no room for the answers"
                )
        return self

    @model_validator(mode="after")
    def _check_calibration_votes(self) -> "Recipe":
        if self.logits.soft_labels == "out_of_fold" and not self.split.calibration_share:
            raise ValueError(
                "with logits.soft_labels out_of_fold every student has learned, through the teachers of other "
                "folds, the votes that it holds out, and split.calibration_share is 0: no votes are left to "
                "calibrate on; use --set split.calibration_share=0.1 or --set logits.soft_labels=in_sample"
            )
        return self

    @model_validator(mode="after")
    def _check_blend(self) -> "Recipe":
        if self.average.blend not in ("auto", "none") and not self.baseline.enabled:
            raise ValueError(
                f"average.blend is {self.average.blend}, and baseline.enabled is false: there is nothing to blend with; "
                "use --set baseline.enabled=true or --set average.blend=none"
            )
        return self

    @model_validator(mode="after")
    def _check_single_student(self) -> "Recipe":
        if self.distill.students == "one" and self.logits.soft_labels == "in_sample":
            raise ValueError(
                "distill.students one learns from the votes of all folds, on which no single teacher was trained; "
                "use --set logits.soft_labels=out_of_fold or --set distill.students=folds"
            )
        return self

    @model_validator(mode="after")
    def _check_nodes(self) -> "Recipe":
        if self.compute.processes % self.slurm.nodes:
            raise ValueError(
                f"compute.processes {self.compute.processes} cannot be spread evenly over slurm.nodes "
                f"{self.slurm.nodes}"
            )
        return self

    @model_validator(mode="after")
    def _check_teachers(self) -> "Recipe":
        named: dict[str, Iterable[str]] = {
            "distill.per_teacher": self.distill.per_teacher,
            "logits.subset_votes_of": self.logits.subset_votes_of,
        }
        for key, names in named.items():
            if unknown := set(names) - set(self.models.teachers):
                hint = nearest(min(unknown), self.models.teachers)
                raise ValueError(f"{key} names {sorted(unknown)}, no such teacher; {hint}")
        return self

    @model_validator(mode="after")
    def _check_folds(self) -> "Recipe":
        upstream = set(range(self.split.count))
        for section in FOLD_SECTIONS:
            folds = set(self.folds(section))
            if missing := folds - upstream:
                raise ValueError(
                    f"{section}.folds names {sorted(missing)[:5]}, but the step before has {sorted(upstream)}"
                )
            upstream = folds
        return self

    @model_validator(mode="after")
    def _check_tasks(self) -> "Recipe":
        teachers, shards = len(self.models.teachers), self.logits.shards
        taught, scored = (len(self.folds(section)) for section in ("teach", "logits"))
        tasks = teachers * (1 + taught + scored * shards)
        if self.compute.check_limits and tasks > MOST_TASKS:
            raise ValueError(
                f"{teachers} teachers, {taught} folds to teach, {scored} folds to score and logits.shards {shards} make "
                f"{tasks:,} tasks, and more than {MOST_TASKS:,} are taken for a slip; set fewer shards, or {LIFT}"
            )
        return self

    def folds(self, section: FoldSection) -> tuple[int, ...]:
        """The folds a section's step works on, in order: its own choice, or else those of the section before it."""
        for at in range(FOLD_SECTIONS.index(section), -1, -1):
            chosen: Folds = getattr(self, FOLD_SECTIONS[at]).folds
            if chosen is not None:
                return tuple(sorted(set(chosen)))
        return tuple(range(self.split.count))
