# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # First judge in five minutes
#
# Votes in, a judge out. The votes ship with the package and are made up; the language models of the preset `tiny` have random
# weights, so that a CPU trains them in minutes. They show how it works, not how good it gets.

# %%
import tiebreak
from tiebreak.votes import examples

tiebreak.check(examples.VOTES)

# %% [markdown]
# ## Train
#
# `train` writes a recipe into the folder and runs its nine steps. It can be interrupted: the same call goes on where it was. Few votes need
# larger shares held back, to calibrate on and to judge the result by.

# %%
from tiebreak.pages.notebook import Bar

run = tiebreak.train(
    examples.VOTES,
    preset="tiny",
    folder="first",
    progress=Bar(),
    split__lockbox_share=0.3,
    split__calibration_share=0.3,
)
print(run)

# %% [markdown]
# The report says the same at length, on votes that nothing was trained, calibrated or chosen on. It is a page for those who were not there.

# %%
run.report()

# %% [markdown]
# ## Use it
#
# Probabilities of A, B and a tie, one row a pair. Each pair is shown in both orders, so exchanging the answers exchanges the
# probabilities.

# %%
judge = run.judge()
judge

# %%
p = judge.predict(
    [
        {
            "prompt": "Can dogs eat grapes?",
            "response_a": "No. Even a few can harm their kidneys.",
            "response_b": "Yes.",
        },
        {
            "prompt": "Can dogs eat grapes?",
            "response_a": "Yes.",
            "response_b": "No. Even a few can harm their kidneys.",
        },
    ]
)
assert p.shape == (2, 3)
assert abs(p[0, 0] - p[1, 1]) < 1e-6
p.round(3)

# %% [markdown]
# ## Is it any good?
#
# On votes that it has not seen. Log loss, less is better: beside that of somebody who only knows how often A, B and ties win.

# %%
from tiebreak.stats.metrics import log_loss
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.schema import probabilities

fresh = read_whole(examples.FRESH, "votes")
votes = read_whole(examples.VOTES, "votes")
shares = probabilities(votes).mean(axis=0)[None].repeat(len(fresh), axis=0)
print(f"class shares {log_loss(shares, probabilities(fresh)):.3f}")
print(f"judge        {log_loss(judge.predict(examples.FRESH), probabilities(fresh)):.3f}")

# %% [markdown]
# With real weights change one word: `preset="small"` takes SmolLM2-135M, a card of 8 GB and minutes.
