import csv
import json
import shutil
from pathlib import Path

import json_lines
import numpy as np
import pytest
from audited_votes import world
from learnable_votes import learnable_votes

from tiebreak.baseline import training_features
from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.training_features import TrainingFeatures
from tiebreak.commands import outputs

pytestmark = pytest.mark.slow


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """40 pairs with three people's votes in columns, as PandaLM has them."""
    made = world(count=40).annotations
    labels = [1, 2, 0]
    records = [
        {
            "instruction": pair["prompt"][0],
            "input": "",
            "response1": pair["response_a"][0],
            "response2": pair["response_b"][0],
            **{f"annotator{k + 1}": labels[int(made.y_NC[3 * n + k].argmax())] for k in range(3)},
        }
        for n, pair in enumerate(made.pairs.to_pylist())
    ]
    return json_lines.write(tmp_path / "votes.jsonl", records)


def test_a_model_is_audited(tiebreak, model, votes, tmp_path):
    code, out, err = tiebreak("audit", model, votes, "--samples", 50, "-o", tmp_path / "d.csv", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["judge"], found["votes"], found["pairs"]) == (outputs.judge_name(model), 120, 40)
    assert found["agreement"]["leave_one_out"]["votes"] == 120
    assert found["bias"]["position"] is not None, "it judges in both orders"
    assert found["shift"] is None, "the folder keeps no summary of its training votes"
    assert found["self_preference"]["family"] == ["llama"]
    with (tmp_path / "d.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found["disagreements"]) > 0
    assert err == f"written: {tmp_path / 'd.csv'}\n"


def test_the_verdict_comes_first_and_figures_after_it(tiebreak, model, votes):
    code, out, _ = tiebreak("audit", model, votes, "--samples", 50, "--family", "own,mine")
    assert code == 0
    verdict, figures = out.split("\n\n")
    assert verdict.startswith(f"{model}: ")
    assert "no votes have a model named own/mine" in verdict
    assert figures.splitlines()[0].split() == ["figure", "value", "low", "high"]
    assert "alpha among people" in figures


def test_the_page_and_the_file_are_written(tiebreak, model, votes, tmp_path):
    page, file = tmp_path / "a.html", tmp_path / "d.csv"
    code, _, err = tiebreak("audit", model, votes, "--samples", 50, "-o", page, "-o", file)
    assert code == 0
    assert err.endswith(f"written: {page}\nwritten: {file}\n")
    assert "<h1>Audit of the judge" in page.read_text()
    assert file.read_text().startswith("id,surprise,")


def test_votes_unlike_the_training_votes_are_told(tiebreak, model, votes, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    seen = learnable_votes(200)
    training_features.write(TrainingFeatures.fit(Inputs.of(seen), np.arange(200)), folder)
    code, out, _ = tiebreak("audit", folder, votes, "--samples", 50, "--json")
    assert code == 0
    assert json.loads(out)["shift"]["unusual"]["value"] > 0.05


def test_a_file_of_predictions_is_audited(tiebreak, votes, tmp_path):
    """Rows have no ids: they are known by their texts."""
    records = json_lines.read(votes)
    for record in records:
        record |= {"p_a": 0.5, "p_b": 0.3, "p_tie": 0.2}
    judged = json_lines.write(tmp_path / "judged.jsonl", records)
    code, out, err = tiebreak("audit", judged, votes, "--samples", 50, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["bias"]["position"] is found["self_preference"] is found["shift"] is None
    hits = np.mean([record[f"annotator{k}"] == 1 for record in records for k in (1, 2, 3)])
    assert found["agreement"]["with_judge"]["agreement"]["value"] == pytest.approx(hits)


def test_a_run_knows_which_votes_its_judge_has_seen(tiebreak, tiny_run):
    code, out, err = tiebreak(
        "audit", tiny_run.folder, tiny_run.folder / "data" / "votes.parquet", "--samples", 20, "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert 0 < found["seen"] < found["votes"] == 300
    assert found["verdict"]["findings"][0]["about"] == "seen"
    assert found["shift"]["holds"], "most of the votes are those that it was trained on"


def test_predictions_of_other_votes_are_refused(tiebreak, votes, tmp_path):
    records = json_lines.read(votes)[:10]
    judged = json_lines.write(tmp_path / "p.jsonl", [r | {"p_a": 1, "p_b": 0, "p_tie": 0} for r in records])
    code, out, err = tiebreak("audit", judged, votes)
    assert (code, out) == (2, "")
    assert "30 of 40 labelled ids have no prediction in" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "votes.jsonl"), "no model folder, recipe or file of predictions at nowhere"),
        (("{model}", "gone.jsonl"), "no file at gone.jsonl"),
        (("{model}", "votes.jsonl", "--annotator", "who"), "no column 'who' that names who voted"),
        (("{model}", "votes.jsonl", "-o", "out.txt"), "Valid: .csv, .html"),
        (("{model}", "votes.jsonl", "-o", "v.csv", "-o", "votes.jsonl"), "cannot write votes.jsonl"),
        (("{model}", "votes.jsonl", "-o", "votes.csv", "--set", "seed=1"), "--set seed=1 changes a recipe"),
    ],
)
def test_what_cannot_be_audited(tiebreak, model, votes, monkeypatch, arguments, message):
    monkeypatch.chdir(votes.parent)
    code, out, err = tiebreak("audit", *(part.format(model=model) for part in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(path.name for path in votes.parent.iterdir()) == ["votes.jsonl"]


def test_a_model_that_gives_no_probabilities_is_named_as_damaged(tiebreak, model, votes, monkeypatch):
    monkeypatch.setattr(
        "tiebreak.judge.postprocessing.Postprocessing.to_probabilities",
        lambda _, table, z: np.full((len(table), 3), np.nan),
    )
    code, _, err = tiebreak("audit", model, votes)
    assert code == 2
    assert "the model gives no probabilities for" in err
