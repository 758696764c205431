"""A trained model as a judge: pairs of answers in, calibrated probabilities out."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tiebreak.data.logits import mean_over_orders, swap_answers
from tiebreak.data.prompt import tokenize
from tiebreak.data.readers import Role, read_all
from tiebreak.data.votes import table_of
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.calibration import TemperatureScaling
from tiebreak.model.classifier import Classifier, load
from tiebreak.predict import package
from tiebreak.predict.scorer import both_orders, score
from tiebreak.quantize import int8

Pairs: TypeAlias = Path | str | pa.Table | Iterable[Mapping[str, Any]]


class Judge:
    """P(A preferred), P(B preferred), P(tie) for pairs of answers. Made by `tiebreak.load`."""

    def __init__(self, classifier: Classifier, shipped: package.Package, score_tokens: int = 16384) -> None:
        self.classifier = classifier
        self.package = shipped
        self.score_tokens = score_tokens
        self.calibration_ = TemperatureScaling.from_json(shipped.calibration)

    def predict(
        self, pairs: Pairs, both: bool | None = None, report: Callable[..., None] = lambda *_, **__: None
    ) -> NDArray[np.float64]:
        """Calibrated probabilities (n, 3) of a, b and tie, one row a pair, in the order given.

        pairs: dicts with prompt, response_a and response_b (each a string or a list of turns), a table with
        these columns, or a file of votes. both: show each pair in both orders and take the mean; the
        package's habit where None. Raises TiebreakError for pairs that cannot be read.
        """
        table = as_table(pairs)
        if len(table) == 0:
            return np.empty((0, 3))
        both = self.package.tta.both_orders if both is None else both
        return self.calibration_.predict_proba(mean_over_orders(self.logits(table, both, report)))

    def logits(
        self, table: pa.Table, both: bool, report: Callable[..., None] = lambda *_, **__: None
    ) -> NDArray[np.float64]:
        """Raw logits (n, orders, 3) of a, b and tie, the swap undone."""
        votes = tokenize(table, self.classifier.tokenizer, self.package.prompt)
        rows = both_orders(np.arange(len(table)))
        rows = rows if both else rows[::2]
        max_tokens = self.package.tta.max_tokens
        z_RC = score(self.classifier, votes, rows, max_tokens, self.score_tokens, report).astype(np.float64)
        if not both:
            return z_RC[:, None]
        return np.stack([z_RC[::2], swap_answers(z_RC[1::2])], axis=1)


def as_table(pairs: Pairs) -> pa.Table:
    """Pairs in data.votes.SCHEMA from dicts, a table or a file.

    Raises TiebreakError if any of them cannot be read: no pair is left out in silence.
    """
    if isinstance(pairs, str | Path):
        return read_whole(Path(pairs), "test")
    rows = pairs.to_pylist() if isinstance(pairs, pa.Table) else pairs
    return table_of(_with_turns(n, row) for n, row in enumerate(rows))


def read_whole(path: Path, role: Role) -> pa.Table:
    """The votes or pairs of a file. Raises TiebreakError if any of its rows cannot be read."""
    table, rejects = read_all([path], role)
    if len(rejects):
        first = rejects.slice(0, 1).to_pylist()[0]
        raise TiebreakError(
            f"{len(rejects)} of the rows in {path} cannot be read, the first is row {first['row']}: "
            f"{first['reason']}; mend or remove them"
        )
    return table


def _with_turns(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [c for c in ("prompt", "response_a", "response_b") if c not in row]:
        raise TiebreakError(
            f"pair {number} has no {', '.join(missing)}; a pair needs prompt, response_a and response_b, "
            "each a string or a list of turns"
        )
    texts = {c: row[c] for c in ("prompt", "response_a", "response_b")}
    turns = {c: [x] if isinstance(x, str) or x is None else list(x) for c, x in texts.items()}
    return {"id": str(row.get("id", number))} | turns


def load_judge(folder: Path, device: str | None = None, score_tokens: int = 16384) -> Judge:
    """See `tiebreak.load`."""
    shipped = package.read(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    load_folder = int8.load_classifier if int8.is_quantized(folder) else load
    return Judge(load_folder(folder, device=device), shipped, score_tokens)
