"""Initialisation of a recipe in a new folder: from a preset, with its data and, for `tiny`, its models."""

import json
import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import chain
from pathlib import Path
from shutil import rmtree

import yaml

from tiebreak.errors import TiebreakError, nearest
from tiebreak.output import new_folder, write_atomically
from tiebreak.recipe.basics import FEWEST_VOTES, MAX_SEED, MOST_VOTES, RECIPE, SYNTHETIC_VOTES, presets
from tiebreak.recipe.loader import dump, parse
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import Role
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap

log = logging.getLogger(__name__)

MADE_UP = (
    "the votes are made up (tiebreak.votes.synthetic): what is learned from them says nothing of real ones"
)

_TINY_FAMILIES = {"models/llama": "llama", "models/qwen": "qwen2", "models/gemma": "gemma2"}
_TOKENIZER_TEXTS = 20_000


def preset_text(name: str) -> str:
    """The text of a preset, comments included. Raises TiebreakError for an unknown one."""
    if name not in presets():
        raise TiebreakError(f"no preset {name!r}; {nearest(name, presets())}")
    return (files("tiebreak.recipe") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def init_recipe(
    folder: Path,
    preset: str,
    votes: Sequence[Path] = (),
    preferences: Sequence[Path] = (),
    synthetic: int | None = None,
    seed: int = 0,
    *,
    extra: Sequence[Path] = (),
    unlabelled: Sequence[Path] = (),
    test: Sequence[Path] = (),
    mapping: ColumnMap = NO_MAP,
    overrides: Sequence[str] = (),
    heading: str = "",
) -> Path:
    """Write `folder`/recipe.yaml and its inputs: synthetic votes if requested, tiny models for `tiny`.

    Without votes, those of `tiny` are made up. mapping: of the files' columns. overrides: `a.b=value`, for other values than the
    preset's. heading: a comment at the recipe's beginning, by which a later call knows one that it may write anew. The recipe is
    written last, so a folder with one is complete. Given votes that are few, or of one label, are warned of. Returns its path. Raises TiebreakError for an unknown preset, a file that is missing, damaged or empty, other files without votes,
    a seed out of range, or a folder that has a recipe already or cannot be written to; then no new file remains.
    """
    path = folder / RECIPE
    text = preset_text(preset)
    given: dict[Role, Sequence[Path]] = {
        "votes": votes,
        "extra": extra,
        "preferences": preferences,
        "unlabelled": unlabelled,
        "test": test,
    }
    is_known = is_written_by(path, heading)
    if preset == "tiny" and not votes and synthetic is None:
        synthetic = SYNTHETIC_VOTES
    _check(preset, given, mapping, synthetic, seed)
    text = _with_data(text, given, mapping) if synthetic is None else _made_up(text)
    name = f"name: {json.dumps(folder.resolve().name)}"
    text = re.sub(r"^name: .*$", lambda _: name, text, count=1, flags=re.M)
    recipe = parse(yaml.safe_load(text), str(path), overrides)
    text = heading + (dump(recipe) if overrides else text)
    if is_known and path.read_text(encoding="utf-8") == text:
        return path
    with removed_on_failure(folder):
        if synthetic is not None:
            _make_votes(folder, synthetic, seed)
        if votes or preset == "tiny":
            texts, labels = _read([folder / name for name in recipe.data.votes], "votes", mapping)
        if votes:
            _warn(labels)
        for role, paths in given.items():
            if role != "votes" and paths:
                _read(paths, role, mapping)
        if preset == "tiny":
            _make_models(folder, recipe, texts, seed, only_missing=is_known)
        write_atomically(path, text)
    return path


def is_written_by(path: Path, heading: str) -> bool:
    """True for a recipe that begins with this heading. Raises TiebreakError for any other one, False if there is none."""
    if not path.exists():
        return False
    if heading and path.is_file() and path.read_text(encoding="utf-8").startswith(heading):
        return True
    raise TiebreakError(f"{path} exists; use it with: tiebreak run {shlex.quote(str(path))}, or name another")


def _check(
    preset: str,
    given: Mapping[Role, Sequence[Path]],
    mapping: ColumnMap,
    synthetic: int | None,
    seed: int,
) -> None:
    """Raise TiebreakError for data that do not go together, or are not there."""
    votes = given["votes"]
    if not votes and (others := [f"--{role}" for role, paths in given.items() if paths]):
        raise TiebreakError(f"{' and '.join(others)} come with votes of your own: --votes FILE")
    if mapping and not votes:
        raise TiebreakError("--map and --values are for votes of your own: --votes FILE")
    if votes and synthetic is not None:
        raise TiebreakError("--votes and --synthetic exclude each other: votes are given or made up")
    if synthetic is not None and preset != "tiny":
        raise TiebreakError(f"--synthetic is for the preset tiny; give {preset} files: --votes FILE")
    if synthetic is not None and synthetic < FEWEST_VOTES:
        raise TiebreakError(f"{synthetic} votes are too few for folds and a lockbox; at least {FEWEST_VOTES}")
    if synthetic is not None and synthetic > MOST_VOTES:
        raise TiebreakError(f"{synthetic} votes are more than can be made up; at most {MOST_VOTES}")
    if not 0 <= seed <= MAX_SEED:
        raise TiebreakError(f"seed {seed} is not in the range 0 to {MAX_SEED}")
    for file in chain.from_iterable(given.values()):
        if not file.exists():
            raise TiebreakError(f"no file of votes at {file}")


def _warn(labels: Mapping[str, float]) -> None:
    """Say what votes, by the sums of their labels, are too few or too much alike for."""
    from tiebreak.votes import sample_size

    for notice in sample_size.notices(labels):
        log.warning("%s", notice)


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Create a folder, and remove all that was created in it if the block fails."""
    made = [path for path in (folder, folder / "data", folder / "models") if not path.exists()]
    new_folder(folder)
    try:
        yield
    except BaseException:
        for path in made:
            rmtree(path, ignore_errors=True)
        raise


def _make_votes(folder: Path, votes: int, seed: int) -> None:
    from tiebreak.votes import synthetic

    synthetic.write(folder, votes, seed, synthetic.DEMO)


def _with_data(text: str, given: Mapping[Role, Sequence[Path]], mapping: ColumnMap) -> str:
    """The preset with the given data in place of its own."""
    if not given["votes"]:
        return text
    lines = [f"{role}: {_yaml_list(paths)}" for role, paths in given.items() if paths]
    for key, value in (("columns", mapping.columns), ("values", mapping.values)):
        if value:
            lines.append(f"{key}: {json.dumps(dict(value), ensure_ascii=False)}")
    section = "".join(f"  {line}\n" for line in lines)
    return re.sub(r"^data:\n(?:[ #].*\n)+", lambda _: f"data:\n{section}", text, count=1, flags=re.M)


def _made_up(text: str) -> str:
    """The preset with a comment on its votes."""
    return re.sub(r"^data:\n", f"# {MADE_UP}\ndata:\n", text, count=1, flags=re.M)


def _yaml_list(paths: Sequence[Path]) -> str:
    return json.dumps([str(path.resolve()) for path in paths], ensure_ascii=False)


def _read(
    files_of_votes: Sequence[Path], role: Role, mapping: ColumnMap
) -> tuple[list[str], dict[str, float]]:
    """Texts of the first votes, and the sums of the labels of all.

    Raises TiebreakError if a file is damaged or no vote is usable.
    """
    from tiebreak.votes import sample_size
    from tiebreak.votes.formats import readers
    from tiebreak.votes.schema import probabilities

    if role == "votes":
        readers.require_mapped(files_of_votes, mapping)
    texts: list[str] = []
    labels = []
    rejects: Counter[str] = Counter()
    for batch in readers.read(files_of_votes, role, mapping=mapping):
        readers.require_complete(batch.rejects)
        rejects.update(readers.kinds_of(batch.rejects))
        labels.append(probabilities(batch.votes))
        for column in ("prompt", "response_a", "response_b"):
            texts += (turn for turn in batch.votes[column].flatten().to_pylist() if turn)
        del texts[_TOKENIZER_TEXTS:]
    if not texts:
        raise readers.no_votes(map(str, files_of_votes), rejects)
    return texts, sample_size.label_sums(labels)


def _make_models(folder: Path, recipe: Recipe, texts: Sequence[str], seed: int, only_missing: bool) -> None:
    """Write the tiny models that the recipe names, their tokenizers trained on the texts."""
    from transformers.utils.logging import disable_progress_bar

    from tiebreak.model import tiny

    disable_progress_bar()
    models = (*recipe.models.teachers.values(), recipe.models.student)
    for base in sorted({model.base for model in models} & _TINY_FAMILIES.keys()):
        if only_missing and (folder / base).exists():
            continue
        (folder / base).parent.mkdir(parents=True, exist_ok=True)
        tiny.make(folder / base, _TINY_FAMILIES[base], texts, seed, initializer_range=0.06)  # type: ignore[arg-type]
