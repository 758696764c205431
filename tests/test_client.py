"""The client: what a server's one order gives, made into what the judge itself predicts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from classifier_server import serving
from shipped_judge import ship

import tiebreak
from tiebreak.client import Client
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.judge import Judge
from tiebreak.judge.rules import KINDS
from tiebreak.recipe.schema import Prompt

pytestmark = pytest.mark.slow

PAIRS = [
    {"prompt": "Why?", "response_a": "Because.", "response_b": "No."},
    {"prompt": ["One?", "Two?"], "response_a": ["1", "2"], "response_b": ["uno", "dos"]},
    {"prompt": "long " * 300, "response_a": "a " * 300, "response_b": "b " * 400},
    {"prompt": "Same?", "response_a": "yes", "response_b": "yes"},
    {"prompt": "Empty?", "response_a": "", "response_b": "yes"},
    {"prompt": "<|eos|></s>", "response_a": "ä\n日本", "response_b": "x"},
]
TOLERANCE = 1e-5
"""Of probabilities: the judge packs rows, a server computes each by itself, both in 32 bits."""


@pytest.fixture(scope="module")
def folder(once: Callable[..., Path]) -> Path:
    """A judge with rules, calibration and both orders for the uncertain half."""

    def make(place: Path) -> None:
        made = package.read(ship(place / "model", seed=3))
        counts = dict(zip(KINDS[1:], ([9, 1, 2], [1, 9, 2], [0, 0, 9], [1, 1, 8]), strict=True))
        rules = {"strength": 2.0, "counts": counts}
        package.write(
            made.model_copy(update={"rules": rules, "prompt": Prompt(prompt_tokens=40)}), place / "model"
        )

    return once("client", make) / "model"


@pytest.fixture(scope="module")
def judge(folder: Path) -> Judge:
    return tiebreak.load(folder, device="cpu")


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    with serving(folder, request.param) as address:
        yield address


@pytest.mark.parametrize("both", [None, True, False])
def test_predictions_are_the_judges_own(url: str, folder: Path, judge: Judge, both: bool | None) -> None:
    served, own = Client(url, folder).predict(PAIRS, both), judge.predict(PAIRS, both)
    np.testing.assert_allclose(served, own, atol=TOLERANCE)
    assert np.ptp(own[:, 0]) > 0.1, "pairs differ by more than the tolerance"


def test_a_swap_swaps_the_probabilities(url: str, folder: Path) -> None:
    client = Client(url, folder)
    swapped = [{**pair, "response_a": pair["response_b"], "response_b": pair["response_a"]} for pair in PAIRS]
    np.testing.assert_allclose(client.predict(swapped)[:, [1, 0, 2]], client.predict(PAIRS), atol=TOLERANCE)


def test_no_pairs_are_no_request(url: str, folder: Path) -> None:
    assert Client(url, folder).predict([]).shape == (0, 3)


def test_only_uncertain_pairs_are_shown_in_both_orders(folder: Path, tmp_path: Path, judge: Judge) -> None:
    """With the threshold that the package has for that, as the judge does."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / package.NAME).unlink()
    made = package.read(folder).model_copy(update={"certain_from": 0.5})
    (tmp_path / package.NAME).write_text(made.model_dump_json())
    with serving(folder, "vllm") as address:
        served = Client(address, tmp_path).predict(PAIRS)
    np.testing.assert_allclose(served, tiebreak.load(tmp_path, device="cpu").predict(PAIRS), atol=TOLERANCE)
    assert np.abs(served - judge.predict(PAIRS)).max() > TOLERANCE


def test_a_key_is_sent(folder: Path) -> None:
    with serving(folder, "vllm", key="sesame") as address:
        assert Client(address, folder, api_key="sesame").predict(PAIRS[:1]).shape == (1, 3)
        with pytest.raises(TiebreakError, match=r"/v1/models answers 401: .*Unauthorized"):
            Client(address, folder)


def test_a_plain_server_needs_the_model(url: str) -> None:
    with pytest.raises(TiebreakError, match="name the model folder"):
        Client(url)


def test_other_servers_are_named(folder: Path) -> None:
    with (
        serving(folder, "llamacpp") as address,
        pytest.raises(TiebreakError, match="owned by 'llamacpp'; known are vllm, sglang, tiebreak"),
    ):
        Client(address, folder)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "localhost:9", "http://[", "nonsense"])
def test_a_server_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(TiebreakError) as error:
        Client(address, timeout=5)
    assert address in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_judges_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match=r"no tiebreak\.json"):
        Client(url, tmp_path)


def test_tiebreak_serve_needs_no_model(folder: Path, judge: Judge) -> None:
    """It cuts, turns and calibrates itself; more pairs than a request holds are several requests."""
    served = pytest.importorskip("served", reason="tiebreak serve is not part of this version")
    many = PAIRS * 15
    with served.served(folder) as (_, address):
        client = Client(address)
        np.testing.assert_allclose(client.predict(many), judge.predict(many), atol=TOLERANCE)
        assert client.predict([]).shape == (0, 3)
        with pytest.raises(TiebreakError, match="leave out `both`"):
            client.predict(many, both=True)
