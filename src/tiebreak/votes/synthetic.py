"""Synthetic votes with known true probabilities, and so a known lowest log loss.

A prompt names things of one topic and may ask for a list or for few words. An answer is two to four short
sentences, each about a thing and each good, plain or poor. The utility of an answer depends on

    quality     good less poor sentences
    topic       sentences on the prompt's topic, or on another, mostly small talk
    formatting  a list, above all where the prompt asks for one
    length      sentences, which count against an answer where the prompt asks for few words
    position    the first answer's advantage
    relation    good sentences where the prompt asks for merits, poor ones where it asks for faults

and the vote follows Davidson's model of paired comparison with ties (JASA 65, 1970): for a difference d,
P(A) : P(B) : P(tie) = exp(d/2) : exp(-d/2) : v, where v is larger for closed (yes-or-no) questions. A model has to
read the prompt and both answers; nothing else in the text predicts the vote.

The relation is an interaction of texts: half of the prompts ask for merits and half for faults, in words that no
answer has and that are as long either way. So neither an answer's words, nor the prompt's, nor their overlap or
lengths predict which answer it favours; the product of the prompt's word and the answers' grades does. (What a prompt
asks for may predict ties: where relation and quality disagree, answers are nearer to each other.)

Dimension letters: N votes, T turns (of all votes), S sentences (of all turns).
"""

import csv
import io
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tiebreak.output import write_atomically
from tiebreak.votes.parquet import opened
from tiebreak.votes.schema import LABELS, SCHEMA, probability_columns, write_table

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TOPICS = (
    ("oven", "bread", "soup", "pan", "salad", "cheese"),
    ("train", "hotel", "beach", "ticket", "map", "visa"),
    ("python", "loop", "server", "bug", "array", "cache"),
    ("rose", "soil", "seed", "pond", "fern", "compost"),
    ("guitar", "choir", "drum", "melody", "opera", "chord"),
    ("weather", "weekend", "gossip", "party", "holiday", "traffic"),
)
"""Things to ask about. The last topic is small talk: seldom asked for, and the usual topic of answers off topic."""

SMALL_TALK = len(TOPICS) - 1

GRADES = (
    ("wrong", "vague", "rude", "careless", "confusing", "dubious"),
    ("usual", "plain", "common", "brief", "general", "simple"),
    ("clear", "correct", "useful", "precise", "careful", "complete"),
)
"""Words of a poor, a plain and a good sentence, in this order."""

SENTENCES = ("One {grade} {noun}.", "Some {grade} {noun}.", "The {grade} {noun}.")
ASKS = (("How would", "explain"), ("Why does", "prefer"), ("What would", "do with"))
CLOSED = (("Should", "choose"), ("Can", "mix"), ("Does", "need"))
WISHES = ("?", "? As a list.", "? In short.")
NO_WISH, LIST, BRIEF = range(3)
STANCES = (("faults", "errors", "losses"), ("merits", "assets", "values"))
"""Words for faults and for merits, which the prompts ask for in a world with a relation."""
PEOPLE = tuple(
    "Ada,Ben,Cleo,Dan,Eva,Finn,Gus,Hana,Ivan,June,Kurt,Lena,Milo,Nora,Otto,Pia,Quinn,Rosa,Sam,Tara,"
    "Uma,Vera,Wes,Xena,Yuri,Zoe,Abel,Bea,Carl,Dora,Emil,Faye,Glen,Hope,Iris,Jack,Kim,Leo,Mona,Ned".split(",")
)
MODELS = tuple(f"model-{letter}" for letter in "abcdefghijkl")


@dataclass(frozen=True)
class World:
    """The parameters of a synthetic world: effects on votes, and shares of kinds of answers.

    In units of d, the log odds of A against B without ties:
    quality: of one more good sentence, or one poor sentence less. topic: lost by an answer off the prompt's
    topic. formatting: of a list where the prompt asks for one; 0.3 of it elsewhere. length: of one more
    sentence; lost where the prompt asks for few words. position: of being shown first.

    log_tie: log v of an open question. closed: added to it for a closed (yes-or-no) question.
    strength: the best model's advantage in quality over the average one. drift: share of answers off topic.
    multi_turn: share of votes with two turns.
    noise: share of votes cast at random, as RANDOM_VOTE. At 0 the best possible log loss is about 0.79; at
    0.3 it is about 0.96.
    relation: share of the variance of d, without position, that is due to the relation; the effects above are scaled
    so that the total variance stays. At 0 no prompt asks for merits or faults.
    """

    quality: float = 0.85
    topic: float = 2.6
    formatting: float = 1.8
    length: float = 0.35
    position: float = 0.1
    log_tie: float = 0.35
    closed: float = 0.6
    strength: float = 0.5
    drift: float = 0.3
    multi_turn: float = 0.06
    noise: float = 0.0
    relation: float = 0.0


