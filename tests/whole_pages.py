"""The pages of `tiebreak compare`, `audit` and `check` on made-up votes, with every section that they have."""

import numpy as np
from audited_votes import world
from made_up_comparison import made_up, voted

from tiebreak.comparison import analysis
from tiebreak.comparison import page as comparison_page
from tiebreak.data_card import view
from tiebreak.data_card.card import build_card
from tiebreak.evaluate.audit import page as audit_page
from tiebreak.evaluate.audit.audit import Judged, audit
from tiebreak.evaluate.audit.shift import shift
from tiebreak.stats.metrics import Bootstrap
from tiebreak.votes import examples


def compared() -> str:
    made, _, gap = made_up(60)
    found = analysis.compare(made, voted(gap, 0.4), ["kind", "length"], width=0.3)
    return comparison_page.page(found, "a judge", len(gap), ("cyd has no answer to 1 of 60 prompts",))


def audited() -> str:
    made, bootstrap = world(count=80), Bootstrap(50)
    p_IC = np.roll(made.true_IC, 1, axis=0)
    judged = Judged(made.annotations, p_IC, np.log(np.stack([p_IC, p_IC], axis=1)), symmetric=True)
    rank_N = np.random.default_rng(0).random(80)[made.annotations.pair_N]
    moved = shift(rank_N, judged.probabilities, judged.truth, bootstrap)
    return audit_page.render({"judge": "a judge"} | audit(judged, bootstrap, ("own",), moved))


def checked() -> str:
    return view.html(build_card({"votes": [examples.VOTES]}))
