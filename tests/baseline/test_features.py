import numpy as np
from tiny_models import swapped

from tiebreak.baseline.features import Text, features, texts
from tiebreak.baseline.inputs import BUCKETS, Inputs
from tiebreak.votes.schema import table_of


def of(prompt: str, a: str, b: str):
    return features([Text([prompt])], [Text([a])], [Text([b])])


def test_exchanged_answers_change_the_sign_of_odd_inputs_and_nothing_of_even_ones(votes, odd_votes) -> None:
    for table in (votes, odd_votes):
        stored, exchanged = Inputs.of(table), Inputs.of(swapped(table))
        assert np.array_equal(exchanged.odd_NF, -stored.odd_NF)
        assert np.array_equal(exchanged.even_NG, stored.even_NG)
        assert (exchanged.odd_words + stored.odd_words).count_nonzero() == 0
        assert (exchanged.even_words - stored.even_words).count_nonzero() == 0
        assert np.array_equal(exchanged.dense(0), stored.dense(1))
        assert np.isfinite(stored.dense(0)).all()


def test_inputs_of_a_vote_do_not_depend_on_other_rows(votes, odd_votes) -> None:
    for table in (votes.slice(0, 20), odd_votes):
        whole = Inputs.of(table)
        for n in range(len(table)):
            alone = Inputs.of(table.slice(n, 1))
            assert np.array_equal(alone.dense(0)[0], whole.dense(0)[n])
            assert (alone.odd_words - whole.odd_words[[n]]).count_nonzero() == 0


def test_long_files_are_processed_in_parts(votes, monkeypatch) -> None:
    whole = Inputs.of(votes)
    monkeypatch.setattr("tiebreak.baseline.inputs.VOTES_AT_ONCE", 100)
    parts = Inputs.of(votes)
    assert np.array_equal(parts.dense(0), whole.dense(0))
    assert (parts.even_words - whole.even_words).count_nonzero() == 0


def test_counts_of_patterns_and_words() -> None:
    plain = of("Name two rivers.", "The Nile. The Rhine.", "The Nile. The Rhine.")
    assert not plain.odd_NF.any()
    for more in (
        "\n- x",
        "\n# x",
        "\n| x |",
        " **x**",
        " `x`",
        " ```x```",
        " 7",
        "?",
        "!",
        " sorry",
        " I can't",
        " may",
    ):
        assert of("Name two rivers.", "The Nile. The Rhine." + more, "The Nile. The Rhine.").odd_NF.any(), (
            more
        )


def test_features_distinguish_answers_by_overlap_with_the_prompt() -> None:
    """The answers have the same lengths, letters and marks, and a different overlap with the prompt."""
    found = of("Where is the silver river?", "The silver river is north.", "The golden tower is north.")
    other = of("Where is the copper house?", "The silver river is north.", "The golden tower is north.")
    assert not np.array_equal(found.odd_NF, other.odd_NF)


def test_characters_without_spaces_between_words_are_words() -> None:
    assert Text(["好的 ok नमस्ते"]).words[:3] == ["好", "的", "ok"]


def test_a_missing_side_is_an_empty_text() -> None:
    (text,) = texts(table_of([{}])["prompt"])
    assert (text.text, text.words) == ("", [])


def test_words_are_hashed_into_a_fixed_width(votes) -> None:
    seen = Inputs.of(votes)
    assert (seen.odd_words.shape, seen.even_words.shape) == ((240, BUCKETS), (240, 2 * BUCKETS))
