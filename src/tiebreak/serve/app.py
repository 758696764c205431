"""The application: all routes behind the gate."""

import time
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from tiebreak import __version__
from tiebreak.serve import compare, errors, page, tei, to_vote, vllm
from tiebreak.serve import votes as votes_routes
from tiebreak.serve.bodies import TAG
from tiebreak.serve.errors import ApiError
from tiebreak.serve.gate import Gate
from tiebreak.serve.keys import Keys
from tiebreak.serve.metrics import CONTENT_TYPE, Metrics
from tiebreak.serve.service import Service
from tiebreak.serve.to_vote import PairsToVote
from tiebreak.serve.votes import VotesFile

_DESCRIPTION = """A judge of two answers: calibrated P(A preferred), P(B preferred) and P(tie).

`/v1/compare` and `/v1/rank` are its own; the others speak the shapes of vLLM, SGLang, Jina, Cohere and
text-embeddings-inference."""
_MOST_PROBLEMS = 3
"""Of a body, which an error names."""


def create_app(
    service: Service,
    keys: Keys,
    local_only: bool,
    votes: VotesFile | None = None,
    pairs: PairsToVote | None = None,
) -> ASGIApp:
    """The application of a service.

    local_only: see `Gate`. votes: where those of the page's users go, if anywhere. pairs: what they are asked to vote on.
    """
    app = FastAPI(
        title="tiebreak", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None
    )
    bearer = (
        [Depends(HTTPBearer(auto_error=False))] if keys else []
    )  # for the document: the gate asks for keys
    for module in (compare, vllm, tei):
        app.include_router(module.router(service), dependencies=bearer)
    app.include_router(page.router(service, takes_votes=votes is not None, has_pairs=pairs is not None))
    if votes is not None:
        app.include_router(
            votes_routes.router(service, votes, pairs.origin if pairs else None), dependencies=bearer
        )
    if pairs is not None:
        app.include_router(to_vote.router(pairs), dependencies=bearer)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(Exception, _unexpected)
    metrics = Metrics(service.batcher)
    _add_status(app, service, metrics)
    metrics.paths = frozenset(app.openapi()["paths"]) | page.PATHS
    return Gate(app, service, keys, metrics, local_only)


def _add_status(app: FastAPI, service: Service, metrics: Metrics) -> None:
    """The routes that tell of the server."""
    started = int(time.time())

    @app.get("/health", tags=["status"])
    async def health() -> dict[str, str]:
        """The process answers, and all its workers live."""
        if not service.batcher.is_alive():
            raise ApiError(503, "a worker has ended; start the server again")
        return {"status": "ok"}

    @app.get("/ready", tags=["status"])
    async def ready() -> dict[str, str]:
        """New requests are welcome; 503 once the server was asked to stop."""
        if service.draining:
            raise ApiError(503, "the server is stopping")
        return {"status": "ready"}

    @app.get("/metrics", tags=["status"], response_class=Response)
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/v1/models", tags=["status"])
    async def models() -> dict[str, Any]:
        """The model that is served, as OpenAI and vLLM tell it."""
        model = {"id": service.name, "object": "model", "created": started, "owned_by": "tiebreak"}
        return {"object": "list", "data": [model | {"max_model_len": service.max_tokens}]}


async def _invalid(request: Request, error: Exception) -> Response:
    """A body that is not understood: its first problems, without what was given."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:_MOST_PROBLEMS]
    text = "; ".join(_problem(problem) for problem in found)
    return await _api_error(request, ApiError(422, text, _place(found[0]) or None))


def _problem(found: dict[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return f"the body is not JSON: {found['ctx']['error']} at character {found['loc'][-1]}"
    if place := _place(found):
        return f"{place}: {found['msg']}"
    return f"{found['msg']}: JSON, with the header Content-Type: application/json"


def _place(found: dict[str, Any]) -> str:
    """The field at fault, such as pairs.0.prompt; empty for the body itself."""
    return ".".join(str(part) for part in found["loc"][1:] if not str(part).startswith(TAG))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _api_error(request, ApiError(error.status_code, error.detail, headers=error.headers))


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    path = request.url.path
    if path in vllm.PATHS and error.status == 422:
        error = ApiError(400, error.message, error.param, error.headers)
    return errors.response(path, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    """What nobody expected, which the gate logs."""
    return await _api_error(request, ApiError(500, "an error of this server, which its log names"))
