"""Models of the recipe: teachers and student, their weights and adapters."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tiebreak.recipe.limits import AtMost
from tiebreak.recipe.values import Location, Name, Positive, Slice


class Lora(Slice):
    """Low-rank adapters on every linear layer (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[Positive, AtMost(65_536)] = Field(64, description="rank of the update BA")
    alpha: float = Field(128.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1, description="on the adapter's input, in training")


class Model(Slice):
    """A pretrained decoder: a hub id, or a folder or GGUF file relative to the recipe's."""

    base: Location = Field(
        description="hub id or folder; or a GGUF file, a path or OWNER/NAME/FILE.gguf, whose weights are taken up in bf16"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model; null for main")
    precision: Literal["auto", "fp32", "bf16", "fp16", "nf4", "fp8"] = Field(
        "auto", description="of the frozen weights; auto chooses by the card"
    )
    lora: Lora = Lora()


class Models(Slice):
    teachers: dict[Name, Model] = Field(min_length=1, description="any number, under names of your choice")
    student: Model

    @model_validator(mode="after")
    def _check_teacher_names(self) -> "Models":
        if self.teachers.get("student", self.student) != self.student:
            raise ValueError(
                "a teacher named student has to be the student's own model (self-distillation); "
                "give another model another name"
            )
        return self
