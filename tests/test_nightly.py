"""The page of the nightly tests adds figures of one kind up."""

import json
from datetime import date
from pathlib import Path

import nightly
import pytest


def test_figures_become_the_lines_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly.add("nobody asked", 1, 1)
    monkeypatch.setenv(nightly.VARIABLE, str(tmp_path / "figures"))
    nightly.add("damaged: files", 500, 30, "of 2 formats")
    nightly.add("killed: runs", 60, 90)
    nightly.add("damaged: files", 700, 60, "of 2 formats")
    lines = (tmp_path / "figures").read_text().splitlines()
    assert [json.loads(line)["count"] for line in lines] == [500, 60, 700]
    page = nightly.page(lines, date(2026, 11, 30))
    assert "| damaged: files | 1,200 | 1.5 | of 2 formats |\n| killed: runs | 60 | 1.5 |  |\n" in page
    assert "Last: 2026-11-30, Python 3." in page
    assert "nobody asked" not in page


def test_the_page_in_the_documentation_is_one_of_these() -> None:
    page = nightly.PAGE.read_text()
    assert page.startswith(nightly.INTRODUCTION)
    kills = [line.split(" | ") for line in page.splitlines() if line.startswith("| killed: ")]
    assert sum(int(cells[1].replace(",", "")) for cells in kills) >= 200


def test_nightly_tests_run_in_no_other_target(repository: Path) -> None:
    recipes = [
        line
        for line in (repository / "Makefile").read_text().splitlines()
        if "-m " in line and "PYTEST" in line
    ]
    chosen = [line for line in recipes if "pytest -n" not in line]
    assert len(chosen) == 4
    assert all("not nightly" in line for line in chosen)
