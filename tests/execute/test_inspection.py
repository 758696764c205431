"""`tiebreak check`, on files and on a recipe."""

import json
import subprocess
import sys
from pathlib import Path

from tiebreak.data import synthetic

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