DEMO = World(relation=0.6)
"""The world of the demo, where a model of word counts stays far from the lowest log loss."""

RANDOM_VOTE = (0.35, 0.34, 0.31)
"""P(A), P(B), P(tie) of a vote cast at random."""


def generate(votes: int, seed: int, world: World | None = None) -> pa.Table:
    """Votes with hard labels (`votes.schema.SCHEMA`) and their true probabilities: true_a, true_b, true_tie.

    The same arguments give the same table. The best possible log loss is the mean entropy of the true columns
    (`best_log_loss`).
    """
    world = world or World()
    rng = np.random.default_rng(seed)
    drawn = _draw(votes, rng, world, multi_turn=world.multi_turn)
    d_N = drawn.utility_N["a"] - drawn.utility_N["b"] + world.position
    true_NC = _davidson(d_N, world.log_tie + world.closed * drawn.closed_N)
    true_NC = (1 - world.noise) * true_NC + world.noise * np.array(RANDOM_VOTE)
    label_N = (rng.random(votes)[:, None] > true_NC.cumsum(axis=1)[:, :2]).sum(axis=1)
    hard_NC = np.eye(3, dtype=np.float32)[label_N]
    columns = {
        "id": _ids(seed, votes),
        "prompt": drawn.prompt_N,
        "response_a": drawn.answer_N["a"],
        "response_b": drawn.answer_N["b"],
        "model_a": drawn.model_N["a"],
        "model_b": drawn.model_N["b"],
    }
    columns |= probability_columns(hard_NC)
    empty = {field.name: pa.nulls(votes, field.type) for field in SCHEMA if field.name not in columns}
    table = pa.table(columns | empty, schema=SCHEMA)
    for c, label in enumerate(LABELS):
        table = table.append_column(f"true_{label}", pa.array(true_NC[:, c]))
    return table


def preferences(pairs: int, seed: int, world: World | None = None) -> pa.Table:
    """Preference pairs of the same world: id, prompt, chosen, rejected, as text; one turn.

    They are easier to learn from than real ones: no ties, no noise, and the same utility as that of the voters.
    """
    world = world or World()
    drawn = _draw(pairs, np.random.default_rng(seed), world, multi_turn=0.0)
    a_wins = pa.array(drawn.utility_N["a"] >= drawn.utility_N["b"])
    a, b = drawn.answer_N["a"].flatten(), drawn.answer_N["b"].flatten()
    return pa.table(
        {
            "id": _ids(seed, pairs),
            "prompt": drawn.prompt_N.flatten(),
            "chosen": pc.if_else(a_wins, a, b),
            "rejected": pc.if_else(a_wins, b, a),
        }
    )


def best_log_loss(truth: pa.Table) -> float:
    """The lowest expected log loss of any prediction: the mean entropy of the true probabilities, in nats."""
    p_NC = np.stack([truth[f"true_{label}"].to_numpy() for label in LABELS], axis=1)
    return float(-(p_NC * np.log(p_NC)).sum(axis=1).mean())


def write(folder: Path, votes: int, seed: int, world: World | None = None) -> None:
    """Write a whole data set under `folder`/data.

    votes.parquet, preferences.parquet (as many pairs), test.parquet (a tenth, unlabelled), solution.csv (the
    labels of the test pairs as Kaggle has them) and truth.parquet (id and true probabilities of every vote
    and test pair, which no step reads).
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    seed_votes, seed_preferences, seed_test = (3 * seed + k for k in range(3))
    labelled = generate(votes, seed_votes, world)
    test = generate(max(votes // 10, 1), seed_test, world)
    truth = ["id", *(f"true_{label}" for label in LABELS)]
    unlabelled = test.select(SCHEMA.names)
    for label in LABELS:
        column = SCHEMA.get_field_index(f"p_{label}")
        unlabelled = unlabelled.set_column(column, SCHEMA.field(column), pa.nulls(len(test), pa.float32()))
    write_table(labelled.select(SCHEMA.names), data / "votes.parquet")
    write_table(preferences(votes, seed_preferences, world), data / "preferences.parquet")
    write_table(unlabelled, data / "test.parquet")
    known = pa.concat_tables([labelled.select(truth), test.select(truth)])
    known = known.replace_schema_metadata({"votes": str(votes), "seed": str(seed)})
    write_table(known, data / "truth.parquet")
    write_atomically(data / "solution.csv", _solution(test))


def read_parameters(folder: Path) -> tuple[int, int] | None:
    """The number of votes and the seed that `write` was called with for a folder; None if it has none."""
    truth = folder / "data" / "truth.parquet"
    metadata = (pq.read_schema(opened(truth)).metadata or {}) if truth.is_file() else {}
    return (
        (int(metadata[b"votes"]), int(metadata[b"seed"])) if metadata.keys() >= {b"votes", b"seed"} else None
    )


def _solution(test: pa.Table) -> str:
    """The labels as CSV in the competition's format."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "winner_model_a", "winner_model_b", "winner_tie"])
    labels = [test[f"p_{label}"].to_numpy().astype(int).tolist() for label in LABELS]
    rows.writerows(zip(test["id"].to_pylist(), *labels, strict=True))
    return text.getvalue()


