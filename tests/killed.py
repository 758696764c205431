"""Processes that are killed at a known moment, forked from the one that runs the test."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock


def killed_before(name: str, function: Callable[[], Any]) -> None:
    """Run a function in a fork that SIGKILL ends as a file is about to appear under a name.

    What is written appears by a rename (tiebreak.output): so the kill leaves it under its temporary name.
    """
    if process := os.fork():
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        return
    replace = Path.replace

    def replace_or_die(path: Path, target: Path) -> Path:
        if target.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    try:
        with mock.patch.object(Path, "replace", replace_or_die):
            function()
    finally:  # neither pytest nor what is to run at exit goes on here
        os._exit(1)
