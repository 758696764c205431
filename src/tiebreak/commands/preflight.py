"""Pre-flight checks of a recipe: models, libraries, disk, GPU memory, limits of the cluster."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from tiebreak.engine.finding import Finding
from tiebreak.engine.libraries import require_libraries
from tiebreak.engine.planner import state
from tiebreak.engine.trackers import require_installed
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.hardware import gpu_specs
from tiebreak.hardware.gpu_specs import GIB, Card
from tiebreak.hardware.memory_model import (
    Memory,
    Shape,
    decoder_shape,
    default_train_tokens,
    memory_of,
    with_overhead,
)
from tiebreak.model import config_facts, families, hub
from tiebreak.pipeline import row_limits
from tiebreak.pipeline.graph import Source, Task
from tiebreak.pipeline.step import Weights
from tiebreak.recipe.models import Model
from tiebreak.slurm import checks
from tiebreak.votes.formats.hub_datasets import parse_location

_LEAST_TOKENS = 1024
_CHECKPOINT = 12
"""Bytes of an adapter's parameter in a checkpoint: master and two moments."""


@dataclass(frozen=True)
class _ModelInfo:
    """A model of the recipe, not loaded. name: its key. teacher: None for the student. to_fetch: bytes to download.

    is_mixture: whether it is a mixture of experts.
    """

    name: str
    teacher: str | None
    model: Model
    shape: Shape | None
    to_fetch: int
    is_mixture: bool


