from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.votes import near_duplicates
from tiebreak.votes.formats.readers import read_all
from tiebreak.votes.schema import table_of

QUESTION = "Could you please explain how photosynthesis works in green plants, step by step, for a child?"


def compare(**prompts):
    return near_duplicates.compare(
        {file: iter([[text] for text in texts]) for file, texts in prompts.items()}
    )


@pytest.mark.parametrize(
    "same",
    [
        QUESTION.upper(),
        "  " + QUESTION.replace(" ", "\n\t ") + "!!",
        QUESTION.replace(",", " -"),
        QUESTION.replace("fi", "ﬁ"),
        QUESTION + " Thanks.",
        QUESTION.replace("Could you please explain", "Can you please explain"),
        QUESTION.replace("photosynthesis", "photosyntesis"),
        QUESTION.replace("a", "а").replace("e", "é"),
        "\u200b".join(QUESTION),
    ],
)
def test_the_same_question_in_other_clothes_is_one_group(same):
    one, other, third = compare(votes=[QUESTION, same, "Why is the sky blue?"]).groups("votes")
    assert one == other != third


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("Write a poem about the sea.", "Write a poem about the moon."),
        ("What is 12 + 1?", "What is 12 + 10?"),
        ("What is 1+1?", "What is 1-1?"),
        ("यह दिन है", "यह दान है"),
        ("?", "!"),
        ("", "a"),
    ],
)
def test_other_questions_are_other_groups(one, other):
    first, second = compare(votes=[one, other]).groups("votes")
    assert first != second


def test_turns_are_one_text_and_nulls_are_empty():
    assert near_duplicates.normalise(["Hello,", None, "World"]) == "hello world"


def test_a_chain_of_near_duplicates_is_one_group():
    base = " ".join(f"word{n}" for n in range(60))
    chain = [base + "".join(f" more{n} words{n}" for n in range(k)) for k in range(0, 30, 2)]
    assert (
        near_duplicates.minhash.similarity(
            near_duplicates.normalise([chain[0]]), near_duplicates.normalise([chain[-1]])
        )
        < 0.7
    )
    assert len(set(compare(votes=chain).groups("votes"))) == 1


def test_appended_rows_and_other_files_rename_no_group():
    texts = [QUESTION, "Why is the sky blue?", QUESTION + " Thanks."]
    alone = compare(votes=texts).groups("votes")
    more = compare(votes=[*texts, QUESTION + " Now."], extra=[QUESTION + " Please do."])
    assert more.groups("votes")[:3] == alone


def test_overlap_finds_exact_and_near_copies_in_other_files():
    prompts = compare(
        votes=[QUESTION, "Why is the sky blue?", "How old is the sun?"],
        extra=["something else", QUESTION + " Thanks.", "WHY IS THE SKY BLUE"],
        test=["How old is the sun"],
    )
    assert prompts.overlap_mask("extra", "votes").tolist() == [False, True, True]
    assert prompts.overlap_mask("votes", "extra").tolist() == [True, True, False]
    assert prompts.overlap_mask("votes", "test").tolist() == [False, False, True]
    assert prompts.overlap_mask("extra", "test").tolist() == [False, False, False]


def test_overlap_finds_all_of_many_variants_of_one_prompt():
    variants = [f"{QUESTION} Answer in about {n} words." for n in range(100, 221)]
    prompts = compare(votes=variants[:60], extra=variants[60:120], test=variants[120:])
    assert prompts.overlap_mask("votes", "test").all()
    assert prompts.overlap_mask("extra", "test").all()


def test_overlap_goes_by_group_even_through_a_third_file():
    base = " ".join(f"word{n}" for n in range(60))
    chain = [base + "".join(f" more{n} words{n}" for n in range(k)) for k in range(0, 12, 2)]
    prompts = compare(votes=chain[:1], extra=chain[1:-1], test=chain[-1:])
    assert near_duplicates.minhash.similarity(chain[0], chain[-1]) < near_duplicates.THRESHOLD
    assert prompts.overlap_mask("votes", "test").all()


