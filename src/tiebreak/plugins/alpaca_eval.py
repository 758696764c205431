"""Annotator for alpaca_eval, for its argument `Annotator`; its config names model folders, as docs/plugins.md shows.

Preferences go from 1, output_1, to 2, output_2; what lies between is a probability, as of the weighted annotators there.
"""

from typing import Any

import pandas as pd
from alpaca_eval.annotators.pairwise_evaluator import PairwiseAnnotatorLocal

from tiebreak.plugins.judging import load, win_rates


class JudgeAnnotator(PairwiseAnnotatorLocal):  # type: ignore[misc]  # alpaca_eval has no types
    """A pool of judges, most often of one."""

    @property
    def SingleAnnotator(self) -> type["_Judge"]:  # noqa: N802
        return _Judge


class _Judge:
    """A judge of the pool. model: its folder. alpaca_eval passes what prompts need too, and asks for `processors`."""

    processors = ()

    def __init__(self, model: str, annotation_column: str, **_: Any) -> None:
        self._model, self._column = model, annotation_column

    def __call__(self, rows: pd.DataFrame, **_: Any) -> pd.DataFrame:
        """The rows with their preference: 1 + the win rate of output_2."""
        columns = rows[["instruction", "output_1", "output_2"]]
        pairs = columns.set_axis(["prompt", "response_a", "response_b"], axis=1).to_dict("records")
        return rows.assign(**{self._column: 2 - win_rates(load(self._model).predict(pairs))})