@dataclass(frozen=True)
class Preflight:
    """Pre-flight checks of a workspace. card: the jobs' GPU, if this machine has none."""

    work: Workspace
    card: Card | None = None
    on_slurm: bool = False

    def findings(self) -> list[Finding]:
        """Findings on models, disk, GPU memory, libraries and, for Slurm jobs, the cluster's limits."""
        models = list(self._models())
        known = [item for item in models if isinstance(item, _ModelInfo)]
        found = [self._availability(item) if isinstance(item, _ModelInfo) else item for item in models]
        found += [_mixture(item) for item in known if item.is_mixture]
        found += self._hub_datasets()
        found += self._disk(known)
        found += self._memory(known)
        found += self._trackers()
        found += self._libraries()
        if self.on_slurm:
            found += checks.findings(self.work, self._tasks_to_run)
        return found

    def _models(self) -> Iterator[_ModelInfo | Finding]:
        models = self.work.recipe.models
        for teacher, model in (*models.teachers.items(), (None, models.student)):
            name = f"models.teachers.{teacher}" if teacher else "models.student"
            try:
                yield self._inspect(name, teacher, model)
            except TiebreakError as error:
                yield Finding("error", name, str(error))

    def _inspect(self, name: str, teacher: str | None, model: Model) -> _ModelInfo:
        """Inspect a model here, in the cache, or on the hub. Raises TiebreakError if it is unavailable."""
        source = Source(model.base, model.revision, is_model=True)
        folder = self.work.local(source)
        here = folder or hub.cached(model.base, model.revision)
        if here:
            self.work.fingerprint(source)  # looks at its files
            if here.is_dir():
                from tiebreak.model.classifier import require_loadable

                require_loadable(here)
        try:
            to_fetch, config = hub.download_size_and_config(folder, model.base, model.revision)
        except TiebreakError as error:
            raise error if folder else self.work.unavailable(source, error) from None
        if to_fetch and config:
            config_facts.require(Path(model.base, "config.json"), config, {}, "name another revision")
            families.require(model.base, config)
            row_limits.require(self.work.recipe, model.base, config)
        return _ModelInfo(name, teacher, model, _shape(config), to_fetch, families.is_mixture(config))

    def _availability(self, known: _ModelInfo) -> Finding:
        if not known.to_fetch:
            return Finding("ok", known.name, f"{known.model.base} is here")
        size = f"{known.model.base} can be fetched, {_gib(known.to_fetch)}"
        if not self.on_slurm:
            return Finding("ok", known.name, size)
        return Finding(
            "warning", known.name, f"{size}; do it before the jobs: tiebreak fetch {self.work.arguments}"
        )

    def _hub_datasets(self) -> Iterator[Finding]:
        """Finding on datasets of the hub, which jobs without internet cannot read."""
        locations = chain.from_iterable(self.work.recipe.data.files().values())
        if self.on_slurm and (remote := [place for place in locations if parse_location(Path(place))]):
            yield Finding(
                "warning",
                "data",
                f"{', '.join(remote)}: read where there is internet, before the jobs: "
                f"tiebreak run {self.work.arguments} --steps ingest",
            )

    def _trackers(self) -> Iterator[Finding]:
        try:
            require_installed(self.work.recipe.compute.report_to)
        except TiebreakError as error:
            yield Finding("error", "compute.report_to", str(error))

    def _libraries(self) -> Iterator[Finding]:
        try:
            require_libraries(self._tasks_to_run)
        except TiebreakError as error:
            yield Finding("error", "libraries", str(error))

    def _disk(self, models: list[_ModelInfo]) -> Iterator[Finding]:
        """Findings on disk space for the tasks that are not fresh, and on the hub's cache for models."""
        places = {_existing(self.work.run_dir): self._to_write(models)}
        if to_fetch := sum({known.model.base: known.to_fetch for known in models}.values()):
            cache = _existing(hub.cache())
            places[cache] = places.get(cache, 0) + to_fetch
        for folder, needed in _by_device(places).items():
            free = shutil.disk_usage(folder).free
            text = f"needs about {_gib(needed)}, {_gib(free)} are free"
            if needed > free:
                yield Finding(
                    "error", f"disk {folder}", f"{text}; free some, or set run_dir (HF_HOME for models)"
                )
            else:
                yield Finding("warning" if needed > 0.8 * free else "ok", f"disk {folder}", text)

    def _to_write(self, models: list[_ModelInfo]) -> int:
        """Bytes of adapters and their checkpoints, of the averaged, the quantised and the shipped model, of GGUF files
        converted.
        """
        shapes = {known.teacher: known for known in models if known.shape}
        from_gguf = {k.model.base: k.shape for k in models if k.shape and k.model.base.endswith(hub.GGUF)}
        written = sum(2 * (shape.matrices + shape.embeddings) for shape in from_gguf.values())
        checkpoints = 0
        for task in self._tasks_to_run:
            known = shapes.get(task.teacher)
            if known is None or known.shape is None:
                continue
            adapters = known.shape.adapters(known.model.lora.rank)
            size: dict[Weights, int] = {
                "adapter": 4 * adapters,
                "model": 2 * (known.shape.matrices + known.shape.embeddings),
                "quantized": int(1.1 * known.shape.matrices) + 2 * known.shape.embeddings,
            }
            written += sum(size[weights] for weights in task.step.writes)
            if task.step.trains:
                checkpoints = max(checkpoints, 3 * _CHECKPOINT * adapters)
        return written + checkpoints * self._parallel_tasks

    @cached_property
    def _tasks_to_run(self) -> list[Task]:
        """The tasks that have to run; all of them if an input is unavailable."""
        try:
            return [task for task in self.work.tasks if state(self.work, task).status != "fresh"]
        except TiebreakError:
            return list(self.work.tasks)

    @property
    def _parallel_tasks(self) -> int:
        recipe = self.work.recipe
        return recipe.slurm.at_once or recipe.split.count if self.on_slurm else recipe.compute.workers

    def _memory(self, models: list[_ModelInfo]) -> Iterator[Finding]:
        if self.work.recipe.compute.device == "cpu":
            return
        card = self.card or self._local_card
        if card is None:
            text = "no GPU is visible here; name that of your jobs, such as --card H100 or V100-32G"
            yield Finding("warning" if self.on_slurm else "ok", "card", text)
            return
        for known in models:
            yield self._card_memory(card, known)

    @cached_property
    def _local_card(self) -> Card | None:
        """The first GPU of this machine."""
        import torch

        if not torch.cuda.is_available():
            return None
        device = torch.cuda.get_device_properties(0)
        return Card(device.name, (device.major, device.minor), device.total_memory)

    def _card_memory(self, card: Card, known: _ModelInfo) -> Finding:
        """Check that a model trains on a card, with all activations kept or with layers recomputed."""
        about = f"{known.name} on {card.name}"
        shape = known.shape
        if shape is None:
            return Finding(
                "warning", about, f"no estimate of memory for {known.model.base}: not a known kind of decoder"
            )
        try:
            precision = gpu_specs.weight_format(
                known.model.precision, card, shape.matrices + shape.embeddings
            )
        except TiebreakError as error:
            return Finding("error", about, f"{error} (--set {known.name}.precision=auto)")
        compute, rank = self.work.recipe.compute, known.model.lora.rank
        if why := gpu_specs.rank_error(precision, card, rank):
            return Finding("error", about, why)
        tokens = compute.train_tokens or default_train_tokens(shape.matrices)
        holders = compute.processes if compute.shard_model else 1
        most = _bytes_per_card(memory_of(shape, precision, rank, tokens, training=True), holders)
        short = min(tokens, _LEAST_TOKENS)
        least = _bytes_per_card(memory_of(shape, precision, rank, short, True, kept_layers=0), holders)
        held = f"{precision}, {tokens} tokens a forward: about {_gib(most)} of {_gib(card.memory)}"
        if most <= card.memory:
            return Finding("ok", about, held)
        if least <= card.memory:
            return Finding(
                "warning", about, f"{held}; fits with layers computed again or shorter forwards, slower"
            )
        return Finding(
            "error",
            about,
            f"{precision}: training takes {_gib(least)} at the least, the card has {_gib(card.memory)}; choose a "
            f"smaller model, a larger card, --set {known.name}.precision=nf4, or spread it over cards "
            "(compute.processes, compute.shard_model)",
        )


def _mixture(known: _ModelInfo) -> Finding:
    """What a mixture of experts does not get: adapters are on linear layers, and its experts are one tensor a layer."""
    if known.model.precision in ("fp8", "nf4"):
        text = f"a mixture of experts is not encoded in {known.model.precision}: --set {known.name}.precision=bf16"
        return Finding("error", known.name, text)
    return Finding(
        "warning",
        known.name,
        "a mixture of experts: adapters cover its linear layers (attention, shared experts), not its experts, and 8 bits neither",
    )


def _bytes_per_card(memory: Memory, holders: int) -> float:
    """Bytes per card, with the frozen weights sharded over `holders`."""
    return with_overhead(memory.weights / holders + memory.adapters + memory.activations)


def _shape(config: dict[str, Any]) -> Shape | None:
    try:
        return decoder_shape(config)
    except (TiebreakError, KeyError):
        return None


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())


def _by_device(places: Mapping[Path, int]) -> dict[Path, int]:
    """Sum of the needs on each disk."""
    first: dict[int, Path] = {}
    needs: dict[Path, int] = {}
    for folder, needed in places.items():
        known = first.setdefault(os.stat(folder).st_dev, folder)
        needs[known] = needs.get(known, 0) + needed
    return needs


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= 0.05 * GIB else f"{size / 2**20:.0f} MiB"
