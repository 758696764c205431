"""Every answer of a hub, by a server of this machine and the real client: one line that says what to do."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.model import hub

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = "https://huggingface.co/owner/name"


class Hub(ThreadingHTTPServer):
    """A hub that gives one answer to everything, and echoes the token it is sent, as some do in errors."""

    status, headers, body, wait = 200, {}, b"", None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.waiting = threading.Event()

    def answer(self, status: int, body: bytes | None = None, **headers: str) -> None:
        self.status, self.headers = status, {k.replace("_", "-"): v for k, v in headers.items()}
        self.body = json.dumps({"error": f"no, Bearer {TOKEN}"}).encode() if body is None else body

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is none."""


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        if self.server.wait:
            self.server.waiting.wait()
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.server.body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that the client asks, with an empty cache, and no waiting before it asks again."""
    hub_server = Hub()
    threading.Thread(target=hub_server.serve_forever, args=(0.01,), daemon=True).start()
    point_to(hub_server.server_port, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield hub_server
    hub_server.waiting.set()
    hub_server.shutdown()
    hub_server.server_close()


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


ASK: dict[str, Callable[[], object]] = {
    "commit": lambda: hub.commit("owner/name"),
    "size": lambda: hub.hub_size_and_config("owner/name"),
    "folder": lambda: hub.download("owner/name", COMMIT),
    "file": lambda: hub.download("owner/name/model.gguf", COMMIT),
    "tokenizer": lambda: hub.tokenizer("owner/name"),
}


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(TiebreakError) as raised:
        ask()
    text = str(raised.value)
    assert "\n" not in text
    assert TOKEN not in text
    assert len(text) < 300
    return text


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (401, {}, ("401", "hf auth login", "HF_TOKEN")),
        (401, {"X_Error_Code": "RepoNotFound"}, ("none of that name on the hub", "HF_TOKEN")),
        (403, {}, ("403", PAGE)),
        (403, {"X_Error_Code": "GatedRepo"}, ("gated", f"accept its terms at {PAGE}", "HF_TOKEN")),
        (404, {}, ("404", PAGE)),
        (404, {"X_Error_Code": "RevisionNotFound"}, ("has no revision",)),
        (404, {"X_Error_Code": "EntryNotFound"}, ("has no file", f"{PAGE}/tree/main")),
        (418, {}, ("418", PAGE)),
        (429, {}, ("429", "try again in some minutes", "HF_TOKEN")),
        (500, {}, ("500", "try again later")),
        (503, {}, ("503", "try again later")),
    ],
)
def test_every_status_has_a_remedy(
    server: Hub, ask: str, status: int, headers: dict[str, str], told: tuple[str, ...]
) -> None:
    server.answer(status, **headers)
    text = refusal(ASK[ask])
    for part in told:
        assert part in text, text


@pytest.mark.parametrize("ask", ["commit", "size", "folder", "file"])
@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"", b"[1]", b'"x"', b"\xff\xfe"])
def test_a_page_of_another_server_is_told_from_a_hub(server: Hub, ask: str, body: bytes) -> None:
    server.answer(200, body, Content_Type="text/html")
    text = refusal(ASK[ask])
    assert "comes from no hub" in text, text
    assert "HF_ENDPOINT" in text


@pytest.mark.parametrize(
    "ask", ["commit", "size", "folder"]
)  # for a file the client itself waits and asks again
def test_a_hub_that_is_silent_or_gone_is_out_of_reach(
    server: Hub, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.05)
    server.wait = True
    assert "is too slow; HF_HUB_DOWNLOAD_TIMEOUT=60" in refusal(ASK[ask])
    point_to(1, monkeypatch)
    assert "where there is internet, run: hf download owner/name" in refusal(ASK[ask])


def test_a_full_disk_is_not_the_hub_s_fault(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(OSError, match="No space left"):
        hub.download("owner/name", COMMIT)
