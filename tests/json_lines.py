"""Files of JSON Lines that tests write and read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
