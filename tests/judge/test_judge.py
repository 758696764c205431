"""The judge: a shipped folder, loaded as by a user."""

import json
import math
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import FOR_KERNELS, base, judge_folder, swapped, votes
from transformers import AutoModelForSequenceClassification

import tiebreak
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.ensemble import Ensemble
from tiebreak.judge.rules import KINDS
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.votes.schema import swap_answers

TEMPERATURE = 1.7

PAIR = {"prompt": "Why?", "response_a": "Because.", "response_b": "No."}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ship(base("gemma2"), tmp_path_factory.mktemp("shipped") / "model")


def ship(bare: Path, folder: Path) -> Path:
    """A model with a score head, as a run would leave it."""
    model = classifier.load(bare, device="cpu")
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, folder)
    shipped = package.Package(
        prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": TEMPERATURE}
    )
    package.write(shipped, folder)
    return folder


def test_equals_plain_transformers_one_pair_at_a_time(shipped: Path) -> None:
    table = votes(6)
    plain = AutoModelForSequenceClassification.from_pretrained(shipped, attn_implementation="eager")
    judge = tiebreak.load(shipped, device="cpu")
    from tiebreak.tokens.prompt import tokenize

    tokens = tokenize(table, judge.classifier.tokenizer, Prompt())
    expected = []
    for vote in range(6):
        with torch.no_grad():
            one, other = (
                plain(torch.from_numpy(tokens.row(vote, order, 120)).long()[None], use_cache=False)
                .logits[0]
                .double()
                .softmax(-1)
                for order in (0, 1)
            )
        mean = (one + other[[1, 0, 2]]) / 2
        expected.append(((mean.log() / TEMPERATURE).softmax(-1)).tolist())
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(judge.predict(table), expected, atol=1e-5)


def test_dicts_tables_and_turns_give_equal_predictions(shipped: Path) -> None:
    judge = tiebreak.load(str(shipped), device="cpu")
    table = votes(3)
    as_dicts = [
        {key: row[key][0] for key in ("prompt", "response_a", "response_b")} for row in table.to_pylist()
    ]
    expected = judge.predict(table)
    assert expected.shape == (3, 3)
    np.testing.assert_allclose(expected.sum(1), 1, atol=1e-12)
    assert np.array_equal(judge.predict(as_dicts), expected)
    assert judge.predict([]).shape == (0, 3)


def test_swapping_the_answers_swaps_the_probabilities(shipped: Path) -> None:
    judge = tiebreak.load(shipped, device="cpu")
    table, other = votes(8), swapped(votes(8))
    assert np.array_equal(judge.predict(other), swap_answers(judge.predict(table))), "to the last bit"
    one_order = judge.predict(table, both=False)
    assert not np.allclose(judge.predict(other, both=False), swap_answers(one_order))


