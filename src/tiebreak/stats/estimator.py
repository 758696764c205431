"""The parameters of an estimator by scikit-learn's convention, without scikit-learn, which takes seconds to import.

A judge applies what such estimators have fitted. scikit-learn's `clone` takes them as its own.
"""

from inspect import Parameter, signature
from typing import Any, Self


class Estimator:
    """An estimator whose parameters are the arguments of its constructor, kept under their names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name. deep: without effect, as none is an estimator."""
        taken = signature(type(self)).parameters.values()
        return {p.name: getattr(self, p.name) for p in taken if p.kind is Parameter.POSITIONAL_OR_KEYWORD}

    def set_params(self, **params: Any) -> Self:
        """Set parameters. Raises ValueError for a name that the constructor does not take."""
        if unknown := params.keys() - self.get_params():
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(sorted(unknown))}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"
