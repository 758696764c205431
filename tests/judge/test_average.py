import peft
import pytest
import torch
from tiny_models import base
from transformers import AutoModelForSequenceClassification

from tiebreak.errors import TiebreakError
from tiebreak.judge.average import average
from tiebreak.model.lora import HEAD, PREFIX, save_adapter
from tiebreak.recipe.models import Lora

LORA = Lora(rank=4, alpha=8.0)
LAYER = f"{PREFIX}model.layers.0.mlp.up_proj"


def adapter(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"{LAYER}.lora_A.weight": (4, 32), f"{LAYER}.lora_B.weight": (64, 4), PREFIX + HEAD: (3, 32)}
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def product(state: dict[str, torch.Tensor], lora: Lora) -> torch.Tensor:
    a, b = (state[f"{LAYER}.lora_{x}.weight"].double() for x in "AB")
    return lora.alpha / lora.rank * b @ a


def test_exact_is_the_mean_of_the_products() -> None:
    states = [adapter(seed) for seed in range(3)]
    state, lora = average([(s, LORA) for s in states])
    expected = torch.stack([product(s, LORA) for s in states]).mean(0)
    torch.testing.assert_close(product(state, lora), expected, atol=1e-6, rtol=0)
    heads = torch.stack([s[PREFIX + HEAD].double() for s in states]).mean(0)
    torch.testing.assert_close(state[PREFIX + HEAD].double(), heads, atol=1e-6, rtol=0)
    assert (lora.rank, lora.alpha) == (12, 24.0)


def test_published_averages_a_and_b_apart_and_is_another_matrix() -> None:
    states = [adapter(seed) for seed in range(3)]
    state, lora = average([(s, LORA) for s in states], published=True)
    for name in state:
        torch.testing.assert_close(state[name], torch.stack([s[name] for s in states]).mean(0))
    exact = product(*average([(s, LORA) for s in states]))
    assert (product(state, lora) - exact).norm() > 0.5 * exact.norm()


def test_one_adapter_averages_to_itself() -> None:
    state, lora = average([(adapter(0), LORA)])
    assert lora == LORA
    assert all(torch.equal(state[name], tensor) for name, tensor in adapter(0).items())


def test_different_ranks_are_refused() -> None:
    with pytest.raises(TiebreakError, match="differ in rank"):
        average([(adapter(0), LORA), (adapter(1), Lora(rank=8, alpha=16))])


def test_peft_computes_the_same_exact_average(tmp_path) -> None:
    """`add_weighted_adapter` with `cat`, on a whole tiny model without a score head."""
    from tiebreak.model import classifier
    from tiebreak.model.lora import adapted_layers, adapter_state

    folders, states = [], []
    for seed in range(2):
        ours = classifier.load_adapted(base("llama"), LORA, None, "fp32", "cpu", seed)
        for _, layer in adapted_layers(ours.model):
            layer.lora_B.data.normal_(generator=torch.Generator().manual_seed(seed))
        states.append(adapter_state(ours.model, with_head=False))
        folders.append(tmp_path / str(seed))
        save_adapter(states[-1], LORA, folders[-1])
    plain = AutoModelForSequenceClassification.from_pretrained(
        base("llama"), num_labels=3, attn_implementation="eager"
    )
    theirs = peft.PeftModel.from_pretrained(plain, folders[0], adapter_name="0")
    theirs.load_adapter(folders[1], "1")
    theirs.add_weighted_adapter(["0", "1"], [0.5, 0.5], "mean", combination_type="cat")
    module = theirs.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    expected = module.get_delta_weight("mean").double()
    state, lora = average([(s, LORA) for s in states])
    torch.testing.assert_close(product(state, lora), expected, atol=1e-6, rtol=0)
