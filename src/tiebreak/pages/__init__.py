"""Pages of results in one design: the report, the comparison of models, the audit and the data card.

A page is one HTML file for people who were not there. Nothing is fetched and nothing runs: a policy in its head forbids both.
It reads on a phone, in light and dark, by a screen reader and on paper. Text of others is escaped, and its controls
are made visible (tiebreak.plain). The same values make the same page.

The folder `templates` of a package holds a template that fills the blocks of `base.html.j2`:

    {% extends "base.html.j2" %}
    {% from "parts.html.j2" import estimate, section, table, term, verdict with context %}
    {% block title %}Which of {{ names | length }} models is better{% endblock %}
    {% block about %}Judged by {{ judge }} on {{ votes }} votes.{% endblock %}
    {% block summary %}
    {% call verdict(true, "m is better than n.", findings) %}<p>It wins 62 of 100 prompts.</p>{% endcall %}
    {% endblock %}
    {% block content %}
    {% call section("Leaderboard", "Which model do people prefer, and how sure is that?") %}
    {{ chart }}
    {% call table("Strength of each model", ("model", "strength")) %}
    {% for row in rows %}
    <tr><th scope="row">{{ row.name }}</th>{{ estimate(row.strength, 0) }}</tr>
    {% endfor %}
    {% endcall %}
    <p>Strengths are of the {{ term("Bradley-Terry model") }}.</p>
    {% endcall %}
    {% endblock %}

and is rendered by `render("tiebreak.evaluate", "report.html.j2", names=..., ...)`.

Blocks of `base.html.j2`: `title`, what was judged; `about`, by whom or what, on which votes, when; `summary`, the
verdict and the figures that matter; `content`, the sections. The contents of the page and the meaning of its words are
added from what `section` and `term` were called with.

Parts of `parts.html.j2`, imported `with context`:

- `section(title, question)`: a section, which opens with the question that it answers. Titles are unique in a page.
- `verdict(good, headline, findings)`: `good` is true, false or none; `findings` have `holds` (alike) and `text`. In its body may be a list,
  of items of the class "warning" or of none.
- `tiles(figures)`: the few figures that matter, of (figure, what it is).
- `table(caption, columns, text=(0,), unseen=false)`: a table that scrolls by itself, called with its rows; `text`: the
  columns, by number, that are no figures, whose cells have the class "text"; `unseen`: a caption that repeats the heading is
  left to screen readers. A row begins with `<th scope="row">`. Captions are unique in a page, and no column is without a name.
- `text_table(caption, columns, rows, text=(0,), unseen=false)`: the same of rows of strings.
- `estimate(e, digits)`, `change(e, digits, note)`, `percentage(e, digits)`: a cell with the interval below the figure;
  `e` has `value`, `low`, `high`.
- `figure(plot, caption)`: a plot of `tiebreak.pages.plots`, which has a name for those who do not see it.
- `pairs(items)`: a list of names and short values.
- `quote(text)`: a text of others, as it was written.
- `term(name, shown)`: a word of `tiebreak.pages.terms`, linked to its meaning.
- classes: `soft`, a remark; `note`, a warning; `sides`, two things beside each other where the screen is wide enough.

Filters: `number(digits)`, "–" for None; `slug`.
"""

import functools
import re
from typing import Any

import jinja2

from tiebreak import plain
from tiebreak.pages.terms import TERMS


def render(package: str, template: str, **values: Any) -> str:
    """Render a template of a package (`tiebreak.evaluate`) as a page.

    Raises jinja2.UndefinedError for a value that the template needs and is not given, KeyError for an unknown term.
    """
    page = _templates(package).get_template(template)
    return plain.lines(page.render(**values, sections=[], terms_used=set()))


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many decimals; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def slug(text: object) -> str:
    """The letters and digits of a heading, as an id within the page."""
    return re.sub(r"[\W_]+", "-", str(text).lower()).strip("-")


@functools.cache
def _templates(package: str) -> jinja2.Environment:
    """The templates of a package, and the shared ones."""
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("tiebreak.pages")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters |= {"number": number, "slug": slug}
    templates.globals["meaning"] = TERMS.__getitem__
    return templates
