"""Values of the recipe: their types with bounds, and the names of steps, sections and roles."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tiebreak.errors import nearest
from tiebreak.recipe.limits import AtMost

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Folds = Annotated[tuple[int, ...], Field(min_length=1)] | None


STEPS = (
    "ingest",
    "split",
    "baseline",
    "post_pretrain",
    "teach",
    "score",
    "distill",
    "average",
    "quantize",
    "predict",
    "evaluate",
)
"""The steps by name, in order."""


def _check_cap(count: int) -> int:
    if count < -1 or count == 0:
        raise ValueError(f"should be -1, for all, or greater than 0, not {count}")
    return count


def _check_step(name: str) -> str:
    if name not in STEPS:
        raise ValueError(f"no step is called {name!r}; {nearest(name, STEPS)}")
    return name


def _check_cap_or_range(votes: int | tuple[int, int]) -> int | tuple[int, int]:
    if isinstance(votes, int):
        return _check_cap(votes)
    if not 0 < votes[0] <= votes[1]:
        raise ValueError(f"a range of votes goes up from 1 or more, and {list(votes)} does not")
    return votes


def check_location(text: str) -> str:
    """The text, if it is a path or may name something on the hub. Raises ValueError for what cannot be a path."""
    try:
        os.fsencode(Path(text).expanduser())
        possible = "\0" not in text
    except (RuntimeError, UnicodeError):  # no such user; half a character
        possible = False
    if not possible:
        raise ValueError(f"{text!r} is no path; after ~ comes / or a user of this machine")
    return text


Location = Annotated[str, AfterValidator(check_location)]
"""A path, or the name of something on the hub."""
MANY = AtMost(10**9)
Cap = Annotated[int, AfterValidator(_check_cap), MANY]
CapOrRange = Annotated[int | tuple[int, int], AfterValidator(_check_cap_or_range), MANY]
Tokens = Annotated[Positive, AtMost(10**8)]
Rows = Annotated[Positive, AtMost(10**6)]
Minutes = Annotated[Positive, AtMost(10**6)]
FoldSection = Literal["teach", "logits", "distill"]
FOLD_SECTIONS: tuple[FoldSection, ...] = get_args(FoldSection)
"""The sections with folds of their own, in order."""
StepName = Annotated[str, AfterValidator(_check_step)]
Role = Literal["votes", "extra", "preferences", "unlabelled", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
"""The roles of files of votes and pairs, in order."""
MAPPED_FIELDS = (
    *(
        "prompt",
        "system",
        "context",
        "history",
        "input",
        "response_a",
        "response_b",
        "winner",
        "p_a",
        "p_b",
        "p_tie",
    ),
    *("chosen", "rejected", "conversation_a", "conversation_b", "model_a", "model_b", "id", "question_id"),
    *("evaluation_session_id", "weight", "language"),
)
"""The fields of a vote that a column may be mapped to."""


def _check_field(name: str) -> str:
    if name not in MAPPED_FIELDS:
        raise ValueError(f"no field of a vote is called {name!r}; {nearest(name, MAPPED_FIELDS)}")
    return name


def _as_text(value: Any) -> str:
    """A key of YAML, which may be a number or true, as text."""
    return value if isinstance(value, str) else json.dumps(value)


FieldName = Annotated[str, AfterValidator(_check_field)]
ValueText = Annotated[str, BeforeValidator(_as_text)]
LabelName = Literal["a", "b", "tie"]


class Slice(BaseModel):
    """A part of the recipe: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
