import itertools
import xml.etree.ElementTree as ET

import pytest

from tiebreak.pages import plots


def chart(rows, marks=(), layout=plots.WIDE):
    return ET.fromstring(str(plots.interval_chart(rows, marks, "log loss", 4, layout)))


def test_intervals_are_drawn_in_proportion():
    one, two = {"value": 1.0, "low": 0.5, "high": 2.0}, {"value": 1.5, "low": 1.0, "high": 2.0}
    drawing = chart([("one", one), ("two", two)], [("mark", 0.75)])
    dots = [float(dot.get("cx")) for dot in drawing.iter("circle")]
    spans = [line for line in drawing.iter("line") if line.get("class") == "interval"]
    (mark,) = [float(line.get("x1")) for line in drawing.iter("line") if line.get("class") == "mark"]
    left, right = float(spans[0].get("x1")), float(spans[0].get("x2"))
    assert (dots[0] - left) / (right - left) == pytest.approx(1 / 3, abs=1e-2)
    assert (dots[1] - left) / (right - left) == pytest.approx(2 / 3, abs=1e-2)
    assert (mark - left) / (right - left) == pytest.approx(1 / 6, abs=1e-2)


def test_an_estimate_without_an_interval_is_a_dot_alone():
    estimate = {"value": 1.0, "low": None, "high": None}
    drawing = chart([("one", estimate), ("two", estimate | {"value": 2.0})])
    assert len(list(drawing.iter("circle"))) == 2
    assert not [line for line in drawing.iter("line") if line.get("class") == "interval"]


def test_long_names_are_drawn_in_lines_about_their_dot():
    estimate = {"value": 1.0, "low": 0.5, "high": 2.0}
    drawing = chart([("word " * 16, estimate)])
    dot = next(drawing.iter("circle"))
    lines = list(drawing.iter("tspan"))
    assert [len(line.text) for line in lines] == [44, 34]
    assert sum(float(line.get("y")) - 4 for line in lines) / 2 == float(dot.get("cy"))


def test_names_of_many_lines_do_not_overlap():
    estimate = {"value": 1.0, "low": 0.5, "high": 2.0}
    lines = list(chart([("word " * 40, estimate), ("word " * 40, estimate)]).iter("tspan"))
    places = [float(line.get("y")) for line in lines]
    assert len(places) == 10
    assert all(b - a >= 14 for a, b in itertools.pairwise(places))


def test_on_a_narrow_screen_names_stand_above_their_dot_and_nothing_beyond_the_edge():
    estimate = {"value": 1.0, "low": 0.5, "high": 2.0}
    names = ["word " * 16, "short"]
    drawing = chart([(n, estimate) for n in names], [("m", 0.5)], plots.NARROW)
    width = float(drawing.get("viewBox").split()[2])
    assert width <= 420
    dots = [float(dot.get("cy")) for dot in drawing.iter("circle")]
    lines = [(len(line.text), float(line.get("x")), float(line.get("y"))) for line in drawing.iter("tspan")]
    assert [letters for letters, *_ in lines] == [54, 24, 5]
    assert all(x + 6.8 * letters < width for letters, x, _ in lines)
    (_, _, first), (_, _, second), (_, _, last) = lines
    assert first < second < dots[0] < last < dots[1]


def test_marks_that_are_close_are_named_one_over_the_other():
    def drawn(*marks: tuple[str, float]) -> list[tuple[float, float, str]]:
        plot = chart([("one", {"value": 1.0, "low": 0.0, "high": 2.0})], marks)
        texts = [text for text in plot.iter("text") if text.text and text.text[-5:-4] == "."]
        return sorted((float(text.get("y")), float(text.get("x")), text.text) for text in texts)

    assert [y for y, *_ in drawn(("far", 0.2), ("away", 1.8))] == [14, 14]
    (upper, one, _), (lower, other, _) = drawn(("prior", 1.02), ("best possible", 1.0))
    assert (upper, lower) == (14, 28)
    assert abs(one - other) < 60
    ((_, x, text),) = drawn(("a mark at the very edge", 2.0))
    assert x + plots.LETTER * len(text) / 2 <= 930


@pytest.mark.parametrize(
    ("low", "high"), [(0.8512, 0.8533), (0.0, 3.0), (0.6, 1.11), (-2e-4, 1e-4), (0.01, 0.99)]
)
def test_ticks_are_few_and_inside(low, high):
    ticks = plots._ticks(low, high)
    assert 3 <= len(ticks) <= 10
    assert low <= ticks[0] <= ticks[-1] <= high


def test_a_chart_has_a_name_that_tells_its_ends():
    rows = [
        (name, {"value": value, "low": None, "high": None}) for name, value in (("a <b>", 1.0), ("b", 0.25))
    ]
    assert chart(rows).get("aria-label") == "log loss: from 0.2500, b, to 1.0000, a <b>"
    both = str(plots.intervals(rows, unit="log loss", digits=1))
    assert both.count('aria-label="log loss: from 0.2, b, to 1.0, a &lt;b&gt;"') == 2
    assert both.startswith('<div class="wide"><svg')


def test_a_reliability_diagram_has_a_name_that_tells_the_furthest_bin():
    bins = [
        {"probability": p, "share": share, "low": None, "high": None, "rows": 10}
        for p, share in ((0.2, 0.25), (0.6, 0.8))
    ]
    spoken = ET.fromstring(str(plots.reliability(bins, "P(A)"))).get("aria-label")
    assert (
        spoken == "P(A), predicted and observed, in 2 bins: furthest apart at 0.600 predicted, 0.800 observed"
    )


def test_a_drawing_of_its_own_needs_no_style_sheet():
    rows = [('class="dot"', {"value": 1.0, "low": 0.5, "high": 2.0})]
    drawing = plots.interval_chart(rows, [("mark", 0.75)], "log loss", 4, plots.WIDE)
    alone = ET.fromstring(plots.standalone(drawing))
    names = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in alone.iter()}
    assert names == {"svg", "line", "text", "tspan", "circle", "title"}
    assert not [element for element in alone.iter() if element.get("class")]
    lines = [element for element in alone.iter() if element.tag.endswith("line")]
    assert all(line.get("stroke") for line in lines)
    assert alone.get("style").startswith("background:#ffffff;max-width:930px")
    assert 'class="dot"' in "".join(alone.itertext())
