"""Tests of recipe files: errors, overrides, folds by override, writing."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from tiebreak.commands.init import preset_text
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import fold_sections
from tiebreak.recipe import loader

LEAST = {
    "name": "least",
    "data": {"votes": ["votes.csv"]},
    "models": {"teachers": {"llama": {"base": "a/b"}}, "student": {"base": "c/d"}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(LEAST))
    return file


def test_a_missing_recipe_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match="tiebreak init"):
        loader.load(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- a", "holds list")])
def test_a_file_that_is_no_recipe(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(TiebreakError, match=message):
        loader.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\nseed: 1\n", r"the key 'seed' is there twice\s.*line 2, column 1"),
        ("split: {count: 3,\n count: 4}\n", r"the key 'count' is there twice\s.*line 2, column 2"),
    ],
)
def test_a_key_that_is_there_twice_is_named_with_its_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(TiebreakError, match=message):
        loader.load(path)


def test_a_key_may_change_what_an_anchor_brings(path: Path) -> None:
    path.write_text(preset_text("tiny"))
    assert loader.load(path).teach.training.learning_rate == 1e-3


def test_overrides_reach_any_depth(path: Path) -> None:
    changed = loader.load(path, ["teach.training.epochs=0.5", "logits.subset_votes=[10, 20]", "seed=3"])
    assert changed.teach.training.epochs == 0.5
    assert changed.logits.subset_votes == (10, 20)
    assert changed.seed == 3
    assert changed.models.student.base == "c/d"


def test_an_override_changes_one_of_two_sections_that_share_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    text = yaml.safe_load(preset_text("tiny"))
    text["teach"]["training"] = text["distill"]["training"] = {"epochs": 1}
    path.write_text(yaml.safe_dump(text))
    assert "*id" in path.read_text()
    changed = loader.load(path, ["teach.training.epochs=0.5"])
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
        loader.load(path, [override])


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
def test_folds_restrict_a_step_and_those_after_it(steps: tuple[str, ...], sections: list[str]) -> None:
    found = loader.fold_overrides((0, 2), fold_sections(steps))
    assert found == tuple(f"{section}.folds=[0, 2]" for section in sections)


OLDER = {
    "split": {"soup_share": 0.2},
    "post_pretrain": {"subset_rows": 5},
    "teach": {"subset_rows": 7},
    "logits": {"subset_rows": [1, 2], "subset_rows_of": {"llama": 3}},
}


def test_older_names_of_keys_are_read_with_one_note_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_note_renamed", cache(loader._note_renamed.__wrapped__))
    caplog.set_level("INFO", "tiebreak")
    read = loader.parse(LEAST | OLDER, "here")
    assert read.split.calibration_share == 0.2
    assert (read.post_pretrain.subset_votes, read.teach.subset_votes) == (5, 7)
    assert (read.logits.subset_votes, read.logits.subset_votes_of) == ((1, 2), {"llama": 3})
    assert sorted(caplog.messages) == [
        "note: the recipe key soup_share is now called calibration_share; the old name is read as well",
        "note: the recipe key subset_rows is now called subset_votes; the old name is read as well",
        "note: the recipe key subset_rows_of is now called subset_votes_of; the old name is read as well",
    ]
    assert loader.parse(yaml.safe_load(loader.dump(read)), "dump") == read
    assert "subset_rows" not in loader.dump(read)


@pytest.mark.parametrize(
    "override",
    [
        "teach.subset_votes=9",
        "teach.subset_rows=9",
        "teach={subset_rows: 9}",
        "logits.subset_rows_of.llama=9",
        "logits.subset_votes_of={llama: 9}",
    ],
)
def test_overrides_win_by_either_name(override: str) -> None:
    for tree in (OLDER, loader.parse(LEAST | OLDER, "here").model_dump(mode="json")):
        read = loader.parse(LEAST | tree, "here", [override])
        assert 9 in (read.teach.subset_votes, read.logits.subset_votes_of["llama"])


def test_a_key_by_both_its_names_is_refused() -> None:
    with pytest.raises(TiebreakError, match=r"here: split.soup_share is the older name of split.calibration"):
        loader.parse(LEAST | {"split": {"soup_share": 0.1, "calibration_share": 0.1}}, "here")


def test_no_folds_restrict_nothing() -> None:
    assert loader.fold_overrides((), ("teach",)) == ()


def test_a_dumped_recipe_is_the_same_recipe() -> None:
    whole = loader.parse(LEAST | {"logits": {"subset_votes": [1, 2]}, "seed": 4}, "here")
    assert loader.parse(yaml.safe_load(loader.dump(whole)), "dump") == whole


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "a: &a [*a]\n",
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
    ],
)
def test_aliases_that_unfold_without_end_are_refused_at_once(path: Path, bomb: str) -> None:
    path.write_text(bomb)
    with pytest.raises(TiebreakError, match="aliases unfold to more than 100,000 values"):
        loader.load(path)


def test_an_alias_may_be_used_twice(path: Path) -> None:
    path.write_text(path.read_text() + "teach:\n  training: &t {epochs: 2}\ndistill:\n  training: *t\n")
    recipe = loader.load(path)
    assert recipe.teach.training.epochs == recipe.distill.training.epochs == 2


def test_a_file_of_votes_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("id,prompt: a: b\n1,2\n")
    with pytest.raises(TiebreakError, match=r"is no recipe, which is YAML; .* tiebreak init NAME --votes"):
        loader.load(tmp_path / "votes.csv")


@pytest.mark.parametrize(
    "value",
    [
        "2024-13-45",
        "9" * 5000,
        "[" * 5000,
        "0x" + "f" * 6000,
        "1" + ":59" * 6000,
        "1" + ":59" * 6000 + ".5",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
    ],
)
def test_values_that_are_none_are_one_clear_error(path: Path, value: str) -> None:
    with pytest.raises(TiebreakError, match="is not a YAML value"):
        loader.load(path, [f"name={value}"])
    path.write_text(f"name: {value}\n")
    with pytest.raises(TiebreakError, match="is not valid YAML"):
        loader.load(path)


@pytest.mark.parametrize(
    "key", ["run_dir", "data.votes", "data.solution", "models.student.base", "slurm.profile"]
)
@pytest.mark.parametrize("text", ["~nosuchuser/x", "a\\0b", "\\ud800"])
def test_what_is_no_path_is_refused(path: Path, key: str, text: str) -> None:
    value = f'["{text}"]' if key == "data.votes" else f'"{text}"'
    with pytest.raises(TiebreakError, match=f"{key}.*is no path"):
        loader.load(path, [f"{key}={value}"])
