"""Sharding of frozen weights over processes by FSDP2, which gathers each layer for its forward and backward.

Trainable parameters are replicated on every process, and so are small ones: embeddings, norms outside the layers,
scales.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from tiebreak import distributed


def shard(model: PreTrainedModel, device: str) -> None:
    """Shard a decoder's layers over the processes, in place, one layer after another.

    The model may be on the CPU: then no device ever holds more than its shard and one layer. Layers on the
    meta device are allocated without values.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    _view_codes_as_bf16(model)
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (distributed.world_size(),))
    for layer in model.model.layers:
        local_layer = layer.to_empty(device=device) if _is_meta(layer) else layer.to(device)
        replicated = {
            p
            for p in local_layer.parameters()
            if p.requires_grad or (p.ndim < 2 and p.dtype == torch.float32)
        }
        fully_shard(local_layer, mesh=mesh, ignored_params=replicated)
    others = {p for p in model.model.parameters() if not isinstance(p, DTensor)}
    model.to(device)
    fully_shard(model.model, mesh=mesh, ignored_params=others)


def _is_meta(module: nn.Module) -> bool:
    return all(p.is_meta for p in module.parameters())


def _view_codes_as_bf16(model: nn.Module) -> None:
    """View codes as pairs of bytes in bf16: FSDP2 of torch 2.11 shards only floating types that every backend sends."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            if p.dtype in (torch.float8_e4m3fn, torch.uint8):
                setattr(module, name, nn.Parameter(p.view(torch.bfloat16), requires_grad=False))


def local_rows(parameter: nn.Parameter) -> tuple[torch.Tensor, slice]:
    """The rows of a parameter on this process, and their slice; all rows of one that is not sharded."""
    to_local = getattr(parameter, "to_local", None)
    if to_local is None:  # no DTensor
        return parameter, slice(None)
    local = to_local()
    chunk = -(-len(parameter) // distributed.world_size())
    start = min(chunk * distributed.rank(), len(parameter))
    return local, slice(start, start + len(local))
