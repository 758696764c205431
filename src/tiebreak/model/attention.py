"""Attention over packed documents, registered with transformers under the name `tiebreak`.

A document sees itself only. No mask tensor is built: on the CPU, documents of similar length are gathered
into one right-padded block for each group of the layout. A causal query never sees what lies to its right,
so the padding needs no mask either.

Dimension letters: T tokens of the packed row, D documents, L tokens of a document, H heads, K key-value
heads, E head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from tiebreak.data.packing import Layout

NAME = "tiebreak"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    scaling: float,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within documents: query (1, H, T, E), key and value (1, K, T, E) -> (1, T, H, E)."""
    q_THE, k_TKE, v_TKE = (x[0].transpose(0, 1) for x in (query, key, value))
    out_THE = torch.empty_like(q_THE, memory_format=torch.contiguous_format)
    pieces, where = [], []
    for index_DL, valid_DL in layout.groups:
        q_DHLE, k_DKLE, v_DKLE = (_gather(x, index_DL) for x in (q_THE, k_TKE, v_TKE))
        out_DHLE = _causal(q_DHLE, k_DKLE, v_DKLE, scaling, softcap, sliding_window)
        pieces.append(out_DHLE.transpose(1, 2)[valid_DL])
        where.append(index_DL[valid_DL])
    out_THE = out_THE.index_copy(0, torch.cat(where), torch.cat(pieces))
    return out_THE[None], None


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
        return F.scaled_dot_product_attention(
            q_DHLE, k_DKLE, v_DKLE, is_causal=True, scale=scaling, enable_gqa=True
        )
    repeat = q_DHLE.shape[1] // k_DKLE.shape[1]
    k_DHLE, v_DHLE = (x.repeat_interleave(repeat, dim=1) for x in (k_DKLE, v_DKLE))
    scores_DHLL = q_DHLE @ k_DHLE.transpose(2, 3) * scaling
    if softcap is not None:
        scores_DHLL = torch.tanh(scores_DHLL / softcap) * softcap
    scores_DHLL = scores_DHLL.masked_fill(_hidden(length, window, q_DHLE.device), float("-inf"))
    return scores_DHLL.softmax(-1, dtype=torch.float32).to(q_DHLE.dtype) @ v_DHLE


def _hidden(length: int, window: int | None, device: torch.device) -> Tensor:
    """(L, L), true where a query must not look: ahead, or further back than the window."""
    hidden_LL = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    return hidden_LL if window is None else hidden_LL | torch.ones_like(hidden_LL).tril(-window)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
