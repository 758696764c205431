"""The worked example of docs/audit.md: PandaLM's three annotators, two published judges, and a model of word counts."""

import json
import re
from pathlib import Path

import json_lines
import pytest

from tiebreak.baseline.model import Baseline
from tiebreak.commands.audit import Request, audit
from tiebreak.stats.metrics import Bootstrap
from tiebreak.votes import annotations
from tiebreak.votes.formats.readers import read_all
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities, probability_columns

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[3] / "docs" / "audit.md"
CLASS = {"1": "p_a", "2": "p_b"}
"""Of the published answers; all others, such as 0, Tie and garbage, are ties."""


@pytest.fixture(scope="module")
def pandalm(shared_data) -> Path:
    folder = shared_data / "pandalm"
    if not folder.is_dir():
        pytest.skip(
            f"PandaLM's test set with its annotators and answers (its repository's data/*.json) is not at {folder}"
        )
    return folder


@pytest.fixture(scope="module")
def rows(pandalm):
    found = json.loads((pandalm / "testset-v1.json").read_text())
    return [row for row in found if isinstance(row["response1"], str) and isinstance(row["response2"], str)]


@pytest.fixture(scope="module")
def votes(rows, tmp_path_factory) -> Path:
    return json_lines.write(tmp_path_factory.mktemp("pandalm") / "votes.jsonl", rows)


def published(pandalm, votes, rows, name, key):
    """The audit of the answers that PandaLM's authors publish of a judge."""
    said = {
        row["idx"]: str(row[key]) for row in json.loads((pandalm / f"{name}-testset-v1.json").read_text())
    }
    judged = [
        row | dict.fromkeys(("p_a", "p_b", "p_tie"), 0.0) | {CLASS.get(said[row["idx"]], "p_tie"): 1.0}
        for row in rows
    ]
    return audit(Request(json_lines.write(votes.parent / f"{name}.jsonl", judged), [votes]), Bootstrap())


def baseline(shared_data, votes):
    """The audit of the lexical baseline, trained on Auto-J's and Tulu's human votes."""
    files = [shared_data / "pairs" / f"{name}.parquet" for name in ("autoj_human", "tulu_human_eval")]
    training = read_all(files)[0]
    fitted = Baseline().fit(training, probabilities(training), prompt_groups(training))
    pairs = annotations.read([votes]).pairs
    p_IC = fitted.predict_proba(pairs)
    table = pairs.drop_columns(["p_a", "p_b", "p_tie"]).to_pylist()
    columns = {name: column.to_pylist() for name, column in probability_columns(p_IC).items()}
    judged = [row | {name: columns[name][n] for name in columns} for n, row in enumerate(table)]
    return audit(Request(json_lines.write(votes.parent / "baseline.jsonl", judged), [votes]), Bootstrap())


def shown(name, found):
    """A line of the page's table."""
    people = found["agreement"]
    agreement, kappa, less = (
        people["with_judge"]["agreement"],
        people["with_judge"]["kappa"],
        people["leave_one_out"]["less_person"],
    )
    return (
        f"| {name} | {100 * agreement['value']:.1f} % ({100 * agreement['low']:.1f} to {100 * agreement['high']:.1f}) | "
        f"{kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f}) | "
        f"{100 * less['value']:+.1f} ({100 * less['low']:+.1f} to {100 * less['high']:+.1f}) |"
    )


def test_the_pages_figures_are_those_of_the_votes(pandalm, shared_data, votes, rows):
    page = PAGE.read_text()
    of_baseline = baseline(shared_data, votes)
    audits = {
        "PandaLM-7B": published(pandalm, votes, rows, "pandalm-7b", "pandalm_result"),
        "GPT-3.5": published(pandalm, votes, rows, "gpt-3.5-turbo", "gpt_result"),
        "word counts and features": of_baseline,
    }
    lines = [shown(name, found) for name, found in audits.items()]
    assert [
        line for line in page.splitlines() if line.startswith(tuple(f"| {name} |" for name in audits))
    ] == lines
    among = of_baseline["agreement"]["among_people"]
    said = (
        f"{among['items']} pairs: {100 * among['agreement']['value']:.1f} % ({100 * among['agreement']['low']:.1f} to "
        f"{100 * among['agreement']['high']:.1f}), alpha {among['alpha']['value']:.2f} "
        f"({among['alpha']['low']:.2f} to {among['alpha']['high']:.2f})"
    )
    assert said in re.sub(r"\s+", " ", page)
