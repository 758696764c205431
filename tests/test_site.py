"""The site holds every page, once, and its links lead where those of the repository do. `make docs` builds it, strictly."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = runpy.run_path(str(REPOSITORY / "docs" / "build.py"))
PLACES = BUILD["sources"]()


def listed(entries: list) -> list[str]:
    """Pages of a navigation, in order."""
    found = []
    for entry in entries:
        for page in entry.values():
            found += [page] if isinstance(page, str) else listed(page)
    return found


def test_the_navigation_has_every_page_once():
    """But for the pages of benchmarks, which others link to."""
    project = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]
    pages = [str(place) for place in PLACES.values() if place.suffix == ".md"]
    assert sorted(listed(project["nav"])) == sorted(
        page for page in pages if not page.startswith("benchmarks/")
    )


def test_the_site_fetches_nothing_from_elsewhere():
    """No fonts and no scripts of others: what a page is made of lies beside it."""
    project = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]
    assert project["theme"]["font"] is False
    assert not {"extra_javascript", "analytics"} & (project.keys() | project.get("extra", {}).keys())


@pytest.mark.parametrize(
    "source", [path for path in PLACES if path.suffix == ".md"], ids=lambda path: path.name
)
def test_links_on_the_site_lead_to_its_pages(source):
    """Every link of a page on the site is one of the site's files, or of another site."""
    text = BUILD["page"](source, PLACES)
    for target in BUILD["LINK"].findall(BUILD["BLOCK"].sub("", text)):
        path = target[2]
        if path and "://" not in path:
            place = (REPOSITORY / PLACES[source]).parent / path
            assert place.resolve().relative_to(REPOSITORY) in PLACES.values(), path


def test_a_link_to_another_file_becomes_its_name():
    source = REPOSITORY / "docs" / "speed.md"
    link = BUILD["LINK"].match("[packing](../src/tiebreak/tokens/packing.py)")
    assert BUILD["_link"](link, source, PLACES) == "packing (`src/tiebreak/tokens/packing.py`)"
    with pytest.raises(FileNotFoundError, match=r"docs/speed.md links to gone.md"):
        BUILD["_link"](BUILD["LINK"].match("[x](gone.md)"), source, PLACES)


def test_code_stays_as_it_is():
    source = REPOSITORY / "docs" / "slurm.md"
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert blocks.findall(BUILD["page"](source, PLACES)) == blocks.findall(source.read_text())
