import copy
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict

import numpy as np
import pytest
from hostile_text import HOSTILE
from scipy.stats import binomtest

from tiebreak.evaluate import model_card, plots, report
from tiebreak.evaluate.variants import (
    LabelledVotes,
    Stage,
    evaluate_variants,
    prior_variant,
    reliability,
    variants,
)
from tiebreak.judge.logits import ModelLogits
from tiebreak.stats.calibration import from_json
from tiebreak.stats.calibration_test import calibration_test
from tiebreak.stats.clustered import share
from tiebreak.stats.learning_curve import Point, learning_curve
from tiebreak.stats.metrics import Bootstrap

CARD = {
    "prompt": {"template": "published"},
    "tta": {"both_orders": True, "max_tokens": 64},
    "calibration": {"temperature": 1.0},
    "provenance": {"quantized": {"method": "gptq", "logit_change": 0.000123456, "groups": {"32": 14}}},
}
"""A tiebreak.json, as the card is made from it."""


@pytest.fixture(scope="module")
def measured() -> dict:
    random = np.random.default_rng(0)
    z = random.normal(size=(80, 2, 3))
    truth = LabelledVotes([str(n) for n in range(80)], np.eye(3)[random.integers(3, size=80)], np.arange(80))
    model = ModelLogits(
        "student", None, "lockbox", "out_of_fold", truth.ids, z, from_json({"temperature": 1.5})
    )
    ladder = [prior_variant(np.full(3, 1 / 3), 80), *variants(Stage.QUANTISED, [model])]
    return {
        "name": "a <b>bold</b> run",
        "lockbox_rows": 80,
        "lockbox_prompts": 80,
        "verdict": {
            "use": False,
            "headline": "Do not use: worse than the class shares on 80 votes.",
            "findings": [
                {"about": "class shares", "holds": False, "text": "Worse than the <i>class</i> shares."}
            ],
        },
        "prior_log_loss": np.log(3),
        "leaderboard_log_loss": None,
        "prior": {"a": 0.3, "b": 0.3, "tie": 0.4},
        "confidence": 0.95,
        "bootstrap_samples": 20,
        "ladder": evaluate_variants(ladder, truth, Bootstrap(20)),
        "folds": [],
        "calibration": [
            {
                "stage": "quantised",
                "both_orders": False,
                "calibrated": False,
                "test": asdict(calibration_test(ladder[1].predictions[0], truth.y_NC)),
                "curves": reliability(ladder[1].predictions[0], truth.y_NC, truth.groups_N),
                "brier_parts": {"miscalibration": 0.01, "discrimination": 0.02, "uncertainty": 0.6},
            }
        ],
    }


def test_names_are_escaped(measured):
    assert "<b>bold</b>" not in report.render(measured)
    assert "a &lt;b&gt;bold&lt;/b&gt; run" in report.render(measured)


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_plain_on_the_page_and_the_card(measured, name):
    metrics = measured | {"name": f"a{HOSTILE[name]}b", "facts": {HOSTILE[name]: HOSTILE[name]}}
    package = {"prompt": {"template": "published"}, "tta": {"both_orders": True, "max_tokens": 64}}
    package |= {"calibration": {"temperature": 1.0}, "provenance": {"base": f"<b>|{HOSTILE[name]}"}}
    for page in (report.render(metrics), model_card.render(metrics, package)):
        assert page.replace("\n", "").isprintable()
    assert "| base | &lt;b&gt;\\|" in model_card.render(measured, package)


def test_numbers_of_the_ladder_are_printed(measured):
    page = report.render(measured)
    for variant in measured["ladder"]:
        for metric, digits in (("log_loss", 4), ("accuracy", 3), ("brier", 4)):
            assert f"<td>{variant[metric]['value']:.{digits}f}<small>" in page
        ece = variant["ece"]
        assert f'<td>{ece["value"]:.3f}<small class="whole">p ' in page
        limit = f'<small class="whole">up to {ece["limit"]:.3f}</small>'
        assert f"<td>{ece['when_calibrated']:.3f}{limit}" in page


def test_the_verdict_comes_before_all_else(measured):
    page = report.render(measured)
    body = page[page.index("</h1>") :]
    assert (
        body.index('class="verdict bad"')
        < body.index("Do not use: worse than")
        < body.index("<p>On 80 votes")
    )
    assert "Worse than the &lt;i&gt;class&lt;/i&gt; shares." in page
    assert 'class="verdict' not in report.render(measured | {"verdict": None})


def test_figures_without_intervals_are_shown_without(measured):
    bare = copy.deepcopy(measured)
    for variant in bare["ladder"]:
        for name in ("log_loss", "accuracy", "brier", "change"):
            variant.get(name, {}).update(low=None, high=None)
        variant["ece"].update(when_calibrated=None, limit=None, p=None)
    bare["closed"] = {"value": 0.7, "low": None, "high": None}
    bare["best_possible_log_loss"] = 0.9
    page = report.render(bare)
    assert "None" not in page
    assert "nan" not in page
    assert f"<td>{bare['ladder'][1]['log_loss']['value']:.4f}</td>" in page


