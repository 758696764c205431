"""Pages with all parts of `tiebreak.pages`: the example of its docstring, and one with the parts that this leaves out."""

import textwrap

from tiebreak import pages
from tiebreak.pages import plots

ESTIMATE = {"value": 12.0, "low": 3.0, "high": 21.0}
VALUES = {
    "names": ["m", "n"],
    "judge": "j",
    "votes": 100,
    "findings": [{"holds": True, "text": "m wins."}, {"holds": None, "text": "Ties are few."}],
    "rows": [{"name": "m", "strength": ESTIMATE}, {"name": "n", "strength": {"value": -12.0, "low": None, "high": None}}],
    "chart": plots.intervals([("m", ESTIMATE)], unit="strength", digits=0),
}  # fmt: skip


def example() -> str:
    """The template in the docstring of `tiebreak.pages`."""
    lines = pages.__doc__.splitlines()
    shown = [n for n, line in enumerate(lines) if line.startswith("    ")]
    return textwrap.dedent("\n".join(lines[shown[0] : shown[-1] + 1]))


PARTS = """\
{% extends "base.html.j2" %}
{% from "parts.html.j2" import change, figure, pairs, percentage, quote, section, table, text_table, tiles, verdict with context %}
{% block title %}A page{% endblock %}
{% block about %}Of all parts.{% endblock %}
{% block summary %}{{ verdict(none, "Not known.") }}{{ tiles([("62 %", "wins")]) }}{% endblock %}
{% block content %}
{% call section("Parts & more", "Are they there?") %}
{{ text_table("Parts", ("part", "what", "votes"), [("a", "<b>", "1")], (0, 1), unseen=true) }}
{% call table("Figures", ("name", "share", "change")) %}
<tr><th scope="row">m</th>{{ percentage(share) }}{{ change(delta, 2, "from n") }}</tr>
{% endcall %}
{{ figure(plot, "A plot") }}{{ pairs([("device", "CPU")]) }}{{ quote(text) }}
{% endcall %}
{% endblock %}
"""
PARTS_VALUES = {
    "share": {"value": 0.6251, "low": 0.5, "high": 0.75},
    "delta": {"value": 0.5, "low": None, "high": None},
    "plot": plots.reliability(
        [{"probability": 0.2, "share": 0.25, "low": 0.1, "high": 0.4, "rows": 10}], "P(A)"
    ),
    "text": "one\n  two <i>",
}
