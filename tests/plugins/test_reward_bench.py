"""The pipelines for RewardBench: beside brute force here, and in the real package's own scripts where that is installed."""

import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from served import served

import tiebreak
from tiebreak.judge.judge import Judge
from tiebreak.plugins.reward_bench import PairPipeline, _Model, round_robin

pytestmark = pytest.mark.slow
ANSWERS = ["a red sky", "light", "because water never lies", "code"]


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def win_rate(judge: Judge, question: str, a: str, b: str) -> float:
    p_a, _, p_tie = judge.predict([{"prompt": question, "response_a": a, "response_b": b}])[0]
    return float(p_a + p_tie / 2)


def test_true_is_where_the_first_is_preferred(judge: Judge) -> None:
    pipeline = PairPipeline("text-classification", model=_Model(judge), tokenizer=None)
    pairs = list(permutations(ANSWERS, 2))
    found = pipeline(
        [conversation("why", a) for a, _ in pairs], [conversation("why", b) for _, b in pairs], batch_size=8
    )
    p_NC = judge.predict([{"prompt": "why", "response_a": a, "response_b": b} for a, b in pairs])
    assert found.cpu().numpy().tolist() == (p_NC[:, 0] > p_NC[:, 1]).tolist()
    assert 0 < found.sum() < len(pairs)


def test_a_score_is_the_mean_win_rate_over_the_others(judge: Judge) -> None:
    texts = [conversation("why", answer) for answer in ANSWERS] + [conversation("how", "x")]
    texts += [conversation("who", answer) for answer in ANSWERS[:2]]
    found = round_robin(judge, texts, [4, 1, 2])
    expected = [
        np.mean([win_rate(judge, "why", answer, other) for other in ANSWERS if other != answer])
        for answer in ANSWERS
    ]
    who = win_rate(judge, "who", *ANSWERS[:2])
    assert found == pytest.approx([*expected, 0.5, who, 1 - who], abs=1e-6)
    with pytest.raises(ValueError, match="7 conversations, where 6 completions are named"):
        round_robin(judge, texts, [4, 2])


def test_the_plugin_imports_neither_rewardbench_nor_torch() -> None:
    code = "import sys, tiebreak.client, tiebreak.plugins.reward_bench; print([m for m in ('rewardbench', 'torch') if m in sys.modules])"
    path = {"PYTHONPATH": str(Path(tiebreak.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | path, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


IN_REWARDBENCH = """
import json, sys
import datasets, rewardbench.utils
from scripts import run_rm
from tiebreak.client import Client
from tiebreak.plugins.reward_bench import evaluate_v2, register

url, tokenizer = sys.argv[1:]
pairs = datasets.load_dataset("json", data_files="v1.jsonl", split="train")
rewardbench.utils.load_dataset = lambda *_, **__: pairs
judge = Client(url)
register("served", judge)
sys.argv = ["run_rm.py", "--model", "served", "--tokenizer", tokenizer, "--do_not_save", "--batch_size", "3"]
run_rm.main()
print("v2", json.dumps(evaluate_v2(judge, "v2.jsonl")))
"""
"""Version 1's own script and version 2's own functions, on votes of this test in place of the hub's data sets."""


def test_rewardbench_itself(folder: Path, judge: Judge, tmp_path: Path) -> None:
    """In its own environment, whose Python TIEBREAK_TEST_REWARDBENCH names."""
    python = os.environ.get("TIEBREAK_TEST_REWARDBENCH")
    if python is None:
        pytest.skip("name the Python of an environment with rewardbench in TIEBREAK_TEST_REWARDBENCH")
    questions = ["why", "how is the sky", "list code", "water or light"]
    v1 = [
        {
            "id": n,
            "prompt": question,
            "chosen": ANSWERS[n],
            "rejected": ANSWERS[n - 1],
            "subset": "alpacaeval-easy",
        }
        for n, question in enumerate(questions)
    ]
    v2 = [
        {"id": str(n), "prompt": question, "chosen": ANSWERS[:1], "rejected": ANSWERS[1:], "num_correct": 1}
        | {"total_completions": 4, "subset": "Math"}
        for n, question in enumerate(questions)
    ]
    of_ties = round_robin(judge, [conversation("name one", answer) for answer in ANSWERS], [4])
    best = [answer for _, answer in sorted(zip(of_ties, ANSWERS, strict=True), reverse=True)]
    v2 += [
        {"id": f"{kind}:0", "prompt": "name one", "chosen": best[:right], "rejected": best[right:]}
        | {"num_correct": right, "total_completions": 4, "subset": "Ties"}
        for kind, right in (("ref", 1), ("tied", 2))
    ]
    for name, rows in (("v1", v1), ("v2", v2)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer").mkdir()  # one that its transformers can load; it reads nothing by it
    (tmp_path / "tokenizer" / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    path = {"PYTHONPATH": str(Path(tiebreak.__file__).parents[1]), "HF_HOME": str(tmp_path / "hub")}
    with served(folder) as (_, url):
        done = subprocess.run(
            [python, "-c", IN_REWARDBENCH, url, "tokenizer"],
            cwd=tmp_path,
            env=os.environ | path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    p_NC = judge.predict(
        [{"prompt": v["prompt"], "response_a": v["chosen"], "response_b": v["rejected"]} for v in v1]
    )
    right = int((p_NC[:, 0] > p_NC[:, 1]).sum())
    assert f"alpacaeval-easy: {right}/4 ({right / 4})" in done.stdout
    found = json.loads(done.stdout.rsplit("v2 ", 1)[1])
    scores = np.reshape(
        round_robin(judge, [conversation(q, a) for q in questions for a in ANSWERS], [4] * 4), (4, 4)
    )
    assert found.keys() == {"Math", "Ties"}
    assert found["Math"] == np.mean(scores.argmax(axis=1) == 0)
    assert found["Ties"] > 0.5, "its right answers are those that the judge likes best"
