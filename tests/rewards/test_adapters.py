"""Reward functions as TRL, OpenRLHF and verl call them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import base, judge_folder

import tiebreak
from tiebreak import rewards
from tiebreak.errors import TiebreakError
from tiebreak.judge.judge import Judge
from tiebreak.rewards.preferences import against_group, against_references

pytestmark = pytest.mark.slow

PROMPTS, ANSWERS = ["why", "why", "code"], ["good answer long", "short", "red code always"]
REFERENCES = ["blue", "blue", "sky light"]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return tiebreak.load(judge_folder(), device="cpu")


def test_trl_passes_columns_by_name(judge: Judge) -> None:
    extra = {"completion_ids": [[1]] * 3, "trainer_state": None, "answer": REFERENCES}
    grouped = rewards.trl(judge)(prompts=PROMPTS, completions=ANSWERS, **extra)
    assert grouped == against_group(judge, PROMPTS, ANSWERS)
    assert grouped[2] is None
    by_column = rewards.trl(judge, reference="answer", against="column")
    assert by_column(prompts=PROMPTS, completions=ANSWERS, **extra) == against_references(
        judge, PROMPTS, ANSWERS, REFERENCES
    )
    with pytest.raises(TiebreakError, match=r"the data set has no 'reference'.* Valid: answer"):
        rewards.trl(judge, against="column")(PROMPTS, ANSWERS, answer=REFERENCES)


@pytest.mark.parametrize("adapter", [rewards.trl, rewards.openrlhf, rewards.verl_batch])
def test_against_what_is_checked_at_once(judge: Judge, adapter: Any) -> None:
    with pytest.raises(
        TiebreakError, match=r"not against 'grup': did you mean 'group'\? Valid: column, group"
    ):
        adapter(judge, against="grup")


def test_openrlhf_gets_tensors(judge: Judge) -> None:
    queries = [prompt + answer for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    found = rewards.openrlhf(judge)(queries, PROMPTS, [*REFERENCES[:2], None], metas=None)
    expected = against_references(judge, PROMPTS[:2], ANSWERS[:2], REFERENCES[:2])
    assert found["rewards"].tolist() == pytest.approx([*expected, 0.5])
    assert torch.equal(found["scores"], found["rewards"])
    assert found["extra_logs"]["judged"].tolist() == [1, 1, 0]
    grouped = rewards.openrlhf(judge, against="group")(queries, PROMPTS, REFERENCES)["rewards"]
    assert grouped[0] + grouped[1] == pytest.approx(1)
    with pytest.raises(TiebreakError, match="does not start with its prompt"):
        rewards.openrlhf(judge)(["other"], ["why"], ["x"])


def test_verl_scores_one_or_a_batch(judge: Judge) -> None:
    expected = against_references(judge, PROMPTS, ANSWERS, REFERENCES)
    infos = [{"question": prompt, "index": n} for n, prompt in enumerate(PROMPTS)]
    batch = rewards.verl_batch(judge)(
        data_sources=["d"] * 3, solution_strs=ANSWERS, ground_truths=REFERENCES, extra_infos=infos
    )
    assert batch == pytest.approx(expected)
    one = rewards.verl(judge)
    assert [
        one(data_source="d", solution_str=answer, ground_truth=reference, extra_info=info)
        for answer, reference, info in zip(ANSWERS, REFERENCES, infos, strict=True)
    ] == pytest.approx(expected, abs=1e-6)
    assert one("d", "x", None, infos[0]) == 0.5
    grouped = rewards.verl_batch(judge, against="group")(["d"] * 3, ANSWERS, REFERENCES, infos)
    assert grouped[2] == 0.5, "alone"
    with pytest.raises(TiebreakError, match="extra_info has no 'question'"):
        one("d", "x", "y", {"index": 1})


def test_trl_trains_with_it(judge: Judge, tmp_path: Path) -> None:
    """Two steps of GRPO of a tiny model: each step's rewards are shares of a group, so that their mean is a half."""
    trl = pytest.importorskip("trl", reason="trl is not installed; pip install trl==1.16.0 into a venv")
    from datasets import Dataset
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    config = AutoConfig.from_pretrained(base("llama"))
    tokenizer = AutoTokenizer.from_pretrained(base("llama"), padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        learning_rate=1e-2,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    trainer = trl.GRPOTrainer(
        model=LlamaForCausalLM(config),
        reward_funcs=rewards.trl(judge),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["why is the sky", "code list", "red light"]}),
        processing_class=tokenizer,
    )
    before = [weight.clone() for weight in trainer.model.parameters()]
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    print([{key: entry[key] for key in ("reward", "reward_std", "loss", "grad_norm")} for entry in logged])
    assert [entry["reward"] for entry in logged] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert all(entry["reward_std"] > 0 for entry in logged)
    assert any((x != y).any() for x, y in zip(before, trainer.model.parameters(), strict=True))
