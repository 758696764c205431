"""Environment variables of the nine scripts in slurm/, in a table that also documents them.

    TEACHER_FOLDS=0 TEACHER_MAX_STEPS=300 sbatch step3_train_teachers.sh

`<MODEL>` in a name stands for a model of the recipe in capitals. A variable that belongs to another step than
the one that runs is checked and otherwise left alone, so that all may be exported at once.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiebreak.errors import TiebreakError, nearest

EVERY_STEP = tuple(range(1, 10))


@dataclass(frozen=True)
class Variable:
    """A variable: the steps that use it, the parser of its text, and the recipe's key that it sets.

    Without a key it selects what the job works on. `*` in a key stands for every teacher, `<model>` for the
    model in the variable's name.
    """

    name: str
    steps: tuple[int, ...]
    read: Callable[[str], Any]
    key: str
    meaning: str


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or (number := int(text)) < least:
            raise ValueError(f"a whole number, {least} or more")
        return number

    return read


def _number(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+([eE][-+]?\d+)?", text) or (number := float(text)) <= 0:
        raise ValueError("a number above 0")
    return number


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _always(text: str) -> bool:
    if text != "1":
        raise ValueError("1: teachers are kept as adapters, never merged")
    return True


def _folds(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+([ ,]+\d+)*", text):
        raise ValueError("folds with commas between them, such as 0,2")
    return tuple(sorted({int(fold) for fold in re.split(r"[ ,]+", text)}))


def _names(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[\w.-]+([ ,]+[\w.-]+)*", text):
        raise ValueError("names of models with commas between them, such as llama,qwen")
    return tuple(dict.fromkeys(re.split(r"[ ,]+", text.lower())))


def _votes(text: str) -> int | tuple[int, int]:
    if variables := re.fullmatch(r"(\d+)-(\d+)", text):
        low, high = int(variables[1]), int(variables[2])
        if 0 < low <= high:
            return low, high
    elif re.fullmatch(r"-1|[1-9]\d*", text):
        return int(text)
    raise ValueError("a number of votes, a range such as 15000-20000, or -1 for all")


TABLE = (
    Variable("SCRATCH_BASE", EVERY_STEP, str, "", "where heavy artifacts live; later steps remember it"),
    Variable("RUN_STAGE", (1,), _names, "", "models to post-pretrain: teachers, gemma (the student)"),
    Variable("TEACHER_FOLDS", (3,), _folds, "", "folds whose teachers this job trains"),
    Variable("SKIP_<MODEL>", (3,), _flag, "", "1: leave that teacher out"),
    Variable("TEACHER_SUBSET_SIZE", (3,), _whole(-1), "teach.subset_votes", "votes kept, seeded; -1 for all"),
    Variable("TEACHER_MAX_STEPS", (3,), _whole(-1), "teach.training.max_steps", "cap on optimizer steps"),
    Variable("TEACHER_EPOCHS", (3,), _number, "teach.training.epochs", "passes over the votes"),
    Variable("TEACHER_LR", (3,), _number, "teach.training.learning_rate", "at its peak"),
    Variable("TEACHER_MAXLEN", (3,), _whole(1), "teach.training.max_tokens", "tokens of one row"),
    Variable("TEACHER_TIME_BUDGET_HOURS", (3,), _number, "teach.training.max_hours", "training ends by then"),
    Variable("TEACHER_LORA_R", (1, 3), _whole(1), "models.teachers.*.lora.rank", "the adapters' rank"),
    Variable("TEACHER_LORA_ALPHA", (1, 3), _number, "models.teachers.*.lora.alpha", "scaled by alpha / rank"),
    Variable("INFER_FOLDS", (4,), _folds, "", "folds whose teachers this job has score"),
    Variable("INFER_MODELS", (4,), _names, "", "teachers that this job has score; else all"),
    Variable("INFER_PREFER_LORA", (4,), _always, "", "base and adapter, not a merged model: always so"),
    Variable("INFER_<MODEL>_SUBSET", (4,), _votes, "logits.subset_votes_of.<model>", "votes, N or LOW-HIGH"),
    Variable("INFER_MAX_SEQ_LEN", (4,), _whole(1), "logits.max_tokens", "tokens of one row"),
    Variable("INFER_LOGPROB_BATCH", (4,), _whole(1), "compute.score_tokens", "full rows in one forward"),
    Variable("INFER_PROGRESS_EVERY", (4,), _whole(1), "compute.log_every", "batches between two log lines"),
    Variable("INFER_TRAIN_SHARDS", (4,), _whole(1), "logits.shards", "tasks that share a teacher's rows"),
    Variable("INFER_TRAIN_SHARD_ID", (4,), _whole(0), "", "the one that this job does, from 0"),
    Variable("FOLDS", (5, 6), _folds, "", "step 5: students to train; step 6: students to average"),
    Variable("STUDENT_EPOCHS", (5,), _number, "distill.training.epochs", "passes over the votes"),
    Variable("USE_WEIGHTED", (9,), _flag, "evaluate.weight_folds", "1: blend the students by their CV"),
)
_PATTERN = re.compile(r"(TEACHER|INFER|STUDENT|SKIP)_\w+|FOLDS?|(RUN_STAGE|USE_WEIGHT|SCRATCH_BASE)\w*")


@dataclass(frozen=True)
class SetVariable:
    """A variable that is set, with its parsed value; `model` is the one in place of <MODEL> in its name."""

    variable: Variable
    model: str
    value: Any


def count(environment: Mapping[str, str], name: str, default: int) -> int:
    """The whole number in a variable, the first of a list such as OMP_NUM_THREADS=8,2; `default` where it is not set.

    Raises TiebreakError for anything else.
    """
    text = environment.get(name, "").strip() or str(default)
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise TiebreakError(f"{name} is {text!r}, not a whole number; correct it or unset it")
    return int(text.split(",")[0])


def read_variables(
    step: int, environment: Mapping[str, str], models: Mapping[str, Any]
) -> dict[str, SetVariable]:
    """Read the variables of a step that are set, by name. An empty one counts as not set.

    models: those that <MODEL> may name, teachers and others that were once published. Raises TiebreakError
    for a malformed value and for an unknown name that follows the pattern of these, whichever step it is for.
    """
    known = dict(_expand(models))
    for name in environment:
        if name not in known and _PATTERN.fullmatch(name):
            raise TiebreakError(f"unknown variable {name}; {nearest(name, known)}")
    variables: dict[str, SetVariable] = {}
    for name, (variable, model) in known.items():
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            value = variable.read(text)
        except ValueError as error:
            raise TiebreakError(f"{name}={text!r} should be {error}") from None
        if step in variable.steps:
            variables[name] = SetVariable(variable, model, value)
    return variables


def key_of(model: str) -> str:
    """A model's name as part of a variable's: capitals, with _ in place of other characters."""
    return re.sub(r"\W", "_", model).upper()


def _expand(models: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Variable, str]]]:
    for variable in TABLE:
        if "<MODEL>" not in variable.name:
            yield variable.name, (variable, "")
            continue
        for model in models:
            yield variable.name.replace("<MODEL>", key_of(model)), (variable, model)
