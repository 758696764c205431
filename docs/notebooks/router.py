# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A router from your own votes
#
# A cheap model answers where its answer will do, a dear one elsewhere. RouteLLM's routers came trained on one pair of models of their time;
# how to train one on another pair was asked and stayed open ([#65](https://github.com/lm-sys/RouteLLM/issues/65)). Here is how, with nothing but
# votes on your own two models.
#
# `larch` is the weak model: brief and right. `heron` is the strong one: it gives reasons, and steps where steps help. Both are made up.

# %%
import csv

from tiebreak.votes import examples

WEAK, STRONG = "larch", "heron"
answers = {}
with examples.VOTES.open(newline="") as file, examples.FRESH.open(newline="") as other:
    for row in (*csv.DictReader(file), *csv.DictReader(other)):
        for side in "ab":
            answers.setdefault(row["prompt"], {})[row[f"model_{side}"]] = row[f"response_{side}"]
prompts = [prompt for prompt, by in answers.items() if WEAK in by and STRONG in by]
print(f"{len(prompts)} prompts that both have answered")

# %% [markdown]
# ## The judge says where the weak answer suffices
#
# A judge sees both answers, which a router cannot. P(weak suffices) = P(weak preferred) + P(tie). The judge here is the baseline, a model of word
# counts and features that learns in seconds; `tiebreak.load` gives a better one where votes and a card are there.

# %%
from tiebreak.baseline.model import Baseline
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities, table_of

votes = read_whole(examples.VOTES, "votes")
judge = Baseline().fit(votes, probabilities(votes), prompt_groups(votes))
pairs = table_of(
    {"prompt": [prompt], "response_a": [answers[prompt][WEAK]], "response_b": [answers[prompt][STRONG]]}
    for prompt in prompts
)
p = judge.predict_proba(pairs)
suffices = p[:, 0] + p[:, 2]
for n in suffices.argsort()[[0, 1, -2, -1]]:
    print(f"{suffices[n]:.2f}  {prompts[n]}")

# %% [markdown]
# ## The router sees the prompt alone
#
# Learn the judge's probability from words of the prompt: both outcomes of each prompt, weighted by their probability. Every prompt is predicted
# by a router that has not learned from it.

# %%
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline


def fit(texts, suffices):
    """A model of P(weak suffices) by the prompt."""
    router = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=3))
    weights = np.concatenate([suffices, 1 - suffices])
    outcomes = np.repeat([1, 0], len(texts))
    return router.fit([*texts, *texts], outcomes, logisticregression__sample_weight=weights)


routed = np.empty(len(prompts))
texts = np.array(prompts, dtype=object)
for train, held_out in KFold(5, shuffle=True, random_state=0).split(texts):
    routed[held_out] = fit(texts[train], suffices[train]).predict_proba(texts[held_out])[:, 1]
print(f"correlation of router and judge on prompts new to it: {np.corrcoef(routed, suffices)[0, 1]:.2f}")

# %% [markdown]
# ## The threshold by cost
#
# The weak model answers if what that is expected to lose is less than what it saves: (1 - p) * bad < strong - weak.

# %%
COST_WEAK, COST_STRONG = 1, 20


def threshold(bad_answer):
    """The probability from which the weak model is the cheaper one, all in all."""
    return min(1.0, max(0.0, 1 - (COST_STRONG - COST_WEAK) / bad_answer))


print("a bad answer costs   threshold   to the weak model   cost a prompt   always weak   always strong")
for bad in (30, 40, 45, 60):
    to_weak = routed > threshold(bad)
    costs = np.where(to_weak, COST_WEAK + (1 - suffices) * bad, COST_STRONG)
    always_weak = COST_WEAK + (1 - suffices).mean() * bad
    print(
        f"{bad:18d} {threshold(bad):11.2f} {to_weak.mean():19.0%} {costs.mean():15.1f} {always_weak:13.1f} {COST_STRONG:15d}"
    )

# %% [markdown]
# Costs are counted by the judge's probabilities. Before you rely on them, count on votes between the two models that neither judge nor router
# has learned from: the share of prompts that go to the weak model, and how often people liked its answer at least as well. If a router
# that draws by lot does as well, the prompts do not tell which of them are hard.
