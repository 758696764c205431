"""Stop signals while a process ends: what is done stays done."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_steps
import pytest

TRIES = 100
LATEST = 0.1
"""Seconds after its last word at which a process is told to stop; on a free machine it ends within them."""


@pytest.mark.thorough
def test_a_signal_while_a_finished_job_exits_does_not_fail_it(tmp_path: Path) -> None:
    """Slurm's warning, or a preemption, between the last line of a job and its end."""
    recipe = fake_steps.write(tmp_path)
    paths = [str(Path(fake_steps.__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-c", fake_steps.COMMAND, "task", str(recipe), "ingest/votes"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    moments, alive = random.Random(0), 0
    for _ in range(TRIES):
        job = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert job.stdout is not None
        assert "ingest/votes" in job.stdout.readline()
        time.sleep(moments.uniform(0, LATEST))
        alive += job.poll() is None
        job.send_signal(moments.choice([signal.SIGUSR1, signal.SIGTERM]))
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 0, errors
    assert alive > 0, "every process had ended before it was told to"
