"""Example votes: current, readable, learnable, and never written over what is there."""

import runpy

import numpy as np
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes import examples
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities


def test_the_files_are_those_that_the_script_makes(repository, tmp_path):
    runpy.run_path(str(repository / "scripts" / "example_votes.py"))["write"](tmp_path)
    for file in (examples.VOTES, examples.FRESH):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), (
            "run: python scripts/example_votes.py"
        )


def test_fresh_prompts_are_none_of_those_to_learn_from():
    votes = read_whole(examples.VOTES, "votes")
    fresh = read_whole(examples.FRESH, "votes")
    assert (len(votes), len(fresh)) == (405, 120)
    groups = prompt_groups(fresh)
    assert not {tuple(prompt) for prompt in fresh["prompt"].to_pylist()} & {
        tuple(prompt) for prompt in votes["prompt"].to_pylist()
    }
    assert len(set(groups)) == 40
    assert np.all(probabilities(votes).mean(axis=0) > 0.2)


def test_the_command_copies_them_once(tiebreak, tmp_path):
    code, out, _ = tiebreak("example", tmp_path / "new")
    assert code == 0
    assert out.split() == [str(tmp_path / "new" / name) for name in ("votes.csv", "fresh.csv")]
    code, _, err = tiebreak("example", tmp_path / "new")
    assert code == 2
    assert "there already" in err


def test_nothing_is_written_where_one_file_is_there(tmp_path):
    (tmp_path / "fresh.csv").write_text("mine")
    with pytest.raises(TiebreakError, match="another folder"):
        examples.copy_to(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fresh.csv"]
