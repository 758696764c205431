"""Tests of synthetic votes: the true probabilities recomputed from the texts, and the documented properties."""

import csv
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge

from tiebreak.votes import near_duplicates, synthetic
from tiebreak.votes.schema import SCHEMA
from tiebreak.votes.synthetic import World

pytestmark = pytest.mark.slow

GRADE = {word: grade - 1 for grade, words in enumerate(synthetic.GRADES) for word in words}
TOPIC = {noun: topic for topic, nouns in enumerate(synthetic.TOPICS) for noun in nouns}
TRUE = ("true_a", "true_b", "true_tie")
COLUMNS = ("prompt", "response_a", "response_b")


def matrix(table, columns):
    return np.stack([table[column].to_numpy() for column in columns], axis=1).astype(np.float64)


def words(text):
    return text.translate(str.maketrans(".?,", "   ")).split()


def stance(prompt):
    """The stance of a prompt: -1 for faults, 1 for merits, 0 for neither."""
    asked = {n for n, names in enumerate(synthetic.STANCES) for word in words(prompt) if word in names}
    assert len(asked) <= 1
    return 2 * asked.pop() - 1 if asked else 0


def utility(prompt, answer, world):
    """The utility of an answer, computed from its text."""
    asked = next(TOPIC[word] for word in words(prompt) if word in TOPIC)
    about = {TOPIC[word] for word in words(answer) if word in TOPIC}
    sentences = answer.count(".")
    is_list = answer.startswith("- ")
    quality = sum(GRADE.get(word, 0) for word in words(answer))
    total = world.quality * quality
    total -= world.topic * (about != {asked})
    total += world.formatting * is_list * (1.0 if "As a list" in prompt else 0.3)
    total += world.length * sentences * (-1 if "In short" in prompt else 1)
    relation = synthetic.relation_weight(world) * stance(prompt) * quality
    return math.sqrt(1 - world.relation) * total + relation


def truth(vote, world):
    """Probabilities by Davidson's model, from the texts alone."""
    d = world.position + sum(
        utility(prompt, a, world) - utility(prompt, b, world)
        for prompt, a, b in zip(vote["prompt"], vote["response_a"], vote["response_b"], strict=True)
    )
    closed = vote["prompt"][0].split()[0] in {start for start, _ in synthetic.CLOSED}
    e = [math.exp(d / 2), math.exp(-d / 2), math.exp(world.log_tie + world.closed * closed)]
    return [
        (1 - world.noise) * x / sum(e) + world.noise * y
        for x, y in zip(e, synthetic.RANDOM_VOTE, strict=True)
    ]


@pytest.mark.parametrize("world", [World(), World(noise=0.3, multi_turn=0.5, position=1.0, relation=0.6)])
def test_the_truth_is_what_the_text_says(world):
    table = synthetic.generate(500, seed=1, world=world)
    expected = [truth(vote, world) for vote in table.to_pylist()]
    np.testing.assert_allclose(matrix(table, TRUE), expected, atol=1e-9)


def test_labels_are_drawn_from_the_truth():
    table = synthetic.generate(60_000, seed=2)
    hard, true = matrix(table, ("p_a", "p_b", "p_tie")), matrix(table, TRUE)
    assert set(np.unique(hard)) == {0.0, 1.0}
    np.testing.assert_array_equal(hard.sum(axis=1), 1)
    for label in range(3):
        bins = np.digitize(true[:, label], [0.1, 0.3, 0.5, 0.7, 0.9])
        for chosen in (bins == b for b in np.unique(bins)):
            p = true[chosen, label]
            error = math.sqrt((p * (1 - p)).sum()) / len(p)
            assert abs(hard[chosen, label].mean() - p.mean()) < 4 * error


