import copy
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict

import numpy as np
import pytest
from hostile_text import HOSTILE
from html_pages import faults
from scipy.stats import binomtest

from tiebreak.evaluate import model_card, report
from tiebreak.evaluate.variants import (
    LabelledVotes,
    Stage,
    evaluate_variants,
    prior_variant,
    reliability,
    variants,
)
from tiebreak.judge.logits import ModelLogits
from tiebreak.pages import plots
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
        assert f"<td>{ece['value']:.3f}<small>p " in page
        limit = f"<small>up to {ece['limit']:.3f}</small>"
        assert f"<td>{ece['when_calibrated']:.3f}{limit}" in page


def test_the_verdict_comes_before_all_else(measured):
    page = report.render(measured)
    body = page[page.index("</h1>") :]
    order = (
        'class="verdict bad"',
        "Do not use: worse than",
        'class="tiles"',
        "Contents</h2>",
        "What each step adds</h2>",
    )
    places = [body.index(part) for part in order]
    assert places == sorted(places)
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
    assert "best possible 0.7770" in page
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


def test_the_page_is_without_faults_and_the_chart_has_a_form_for_either_screen(measured):
    page = report.render(measured)
    assert not faults(page)
    assert page.count('<div class="wide"><svg') == page.count('<div class="narrow"><svg') == 1
    assert all(f'viewBox="0 0 {width} ' in page for width in (930, 420))


def test_the_title_says_what_was_judged_on_which_votes_and_when(measured):
    page = report.render(measured | {"votes_from": ["<a>.csv", "b.csv"], "finished": "2026-11-30"})
    head = page[page.index("<h1>") : page.index("</header>")]
    assert "Report on the judge a &lt;b&gt;bold&lt;/b&gt; run</h1>" in head
    assert "tested on 80 votes on 80 prompts" in head
    assert "Votes: &lt;a&gt;.csv, b.csv. Finished on 2026-11-30." in head


def test_the_verdict_says_in_plain_words_how_often_it_is_right(measured):
    page = report.render(measured)
    prior, *_, final = measured["ladder"]
    assert f"In {100 * final['accuracy']['value']:.1f} % of the votes" in page
    assert f"is right in {100 * prior['accuracy']['value']:.1f} %." in page
    baseline = dict(
        measured["ladder"][1], stage="baseline", accuracy={"value": 0.4321, "low": None, "high": None}
    )
    page = report.render(measured | {"ladder": [prior, baseline, final]})
    assert "a simple model of word counts, in 43.2 %." in page


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
    assert f'<tr><th scope="row">400</th><td>{loss.mean():.4f}<small>' in page
    assert "<td>-0.0300<small>-0.0300 to -0.0300</small></td><td>–</td></tr>" in page
    assert f'<tr><th scope="row">200</th><td>{loss.mean() + 0.03:.4f}<small>' in page
    assert "<td>–</td><td>0.0141</td></tr>" in page


def test_decisions_are_shown_with_their_bounds(measured):
    rows = [
        {"max_error": 0.1, "certain_from": None},
        {"max_error": 0.2, "certain_from": 0.71, "decided": 0.25, "error": 0.15, "low": 0.1, "high": 0.22},
        {"max_error": 0.3, "certain_from": 0.6, "decided": 0.0, "error": None, "low": None, "high": None},
    ]
    shown = measured | {"abstention": {"voters": 400, "smallest_max_error": 0.17, "rows": rows}}
    page, card = report.render(shown), model_card.render(shown, CARD)
    assert (
        '<th scope="row">0.2</th><td>0.71</td><td>25.0 %</td><td>0.150<small>0.100 to 0.220</small></td>'
        in page
    )
    assert '<th scope="row">0.1</th><td>not shown</td>' in page
    assert "show is 0.17" in page
    assert "| 0.2 | 25.0 % | 0.150 |" in card
    assert "| 0.1 | not shown by these votes | |" in card
    assert "None" not in page + card
    assert "Decisions with a bounded" not in report.render(measured | {"abstention": None})
