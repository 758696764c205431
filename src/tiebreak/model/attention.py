"""Attention over packed documents, registered with transformers under the name `tiebreak`.

A document attends to itself only, without a mask tensor: transformers makes none for a name that its table of masks
lacks, and does not search the positions for documents, which would synchronise host and GPU. On GPUs that Triton
supports, the kernels of `model.fast.flash_attention` process the layout's tiles. Elsewhere documents of similar length
are gathered into one right-padded block for each group of the layout: a causal query never attends to its right, so
the padding needs no mask either.

Dimension letters: T tokens of the packed row, D documents, L tokens of a document, H heads, K key-value
heads, E head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from tiebreak.tokens.packing import Layout, Tiles

NAME = "tiebreak"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout | Tiles,
    scaling: float,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within documents: query (1, H, T, E), key and value (1, K, T, E) -> (1, T, H, E)."""
    q_THE, k_TKE, v_TKE = (x[0].transpose(0, 1) for x in (query, key, value))
    if isinstance(layout, Tiles):
        from tiebreak.model.fast.flash_attention import flash

        # values are a view of a wider product, which the backward would keep alive
        options = (scaling, softcap or 0.0, sliding_window or 0)
        return flash(q_THE, k_TKE, v_TKE.contiguous(), layout.queries_N5, layout.keys_N5, *options)[0][
            None
        ], None
    pieces = []
    for index_DL, own_G in layout.groups:
        q_DHLE, k_DKLE, v_DKLE = (_gather(x, index_DL) for x in (q_THE, k_TKE, v_TKE))
        out_DHLE = _causal(q_DHLE, k_DKLE, v_DKLE, scaling, softcap, sliding_window)
        pieces.append(out_DHLE.transpose(1, 2).flatten(0, 1).index_select(0, own_G))
    return torch.cat(pieces).index_select(0, layout.order_T)[None], None


def _gather(x_THE: Tensor, index_DL: Tensor) -> Tensor:
    documents, length = index_DL.shape
    x = x_THE.index_select(0, index_DL.flatten())
    return x.view(documents, length, *x_THE.shape[1:]).transpose(1, 2)


def _causal(
    q_DHLE: Tensor,
    k_DKLE: Tensor,
    v_DKLE: Tensor,
    scaling: float,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    length = q_DHLE.shape[2]
    windowed = window is not None and length > window
    if softcap is None and not windowed:
        if q_DHLE.is_cuda and torch.cuda.get_device_capability(q_DHLE.device) < (8, 0):
            # before Ampere, torch's only kernel without a score matrix in memory needs as many keys as queries
            k_DKLE, v_DKLE = (x.repeat_interleave(q_DHLE.shape[1] // x.shape[1], 1) for x in (k_DKLE, v_DKLE))
        return F.scaled_dot_product_attention(
            q_DHLE,
            k_DKLE,
            v_DKLE,
            is_causal=True,
            scale=scaling,
            enable_gqa=q_DHLE.shape[1] != k_DKLE.shape[1],
        )
    documents, heads, _, size = q_DHLE.shape
    grouped = (documents, k_DKLE.shape[1], -1, size)  # the heads that share a key, stacked
    q_DKJE = q_DHLE.reshape(
        grouped
    ).float()  # scores in 16 bits would have an error like that of a scale wrong by 1 %
    scores_DHLL = (q_DKJE * scaling @ k_DKLE.float().transpose(2, 3)).view(documents, heads, length, length)
    if softcap is not None:
        scores_DHLL = torch.tanh(scores_DHLL / softcap) * softcap
    scores_DHLL = scores_DHLL.masked_fill(_mask(length, window, q_DHLE.device), float("-inf"))
    weights_DHLL = scores_DHLL.softmax(-1).to(q_DHLE.dtype)
    return (weights_DHLL.view(*grouped[:3], length) @ v_DKLE).view_as(q_DHLE)


def _mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """The mask (L, L), true where a query must not attend: later keys, and keys before the window."""
    mask_LL = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    return mask_LL if window is None else mask_LL | torch.ones_like(mask_LL).tril(-window)


def disable_unused_windows(model: PreTrainedModel, longest: int) -> None:
    """Disable sliding windows that no document exceeds, so that layers with and without one share compiled code."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window:
        return
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    for kind, layer in zip(kinds, model.model.layers, strict=False):
        if kind == "sliding_attention" and hasattr(layer.self_attn, "sliding_window"):
            layer.self_attn.sliding_window = window if longest > window else None


AttentionInterface.register(NAME, packed_attention)
