"""The model card: README.md of the shipped folder, with the hub's YAML front matter."""

from collections.abc import Mapping
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

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
    return _templates.get_template("card.md.j2").render(
        front=_front_matter(metrics).to_yaml(),
        m=metrics,
        package=package,
        label=label,
        number=number,
        plain=_plain,
    )


def _plain(value: Any) -> str:
    """Format a value of tiebreak.json: lists with commas, mappings with semicolons."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
