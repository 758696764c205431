"""Imports go one way, the command line starts without torch, and nothing runs what it reads."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import fake_steps
import pytest
from tiny_models import base

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tiebreak"
LAYERS = (
    {"__init__", "__main__"},
    {"cli"},
    {"commands"},
    {"client", "plugins", "serve", "slurm"},
    {"engine"},
    {"pipeline"},
    {"comparison"},
    {"data_card", "evaluate", "rewards", "training"},
    {"judge"},
    {"baseline", "model"},
    {"stats", "tokens"},
    {"votes"},
    {"distributed", "hardware", "recipe"},
    {
        "arguments",
        "console",
        "full_disk",
        "hashes",
        "json_files",
        "limits",
        "output",
        "pages",
        "regular_file",
        "runtime",
        "seen",
        "terminal",
    },
    {"errors"},
    {"plain"},
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names a file imports, at its top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """The parts of tiebreak (`data`, `recipe`, ...) that a file imports."""
    names = [name.split(".") for name in imports(ast.parse(path.read_text())) if name.startswith("tiebreak.")]
    return {name[1] for name in names if name[1] != "__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path):
    package = package_of(path)
    upward = {other for other in own_imports(path) if LEVEL[other] < LEVEL[package]}
    assert not upward, f"{package} is below {upward}"


def test_packages_form_no_cycle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        package = package_of(path)
        graph.setdefault(package, set()).update(own_imports(path) - {package})
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


HEAVY = {"torch", "transformers", "sklearn", "scipy", "llmcompressor", "pandas", "datasets"}


@pytest.mark.parametrize(
    "package", ["cli", "commands", "slurm", "engine", "pipeline", "recipe", "errors", "runtime"]
)
def test_planning_needs_no_heavy_library(package):
    for path in (path for path in FILES if package_of(path) == package):
        at_top = [node for node in ast.parse(path.read_text()).body if "Import" in type(node).__name__]
        libraries = {name.split(".")[0] for node in at_top for name in imports(node)}
        assert not libraries & HEAVY, path


SLOW = {*HEAVY, "numpy", "pyarrow", "yaml", "jinja2", "huggingface_hub"}
"""What help does without, too; typer itself imports pydantic for some options."""


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [(["--help"], SLOW), (["--version"], SLOW), (["predict", "--help"], SLOW), (["plan", "{recipe}"], HEAVY)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_starts_without_what_takes_seconds(
    arguments: list[str], unwanted: set[str], tmp_path: Path
) -> None:
    recipe = fake_steps.write(tmp_path)
    shutil.copytree(base("llama"), tmp_path / "models" / "llama")
    shutil.copytree(base("llama"), tmp_path / "models" / "gemma")
    command = ["tiebreak", *(part.format(recipe=recipe) for part in arguments)]
    code = f"""
import sys, tiebreak.cli
sys.argv = {command}
try:
    tiebreak.cli.main()
except SystemExit as end:
    print("ended with", end.code, *(sys.modules.keys() & {unwanted}))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1].split() == ["ended", "with", "0"], found.stderr


FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """What could run code that came with data: unpickling, evaluation, a model's own Python."""
    yield from (name for name in imports(tree) if name.split(".")[0] in FORBIDDEN_MODULES)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if (name := ast.unparse(call.func)) in FORBIDDEN_CALLS:
            yield name
        for keyword in call.keywords:
            risky = keyword.arg in {"trust_remote_code", "allow_pickle"}
            if risky and ast.unparse(keyword.value) != "False":
                yield ast.unparse(keyword)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_runs_what_it_reads(path):
    assert list(dangers(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "np.load(path, allow_pickle=flag)",
    ],
)
def test_dangers_are_seen(code):
    assert list(dangers(ast.parse(code)))


def test_the_package_is_imported_without_what_takes_time() -> None:
    """Nor any part of it but what its own functions need at once."""
    code = "import sys, tiebreak; print(*sorted(name for name in sys.modules if name.startswith('tiebreak')))"
    code += f"; assert not sys.modules.keys() & {SLOW | {'pydantic', 'rich', 'typer'}}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["tiebreak", "tiebreak.arguments", "tiebreak.errors", "tiebreak.plain"]
