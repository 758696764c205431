"""The bundle for Kaggle: its metadata, its wheel of tiebreak, and a notebook whose cells write the submission."""

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import tiebreak
from tiebreak.commands.export import wheels
from tiebreak.commands.export.kaggle import NOTEBOOK, Bundle, estimates, export
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.hardware.gpu_specs import find_card
from tiebreak.hardware.throughput import table

BUNDLE = Bundle("ada", "my-judge", "lmsys-chatbot-arena", hours=0.25)


@pytest.fixture(scope="module")
def some_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("regex-1.0-py3-none-any.whl", "tiebreak-0.0.1-py3-none-any.whl"):
        (folder / name).write_bytes(b"a wheel")
    return folder


@pytest.fixture(scope="module")
def exported(tiny_run: Any, some_wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kaggle") / "bundle"
    export(tiny_run.recipe, folder, BUNDLE, some_wheels)
    return folder


def cells(folder: Path, kind: str) -> list[str]:
    notebook = json.loads((folder / "kernel" / NOTEBOOK).read_text())
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_data_set_is_a_judge_with_wheels(exported: Path, tiny_run: Any) -> None:
    dataset = exported / "dataset"
    pairs = pq.read_table(tiny_run.folder / "data" / "votes.parquet").slice(0, 3)
    assert np.array_equal(tiebreak.load(dataset).predict(pairs), tiebreak.load(tiny_run.model).predict(pairs))
    assert sorted(path.name for path in dataset.glob("*.whl")) == [
        "regex-1.0-py3-none-any.whl",
        f"tiebreak-{tiebreak.__version__}-py3-none-any.whl",
    ]
    metadata = json.loads((dataset / "dataset-metadata.json").read_text())
    assert metadata["id"] == "ada/my-judge"
    assert 6 <= len(metadata["title"]) <= 50
    assert metadata["licenses"] == [{"name": "other"}]


@pytest.mark.slow
def test_the_kernel_names_the_data_set_and_is_offline(exported: Path) -> None:
    metadata = json.loads((exported / "kernel" / "kernel-metadata.json").read_text())
    assert metadata["id"] == "ada/my-judge-predict"
    assert metadata["title"].replace(" ", "-") == metadata["id"].split("/")[1], "Kaggle names it by its title"
    assert (exported / "kernel" / metadata["code_file"]).is_file()
    assert metadata["dataset_sources"] == ["ada/my-judge"]
    assert metadata["competition_sources"] == ["lmsys-chatbot-arena"]
    assert (metadata["enable_internet"], metadata["enable_gpu"]) == ("false", "true")
    text = " ".join(cells(exported, "markdown"))
    assert "Estimated, not measured: GPU T4 x2 " in text
    assert "{{" not in text + " ".join(cells(exported, "code"))


@pytest.mark.slow
def test_the_cells_write_the_submission(exported: Path, tiny_run: Any, tmp_path: Path) -> None:
    votes = pq.read_table(tiny_run.folder / "data" / "votes.parquet").slice(0, 5)
    (tmp_path / "working").mkdir()
    (tmp_path / "input" / "lmsys-chatbot-arena").mkdir(parents=True)
    shutil.copytree(exported / "dataset", tmp_path / "input" / "my-judge")
    with (tmp_path / "input" / "lmsys-chatbot-arena" / "test.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "prompt", "response_a", "response_b"])
        for number, vote in enumerate(votes.to_pylist()):
            rows.writerow(
                [number, *(json.dumps(vote[name]) for name in ("prompt", "response_a", "response_b"))]
            )
    code = "\n".join(cells(exported, "code")).replace("/kaggle/", f"{tmp_path}/")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ids, p_NC = submission.read(tmp_path / "working" / "submission.csv")
    assert ids == [str(number) for number in range(5)]
    assert np.allclose(p_NC, tiebreak.load(tiny_run.model, "cpu").predict(votes), atol=1e-6)


def test_the_wheel_of_what_runs_here_installs_and_is_the_same_again(tmp_path: Path) -> None:
    wheel = wheels.write_own(tmp_path)
    first = wheel.read_bytes()
    assert wheels.write_own(tmp_path).read_bytes() == first
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "there",
    ]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    code = "import tiebreak, tiebreak.cli; print(tiebreak.__file__, tiebreak.__version__)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(tmp_path / 'there'), *sys.path]}; {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [
        str(tmp_path / "there" / "tiebreak" / "__init__.py"),
        tiebreak.__version__,
    ]
    names = zipfile.ZipFile(wheel).namelist()
    assert "tiebreak/recipe/presets/small.yaml" in names
    assert f"tiebreak-{tiebreak.__version__}.dist-info/entry_points.txt" in names


def test_wheels_are_of_the_core_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        for name in ("regex-1.0-py3-none-any.whl", "PyYAML-6.0-cp312-cp312-linux.whl"):
            (tmp_path / name).touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    image = tmp_path / "image.txt"
    image.write_text("regex==1.0\npyyaml==5.4\ntorch==2.11.0\n")
    wheels.download(tmp_path, "3.12", image)
    names = {wheels._name(word) for word in asked[0] if word[0].isalpha()}
    assert {"transformers", "pyarrow", "scikit-learn"} <= names
    assert not names & {"torch", "llmcompressor", "fastapi", "pytest"}
    assert [path.name for path in tmp_path.glob("*.whl")] == ["PyYAML-6.0-cp312-cp312-linux.whl"], (
        "what the image has is left out"
    )


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess(
        [], 1, "", "ERROR: a\nERROR: No matching distribution found for rich\n"
    )
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        TiebreakError, match=r"(?s)No matching distribution.*--wheels.*pip download.*'rich>=14'"
    ):
        wheels.download(tmp_path, "3.12", None)


@pytest.mark.slow
def test_a_failure_leaves_nothing(tiny_run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TiebreakError, match=r"holds no \.whl files"):
        export(tiny_run.model, tmp_path / "bundle", BUNDLE, tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    (tmp_path / "empty" / "mine").touch()
    with pytest.raises(TiebreakError, match="is there and holds something"):
        export(tiny_run.model, tmp_path / "empty", BUNDLE, tmp_path)


@pytest.mark.parametrize(
    ("option", "value"), [("owner", "a b"), ("name", "short"), ("name", "My_Judge_Of_Answers")]
)
def test_names_that_kaggle_refuses_are_refused(option: str, value: str) -> None:
    given = {"owner": "ada", "name": "my-judge", "competition": "x"} | {option: value}
    with pytest.raises(TiebreakError, match=f"--{option} '{value}'"):
        Bundle(**given)


@pytest.mark.slow
def test_estimates_follow_the_cards(tiny_run: Any) -> None:
    found = {one.machine: one for one in estimates(tiny_run.model)}
    peaks = {name: entry["tflops"] for name, entry in table()["peaks"].items()}
    two, one = found["GPU T4 x2"], found["GPU P100"]
    assert two.tokens_per_s / one.tokens_per_s == pytest.approx(2 * peaks["T4"] / peaks["P100"], rel=1e-3)
    assert found["GPU L4 x4"].tokens_per_s > two.tokens_per_s
    assert one.hours / two.hours == pytest.approx(two.tokens_per_s / one.tokens_per_s, rel=1e-3)
    assert not find_card("P100").has_bf16
