"""A loaded model of a family that is not verified: its packed documents against plain transformers, on its own weights."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers.models.llama import modeling_llama

from tests.tiny_models import base, judge_folder
from tiebreak.errors import TiebreakError
from tiebreak.judge.judge import load_judge
from tiebreak.model import classifier, families, intact, self_check, weights_check
from tiebreak.recipe.models import Lora


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama as a family that nobody verified, of which the tiny random model is right."""
    monkeypatch.setattr(families, "VERIFIED", tuple(kind for kind in families.VERIFIED if kind != "llama"))


@pytest.fixture
def shipped() -> Path:
    """A judge, made while its family was right."""
    return judge_folder()


@pytest.fixture
def recurrent(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that add a little of what came before in the row, once they are as wide as the real model's."""
    plain = modeling_llama.LlamaDecoderLayer.forward

    def forward(
        self: modeling_llama.LlamaDecoderLayer, hidden_states: torch.Tensor, **others: object
    ) -> torch.Tensor:
        if hidden_states.shape[1] > 1 and self.self_attn.config.vocab_size > self_check.VOCABULARY:
            hidden_states = hidden_states + 0.1 * hidden_states.cumsum(1)
        return plain(self, hidden_states, **others)

    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", forward)


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain attention with a sink in each head, which packed attention is not told of."""

    def with_sinks(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
        scores = query @ key.transpose(2, 3) * scaling
        scores += torch.full(scores.shape[-2:], float("-inf")).triu(1)
        scores = torch.cat([scores, torch.zeros(*scores.shape[:-1], 1)], -1)
        return (scores.softmax(-1)[..., :-1] @ value).transpose(1, 2), None

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", with_sinks)
    monkeypatch.setattr(self_check, "problem", lambda _: "")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of each forward of a Llama that is not the tiny random one."""
    plain, seen = modeling_llama.LlamaModel.forward, []

    def forward(self: modeling_llama.LlamaModel, input_ids: torch.Tensor, **others: object) -> object:
        if self.config.vocab_size > self_check.VOCABULARY:
            seen.append(input_ids.shape[1])
        return plain(self, input_ids, **others)

    monkeypatch.setattr(modeling_llama.LlamaModel, "forward", forward)
    return seen


def test_a_verified_family_pays_nothing(forwards: list[int]) -> None:
    classifier.load(base("llama"))
    intact.require(base("llama"))
    assert forwards == []


@pytest.mark.usefixtures("unverified")
def test_a_right_family_is_loaded_after_a_few_forwards(forwards: list[int]) -> None:
    loaded = classifier.load(base("llama"))
    together, before, after, *alone = forwards
    assert together + alone[-1] == before == after == sum(alone)
    assert list(weights_check.differences(loaded)) == []
    assert loaded.model.config._attn_implementation == "tiebreak"


@pytest.mark.usefixtures("unverified", "recurrent")
def test_layers_that_read_the_neighbour_are_refused_with_the_real_weights() -> None:
    assert self_check.problem(json.loads((base("llama") / "config.json").read_text())) == ""
    for load in (classifier.load, intact.require, partial(classifier.load_adapted, lora=Lora(rank=2))):
        arguments = (
            {}
            if load in (classifier.load, intact.require)
            else {"adapter": None, "precision": "fp32", "device": "cpu"}
        )
        with pytest.raises(
            TiebreakError,
            match=r"llama is of the family 'llama', which tiebreak cannot run: with its own weights, for documents packed "
            r"together its logits are \d[\d.]* standard deviations off plain transformers', where rounding in fp32 is below 0.001. "
            "Verified families: arcee,",
        ):
            load(base("llama"), **arguments)


@pytest.mark.usefixtures("unverified", "recurrent")
def test_a_shipped_judge_is_refused_too(shipped: Path) -> None:
    with pytest.raises(TiebreakError, match="with its own weights, for documents packed together"):
        load_judge(shipped, "cpu")


@pytest.mark.usefixtures("unverified", "sinks")
def test_attention_with_sinks_is_refused_with_the_real_weights() -> None:
    with pytest.raises(
        TiebreakError,
        match=r"with its own weights, for documents packed together its logits are 0\.\d+ standard",
    ):
        classifier.load(base("llama"))


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_rounding_is_no_difference(precision: str) -> None:
    loaded = classifier.load_adapted(base("llama", 64), Lora(rank=2), None, precision, "cpu")
    assert list(weights_check.differences(loaded)) == []


@pytest.mark.usefixtures("unverified", "recurrent")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_nor_does_it_hide_a_neighbour(precision: str) -> None:
    with pytest.raises(TiebreakError, match="with its own weights"):
        classifier.load_adapted(base("llama", 64), Lora(rank=2), None, precision, "cpu")
