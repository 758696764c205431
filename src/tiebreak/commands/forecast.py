"""Forecast of a task on a GPU: tokens from the votes, hours from measured rates, memory from the model.

An estimate: a token is four bytes of text, prompts shared by both orders count twice, and loading, compiling and CPU
work are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tiebreak.data_card.vote_features import BYTES_PER_TOKEN
from tiebreak.engine.planner import State
from tiebreak.engine.workspace import Workspace
from tiebreak.hardware.gpu_specs import GIB, Card, weight_format
from tiebreak.hardware.memory_model import (
    Shape,
    decoder_shape,
    default_train_tokens,
    memory_of,
    with_overhead,
)
from tiebreak.hardware.throughput import rate
from tiebreak.model import hub
from tiebreak.pipeline.graph import Source, Task
from tiebreak.pipeline.workload import Lengths, VoteLengths, Workload
from tiebreak.recipe.models import Model
from tiebreak.recipe.values import Role
from tiebreak.votes import parquet
from tiebreak.votes.formats import readers
from tiebreak.votes.formats.mapping import ColumnMap

FRAME_TOKENS = 30
"""Tokens of the template, around prompt and answers."""


@dataclass(frozen=True)
class Forecast:
    """Forecast of a task: tokens trained on and scored, GPU hours, peak bytes of memory."""

    tokens: float = 0.0
    hours: float = 0.0
    memory: float = 0.0


class Forecaster:
    """Forecasts for the tasks of a workspace on a card. Reads the votes once, from their artifact if it exists.

    Raises TiebreakError for votes or models that cannot be read, and a precision or speed the card lacks.
    """

    def __init__(self, work: Workspace, card: Card) -> None:
        self._work, self._card, self._recipe = work, card, work.recipe
        self._votes = VoteLengths(work.recipe, self._lengths)
        self._known: dict[Role, Lengths] = {}
        self._shapes: dict[str, Shape] = {}

    def of(self, task: Task) -> Forecast:
        """The forecast of one task; nothing for tasks that need no GPU."""
        recipe, step = self._recipe, task.step
        if step.workload is None or not step.needs_gpu(recipe):
            return Forecast()
        model = recipe.models.student if task.teacher is None else recipe.models.teachers[task.teacher]
        return self._on_card(model, step.workload(recipe, task.teacher, self._votes))

    def _on_card(self, model: Model, work: Workload) -> Forecast:
        card, compute, rank = self._card, self._recipe.compute, model.lora.rank
        shape = self._shape(model)
        held = weight_format(model.precision, card, shape.matrices + shape.embeddings)
        memory = memory_of(shape, held, rank, compute.score_tokens, training=False).total
        seconds = 2 * shape.matrices * work.scored / rate(card, "score", held, shape.matrices)
        if work.trained:
            kept, most = self._kept_layers(shape, held, rank)
            operations = 4 + 2 * (1 - kept / shape.layers)  # other layers are recomputed
            seconds += operations * shape.matrices * work.trained / rate(card, "train", held, shape.matrices)
            memory = max(memory, most)
        return Forecast(work.trained + work.scored, seconds / 3600, with_overhead(memory))

    def _kept_layers(self, shape: Shape, held: str, rank: int) -> tuple[int, float]:
        """The number of layers whose activations fit the card, and the bytes with these kept."""
        tokens = self._recipe.compute.train_tokens or default_train_tokens(shape.matrices)
        totals = {
            kept: memory_of(shape, held, rank, tokens, True, kept).total for kept in range(shape.layers + 1)
        }
        fitting = [kept for kept, total in totals.items() if with_overhead(total) <= self._card.memory]
        most = max(fitting, default=0)
        return most, totals[most]

    def _shape(self, model: Model) -> Shape:
        if model.base not in self._shapes:
            folder = self._work.local(Source(model.base, model.revision, is_model=True))
            _, config = hub.download_size_and_config(folder, model.base, model.revision)
            self._shapes[model.base] = decoder_shape(config)
        return self._shapes[model.base]

    def _lengths(self, role: Role) -> Lengths:
        """Sorted untruncated token counts of the pairs in a role's files."""
        if role not in self._known:
            lengths = [length for batch in self._batches(role) for length in _row_tokens(batch)]
            self._known[role] = np.sort(np.array(lengths, dtype=np.int64))
        return self._known[role]

    def _batches(self, role: Role) -> Iterator[pa.RecordBatch]:
        locations = self._recipe.data.files().get(role)
        if not locations:
            return
        task = self._work.find(f"ingest/{role}")
        if self._work.manifest(task):
            votes = self._work.folder(task) / "votes.parquet"
            yield from parquet.batches(votes, ["prompt", "response_a", "response_b"])
            return
        paths = [self._work.resolve(Source(location)) for location in locations]
        mapping = ColumnMap(self._recipe.data.columns, self._recipe.data.values)
        for batch in readers.read(paths, role, self._recipe.data.pairs_per_prompt, mapping):
            yield batch.votes


def forecasts(work: Workspace, states: Sequence[State], card: Card) -> list[Forecast]:
    """The forecast of each task, done or not."""
    forecaster = Forecaster(work, card)
    return [forecaster.of(state.task) for state in states]


def forecast_columns(found: Forecast, exact: bool) -> dict[str, Any]:
    """A forecast as columns of a table: numbers if `exact`, else formatted."""
    if exact:
        return {"tokens": round(found.tokens), "gpu_hours": found.hours, "gib": found.memory / GIB}
    if not found.tokens:
        return {"tokens": "", "hours": "", "GiB": ""}
    return {
        "tokens": f"{found.tokens / 1e6:.1f} M",
        "hours": f"{found.hours:.2f}",
        "GiB": f"{found.memory / GIB:.1f}",
    }


def forecast_summary(states: Sequence[State], found: Sequence[Forecast], card: Card) -> str:
    """Summary of the remaining tasks, in one line."""
    left = [item for state, item in zip(states, found, strict=True) if state.status != "fresh"]
    hours = sum(item.hours for item in left)
    memory = max((item.memory for item in left), default=0.0) / GIB
    return (
        f"left: {len(left)} tasks, about {hours:.1f} hours of one {card.name}, {memory:.0f} GiB at the most "
        "(an estimate, without loading and compiling, from tiebreak/hardware/throughput.json)"
    )


def _row_tokens(batch: pa.RecordBatch) -> Iterator[int]:
    columns = (batch[name].to_pylist() for name in ("prompt", "response_a", "response_b"))
    for texts in zip(*columns, strict=True):
        size = sum(len((turn or "").encode()) for turns in texts for turn in turns)
        yield FRAME_TOKENS + size // BYTES_PER_TOKEN
