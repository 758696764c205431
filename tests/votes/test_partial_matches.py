import pytest

from tiebreak.votes import near_duplicates, partial_matches
from tiebreak.votes.schema import table_of

QUESTION = "Why is the sky blue?"
OTHER = "How do whales sleep under water?"
ANSWERS = (
    "Air scatters short waves of light more than long ones, which is why blue comes from everywhere.",
    "It reflects the oceans, or so many people believe; but that has long been known to be wrong.",
)


def together(*votes):
    """True if votes of (prompt, one answer, other answer) are all in one group, and true if each is in its own."""
    table = table_of(
        {"prompt": prompt, "response_a": [a], "response_b": [b]} for prompt, a, b in votes
    ).combine_chunks()
    names = near_duplicates.compare_votes({"votes": table.to_batches()}).groups("votes")
    assert len(set(names)) in (1, len(votes))
    return len(set(names)) == 1


def asked(*prompts):
    return [(prompt, f"{n} one", f"{n} two") for n, prompt in enumerate(prompts)]


@pytest.mark.parametrize(
    "prompt",
    [
        [QUESTION, "And why is it red in the evening, when the sun goes down?"],
        [QUESTION, "And why red?", "And green?", "Thanks."],
        ["You are a helpful assistant.\n\n" + QUESTION],
        ["System: You are an expert. Think step by step.\nUser: " + QUESTION],
        ["Answer briefly, in one sentence, as for a child of ten years: why is the sky blue"],
        ["You are a helpful assistant.\n" * 30 + QUESTION],
        ["You are a helpful assistant.\n\n" + QUESTION, "And why red?"],
        ["Tell me something about light, please.", QUESTION],
        [None, QUESTION],
    ],
)
def test_a_question_with_something_around_it(prompt):
    assert together(*asked([QUESTION], prompt))
    assert together(*asked(prompt, [QUESTION]))
    assert not together(*asked([OTHER], prompt))


def test_conversations_with_the_same_first_turns_are_linked():
    assert together(*asked([QUESTION, "And why is grass green?"], [QUESTION, "Really? Who says that?"]))
    assert not together(*asked([OTHER, "And why is grass green?"], [QUESTION, "And why is grass green?"]))


def test_instructions_with_the_same_end_are_not_linked():
    end = " Please answer in a single paragraph of no more than a hundred words."
    assert not together(*asked([QUESTION + end], [OTHER + end]))


@pytest.mark.parametrize("greeting", ["Hi", "Hello there!", "Hello, how are you?"])
def test_a_greeting_is_no_copy(greeting):
    assert not together(*asked([greeting, QUESTION], [greeting, OTHER], [greeting]))


def test_the_same_answers_in_either_order():
    a, b = ANSWERS
    assert together(([QUESTION], a, b), ([OTHER], a, b))
    assert together(([QUESTION], a, b), ([OTHER], b.upper(), a.replace(" ", "\n")))
    assert not together(([QUESTION], a, b), ([OTHER], a, f"{b} Is it?"))
    assert not together(([QUESTION], a, b), ([OTHER], a, a))


@pytest.mark.parametrize(
    "answers",
    [
        ("Yes.", "No."),
        (None, None),
        ("", None),
        ("ha" * 500, "ha" * 400),
        (
            "I'm sorry, but I can't help with that. " + ANSWERS[0],
            "As an AI language model, I must not. " + ANSWERS[1],
        ),
    ],
)
def test_answers_that_say_nothing_link_nothing(answers):
    assert not together(([QUESTION], *answers), ([OTHER], *answers))


def test_what_many_have_in_common_links_none_of_them():
    for kind in (
        lambda n: ([f"Tell me about number {n * 7919}."], *ANSWERS),
        lambda n: ([OTHER, f"I see {n * 7919} {n**7}."], f"{n} one", f"{n} two"),
    ):
        assert together(*map(kind, range(partial_matches.MANY)))
        assert not together(*map(kind, range(partial_matches.MANY + 1)))


def test_a_blank_prompt_with_one_answer_of_another_is_its_own():
    a, b = ANSWERS
    assert not together(([" "], a, b), ([None], a, "Because."))
    assert together(([" "], a, b), ([QUESTION], b, a))
