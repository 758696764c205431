"""A client of an application in this process, without a socket."""

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp


class Client:
    """Requests one after another, or `together`. Responses are httpx's."""

    def __init__(self, app: ASGIApp, **headers: str) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app)
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=60
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._http.get(path, **options))

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self._runner.run(self._post(path, body, options))

    def together(self, *requests: tuple[str, Any]) -> list[httpx.Response]:
        """The responses to posts that are sent at once."""

        async def send() -> list[httpx.Response]:
            return await asyncio.gather(*(self._post(path, body, {}) for path, body in requests))

        return self._runner.run(send())

    async def _post(self, path: str, body: Any, options: dict[str, Any]) -> httpx.Response:
        if body is not None:
            options = {"json": body, **options}
        return await self._http.post(path, **options)

    def close(self) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()
