"""docs/architecture.md names files that are there and packages in the order that the imports hold."""

import re
from pathlib import Path

import pytest
from test_imports import LAYERS, SOURCE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
NAMED = sorted(set(re.findall(r"`((?:[\w]+/)*[\w]+\.(?:py|json))`", PAGE.read_text())))
FOLDERS = sorted(set(re.findall(r"`((?:[\w]+/)+)`", PAGE.read_text())))


def places(name: str) -> list[Path]:
    """Where a name of the page may stand: whole, below the package, or beside the file named before it."""
    root = PAGE.parents[1]
    return [root / name, SOURCE / name, SOURCE / "votes" / "formats" / name]


@pytest.mark.parametrize("name", [*NAMED, *FOLDERS])
def test_what_the_page_names_is_there(name: str) -> None:
    assert any(place.exists() for place in places(name)), name


def test_the_page_names_many_files() -> None:
    assert len(NAMED) > 30


def test_layers_are_listed_in_order() -> None:
    listed = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*)(?:  |$)", PAGE.read_text(), re.M)
    assert [set(line.split(", ")) for line in listed] == list(LAYERS[1:])
