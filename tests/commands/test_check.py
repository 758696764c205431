"""`tiebreak check`, on files and on a recipe."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

import tiebreak as package
from tiebreak.commands.check import check_recipe, data_findings, ingested, rejection_findings, too_few
from tiebreak.commands.init import init_recipe
from tiebreak.data_card.card import build_card
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.recipe.schema import Split
from tiebreak.votes import synthetic
from tiebreak.votes.formats.mapping import parse

TIEBREAK = Path(sys.executable).parent / "tiebreak"


def test_files_and_the_page(tiebreak, tmp_path: Path) -> None:
    synthetic.write(tmp_path, 120, seed=0)
    votes, preferences = (tmp_path / "data" / f"{name}.parquet" for name in ("votes", "preferences"))
    code, out, err = tiebreak("check", votes, "--preferences", preferences, "-o", tmp_path / "card.html")
    assert code == 0, err
    assert "votes.parquet" in out
    assert "preferences.parquet" in (tmp_path / "card.html").read_text()
    assert f"written: {tmp_path / 'card.html'}" in err


def test_the_card_in_python_is_that_of_the_command(tiebreak, tmp_path: Path) -> None:
    rows = [{"question": f"q {n}", "output_1": "x", "output_2": "y", "vote": n % 3} for n in range(30)]
    file = tmp_path / "votes.json"
    file.write_text(json.dumps(rows))
    values = {"0": "a", "1": "b", "2": "tie"}
    card = package.check(file, columns={"winner": "vote"}, values=values)
    _, out, _ = tiebreak("check", file, "--json", "--map", "winner=vote", "--values", "0=a,1=b,2=tie")
    printed = json.loads(out)
    assert printed.pop("preflight")
    assert json.loads(json.dumps(card.as_dict())) == printed
    assert card.labels["tie"].value == 1 / 3
    assert package.check([str(file)], {"winner": "vote"}, values).as_dict() == card.as_dict()
    with pytest.raises(TiebreakError, match="nowhere"):
        package.check(tmp_path / "nowhere.csv")
    with pytest.raises(TiebreakError, match="there is none"):
        package.check([])
    with pytest.raises(TiebreakError, match="votes takes"):
        package.check(7)  # type: ignore[arg-type]


def test_columns_and_values_are_mapped(tiebreak, tmp_path: Path) -> None:
    rows = [{"question": f"q {n}", "output_1": "x", "output_2": "y", "vote": n % 3} for n in range(30)]
    (tmp_path / "votes.json").write_text(json.dumps(rows))
    mapping = ("--map", "winner=vote", "--values", "0=a,1=b,2=tie")
    code, out, err = tiebreak("check", tmp_path / "votes.json", "--json", *mapping)
    assert code == 0, err
    assert json.loads(out)["files"][0]["labels"] == {"a": 10, "b": 10, "tie": 10}
    code, out, err = tiebreak("check", tmp_path / "votes.json", "--map", "winner=vote", "--values", "0=a,1=b")
    assert "unknown winner: 2; valid: a, b, tie (or --values '2=?' with a, b or tie for ?)" in " ".join(
        out.split()
    )
    recipe = init_recipe(
        tmp_path / "run", "sc4000", [tmp_path / "votes.json"], mapping=parse(mapping[1:2], mapping[3:])
    )
    work = Workspace(recipe)
    assert check_recipe(work).labelled == 30
    other = Workspace(recipe, ["data.values={0: b, 1: a, 2: tie}"])
    assert other.key(other.find("ingest/votes")) != work.key(work.find("ingest/votes"))
    code, _, err = tiebreak("check", recipe, *mapping)
    assert code == 2
    assert "in a recipe they are data.columns and data.values" in err


def test_a_recipe_names_its_own_files_and_tokenizer(tiebreak, tmp_path: Path) -> None:
    code, _, err = tiebreak("init", tmp_path / "run", "--synthetic", "120")
    assert code == 0, err
    code, out, err = tiebreak("check", tmp_path / "run", "--json")
    assert code == 0, err
    card = json.loads(out)
    assert [file["role"] for file in card["files"]] == ["votes", "preferences", "test"]
    assert card["labelled"] == 240
    assert not card["tokens_are_estimated"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    command = [TIEBREAK, "check", tmp_path / "nothing.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "nothing.csv" in done.stderr


def test_data_that_a_run_would_refuse_is_an_error(tiebreak, tmp_path: Path) -> None:
    rows = [f"q{n},x,y,{'left' if n < 8 else 'tie'}" for n in range(150)]
    (tmp_path / "votes.csv").write_text("\n".join(["prompt,response_a,response_b,winner", *rows]))
    recipe = init_recipe(tmp_path / "run", "tiny", votes=[tmp_path / "votes.csv"])
    code, out, _ = tiebreak("check", recipe)
    assert code == 2, out
    refused = "data.votes: 8 of 150 rows in votes.csv cannot be used (5.3%, allowed are 2.0%)"
    assert f"error    {refused}" in out
    work = Workspace(recipe, ["data.max_rejected_share=0.06"])
    assert not list(rejection_findings(check_recipe(work), work.recipe.data))
    code, out, _ = tiebreak("check", tmp_path / "votes.csv")
    assert (code, f"error    {refused}" in out) == (2, True), "of a file as of a recipe that names it"


def test_a_truncated_file_is_an_error(tiebreak, tmp_path: Path) -> None:
    pair = {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "tie"}
    whole = json.dumps([pair] * 150)
    (tmp_path / "votes.json").write_text(whole)
    work = Workspace(init_recipe(tmp_path / "run", "sc4000", votes=[tmp_path / "votes.json"]))
    (tmp_path / "votes.json").write_text(whole[:-1])
    card = build_card({"votes": [tmp_path / "votes.json"]})
    (error,) = rejection_findings(card, work.recipe.data)
    assert (error.level, error.about) == ("error", "data.votes")
    assert "votes.json cannot be read from here on, at record 151" in error.text
    assert next(data_findings(card)) == error
    assert not list(rejection_findings(card, work.recipe.data.model_copy(update={"incomplete_files": True})))
    (tmp_path / "whole.json").write_text(whole)
    for role in ("extra", "preferences", "test"):
        more = tmp_path / "votes.json"
        if role == "preferences":
            more = tmp_path / "pairs.json"
            more.write_text(json.dumps([{"prompt": "q", "chosen": "x", "rejected": "y"}] * 3)[:-1])
        code, out, err = tiebreak("check", tmp_path / "whole.json", f"--{role}", more)
        assert (code, f"error    data.{role}: {more.name} cannot be read from here on" in out) == (2, True), (
            err
        )


def test_votes_of_which_none_can_be_used_are_an_error_beside_others(tiebreak, tmp_path: Path) -> None:
    good, bad = votes_of(tmp_path / "good.csv", ["tie", "model_a"]), votes_of(tmp_path / "bad.csv", ["?"] * 9)
    code, out, _ = tiebreak("check", bad, "--extra", good)
    assert code == 2
    assert "error    data.votes: 9 of 9 rows in bad.csv cannot be used" in out


def votes_of(path: Path, winners: list[str]) -> Path:
    """A file of votes on prompts that have nothing in common."""
    letters = Random(0)
    rows = [f"{''.join(letters.choices('abcdefghijkl', k=30))},x,y,{winner}" for winner in winners]
    path.write_text("\n".join(["prompt,response_a,response_b,winner", *rows]))
    return path


def test_few_votes_are_warned_of_by_side(tiebreak, tmp_path: Path) -> None:
    votes = votes_of(tmp_path / "votes.csv", ["model_a", "model_b", "tie"] * 10)
    code, out, err = tiebreak("check", init_recipe(tmp_path / "run", "tiny", votes=[votes]))
    assert code == 0, err
    assert "warning  lockbox, expected: 4 votes on 4 prompts: fewer than 30 prompts" in out
    assert "warning  calibration side, expected: a temperature fitted on 3 votes loses" in out
    assert "! 30 votes are few to learn from" in out


def test_ties_alone_are_an_error_and_one_side_alone_is_none(tiebreak, tmp_path: Path) -> None:
    votes = votes_of(tmp_path / "ties.csv", ["tie"] * 120)
    code, out, _ = tiebreak("check", init_recipe(tmp_path / "ties", "tiny", votes=[votes]))
    assert code == 2
    assert "error    data.votes: all 120 votes are ties" in out
    (found,) = (one for one in too_few(Split(), {"a": 9000.0, "b": 0.0, "tie": 0.0}, 20) if one.level)
    assert (found.level, found.about) == ("warning", "lockbox, expected")
    assert "450 votes on 1 prompt:" in found.text


def test_a_plan_says_it_of_votes_that_were_read(tiebreak, tmp_path: Path) -> None:
    votes = votes_of(tmp_path / "votes.csv", ["model_a"] * 120)
    work = Workspace(init_recipe(tmp_path / "run", "tiny", votes=[votes]))
    assert not list(ingested(work)), "nothing is known yet"
    task = work.find("ingest/votes")
    run_task(work, task, lambda line: None, lambda: False)
    sides = ["lockbox, expected", "calibration side, expected"]
    assert [found.about for found in ingested(work)] == ["data.votes", "data.votes", *sides]
    code, out, err = tiebreak("plan", work.path)
    assert code == 0, err
    assert "warning  data.votes: all 120 votes prefer A" in err
    assert "warning" not in out
    code, out, err = tiebreak("plan", work.path, "--on", "slurm")
    assert code == 0, err
    assert "warning  data.votes: all 120 votes prefer A" in err
    assert "120 votes" not in out
    (work.folder(task) / "votes.parquet").write_bytes(b"damaged")
    assert not list(ingested(work)), "what has to be read again says nothing"
