"""Requests to a server that speaks JSON, several at once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from tiebreak import plain
from tiebreak.errors import TiebreakError

Response = TypeVar("Response", bound=BaseModel)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Server:
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
