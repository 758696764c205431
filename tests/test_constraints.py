"""Pinned packages: the file with hashes pins what the file without does, and nothing in it says where from."""

import re
import tomllib
from pathlib import Path

FIRST = {"torch"}
"""Installed before all others, of whatever build: no hash of it may be asked for."""


def pins(path: Path) -> dict[str, str]:
    """Versions by normalised names."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_both_files_pin_the_same_versions(repository: Path) -> None:
    plain, hashed = pins(repository / "constraints.txt"), pins(repository / "constraints-hashes.txt")
    assert {name: version for name, version in hashed.items() if plain.get(name, version) != version} == {}
    assert not FIRST & hashed.keys()
    assert not {name for name in hashed if name.startswith(("nvidia-cu", "nvidia-nc", "cuda-"))}
    assert "triton" in hashed


def test_every_package_that_is_asked_for_has_hashes(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        asked += extra
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=;\[ ]", text)[0]).lower() for text in asked}
    assert names - FIRST <= pins(repository / "constraints-hashes.txt").keys()
    text = (repository / "constraints-hashes.txt").read_text()
    for block in re.split(r"^(?=[a-zA-Z])", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_no_file_says_where_packages_come_from(repository: Path) -> None:
    for name in ("constraints.txt", "constraints-hashes.txt"):
        assert not re.search(r"://|index-url|find-links| @ ", (repository / name).read_text()), name
