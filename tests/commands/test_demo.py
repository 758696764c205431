"""Demo: resumes its own recipe, and no other."""

import re
from pathlib import Path

import pytest

from tiebreak.commands.demo import demo
from tiebreak.commands.init import init_recipe
from tiebreak.engine.signals import Stop
from tiebreak.errors import TiebreakError


@pytest.mark.parametrize(("votes", "seed"), [(200, 0), (120, 1)])
def test_a_demo_of_other_votes_is_refused(votes: int, seed: int, tmp_path: Path) -> None:
    init_recipe(tmp_path, "tiny", synthetic=120)
    message = f"a demo with --votes 120 --seed 0, not --votes {votes} --seed {seed}"
    with pytest.raises(TiebreakError, match=message):
        demo(tmp_path, votes, seed, Stop())


def test_a_folder_that_is_no_demo_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "real"
    init_recipe(folder, "sc4000")
    with pytest.raises(TiebreakError, match=re.escape(f"is no demo's; run it with: tiebreak run '{folder}'")):
        demo(folder, 300, 0, Stop())
