"""Workspace of a recipe on disk: its sources, and the key and folder of each of its tasks.

key = hash of (step, its version, its settings, keys of its input tasks, fingerprints of its sources). Tasks with
equal keys have equal results, so that one run reuses the artifacts of another.
"""

import hashlib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tiebreak import json_files
from tiebreak.engine.artifacts import (
    InputRecord,
    Manifest,
    digest,
    lock,
    make_readable,
    read_manifest,
)
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.model import config_facts, families, gguf, hub, intact
from tiebreak.output import inside, new_folder, write_atomically
from tiebreak.pipeline import graph, row_limits
from tiebreak.pipeline.graph import Source, Task
from tiebreak.recipe import loader
from tiebreak.recipe.schema import Recipe
from tiebreak.votes.formats.hub_datasets import parse_location

_SHOWN_MODELS = 5
_PIECES = 256
_PIECE = 2**18
"""Bytes of a piece: together 64 MiB."""


@dataclass(frozen=True)
class Workspace:
    """The tasks of one recipe file, with overrides, and the folders of their artifacts.

    `expand` makes tasks of the recipe. Results are cached in the object: sources are read once.
    """

    path: Path
    overrides: tuple[str, ...] = ()
    expand: Callable[[Recipe], tuple[Task, ...]] = graph.tasks
    _keys: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _fingerprints: dict[Source, str] = field(default_factory=dict, repr=False, compare=False)
    _folders: dict[str, Path] | None = field(default=None, repr=False, compare=False)
    _manifests: dict[Path, Manifest | None] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def recipe(self) -> Recipe:
        return loader.load(self.path, self.overrides)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task, in topological order."""
        return self.expand(self.recipe)

    @property
    def arguments(self) -> str:
        """The recipe and its overrides as shell arguments, for messages."""
        sets = (f" --set {shlex.quote(override)}" for override in self.overrides)
        return shlex.quote(str(self.path)) + "".join(sets)

    @cached_property
    def root(self) -> Path:
        """The base folder of relative locations."""
        return self.path.resolve().parent

    @cached_property
    def run_dir(self) -> Path:
        return self.root / Path(self.recipe.run_dir).expanduser()

    def place(self, *parts: str) -> Path:
        """The path of a place in the run's folder. Raises TiebreakError as `output.inside` does."""
        return inside(self.run_dir, *parts)

    def find(self, task_id: str) -> Task:
        return graph.find(self.tasks, task_id)

    def step_folder(self, task: Task) -> Path:
        return self.place("artifacts", task.step.name)

    def folder(self, task: Task) -> Path:
        """The folder of a task's artifact, existing or not."""
        parts = ("artifacts", task.step.name, f"{task.name}-{self.key(task)[:8]}")
        if self._folders is None:
            return self.place(*parts)
        if task.id not in self._folders:
            self._folders[task.id] = self.place(*parts)
        return self._folders[task.id]

    def manifest(self, task: Task) -> Manifest | None:
        """The manifest of a task's artifact; None while it is incomplete."""
        folder = self.folder(task)
        if self._manifests is None:
            return read_manifest(folder)
        if folder not in self._manifests:
            self._manifests[folder] = read_manifest(folder)
        return self._manifests[folder]

    def snapshot(self) -> "Workspace":
        """This workspace with each folder looked at and each manifest read once, for file systems that are far away."""
        return self if self._manifests is not None else replace(self, _folders={}, _manifests={})

    def key(self, task: Task) -> str:
        if task.id not in self._keys:
            inputs = {name: [self._input_key(item) for item in group] for name, group in task.inputs.items()}
            self._keys[task.id] = digest(
                [task.step.name, task.step.version, task.settings.model_dump(mode="json"), inputs]
            )
        return self._keys[task.id]

    def _input_key(self, item: Task | Source) -> str:
        return self.fingerprint(item) if isinstance(item, Source) else self.key(item)

    def inputs(self, task: Task) -> dict[str, tuple[InputRecord, ...]]:
        """Records of a task's inputs, for its manifest."""
        return {name: tuple(self._record(item) for item in group) for name, group in task.inputs.items()}

    def _record(self, item: Task | Source) -> InputRecord:
        if isinstance(item, Source):
            return InputRecord(origin=item.location, key=self.fingerprint(item))
        manifest = self.manifest(item)
        return InputRecord(origin=item.id, key=self.key(item), content=manifest.content if manifest else None)

    def local(self, source: Source) -> Path | None:
        """The path of a source on this machine; None for one on the hub.

        Raises TiebreakError if it is neither here nor a possible hub id, or is no model folder.
        """
        path = self.root / Path(source.location).expanduser()
        if not source.is_model:
            if parse_location(path):
                return None
            if not path.exists():
                raise TiebreakError(f"no file {source.location!r}: looked for {path}, as {self.path} says")
            return path
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise TiebreakError(f"{path} is not a model folder: it has no config.json")
            return path
        if path.suffix == hub.GGUF and path.is_file():
            return path
        if not hub.is_id(source.location):
            raise TiebreakError(
                f"no model folder {source.location!r}: looked for {path}, as {self.path} says. "
                "A model is a folder with config.json, a .gguf file, or on the hub owner/name or owner/name/file.gguf"
                + self._models_nearby(path)
            )
        return None

    def unavailable(self, source: Source, error: TiebreakError) -> TiebreakError:
        """The error of a model that the hub does not give, with the folders that may be meant by its name instead."""
        nearby = self._models_nearby(self.root / Path(source.location).expanduser())
        return TiebreakError(f"{error}. Nor is there such a folder{nearby}") if nearby else error

    def _models_nearby(self, path: Path) -> str:
        """A hint that names the model folders beside a path, or in folders beside its own; empty if there are none."""
        around = (path.parent, path.parent.parent)
        found = {
            file.parent
            for base in around
            for depth in ("*", "*/*")
            for file in base.glob(f"{depth}/config.json")
        }
        names = sorted(os.path.relpath(folder, self.root) for folder in found)
        close = get_close_matches(os.path.relpath(path, self.root), names, n=_SHOWN_MODELS, cutoff=0)
        if not close:
            return ""
        more = f" and {len(names) - len(close)} more" if len(names) > len(close) else ""
        return f"; model folders nearby, the likeliest first: {', '.join(close)}{more}"

    def resolve(self, source: Source) -> Path:
        """Resolve a source to a local path; a hub model is downloaded if not cached, a GGUF file converted.

        A data set of the hub stays a location, pinned to its commit. Raises TiebreakError for a model that is damaged.
        """
        path = self.local(source)
        if data := parse_location(Path(source.location)):
            return data.at(hub.commit(data.name, data.revision, "dataset"))
        path = path or self._downloaded(source)
        if not source.is_model:
            return path
        self._require_intact(source, self.fingerprint(source))  # it may have been fetched just now
        return self._converted(path, source) if path.is_file() else path

    def _downloaded(self, source: Source) -> Path:
        """A model of the hub. What its small files tell against it is told before its weights come."""
        repo, file = hub.split_location(source.location)
        if source.is_model and not file and not hub.cached(source.location, source.revision):
            config = intact.require_plain(
                hub.download(source.location, source.revision, weights=False), f"see {repo} on the hub"
            )
            config_facts.require(Path(repo, "config.json"), config, {}, "name another revision")
            families.require(repo, config)
        return hub.download(source.location, source.revision)

    def _conversion(self, file: Path, fingerprint: str) -> Path:
        """The model folder that a GGUF file becomes, made once a run: <run_dir>/models/NAME-KEY."""
        return self.place("models", f"{file.stem}-{digest(fingerprint)[:8]}")

    def _converted(self, file: Path, source: Source) -> Path:
        """A GGUF file as a model folder."""
        folder = self._conversion(file, self.fingerprint(source))
        with lock(folder.parent):
            if not folder.is_dir():
                gguf.convert(file, folder)
                make_readable(folder)
        return folder

    def with_absolute_paths(self) -> dict[str, Any]:
        """The whole recipe as a tree with absolute locations, valid in any folder, with its run_dir."""
        return absolute_paths(self.recipe, self.root) | {"run_dir": str(self.run_dir)}

    @property
    def frozen_path(self) -> Path:
        """The path of the frozen copy of this recipe, written by `freeze`."""
        name = f"recipe-{digest(self.with_absolute_paths())[:8]}.yaml"
        return inside(self.run_dir.resolve(), "slurm", name)

    def freeze(self) -> Path:
        """Write the copy for jobs, which later edits do not affect. Returns its path."""
        path = self.frozen_path
        new_folder(path.parent)
        write_atomically(path, yaml.safe_dump(self.with_absolute_paths(), sort_keys=False))
        return path

    def fetch(self) -> dict[str, Path]:
        """Resolve every source of every task, downloading those that are not local."""
        groups = (group for task in self.tasks for group in task.inputs.values())
        sources = dict.fromkeys(item for group in groups for item in group if isinstance(item, Source))
        return {source.location: self.resolve(source) for source in sources}

    def fingerprint(self, source: Source) -> str:
        """Fingerprint of a source: a hash of its content, or a hub commit.

        Raises TiebreakError, before any work, for a source that is missing or a local model that is damaged.
        """
        if source not in self._fingerprints:
            found = self._fingerprint(source)
            if source.is_model:
                self._require_intact(source, found)
            self._fingerprints[source] = found
        return self._fingerprints[source]

    def _require_intact(self, source: Source, fingerprint: str) -> None:
        """Look at the files of a model, as far as they are on this machine, and whether its rows fit it.

        Raises as `intact.require` and `row_limits.require` do.
        """
        here = self.local(source)
        place = here or hub.cached(source.location, source.revision)
        if place is None:
            return
        repo, _ = hub.split_location(source.location)
        again = f"run: hf cache rm model/{repo}, then: tiebreak fetch {self.arguments}"
        mend = gguf.AGAIN if here else again
        if place.is_file() and (converted := self._conversion(place, fingerprint)).is_dir():
            place, mend = converted, f"delete it, and run: tiebreak run {self.arguments}"
        intact.require(place, mend)
        config = (
            gguf.config(place) if place.is_file() else json_files.read_object(place / "config.json", mend)
        )
        row_limits.require(self.recipe, source.location, config)

    def _fingerprint(self, source: Source) -> str:
        if path := self.local(source):
            return content_fingerprint(path, whole=not source.is_model)
        if source.is_model:
            try:
                return f"hub:{source.location}@{hub.commit(source.location, source.revision)}"
            except TiebreakError as error:
                raise self.unavailable(source, error) from None
        return str(self.resolve(source))