def test_optional_keys_are_shown(measured):
    assert "best possible" not in report.render(measured)
    share = {"value": 0.75, "low": 0.7012, "high": 0.8}
    more = {
        "best_possible_log_loss": 0.777,
        "closed": share,
        "facts": {"device": "a card", "seconds": {"split/votes": 2.0}},
    }
    page = report.render(measured | more)
    assert "best possible 0.777" in page
    assert "75.0 %" in page
    assert "70.1 to 80.0" in page
    assert "a card" in page
    assert "split/votes" in page


def test_made_up_votes_are_called_so(measured):
    assert "The votes are made up" in report.render(measured | {"made_up": True})
    assert "The votes are made up" not in report.render(measured)


def test_written_whole_or_not_at_all(measured, tmp_path):
    report.write(measured, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    broken = {key: value for key, value in measured.items() if key != "confidence"}
    with pytest.raises(Exception, match="confidence"):
        report.write(broken, tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_card_claims_nothing_that_was_not_done(measured):
    empty = copy.deepcopy(measured) | {"ladder": [], "lockbox_rows": 0}
    full = model_card.render(measured, CARD)
    assert "model-index" in full
    assert "| quantized | method gptq; logit change 0.0001235; groups 32 14 |" in full
    assert "model-index" not in model_card.render(empty, CARD)
    assert "averaged" not in model_card.render(empty, CARD)  # one student
    several = CARD | {"provenance": {"adapters": ["fold0", "fold1"]}}
    assert "averaged over folds, quantised" in model_card.render(empty, several)


def test_intervals_are_drawn_in_proportion():
    one, two = {"value": 1.0, "low": 0.5, "high": 2.0}, {"value": 1.5, "low": 1.0, "high": 2.0}
    drawing = ET.fromstring(str(plots.intervals([("one", one), ("two", two)], [("mark", 0.75)])))
    dots = [float(dot.get("cx")) for dot in drawing.iter("circle")]
    spans = [line for line in drawing.iter("line") if line.get("class") == "interval"]
    (mark,) = [float(line.get("x1")) for line in drawing.iter("line") if line.get("class") == "mark"]
    left, right = float(spans[0].get("x1")), float(spans[0].get("x2"))
    assert (dots[0] - left) / (right - left) == pytest.approx(1 / 3, abs=1e-2)
    assert (dots[1] - left) / (right - left) == pytest.approx(2 / 3, abs=1e-2)
    assert (mark - left) / (right - left) == pytest.approx(1 / 6, abs=1e-2)


def test_an_estimate_without_an_interval_is_a_dot_alone():
    estimate = {"value": 1.0, "low": None, "high": None}
    drawing = ET.fromstring(str(plots.intervals([("one", estimate), ("two", estimate | {"value": 2.0})])))
    assert len(list(drawing.iter("circle"))) == 2
    assert not [line for line in drawing.iter("line") if line.get("class") == "interval"]


def test_long_names_are_drawn_in_lines_about_their_dot():
    estimate = {"value": 1.0, "low": 0.5, "high": 2.0}
    drawing = ET.fromstring(str(plots.intervals([("word " * 16, estimate)])))
    dot = next(drawing.iter("circle"))
    lines = list(drawing.iter("tspan"))
    assert [len(line.text) for line in lines] == [44, 34]
    assert sum(float(line.get("y")) - 4 for line in lines) / 2 == float(dot.get("cy"))


def test_on_a_narrow_screen_names_stand_above_their_dot_and_nothing_beyond_the_edge():
    estimate = {"value": 1.0, "low": 0.5, "high": 2.0}
    names = ["word " * 16, "short"]
    drawing = ET.fromstring(str(plots.intervals([(n, estimate) for n in names], [("m", 0.5)], narrow=True)))
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
        plot = plots.intervals([("one", {"value": 1.0, "low": 0.0, "high": 2.0})], marks)
        texts = [text for text in ET.fromstring(str(plot)).iter("text") if text.text and " " in text.text]
        return sorted((float(text.get("y")), float(text.get("x")), text.text) for text in texts)

    assert [y for y, *_ in drawn(("far", 0.2), ("away", 1.8))] == [14, 14]
    (upper, one, _), (lower, other, _) = drawn(("prior", 1.02), ("best possible", 1.0))
    assert (upper, lower) == (14, 28)
    assert abs(one - other) < 60
    ((_, x, text),) = drawn(("a mark at the very edge", 2.0))
    assert x + plots.LETTER * len(text) / 2 <= 930


def test_every_table_scrolls_by_itself_and_the_chart_has_a_form_for_either_screen(measured):
    page = report.render(measured)
    assert page.count("<table") == page.count('<div class="scroll" tabindex="0"><table') > 1
    assert page.count('<div class="wide"><svg') == page.count('<div class="narrow"><svg') == 1
    assert all(f'viewBox="0 0 {width} ' in page for width in (930, 420))


@pytest.mark.parametrize(
    ("low", "high"), [(0.8512, 0.8533), (0.0, 3.0), (0.6, 1.11), (-2e-4, 1e-4), (0.01, 0.99)]
)
def test_ticks_are_few_and_inside(low, high):
    ticks = plots._ticks(low, high)
    assert 3 <= len(ticks) <= 10
    assert low <= ticks[0] <= ticks[-1] <= high


def test_reliability_curve_bins_hold_all_rows(measured):
    for bins in measured["calibration"][0]["curves"]:
        assert sum(b["rows"] for b in bins) == 80
        drawing = ET.fromstring(str(plots.reliability(bins, "P(A)")))
        assert len(list(drawing.iter("circle"))) == len(bins)


def test_reliability_equals_brute_force():
    random = np.random.default_rng(1)
    p, y = random.dirichlet([1, 1, 1], size=500), np.eye(3)[random.integers(3, size=500)]
    edges = np.quantile(p[:, 2], np.linspace(0, 1, 11))
    inside = (p[:, 2] > edges[3]) & (p[:, 2] <= edges[4])
    fourth = reliability(p, y, np.arange(500))[2][3]
    assert fourth["rows"] == inside.sum()
    assert fourth["probability"] == pytest.approx(p[inside, 2].mean())
    assert fourth["share"] == pytest.approx(y[inside, 2].mean())
    alone = share(y[inside, 2], np.ones(inside.sum()), np.arange(inside.sum()))
    assert (fourth["low"], fourth["high"]) == (alone.low, alone.high)
    by_scipy = binomtest(int(y[inside, 2].sum()), int(inside.sum())).proportion_ci(0.95, method="wilson")
    assert (fourth["low"], fourth["high"]) == pytest.approx((by_scipy.low, by_scipy.high), abs=0.01)


def test_rows_of_one_prompt_narrow_no_interval_and_few_prompts_have_none():
    random = np.random.default_rng(2)
    p, y = random.dirichlet([1, 1, 1], size=400), np.eye(3)[random.integers(3, size=400)]
    once = reliability(p, y, np.arange(400))
    twice = reliability(np.repeat(p, 2, axis=0), np.repeat(y, 2, axis=0), np.repeat(np.arange(400), 2))
    for alone, repeated in zip(once[0], twice[0], strict=True):
        assert repeated["rows"] == 2 * alone["rows"]
        assert (repeated["low"], repeated["high"]) == pytest.approx((alone["low"], alone["high"]))
    few = reliability(p, y, np.arange(400) % 10)
    assert {(b["low"], b["high"]) for b in few[0]} == {(None, None)}
    drawing = ET.fromstring(str(plots.reliability(few[0], "P(A)")))
    assert not [line for line in drawing.iter("line") if line.get("class") == "interval"]


def test_no_template_is_left_unrendered(measured):
    assert not re.search(r"\{\{|\{%", report.render(measured))


def test_the_learning_curve_is_a_table_with_a_sentence(measured):
    assert "More votes" not in report.render(measured | {"learning_curve": None})
    loss = np.random.default_rng(0).uniform(0.9, 1.1, size=40)
    points = [Point(400, loss[None]), Point(200, np.stack([loss + 0.02, loss + 0.04]))]
    curve = learning_curve(points, np.arange(40), Bootstrap(20))
    page = report.render(measured | {"learning_curve": curve})
    assert f"<p>{curve['text']}</p>" in page
    assert f"<tr><td>400</td><td>{loss.mean():.4f}<small>" in page
    assert "<td>-0.0300<small>-0.0300 to -0.0300</small></td><td>–</td></tr>" in page
    assert f"<tr><td>200</td><td>{loss.mean() + 0.03:.4f}<small>" in page
    assert "<td>–</td><td>0.0141</td></tr>" in page


def test_decisions_are_shown_with_their_bounds(measured):
    rows = [
        {"max_error": 0.1, "certain_from": None},
        {"max_error": 0.2, "certain_from": 0.71, "decided": 0.25, "error": 0.15, "low": 0.1, "high": 0.22},
        {"max_error": 0.3, "certain_from": 0.6, "decided": 0.0, "error": None, "low": None, "high": None},
    ]
    shown = measured | {"abstention": {"voters": 400, "smallest_max_error": 0.17, "rows": rows}}
    page, card = report.render(shown), model_card.render(shown, CARD)
    assert "<td>0.2</td><td>0.71</td><td>25.0 %</td><td>0.150<small>0.100 to 0.220</small></td>" in page
    assert "<td>0.1</td><td>not shown</td>" in page
    assert "show is 0.17" in page
    assert "| 0.2 | 25.0 % | 0.150 |" in card
    assert "| 0.1 | not shown by these votes | |" in card
    assert "None" not in page + card
    assert "Decisions with a bounded" not in report.render(measured | {"abstention": None})
