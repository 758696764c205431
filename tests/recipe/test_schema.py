"""Tests of the recipe's schema: errors and their messages, folds, presets."""

import json

import pytest
import yaml

from tiebreak.commands.init import preset_text
from tiebreak.errors import TiebreakError
from tiebreak.recipe import loader, schema
from tiebreak.recipe.basics import presets
from tiebreak.recipe.values import ROLES

LEAST = {
    "name": "least",
    "data": {"votes": ["votes.csv"]},
    "models": {"teachers": {"llama": {"base": "a/b"}}, "student": {"base": "c/d"}},
}


def parse(**changes: object) -> schema.Recipe:
    return loader.parse(LEAST | changes, "here")


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_recipe(name: str) -> None:
    assert loader.parse(yaml.safe_load(preset_text(name)), name).name == name


def test_there_are_these_presets() -> None:
    assert presets() == ["modern", "modern-small", "one-gpu", "published", "sc4000", "small", "tiny"]


@pytest.mark.parametrize("name", sorted({*presets()} - {"published", "tiny"}))
def test_lora_has_more_than_the_published_learning_rate(name: str) -> None:
    made = loader.parse(yaml.safe_load(preset_text(name)), name)
    assert made.teach.training.learning_rate >= 1e-4
    assert made.distill.training.learning_rate >= 2e-4


def test_published_has_the_published_numbers() -> None:
    published = loader.parse(yaml.safe_load(preset_text("published")), "published")
    assert published.folds("distill") == (0, 1, 2, 3, 4)
    assert published.models.teachers.keys() == {"llama", "qwen"}
    assert {model.precision for model in published.models.teachers.values()} == {"nf4"}
    lora = published.models.student.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (64, 128, 0.05)
    assert published.teach.training == schema.Training(
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
    user = loader.parse(yaml.safe_load(preset_text("sc4000")), "sc4000")
    assert user.folds("teach") == (0, 1, 2)
    assert user.models.teachers.keys() == {"llama"}
    assert (user.teach.subset_votes, user.teach.training.max_steps) == (20000, 300)
    assert user.logits.subset_votes == (15000, 20000)
    assert user.distill.training.epochs == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "sed: unknown key; did you mean 'seed'"),
        ({"teach": {"training": {"learning_rat": 1}}}, "did you mean 'learning_rate'"),
        ({"models": LEAST["models"] | {"teachers": {"x": {"bas": "y"}}}}, "did you mean 'base'"),
        ({"split": {"count": 1}}, "split.count: should be 2 or more, and is 1$"),
        ({"name": "no spaces"}, "name: "),
        ({"models": {"teachers": {}, "student": {"base": "x"}}}, "models.teachers: "),
        (
            {"models": LEAST["models"] | {"teachers": {"../x": {"base": "y"}}}},
            "models.teachers.*should be letters, digits and",
        ),
        (
            {"models": LEAST["models"] | {"teachers": {"student": {"base": "y"}}}},
            "a teacher named student has to be",
        ),
        ({"teach": {"folds": [7]}}, r"teach.folds names \[7\], but the step before has \[0, 1, 2, 3, 4\]"),
        ({"teach": {"folds": [0]}, "distill": {"folds": [1]}}, r"distill.folds names \[1\]"),
        ({"teach": {"folds": []}}, "teach.folds: should be of 1 entries or more"),
        ({"teach": {"training": {"max_steps": 0}}}, "should be -1, for all, or greater than 0, not 0"),
        ({"teach": {"subset_votes": -7}}, "greater than 0, not -7"),
        ({"distill": {"temperature": float("inf")}}, "finite number"),
        ({"distill": {"per_teacher": {"llama": {"kl_wieght": 1}}}}, "did you mean 'kl_weight'"),
        ({"logits": {"subset_votes": 0}}, "should be -1, for all, or greater than 0, not 0"),
        (
            {"logits": {"subset_votes": [20000, 15000]}},
            r"goes up from 1 or more, and \[20000, 15000\] does not",
        ),
        ({"logits": {"subset_votes_of": {"llama": [-5, 3]}}}, r"\[-5, 3\] does not"),
        (
            {"split": {"lockbox_share": 0.9, "calibration_share": 0.1}},
            "are 1 together: nothing is left to train on",
        ),
        (
            {"split": {"calibration_share": 0}, "logits": {"soft_labels": "out_of_fold"}},
            "no votes are left to calibrate on; use --set split.calibration_share=0.1",
        ),
        (
            {"average": {"method": "soup"}},
            "average.method: greedy soups gained next to nothing and are gone; use exact",
        ),
        (
            {"average": {"method": "weighted"}},
            "average.method: weighted averages gained next to nothing and are gone; use exact",
        ),
        ({"slurm": {"steps": {"taech": {"minutes": 5}}}}, "no step is called 'taech'; did you mean 'teach'"),
        (
            {"distill": dict.fromkeys(("label_weight", "kl_weight", "cosine_weight"), 0)},
            "nothing to learn from",
        ),
        ({"seed": 10**20}, "seed: should be below 9223372036854775808"),
        ({"split": 3}, "split: should be a section with keys of its own, and is 3$"),
        ({"split": {"count": "x"}}, "split.count: should be a whole number, and is 'x'"),
        ({"compute": {"device": "gpu"}}, "device: should be 'auto', 'cpu' or 'cuda', and is 'gpu'"),
        ({"compute": {"shard_model": "maybe"}}, "shard_model: should be true or false, and is 'maybe'"),
        ({"data": {"votes": "a.csv"}}, r"data.votes: should be a list, such as \[a, b\], and is 'a.csv'"),
        ({"data": {}}, "data.votes: it is missing, and has no default"),
        ({"models": {"student": {"base": "x"}}}, "models.teachers: it is missing"),
        ({"logits": {"subset_votes": "x"}}, "subset_votes: should be a whole number, or a list, such as"),
        ({"logits": {"subset_votes": [1, "b"]}}, "subset_votes.1: should be a whole number, and is 'b'"),
    ],
)
def test_errors_name_the_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TiebreakError, match=f"(?s)here:\n.*{message}"):
        parse(**changes)


