"""Training of a classifier on a table of votes, and its output files."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.model.classifier import Classifier
from tiebreak.model.lora import adapter_state, save_adapter
from tiebreak.output import write_atomically
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Training
from tiebreak.runtime import Runtime
from tiebreak.tokens.prompt import tokenize
from tiebreak.training.loop import train
from tiebreak.training.losses import Loss
from tiebreak.training.rows import TrainingRows, labels_of
from tiebreak.votes.schema import weights

LABELS_ONLY = Loss()


def fit(
    classifier: Classifier,
    table: pa.Table,
    prompt: Prompt,
    training: Training,
    runtime: Runtime,
    seed: int,
    loss: Loss = LABELS_ONLY,
    teachers_NOMC: NDArray[np.float32] | None = None,
    weights_N: NDArray[np.float32] | None = None,
) -> list[float]:
    """Train in place on votes in votes.schema.SCHEMA, and on teachers' raw logits (votes, orders, teachers, 3) if given.

    Only with teachers may votes be without a label. weights_N multiplies the votes' own weights.

    Returns the mean loss a row of each optimizer step. Raises as `train.loop.train` does.
    """
    votes = tokenize(table, classifier.tokenizer, prompt)
    labels_NOC = labels_of(table, unlabelled=teachers_NOMC is not None)
    own_N = weights(table).astype(np.float32)
    weights_N = own_N if weights_N is None else own_N * weights_N
    rows = TrainingRows(votes, labels_NOC, teachers_NOMC, training.max_tokens, weights_N)
    return train(classifier, rows, loss, training, runtime, seed)


def save_trained(
    classifier: Classifier, losses: Sequence[float], lora: Lora, output: Path, with_head: bool = True
) -> None:
    """Write adapter/, with or without the score head, and curve.json, the loss of each optimizer step."""
    save_adapter(adapter_state(classifier.model, with_head), lora, output / "adapter")
    write_atomically(output / "curve.json", json.dumps(losses))
