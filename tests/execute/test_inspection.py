"""`tiebreak check`, on files and on a recipe."""

import json
import subprocess
import sys
from pathlib import Path

from tiebreak.data import synthetic
from tiebreak.data.card import check as data_card
from tiebreak.execute.inspection import check_recipe, rejected
from tiebreak.execute.start import start
from tiebreak.execute.workspace import Workspace

TIEBREAK = Path(sys.executable).parent / "tiebreak"


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TIEBREAK, "check", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_files_and_the_page(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 120, seed=0)
    data = tmp_path / "data"
    done = check(
        data / "votes.parquet", "--preferences", data / "preferences.parquet", "-o", tmp_path / "card.html"
    )
    assert done.returncode == 0, done.stderr
    assert "votes.parquet" in done.stdout
    assert "preferences.parquet" in (tmp_path / "card.html").read_text()


def test_a_recipe_names_its_own_files_and_tokenizer(tmp_path: Path) -> None:
    subprocess.run(
        [TIEBREAK, "init", tmp_path / "run", "--synthetic", "120"], check=True, capture_output=True
    )
    done = check(tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert [file["role"] for file in card["files"]] == ["votes", "preferences", "test"]
    assert card["labelled"] == 240
    assert not card["tokens_are_estimated"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = check(tmp_path / "nothing.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "nothing.csv" in done.stderr


def test_what_a_run_would_refuse_of_the_data_is_an_error(tmp_path: Path) -> None:
    rows = [f"q{n},x,y,{'left' if n < 8 else 'tie'}" for n in range(150)]
    (tmp_path / "votes.csv").write_text("\n".join(["prompt,response_a,response_b,winner", *rows]))
    recipe = start(tmp_path / "run", "tiny", votes=[tmp_path / "votes.csv"])
    done = check(recipe)
    assert done.returncode == 2, done.stdout
    refused = "data.votes: 8 of 150 rows in votes.csv cannot be used (5.3%, allowed are 2.0%)"
    assert f"error    {refused}" in done.stdout
    work = Workspace(recipe, ["data.max_rejected_share=0.06"])
    assert not list(rejected(work, check_recipe(work)))


def test_a_file_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    pair = {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "tie"}
    whole = json.dumps([pair] * 150)
    (tmp_path / "votes.json").write_text(whole)
    work = Workspace(start(tmp_path / "run", "sc4000", votes=[tmp_path / "votes.json"]))
    (tmp_path / "votes.json").write_text(whole[:-1])
    card = data_card({"votes": [tmp_path / "votes.json"]})
    (error,) = rejected(work, card)
    assert (error.level, error.about) == ("error", "data.votes")
    assert "votes.json cannot be read from here on, at record 151" in error.text
