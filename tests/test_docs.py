"""Every command and every piece of Python in the documentation runs; what it mentions exists."""

import csv
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from bench_files import judgebench
from fake_hub import fake_hub, use
from forked import Forked, Tiebreak, quick_runs
from served import served

from tiebreak import cli
from tiebreak.recipe.basics import presets
from tiebreak.recipe.schema import Recipe
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.schema import probabilities

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
RESULTS = sorted((REPOSITORY / "benchmarks" / "results").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_LINE = typer.main.get_command(cli.app)


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the code blocks that can be run, in order."""
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text()) if kind in ("bash", "python")]


def mentioned(page: Path) -> list[str]:
    """Commands of tiebreak in running text and in blocks, a line each."""
    text = page.read_text().replace("\\\n", " ")
    in_blocks = [line for kind, block in BLOCK.findall(text) if kind == "bash" for line in block.splitlines()]
    in_text = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    return [line for line in (*in_blocks, *in_text) if line.startswith(("tiebreak ", "make "))]


@pytest.fixture(scope="module")
def desk(tiny_run, tmp_path_factory) -> Path:
    """A folder as a reader has it: the finished demo, votes of their own in the competition's format, a benchmark."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(tiny_run.folder, folder / "demo")
    (folder / "wheels").mkdir()
    (folder / "wheels" / "rich-15.0.0-py3-none-any.whl").touch()
    judgebench(folder / "judgebench", [("livecodebench", "right", "wrong", "A>B")] * 2)
    votes = pq.read_table(tiny_run.folder / "data" / "votes.parquet").slice(0, 150).to_pylist()
    with (folder / "votes.csv").open("w", newline="") as file:
        winners = [f"winner_{choice}" for choice in ("model_a", "model_b", "tie")]
        texts = ("prompt", "response_a", "response_b")
        rows = csv.writer(file)
        rows.writerow(["id", "model_a", "model_b", *texts, *winners])
        for vote in votes:
            labels = [int(vote[key]) for key in ("p_a", "p_b", "p_tie")]
            turns = [json.dumps(vote[text]) for text in texts]
            rows.writerow([vote["id"], vote["model_a"], vote["model_b"], *turns, *labels])
    return folder


RUNNABLE = [
    page for page in PAGES if blocks(page) and page.stem not in ("serve", "hub", "plugins", "tutorial")
]
"""The tutorial and those of the server and the hub have tests of their own; that of plug-ins needs other packages, and tests/plugins
runs it.
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_what_a_page_shows_runs(page, desk, tmp_path):
    folder = shutil.copytree(desk, tmp_path / "desk")
    for kind, text in blocks(page):
        if kind == "python":
            Forked(_run_python, text, folder=folder).finish()
        else:
            for line in text.splitlines():
                run(shlex.split(line), folder)


def _run_python(text: str) -> None:
    with quick_runs():
        exec(text, {"__name__": "__main__"})


@pytest.mark.slow
def test_the_page_on_serving_shows_requests_that_work(desk):
    """Its first command is a server, on its own port; all others ask it."""
    first, *lines = (
        line for _, text in blocks(REPOSITORY / "docs" / "serve.md") for line in text.splitlines()
    )
    with background(first, desk) as url:
        for line in lines:
            ask(line, url)


@pytest.mark.slow
def test_the_tutorial_works_from_an_empty_folder(tmp_path):
    """From beginning to end; the server that it starts lives on to its end."""
    with ExitStack() as servers:
        url = ""
        for kind, text in blocks(REPOSITORY / "docs" / "tutorial.md"):
            if kind == "python":
                Forked(exec, text, {"__name__": "__main__"}, folder=tmp_path).finish()
                continue
            for line in text.splitlines():
                if line.endswith("&"):
                    url = servers.enter_context(background(line, tmp_path))
                elif line.startswith("curl"):
                    ask(line, url)
                else:
                    run(shlex.split(line), tmp_path)


@contextmanager
def background(line: str, folder: Path) -> Iterator[str]:
    """The address of the server that a line of a page starts, on a port that is free."""
    program, verb, *arguments, ending = shlex.split(line)
    assert (program, verb, ending) == ("tiebreak", "serve", "&")
    with served(*arguments, folder=folder) as (_, url):
        yield url


def ask(line: str, url: str) -> None:
    """A request of a page, sent to the server at `url`."""
    command = shlex.split(line.replace("http://localhost:8000", url))
    assert command[0] == "curl"
    done = subprocess.run([*command, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_page_on_the_hub_shows_what_works(desk, tmp_path):
    with fake_hub() as server:
        for kind, text in blocks(REPOSITORY / "docs" / "hub.md"):
            for part in [text] if kind == "python" else text.splitlines():
                Forked(_ask, server.url, tmp_path, kind, part, folder=desk).finish()


def _ask(url: str, cache: Path, kind: str, text: str) -> None:
    """Python or a command of the page on the hub, in a process of its own that asks this hub."""
    use(url, cache, pytest.MonkeyPatch())
    if kind == "python":
        exec(text, {"__name__": "__main__"})
    else:
        sys.argv = shlex.split(text)
        cli.main()


def run(command: list[str], folder: Path) -> None:
    """A command of a page. make's targets set up an environment of their own and run these very tests: only seen.

    What pip installs is for scripts/try_wheel.sh to try, and for the tests of extras below.
    """
    if command[:1] == ["tiebreak"]:
        Tiebreak(*command[1:], folder=folder).finish()
    elif command[:2] == ["pip", "install"]:
        assert all((REPOSITORY / word.partition("[")[0]).exists() for word in command[2:] if word != "-c")
    elif command:
        assert command[0] == "make", command
        subprocess.run([*command, "--dry-run", "--directory", REPOSITORY], check=True, capture_output=True)


@pytest.mark.parametrize("page", [page for page in PAGES if mentioned(page)], ids=name)
def test_commands_that_a_page_mentions_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for line in mentioned(page):
        program, verb, *rest = line.split()
        if program == "make":
            assert verb in targets or "=" in verb, line
            continue
        assert verb in COMMAND_LINE.commands, line
        command = COMMAND_LINE.commands[verb]
        if rest and rest[0] in getattr(command, "commands", ()):
            command = command.commands[rest[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert used <= options, line
        if "--preset" in rest:
            assert rest[rest.index("--preset") + 1] in presets(), line


EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_extras_that_pages_and_messages_name_exist():
    for path in (*PAGES, *(REPOSITORY / "src").rglob("*.py")):
        for extras in re.findall(r"(?:tiebreak|'\.)\[([a-z]\w*(?:,\w+)*)\]'", path.read_text()):
            assert set(extras.split(",")) <= EXTRAS.keys(), (path, extras)


def test_the_table_of_extras_is_whole():
    """Each extra, with the libraries that it is for."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    brought = {extra: libraries.split(", ") for extra, libraries in rows if extra in EXTRAS}
    assert brought.keys() == EXTRAS.keys() - {"dev"}
    for extra, libraries in brought.items():
        assert all(any(text.startswith(library) for text in EXTRAS[extra]) for library in libraries), extra


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=name)
def test_links_lead_somewhere(page):
    """To a file that is there, and where they name one to a heading in it."""
    links = re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", page.read_text()))
    for target in links:
        path, _, anchor = target.partition("#")
        assert path.startswith("https://") or (page.parent / path).exists(), target
        if anchor and not path.startswith("https://") and not path.endswith(".png"):
            assert anchor in anchors(page.parent / path if path else page), target


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=name)
def test_files_of_the_repository_that_a_page_names_are_there(page):
    folders = "benchmarks|docs|scripts|slurm|src|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
        assert (REPOSITORY / path).exists(), path


