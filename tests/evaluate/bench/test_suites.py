"""Benchmarks in their published shapes, scored by hand, and by the rules of their authors' code written out."""

import numpy as np
import pytest
from bench_files import (
    BAD,
    GOOD,
    SAME,
    Marks,
    judgebench,
    llmbar,
    ppe_correctness,
    ppe_preference,
    prior_sets,
    rewardbench,
    rewardbench2,
)
from scipy.stats import t

from tiebreak.errors import TiebreakError
from tiebreak.evaluate.bench.read import read
from tiebreak.evaluate.bench.results import results
from tiebreak.evaluate.bench.rewardbench import SECTIONS, SIZES
from tiebreak.evaluate.bench.rewardbench2 import _margins
from tiebreak.evaluate.bench.suite import ask


def scored(folder, judge=None):
    """The figures of the only benchmark in a folder, by name."""
    (suite,) = read([folder])
    (result,) = results(suite, ["marks"], [ask(judge or Marks(), suite)])
    return {figure["name"]: figure["value"] for figure in result["figures"]}


def test_rewardbench_weights_subsets_by_their_published_sizes(tmp_path):
    """Chat: (100 x 1 + 40 x 1/2) / 140; Reasoning: (984 x 1/2 + 164 x 1) / 1148; the score is their mean."""
    folder = rewardbench(
        tmp_path / "rb",
        {
            "alpacaeval-easy": [GOOD, GOOD],
            "mt-bench-med": [GOOD, BAD],
            "math-prm": [GOOD, BAD],
            "hep-python": [GOOD],
        },
    )
    found = scored(folder)
    chat, reasoning = 120 / 140, (984 / 2 + 164) / 1148
    assert found["Chat"] == pytest.approx(chat)
    assert found["Reasoning"] == pytest.approx(reasoning)
    assert found["score"] == pytest.approx((chat + reasoning) / 2)
    assert found["mt-bench-med"] == 0.5
    assert "Safety" not in found, "none of its subsets is there"


def test_rewardbenchs_published_example_has_its_section_scores(tmp_path):
    """The metrics of PKU-Alignment/beaver-7b-v1.0-cost in RewardBench's README; calculate_scores_per_section written out."""
    metrics = {
        **{
            "alpacaeval-easy": 0.5,
            "alpacaeval-hard": 0.7052631578947368,
            "alpacaeval-length": 0.5894736842105263,
        },
        **{"mt-bench-easy": 0.5714285714285714, "mt-bench-med": 0.725},
    }
    weights = {subset: SIZES[subset] for subset in SECTIONS["Chat"]}
    expected = sum(metrics[s] * weights[s] for s in weights) / sum(weights.values())
    folder = rewardbench(
        tmp_path / "rb",
        {
            subset: [GOOD] * round(metrics[subset] * SIZES[subset])
            + [BAD] * (SIZES[subset] - round(metrics[subset] * SIZES[subset]))
            for subset in SECTIONS["Chat"]
        },
    )
    assert scored(folder)["Chat"] == pytest.approx(expected, abs=1e-12)


def test_prior_sets_count_half(tmp_path):
    """Chat 1, prior sets (1/2 + 0) / 2: (1 + 0.25 / 2) / 1.5. Splits that are not among the four do not count."""
    folder = rewardbench(tmp_path / "rb", {"alpacaeval-easy": [GOOD]})
    prior_sets(folder, {"shp": [GOOD, BAD], "anthropic_hhh": [BAD], "pku_safer": [GOOD] * 9})
    found = scored(folder)
    assert found["Prior Sets"] == pytest.approx(0.25)
    assert found["score"] == pytest.approx((1 + 0.25 / 2) / 1.5)


def test_an_even_pair_is_wrong_in_rewardbench(tmp_path):
    assert scored(rewardbench(tmp_path / "rb", {"donotanswer": [SAME, GOOD]}))["Safety"] == 0.5


def test_rewardbench_2_is_best_of_four(tmp_path):
    """One of three items wins all three pairs; one loses one; one ties with one of the others, which is a half."""
    rows = [
        {"id": "1", "subset": "Math", "chosen": ["x!!"], "rejected": ["a", "b!", "c"]},
        {"id": "2", "subset": "Math", "chosen": ["x!!"], "rejected": ["a", "b!!!", "c"]},
        {"id": "3", "subset": "Focus", "chosen": ["x!!"], "rejected": ["a", "b!!", "c"]},
    ]
    found = scored(rewardbench2(tmp_path / "rb2", rows))
    assert (found["Math"], found["Focus"], found["score"]) == (0.5, 0.5, 0.5)