@dataclass(frozen=True)
class _Pairs:
    """Pairs without votes; the dictionaries are keyed by side, a and b."""

    prompt_N: pa.Array
    closed_N: Floats
    answer_N: dict[str, pa.Array]
    model_N: dict[str, pa.Array]
    utility_N: dict[str, Floats]


def _draw(votes: int, rng: np.random.Generator, world: World, multi_turn: float) -> _Pairs:
    turns_N = 1 + (rng.random(votes) < multi_turn)
    vote_T = np.repeat(np.arange(votes), turns_N)
    offsets = pa.array(np.concatenate([[0], turns_N.cumsum()]), pa.int32())
    small_talk_T = rng.random(len(vote_T)) < 0.05
    topic_T = np.where(small_talk_T, SMALL_TALK, rng.integers(SMALL_TALK, size=len(vote_T)))
    wish_T = rng.choice(3, size=len(vote_T), p=[0.5, 0.25, 0.25])
    closed_N = rng.random(votes) < 0.4
    prompt_T = _prompts(topic_T, wish_T, closed_N[vote_T], rng)
    stance_T = np.zeros(len(vote_T))
    if world.relation:
        stance_rng = rng.spawn(1)[0]  # separate, so that all else is the same whatever the share
        prompt_T, stance_T = _with_stance(prompt_T, stance_rng)
    model_N = _two_models(votes, rng)
    strength = world.strength * np.linspace(-1, 1, len(MODELS))
    answers: dict[str, pa.Array] = {}
    utility: dict[str, Floats] = {}
    for side, model in model_N.items():
        texts_T, utility_T = _answers(topic_T, wish_T, stance_T, strength[model][vote_T], world, rng)
        answers[side] = pa.ListArray.from_arrays(offsets, texts_T)
        utility[side] = np.bincount(vote_T, weights=utility_T, minlength=votes).astype(np.float64)
    names = pa.array(MODELS)
    return _Pairs(
        pa.ListArray.from_arrays(offsets, prompt_T),
        closed_N.astype(np.float64),
        answers,
        {side: names.take(pa.array(model)) for side, model in model_N.items()},
        utility,
    )


def _two_models(votes: int, rng: np.random.Generator) -> dict[str, Ints]:
    first = rng.integers(len(MODELS), size=votes)
    return {"a": first, "b": (first + rng.integers(1, len(MODELS), size=votes)) % len(MODELS)}


def _prompts(topic_T: Ints, wish_T: Ints, closed_T: NDArray[np.bool_], rng: np.random.Generator) -> pa.Array:
    """Prompts such as `How would Ada explain oven and soup? As a list.`"""
    n, nouns = len(topic_T), len(TOPICS[0])
    first = rng.integers(nouns, size=n)
    second = (first + rng.integers(1, nouns, size=n)) % nouns
    ask = rng.integers(len(ASKS), size=n) + len(ASKS) * closed_T
    starts, verbs = zip(*ASKS, *CLOSED, strict=True)
    bank = [noun for topic in TOPICS for noun in topic]
    parts = [
        _take(starts, ask),
        _take([f" {person} " for person in PEOPLE], rng.integers(len(PEOPLE), size=n)),
        _take(verbs, ask),
        _take([f" {noun}" for noun in bank], topic_T * nouns + first),
        _take([f" and {noun}" for noun in bank], topic_T * nouns + second),
        _take(WISHES, wish_T),
    ]
    return pc.binary_join_element_wise(*parts, "")


def _with_stance(prompt_T: pa.Array, rng: np.random.Generator) -> tuple[pa.Array, Floats]:
    """Prompts with a stance, and its sign: -1 for faults, 1 for merits.

    Such as `How would Ada explain oven and soup? As a list. Name faults, losses, errors, losses and faults.` The
    words are repeated so that tiny models, whose attention is uniform at first, learn from them.
    """
    merits_T = rng.integers(2, size=len(prompt_T))
    words = [word for stance in STANCES for word in stance]
    variants = len(STANCES[0])
    parts = [
        _take(
            [start + word for word in words], merits_T * variants + rng.integers(variants, size=len(prompt_T))
        )
        for start in (" Name ", ", ", ", ", ", ", " and ")
    ]
    return pc.binary_join_element_wise(prompt_T, *parts, ".", ""), np.where(merits_T, 1.0, -1.0)


