"""The client of a served judge: `Client(url, model).predict(pairs)` is what `tiebreak.load(model).predict(pairs)` is.

vLLM and SGLang serve the shipped folder as a classifier of one text: they know neither its template nor its two orders,
calibration and rules. So the client makes the rows itself, from the folder's tokenizer and tiebreak.json, sends their
token ids, and treats the probabilities that come back as a judge does those of its own model. A `tiebreak serve` does
all of that itself.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from tiebreak import plain
from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.inputs import Pairs, as_table
from tiebreak.judge.judge import PairJudge
from tiebreak.model import hub
from tiebreak.tokens.prompt import TokenizedVotes
from tiebreak.votes.schema import swap_answers

CLASSIFY = {"vllm": "/classify", "sglang": "/v1/classify"}
"""Where a server classifies token ids, by the owner of the model in its /v1/models."""
OURS = "tiebreak"
PAIRS_A_REQUEST = 64
"""Of `tiebreak serve`."""


class Client:
    """A judge behind vLLM or SGLang, which serve its model folder, or behind `tiebreak serve`.

    url: of the server, such as http://localhost:8000. model: the folder that it serves, or a copy of all but the weights;
    `tiebreak serve` needs none. api_key: sent as a bearer token. at_once: requests on their way at the same time.
    timeout: seconds that one of them may take. Raises TiebreakError if the server cannot be reached, is another one, or
    needs a model.
    """

    @checked
    def __init__(
        self,
        url: str,
        model: str | Path | None = None,
        api_key: str | None = None,
        at_once: int = 16,
        timeout: float = 120.0,
    ) -> None:
        if at_once < 1 or not 0 < timeout < math.inf:
            raise TiebreakError(
                f"at_once takes 1 or more requests and timeout some seconds, not {at_once} and {timeout}"
            )
        self._server = _Server(url, api_key, at_once, timeout)
        served = self._server.send("GET", "/v1/models", _Models).data[0]
        self._judge = None if served.owned_by == OURS else _ServedJudge(self._server, served, model)

    @checked
    def predict(self, pairs: Pairs, both: bool | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities (n, 3) of a, b and tie, as by `Judge.predict`, whose arguments these are.

        `tiebreak serve` shows the orders that its model says: there, both is None. Raises TiebreakError for pairs that
        cannot be read, and for a server that fails.
        """
        if self._judge is not None:
            return self._judge.predict(pairs, both)
        if both is not None:
            raise TiebreakError("`tiebreak serve` shows the orders that its model says: leave out `both`")
        table, swapped_N = as_table(pairs)
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


class _Class(BaseModel):
    probs: list[float] = Field(min_length=3, max_length=3)


class _Classes(BaseModel):
    data: list[_Class] = Field(min_length=1, max_length=1)


class _Comparison(BaseModel):
    p_a: float
    p_b: float
    p_tie: float


class _Comparisons(BaseModel):
    results: list[_Comparison]


class _ServedJudge(PairJudge):
    """A judge whose model is served as a plain classifier."""

    def __init__(self, server: "_Server", served: _Model, model: str | Path | None) -> None:
        if served.owned_by not in CLASSIFY:
            raise TiebreakError(
                f"{server.url} has a model owned by {served.owned_by!r:.40}; known are {', '.join((*CLASSIFY, OURS))}"
            )
        if model is None:
            raise TiebreakError(
                f"{server.url} is {served.owned_by}, which knows no template and no calibration: name the model folder "
                f"that it serves, such as Client({server.url!r}, 'model')"
            )
        folder = Path(model)
        shipped = package.read(folder)
        super().__init__(hub.tokenizer(str(folder)), shipped, folder)
        self._server, self._served = server, served

    def _score(
        self, votes: TokenizedVotes, rows_R2: NDArray[np.int64], report: Callable[..., None]
    ) -> NDArray[np.float64]:
        most = self.package.tta.max_tokens
        rows = [votes.row(vote, order, most).tolist() for vote, order in rows_R2.tolist()]
        p_RC = np.ones((len(rows), 3))
        for n, p_C in enumerate(self._server.each(self._classify, rows)):
            p_RC[n] = p_C
            report("scoring", n + 1, len(rows), "rows")
        z_RC = np.log(np.maximum(p_RC, np.finfo(np.float64).tiny))
        return swap_answers(z_RC, rows_R2[:, 1] == 1)

    def _classify(self, ids: list[int]) -> list[float]:
        """The probabilities of one row's classes: SGLang takes the token ids of one row in a request."""
        body = {"model": self._served.id, "input": ids}
        return self._server.send("POST", CLASSIFY[self._served.owned_by], _Classes, body).data[0].probs


Response = TypeVar("Response", bound=BaseModel)
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Server:
    """A server that speaks JSON."""

    def __init__(self, url: str, api_key: str | None, at_once: int, timeout: float) -> None:
        self.url, self._at_once = url.rstrip("/"), at_once
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=at_once)
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, limits=limits)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise TiebreakError(f"cannot ask {url!r:.100}: {error}") from None

    def send(self, method: str, path: str, response: type[Response], body: Any = None) -> Response:
        """The response to a request. Raises TiebreakError for an error and for what is no such response."""
        try:
            found = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise TiebreakError(
                f"{self.url}{path} does not answer: {plain.message(error) or type(error).__name__}"
            ) from None
        if not found.is_success:
            raise TiebreakError(
                f"{self.url}{path} answers {found.status_code}: {plain.message(found.text):.300}"
            )
        try:
            return response.model_validate_json(found.content)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise TiebreakError(
                f"{self.url}{path} answers what no judge does: {place}: {problem['msg']}"
            ) from None

    def each(self, ask: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Ask for each item, several at once; results in order. The first error ends it."""
        with ThreadPoolExecutor(self._at_once) as pool:
            futures = [pool.submit(ask, item) for item in items]
            try:
                for future in futures:
                    yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
