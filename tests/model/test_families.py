"""Families: which are verified, what is refused, and what a row may hold."""

import pytest
import torch
from transformers import CONFIG_MAPPING

from tiebreak.errors import TiebreakError
from tiebreak.model import families, self_check
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast.compile import HEAD_SIZES
from tiebreak.model.fast.fuse import fuse
from tiebreak.tokens.packing import pack

pytestmark = pytest.mark.slow


def config_of(kind: str, **settings: object) -> dict:
    return CONFIG_MAPPING[kind](**settings).to_dict()


@pytest.mark.parametrize("kind", families.VERIFIED)
def test_a_verified_family_equals_plain_transformers(kind: str) -> None:
    """With windows, since the tiny model's are shorter than its longest document."""
    assert self_check.problem(config_of(kind)) == ""
    assert families.is_verified(config_of(kind))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's interpreter is for machines without a GPU")
@pytest.mark.parametrize("kind", families.VERIFIED)
def test_the_kernels_of_a_gpu_equal_plain_transformers(kind: str) -> None:
    pytest.importorskip("tiebreak.model.fast.flash_attention", exc_type=ImportError)
    config = self_check.tiny(CONFIG_MAPPING[kind]())
    if (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    ) not in HEAD_SIZES:
        pytest.skip("heads of this size take the portable attention")
    torch.manual_seed(0)
    ours, plain = self_check._model(config, "tiebreak"), self_check._model(config, "eager")
    self_check._randomise(ours)
    plain.load_state_dict(ours.state_dict())
    documents = [self_check._document(length, length) for length in (5, 17, 70)]
    expected = torch.cat([self_check._plain_logits(plain, document) for document in documents])
    fuse(ours, "dense", torch.float32, "cpu", None, 0)
    with torch.no_grad():
        got = Classifier(ours, None, head_trained=False).logits(pack(documents, tokens=128))
    assert (got - expected).abs().max() < self_check.TOLERANCE * expected.std()


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 48,
    "long_factor": [4.0] * 48,
}
UNFIT = {
    "qwen3_next": ({}, "for documents packed together its logits are .* off"),
    "gpt_oss": ({}, "its attention takes s_aux, which packed documents do not know"),
    "gemma3_text": ({"use_bidirectional_attention": True}, "for a document by itself its logits are .* off"),
    "gemma3": ({}, "reads more than text, around a decoder 'gemma3_text'; name a folder of that decoder"),
    "gpt2": ({}, "its class GPT2ForSequenceClassification has no model.layers"),
    "stablelm": ({}, "its layers do not tell attention which tokens are one document"),
    "bert": ({}, "its class BertForSequenceClassification has no model.layers"),
    "t5": ({}, "it is an encoder and a decoder"),
    "mamba": ({}, "transformers has no AutoModelForSequenceClassification of it"),
    "jamba": ({}, "for documents packed together its logits are .* off"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_packing_would_get_wrong_is_refused(kind: str) -> None:
    settings, why = UNFIT[kind]
    with pytest.raises(
        TiebreakError, match=f"models/x is of the family '{kind}', which tiebreak cannot run: .*{why}"
    ):
        families.require("models/x", config_of(kind, **settings))


def test_code_of_a_model_is_no_way_in() -> None:
    for more, why in (
        ({"auto_map": {"AutoConfig": "own.py"}}, "own code is never run"),
        ({}, "does not know it"),
    ):
        with pytest.raises(TiebreakError, match=why) as caught:
            families.require("x", {"model_type": "mine"} | more)
        assert "trust_remote_code" not in str(caught.value)


def test_a_configuration_out_of_the_ordinary_is_looked_at() -> None:
    plain = config_of("llama")
    assert families.is_verified(plain)
    assert not families.is_verified(plain | {"rope_scaling": {"type": "own"}, "rope_parameters": None})
    assert not families.is_verified(plain | {"layer_types": ["full_attention", "linear_attention"]})
    assert not families.is_verified(config_of("gemma3_text", use_bidirectional_attention=True))


def longrope(first: int) -> dict:
    return config_of(
        "phi3",
        rope_parameters=LONGROPE,
        max_position_embeddings=131072,
        original_max_position_embeddings=first,
    )


def test_positions() -> None:
    most = families.most_positions
    assert most({"max_position_embeddings": 2048}) == 2048
    assert most({}) is None
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 1024}
    assert most({"max_position_embeddings": 4096, "rope_parameters": yarn}) == 4096
    assert most(longrope(4096)) == 4096
    as_published = {
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope"},
    }
    assert most(as_published) == 4096
    by_layer = {"full": yarn, "sliding": LONGROPE | {"original_max_position_embeddings": 4096}}
    assert most({"max_position_embeddings": 9999, "rope_parameters": by_layer}) == 4096


def test_longrope_is_right_as_far_as_its_first_factors_go() -> None:
    """Beyond, every row of a forward would be read with the factors of the longest."""
    assert families.is_verified(longrope(40))
    assert self_check.problem(longrope(40)) == ""
    small = self_check.tiny(CONFIG_MAPPING["phi3"].from_dict(longrope(40)))
    classifier = Classifier(self_check._model(small, "tiebreak"), None, head_trained=False)
    with torch.no_grad():
        classifier.logits(pack([self_check._document(40, 0)]))
        with pytest.raises(
            TiebreakError, match=r"a row has 41 tokens, and the model 40 positions; .* max_tokens"
        ):
            classifier.logits(pack([self_check._document(41, 0), self_check._document(5, 0)]))


def test_without_that_limit_longrope_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "most_positions", lambda _: None)
    assert "for a short document before a long one its logits are" in self_check.problem(longrope(41))


def test_the_tiny_model_has_every_kind_of_layer() -> None:
    config = CONFIG_MAPPING["gemma3_text"](num_hidden_layers=26)
    assert set(self_check.tiny(config).layer_types) == {"full_attention", "sliding_attention"}
    assert self_check.tiny(config).num_hidden_layers == 5
