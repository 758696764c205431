"""The model card: README.md of the shipped folder, with the hub's YAML front matter."""

from collections.abc import Mapping
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markupsafe import escape

from tiebreak import plain
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.report import label
from tiebreak.pages import number

_PLACE = "path/to/this/folder"
_KIND: dict[str, Any] = {
    "library_name": "transformers",
    "pipeline_tag": "text-classification",
    "tags": ["tiebreak", "preference-model", "llm-as-a-judge"],
}
"""What is true of every judge."""

LICENSE = ("license", "license_name", "license_link")
"""Metadata on a license, which go together."""

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tiebreak.evaluate"),
    autoescape=False,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(metrics: Mapping[str, Any], package: Mapping[str, Any]) -> str:
    """Render the card as Markdown, from metrics.json and the folder's tiebreak.json."""
    page = _templates.get_template("card.md.j2").render(
        front=_front_matter(metrics).to_yaml(),
        m=metrics,
        package=package,
        label=label,
        number=number,
        formatted=_formatted,
        place=_PLACE,
    )
    return plain.lines(page)


def published(card: str, name: str, metadata: Mapping[str, Any], license_: str | None = None) -> str:
    """The card of a model folder as the hub has it under a name.

    metadata: of the hub's kinds, such as base_model, for those on which the card says nothing. license_: in place of what
    the card says, if given. Raises TiebreakError for a card whose metadata cannot be read.
    """
    parsed = _parse(card)
    if license_:
        parsed.data["license"] = license_
    is_licensed = parsed.data.get("license") is not None
    for key, value in (_KIND | dict(metadata)).items():
        if parsed.data.get(key) is None and not (is_licensed and key in LICENSE):
            parsed.data[key] = value
    parsed.text = parsed.text.replace(f'load("{_PLACE}")', f'load("{name}")')
    return str(parsed)


def metadata_of(card: str) -> dict[str, Any]:
    """The metadata of a card. Raises TiebreakError if they cannot be read."""
    found: dict[str, Any] = _parse(card).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def _parse(card: str) -> ModelCard:
    try:
        return ModelCard(card)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise TiebreakError(
            f"README.md, the model's card, has metadata that cannot be read: {error}; correct what stands there between "
            "the lines ---"
        ) from None


def _formatted(value: Any) -> str:
    """Format a value of tiebreak.json for a cell: lists with commas, mappings with semicolons, no markup."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_formatted(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_formatted, value))
    return f"{value:.4g}" if isinstance(value, float) else _markup(plain.line(value))


def _markup(text: str) -> str:
    """A text as Markdown and HTML show it, in a table too."""
    return str(escape(text)).replace("|", "\\|")


def _front_matter(metrics: Mapping[str, Any]) -> ModelCardData:
    front = ModelCardData(**_KIND, metrics=["log_loss", "accuracy", "brier_score"])
    if metrics["ladder"]:
        final = metrics["ladder"][-1]
        front.model_name = metrics["name"]
        front.eval_results = [
            EvalResult(
                task_type="text-classification",
                task_name="which of two answers is preferred",
                dataset_type="votes",
                dataset_name="lockbox votes",
                metric_type=name,
                metric_value=round(final[name]["value"], 6),
            )
            for name in ("log_loss", "accuracy")
        ]
    return front
