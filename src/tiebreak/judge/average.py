"""Average of several adapters, those of the fold models.

The mean of the products, mean_i(B_i A_i), is not the product of the means. Stacking the ranks is exact:
A = [A_1; ...; A_k], B = [B_1, ..., B_k] / k has rank k r and B A = mean_i(B_i A_i).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tiebreak.errors import TiebreakError
from tiebreak.model.lora import HEAD, PREFIX
from tiebreak.recipe.models import Lora

State = dict[str, Tensor]


def average(adapters: Sequence[tuple[State, Lora]], published: bool = False) -> tuple[State, Lora]:
    """The mean of adapters: of the products BA, with the ranks added up; published: of A and of B.

    Score heads are averaged either way. Raises TiebreakError if the adapters differ in shape or layers.
    """
    states, loras = zip(*adapters, strict=True)
    lora = loras[0]
    if any((other.rank, other.alpha) != (lora.rank, lora.alpha) for other in loras):
        raise TiebreakError(f"adapters differ in rank or alpha: {sorted({(o.rank, o.alpha) for o in loras})}")
    if any(state.keys() != states[0].keys() for state in states):
        raise TiebreakError("adapters differ in their layers; average only adapters of the same base")
    if published:
        return {name: _mean([s[name] for s in states]) for name in states[0]}, lora
    stacked = {name: _stack(name, [s[name] for s in states]) for name in states[0]}
    return stacked, lora.model_copy(
        update={"rank": lora.rank * len(states), "alpha": lora.alpha * len(states)}
    )


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.double() * (1 / len(tensors)) for tensor in tensors]).sum(0).float()


def _stack(name: str, tensors: Sequence[Tensor]) -> Tensor:
    if name == PREFIX + HEAD:
        return _mean(tensors)
    if "lora_A" in name:
        return torch.cat(list(tensors), dim=0)
    return torch.cat([tensor * (1 / len(tensors)) for tensor in tensors], dim=1)
