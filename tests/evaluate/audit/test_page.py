"""The page of an audit: what is said, and texts of others as texts."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from audited_votes import world
from hostile_text import HOSTILE

from tiebreak.evaluate.audit import page
from tiebreak.evaluate.audit.audit import Judged, audit
from tiebreak.evaluate.audit.shift import shift
from tiebreak.stats.metrics import Bootstrap

BOOTSTRAP = Bootstrap(50)


@pytest.fixture(scope="module")
def found():
    made = world(count=80)
    p_IC = np.roll(made.true_IC, 1, axis=0)
    judged = Judged(made.annotations, p_IC, np.log(np.stack([p_IC, p_IC], axis=1)), symmetric=True)
    rank_N = np.random.default_rng(0).random(80)[made.annotations.pair_N]
    moved = shift(rank_N, judged.probabilities, judged.truth, BOOTSTRAP)
    return {"judge": "my <judge>"} | audit(judged, BOOTSTRAP, ("own",), moved)


def test_the_verdict_comes_first_and_every_section_is_there(found):
    text = page.render(found)
    titles = re.findall(r"<h2 id=\"[\w-]+\">([^<]+)</h2>", text)
    assert titles == [
        "Verdict",
        "Contents",
        "Agreement",
        "Calibration",
        "Bias",
        "Votes unlike the training votes",
        "Disagreements",
        "What the words mean",
    ]
    assert "<h1>Audit of the judge my &lt;judge&gt;</h1>" in text
    assert text.count("<details>") == min(page.MOST_SHOWN, len(found["disagreements"]))
    assert "annotator1 and annotator2" in text


def test_an_audit_of_a_file_with_one_vote_a_pair_has_a_page_too():
    made = world(count=40, people=1)
    text = page.render({"judge": "j"} | audit(Judged(made.annotations, made.true_IC), BOOTSTRAP))
    assert "Votes unlike the training votes" not in text
    assert "one of the others" not in text


@pytest.mark.parametrize(
    "text", [*HOSTILE.values(), "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']
)
def test_texts_of_others_are_texts(text):
    made = world(count=3).annotations
    columns = {name: made.pairs[name].to_pylist() for name in ("prompt", "response_a", "response_b")}
    clean = text.encode("utf-8", "replace").decode()
    pairs = made.pairs
    for name in columns:
        at = pairs.column_names.index(name)
        pairs = pairs.set_column(
            at, pairs.schema.field(name), pa.array([[clean]] * 3, pairs.schema.field(name).type)
        )
    hostile = replace(made, pairs=pairs, people=[clean] * len(made))
    p_IC = 1 - made.y_NC[made.pair_N.searchsorted(np.arange(3))]
    shown = page.render({"judge": clean} | audit(Judged(hostile, p_IC / 2), BOOTSTRAP))
    assert "<script>alert" not in shown
    assert "<img src=x" not in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
