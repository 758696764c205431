"""`tiebreak push` and models by name, with the real client and a hub on this machine."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_hub import OWNER, TOKEN, FakeHub, Refusal, fake_hub, point_to, use
from huggingface_hub import HfApi, ModelCard
from shipped_judge import ship

import tiebreak as package
from tiebreak.commands.push import push
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.judge.location import locate

NAME = f"{OWNER}/judge"
CARD = """---
library_name: transformers
pipeline_tag: text-classification
tags: [tiebreak]
model-index:
- name: judge
  results:
  - task: {type: text-classification, name: which of two answers is preferred}
    dataset: {name: lockbox votes, type: votes}
    metrics:
    - {type: log_loss, value: 0.92}
---
# judge

judge = tiebreak.load("path/to/this/folder")
"""
PAIRS = [
    {"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe."},
    {"prompt": "Why?", "response_a": "", "response_b": "Because of the wind."},
]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as server:
        use(server.url, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ship(tmp_path_factory.mktemp("shipped") / "model", seed=1)
    (folder / "README.md").write_text(CARD)
    (folder / ".env").write_text(f"HF_TOKEN={TOKEN}")
    (folder / "notes.md").write_text("not of the model")
    return folder


@pytest.fixture
def model(shipped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shipped, tmp_path / "model")


def predict(model: Path | str, **options: Any) -> np.ndarray:
    return package.load(model, device="cpu", **options).predict(PAIRS)


def test_what_is_pushed_and_loaded_by_name_predicts_the_same_to_the_bit(hub: FakeHub, model: Path) -> None:
    done = push(model, NAME)
    assert (done.address, done.private, done.changed) == (f"{hub.url}/{NAME}", False, True)
    assert np.array_equal(predict(NAME), predict(model))
    listed = json.loads((model / "tiebreak.json").read_text())["files"]
    assert hub.repositories[NAME].files.keys() == {".gitattributes", "README.md", "tiebreak.json", *listed}
    judge = package.load(NAME, device="cpu")
    assert judge.package.provenance == {"hub": NAME, "commit": done.commit}
    assert {file.name for file in judge.folder.iterdir()} == {"tiebreak.json", *listed}


def test_the_card_has_metadata_that_the_hub_s_client_reads(hub: FakeHub, model: Path) -> None:
    push(model, NAME, license_="mit")
    card: Any = ModelCard(hub.repositories[NAME].files["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "text-classification")
    assert [(r.metric_type, r.metric_value, r.dataset_name) for r in card.data.eval_results] == [
        ("log_loss", 0.92, "lockbox votes")
    ]
    assert f'tiebreak.load("{NAME}")' in card.text
    (model / "README.md").write_text(CARD.replace("---\n", "---\nlicense: apache-2.0\n", 1))
    push(model, NAME)
    assert b"\nlicense: apache-2.0\n" in hub.repositories[NAME].files["README.md"]
    assert "POST /api/validate-yaml" in hub.asked


def test_a_second_push_is_a_commit_in_which_files_of_the_first_model_are_gone(
    hub: FakeHub, model: Path
) -> None:
    first = push(model, NAME).commit
    repository = hub.repositories[NAME]
    repository.commit(repository.files | {"model-00002-of-00002.safetensors": b"x", "plots/a.png": b"y"})
    (model / "README.md").write_text(CARD + "More.\n")
    push(model, NAME)
    assert "model-00002-of-00002.safetensors" not in repository.files
    assert repository.files["plots/a.png"] == b"y"
    assert repository.files["README.md"].endswith(b"More.\n")
    assert np.array_equal(predict(NAME, revision=first), predict(model))
    assert not push(model, NAME).changed


def test_a_revision_is_pinned_and_recorded(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    first = push(model, NAME).commit
    hub.repositories[NAME].revisions["v1"] = first
    other = ship(tmp_path / "other", seed=2)
    (other / "README.md").write_text(CARD)
    second = push(other, NAME).commit
    assert np.array_equal(predict(NAME, revision="v1"), predict(model))
    assert np.array_equal(predict(NAME), predict(other))
    assert locate(f"{NAME}@v1").origin == {"hub": NAME, "commit": first}
    hub.repositories[NAME].revisions |= {"main": first, "v1": second}
    assert locate(NAME).origin["commit"] == second, "the cache's commit comes before the hub's"
    for name, revision, problem in (
        (NAME, "v9", "has no revision 'v9'"),
        (f"{NAME}@v1", "v1", "give one"),
        (model, "v1", "is a folder"),
        (f"{NAME}@../../x", None, "is no branch, tag or commit"),
    ):
        with pytest.raises(TiebreakError, match=problem):
            package.load(name, revision=revision)


def test_offline_the_cache_is_enough_and_nothing_else_is_asked(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, NAME)
    expected = predict(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert np.array_equal(predict(NAME), expected)
    with pytest.raises(TiebreakError, match="the hub is out of reach"):
        package.load(f"{OWNER}/other")
    assert hub.asked == []


def test_a_byte_that_flips_on_the_hub_is_seen(hub: FakeHub, model: Path) -> None:
    push(model, NAME)
    files = hub.repositories[NAME].files
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    files["model.safetensors"] = bytes(weights)
    with pytest.raises(
        TiebreakError, match=r"content of model.safetensors is not what was written; remove this copy"
    ):
        package.load(NAME)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"model.py": "0" * 64}, "lists 'model.py' in tiebreak.json, which is no file of a model"),
        ({"pytorch_model.bin": "0" * 64}, "lists 'pytorch_model.bin'"),
        ({"../../x.json": "0" * 64}, "is no file of the folder"),
        ({"config.json": "0" * 64}, "has no file 'config.json' on the hub"),
        ({}, "records no hashes"),
    ],
)
def test_only_listed_files_of_a_model_are_fetched(
    hub: FakeHub, model: Path, files: dict[str, str], problem: str
) -> None:
    tree = json.loads((model / "tiebreak.json").read_text()) | {"files": files}
    listed = {"tiebreak.json": json.dumps(tree).encode(), "model.py": b"boom", "pytorch_model.bin": b"boom"}
    hub.make(NAME, listed)
    with pytest.raises(TiebreakError, match=problem):
        package.load(NAME)
    assert not any(name in asked for asked in hub.asked for name in ("model.py", "pytorch_model.bin"))


def test_a_private_model_needs_a_token(hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert push(model, NAME, private=True).private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        TiebreakError, match=r"none of that name on the hub that you may see \(if it is private"
    ):
        package.load(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert predict(NAME).shape == (2, 3)


def sent(hub: FakeHub) -> list[str]:
    return [asked for asked in hub.asked if asked.startswith(("POST", "PUT"))]


def test_a_damaged_model_is_refused_before_anything_is_sent(hub: FakeHub, model: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        TiebreakError, match="damaged or not whole, and nothing was sent or written: the content of model"
    ):
        push(model, NAME)
    (model / "tokenizer.json").unlink()
    with pytest.raises(TiebreakError, match=r"it has no tokenizer\.json"):
        push(model, NAME)
    shutil.copy(model / "tokenizer_config.json", model / "tokenizer.json")
    (model / "x.py").write_text("boom")
    tree = json.loads((model / "tiebreak.json").read_text())
    tree["files"] = {"x.py": file_digest(model / "x.py")}
    (model / "tiebreak.json").write_text(json.dumps(tree))
    with pytest.raises(TiebreakError, match=r"lists 'x\.py' in tiebreak\.json"):
        push(model, NAME)
    tree["files"] = {"config.json": file_digest(model / "config.json")}
    (model / "tiebreak.json").write_text(json.dumps(tree))
    with pytest.raises(TiebreakError, match=r"model\.safetensors is not in `files` of tiebreak\.json"):
        push(model, NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        (None, "has no README.md, the card of a model"),
        ("---\nlicense: [\n---\n", "has metadata that cannot be read"),
        ("---\nmodel-index: 1\n---\n", "has metadata that cannot be read"),
    ],
)
def test_a_card_is_there_and_can_be_read(hub: FakeHub, model: Path, card: str | None, problem: str) -> None:
    (model / "README.md").unlink()
    if card is not None:
        (model / "README.md").write_text(card)
    with pytest.raises(TiebreakError, match=problem):
        push(model, NAME)
    assert sent(hub) == []


def test_a_card_without_metadata_gets_those_of_every_judge(hub: FakeHub, model: Path) -> None:
    (model / "README.md").write_text("# Mine\n")
    push(model, NAME)
    card: Any = ModelCard(hub.repositories[NAME].files["README.md"].decode())
    assert card.data.tags[0] == "tiebreak"
    assert card.text.strip() == "# Mine"


def test_no_repository_is_overwritten_or_shown_by_accident(hub: FakeHub, model: Path) -> None:
    hub.make(NAME, {"config.json": b"{}"})
    with pytest.raises(TiebreakError, match="holds a model that tiebreak has not made; nothing was sent"):
        push(model, NAME)
    hub.make(NAME)
    with pytest.raises(TiebreakError, match="is there already, and public; nothing was sent"):
        push(model, NAME, private=True)
    assert not [asked for asked in hub.asked if "commit" in asked or "lfs" in asked]


@pytest.mark.parametrize(
    "name", ["judge", "a/b/c", "../x", "ada/judge@v1", "ada/judgé", "ada/", "ada/" + 93 * "x"]
)
def test_a_name_is_owner_and_name(hub: FakeHub, model: Path, name: str) -> None:
    with pytest.raises(TiebreakError, match="a model's is OWNER/NAME"):
        push(model, name)
    assert hub.asked == []


def refusal(model: Path, name: str = NAME) -> str:
    with pytest.raises(TiebreakError) as raised:
        push(model, name)
    text = str(raised.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "hf auth login"),
        (403, f"{OWNER} has to be you or an organisation that you write for"),
        (404, f"{OWNER} has to be you"),
        (409, "somebody else has changed ada/judge meanwhile"),
        (413, "the hub answers 413"),
        (429, "wait some minutes"),
        (500, "its own fault"),
    ],
)
def test_every_refusal_of_a_push_is_a_line(hub: FakeHub, model: Path, status: int, told: str) -> None:
    hub.refusal = Refusal("/commit/", status, json.dumps({"error": f"no, Bearer {TOKEN}"}).encode())
    text = refusal(model)
    assert told in text, text
    unsure = "ada/judge has the whole commit or nothing of it"
    assert (unsure if status == 500 else "Nothing was committed to ada/judge") in text
    assert text.endswith("; the same command tries again")


@pytest.mark.parametrize(
    "request_", ["POST /api/repos/create", "/preupload/", "/lfs/objects/batch", "PUT /lfs/", "/commit/"]
)
def test_every_request_of_a_push_may_be_refused(hub: FakeHub, model: Path, request_: str) -> None:
    hub.refusal = Refusal(request_, 403)
    assert "does not let you write to ada/judge (403)" in refusal(model)
    if request_ != "PUT /lfs/":  # whose answer is not read
        hub.refusal = Refusal(request_, 200, b"<html>Please log in</html>")
        assert "comes from no hub" in refusal(model)


def test_a_commit_of_somebody_else_in_between_is_seen(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, NAME)
    (model / "README.md").write_text(CARD + "More.\n")
    commit = HfApi.create_commit

    def late(*arguments: Any, **options: Any) -> Any:
        hub.repositories[NAME].commit({**hub.repositories[NAME].files, "x": b""})
        return commit(*arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    assert "somebody else has changed ada/judge meanwhile (412)" in refusal(model)


def test_a_hub_without_xet_is_told_from_this_machine_s_errors(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    assert "HF_HUB_DISABLE_XET=1 takes another way" in refusal(model)


def test_no_login_no_network_and_another_owner(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "grace has to be you or an organisation" in refusal(model, "grace/judge")
    monkeypatch.setenv("HF_TOKEN", "hf_OldOldOldOldOldOldOldOldOldOldOldOl")
    assert "a token that is set may be old" in refusal(model)
    point_to("http://127.0.0.1:1", monkeypatch)
    assert "is out of reach (ConnectError)" in refusal(model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(model)
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refusal(model)


def test_every_command_takes_a_name(hub: FakeHub, model: Path, tmp_path: Path, tiebreak: Command) -> None:
    code, out, err = tiebreak("push", model, NAME, "--license", "mit")
    assert (code, out) == (0, f"{hub.url}/{NAME}\n")
    assert "model.safetensors: " in err
    assert "the card says: license mit, base_model not known, datasets not known" in err
    commit = hub.repositories[NAME].revisions["main"]
    assert f'tiebreak.load("{NAME}", revision="{commit}")' in err
    votes, several = tmp_path / "votes.jsonl", tmp_path / "several.jsonl"
    votes.write_text("".join(json.dumps(pair | {"winner": "a"}) + "\n" for pair in PAIRS * 3))
    several.write_text(json.dumps({"prompt": "Why?", "responses": ["So.", "Because."]}) + "\n")
    for verb, file, *more in (("predict", votes), ("rank", several), ("label", several, "--keep-ties")):
        said = {}
        for place in (NAME, model):
            output = tmp_path / "out.jsonl"
            code, _, err = tiebreak(verb, place, file, "-o", output, "--device", "cpu", *more)
            assert code == 0, err
            said[place] = output.read_text()
        assert said[NAME] == said[model] != ""
    tiebreak("label", NAME, several, "-o", tmp_path / "l.jsonl", "--device", "cpu")
    made = json.loads((tmp_path / "l.jsonl.provenance").read_text())
    assert (made["hub"], made["commit"]) == (NAME, commit)
    code, out, err = tiebreak("evaluate", NAME, votes, "--device", "cpu", "--samples", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["predictions"] == NAME
    assert tiebreak("verify", f"{NAME}@{commit}")[0] == 0


def test_a_folder_that_is_here_comes_first(
    hub: FakeHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert locate(NAME).folder == Path(NAME)
    assert locate("data/votes.csv").folder == Path("data/votes.csv"), "a file that is missing is no model"
    assert hub.asked == []


def test_a_recipe_says_what_a_judge_was_made_from(
    hub: FakeHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its base and that one's license, as the hub has them, and data sets of the hub; no folders and files."""
    card = b"---\nlicense: gemma\nlicense_name: x\n---\n"
    hub.make("grace/base", {"README.md": card})
    hub.make(f"{OWNER}/closed", private=True)
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.parent.mkdir()

    def pushed(base: str) -> Any:
        data = {"votes": ["votes.csv", "hub:grace/votes@v1"], "extra": ["hub:ada/more:test"]}
        student = {"base": base}
        recipe.write_text(
            json.dumps(
                {"name": "judge", "data": data, "models": {"student": student, "teachers": {"t": student}}}
            )
        )
        push(recipe, NAME)
        return ModelCard(hub.repositories[NAME].files["README.md"].decode()).data

    evaluation = shutil.copytree(model, tmp_path / "evaluation" / "model").parent
    monkeypatch.setattr("tiebreak.commands.outputs.evaluation_folder", lambda _: evaluation)
    monkeypatch.setattr("tiebreak.commands.push.evaluation_folder", lambda _: evaluation)
    data = pushed("grace/base")
    assert (data.base_model, data.license, data.license_name) == ("grace/base", "gemma", "x")
    assert data.base_model_relation == "finetune"
    assert data.datasets == ["ada/more", "grace/votes"]
    assert pushed("grace/none").base_model is None
    (evaluation / "model" / "README.md").write_text(CARD.replace("---\n", "---\nlicense: mit\n", 1))
    data = pushed("grace/base")
    assert (data.base_model, data.license, data.license_name) == ("grace/base", "mit", None)
    (tmp_path / "run" / "grace" / "base").mkdir(parents=True)
    assert pushed("grace/base").base_model is None, "a folder here"
