# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Which model is better
#
# Six made-up assistants answered the prompts of `fresh.csv`, and people voted on some pairs of answers. First by the votes alone.

# %%
import tiebreak
from tiebreak.votes import examples

tiebreak.leaderboard(examples.FRESH)

# %% [markdown]
# ## Votes and a judge together
#
# The judge compares all the answers, people some of them. Where both are known the judge's error is measured and taken out
# (prediction-powered inference), so the intervals hold however wrong it is. The judge is that of
# [First judge in five minutes](first_judge.py).

# %%
judge = tiebreak.load("first")
found = tiebreak.compare(judge, examples.FRESH, votes=examples.FRESH)
found

# %%
found.plot()

# %% [markdown]
# ## Who against whom

# %%
best, second = (standing.model for standing in found.leaderboard.standings[:2])
print(f"{best} against {second}: wins {found.leaderboard.win_rate(best, second):.0%}, ties counted half")
for pair in found.pairs[:5]:
    print(
        f"{pair.model:8s} {pair.other:8s} {pair.rates[0].win_rate.value:.0%} of {pair.rates[0].comparisons}"
    )

# %% [markdown]
# ## What was the judge worth?
#
# So many votes alone would be as exact as these with the judge. A judge that adds nothing gets the weight 0, and does no harm.

# %%
found.worth
