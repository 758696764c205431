from pathlib import Path

import pytest
from tiny_models import record

from tiebreak import seen
from tiebreak.errors import TiebreakError


def test_the_records_of_several_artifacts_are_united(tmp_path: Path) -> None:
    record(tmp_path / "a", "fold0", "fold1", fitted_on=("calibration",))
    record(tmp_path / "b", "fold1", "extra")
    folders = [tmp_path / "a", tmp_path / "b"]
    assert seen.learned_from(folders) == {"fold0", "fold1", "extra"}
    assert seen.fitted_on(folders) == {"calibration"}
    assert seen.learned_from([]) == frozenset()


@pytest.mark.parametrize("text", [None, "{}", "{"])
def test_an_artifact_without_a_record_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(TiebreakError, match=f"{tmp_path} has no record of the votes"):
        seen.learned_from([tmp_path])


def test_what_was_seen_is_named() -> None:
    seen.require_unseen(["fold0"], frozenset({"fold1", "extra"}), "a temperature")
    with pytest.raises(
        TiebreakError, match=r"a temperature needs .* and extra, fold1 have, directly or through"
    ):
        seen.require_unseen(["fold1", "extra", "fold0"], frozenset({"fold1", "extra"}), "a temperature")
