import pyarrow as pa
import pytest

from tiebreak.evaluate import text_features


def column(*rows: list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([list(rows)], pa.list_(pa.string()))


def test_lengths_count_characters_of_all_turns():
    assert text_features.lengths(column(["ab", None], ["日本語", "x"], [None])).tolist() == [2, 4, 0]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain - text with 3.5 * 2 and # no marks", 0),
        ("- one\n* two\n  + three\n1. four\n2) five", 5),
        ("# Heading\n\n### Another", 2),
        ("some **bold** and **more**", 2),
        ("```python\nx = 1\n```", 2),
        ("| a | b |\n|---|---|", 2),
    ],
)
def test_marks(text, count):
    assert text_features.marks(column([text])).tolist() == [count]


def test_turns():
    assert text_features.turns(column(["a"], ["a", "b", "c"])).tolist() == [1, 3]


def test_scripts():
    found = text_features.scripts(column(["What is this?"], ["Как", None, "дела?"], ["12"]))
    assert found.tolist() == ["Latin", "Cyrillic", "none"]
