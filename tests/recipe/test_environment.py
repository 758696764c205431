"""Tests of the nine scripts' variables: their values, errors, and documentation."""

from pathlib import Path

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.recipe.environment import TABLE, count, read_variables
from tiebreak.recipe.schema import Recipe

MODELS = {"llama": 1, "qwen": 1, "my-model": 1}


def read(step: int, **environment: str) -> dict[str, object]:
    return {name: item.value for name, item in read_variables(step, environment, MODELS).items()}


def test_the_published_commands_are_understood() -> None:
    assert read(1, RUN_STAGE="gemma", SCRATCH_BASE="/scratch/x") == {
        "RUN_STAGE": ("gemma",),
        "SCRATCH_BASE": "/scratch/x",
    }
    assert read(
        3, TEACHER_SUBSET_SIZE="20000", TEACHER_MAX_STEPS="300", TEACHER_FOLDS="0", SKIP_QWEN="1"
    ) == {
        "TEACHER_SUBSET_SIZE": 20000,
        "TEACHER_MAX_STEPS": 300,
        "TEACHER_FOLDS": (0,),
        "SKIP_QWEN": True,
    }
    assert read(
        4,
        INFER_FOLDS="0",
        INFER_MODELS="llama",
        INFER_PREFER_LORA="1",
        INFER_LLAMA_SUBSET="15000-20000",
        INFER_LOGPROB_BATCH="8",
        INFER_PROGRESS_EVERY="5",
    ) == {
        "INFER_FOLDS": (0,),
        "INFER_MODELS": ("llama",),
        "INFER_PREFER_LORA": True,
        "INFER_LLAMA_SUBSET": (15000, 20000),
        "INFER_LOGPROB_BATCH": 8,
        "INFER_PROGRESS_EVERY": 5,
    }
    assert read(5, FOLDS="0", STUDENT_EPOCHS="2") == {"FOLDS": (0,), "STUDENT_EPOCHS": 2.0}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("TEACHER_FOLDS", "2, 0,2", (0, 2)),
        ("TEACHER_FOLDS", "0 1", (0, 1)),
        ("TEACHER_SUBSET_SIZE", "-1", -1),
        ("TEACHER_LR", "1e-5", 1e-5),
        ("TEACHER_TIME_BUDGET_HOURS", ".5", 0.5),
        ("SKIP_MY_MODEL", "0", False),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert read(3, **{name: text}) == {name: value}


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("TEACHER_FOLDS", "0;1", "folds with commas"),
        ("TEACHER_SUBSET_SIZE", "-2", "a whole number, -1 or more"),
        ("TEACHER_SUBSET_SIZE", "20k", "a whole number"),
        ("TEACHER_MAX_STEPS", "3.5", "a whole number"),
        ("TEACHER_LR", "-1", "a number above 0"),
        ("TEACHER_LR", "nan", "a number above 0"),
        ("STUDENT_EPOCHS", "0", "a number above 0"),
        ("SKIP_QWEN", "yes", "0 or 1"),
        ("INFER_PREFER_LORA", "0", "never merged"),
        ("INFER_LLAMA_SUBSET", "20000-15000", "a range such as 15000-20000"),
        ("INFER_LLAMA_SUBSET", "0", "a number of votes"),
        ("INFER_MODELS", "llama;rm", "names of models"),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 9])
def test_malformed_values_are_refused_at_every_step(step: int, name: str, text: str, hint: str) -> None:
    with pytest.raises(TiebreakError, match=f"{name}='{text}' should be .*{hint}"):
        read(step, **{name: text})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TEACHER_FOLD", "TEACHER_FOLDS"),
        ("INFER_MODEL", "INFER_MODELS"),
        ("STUDENT_EPOCH", "STUDENT_EPOCHS"),
        ("INFER_LAMA_SUBSET", "INFER_LLAMA_SUBSET"),
        ("FOLD", "FOLDS"),
        ("RUN_STAGES", "RUN_STAGE"),
        ("USE_WEIGHT", "USE_WEIGHTED"),
        ("SCRATCH_BASES", "SCRATCH_BASE"),
    ],
)
def test_unknown_names_of_our_pattern_are_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(TiebreakError, match=f"unknown variable {name}; did you mean '{nearest}'"):
        read(2, **{name: "1"})


def test_others_are_left_alone() -> None:
    assert read(3, PATH="/bin", SLURM_JOB_ID="7", FOLDS="0", TEACHER_LR="", STUDENT_EPOCHS="2") == {}


def test_every_key_is_one_of_the_recipe() -> None:
    for variable in TABLE:
        section: object = Recipe
        for part in variable.key.split(".") if variable.key else ():
            if part in ("*", "<model>"):
                continue
            fields = getattr(section, "model_fields", None) or _model_fields()
            assert part in fields, variable
            section = fields[part].annotation


def _model_fields() -> dict[str, object]:
    """The fields of a model, for keys that go through models.teachers.*."""
    from tiebreak.recipe.models import Model

    return dict(Model.model_fields)


def test_the_documentation_and_the_scripts_have_every_variable(repository: Path) -> None:
    page = (repository / "docs" / "slurm.md").read_text()
    for variable in TABLE:
        assert f"| `{variable.name}` |" in page, variable.name
        assert variable.meaning in page, variable.meaning
        for step in variable.steps:
            (script,) = (repository / "slurm").glob(f"step{step}_*.sh")
            assert variable.name.replace("<MODEL>", "LLAMA") in script.read_text()


def test_a_count_is_a_whole_number_or_the_first_of_some() -> None:
    assert [count({"N": text}, "N", 7) for text in ("3", " 8,2 ", "", "0")] == [3, 8, 7, 0]
    assert count({}, "N", 7) == 7
    for text in ("abc", "-1", "1.5", "3,", "1_0"):
        with pytest.raises(TiebreakError, match=r"N is .*, not a whole number; correct it or unset it"):
            count({"N": text}, "N", 7)
