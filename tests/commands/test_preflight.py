"""Pre-flight checks: findings before any work, with their fixes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gguf_files
import httpx
import numpy as np
import pytest
from huggingface_hub import errors
from safetensors.numpy import save_file
from tiny_models import base
from transformers import GptOssConfig

from tiebreak.commands import preflight
from tiebreak.commands.preflight import Preflight
from tiebreak.engine.finding import Finding
from tiebreak.engine.signals import Stop
from tiebreak.engine.workspace import Workspace
from tiebreak.hardware.gpu_specs import Card, find_card
from tiebreak.slurm import checks, client

GEMMA_9B = {
    "model_type": "gemma2",
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "vocab_size": 256000,
}
RECIPE = """
name: judge
data: {votes: [votes.csv]}
models: {teachers: {llama: {base: models/llama}}, student: {base: models/gemma}}
split: {count: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny models and a file of votes; an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "votes.csv").write_text("votes")
    shutil.copytree(base("llama"), tmp_path / "models" / "llama")
    shutil.copytree(base("gemma2"), tmp_path / "models" / "gemma")
    return tmp_path / "recipe.yaml"


def findings(
    recipe: Path, *sets: str, card: Card | None = None, on_slurm: bool = False
) -> dict[str, Finding]:
    found = Preflight(Workspace(recipe, sets), card, on_slurm).findings()
    return {finding.about: finding for finding in found}


