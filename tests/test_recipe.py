"""The recipe: what it refuses and how it says so, overrides, folds, the presets."""

import json
from pathlib import Path

import pytest
import yaml

from tiebreak import recipe
from tiebreak.errors import TiebreakError
from tiebreak.execute.start import preset_text, presets

LEAST = {
    "name": "least",
    "data": {"votes": ["votes.csv"]},
    "models": {"teachers": {"llama": {"base": "a/b"}}, "student": {"base": "c/d"}},
}


def parse(**changes: object) -> recipe.Recipe:
    return recipe.parse(LEAST | changes, "here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(LEAST))
    return file


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_recipe(name: str) -> None:
    assert recipe.parse(yaml.safe_load(preset_text(name)), name).name == name


def test_there_are_the_four_presets() -> None:
    assert presets() == ["one-gpu", "published", "sc4000", "tiny"]


def test_published_has_the_published_numbers() -> None:
    published = recipe.parse(yaml.safe_load(preset_text("published")), "published")
    assert published.folds("distill") == (0, 1, 2, 3, 4)
    assert published.models.teachers.keys() == {"llama", "qwen"}
    assert {model.precision for model in published.models.teachers.values()} == {"nf4"}
    lora = published.models.student.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (64, 128, 0.05)
    assert published.teach.training == recipe.Training(
        learning_rate=1e-5,
        epochs=2,
        rows_per_step=64,
        max_tokens=1024,
        warmup_steps=100,
        weight_decay=0,
        gradient_clip=1,
        orders_together=False,
    )
    assert published.distill.training.learning_rate == 5e-5
    weights = published.distill
    assert (weights.label_weight, weights.kl_weight, weights.cosine_weight) == (0.2, 0.2, 0.2)
    assert (published.quantize.bits, published.quantize.group, published.quantize.calibration_rows) == (
        8,
        128,
        128,
    )
    assert (published.tta.max_tokens, published.tta.both_orders) == (2000, True)


def test_sc4000_has_the_users_numbers() -> None:
    user = recipe.parse(yaml.safe_load(preset_text("sc4000")), "sc4000")
    assert user.folds("teach") == (0, 1, 2)
    assert user.models.teachers.keys() == {"llama"}
    assert (user.teach.subset_rows, user.teach.training.max_steps) == (20000, 300)
    assert user.logits.subset_rows == (15000, 20000)
    assert user.distill.training.epochs == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "sed: unknown key; did you mean 'seed'"),
        ({"teach": {"training": {"learning_rat": 1}}}, "did you mean 'learning_rate'"),
        ({"models": LEAST["models"] | {"teachers": {"x": {"bas": "y"}}}}, "did you mean 'base'"),
        ({"split": {"count": 1}}, r"split.count: .*greater than or equal to 2 \(got 1\)"),
        ({"name": "no spaces"}, "name: "),
        ({"models": {"teachers": {}, "student": {"base": "x"}}}, "models.teachers: "),
        ({"models": LEAST["models"] | {"teachers": {"../x": {"base": "y"}}}}, "models.teachers.*pattern"),
        (
            {"models": LEAST["models"] | {"teachers": {"student": {"base": "y"}}}},
            "a teacher named student has to be",
        ),
        ({"teach": {"folds": [7]}}, r"teach.folds names \[7\], but the step before has \[0, 1, 2, 3, 4\]"),
        ({"teach": {"folds": [0]}, "distill": {"folds": [1]}}, r"distill.folds names \[1\]"),
        ({"teach": {"folds": []}}, "teach.folds: .*at least 1 item"),
        ({"teach": {"training": {"max_steps": 0}}}, "should be -1, for all, or greater than 0, not 0"),
        ({"teach": {"subset_rows": -7}}, "greater than 0, not -7"),
        ({"distill": {"temperature": float("inf")}}, "finite number"),
        (
            {"distill": dict.fromkeys(("label_weight", "kl_weight", "cosine_weight"), 0)},
            "nothing to learn from",
        ),
        ({"seed": 10**20}, "seed: .*less than"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TiebreakError, match=f"(?s)here:\n.*{message}"):
        parse(**changes)


