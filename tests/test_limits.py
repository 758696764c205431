"""Limits of what is read, and their factor."""

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.limits import VARIABLE, raised


@pytest.mark.parametrize(("factor", "limit"), [(None, 64), ("", 64), ("1", 64), ("10", 640)])
def test_the_environment_multiplies_limits(
    factor: str | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if factor is not None:
        monkeypatch.setenv(VARIABLE, factor)
    assert raised(64) == limit


@pytest.mark.parametrize("factor", ["0", "-1", "ten", "1.5", "1e3", "٣", "²", "10000000", "9" * 5000])
def test_other_factors_are_errors(factor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, factor)
    with pytest.raises(TiebreakError, match="is the whole number by which limits of what is read are"):
        raised(64)
