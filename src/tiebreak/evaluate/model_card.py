"""The model card: README.md of the shipped folder, with the hub's YAML front matter."""

from collections.abc import Mapping
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData
from markupsafe import escape

from tiebreak import plain
from tiebreak.evaluate.report import label, number

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
    )
    return plain.lines(page)


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
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["tiebreak", "preference-model", "llm-as-a-judge"],
        metrics=["log_loss", "accuracy", "brier_score"],
    )
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