def test_the_same_seed_gives_the_same_votes():
    first, again, other = (synthetic.generate(200, seed) for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.drop_columns("id").equals(other.drop_columns("id"))
    assert synthetic.preferences(200, 3).equals(synthetic.preferences(200, 3))


def test_the_schema_is_that_of_votes():
    table = synthetic.generate(1000, seed=5, world=World(multi_turn=0.4))
    assert table.select(SCHEMA.names).schema == SCHEMA
    assert not set(TRUE) & set(SCHEMA.names)
    turns = {column: [len(x) for x in table[column].to_pylist()] for column in SCHEMA.names[1:4]}
    assert turns["prompt"] == turns["response_a"] == turns["response_b"]
    assert 0.35 < np.mean([n == 2 for n in turns["prompt"]]) < 0.45
    assert all(a != b for a, b in zip(*(table[c].to_pylist() for c in ("model_a", "model_b")), strict=True))


def test_the_best_log_loss_is_the_mean_entropy():
    table = synthetic.generate(300, seed=6)
    entropy = [-sum(p * math.log(p) for p in row) for row in matrix(table, TRUE).tolist()]
    assert synthetic.best_log_loss(table) == pytest.approx(sum(entropy) / len(entropy), abs=1e-12)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.75, 0.85), (0.3, 0.93, 0.97)])
def test_the_distance_from_prior_to_best_is_as_promised(noise, low, high):
    table = synthetic.generate(20_000, seed=7, world=World(noise=noise))
    prior = matrix(table, TRUE).mean(axis=0)
    assert low < synthetic.best_log_loss(table) < high
    assert -(prior * np.log(prior)).sum() > 1.09


def test_every_effect_moves_the_truth():
    base = synthetic.generate(200, seed=8)
    for effect in ("quality", "topic", "formatting", "length", "position", "log_tie", "closed"):
        other = synthetic.generate(200, seed=8, world=replace(World(), **{effect: 3.0}))
        assert other["response_a"].equals(base["response_a"])
        assert not np.allclose(matrix(other, TRUE), matrix(base, TRUE))


def log_odds(table):
    """The d of each vote, and the stance of its prompt: merits (1) or faults (-1)."""
    p = matrix(table, TRUE)
    return np.log(p[:, 0] / p[:, 1]), np.array([stance(prompt[0]) for prompt in table["prompt"].to_pylist()])


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_the_relation_has_its_share_of_the_variance(share):
    """The relation in d = rest + relation changes its sign with the prompt's stance, the rest does not."""
    world = World(relation=share, position=0.0, multi_turn=0.0)
    d, asked = log_odds(synthetic.generate(20_000, seed=21, world=world))
    rest, _ = log_odds(synthetic.generate(20_000, seed=21, world=replace(world, relation=0.0)))
    relation = d - math.sqrt(1 - share) * rest
    assert relation.var() / d.var() == pytest.approx(share, abs=0.02)
    assert d.var() == pytest.approx(rest.var(), rel=0.04)
    assert abs(np.corrcoef(relation, rest)[0, 1]) < 0.03
    assert abs(asked.mean()) < 0.03


def test_without_a_relation_all_else_is_the_same():
    plain, related = (synthetic.generate(300, 22, World(relation=share)) for share in (0.0, 0.5))
    for column in ("response_a", "response_b", "model_a", "model_b"):
        assert plain[column].equals(related[column])
    for without, asked in zip(plain["prompt"].to_pylist(), related["prompt"].to_pylist(), strict=True):
        assert [turn.split(" Name ")[0] for turn in asked] == without
        assert all(stance(turn) == 0 for turn in without)
    assert plain.equals(synthetic.generate(300, 22, World()))