def test_predictions_do_not_depend_on_other_rows_order_or_batch(shipped: Path) -> None:
    table = votes(20)
    judge = tiebreak.load(shipped, device="cpu")
    expected = judge.predict(table)
    one_by_one = np.concatenate([judge.predict(table.slice(n, 1)) for n in range(20)])
    shuffle = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(one_by_one, expected, atol=1e-5)
    np.testing.assert_allclose(judge.predict(table.take(shuffle)), expected[shuffle], atol=1e-5)
    small = tiebreak.load(shipped, device="cpu", score_tokens=1)
    np.testing.assert_allclose(small.predict(table), expected, atol=1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA cards")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_the_second_card_predicts_as_the_first(tmp_path: Path, precision: str) -> None:
    """The current card stays the first: kernels that went there would not find the second's weights."""
    table, model = votes(30), ship(base("llama", FOR_KERNELS), tmp_path / "model")
    judges = [tiebreak.load(model, device=f"cuda:{n}", precision=precision) for n in (0, 1)]
    first, second = (judge.predict(table) for judge in judges)
    assert torch.cuda.current_device() == 0
    assert all(judge.classifier.fixed for judge in judges), "by the kernels"
    np.testing.assert_allclose(second, first, atol=1e-3)


def test_an_untrained_head_is_an_error(tmp_path: Path) -> None:
    bare = classifier.load(base("llama"))
    bare.model.model.save_pretrained(tmp_path / "model")
    bare.tokenizer.save_pretrained(tmp_path / "model")
    package.write(
        package.Package(prompt=Prompt(), tta=Tta(), calibration={"temperature": 1.0}), tmp_path / "model"
    )
    with pytest.raises(TiebreakError, match="score head was never trained"):
        tiebreak.load(tmp_path / "model", device="cpu").predict(votes(1))


def test_a_folder_without_a_model_is_an_error(tmp_path: Path, shipped: Path) -> None:
    with pytest.raises(TiebreakError, match="no model folder"):
        tiebreak.load(tmp_path / "nowhere")
    with pytest.raises(TiebreakError, match=r"has no tiebreak\.json"):
        tiebreak.load(base("llama"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tiebreak.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(TiebreakError, match="damaged"):
        tiebreak.load(damaged)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_with_another_content_is_refused(shipped: Path, tmp_path: Path, name: str) -> None:
    """Of the same size, and read without complaint otherwise: the judge would say something else in silence."""
    folder = Path(shutil.copytree(shipped, tmp_path / "model"))
    content = (folder / name).read_bytes()
    at = len(content) - 3 if name == "model.safetensors" else content.index(b" ")
    (folder / name).write_bytes(content[:at] + (b"\n" if content[at] == 32 else b"\x3c") + content[at + 1 :])
    tiebreak.load(shipped, device="cpu")
    with pytest.raises(TiebreakError, match=f"the content of {name} is not what was written; copy the whole"):
        tiebreak.load(folder, device="cpu")
    kept = json.loads((folder / "tiebreak.json").read_text())
    assert kept["files"].pop(name)
    (folder / "tiebreak.json").write_text(json.dumps(kept))
    tiebreak.load(folder, device="cpu")  # what the message says of a file that was changed on purpose


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("cuda", 0, "no device 'cuda' here: torch sees 0 GPUs; .*Valid: cpu$"),
        ("gpu", 0, "no device 'gpu' here: torch sees 0 GPUs; .*Valid: cpu$"),
        ("gpu", 1, "no device 'gpu' here: torch sees 1 GPUs; .*Valid: cpu, cuda, cuda:0$"),
        ("cuda:1", 1, "did you mean 'cuda:0'"),
    ],
)
def test_a_device_that_is_not_here_is_an_error(
    device: str, count: int, message: str, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with pytest.raises(TiebreakError, match=message):
        tiebreak.load(shipped, device=device)


def test_a_pair_without_an_answer_is_named(shipped: Path) -> None:
    judge = tiebreak.load(shipped, device="cpu")
    with pytest.raises(TiebreakError, match="pair 1: missing columns: response_b; a pair is"):
        judge.predict(
            [{"prompt": "p", "response_a": "a", "response_b": "b"}, {"prompt": "p", "response_a": "a"}]
        )
    assert isinstance(
        judge.predict(pa.table({c: ["x"] for c in ("prompt", "response_a", "response_b")})), np.ndarray
    )
    assert math.isclose(judge.postprocessing.calibration.temperature_, TEMPERATURE)


def test_a_file_is_read_whole_or_not_at_all(shipped: Path, tmp_path: Path) -> None:
    judge = tiebreak.load(shipped, device="cpu")
    pairs = [{"id": str(n), "prompt": "p", "response_a": f"a{n}", "response_b": "b"} for n in range(3)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert np.array_equal(judge.predict(file), judge.predict(pairs))
    with file.open("a") as more:
        more.write("{broken\n")
    with pytest.raises(TiebreakError, match=r"1 of the rows in .* the first is row 4"):
        judge.predict(str(file))


def test_columns_of_other_names_are_the_same_pairs(tmp_path: Path) -> None:
    pair = {"prompt": "p", "response_a": "a", "response_b": "b"}
    named = {"q": "p", "texts": {"x": "a", "y": "b"}}
    columns = {"prompt": "q", "response_a": "texts.x", "response_b": "texts.y"}
    (tmp_path / "named.jsonl").write_text(json.dumps(named))
    folder = judge_folder(guarantees=True)
    judge = tiebreak.load(folder, device="cpu")
    expected = judge.predict(pair)
    for pairs in (named, [named], tmp_path / "named.jsonl"):
        assert np.array_equal(judge.predict(pairs, columns=columns), expected)
    assert np.array_equal(Ensemble([folder], device="cpu").predict(named, columns=columns), expected)
    assert judge.decide(named, 0.5, columns=columns).labels == judge.decide(pair, 0.5).labels
    assert judge.prediction_sets(named, columns=columns) == judge.prediction_sets(pair)


def test_a_file_without_rows_is_an_error(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("id,text\n")
    with pytest.raises(TiebreakError, match="no rows in "):
        tiebreak.load(shipped, device="cpu").predict(tmp_path / "pairs.csv")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{")])
def test_a_damaged_folder_is_an_error(shipped: Path, tmp_path: Path, file: str, damage) -> None:
    shutil.copytree(shipped, tmp_path / "model")
    damage(tmp_path / "model" / file)
    with pytest.raises(
        TiebreakError, match=r"damaged or not whole|is no model folder|cannot load a classifier"
    ):
        tiebreak.load(tmp_path / "model", device="cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(shipped: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(shipped, tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    with pytest.raises(
        TiebreakError, match=f"damaged or not whole: it has no {re.escape(file)}; copy the whole folder again"
    ):
        tiebreak.load(tmp_path / "model", device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": {"temperature": 0}},
        {"calibration": {"temperature": float("inf")}},
        {"calibration": {"coef": [[1, 0, 0]], "intercept": [0, 0, 0]}},
        {"calibration": {"coef": [["a"] * 3] * 3, "intercept": [0, 0, 0]}},
        {"calibration": {"coef": [[10**400, 0, 0], [0, 10**400, 0], [0, 0, 1]], "intercept": [0, 0, 0]}},
        {"calibration": {"temperature": 10**400}},
        {"calibration": {"coef": [[1, 0, 0], [0, 2, 0], [0, 0, 1]], "intercept": [0, 0, 0]}},
        {"calibration": {"coef": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "intercept": [0, 1, 0]}},
        {"calibration": {"coef": [[1, 0, 0], [0, 1], [0, 0, 1]], "intercept": [0, 0, 0]}},
        {"calibration": []},
        {"format": 99},
        {"prompt": {"template": "own"}},
        {"tta": None},
        {"tta": {"max_tokens": "many"}},
        {"rules": []},
        {"rules": {"strength": 10.0}},
        {"rules": {"strength": -1.0, "counts": {kind: [1, 1, 1] for kind in KINDS}}},
        {"rules": {"strength": 1.0, "counts": {kind: [1, -1, 1] for kind in KINDS}}},
        {"rules": {"strength": 1.0, "counts": {kind: [1, 1] for kind in KINDS}}},
        {"rules": {"strength": 1.0, "counts": dict.fromkeys(KINDS, "abc")}},
        {"blend": {"kind": "own"}},
        {"blend": 3},
        {"files": []},
        {"files": {"a\0b": "0"}},
        {"certain_from": "often"},
    ],
)
def test_an_invalid_package_is_refused(shipped: Path, tmp_path: Path, change: dict) -> None:
    shutil.copytree(shipped, tmp_path / "model")
    path = tmp_path / "model" / "tiebreak.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TiebreakError, match=rf"is damaged: {next(iter(change))}[.:]"):
        tiebreak.load(tmp_path / "model", device="cpu")


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "\xff", "[" * 100_000, '{"a": 1, "a": 1}', None])
def test_a_package_that_is_none(shipped: Path, tmp_path: Path, content: str | None) -> None:
    folder = Path(shutil.copytree(shipped, tmp_path / "model"))
    (folder / package.NAME).unlink()
    if content is None:
        (folder / package.NAME).mkdir()
    else:
        (folder / package.NAME).write_text(content, encoding="latin-1")
    with pytest.raises(
        TiebreakError, match=r"tiebreak\.json (is damaged: |cannot be read: |is a folder, not a file; )"
    ):
        tiebreak.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "[]"),
        ("config.json", "3"),
        ("config.json", '{"model_type": "llama", "quantization_config": 3}'),
        ("config.json", '{"model_type": "llama", "num_hidden_layers": "2"}'),
        ("config.json", '{"model_type": "gpt2"}'),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[]"),
    ],
)
def test_a_folder_that_was_made_odd_is_refused(
    shipped: Path, tmp_path: Path, file: str, content: str
) -> None:
    """With hashes that say that it is whole."""
    folder = Path(shutil.copytree(shipped, tmp_path / "model"))
    (folder / file).write_text(content)
    package.write(package.read(folder), folder)
    with pytest.raises(TiebreakError) as caught:
        tiebreak.load(folder, device="cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e300])
def test_a_temperature_that_makes_no_probabilities_is_refused(
    shipped: Path, tmp_path: Path, temperature: float
) -> None:
    folder = Path(shutil.copytree(shipped, tmp_path / "model"))
    state = json.loads((folder / package.NAME).read_text())
    (folder / package.NAME).write_text(json.dumps(state | {"calibration": {"temperature": temperature}}))
    with pytest.raises(TiebreakError, match="is no calibration"):
        tiebreak.load(folder, device="cpu")


def test_weights_that_make_no_probabilities_are_told_at_prediction(shipped: Path) -> None:
    judge = tiebreak.load(shipped, device="cpu")
    judge.classifier.model.score.weight.data[0, 0] = float("nan")
    with pytest.raises(TiebreakError, match=r"gives no probabilities for 3 of 3 pairs, such as \[nan"):
        judge.predict(votes(3))


def test_pairs_that_differ_only_after_the_cut_are_told(
    shipped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = tiebreak.load(shipped, device="cpu")
    same = "blue " * 3 * judge.package.tta.max_tokens
    pairs = [
        {"prompt": "why", "response_a": same + "sky", "response_b": same + "red"},
        {"prompt": "why", "response_a": "sky", "response_b": "red"},
    ]
    judge.predict(pairs)
    assert "1 of 2 pairs have answers that differ only after the cut at" in caplog.text


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_folders_own_code_is_never_run(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = Path(shutil.copytree(shipped, tmp_path / "model"))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    classes = ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    state = json.loads((folder / file).read_text()) | {"auto_map": dict.fromkeys(classes, "evil.Evil")}
    (folder / file).write_text(json.dumps(state))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with suppress(TiebreakError):
        tiebreak.load(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("pairs", [5, None, b"x", {"a"}, ["prompt"]])
def test_what_is_no_list_of_pairs_is_refused(shipped: Path, pairs: Any) -> None:
    with pytest.raises(TiebreakError, match="a pair is a dict with prompt, response_a, response_b"):
        tiebreak.load(shipped).predict(pairs)


def test_a_set_has_no_order(shipped: Path) -> None:
    with pytest.raises(TiebreakError, match="response_a is neither text nor a list: set"):
        tiebreak.load(shipped).predict([PAIR | {"response_a": {"x", "y"}}])


@pytest.mark.parametrize(
    ("responses", "pairs", "why"),
    [
        ({"x", "y"}, None, "responses are a list, not {'"),
        (None, None, "responses are a list, not None"),
        (b"xy", None, "responses are a list, not b'xy'"),
        (["x", "y"], 1.5, "pairs takes int | None, not 1.5"),
    ],
)
def test_what_cannot_be_ranked_is_refused(shipped: Path, responses: Any, pairs: Any, why: str) -> None:
    with pytest.raises(TiebreakError, match=re.escape(why)):
        tiebreak.load(shipped).rank("Why?", responses, pairs)
