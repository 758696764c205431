"""The command: a real process that serves, and that loses nothing when it is stopped."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from forked import Tiebreak

from tiebreak.serve import keys
from tiebreak.serve.bodies import PAIR_EXAMPLE


@pytest.fixture
def started(shipped):
    """started(options...): a server in a process of its own and its address, once it serves."""
    servers = []

    def start(*options: object) -> tuple[Tiebreak, str]:
        server = Tiebreak("serve", shipped, "--port", 0, "--device", "cpu", *options)
        servers.append(server)
        deadline = time.monotonic() + 120
        while not (found := re.search(r"^serving (\w+) at (\S+)$", said(server), re.M)):
            assert server.poll() is None, said(server)
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return server, found[2]

    yield start
    for server in servers:
        if server.poll() is None:
            server.kill()


def said(server: Tiebreak) -> str:
    return (server._said / "err").read_text()


def test_a_stopped_server_answers_what_it_has_accepted(started):
    server, url = started()
    refused, statuses = threading.Event(), []

    def ask() -> None:
        """Pairs over one connection that is kept, until no new one can be made."""
        with httpx.Client(base_url=url, timeout=60) as client:
            while True:
                try:
                    statuses.append(
                        client.post("/v1/compare", json={"pairs": [PAIR_EXAMPLE] * 8}).status_code
                    )
                except httpx.ConnectError:
                    refused.set()
                    return

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    while len(statuses) < 20:
        time.sleep(0.01)
    os.kill(server.pid, signal.SIGTERM)
    for client in clients:
        client.join(60)
    assert refused.is_set()
    assert set(statuses) == {200}
    out, err = server.communicate(60)
    assert (server.returncode, out) == (0, "")
    judged = re.search(r"^stopped; (\d+) pairs were judged$", err, re.M)
    assert judged, err
    assert int(judged[1]) == 8 * len(statuses)


def test_keys_of_the_environment_are_asked_for(started, monkeypatch):
    monkeypatch.setenv(keys.VARIABLE, "a-key-of-16-characters")
    _, url = started("--host", "0.0.0.0", "--name", "mine")
    url = url.replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    answer = httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer a-key-of-16-characters"})
    assert answer.json()["data"][0]["id"] == "mine"


def test_what_cannot_be_served_is_told_at_once(tiebreak, shipped: Path, monkeypatch):
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    assert "there is no key" in tiebreak("serve", shipped, "--host", "0.0.0.0")[2]
    assert "no model folder at nowhere" in tiebreak("serve", "nowhere", "--port", 0)[2]
    assert "has no room for a request" in tiebreak("serve", shipped, "--max-waiting", 1)[2]
    assert (
        "cannot listen at 192.0.2.1" in tiebreak("serve", shipped, "--host", "192.0.2.1", "--without-key")[2]
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = tiebreak("serve", shipped, "--port", taken.getsockname()[1])
    assert code == 2
    assert "Address already in use; name another with --port" in err
