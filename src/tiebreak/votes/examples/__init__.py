"""Example votes, made up: `VOTES` to learn from, and `FRESH` on other prompts to try a judge on.

405 and 120 votes on answers of six made-up assistants, drawn by `scripts/example_votes.py`. Nobody cast them and no model wrote the
answers, so they show how things work and say nothing of people. They have the project's licence.
"""

from pathlib import Path

from tiebreak.errors import TiebreakError
from tiebreak.output import new_folder, write_atomically

VOTES = Path(__file__).with_name("votes.csv")
FRESH = Path(__file__).with_name("fresh.csv")


def copy_to(folder: Path) -> list[Path]:
    """Copy both files into a folder, made if need be, and return their paths.

    Raises TiebreakError if a file of their name is there already, or the folder cannot be written to.
    """
    files = {new_folder(folder) / file.name: file for file in (VOTES, FRESH)}
    if there := [str(path) for path in files if path.exists()]:
        raise TiebreakError(f"{there[0]} is there already and would be lost; name another folder")
    for path, file in files.items():
        write_atomically(path, file.read_text(encoding="utf-8"))
    return list(files)