def absolute_paths(recipe: Recipe, root: Path) -> dict[str, Any]:
    """A recipe as a tree, in which locations relative to `root` that exist there are absolute."""
    tree = recipe.model_dump(mode="json")

    def absolute(location: str) -> str:
        path = root / Path(location).expanduser()
        return str(path) if path.exists() else location

    for role, files in recipe.data.files().items():
        tree["data"][role] = [absolute(location) for location in files]
    if tree["data"]["solution"]:
        tree["data"]["solution"] = absolute(tree["data"]["solution"])
    for model in (*tree["models"]["teachers"].values(), tree["models"]["student"]):
        model["base"] = absolute(model["base"])
    if tree["slurm"]["profile"]:
        tree["slurm"]["profile"] = absolute(tree["slurm"]["profile"])
    return tree


def content_fingerprint(path: Path, whole: bool = True) -> str:
    """Hash of a file or the visible files of a folder; of large files only samples unless `whole`."""
    read = file_digest if whole else _sampled_digest
    if path.is_file():
        return read(path)
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    return digest([[file.as_posix(), read(path / file)] for file in visible])


def _sampled_digest(path: Path) -> str:
    """SHA-256 of a file; above 64 MiB, of its size and of evenly spaced pieces."""
    size = path.stat().st_size
    if size <= _PIECES * _PIECE:
        return file_digest(path)
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(_PIECES):
            file.seek(piece * (size - _PIECE) // (_PIECES - 1))
            found.update(file.read(_PIECE))
    return found.hexdigest()
