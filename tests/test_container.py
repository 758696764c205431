"""The container's files: what an image is built of is there and pinned, and what runs is no root and writes little."""

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def instructions(repository: Path) -> list[tuple[str, str]]:
    """Those of the Dockerfile, in order: a keyword and what follows it."""
    text = re.sub(r"^#.*\n", "", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def of(instructions: list[tuple[str, str]], keyword: str) -> list[str]:
    return [rest for name, rest in instructions if name == keyword]


def is_ignored(name: str, repository: Path) -> bool:
    """By .dockerignore, of whose lines the last that matches counts."""
    ignored = False
    for line in (repository / ".dockerignore").read_text().split():
        if fnmatch(name, line.removeprefix("!").removeprefix("**/")):
            ignored = not line.startswith("!")
    return ignored


def test_every_source_of_a_copy_is_there_and_sent_to_the_builder(
    instructions: list[tuple[str, str]], repository: Path
) -> None:
    copied = [
        name
        for rest in of(instructions, "COPY")
        if not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert set(copied) >= {"constraints.txt", "pyproject.toml", "src"}
    for name in copied:
        assert (repository / name).exists(), name
        assert not is_ignored(name, repository), name


@pytest.mark.parametrize("name", [".git", ".venv", "demo", "runs", ".env", "__pycache__", "docs"])
def test_nothing_else_is_sent_to_the_builder(repository: Path, name: str) -> None:
    assert is_ignored(name, repository)


def test_stages_are_of_one_tagged_image_or_of_each_other(instructions: list[tuple[str, str]]) -> None:
    places = of(instructions, "FROM")
    named = {place.split(" AS ")[1] for place in places if " AS " in place}
    for accelerator in ("cpu", "cuda"):
        for place in places:
            base = place.split()[0].replace("${ACCELERATOR}", accelerator)
            assert base in named or base == "python:${PYTHON}", base
    python = dict(rest.split("=") for rest in of(instructions, "ARG"))["PYTHON"]
    assert re.fullmatch(r"3\.\d+-slim-\w+", python)


def test_every_package_is_pinned(instructions: list[tuple[str, str]]) -> None:
    installs = re.findall(r"pip install [^&\n]*", "\n".join(of(instructions, "RUN")))
    assert len(installs) == 3
    assert all("-c constraints.txt" in install and "--no-cache-dir" in install for install in installs)


def test_what_runs_is_no_root_and_asked_for_its_health(instructions: list[tuple[str, str]]) -> None:
    last = max(n for n, (name, _) in enumerate(instructions) if name == "FROM")
    final = instructions[last:]
    assert of(final, "USER") == ["10001:10001"]
    assert of(final, "ENTRYPOINT") == ['["tiebreak"]']
    assert "/health" in of(final, "HEALTHCHECK")[0]
    assert of(final, "VOLUME") == ["/cache"]
    written = dict(pair.split("=", 1) for pair in of(final, "ENV")[0].split())
    places = {
        value for name, value in written.items() if name == "HOME" or name.endswith(("_DIR", "HF_HOME"))
    }
    assert len(places) == 4
    assert all(place.startswith("/cache") for place in places)


@pytest.mark.parametrize("name", ["judge", "judge-cuda"])
def test_services_write_to_volumes_alone_and_need_a_key(repository: Path, name: str) -> None:
    composed: dict[str, Any] = yaml.safe_load((repository / "compose.yaml").read_text())
    service = composed["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]
    model, cache = service["volumes"]
    assert model.endswith(":/model:ro")
    assert cache.split(":")[0] in composed["volumes"]
    assert "user" not in service
    assert service["environment"]["TIEBREAK_API_KEY"].startswith("${TIEBREAK_API_KEY:?")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["command"][0] == "serve"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing(repository: Path) -> None:
    found = subprocess.run(
        ["hadolint", repository / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
