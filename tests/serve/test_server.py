"""The command: a real process that serves, and that loses nothing when it is stopped."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
from served import served

from tiebreak.serve import keys
from tiebreak.serve.bodies import PAIR_EXAMPLE


def test_a_stopped_server_answers_what_it_has_accepted(shipped):
    with served(shipped) as (server, url):
        statuses: list[list[int]] = [[] for _ in range(4)]
        clients = [threading.Thread(target=ask, args=(url, own)) for own in statuses]
        for client in clients:
            client.start()
        while sum(map(len, statuses)) < 20:
            time.sleep(0.01)
        os.kill(server.pid, signal.SIGTERM)
        for client in clients:
            client.join(60)
        out, err = server.communicate(60)
    # a client's last connection may be one that the socket's end met before the server had accepted it
    assert {status for own in statuses for status in own[:-1]} == {200}
    assert (server.returncode, out) == (0, "")
    judged = re.search(r"^stopped; (\d+) pairs were judged$", err, re.M)
    assert judged, err
    assert int(judged[1]) == 8 * sum(own.count(200) for own in statuses)


def test_a_second_interrupt_ends_a_server_at_once(shipped):
    with served(shipped) as (server, _):
        os.kill(server.pid, signal.SIGINT)
        while "stopping" not in server.said("err"):
            time.sleep(0.01)
        os.kill(server.pid, signal.SIGINT)
        out, err = server.communicate(60)
    assert (server.returncode, out) == (130, "")
    assert err.endswith("answered first\nstopped at once: 0 pairs will not be answered\n")


def ask(url: str, statuses: list[int]) -> None:
    """Ask for pairs over a connection that is kept, until nobody listens. A lost answer is status 0."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            try:
                answer = client.post("/v1/compare", json={"pairs": [PAIR_EXAMPLE] * 8})
                statuses.append(answer.status_code)
            except httpx.ConnectError:
                return
            except httpx.HTTPError:
                statuses.append(0)


def test_keys_of_the_environment_are_asked_for(shipped, monkeypatch):
    monkeypatch.setenv(keys.VARIABLE, "a-key-of-16-characters")
    with served(shipped, "--host", "0.0.0.0", "--name", "mine") as (_, url):
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
