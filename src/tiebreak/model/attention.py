"""Attention over packed documents, registered with transformers under the name `tiebreak`.

A document sees itself only, and no mask tensor is built: transformers makes none for a name that its table of masks
lacks, nor looks for documents in the positions, for which the host would wait for the GPU. On GPUs that Triton
knows, the kernels of `model.flash` go through the layout's tiles. Elsewhere documents of similar length are gathered
into one right-padded block for each group of the layout: a causal query never sees what lies to its right, so
the padding needs no mask either.

Dimension letters: T tokens of the packed row, D documents, L tokens of a document, H heads, K key-value
heads, E head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from tiebreak.data.packing import Layout, Tiles

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
        from tiebreak.model.flash import flash

        # values are part of a wider product, which would be kept whole for the backward
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
            # before Ampere, torch's only kernel without a score matrix in memory wants a key for every query
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
    grouped = (documents, k_DKLE.shape[1], -1, size)  # the heads that share a key, below each other
    q_DKJE = q_DHLE.reshape(grouped).float()  # scores in 16 bits would be as far off as a scale wrong by 1 %
    scores_DHLL = (q_DKJE * scaling @ k_DKLE.float().transpose(2, 3)).view(documents, heads, length, length)
    if softcap is not None:
        scores_DHLL = torch.tanh(scores_DHLL / softcap) * softcap
    scores_DHLL = scores_DHLL.masked_fill(_hidden(length, window, q_DHLE.device), float("-inf"))
    weights_DHLL = scores_DHLL.softmax(-1).to(q_DHLE.dtype)
    return (weights_DHLL.view(*grouped[:3], length) @ v_DKLE).view_as(q_DHLE)


def _hidden(length: int, window: int | None, device: torch.device) -> Tensor:
    """(L, L), true where a query must not look: ahead, or further back than the window."""
    hidden_LL = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    return hidden_LL if window is None else hidden_LL | torch.ones_like(hidden_LL).tril(-window)


def open_windows(model: PreTrainedModel, longest: int) -> None:
    """Forget sliding windows that no document reaches: layers with and without one then share compiled code."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window:
        return
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    for kind, layer in zip(kinds, model.model.layers, strict=False):
        if kind == "sliding_attention" and hasattr(layer.self_attn, "sliding_window"):
            layer.self_attn.sliding_window = window if longest > window else None


AttentionInterface.register(NAME, packed_attention)