def become_9b(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tiny model's folder pass for Gemma-2-9B's, with weights that nobody compares with their sizes."""
    monkeypatch.setattr("tiebreak.model.classifier.require_loadable", lambda _: None)
    (folder / "config.json").write_text(json.dumps(GEMMA_9B))
    save_file({"nothing": np.zeros(1)}, folder / "model.safetensors")


def test_all_is_well(recipe: Path) -> None:
    found = findings(recipe, card=find_card("H100"))
    assert {finding.level for finding in found.values()} == {"ok"}
    assert list(found) == [
        "models.teachers.llama",
        "models.student",
        f"disk {recipe.parent}",
        "models.teachers.llama on H100",
        "models.student on H100",
    ]


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_model_folder_is_an_error(recipe: Path, missing: str) -> None:
    (recipe.parent / "models" / "gemma" / missing).unlink()
    found = findings(recipe)["models.student"]
    assert found.level == "error"
    assert missing in found.text


@pytest.mark.parametrize("model", ["teachers.llama", "student"])
@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
@pytest.mark.parametrize("command", ["plan", "run", "check", "fetch", "status", "sweep", "task"])
def test_every_command_refuses_a_damaged_model_before_any_work(
    recipe: Path,
    command: str,
    kind: str,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file that breaks off, of a teacher or of the student, which is needed last."""
    from tiebreak import cli
    from tiebreak.votes import synthetic

    synthetic.write(recipe.parent, 60, seed=0)
    recipe.write_text(recipe.read_text().replace("votes.csv", "data/votes.parquet"))
    if kind == "gguf":
        pytest.importorskip("gguf", reason="the extra gguf is not installed")
        file = gguf_files.write(base("llama"), recipe.parent / "model.gguf")
    else:
        file = shutil.copytree(base("llama"), recipe.parent / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    more = {
        "sweep": ["--key", "distill.temperature", "--values", "1,2"],
        "task": ["evaluate/report"],
    }.get(command, [])
    base_of = file.parent if kind == "safetensors" else file
    arguments = [command, str(recipe), *more, "--set", f"models.{model}.base={base_of}"]
    monkeypatch.setattr(sys, "argv", ["tiebreak", *arguments])
    monkeypatch.setattr(Stop, "install", lambda self: self)
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert end.value.code == 2
    line = f"error    models.{model}: " if command == "check" else "error: "
    assert line in (captured.out if command == "check" else captured.err)
    assert "breaks off" in captured.out + captured.err
    assert str(file) in captured.out + captured.err
    assert not (recipe.parent / "run").exists()


@pytest.mark.parametrize("command", ["plan", "run", "check", "fetch"])
def test_a_family_that_packing_gets_wrong_is_refused_before_any_work(
    recipe: Path, command: str, tiebreak: Callable[..., tuple[int, str, str]]
) -> None:
    from tiebreak.votes import synthetic

    synthetic.write(recipe.parent, 60, seed=0)
    recipe.write_text(recipe.read_text().replace("votes.csv", "data/votes.parquet"))
    config = GptOssConfig(num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"])
    (recipe.parent / "models" / "gemma" / "config.json").write_text(json.dumps(config.to_dict()))
    code, out, err = tiebreak(command, recipe)
    assert code == 2
    assert "is of the family 'gpt_oss', which tiebreak cannot run: its attention takes s_aux" in out + err
    assert not (recipe.parent / "run").exists()


def test_a_family_on_the_hub_is_refused_before_it_is_fetched(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_hub(monkeypatch, tmp_path)
    (tmp_path / "gemma.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "m.M"}}))
    found = findings(recipe, HUB)["models.student"]
    assert found.level == "error"
    assert (
        "google/gemma-2-9b-it is of the family 'mine', which tiebreak cannot run: it brings its own"
        in found.text
    )
    assert "trust_remote_code" not in found.text


def test_a_mixture_of_experts_is_told_what_its_adapter_leaves_out(recipe: Path) -> None:
    folder = recipe.parent / "models" / "gemma"
    config = json.loads((folder / "config.json").read_text()) | {"num_local_experts": 8}
    (folder / "config.json").write_text(json.dumps(config))
    found = [f for f in Preflight(Workspace(recipe)).findings() if f.about == "models.student"]
    assert [f.level for f in found if "mixture of experts" in f.text] == ["warning"]
    sets = ("models.student.precision=nf4",)
    found = [f for f in Preflight(Workspace(recipe, sets)).findings() if f.about == "models.student"]
    assert [f.level for f in found if "--set models.student.precision=bf16" in f.text] == ["error"]


def test_a_shard_that_is_missing_is_named(recipe: Path) -> None:
    folder = recipe.parent / "models" / "gemma"
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = findings(recipe)["models.student"]
    assert (found.level, "it has no model-00002-of-00002.safetensors" in found.text) == ("error", True)


HUB = "models.student.base=google/gemma-2-9b-it"


def on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Exception | None = None) -> None:
    """A hub with one model of 18 GiB, or one that refuses access to it."""

    def auth_check(self: object, repo: str) -> None:
        if refusal:
            raise refusal

    def model_info(self: object, repo: str, **_: object) -> SimpleNamespace:
        sizes = {"config.json": 1000, "model.safetensors": 18 * 2**30, "original/model.pth": 99 * 2**30}
        files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
        return SimpleNamespace(sha="0" * 40, siblings=files)

    (tmp_path / "gemma.json").write_text(json.dumps(GEMMA_9B))
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", auth_check)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "gemma.json"))


def test_a_hub_model_is_to_be_fetched_before_jobs(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_hub(monkeypatch, tmp_path)
    monkeypatch.setattr(checks, "findings", lambda *_: [])
    here = findings(recipe, HUB)["models.student"]
    assert (here.level, here.text) == ("ok", "google/gemma-2-9b-it can be fetched, 18.0 GiB")
    jobs = findings(recipe, HUB, on_slurm=True)["models.student"]
    assert jobs.level == "warning"
    assert jobs.text.endswith(f"do it before the jobs: tiebreak fetch {recipe} --set {HUB}")


def test_a_gated_model_is_an_error_with_its_fix(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = httpx.Response(403, request=httpx.Request("GET", "https://hub.invalid"))
    on_the_hub(monkeypatch, tmp_path, errors.GatedRepoError("gated", response=response))
    found = findings(recipe, HUB)["models.student"]
    assert found.level == "error"
    assert "is gated: accept its terms at https://huggingface.co/google/gemma-2-9b-it" in found.text
    assert "hf auth login" in found.text


def test_offline_the_error_names_the_command(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = findings(recipe, HUB)["models.student"]
    assert found.level == "error"
    assert "hf download google/gemma-2-9b-it" in found.text


def test_unsupported_precision_and_memory_that_does_not_fit(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_9b(recipe.parent / "models" / "gemma", monkeypatch)

    def student(card: str, *sets: str) -> Finding:
        return findings(recipe, *sets, card=find_card(card))[f"models.student on {card}"]

    assert student("H100").level == "ok"
    assert student("H100").text.startswith("bf16, 8192 tokens a forward: about 5")
    assert student("V100-32G", "models.student.precision=bf16").level == "error"
    assert "has no bf16" in student("V100-32G", "models.student.precision=bf16").text
    assert "--set models.student.precision=auto" in student("V100-32G", "models.student.precision=fp8").text
    odd = student("H100", "models.student.precision=fp8", "models.student.lora.rank=8")
    assert (odd.level, "multiples of 16" in odd.text) == ("error", True)
    tight = student("A100-40G", "models.student.precision=bf16")
    assert (tight.level, "layers computed again" in tight.text) == ("warning", True)
    small = student("V100-16G", "models.student.precision=fp16")
    assert small.level == "error"
    assert "--set models.student.precision=nf4" in small.text
    spread = ("models.student.precision=fp16", "compute.processes=2", "compute.shard_model=true")
    assert student("V100-16G", *spread).level == "warning"


@pytest.mark.parametrize("task", ["quantize/student", "evaluate/report"])
def test_the_shipped_copy_counts_on_the_disk(
    recipe: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the quantised model that it is a copy of."""
    become_9b(recipe.parent / "models" / "gemma", monkeypatch)
    monkeypatch.setattr(Preflight, "_tasks_to_run", property(lambda self: [self.work.find(task)]))
    assert findings(recipe)[f"disk {recipe.parent}"].text.startswith("needs about 10.")


def test_a_teachers_name_may_have_a_dot(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def needed(*sets: str) -> str:
        return findings(recipe, *sets)[f"disk {recipe.parent}"].text.partition(",")[0]

    become_9b(recipe.parent / "models" / "llama", monkeypatch)
    assert "GiB" in needed()
    assert needed("models.teachers={llama-3.1: {base: models/llama}}") == needed()


def test_a_full_disk_is_an_error(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(total=1, used=1, free=1000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: free)
    found = findings(recipe)[f"disk {recipe.parent}"]
    assert found.level == "error"
    assert "free some, or set run_dir" in found.text


def test_jobs_need_a_card_named_where_none_is_here(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(client, "partitions", dict)
    found = findings(recipe, on_slurm=True)
    assert found["card"].level == "warning"
    assert "--card H100" in found["card"].text
    assert found["slurm partition"].level == "error"
    assert "card" not in findings(recipe, "compute.device=cpu")


def test_data_of_the_hub_is_read_before_jobs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "findings", lambda *_: [])
    found = findings(recipe, "data.extra=[hub:lmarena/votes]", on_slurm=True)["data"]
    assert found.level == "warning"
    assert "--steps ingest" in found.text


def test_the_command_ends_with_2_after_an_error(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiebreak import cli
    from tiebreak.votes import synthetic

    synthetic.write(recipe.parent, 60, seed=0)
    recipe.write_text(recipe.read_text().replace("votes.csv", "data/votes.parquet"))

    def check(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tiebreak", "check", str(recipe), *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    assert check("--card", "H100") == 0
    assert capsys.readouterr().out.startswith("ok       models.teachers.llama: models/llama is here\n")
    assert check("--card", "V100-32G", "--set", "models.student.precision=fp8", "--json") == 2
    card = json.loads(capsys.readouterr().out)
    assert [found["about"] for found in card["preflight"] if found["level"] == "error"] == [
        "models.student on V100-32G"
    ]
    assert card["labelled"] == 60


def test_a_tracker_that_is_not_installed_is_an_error(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "compute.report_to" not in findings(recipe)
    monkeypatch.setattr("tiebreak.engine.trackers.find_spec", lambda name: None)
    found = findings(recipe, "compute.report_to=[trackio]")["compute.report_to"]
    assert (found.level, found.text.rpartition(": ")[2]) == ("error", "pip install trackio")


def test_a_library_that_a_step_needs_is_asked_for_before_the_run(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiebreak.engine.libraries.find_spec", lambda name: None)
    found = findings(recipe)["libraries"]
    assert (found.level, found.text.partition(":")[0]) == (
        "error",
        "the step quantize needs llmcompressor, which is not installed",
    )
    monkeypatch.setattr("tiebreak.engine.libraries.find_spec", lambda name: name)
    assert "libraries" not in findings(recipe)
