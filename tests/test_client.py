"""The client: what a server's one order gives, made into what the judge itself predicts."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from classifier_server import serving
from fake_hub import OWNER, FakeHub, fake_hub, use
from shipped_judge import ship
from tiny_models import votes

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
OF_VLLM = 5e-5
"""As far as logits, of a range of about 30, were apart: vLLM's kernels add in another order."""


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


def test_columns_of_other_names_are_mapped(url: str, folder: Path, judge: Judge) -> None:
    rows = [{"ask": "Why?", "texts": ["Because.", "No."]}]
    columns = {"prompt": "ask", "response_a": "texts.0", "response_b": "texts.1"}
    found = Client(url, folder).predict(rows, columns=columns)
    np.testing.assert_allclose(found, judge.predict(PAIRS[:1]), atol=TOLERANCE)


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
        rows, columns = [PAIRS[0] | {"prompt": None, "ask": "Why?"}], {"prompt": "ask"}
        np.testing.assert_allclose(
            client.predict(rows, columns=columns), judge.predict(PAIRS[:1]), atol=TOLERANCE
        )
        assert client.predict([]).shape == (0, 3)
        with pytest.raises(TiebreakError, match="leave out `both`"):
            client.predict(many, both=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as server:
        use(server.url, tmp_path / "cache", monkeypatch)
        yield server


def test_a_model_of_the_hub_is_taken_by_name_without_its_weights(
    hub: FakeHub, url: str, folder: Path, judge: Judge, tmp_path: Path
) -> None:
    from tiebreak.commands.push import push

    name = f"{OWNER}/judge"
    model = shutil.copytree(folder, tmp_path / "model")
    (model / "README.md").write_text("# judge\n")
    push(model, name)
    for client in (Client(url, name), Client(url, name, revision="main")):
        np.testing.assert_allclose(client.predict(PAIRS), judge.predict(PAIRS), atol=TOLERANCE)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    with pytest.raises(TiebreakError, match=r"ada/gone"):
        Client(url, f"{OWNER}/gone")


def test_vllm_itself(tmp_path: Path) -> None:
    """Its own server, in 32 bits, of the program that TIEBREAK_TEST_VLLM names; heads of its kernels are 32 wide or more."""
    program = os.environ.get("TIEBREAK_TEST_VLLM")
    if program is None:
        pytest.skip("name the program vllm of an environment of its own in TIEBREAK_TEST_VLLM")
    folder = ship(tmp_path / "model", seed=3, hidden=256)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        "serve",
        str(folder),
        "--runner",
        "pooling",
        "--max-model-len",
        "2000",
        "--dtype",
        "float32",
    ]
    surroundings = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    surroundings = {name: value for name, value in surroundings.items() if name != "PYTHONPATH"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"],
            cwd=tmp_path, env=surroundings, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        while not _answers(f"{url}/health"):
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(1)
        own = tiebreak.load(folder, device="cpu", precision="fp32")
        table = votes(100, seed=5)
        np.testing.assert_allclose(Client(url, folder).predict(table), own.predict(table), atol=OF_VLLM)
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False
