"""Arguments of the Python interface: one that is not of its annotated type is an error for people."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from tiebreak.errors import TiebreakError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_NUMBERS = {int: Integral, float: Real}
"""Those of NumPy too."""
_MODULE = re.compile(r"\b(collections\.abc|pathlib\._local|pathlib|typing)\.")
_NOT_LOOKED_AT = (Any, Iterable, inspect.Parameter.empty)


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function, which raises TiebreakError for an argument of another type than annotated, and names it.

    Any collection but a text is a Sequence; True and False are no numbers. What only the function can tell, as of an
    Iterable, a Protocol or the values of a Literal, is left to it.
    """
    signature = inspect.signature(function)
    annotated = {name: parameter.annotation for name, parameter in signature.parameters.items()}

    @wraps(function)
    def call(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        for name, value in signature.bind(*arguments, **named).arguments.items():
            if not _fits(value, annotated[name]):
                expected = _MODULE.sub("", inspect.formatannotation(annotated[name]))
                raise TiebreakError(f"{name} takes {expected}, not {value!r:.60}")
        return function(*arguments, **named)

    return call


def _fits(value: Any, annotation: Any) -> bool:
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is Literal:
        return isinstance(value, str)
    if kind is Sequence:
        is_other = isinstance(value, str | bytes | Mapping)
        return isinstance(value, Collection) and not is_other and all(_fits(one, *inner) for one in value)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items()
        )
    if not isinstance(kind, type) or kind in _NOT_LOOKED_AT or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, _NUMBERS.get(kind, kind)) and (kind is bool or not isinstance(value, bool))