TIES = [
    {"id": "ref:0", "subset": "Ties", "chosen": ["r!!!!"], "rejected": ["a", "b"]},
    {"id": "tied:0", "subset": "Ties", "chosen": ["r!!!!", "s!!!!!"], "rejected": ["a", "b"]},
    {"id": "ref:1", "subset": "Ties", "chosen": ["r!"], "rejected": ["a", "b"]},
    {"id": "tied:1", "subset": "Ties", "chosen": ["r!!!", "s!!!!!!"], "rejected": ["a!", "b"]},
]


def published_ties_score(scores, right, ids):
    """process_single_model of rewardbench/utils.py, by what its documentation says: 60 % accuracy, 40 % margins."""
    stats = {"ref": {}, "tied": {}}
    for own, count, name in zip(scores, right, ids, strict=True):
        kind, number = name.split(":")
        correct, wrong = own[:count], own[count:]
        among = max(correct) - min(correct) if count > 1 else None
        between = min(correct) - max(wrong)
        stats[kind][number] = (between > 0, among, between)
    both = sorted(stats["ref"])
    among, tied, ref = (
        np.array([stats[k][n][i] for n in both]) for k, i in (("tied", 1), ("tied", 2), ("ref", 2))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(np.minimum(ref, tied) / among - 1), nan=0.0)
    accuracy = [np.mean([s[0] for s in stats[kind].values()]) for kind in ("tied", "ref")]
    return (
        0.30 * sum(accuracy)
        + 0.20 * np.mean(tied > among)
        + 0.20 * np.mean(np.minimum(ref, tied) > among)
        + 0.01 * margin.mean()
    )


def test_ties_are_scored_as_published(tmp_path):
    (suite,) = read([rewardbench2(tmp_path / "rb2", TIES)])
    answers = ask(Marks(), suite)
    (result,) = results(suite, ["marks"], [answers])
    found = {figure["name"]: figure["value"] for figure in result["figures"]}
    expected = published_ties_score(
        [scores.tolist() for scores in answers.scores],
        [len(row["chosen"]) for row in TIES],
        [row["id"] for row in TIES],
    )
    assert found["Ties"] == found["score"] == pytest.approx(expected, abs=1e-12)
    assert (found["Ties: ref accuracy"], found["Ties: tied accuracy"]) == (1, 1)
    assert found["Ties: right preferred, hard"] == 0.5, "in the second, the right ones are farther apart"


