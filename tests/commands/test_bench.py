import json

import pytest
import yaml
from bench_files import GOOD, judgebench, rewardbench
from shipped_judge import ship

pytestmark = pytest.mark.slow


@pytest.fixture
def suite(tmp_path):
    return judgebench(
        tmp_path / "jb", [("livecodebench", f"x{n}" + "!" * (n % 3), "y!", "A>B") for n in range(40)]
    )


def test_two_judges_are_scored_and_compared(tiebreak, model, suite, tmp_path):
    other = ship(tmp_path / "other", seed=1)
    code, out, err = tiebreak("bench", model, other, "--suite", suite, "-o", tmp_path / "r.json", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads((tmp_path / "r.json").read_text())
    assert [row["judge"] for row in found] == [str(model), str(other)]
    assert {row["suite"] for row in found} == {"JudgeBench"}
    change = found[1]["figures"][0]["change"]
    assert change["low"] <= change["value"] <= change["high"]
    code, out, _ = tiebreak("bench", model, other, "--suite", suite)
    assert out.splitlines()[0].split() == ["suite", "judge", "name", "value", "low", "high", "change", "p"]


def test_several_suites_and_the_hubs_form(tiebreak, model, suite, tmp_path):
    second = rewardbench(tmp_path / "rb", {"donotanswer": [GOOD] * 3})
    code, out, err = tiebreak("bench", model, "--suite", suite, "--suite", second, "-o", tmp_path / "r.yaml")
    assert code == 0, err
    assert out.splitlines()[0].split() == ["suite", "name", "value", "low", "high"]
    assert "RewardBench is not whole, and its score not the published one: no alpacaeval-easy, " in err
    assert "JudgeBench is not whole" not in err
    entries = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert [entry["dataset"]["id"] for entry in entries] == ["ScalerLab/JudgeBench", "allenai/reward-bench"]
    assert all(0 <= entry["value"] <= 100 for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "--suite", "jb"), "no model folder at nowhere"),
        (("{model}", "--suite", "gone"), "no file at gone"),
        (
            ("{model}", "--suite", "{model}"),
            "no file of RewardBench, RewardBench 2, JudgeBench, PPE, LLMBar in",
        ),
        (("{model}", "{model}", "--suite", "jb", "-o", "r.yaml"), "r.yaml has the results of one model"),
        (("{model}", "--suite", "jb", "-o", "r.txt"), "Valid: .json, .yaml"),
    ],
)
def test_what_cannot_be_scored(tiebreak, model, suite, monkeypatch, arguments, message):
    monkeypatch.chdir(suite.parent)
    code, out, err = tiebreak("bench", *(part.format(model=model) for part in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(path.name for path in suite.parent.iterdir()) == ["jb"]
