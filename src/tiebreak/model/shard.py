"""Frozen weights spread over processes: FSDP2 gathers a layer when its turn comes, forward and backward.

What learns stays whole on every process, and so does what is small: embeddings, norms outside the layers, scales.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from tiebreak import distributed


def shard(model: PreTrainedModel, device: str) -> None:
    """Spread a decoder's layers over the processes, in place, one layer after another.

    The model may lie on the CPU: then no device ever holds more than its share and one layer. Layers on the
    meta device get memory, and no values.
    """
    _as_floats(model)
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (distributed.size(),))
    for layer in model.model.layers:
        here = layer.to_empty(device=device) if _is_meta(layer) else layer.to(device)
        whole = {p for p in here.parameters() if p.requires_grad or (p.ndim < 2 and p.dtype == torch.float32)}
        fully_shard(here, mesh=mesh, ignored_params=whole)
    rest = {p for p in model.model.parameters() if not isinstance(p, DTensor)}
    model.to(device)
    fully_shard(model.model, mesh=mesh, ignored_params=rest)


def _is_meta(module: nn.Module) -> bool:
    return all(p.is_meta for p in module.parameters())


def _as_floats(model: nn.Module) -> None:
    """Codes as pairs of bytes in a floating type: every backend carries those, and FSDP2 of torch 2.11 no others."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            if p.dtype in (torch.float8_e4m3fn, torch.uint8):
                setattr(module, name, nn.Parameter(p.view(torch.bfloat16), requires_grad=False))


def own_rows(parameter: nn.Parameter) -> tuple[torch.Tensor, slice]:
    """The rows of a parameter that this process holds, and which they are; all of one that is not spread."""
    if not isinstance(parameter, DTensor):
        return parameter, slice(None)
    local = parameter.to_local()
    chunk = -(-len(parameter) // distributed.size())
    start = min(chunk * distributed.rank(), len(parameter))
    return local, slice(start, start + len(local))
