"""Errors as JSON, in the shape of the server that a path imitates."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tiebreak import plain

TEI_PATHS = frozenset({"/predict"})
"""Paths whose errors have the shape of text-embeddings-inference."""
SGLANG_PATHS = frozenset({"/v1/classify"})
"""Those whose errors have SGLang's; all others have OpenAI's, as vLLM."""

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "RequestTooLargeError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
_TEI_TYPES = {429: "overloaded", 503: "unhealthy", 500: "backend", 504: "backend"}


class ApiError(Exception):
    """An error that a client is told, in its status and a message. param: the field at fault."""

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = plain.message(message)
        self.param = param and plain.message(param)
        self.headers = dict(headers or {})


class Json(Response):
    """JSON in ASCII: halves of characters, which UTF-8 cannot hold, have escapes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


def response(path: str, error: ApiError) -> Json:
    """The response that tells an error of a path."""
    return Json(_body(path, error), error.status, error.headers)


def _body(path: str, error: ApiError) -> dict[str, Any]:
    if path in TEI_PATHS:
        return {"error": error.message, "error_type": _TEI_TYPES.get(error.status, "validation")}
    kind = _TYPES.get(error.status, "InternalServerError" if error.status >= 500 else "BadRequestError")
    told = {"message": error.message, "type": kind, "param": error.param, "code": error.status}
    return {"object": "error", **told} if path in SGLANG_PATHS else {"error": told}
