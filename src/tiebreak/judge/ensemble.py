"""Ensemble of judges: the weighted mean of their calibrated probabilities.

Dimension letters: N pairs, M models, C classes (a, b, tie).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.inputs import Pairs, as_table
from tiebreak.judge.judge import load_judge
from tiebreak.judge.location import locate
from tiebreak.judge.telling import telling
from tiebreak.runtime import Event
from tiebreak.stats.blend import best_weights, shares, weighted
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities, swap_answers

Array = NDArray[np.float64]


class Ensemble:
    """The judges of several model folders, or models of the hub (judge.location). Fitted: weights_ (models,), equal unless given.

    Holds one model at a time in memory; each call loads all of them, so pass all pairs at once.
    """

    @checked
    def __init__(
        self,
        folders: Sequence[str | Path],
        weights: Sequence[float] | None = None,
        device: str | None = None,
        score_tokens: int = 16384,
        precision: str = "auto",
    ) -> None:
        """Read the packages. Raises TiebreakError for a folder that is no model, or weights that are not one number a folder."""
        if not len(folders):
            raise TiebreakError("an ensemble takes a list of model folders, not an empty one")
        self.folders = [locate(folder).folder for folder in folders]
        for folder in self.folders:
            package.read(folder)
        self.weights_ = shares(weights, len(self.folders))
        self.device = device
        self.score_tokens = score_tokens
        self.precision = precision

    @checked
    def fit(self, votes: Path | str | pa.Table, report: Callable[..., None] = lambda *_, **__: None) -> Self:
        """Choose the weights on votes (a file, or a table in votes.schema.SCHEMA) that no model trained on.

        Equal weights or those of least log loss, whichever cross-validates better. Raises TiebreakError for
        votes that cannot be read or have no label, or too few of them.
        """
        table = votes if isinstance(votes, pa.Table) else read_whole(Path(votes), "votes")
        y_NC = probabilities(table)
        if np.isnan(y_NC).any():
            raise TiebreakError(f"{int(np.isnan(y_NC).any(axis=1).sum())} of {len(y_NC)} votes have no label")
        self.weights_ = best_weights(
            self.predict_table(as_table(table)[0], None, report), y_NC, prompt_groups(table)
        )
        return self

    @checked
    def predict(
        self,
        pairs: Pairs,
        both: bool | None = None,
        progress: Callable[[Event], None] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Array:
        """Calibrated probabilities (n, 3), as `Judge.predict`; progress is told of one model after another."""
        table, swapped_N = as_table(pairs, columns)
        predictions = self.predict_table(table, both, telling(progress))
        return swap_answers(weighted(self.weights_, predictions), swapped_N)

    @checked
    def predict_table(
        self, table: pa.Table, both: bool | None = None, report: Callable[..., None] = lambda *_, **__: None
    ) -> Array:
        """Predictions (n, models, 3) of each judge for a table in votes.schema.SCHEMA."""
        predictions = [
            load_judge(folder, self.device, self.score_tokens, self.precision).predict_table(
                table, both, report
            )
            for folder in self.folders
        ]
        return np.stack(predictions, axis=1)
