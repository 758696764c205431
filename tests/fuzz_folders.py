"""Damaged recipes, model folders, adapters, packages and manifests: refused in words, or read as what they then are."""

import json
import shutil
from functools import cache
from pathlib import Path
from random import Random

import fake_steps
import numpy as np
import torch
import yaml
from fuzzing import Target, change, damage, damage_file
from tiny_models import base, temporary_folder, votes

import tiebreak
from tiebreak.commands.init import init_recipe, preset_text
from tiebreak.commands.status import task_statuses
from tiebreak.commands.verify import verify
from tiebreak.engine import local_runner, planner
from tiebreak.engine.workspace import Workspace
from tiebreak.judge import package
from tiebreak.judge.scoring import both_orders, score
from tiebreak.model import classifier, intact, lora
from tiebreak.model.merge import save
from tiebreak.recipe import loader
from tiebreak.recipe.basics import presets
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.tokens.prompt import tokenize

ADAPTER = Lora(rank=4, alpha=8.0, dropout=0.0)
ODD_YAML = ("", "null", "-1", "0", "1e999", ".nan", "[]", "{}", "9" * 30, "*a", "&a [*a]", "!!python/name:os.system ''",
            "2024-13-45", "true", "[1, 2", "\t", "'", "../..", "'\\0'", "1_0", "0o17", "hub:a/b", "~/x", "x: y", "- 1")  # fmt: skip


@cache
def _project() -> Path:
    """A recipe with its votes and models."""
    return init_recipe(temporary_folder() / "project", "tiny", synthetic=100).parent


def recipe(random: Random, folder: Path) -> bool:
    """A preset or a tiny recipe, damaged as text or in a value; planned, and written and read again."""
    text = preset_text(random.choice(presets()))
    if random.random() < 0.5:
        text = (_project() / "recipe.yaml").read_text()
    path = _project() / "damaged.yaml"  # beside its models
    path.write_bytes(_damaged_recipe(text, random))
    work = Workspace(path)
    again = loader.parse(yaml.safe_load(loader.dump(work.recipe)), "again")
    assert again == work.recipe
    assert len(work.tasks) < 20_000
    planner.plan(work)
    return True


def _damaged_recipe(text: str, random: Random) -> bytes:
    kind = random.randrange(3)
    if kind == 0:
        return damage(text.encode(), random)
    if kind == 1:
        return yaml.safe_dump(change(yaml.safe_load(text), random)).encode()
    lines = text.splitlines()
    at = random.choice([n for n, line in enumerate(lines) if ":" in line])
    lines[at] = lines[at].partition(":")[0] + ": " + random.choice(ODD_YAML)
    return "\n".join(lines).encode("utf-8", "replace")


def model(random: Random, folder: Path) -> bool:
    """A file of a model folder; what passes the look at it is loaded and asked."""
    made = Path(shutil.copytree(base(random.choice(("llama", "gemma2"))), folder / "model"))
    damage_file(random.choice(_files(made)), random)
    intact.require(made)
    loaded = classifier.load(made)
    rows = tokenize(votes(2), loaded.tokenizer, Prompt())
    loaded.head_trained = True
    score(loaded, rows, both_orders(np.arange(2)), 120, 1024, lambda *_: None)
    return True


@cache
def _adapted() -> tuple[classifier.Classifier, Path]:
    """A model with adapters, and the folder that they are written to."""
    adapted = classifier.load_adapted(base("llama"), ADAPTER, None, "fp32", "cpu")
    folder = temporary_folder() / "adapter"
    lora.save_adapter(lora.adapter_state(adapted.model, with_head=True), ADAPTER, folder)
    return adapted, folder


def adapter(random: Random, folder: Path) -> bool:
    adapted, whole = _adapted()
    made = Path(shutil.copytree(whole, folder / "adapter"))
    damage_file(random.choice(_files(made)), random)
    lora.load_adapter(adapted.model, made)
    return True


@cache
def _shipped() -> Path:
    """A model to ship, without the hashes that would tell any damage."""
    shipped = classifier.load(base("gemma2"))
    shipped.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    folder = temporary_folder() / "shipped"
    save(shipped, folder)
    state = package.Package(prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": 1.5})
    package.write(state, folder)
    return folder


def shipped(random: Random, folder: Path) -> bool:
    """A file of a model to ship, with and without the hashes by which any damage is known."""
    made = Path(shutil.copytree(_shipped(), folder / "model"))
    has_hashes = random.random() < 0.3
    if not has_hashes:
        facts = made / package.NAME
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"files": {}}))
    damage_file(random.choice([*_files(made), made / package.NAME]), random)
    if has_hashes:
        list(verify(made))
    p_NC = tiebreak.load(made, device="cpu").predict(votes(2))
    assert np.isfinite(p_NC).all()
    assert np.allclose(p_NC.sum(axis=1), 1, atol=1e-5)
    return True


@cache
def _run() -> Path:
    """A finished run of fake steps."""
    work = Workspace(fake_steps.write(temporary_folder() / "fake"), ("compute.workers=1",), fake_steps.tasks)
    local_runner.run(work, work.tasks)
    return work.path.parent


def manifest(random: Random, folder: Path) -> bool:
    """A file of a run: nothing is raised; what is damaged is not fresh, or not whole."""
    made = Path(shutil.copytree(_run(), folder / "fake"))
    manifests = sorted(made.glob("run/artifacts/*/*/manifest.json"))
    assert len(manifests) == 5
    file = random.choice([*manifests, *manifests, *_files(made / "run" / "artifacts")])
    before = file.read_bytes()
    damage_file(file, random)
    work = Workspace(made / "recipe.yaml", ("compute.workers=1",), fake_steps.tasks)
    states = planner.plan(work)
    assert len(states) == 5 == len(task_statuses(work))
    if file.name != "manifest.json" and file.read_bytes() != before and not file.name.startswith("."):
        assert any(state.status != "fresh" for state in states)
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


TARGETS: dict[str, Target] = {
    "recipe": recipe,
    "model": model,
    "adapter": adapter,
    "package": shipped,
    "manifest": manifest,
}