LIMITED = [
    ("logits.shards", 10**6),
    ("teach.training.epochs", 1e9),
    ("teach.training.max_tokens", 10**9),
    ("teach.training.max_steps", 10**12),
    ("logits.subset_votes", [5, 10**12]),
    ("models.student.lora.rank", 10**6),
    ("compute.workers", 10**6),
    ("compute.processes", 10**9),
    ("evaluate.bootstrap_samples", 10**9),
    ("slurm.minutes", 10**9),
]


@pytest.mark.parametrize(("key", "value"), LIMITED)
def test_a_number_that_nobody_needs_is_refused_unless_limits_are_lifted(key: str, value: object) -> None:
    override = f"{key}={value}"
    with pytest.raises(
        TiebreakError, match=f"{key}: is .*taken for a slip; --set compute.check_limits=false"
    ):
        loader.parse(LEAST, "here", [override])
    lifted = loader.parse(LEAST, "here", [override, "compute.check_limits=false"])
    assert loader.parse(yaml.safe_load(loader.dump(lifted)), "dump") == lifted


def test_a_recipe_of_a_million_tasks_is_refused_unless_limits_are_lifted() -> None:
    teachers = {f"t{n}": {"base": "a/b"} for n in range(50)}
    changes = {"models": LEAST["models"] | {"teachers": teachers}, "split": {"count": 20}}
    many = ["logits.shards=1000"]
    with pytest.raises(TiebreakError, match=r"50 teachers, 20 folds .* make 1,001,050 tasks"):
        loader.parse(LEAST | changes, "here", many)
    lifted = loader.parse(LEAST | changes, "here", [*many, "compute.check_limits=false"])
    assert lifted.logits.shards == 1000
    assert loader.parse(LEAST | changes, "here", ["logits.shards=8"]).logits.shards == 8


def test_a_step_without_folds_has_those_of_the_step_before() -> None:
    assert parse(split={"count": 3}).folds("distill") == (0, 1, 2)
    chosen = parse(split={"count": 3}, teach={"folds": [2, 0]})
    assert (chosen.folds("teach"), chosen.folds("logits"), chosen.folds("distill")) == ((0, 2),) * 3


def test_a_teachers_own_term_defaults_to_that_of_distill() -> None:
    whole = parse(
        distill={"temperature": 5, "cosine_weight": 0, "per_teacher": {"llama": {"kl_weight": 0.5}}}
    )
    llama = schema.TeacherTerm(kl_weight=0.5, cosine_weight=0, temperature=5)
    assert whole.distill.per_teacher == {"llama": llama}
    assert loader.parse(yaml.safe_load(loader.dump(whole)), "dump").distill.per_teacher == {"llama": llama}
    named = parse(distill={"temperature": 5, "per_teacher": {"llama": {"temperature": 1.0}}})
    assert named.distill.per_teacher["llama"].temperature == 1.0  # the default, but said


def test_the_schema_describes_every_section() -> None:
    described = schema.Recipe.model_json_schema()
    json.dumps(described)
    assert described["properties"].keys() == schema.Recipe.model_fields.keys()
    assert described["additionalProperties"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"logits": {"max_tokens": 300}},
            "logits.max_tokens is 300, less than twice prompt.prompt_tokens 256",
        ),
        (
            {"average": {"blend": "log"}, "baseline": {"enabled": False}},
            "there is nothing to blend with; use --set baseline.enabled=true",
        ),
        (
            {"distill": {"students": "one"}},
            "distill.students one learns from the votes of all folds",
        ),
        ({"distill": {"per_teacher": {"lama": {}}}}, "no such teacher; did you mean 'llama'?"),
    ],
)
def test_errors_of_our_own_validators_do_not_print_the_whole_recipe(changes: dict, message: str) -> None:
    with pytest.raises(TiebreakError) as error:
        parse(**changes)
    assert message in str(error.value)
    assert "votes.csv" not in str(error.value)


def test_files_by_role_are_those_that_are_there_in_the_order_of_the_ingest() -> None:
    data = {"test": ["t"], "extra": ["e", "f"], "votes": ["v"], "solution": "s"}
    assert list(parse(data=data).data.files().items()) == [
        ("votes", ("v",)),
        ("extra", ("e", "f")),
        ("test", ("t",)),
    ]
    assert set(ROLES) < set(schema.Data.model_fields)
