"""Attention over packed documents, registered with transformers under the name `tiebreak`.

A document attends to itself only, without a mask tensor: transformers makes none for a name that its table of masks
lacks, and does not search the positions for documents, which would synchronise host and GPU. On GPUs that Triton
supports, the kernels of `model.fast.flash_attention` process the layout's tiles. Elsewhere documents of similar length
are gathered into one right-padded block for each group of the layout: a causal query never attends to its right, so
the padding needs no mask either.

Dimension letters: T tokens of the packed row, D documents, L tokens of a document, Q queries of a document, H heads,
K key-value heads, E head size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiebreak.errors import TiebreakError
from tiebreak.model.decoders import AttentionInterface, PreTrainedModel
from tiebreak.tokens.packing import Layout, Tiles

NAME = "tiebreak"
IGNORED = frozenset(("dropout", "is_causal", "position_ids", "use_cache", "ends_D", "output_attentions"))
"""Keywords of transformers that change nothing here: it is causal, the base is frozen, positions are applied."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout | Tiles | None = None,
    scaling: float,
    softcap: float | None = None,
    sliding_window: int | None = None,
    at_ends: bool = False,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within documents: query (1, H, T, E), key and value (1, K, T, E) -> (1, T, H, E).

    at_ends: only the outputs at documents' last tokens are read; the portable one leaves the others 0.
    Raises TiebreakError for a keyword that would change attention, such as the sinks of gpt-oss (s_aux), and for a
    decoder that does not hand the layout on.
    """
    if layout is None:
        raise TiebreakError("its layers do not tell attention which tokens are one document")
    for name, given in others.items():  # torch 2.11 cannot trace others.keys() - IGNORED
        if given is not None and name not in IGNORED:
            raise TiebreakError(f"its attention takes {name}, which packed documents do not know")
    # x[0] would have a backward that writes zeros first, and heads before tokens
    q_THE, k_TKE, v_TKE = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    if isinstance(layout, Tiles):
        from tiebreak.model.fast.flash_attention import flash

        # values are a view of a wider product, which the backward would keep alive
        options = (scaling, softcap or 0.0, sliding_window or 0)
        return flash(q_THE, k_TKE, v_TKE.contiguous(), layout.queries_N5, layout.keys_N5, *options)[0][
            None
        ], None
    documents, padded = [d for d, _ in layout.shapes], [d * length for d, length in layout.shapes]
    queries, counts = (layout.ends_D, documents) if at_ends else (layout.index_P, padded)
    groups = zip(
        torch.split(q_THE.index_select(0, queries), counts),
        torch.split(k_TKE.index_select(0, layout.index_P), padded),
        torch.split(v_TKE.index_select(0, layout.index_P), padded),
        torch.split(layout.length_D, documents),
        strict=True,
    )
    pieces = []
    for *qkv, length_D in groups:
        q_DHQE, k_DKLE, v_DKLE = (x.view(len(length_D), -1, *x.shape[1:]).transpose(1, 2) for x in qkv)
        if at_ends:
            mask_D11L = _ends_mask(length_D, k_DKLE.shape[2], sliding_window)
            out_DHQE = _attend(q_DHQE, k_DKLE, v_DKLE, mask_D11L, scaling, softcap)
        else:
            out_DHQE = _causal(q_DHQE, k_DKLE, v_DKLE, scaling, softcap, sliding_window)
        pieces.append(out_DHQE.transpose(1, 2).flatten(0, 1))
    out = torch.cat(pieces)
    if at_ends:
        return torch.zeros_like(q_THE).index_copy(0, layout.ends_D, out)[None], None
    return out.index_select(0, layout.place_T)[None], None


def _causal(
    q_DHLE: Tensor,
    k_DKLE: Tensor,
    v_DKLE: Tensor,
    scaling: float,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    length = q_DHLE.shape[2]
    if softcap is not None or (window is not None and length > window):
        mask_LL = _mask(length, window, q_DHLE.device)
        return _attend(q_DHLE, k_DKLE, v_DKLE, mask_LL, scaling, softcap)
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


def _attend(
    q_DHQE: Tensor, k_DKLE: Tensor, v_DKLE: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """Attention with a mask that is added to the scores (D, H, Q, L)."""
    documents, heads, queries, size = q_DHQE.shape
    grouped = (documents, k_DKLE.shape[1], -1, size)  # the heads that share a key, stacked
    # scores in 16 bits would have an error like that of a scale wrong by 1 %
    q_DKJE = q_DHQE.reshape(grouped).float() * (scaling / (softcap or 1.0))
    scores_DHQL = (q_DKJE @ k_DKLE.float().transpose(2, 3)).view(documents, heads, queries, -1)
    if softcap is not None:
        scores_DHQL = torch.add(mask, scores_DHQL.tanh_(), alpha=softcap)
    else:
        scores_DHQL = scores_DHQL + mask
    weights_DHQL = scores_DHQL.softmax(-1).to(q_DHQE.dtype)
    return (weights_DHQL.view(*grouped[:3], k_DKLE.shape[2]) @ v_DKLE).view_as(q_DHQE)


def _mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """The mask (L, L), -inf where a query must not attend: later keys, and keys before the window."""
    hidden_LL = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    if window is not None:
        hidden_LL |= torch.ones_like(hidden_LL).tril(-window)
    return _additive(hidden_LL)


def _ends_mask(length_D: Tensor, length: int, window: int | None) -> Tensor:
    """The mask (D, 1, 1, L) of documents' last tokens, -inf for padding and keys before the window."""
    offset_L, stop_D1 = torch.arange(length, device=length_D.device), length_D[:, None]
    hidden_DL = offset_L >= stop_D1
    if window is not None:
        hidden_DL |= offset_L < stop_D1 - window
    return _additive(hidden_DL)[:, None, None]


def _additive(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, float("-inf"))


def disable_unused_windows(model: PreTrainedModel, longest: int) -> bool:
    """Disable sliding windows that no document exceeds, so that layers with and without one share compiled code.

    Returns true if there is a window that the longest document exceeds.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window:
        return False
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    for kind, layer in zip(kinds, model.model.layers, strict=False):
        if kind == "sliding_attention" and hasattr(layer.self_attn, "sliding_window"):
            layer.self_attn.sliding_window = window if longest > window else None
    return bool(longest > window)


AttentionInterface.register(NAME, packed_attention)
