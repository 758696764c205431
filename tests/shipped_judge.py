"""A folder as a run ships it, made of a tiny random model."""

from pathlib import Path

import torch
from tiny_models import base

from tiebreak.judge import package
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.recipe.schema import Prompt, Tta


def ship(folder: Path, seed: int, hidden: int = 32) -> Path:
    """A judge whose answers are random, but sure of themselves."""
    judge = classifier.load(base("llama", hidden), device="cpu")
    judge.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(seed))
    save(judge, folder)
    shipped = package.Package(prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": 1.3})
    package.write(shipped, folder)
    return folder
