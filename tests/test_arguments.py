"""Tests of the Python interface: an argument of another type is an error that names it, wherever it is given."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tiny_models import judge_folder

import tiebreak
from tiebreak import rewards
from tiebreak.arguments import checked
from tiebreak.client import Client
from tiebreak.errors import TiebreakError
from tiebreak.judge.ensemble import Ensemble
from tiebreak.judge.inputs import as_table
from tiebreak.judge.judge import Judge

PAIRS = [{"prompt": "Why?", "response_a": "So.", "response_b": "No."}]
TABLE = as_table(PAIRS)[0]
METHODS = (
    "predict",
    "rank",
    "decide",
    "prediction_sets",
    "next_pairs",
    "predict_table",
    "judgements",
    "logits",
)
ADAPTERS = (rewards.trl, rewards.openrlhf, rewards.verl, rewards.verl_batch)


@checked
def _function(
    a: str | Path = "",
    b: int = 0,
    c: float | None = None,
    d: bool = True,
    e: Mapping[str, str] | None = None,
    f: Sequence[float] = (),
    g: Literal["x", "y"] = "x",
    h: Callable[..., Any] = print,
    i: Any = None,
    j: str | Iterable[str] = "",
    *k: int,
    **m: Any,
) -> str:
    return "called"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("a", value) for value in ("x", Path("x"))),
        *(("b", value) for value in (-1, np.int64(1))),
        *(("c", value) for value in (None, 1, 0.5, np.float32(0.5), np.int32(1))),
        *(("d", value) for value in (True, False)),
        *(("e", value) for value in (None, {}, {"a": "b"})),
        *(("f", value) for value in ([], (1, 2.0), np.ones(3), [np.float64(1)])),
        ("g", "z"),  # which the function tells with what is meant
        ("h", len),
        *(("i", value) for value in (None, 3, print)),
        *(("j", value) for value in ("x", 3)),  # the function looks at what it can go through
        ("other", 3),
    ],
)
def test_what_fits_is_passed_on(name: str, value: Any) -> None:
    assert _function(**{name: value}) == "called"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("a", value, "str | Path") for value in (None, 5, b"x", ["x"])),
        *(("b", value, "int") for value in (None, "1", 1.0, True, np.float64(1))),
        *(("c", value, "float | None") for value in ("1", True, [1.0], 1j)),
        *(("d", value, "bool") for value in (None, 1, "yes")),
        *(("e", value, "Mapping[str, str] | None") for value in ("a", ["a"], {"a": 1}, {1: "a"})),
        *(("f", value, "Sequence[float]") for value in (None, 3, "12", ["1"], {1: 2}, [True], iter([1]))),
        *(("g", value, "Literal['x', 'y']") for value in (None, 3)),
        ("h", None, "Callable[..., Any]"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: Any, expected: str) -> None:
    with pytest.raises(TiebreakError) as told:
        _function(**{name: value})
    assert str(told.value) == f"{name} takes {expected}, not {value!r:.60}"


def test_a_checked_function_is_documented_as_it_was() -> None:
    assert inspect.signature(tiebreak.load).parameters["folder"].annotation == str | Path
    assert tiebreak.load.__doc__ is not None
    with pytest.raises(TypeError, match="missing a required argument: 'folder'"):
        tiebreak.load()  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return tiebreak.load(judge_folder(), device="cpu")


def _interface(judge: Judge) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Every public function, with what it needs."""
    needed = {"pairs": PAIRS, "prompt": "Why?", "responses": ["a", "b"], "table": TABLE, "both": True}
    methods = {name: getattr(judge, name) for name in METHODS}
    given = {
        name: {key: value for key, value in needed.items() if key in _required(method)}
        for name, method in methods.items()
    }
    return [
        (tiebreak.load, {"folder": judge.folder}),
        (tiebreak.compare, {"judge": judge, "outputs": []}),
        (tiebreak.leaderboard, {"votes": []}),
        *((method, given[name]) for name, method in methods.items()),
        *((adapter, {"judge": judge}) for adapter in ADAPTERS),
        (rewards.trl(judge), {"prompts": ["Why?"], "completions": ["So."]}),
        (rewards.openrlhf(judge), {"queries": ["Why?So."], "prompts": ["Why?"], "labels": ["No."]}),
        (Client, {"url": "http://localhost:1"}),
        (partial(Client.predict, None), {"pairs": PAIRS}),
        (Ensemble, {"folders": [judge.folder]}),
        (Ensemble([judge.folder]).fit, {"votes": "votes.csv"}),
        (Ensemble([judge.folder]).predict, {"pairs": PAIRS}),
    ]


def _required(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def test_every_argument_of_the_interface_is_looked_at(judge: Judge) -> None:
    looked_at = 0
    for function, given in _interface(judge):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.annotation is Any or name in ("pairs", "responses"):
                continue
            with pytest.raises(TiebreakError, match=rf"^{name} takes .*, not <object object"):
                function(**given | {name: object()})
            looked_at += 1
    assert looked_at == 62


@pytest.mark.parametrize("value", [None, 5, object(), b"a", [None], [b"a"], "no such file", "", "a\0b", {}])
def test_pairs_of_any_kind_are_told(judge: Judge, value: Any) -> None:
    for function in (judge.predict, judge.decide, judge.prediction_sets, Ensemble([judge.folder]).predict):
        with pytest.raises(TiebreakError):
            function(value)


@pytest.mark.parametrize("responses", [None, 5, "ab", {"a": "b"}, [5, 6], [None, {}], {"a", "b"}, []])
def test_responses_of_any_kind_are_told(judge: Judge, responses: Any) -> None:
    with pytest.raises(TiebreakError, match="cannot rank"):
        judge.rank("Why?", responses)


def test_values_that_no_call_can_have_are_told(judge: Judge) -> None:
    with pytest.raises(TiebreakError, match="score_tokens, the tokens of one forward, are 1 or more, not 0"):
        tiebreak.load(judge.folder, score_tokens=0)
    for odd in ({"at_once": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"timeout": float("inf")}):
        with pytest.raises(TiebreakError, match="at_once takes 1 or more requests and timeout some seconds"):
            Client("http://localhost:1", **odd)  # type: ignore[arg-type]
    with pytest.raises(TiebreakError, match="takes a list of model folders, not an empty one"):
        Ensemble([])
    with pytest.raises(TiebreakError, match="extra_info is to be a dict with 'question'"):
        rewards.verl(judge)("set", "answer", "truth", 5)
    with pytest.raises(TiebreakError, match="as many of each: 1 queries, 2 prompts, 1 labels"):
        rewards.openrlhf(judge)(["Why?So."], ["Why?", "Who?"], ["No."])
