"""What the command line says of recipes before it reads one; imports nothing that takes time."""

from importlib.resources import files

RECIPE = "recipe.yaml"
"""The recipe's name in its folder."""
MAX_SEED = 2**63 - 1

SYNTHETIC_VOTES = 5000
"""Default number of synthetic votes of the preset tiny."""
FEWEST_VOTES = 100
"""Minimum number of votes for folds and a lockbox."""
MOST_VOTES = 10_000_000
"""More votes made up than that are taken for a slip of the keyboard."""


def presets() -> list[str]:
    """Names of the recipes in the package."""
    folder = files("tiebreak.recipe") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
