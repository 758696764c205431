"""The client of a served judge: `Client(url, model).predict(pairs)` is what `tiebreak.load(model).predict(pairs)` is.

vLLM and SGLang serve the shipped folder as a classifier of one text: they know neither its template nor its two orders,
calibration and rules. So the client makes the rows itself, from the folder's tokenizer and tiebreak.json, sends their
token ids, and treats the probabilities that come back as a judge does those of its own model. A `tiebreak serve` does
all of that itself, and its client needs neither torch nor transformers.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tiebreak.arguments import checked
from tiebreak.client.server import Server
from tiebreak.errors import TiebreakError
from tiebreak.judge.inputs import Pairs, as_table
from tiebreak.votes.schema import swap_answers

if TYPE_CHECKING:
    from tiebreak.client.served_judge import ServedJudge

CLASSIFY = {"vllm": "/classify", "sglang": "/v1/classify"}
"""Where a server classifies token ids, by the owner of the model in its /v1/models."""
OURS = "tiebreak"
PAIRS_A_REQUEST = 64
"""Of `tiebreak serve`."""


class Client:
    """A judge behind vLLM or SGLang, which serve its model folder, or behind `tiebreak serve`.

    url: of the server, such as http://localhost:8000. model: the folder that it serves, a copy of all but the weights, or
    its name on the hub, as for `tiebreak.load`, with its revision; `tiebreak serve` needs none. api_key: sent as a bearer token.
    at_once: requests on their way at the same time. timeout: seconds that one of them may take. Raises TiebreakError if the
    server cannot be reached, is another one, or needs a model.
    """

    @checked
    def __init__(
        self,
        url: str,
        model: str | Path | None = None,
        api_key: str | None = None,
        at_once: int = 16,
        timeout: float = 120.0,
        revision: str | None = None,
    ) -> None:
        if at_once < 1 or not 0 < timeout < math.inf:
            raise TiebreakError(
                f"at_once takes 1 or more requests and timeout some seconds, not {at_once} and {timeout}"
            )
        self._server = Server(url, api_key, at_once, timeout)
        served = self._server.send("GET", "/v1/models", _Models).data[0]
        self._judge = None if served.owned_by == OURS else _judge(self._server, served, model, revision)

    @checked
    def predict(
        self, pairs: Pairs, both: bool | None = None, columns: Mapping[str, str] | None = None
    ) -> NDArray[np.float64]:
        """Calibrated probabilities (n, 3) of a, b and tie, as by `Judge.predict`, whose arguments these are.

        `tiebreak serve` shows the orders that its model says: there, both is None. Raises TiebreakError for pairs that
        cannot be read, and for a server that fails.
        """
        if self._judge is not None:
            return self._judge.predict(pairs, both, columns=columns)
        if both is not None:
            raise TiebreakError("`tiebreak serve` shows the orders that its model says: leave out `both`")
        table, swapped_N = as_table(pairs, columns)
        texts = table.select(["prompt", "response_a", "response_b"]).to_pylist()
        chunks = [texts[n : n + PAIRS_A_REQUEST] for n in range(0, len(texts), PAIRS_A_REQUEST)]
        p_NC = np.array([row for rows in self._server.each(self._compare, chunks) for row in rows])
        return swap_answers(p_NC.reshape(-1, 3), swapped_N)

    def _compare(self, pairs: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
        found = self._server.send("POST", "/v1/compare", _Comparisons, {"pairs": pairs}).results
        if len(found) != len(pairs):
            raise TiebreakError(f"{self._server.url} gives {len(found)} results for {len(pairs)} pairs")
        return [(result.p_a, result.p_b, result.p_tie) for result in found]


class _Model(BaseModel):
    id: str
    owned_by: str


class _Models(BaseModel):
    data: list[_Model] = Field(min_length=1)


class _Comparison(BaseModel):
    p_a: float
    p_b: float
    p_tie: float


class _Comparisons(BaseModel):
    results: list[_Comparison]


def _judge(server: Server, served: _Model, model: str | Path | None, revision: str | None) -> "ServedJudge":
    if served.owned_by not in CLASSIFY:
        raise TiebreakError(
            f"{server.url} has a model owned by {served.owned_by!r:.40}; known are {', '.join((*CLASSIFY, OURS))}"
        )
    if model is None:
        raise TiebreakError(
            f"{server.url} is {served.owned_by}, which knows no template and no calibration: name the model folder "
            f"that it serves, such as Client({server.url!r}, 'model')"
        )
    from tiebreak.client.served_judge import ServedJudge  # which imports torch

    return ServedJudge(server, served.id, CLASSIFY[served.owned_by], model, revision)