def test_prompts_recur_across_the_real_files(shared_data):
    names = ("llmeval2_human", "autoj_human", "tulu_human_eval", "pandalm_human", "llmbar")
    tables = {name: read_all([shared_data / f"pairs/{name}.parquet"])[0] for name in names}
    prompts = near_duplicates.compare(
        {name: iter(table["prompt"].to_pylist()) for name, table in tables.items()}
    )
    exact = {
        name: {near_duplicates.normalise(p) for p in table["prompt"].to_pylist()}
        for name, table in tables.items()
    }
    for one in names:
        for other in names:
            shared = [near_duplicates.normalise(p) in exact[other] for p in tables[one]["prompt"].to_pylist()]
            reported = prompts.overlap_mask(one, other)
            assert reported[shared].all(), (one, other)
    assert prompts.overlap_mask("pandalm_human", "tulu_human_eval").sum() == 891
    near_only = prompts.overlap_mask("llmbar", "llmeval2_human")
    assert near_only.sum() > sum(
        near_duplicates.normalise(p) in exact["llmeval2_human"]
        for p in tables["llmbar"]["prompt"].to_pylist()
    )


def test_a_blank_prompt_goes_by_its_answers():
    votes = table_of(
        {"prompt": ["", None], "response_a": [a], "response_b": [b]}
        for a, b in (("x y", "z"), ("z", "x y"), ("q", "z"))
    )
    asked = list(near_duplicates.prompts_or_answers(votes.combine_chunks().to_batches()[0]))
    one, turned, other = compare_turns(asked)
    assert one == turned != other


def compare_turns(asked):
    return near_duplicates.compare({"votes": iter(asked)}).groups("votes")


def test_a_number_for_each_group_of_prompts():
    asked = [QUESTION, "Why is the sky blue?", QUESTION + " Thanks."]
    votes = [{"prompt": [text], "response_a": ["x"], "response_b": ["y"]} for text in asked]
    one, other, third = near_duplicates.prompt_groups(table_of(votes))
    assert one == third != other


def partition(asked):
    """The partition of votes by group, without the groups' names."""
    batch = table_of({"prompt": p, "response_a": [a], "response_b": [b]} for p, a, b in asked)
    names = near_duplicates.compare_votes({"votes": batch.to_batches()}).groups("votes")
    members = defaultdict(set)
    for vote, name in zip(asked, names, strict=True):
        members[name].add(repr(vote))
    return set(map(frozenset, members.values()))


ASKED = st.tuples(
    st.lists(
        st.sampled_from(
            [
                QUESTION,
                QUESTION.replace("é", "e"),
                "Why is the sky blue?",
                "Why is the sky bleu?",
                "Hi",
                "So be it. Why is the sky blue?",
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    *[st.sampled_from(["Yes.", "Because " + QUESTION, "I do not know, but this is what others say of it."])]
    * 2,
)


@settings(deadline=None, max_examples=25)
@given(st.lists(ASKED, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_to_what_is_together(asked, random):
    shuffled = random.sample(asked, len(asked))
    assert partition(asked) == partition(shuffled)


@settings(deadline=None, max_examples=25)
@given(st.lists(ASKED, min_size=1, max_size=8), st.lists(ASKED, max_size=8))
def test_appended_rows_only_join_groups(asked, more):
    def named(asked):
        batch = table_of({"prompt": p, "response_a": [a], "response_b": [b]} for p, a, b in asked)
        return near_duplicates.compare_votes({"votes": batch.to_batches()}).groups("votes")

    before, after = named(asked), named(asked + more)
    joined = dict(zip(before, after, strict=False))
    assert [joined[name] for name in before] == after[: len(asked)], "no group is cut"
    assert all(name in before for name in after[: len(asked)]), "a group keeps the name of its first prompt"


def test_other_files_lend_a_file_no_links():
    a, b = (
        "An answer that goes on for quite a while, " * 3,
        "Another that is no shorter than this one is. " * 3,
    )
    files = {
        "votes": [(QUESTION, a, b), ("Why is the sky blue?", "x", "y")],
        "extra": [("Why is the sky blue?", b, a)],
    }
    tables = {
        name: table_of({"prompt": [p], "response_a": [a], "response_b": [b]} for p, a, b in votes)
        for name, votes in files.items()
    }
    prompts = near_duplicates.compare_votes({name: table.to_batches() for name, table in tables.items()})
    assert len(set(prompts.groups("votes"))) == 2
    assert prompts.overlap_mask("votes", "extra").tolist() == [True, True]
