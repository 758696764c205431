# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your votes
#
# Votes are files with a prompt, two answers and who won. Here is one with columns of its own, as yours may have, and a row that nobody
# can read.

# %%
import csv
import json
from pathlib import Path

from tiebreak.votes import examples

verdicts = {"model_a": "left", "model_b": "right", "tie": "same"}
with examples.VOTES.open(newline="") as file:
    rows = [
        {
            "ask": row["prompt"],
            "texts": [row["response_a"], row["response_b"]],
            "verdict": verdicts[row["winner"]],
        }
        for row in csv.DictReader(file)
    ]
rows.append({"ask": "Why?", "texts": ["Because.", "No."], "verdict": "dunno"})
Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

# %% [markdown]
# ## What is not understood is said
#
# Nothing is guessed: which column is which answer, and what "left" means, are yours to say.

# %%
import tiebreak
from tiebreak.errors import TiebreakError

try:
    tiebreak.check("mine.jsonl")
except TiebreakError as error:
    print(error)

# %%
columns = {"prompt": "ask", "response_a": "texts.0", "response_b": "texts.1", "winner": "verdict"}
values = {"left": "a", "right": "b", "same": "tie"}
card = tiebreak.check("mine.jsonl", columns=columns, values=values)
assert card.votes == len(rows) - 1
card

# %% [markdown]
# ## What to look at
#
# - **Rejected records**: the row whose verdict nobody explained is set aside, with the reason. More than 2 % of such rows stop a run.
# - **Length and position bias**: what voters favour, a judge learns.
# - **Repetition**: votes on the same prompt are kept together, in one fold or in the lockbox.
# - **Warnings** at the end: too few votes for what.

# %%
card.files[0].rejects

# %% [markdown]
# The same mapping goes on into training, `tiebreak.train("mine.jsonl", columns=columns, values=values)`. On the command line it is `--map` and
# `--values`, in a recipe `data.columns` and `data.values`.
