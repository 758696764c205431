"""Libraries of extras that the steps of a run need, looked for before hours of training rather than after them."""

from collections.abc import Iterable
from importlib.util import find_spec

from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task


def require_libraries(tasks: Iterable[Task]) -> None:
    """Raises TiebreakError if one of the tasks needs a library that is not installed."""
    for step in {task.step.name: task.step for task in tasks}.values():
        if step.library and find_spec(step.library[0]) is None:
            module, extra = step.library
            raise TiebreakError(
                f"the step {step.name} needs {module}, which is not installed: pip install 'tiebreak[{extra}]'; "
                "or run only steps before it: --steps"
            )