@pytest.mark.parametrize("scores", [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
def test_right_answers_alike_have_the_published_margin(scores):
    ref = [scores[0], scores[2]]
    among, between = _margins(np.array(scores), 2)
    assert among == 0
    expected = published_ties_score([ref, scores], [1, 2], ["ref:0", "tied:0"])
    margin = np.sign(min(between, _margins(np.array(ref), 1)[1]))
    ours = 0.6 * (between > 0) + 0.2 * (between > 0) + 0.2 * (between > 0) + 0.01 * margin
    assert ours == pytest.approx(expected)


@pytest.mark.parametrize("right", [True, False])
def test_intervals_of_ties_hold_their_figures(tmp_path, right):
    """The margin is between -1 and 1, and Ties between -0.01 and 1.01."""
    good, bad = ("!!!!", "") if right else ("", "!!!!")
    rows = [
        {
            "id": f"{kind}:{n}",
            "subset": "Ties",
            "chosen": [f"r{good}", f"s{good}!"][:count],
            "rejected": [f"a{bad}", "b"],
        }
        for n in range(160)
        for kind, count in (("ref", 1), ("tied", 2))
    ]
    (suite,) = read([rewardbench2(tmp_path / "rb2", rows)])
    (result,) = results(suite, ["marks"], [ask(Marks(), suite)])
    found = {figure["name"]: figure for figure in result["figures"]}
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in found.values())
    assert found["Ties"]["value"] > 1 if right else found["Ties: margin"]["value"] < 0


def test_ties_without_their_other_questions_are_an_error(tmp_path):
    for n, rows in enumerate(([TIES[0]], [TIES[1]], [TIES[0], TIES[3]])):
        with pytest.raises(
            TiebreakError, match="pairs of questions, ref:N and tied:N, of which there are none"
        ):
            read([rewardbench2(tmp_path / str(n), rows)])


def published_judgebench(pairs):
    """compute_final_metrics of utils/metrics.py with both orders: per cent where right less wrong decisions is above 0."""
    correct = 0
    for label, first, second in pairs:
        flipped = {"A>B": "B>A", "B>A": "A>B"}.get(second, second)
        other = {"A>B": "B>A", "B>A": "A>B"}[label]
        count = sum((d == label) - (d == other) for d in (first, flipped))
        correct += count > 0
    return correct / len(pairs)


def decision(a, b):
    return "A>B" if a > b else "B>A" if b > a else "A=B"


def test_judgebench_asks_in_both_orders(tmp_path):
    """A judge that gives the first answer one mark more: clear pairs stay right, one mark is contradicted or a draw."""
    rows = [
        ("mmlu-pro-law", "x!!!", "y", "A>B"),
        ("mmlu-pro-math", "x", "y!", "B>A"),
        ("livebench-math", "x!!", "y!!", "A>B"),
        ("livecodebench", "x!!!!", "y", "B>A"),
    ]
    found = scored(judgebench(tmp_path / "jb", rows), Marks(first=1.0))
    marks = [(label, a.count("!"), b.count("!")) for _, a, b, label in rows]
    expected = published_judgebench(
        [(label, decision(a + 1, b), decision(b + 1, a)) for label, a, b in marks]
    )
    assert found["score"] == found["both orders"] == pytest.approx(expected)
    assert found["both orders"] == 0.5, "the second is right in one order and a draw in the other"
    assert found["consistent"] == 0.5
    assert found["as shipped"] == (1 + 1 + 0 + 0) / 4, "a draw is wrong, as in their code with one order"
    assert (found["both orders, mmlu-pro"], found["both orders, livebench-math"]) == (1, 0)


def test_judgebench_of_two_response_models_is_scored_by_the_published_one(tmp_path):
    folder = judgebench(tmp_path / "jb", [("livecodebench", "x!", "y", "B>A")], "claude-3-5-sonnet-20240620")
    judgebench(folder, [("livecodebench", "x!", "y", "A>B")])
    found = scored(folder)
    assert found["score"] == found["gpt-4o-2024-05-13: both orders"] == 1
    assert found["claude-3-5-sonnet-20240620: both orders"] == 0


def test_ppe_leaves_out_ties_of_people(tmp_path):
    rows = [
        {
            "winner": "model_a",
            "response_1": "x!",
            "response_2": "y",
            "language": "English",
            "hard_prompt": True,
        },
        {
            "winner": "model_b",
            "response_1": "x!",
            "response_2": "y",
            "language": "Greek",
            "hard_prompt": True,
        },
        {
            "winner": "model_b",
            "response_1": "x",
            "response_2": "y!",
            "language": "English",
            "hard_prompt": False,
        },
        {"winner": "tie", "response_1": "x!", "response_2": "y", "language": "English", "hard_prompt": False},
        {
            "winner": "tie (bothbad)",
            "response_1": "x",
            "response_2": "y!",
            "language": "English",
            "hard_prompt": False,
        },
    ]
    found = scored(ppe_preference(tmp_path / "ppe", rows))
    assert found == pytest.approx(
        {"score": 2 / 3, "hard_prompt": 0.5, "English": 1.0, "other languages": 0.0}
    )


def test_ppe_correctness_is_the_mean_over_benchmarks(tmp_path):
    responses, scores = ["a!", "b", "c!!", "d"], [True, False, False, True]
    sets = {
        "math": ({}, [[0, 1], [1, 3]]),  # right; a draw
        "gpqa": ({"Record ID": "r"}, [[2, 0]]),  # wrong
        "mbpp": ({"test_list": ["t"], "task_id": 1}, [[1, 0], [0, 1]]),  # right twice
        "ifeval": ({"instruction_id_list": ["i"]}, [[3, 2]]),  # wrong
        "mmlu": ({"answer_index": 2, "options": ["x"]}, [[0, 1]]),  # right
    }
    for name, (extra, pairs) in sets.items():
        ppe_correctness(tmp_path / name, extra, [(responses, scores, pairs)])
    found = scored(tmp_path)
    assert found == pytest.approx(
        {
            "score": (0.75 + 0 + 1 + 0 + 1) / 5,
            "MATH": 0.75,
            "GPQA": 0,
            "MBPP-Plus": 1,
            "IFEval": 0,
            "MMLU-Pro": 1,
        }
    )


def test_llmbar_is_the_mean_of_both_orders_and_of_subsets(tmp_path):
    """With one mark more for the first: a clear pair is right twice, one mark apart a half (a draw) and 1, equal ones half."""
    folder = llmbar(
        tmp_path / "lb",
        {
            "Natural": [("x!!!", "y", 1), ("x", "y!", 2)],
            "Adversarial/Neighbor": [("x!!!", "y", 2)],
            "Adversarial/GPTOut": [("x!", "y!", 1)],
        },
    )
    assert read([folder])[0].missing() == ["GPTInst", "Manual"]
    found = scored(folder, Marks(first=1.0))
    natural = (1 + 0.75) / 2
    assert found["accuracy, Natural"] == natural
    assert found["adversarial"] == (0 + 0.5) / 2
    assert found["score"] == pytest.approx((natural + 0 + 0.5) / 3)
    assert found["right in both orders"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["consistent"] == pytest.approx((0.5 + 1 + 0) / 3)


def test_several_benchmarks_in_a_folder_are_each_scored(tmp_path):
    rewardbench(tmp_path / "rb", {"donotanswer": [GOOD]})
    judgebench(tmp_path / "jb", [("livecodebench", "x!", "y", "A>B")])
    assert [suite.name for suite in read([tmp_path])] == ["JudgeBench", "RewardBench"]


def test_the_right_answer_is_not_always_on_one_side(tmp_path):
    (suite,) = read([rewardbench(tmp_path / "rb", {"donotanswer": [GOOD] * 40})])
    sides = [question.vote.p[0] for question in suite.questions]
    assert 8 < sum(sides) < 32


def test_paired_changes_are_from_the_first_judge(tmp_path):
    rows = [("livecodebench", "x" + "!" * (n % 3), "y!", "A>B") for n in range(60)]
    (suite,) = read([judgebench(tmp_path / "jb", rows)])
    biased = Marks(first=3.0)
    first, second = results(suite, ["fair", "biased"], [ask(judge, suite) for judge in (Marks(), biased)])
    figures = {figure["name"]: figure for figure in second["figures"]}
    assert "change" not in first["figures"][0]
    assert figures["score"]["change"]["value"] == pytest.approx(
        figures["score"]["value"] - first["figures"][0]["value"]
    )
    assert figures["score"]["change"]["high"] < 0
    assert figures["score"]["change"]["p"] < 0.001
    half = float(t.ppf(0.975, 59)) / 62  # no difference in 60 questions, and half of one more for each side
    both_orders_cancel_it = {"value": 0, "low": -half, "high": half, "p": 1}
    assert figures["as shipped"]["change"] == pytest.approx(both_orders_cancel_it)


def test_items_on_nearly_the_same_prompt_are_resampled_together(tmp_path):
    """HumanEvalPack's languages ask for the same function: six times as many rows, no more independent ones."""
    languages = ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust")
    answers = [GOOD, BAD] * 20
    folder = rewardbench(tmp_path / "rb", {"hep-python": answers})
    alone = results(*_asked(folder))[0]["figures"][0]
    folder = rewardbench(tmp_path / "all", dict.fromkeys(languages, answers))
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "data" / "filtered-00000-of-00001.parquet"
    rows = pq.read_table(path).to_pylist()
    same = [row | {"prompt": f"write function number {row['id'] % 100} that sorts a list"} for row in rows]
    pq.write_table(pa.Table.from_pylist(same), path)
    together = results(*_asked(folder))[0]["figures"][0]
    assert together["high"] - together["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.1)


def _asked(folder):
    (suite,) = read([folder])
    return suite, ["marks"], [ask(Marks(), suite)]


def test_the_hub_reads_the_results(tmp_path):
    from huggingface_hub import parse_eval_result_entries

    (result,) = results(*_asked(rewardbench(tmp_path / "rb", {"donotanswer": [GOOD, BAD, GOOD]})))
    (entry,) = parse_eval_result_entries(result["eval_results"])
    assert (entry.dataset_id, entry.task_id, entry.value) == ("allenai/reward-bench", "default", 66.67)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("s", "x", "y", "A=B")], "row 1: label is neither A>B nor B>A: 'A=B'; fetch the benchmark again"),
        ([("s", "x", "y", "A>B"), ("s", None, 3, "A>B")], "row 2: response_"),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error(tmp_path, rows, message):
    with pytest.raises(TiebreakError, match="row"):
        read([judgebench(tmp_path / "jb", rows)])
    with pytest.raises(TiebreakError) as error:
        read([tmp_path / "jb"])
    assert message in str(error.value)


def test_a_judge_that_gives_no_probabilities_is_named_as_damaged(tmp_path):
    folder = judgebench(tmp_path / "jb", [("livecodebench", "x!", "y", "A>B")])
    with pytest.raises(TiebreakError, match="gives no probabilities for 1 of 1 pairs"):
        scored(folder, Marks(first=np.nan))


def test_a_folder_without_a_benchmark_is_an_error(tmp_path):
    (tmp_path / "notes.json").write_text('[{"text": "x"}]')
    (tmp_path / "README.md").write_text("# notes")
    with pytest.raises(
        TiebreakError, match=r"no file of RewardBench, RewardBench 2, JudgeBench, PPE, LLMBar in .*notes.json"
    ):
        read([tmp_path])


def test_rows_of_rewardbench_2_of_another_shape_are_errors(tmp_path):
    for n, row in enumerate(
        (
            {"id": "1", "subset": "Math", "chosen": ["a", "b"], "rejected": ["c"]},
            {"id": "9", "subset": "Ties", "chosen": ["a"], "rejected": ["c"]},
        )
    ):
        with pytest.raises(TiebreakError, match="row 1: no"):
            read([rewardbench2(tmp_path / str(n), [row])])
