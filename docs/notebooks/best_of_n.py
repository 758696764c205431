# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Best of n and DPO data
#
# A judge of pairs ranks any number of answers to a prompt: pairs are judged, in both orders, and strengths fitted to them. The judge is that
# of [First judge in five minutes](first_judge.py).

# %%
import tiebreak

judge = tiebreak.load("first")
answers = [
    "Yes.",
    "No. Even a few can harm their kidneys.",
    "As an AI language model, I cannot say for certain.",
    "No.",
]
ranking = judge.rank("Can dogs eat grapes?", answers)
ranking

# %%
print(answers[ranking.best])

# %% [markdown]
# ## Many prompts: a file
#
# Take every answer that the example votes have to a prompt as its candidates.

# %%
import csv
import json
from collections import defaultdict
from pathlib import Path

from tiebreak.votes import examples

candidates = defaultdict(set)
with examples.FRESH.open(newline="") as file:
    for row in csv.DictReader(file):
        candidates[row["prompt"]] |= {row["response_a"], row["response_b"]}
lines = [json.dumps({"prompt": prompt, "responses": sorted(texts)}) for prompt, texts in candidates.items()]
Path("candidates.jsonl").write_text("\n".join(lines) + "\n")

# %% [markdown]
# ## Chosen and rejected
#
# `tiebreak label` writes what TRL, OpenRLHF and others train on. Pairs that the judge calls even are left out.

# %%
import subprocess
import sys

command = "label first candidates.jsonl -o preferences.jsonl --format messages --keep-ties"
subprocess.run([sys.executable, "-m", "tiebreak", *command.split()], check=True)
first = json.loads(Path("preferences.jsonl").read_text().splitlines()[0])
print(json.dumps(first, indent=2))
assert first["chosen"][0] == first["rejected"][0]

# %% [markdown]
# `trl.DPOTrainer(train_dataset=load_dataset("json", data_files="preferences.jsonl")["train"])` takes it as it is; `margin` is the
# logarithm of P(chosen) / P(rejected).
#
# ## A reward
#
# For GRPO the judge compares the samples of a prompt with each other.

# %%
from tiebreak import rewards

reward = rewards.trl(judge)
print(reward(prompts=["Can dogs eat grapes?"] * len(answers), completions=answers))