def test_a_missing_recipe_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match="tiebreak init"):
        recipe.load(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- a", "holds list")])
def test_a_file_that_is_no_recipe(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(TiebreakError, match=message):
        recipe.load(path)


def test_overrides_reach_any_depth(path: Path) -> None:
    changed = recipe.load(path, ["teach.training.epochs=0.5", "logits.subset_rows=[10, 20]", "seed=3"])
    assert changed.teach.training.epochs == 0.5
    assert changed.logits.subset_rows == (10, 20)
    assert changed.seed == 3
    assert changed.models.student.base == "c/d"


def test_an_override_changes_one_of_two_sections_that_share_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    text = yaml.safe_load(preset_text("tiny"))
    text["teach"]["training"] = text["distill"]["training"] = {"epochs": 1}
    path.write_text(yaml.safe_dump(text))
    assert "*id" in path.read_text()
    changed = recipe.load(path, ["teach.training.epochs=0.5"])
    assert (changed.teach.training.epochs, changed.distill.training.epochs) == (0.5, 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set takes a.b=value"),
        ("seed.deep=1", "holds a value, not a section"),
        ("seed=[", "not a YAML value"),
        ("sed=1", "did you mean 'seed'"),
    ],
)
def test_a_wrong_override_is_named(path: Path, override: str, message: str) -> None:
    path.write_text(yaml.safe_dump(LEAST | {"seed": 1}))
    with pytest.raises(TiebreakError, match=message):
        recipe.load(path, [override])


def test_a_step_without_folds_has_those_of_the_step_before() -> None:
    assert parse(split={"count": 3}).folds("distill") == (0, 1, 2)
    chosen = parse(split={"count": 3}, teach={"folds": [2, 0]})
    assert (chosen.folds("teach"), chosen.folds("logits"), chosen.folds("distill")) == ((0, 2),) * 3


def test_what_a_teachers_own_term_leaves_out_is_that_of_distill() -> None:
    whole = parse(
        distill={"temperature": 5, "cosine_weight": 0, "per_teacher": {"llama": {"kl_weight": 0.5}}}
    )
    llama = recipe.TeacherTerm(kl_weight=0.5, cosine_weight=0, temperature=5)
    assert whole.distill.per_teacher == {"llama": llama}
    assert recipe.parse(yaml.safe_load(recipe.dump(whole)), "dump").distill.per_teacher == {"llama": llama}
    named = parse(distill={"temperature": 5, "per_teacher": {"llama": {"temperature": 1.0}}})
    assert named.distill.per_teacher["llama"].temperature == 1.0  # the default, but said


@pytest.mark.parametrize(
    ("steps", "sections"),
    [
        ((), ["teach", "logits", "distill"]),
        (("teach",), ["teach", "logits", "distill"]),
        (("score",), ["logits", "distill"]),
        (("distill", "average"), ["distill"]),
        (("average",), ["teach", "logits", "distill"]),
    ],
)
def test_folds_confine_a_step_and_those_after_it(steps: tuple[str, ...], sections: list[str]) -> None:
    assert recipe.fold_overrides((0, 2), steps) == tuple(f"{section}.folds=[0, 2]" for section in sections)


def test_no_folds_confine_nothing() -> None:
    assert recipe.fold_overrides((), ("teach",)) == ()


def test_a_dumped_recipe_is_the_same_recipe() -> None:
    whole = parse(logits={"subset_rows": [1, 2]}, seed=4)
    assert recipe.parse(yaml.safe_load(recipe.dump(whole)), "dump") == whole


def test_the_schema_describes_every_section() -> None:
    schema = recipe.schema()
    json.dumps(schema)
    assert schema["properties"].keys() == recipe.Recipe.model_fields.keys()
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"logits": {"max_tokens": 300}},
            "logits.max_tokens is 300, less than twice prompt.prompt_tokens 256",
        ),
        ({"distill": {"per_teacher": {"lama": {}}}}, "no such teacher; did you mean 'llama'?"),
    ],
)
def test_what_our_own_checks_find_is_said_without_the_whole_recipe(changes: dict, said: str) -> None:
    with pytest.raises(TiebreakError) as error:
        parse(**changes)
    assert said in str(error.value)
    assert "votes.csv" not in str(error.value)
