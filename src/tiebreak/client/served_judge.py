"""A judge whose model vLLM or SGLang serve as a classifier of one text.

They know neither its template nor its two orders, calibration and rules. So rows are made here, with the folder's tokenizer and
tiebreak.json, and their token ids are sent; the probabilities that come back are treated as a judge does those of its own
model.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tiebreak.client.server import Server
from tiebreak.judge import package
from tiebreak.judge.judge import PairJudge
from tiebreak.judge.location import locate
from tiebreak.model import hub
from tiebreak.tokens.prompt import TokenizedVotes
from tiebreak.votes.schema import swap_answers


class _Class(BaseModel):
    probs: list[float] = Field(min_length=3, max_length=3)


class _Classes(BaseModel):
    data: list[_Class] = Field(min_length=1, max_length=1)


class ServedJudge(PairJudge):
    """The judge of a folder, or of a model of the hub, under the name `served` at the route `path` of a server.

    Of the hub all but the weights is downloaded. Raises TiebreakError as `judge.location.locate` and `judge.package.read` do.
    """

    def __init__(
        self, server: Server, served: str, path: str, model: str | Path, revision: str | None
    ) -> None:
        found = locate(model, revision, weights=False)
        shipped = found.recorded(package.read(found.folder))
        super().__init__(hub.tokenizer(str(found.folder)), shipped, found.folder)
        self._server, self._served, self._path = server, served, path

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
        body = {"model": self._served, "input": ids}
        return self._server.send("POST", self._path, _Classes, body).data[0].probs
