"""Limits of a recipe's numbers, far beyond what anyone needs, so that a slip of the keyboard is an error at once.

They hold where a recipe is read. compute.check_limits=false lifts them.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

CHECKED = {"check_limits": True}
"""The context of a validation that checks limits."""

MOST_TASKS = 10_000
"""Tasks of a recipe. Planning looks for the artifact of each."""

LIFT = "--set compute.check_limits=false lifts the limit"


@dataclass(frozen=True)
class AtMost:
    """A limit in a number's type, or in that of one or two numbers."""

    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The number's own schema, and the check behind it."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The number's own schema, with the limit in words of this project: it can be lifted, a maximum cannot."""
        return {**handler(schema), "limit": self.most}

    def _check(self, value: Any, info: ValidationInfo) -> Any:
        largest = max(value) if isinstance(value, tuple) else value
        if info.context == CHECKED and largest is not None and largest > self.most:
            raise ValueError(f"is {largest:.15g}, and more than {self.most:,} is taken for a slip; {LIFT}")
        return value
