"""Judged comparisons of models: what an analysis needs of them, without their texts, and the votes that people gave on them.

Dimension letters: N comparisons, C classes (a, b, tie), S measures of style (evaluate.text_features.STYLE).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.evaluate.text_features import STYLE, style
from tiebreak.votes.formats.model_outputs import Comparison, prompt_key
from tiebreak.votes.schema import LABELS, probabilities
from tiebreak.votes.scripts import script

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TEXTS = ("prompt", "answer_a", "answer_b", "model_a", "model_b", "by", "language")
_STYLES = tuple(f"{name}_{side}" for side in "ab" for name in STYLE)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [(name, pa.int64()) for name in ("prompt_length", *_STYLES)]
    + [(f"p_{label}", pa.float64()) for label in LABELS]
)
"""A comparison: digests of its texts, its models, what it is grouped by, its measures of style, and P(A), P(B), P(tie)."""


def facts(compared: Comparison) -> dict[str, Any]:
    """The columns of SCHEMA that a comparison has before it is judged."""
    vote = compared.vote
    counted = [*style(vote.response_a), *style(vote.response_b)]
    return {
        "prompt": prompt_key(vote.prompt),
        "answer_a": prompt_key(vote.response_a),
        "answer_b": prompt_key(vote.response_b),
        "model_a": vote.model_a,
        "model_b": vote.model_b,
        "by": compared.by,
        "language": compared.language or script(vote.prompt),
        "prompt_length": sum(len(turn or "") for turn in vote.prompt),
    } | dict(zip(_STYLES, counted, strict=True))


@dataclass(frozen=True)
class Judged:
    """Comparisons of models in SCHEMA. models: their names, in the order in which ranks are told where they are equal."""

    table: pa.Table
    models: tuple[str, ...]

    @cached_property
    def sides(self) -> Ints:
        """The indices (N, 2) of the models of each."""
        number = {name: n for n, name in enumerate(self.models)}
        sides = [[number[name] for name in self.table[f"model_{side}"].to_pylist()] for side in "ab"]
        return np.array(sides, dtype=np.int64).T.reshape(-1, 2)

    @property
    def probabilities(self) -> Floats:
        """P(A), P(B) and P(tie), (N, 3)."""
        return probabilities(self.table)

    @cached_property
    def prompts(self) -> Ints:
        """The number (N,) of the prompt of each."""
        codes = self.table["prompt"].combine_chunks().dictionary_encode().indices
        numbers: Ints = codes.to_numpy(zero_copy_only=False).astype(np.int64)
        return numbers

    @cached_property
    def styles(self) -> tuple[Floats, Floats]:
        """The measures (N, S) of answers a and of answers b."""
        a_NS, b_NS = (
            np.stack([self.table[f"{name}_{side}"].to_numpy() for name in STYLE], axis=1).astype(np.float64)
            for side in "ab"
        )
        return a_NS, b_NS

    def slices(self, by: str) -> list[str | None]:
        """The slice of each comparison: by language or length of the prompt, or by the values of a column."""
        if by == "length":
            lengths_N = self.table["prompt_length"].to_numpy()
            low, high = np.quantile(lengths_N, [1 / 3, 2 / 3])
            names = (
                f"prompts up to {low:.0f} characters",
                f"{low:.0f} to {high:.0f} characters",
                "longer prompts",
            )
            return [names[int(n > low) + int(n > high)] for n in lengths_N.tolist()]
        values: list[str | None] = self.table[by if by == "language" else "by"].to_pylist()
        return values

    def votes(self, table: pa.Table) -> "Matched":
        """What people's votes (votes.schema.SCHEMA) say of the comparisons.

        A vote is on the comparison of the same prompt and answers, either way round; where several models gave the same answers,
        on that of its own models, if it names them.
        """
        places: dict[tuple[str, frozenset[str]], list[int]] = {}
        own = zip(*(self.table[name].to_pylist() for name in _TEXTS[:5]), strict=True)
        sides: list[tuple[str, str, str | None]] = []
        for n, (prompt, a, b, model, _) in enumerate(own):
            places.setdefault((prompt, frozenset((a, b))), []).append(n)
            sides.append((a, b, model))
        sum_NC, count_N = np.zeros((len(self.table), 3)), np.zeros(len(self.table), dtype=np.int64)
        unmatched = unlabelled = 0
        for vote, p_C in zip(table.to_pylist(), probabilities(table), strict=True):
            a, b = prompt_key(vote["response_a"]), prompt_key(vote["response_b"])
            found = places.get((prompt_key(vote["prompt"]), frozenset((a, b))), [])
            place = self._of_models(found, vote)
            if place is None or np.isnan(p_C).any():
                unmatched += place is None
                unlabelled += place is not None
                continue
            swapped = (
                vote["model_a"] == self.table["model_b"][place].as_py() if a == b else sides[place][0] != a
            )
            sum_NC[place] += p_C[[1, 0, 2]] if swapped else p_C
            count_N[place] += 1
        y_NC = np.full_like(sum_NC, np.nan)
        np.divide(sum_NC, count_N[:, None], out=y_NC, where=count_N[:, None] > 0)
        return Matched(y_NC, count_N, unmatched, unlabelled)

    def _of_models(self, places: Sequence[int], vote: Mapping[str, Any]) -> int | None:
        """The place of a vote among those with its texts."""
        names = {vote["model_a"], vote["model_b"]}
        for place in places:
            if {self.models[m] for m in self.sides[place]} == names:
                return place
        return places[0] if places else None


@dataclass(frozen=True)
class Matched:
    """Votes on judged comparisons: their mean (N, 3), NaN where there are none, and their number (N,).

    unmatched: votes on none of them. unlabelled: rows without a winner.
    """

    y_NC: Floats
    count_N: Ints
    unmatched: int
    unlabelled: int


def judged(compared: Sequence[Comparison], p_NC: Floats, models: Sequence[str]) -> Judged:
    """Comparisons with the judge's probabilities (N, 3)."""
    rows = [facts(one) for one in compared]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in SCHEMA.names[:-3]}
    columns |= {f"p_{label}": p_NC[:, c] for c, label in enumerate(LABELS)}
    return Judged(pa.table(columns, schema=SCHEMA), tuple(models))
