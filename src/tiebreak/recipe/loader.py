"""Recipe files: reading YAML, overrides, error messages, and writing."""

import logging
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from tiebreak.errors import TiebreakError
from tiebreak.limits import RAISE, raised
from tiebreak.recipe.limits import CHECKED
from tiebreak.recipe.problems import problems
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import FOLD_SECTIONS, FoldSection

log = logging.getLogger(__name__)

MOST_VALUES = 100_000
"""Values of a recipe, aliases unfolded; a recipe has some hundred."""


_RENAMED = {
    "soup_share": "calibration_share",
    "subset_rows": "subset_votes",
    "subset_rows_of": "subset_votes_of",
}
"""Older names of sections' keys."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A YAML loader that refuses duplicate keys, of which YAML's own loader silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise ComposerError(None, None, f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(str(key.value))
        return node

    def construct_yaml_int(self, node: yaml.Node) -> int:
        """A whole number. Raises ValueError for one that Python does not write out in digits."""
        value: int = super().construct_yaml_int(node)
        str(value)
        return value

    def get_single_data(self) -> Any:
        """The document's value. Raises YAMLError before it is made if its aliases unfold to too many values."""
        try:
            node = self.get_single_node()
            if node is not None and _values(node, {}) > raised(MOST_VALUES):
                raise ComposerError(
                    None,
                    None,
                    f"its aliases unfold to more than {raised(MOST_VALUES):,} values; {RAISE}",
                    None,
                )
            return None if node is None else self.construct_document(node)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, ValueError) as error:
            # a date or number that is none, brackets without end
            raise ComposerError(None, None, f"{type(error).__name__}: {error!s:.200}", None) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides of the form `a.b=value` (values are YAML).

    Raises TiebreakError for a missing file, broken YAML, a key that is there twice, an unknown key (with the
    nearest valid one) or a value out of range.
    """
    if not path.is_file():
        raise TiebreakError(f"no recipe at {path}. Make one with: tiebreak init NAME --preset tiny")
    try:
        tree = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if path.suffix not in (".yaml", ".yml"):
            raise TiebreakError(
                f"{path} is no recipe, which is YAML; if it holds votes: tiebreak init NAME --votes {path}"
            ) from None
        raise TiebreakError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise TiebreakError(f"{path} holds {type(tree).__name__}, not a mapping of recipe keys")
    return parse(tree, str(path), overrides)


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """The number of values below a node, those of an alias as often as it is used; infinite if it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf  # while it is counted
        items = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (part for item in items for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]


def parse(tree: dict[str, Any], origin: str, overrides: Sequence[str] = ()) -> Recipe:
    """Build a Recipe from a plain tree, which is not changed, and overrides; `origin` names the tree in errors."""
    tree = _with_new_names(tree, origin)
    for override in overrides:
        _apply(tree, override)
    tree = _with_new_names(tree, origin)  # a whole section may have been set
    compute = tree.get("compute")
    unlimited = isinstance(compute, dict) and compute.get("check_limits") is False
    try:
        return Recipe.model_validate(tree, context=None if unlimited else CHECKED)
    except ValidationError as error:
        raise TiebreakError(
            f"{origin}:", *(f"  {found}" for found in problems(error, tree, Recipe))
        ) from None


def fold_overrides(folds: Sequence[int], sections: Sequence[FoldSection] = ()) -> tuple[str, ...]:
    """The overrides that restrict a run to some folds, from the first of `sections` on.

    Earlier steps keep theirs: with out-of-fold soft labels one student reads every fold's logits.
    """
    if not folds:
        return ()
    first = min(map(FOLD_SECTIONS.index, sections), default=0)
    return tuple(f"{section}.folds={list(folds)}" for section in FOLD_SECTIONS[first:])


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, defaults included."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _with_new_names(tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """The tree with the keys of its sections by their present names. Raises TiebreakError for one that has two."""
    tree = dict(tree)
    for name, section in tree.items():
        if not isinstance(section, dict):
            continue
        for old, new in _RENAMED.items():
            if old in section and new in section:
                raise TiebreakError(
                    f"{origin}: {name}.{old} is the older name of {name}.{new}, which is there too; leave it out"
                )
        tree[name] = {_new_name(key): value for key, value in section.items()}
    return tree


def _new_name(key: str) -> str:
    new = _RENAMED.get(key, key)
    if new != key:
        _note_renamed(key, new)
    return new


@cache
def _note_renamed(old: str, new: str) -> None:
    """Note a renamed key, once a process."""
    log.info("note: the recipe key %s is now called %s; the old name is read as well", old, new)


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise TiebreakError(f"--set takes a.b=value, not {override!r}")
    parts = path.split(".")
    *parents, leaf = (*parts[:1], *map(_new_name, parts[1:2]), *parts[2:])
    for key in parents:
        section = tree.get(key, {})
        if not isinstance(section, dict):
            raise TiebreakError(f"--set {override}: {key!r} holds a value, not a section")
        tree[key] = tree = dict(section)  # a copy: with YAML's anchors other keys may hold the same section
    try:
        tree[leaf] = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise TiebreakError(f"--set {override}: {text!r} is not a YAML value: {error}") from None
