import jinja2
import pytest
from hostile_text import HOSTILE
from html_pages import faults
from sample_pages import ESTIMATE, PARTS, PARTS_VALUES, VALUES, example

from tiebreak import pages
from tiebreak.pages import plots
from tiebreak.pages.terms import TERMS


def test_the_example_of_the_docstring_is_a_page_without_faults(package):
    page = pages.render(package(example()), "page.html.j2", **VALUES)
    assert not faults(page)
    assert "<title>Which of 2 models is better</title>" in page
    assert '<li><a href="#leaderboard">Leaderboard</a></li>' in page
    assert '<h2 id="leaderboard">Leaderboard</h2>' in page
    assert "<td>12<small>3 to 21</small></td>" in page
    assert "<td>-12</td>" in page
    assert f"<dd>{TERMS['Bradley-Terry model']}</dd>" in page
    assert page.index("Verdict</h2>") < page.index("Contents</h2>") < page.index("Leaderboard</h2>")


def test_the_same_values_make_the_same_page(package):
    name = package(example())
    assert pages.render(name, "page.html.j2", **VALUES) == pages.render(name, "page.html.j2", **VALUES)


@pytest.mark.parametrize("name", [*HOSTILE, "markup"])
def test_texts_of_others_are_shown_and_do_nothing(package, name):
    text = HOSTILE.get(name, """</style><script>x</script>"><img src=x onerror='y'>{{ 7 * 7 }}""")
    rows = [{"name": text, "strength": ESTIMATE}]
    findings = [{"holds": False, "text": text}]
    chart = plots.intervals([(text, ESTIMATE)], [(text, 5.0)], text)
    values = VALUES | {"judge": text, "rows": rows, "findings": findings, "chart": chart}
    assert not faults(pages.render(package(example()), "page.html.j2", **values))


def test_every_part_is_free_of_faults(package):
    page = pages.render(package(PARTS), "page.html.j2", **PARTS_VALUES)
    assert not faults(page)
    assert "<td>62.5 %<small>50.0 to 75.0</small></td>" in page
    assert '<td>+0.50<small class="wraps">from n</small></td>' in page
    assert '<h2 id="parts-more">Parts &amp; more</h2>' in page
    assert "one\n  two &lt;i&gt;" in page
    assert '<td class="text">&lt;b&gt;</td><td>1</td>' in page
    assert "What the words mean" not in page


def test_a_value_that_is_missing_and_an_unknown_word_are_errors(package):
    with pytest.raises(jinja2.UndefinedError, match="judge"):
        pages.render(package(example()), "page.html.j2", **{k: v for k, v in VALUES.items() if k != "judge"})
    with pytest.raises(KeyError, match="heresy"):
        pages.render(package(example().replace("Bradley-Terry model", "heresy")), "page.html.j2", **VALUES)


def test_words_are_explained_in_sentences():
    for name, meaning in TERMS.items():
        assert meaning[0].isupper(), name
        assert meaning.endswith("."), name
    assert list(TERMS) == sorted(TERMS, key=str.lower)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<th scope="row">m</th>', "<th>m</th>"),
        ('<th scope="row">m</th>', "<td>m</td>"),
        ("<caption><span>Strength of each model</span></caption>", ""),
        (' role="region"', ""),
        (' aria-label="strength', ' title="strength'),
        ('href="#leaderboard"', 'href="#elsewhere"'),
        ('<h2 id="leaderboard">', '<h2 id="contents">'),
        ("</section>", "</div>"),
        ("</main>", '<img src="a.png" alt=""></main>'),
        ("</main>", "<h4>deep</h4></main>"),
        ("</style>", "@import 'x.css';</style>"),
        ("default-src", "img-src"),
        ("<td>-12</td>", "<td onclick='x'>-12</td>"),
        ("<td>-12</td>", "<td>-\x1b12</td>"),
    ],
)
def test_faults_are_found(package, old, new):
    page = pages.render(package(example()), "page.html.j2", **VALUES)
    assert old in page
    assert faults(page.replace(old, new, 1))