def test_neither_words_nor_their_overlap_predict_the_relation():
    """In a world of the relation alone, word counts, overlap and lengths predict no more than the class shares do.

    Products of the prompt's words and the answers' predict it.
    """
    world = World(relation=1.0, position=0.0, multi_turn=0.0)
    tables = [synthetic.generate(votes, seed, world) for votes, seed in ((4000, 23), (2000, 24))]
    prompts, a, b = ([turns[0] for table in tables for turns in table[c].to_pylist()] for c in COLUMNS)
    counts = CountVectorizer(ngram_range=(1, 2), min_df=3).fit(prompts + a + b)
    grades = CountVectorizer(vocabulary=sorted(GRADE))
    difference = grades.transform(a) - grades.transform(b)
    asked = CountVectorizer(vocabulary=[word for names in synthetic.STANCES for word in names])
    shared = [
        [len(set(words(p)) & set(words(x))) - len(set(words(p)) & set(words(y))), len(x) - len(y), len(p)]
        for p, x, y in zip(prompts, a, b, strict=True)
    ]
    lexical = sparse.hstack([counts.transform(a) - counts.transform(b), counts.transform(prompts), shared])
    products = sparse.hstack(
        [difference.multiply(column) for column in asked.transform(prompts).T.toarray()[..., None]]
    )
    d = np.concatenate([log_odds(table)[0] for table in tables])
    of = {name: fitted(x.tocsr(), d) for name, x in (("lexical", lexical), ("products", products))}
    assert of["lexical"] < 0.02
    assert of["products"] > 0.95


def fitted(x, d, training=4000):
    """R² on the later votes of a ridge regression fitted on the earlier ones."""
    return Ridge(alpha=30.0).fit(x[:training], d[:training]).score(x[training:], d[training:])


@pytest.mark.parametrize("world", [World(), synthetic.DEMO])
def test_the_chosen_answer_has_the_higher_utility(world):
    table = synthetic.preferences(500, seed=9, world=world)
    assert table.column_names == ["id", "prompt", "chosen", "rejected"]
    for pair in table.to_pylist():
        chosen, rejected = (utility(pair["prompt"], pair[side], world) for side in ("chosen", "rejected"))
        assert chosen >= rejected - 1e-9


@pytest.mark.parametrize("world", [World(), synthetic.DEMO])
def test_prompts_are_too_different_to_form_large_groups(world):
    table = synthetic.generate(4000, seed=10, world=world)
    names = near_duplicates.compare({"votes": iter(table["prompt"].to_pylist())}).groups("votes")
    sizes = np.unique(names, return_counts=True)[1]
    assert len(sizes) > 3500
    assert sizes.max() < 10


def test_write_makes_a_whole_data_set(tmp_path):
    synthetic.write(tmp_path, votes=300, seed=11)
    data = tmp_path / "data"
    names = {"votes.parquet", "preferences.parquet", "test.parquet", "truth.parquet", "solution.csv"}
    assert {path.name for path in data.iterdir()} == names
    tables = {n: pq.read_table(data / f"{n}.parquet") for n in ("votes", "test", "truth", "preferences")}
    assert tables["votes"].schema == tables["test"].schema == SCHEMA
    assert [len(tables[n]) for n in ("votes", "test", "truth", "preferences")] == [300, 30, 330, 300]
    assert tables["test"]["p_a"].null_count == 30
    ids = {name: set(table["id"].to_pylist()) for name, table in tables.items()}
    assert ids["truth"] == ids["votes"] | ids["test"]
    assert all(a.isdisjoint(b) for a, b in pairwise([ids["votes"], ids["test"], ids["preferences"]]))


def test_the_solution_holds_the_labels_of_the_test_pairs(tmp_path):
    synthetic.write(tmp_path, votes=4000, seed=12)
    with (tmp_path / "data/solution.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert [row["id"] for row in rows] == pq.read_table(tmp_path / "data/test.parquet")["id"].to_pylist()
    labels = np.array([[float(x) for x in list(row.values())[1:]] for row in rows])
    true = pq.read_table(tmp_path / "data/truth.parquet")
    true = matrix(true.filter(pc.is_in(true["id"], pa.array([r["id"] for r in rows]))), TRUE)
    np.testing.assert_array_equal(labels.sum(axis=1), 1)
    oracle = -np.log((labels * true).sum(axis=1)).mean()
    assert oracle < 0.95  # the class prior scores 1.09; labels of other pairs far more