def test_generated_pages_are_current():
    generate = runpy.run_path(str(REPOSITORY / "docs" / "generate.py"))
    for file, text in generate["pages"]().items():
        assert (REPOSITORY / "docs" / file).read_text() == text, f"{file}: run: python docs/generate.py"


FORMATS = REPOSITORY / "docs" / "reference" / "formats.md"


@pytest.mark.parametrize("row", [text for kind, text in BLOCK.findall(FORMATS.read_text()) if kind == "json"])
def test_every_format_shown_is_read(row, tmp_path):
    (tmp_path / "votes.jsonl").write_text(row)
    votes = read_whole(tmp_path / "votes.jsonl", "votes")
    assert len(votes) == 1
    prompt, (p,) = votes["prompt"][0].as_py(), probabilities(votes)
    assert prompt[-1] == "Is it raining?"
    assert p.sum() == pytest.approx(1)
    if json.loads(row).get("winner") == "tie":
        assert p.argmax() == 2
    else:  # which side chosen answers stand on is drawn by their texts
        preferred = votes["response_b" if p.argmax() else "response_a"][0].as_py()
        assert preferred[-1].startswith("Yes")


def test_every_recipe_key_says_what_it_means():
    sections = Recipe.model_json_schema()["$defs"].items()
    silent = {
        f"{title}.{key}"
        for title, section in sections
        for key, field in section["properties"].items()
        if "description" not in field and "$ref" not in field
    }
    assert not silent
