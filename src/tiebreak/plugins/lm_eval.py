"""Metric for lm-evaluation-harness (lm_eval): the win rate of what a model generates over a reference answer.

Importing this module registers the aggregation `tiebreak_win_rate`; `process_results` of a task gives it what it needs:
`lambda doc, results: {"win_rate": (model, prompt, results[0], reference)}`, as docs/plugins.md shows.
"""

from collections.abc import Sequence

from lm_eval.api.registry import register_aggregation

from tiebreak.plugins.judging import load, win_rates

Item = tuple[str, str, str, str]
"""Model folder, prompt, generated answer, reference answer."""


@register_aggregation("tiebreak_win_rate")  # type: ignore[untyped-decorator]
def win_rate(items: Sequence[Item]) -> float:
    """The mean win rate of generated answers, judged together: P(preferred) + P(tie) / 2."""
    (model,) = {item[0] for item in items}
    pairs = [
        {"prompt": prompt, "response_a": generated, "response_b": reference}
        for _, prompt, generated, reference in items
    ]
    return float(win_rates(load(model).predict(pairs)).mean())
