"""A tiny judge, and an application that serves it in this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asgi_client import Client
from shipped_judge import ship

from tiebreak.judge import package
from tiebreak.judge.judge import Judge, load_judge
from tiebreak.recipe.schema import Prompt
from tiebreak.serve.app import create_app
from tiebreak.serve.batching import Batcher
from tiebreak.serve.keys import Keys
from tiebreak.serve.service import Limits, Service
from tiebreak.serve.to_vote import PairsToVote
from tiebreak.serve.votes import VotesFile

Serve = Callable[..., Client]


@pytest.fixture(scope="session")
def shipped(once: Callable[..., Path]) -> Path:
    """The folder of a tiny judge."""

    def make(folder: Path) -> None:
        shipped = package.read(ship(folder / "model", seed=1))
        package.write(shipped.model_copy(update={"prompt": Prompt(prompt_tokens=40)}), folder / "model")

    return once("served", make) / "model"


@pytest.fixture(scope="session")
def judge(shipped: Path) -> Judge:
    return load_judge(shipped, "cpu")


@pytest.fixture(scope="module")
def serve(judge: Judge) -> Iterator[Serve]:
    """serve(limits..., judges=, most_waiting=, keys=, local_only=): a client of an application."""
    with ExitStack() as stack:

        def made(
            judges: Any = None,
            most_waiting: int = 4096,
            keys: Keys | None = None,
            local_only: bool = False,
            votes: VotesFile | None = None,
            to_vote: PairsToVote | None = None,
            **limits: Any,
        ) -> Client:
            batcher = stack.enter_context(Batcher(judges or [judge], most_waiting))
            service = Service("tiny", 120, batcher, replace(Limits(), **limits))
            client = Client(create_app(service, keys or Keys(), local_only, votes, to_vote))
            client.service = service  # type: ignore[attr-defined]
            stack.callback(client.close)
            return client

        yield made


@pytest.fixture(scope="module")
def client(serve: Serve) -> Client:
    """A client of an application with all defaults."""
    return serve()
