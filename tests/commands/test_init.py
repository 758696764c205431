"""Initialisation from a preset: complete, ready to plan, and never over existing files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tiebreak.commands import init as start_module
from tiebreak.commands.init import MADE_UP, init_recipe, preset_text
from tiebreak.engine.planner import plan
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.recipe import loader, schema
from tiebreak.votes.formats.mapping import parse

PAIR = {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "tie"}


def test_tiny_has_votes_and_models_and_can_be_planned(tmp_path: Path) -> None:
    path = init_recipe(tmp_path / "trial", "tiny", synthetic=200)
    work = Workspace(path)
    assert work.recipe.name == "trial"
    assert (tmp_path / "trial" / "models" / "llama" / "config.json").is_file()
    assert {state.status for state in plan(work)} == {"missing"}
    with pytest.raises(TiebreakError, match="exists"):
        init_recipe(tmp_path / "trial", "tiny")


def test_an_existing_recipe_is_named_as_typed(tmp_path: Path) -> None:
    path = init_recipe(tmp_path / "my runs" / "trial", "sc4000")
    with pytest.raises(TiebreakError, match=f"use it with: tiebreak run '{path}', or"):
        init_recipe(path.parent, "sc4000")


def test_the_same_seed_makes_the_same_keys(tmp_path: Path) -> None:
    works = [Workspace(init_recipe(tmp_path / name, "tiny", synthetic=200, seed=3)) for name in ("a", "b")]
    first, second = ({task.id: work.key(task) for task in work.tasks} for work in works)
    assert {task for task in first if first[task] != second[task]} <= {"evaluate/report"}  # knows the name


def test_given_votes_replace_the_presets_data(tmp_path: Path) -> None:
    votes = tmp_path / "my votes.jsonl"
    rows = [
        {"prompt": f"question {n}", "response_a": "yes", "response_b": "no", "winner": "model_a"}
        for n in range(5)
    ]
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = loader.load(init_recipe(tmp_path / "mine", "tiny", votes=[votes]))
    assert made.data == schema.Data(votes=(str(votes),))
    assert made.models.student.base == "models/gemma"
    assert (tmp_path / "mine" / "models" / "gemma" / "tokenizer.json").is_file()
    assert not (tmp_path / "mine" / "data").exists()


def test_given_votes_that_are_few_or_alike_are_warned_of(tmp_path: Path, caplog) -> None:
    (tmp_path / "ties.jsonl").write_text("".join(json.dumps(PAIR | {"id": n}) + "\n" for n in range(300)))
    (tmp_path / "few.jsonl").write_text(json.dumps(PAIR) + "\n" + json.dumps(PAIR | {"winner": "model_a"}))
    init_recipe(tmp_path / "one", "tiny", votes=[tmp_path / "ties.jsonl"])
    init_recipe(tmp_path / "two", "tiny", votes=[tmp_path / "few.jsonl"])
    assert [message.split(":")[0] for message in caplog.messages] == [
        "all 300 votes are ties",
        "2 votes are few to learn from",
    ]
    init_recipe(tmp_path / "three", "tiny", synthetic=100)
    assert len(caplog.messages) == 2, "made-up votes are as many as were asked for"


def test_other_presets_keep_their_comments_and_make_no_models(tmp_path: Path) -> None:
    path = init_recipe(tmp_path / "big", "sc4000")
    expected = preset_text("sc4000").replace("name: sc4000", 'name: "big"')
    assert path.read_text() == expected
    assert [item.name for item in path.parent.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("preset", ["published", "one-gpu"])
def test_files_are_put_into_any_preset(preset: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("prompt,response_a,response_b,winner\nq,x,y,tie\n")
    (tmp_path / "p.csv").write_text("prompt,chosen,rejected\nq,x,y\n")
    path = init_recipe(tmp_path / "n", preset, votes=[tmp_path / "v.csv"], preferences=[tmp_path / "p.csv"])
    made = loader.load(path)
    assert made.data.votes == (str(tmp_path / "v.csv"),)
    assert made.data.preferences == (str(tmp_path / "p.csv"),)
    assert made.models == loader.load(init_recipe(tmp_path / "o", preset)).models


@pytest.mark.parametrize(("name", "votes"), [("josé", 100), ("b\\x", 100), ("few", 60), ("many", 10**9)])
def test_refused_options_leave_no_files(name: str, votes: int, tmp_path: Path) -> None:
    with pytest.raises(
        TiebreakError, match=r"should be letters, digits|are too few|more than can be made up"
    ):
        init_recipe(tmp_path / name, "tiny", synthetic=votes)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("preset", ["tiny", "one-gpu"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"no usable votes in .*v\.csv: no rows"),
        (b"x,y\n1,2\n", r"v\.csv has the columns x, y"),
        (b"prompt,response_a,response_b,winner\nq,x,y,left\n", r"v\.csv: 1 unknown winner"),
        (json.dumps([PAIR, PAIR])[:-1].encode(), r"v\.csv cannot be read from here on"),
    ],
)
def test_unreadable_votes_leave_no_files(content: bytes, message: str, preset: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_bytes(content)
    (tmp_path / "good.json").write_text(json.dumps([PAIR]))
    with pytest.raises(TiebreakError, match=message):
        init_recipe(tmp_path / "mine", preset, votes=[tmp_path / "v.csv"])
    with pytest.raises(TiebreakError, match=message):
        init_recipe(tmp_path / "mine", preset, [tmp_path / "good.json"], preferences=[tmp_path / "v.csv"])
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match=f"seed {seed} is not in the range 0 to {2**63 - 1}"):
        init_recipe(tmp_path / "new", "tiny", synthetic=100, seed=seed)
    assert not (tmp_path / "new").exists()


def test_the_largest_seed_is_valid(tmp_path: Path) -> None:
    assert init_recipe(tmp_path / "new", "tiny", synthetic=100, seed=2**63 - 1).is_file()


@pytest.mark.parametrize("folder", ["v.csv", "/proc/x"])
def test_a_folder_that_cannot_be_made_is_named(folder: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(json.dumps([PAIR]))
    with pytest.raises(TiebreakError, match=f"cannot write to the folder .*{folder}: .*; name another"):
        init_recipe(tmp_path / folder, "tiny", votes=[tmp_path / "v.csv"])


def test_a_failure_removes_only_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        (tmp_path / "models" / "half").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(start_module, "_make_models", interrupted)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").touch()
    with pytest.raises(KeyboardInterrupt):
        init_recipe(tmp_path, "tiny", synthetic=100)
    assert (tmp_path / "data" / "mine.csv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_only_tiny_has_synthetic_votes(tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match="--synthetic is for the preset tiny; give sc4000 files"):
        init_recipe(tmp_path / "new", "sc4000", synthetic=200)
    assert not (tmp_path / "new").exists()


def test_files_of_every_role_and_their_mapping(tmp_path: Path) -> None:
    pair = {"question": "q", "output_1": "x", "output_2": "y"}
    (tmp_path / "v.json").write_text(json.dumps([pair | {"label": label} for label in (0, 1, 2)]))
    (tmp_path / "p.json").write_text(json.dumps([pair]))
    files = {
        role: [tmp_path / f"{name}.json"]
        for role, name in (("extra", "v"), ("unlabelled", "p"), ("test", "p"))
    }
    mapping = parse(["winner=label"], ["0=a,1=b,2=tie"])
    path = init_recipe(tmp_path / "n", "sc4000", [tmp_path / "v.json"], **files, mapping=mapping)
    data = loader.load(path).data
    assert (data.extra, data.test) == ((str(tmp_path / "v.json"),), (str(tmp_path / "p.json"),))
    assert data.unlabelled == data.test
    assert (data.columns, data.values) == ({"winner": "label"}, {"0": "a", "1": "b", "2": "tie"})
    with pytest.raises(TiebreakError, match=r"no column 'labl' in .*; did you mean 'label'"):
        init_recipe(tmp_path / "m", "sc4000", [tmp_path / "v.json"], mapping=parse(["winner=labl"], []))
    with pytest.raises(TiebreakError, match="--extra come with votes of your own: --votes FILE"):
        init_recipe(tmp_path / "m", "tiny", extra=[tmp_path / "v.json"])
    assert not (tmp_path / "m").exists()


def test_made_up_votes_are_called_so(tiebreak: Any, tmp_path: Path) -> None:
    code, _, err = tiebreak("init", tmp_path / "new", "--synthetic", "100")
    assert code == 0
    assert MADE_UP in err
    assert f"# {MADE_UP}" in (tmp_path / "new" / "recipe.yaml").read_text()