@cache
def relation_weight(world: World) -> float:
    """The effect of one more sentence of the stance that is asked for, in units of d."""
    others = replace(world, relation=0.0)
    grades = replace(others, quality=1.0, topic=0.0, formatting=0.0, length=0.0)
    return math.sqrt(world.relation) * _deviation(others) / _deviation(grades)


def _deviation(world: World) -> float:
    """The standard deviation of d, without position, over many votes of one turn."""
    utility = _draw(100_000, np.random.default_rng(0), world, multi_turn=0.0).utility_N
    return float((utility["a"] - utility["b"]).std())


def _answers(
    topic_T: Ints,
    wish_T: Ints,
    stance_T: Floats,
    strength_T: Floats,
    world: World,
    rng: np.random.Generator,
) -> tuple[pa.Array, Floats]:
    """One answer for each turn, and its utility."""
    n = len(topic_T)
    drifts_T = rng.random(n) < world.drift
    answer_topic_T = np.where(drifts_T, _other_topic(topic_T, rng), topic_T)
    is_list_T = rng.random(n) < 0.4
    length_T = rng.integers(2, 5, size=n)
    turn_S = np.repeat(np.arange(n), length_T)
    care_T = strength_T + rng.normal(size=n)
    grade_S = np.digitize(care_T[turn_S] + rng.normal(size=len(turn_S)), [-0.6, 0.6])
    texts_T = _join(_sentences(answer_topic_T[turn_S], grade_S, rng), length_T, is_list_T)
    quality_T = np.bincount(turn_S, weights=grade_S - 1.0, minlength=n)
    format_T = is_list_T * np.where(wish_T == LIST, 1.0, 0.3)
    verbosity_T = length_T * np.where(wish_T == BRIEF, -1.0, 1.0)
    others_T = (
        world.quality * quality_T
        - world.topic * drifts_T
        + world.formatting * format_T
        + world.length * verbosity_T
    )
    weight = relation_weight(world) if world.relation else 0.0
    return texts_T, math.sqrt(1 - world.relation) * others_T + weight * stance_T * quality_T


def _other_topic(topic_T: Ints, rng: np.random.Generator) -> Ints:
    """Another topic for each: small talk, or where that was asked for, and in 7 % of cases, any other."""
    other_T = (topic_T + rng.integers(1, len(TOPICS), size=len(topic_T))) % len(TOPICS)
    return np.where((topic_T == SMALL_TALK) | (rng.random(len(topic_T)) < 0.07), other_T, SMALL_TALK)


def _sentences(topic_S: Ints, grade_S: Ints, rng: np.random.Generator) -> pa.Array:
    """A sentence for each topic and grade, from the bank of all of them."""
    bank = [
        pattern.format(noun=noun, grade=grade)
        for nouns in TOPICS
        for grades in GRADES
        for noun in nouns
        for grade in grades
        for pattern in SENTENCES
    ]
    variants = len(bank) // (len(TOPICS) * len(GRADES))
    variant_S = rng.integers(variants, size=len(topic_S))
    return _take(bank, (topic_S * len(GRADES) + grade_S) * variants + variant_S)


def _join(sentences_S: pa.Array, length_T: Ints, is_list_T: NDArray[np.bool_]) -> pa.Array:
    """Answers made of sentences: a paragraph or a Markdown list."""
    offsets = pa.array(np.concatenate([[0], length_T.cumsum()]), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, sentences_S)
    joined = pc.binary_join(lists, _take([" ", "\n- "], is_list_T.astype(np.int64)))
    return pc.binary_join_element_wise(_take(["", "- "], is_list_T.astype(np.int64)), joined, "")


def _take(bank: tuple[str, ...] | list[str], index: Ints) -> pa.Array:
    return pa.array(bank, pa.string()).take(pa.array(index))


def _ids(seed: int, rows: int) -> pa.Array:
    return pc.binary_join_element_wise(str(seed), pa.array(np.arange(rows)).cast(pa.string()), "-")


def _davidson(d_N: Floats, log_tie_N: Floats) -> Floats:
    """P(A), P(B), P(tie) of Davidson's model, shape (n, 3)."""
    z_NC = np.stack([d_N / 2, -d_N / 2, log_tie_N], axis=1)
    e_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    return np.asarray(e_NC / e_NC.sum(axis=1, keepdims=True))
