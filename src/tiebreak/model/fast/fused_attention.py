"""Attention of a decoder on the kernels: one product for queries, keys and values, rotated in one pass over memory."""

from types import MethodType
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from tiebreak.model.attention import packed_attention
from tiebreak.model.fast.compile import HEAD_SIZES
from tiebreak.model.fast.fused_linears import Member
from tiebreak.tokens.packing import Tiles

KNOWN = {"LlamaAttention", "Qwen2Attention", "Gemma2Attention"}
"""The modules of transformers that `_forward` reimplements. Others normalise queries and keys, or keep their window elsewhere."""


def fuse_attentions(model: PreTrainedModel) -> None:
    """Let the known attentions of a decoder with fused layers rotate queries and keys by `fast.rotary`, in place."""
    for layer in model.model.layers:
        attention: Any = getattr(layer, "self_attn", None)
        is_known = type(attention).__name__ in KNOWN and isinstance(attention.q_proj, Member)
        if is_known and len(attention.q_proj.stack.sizes) == 3:
            attention.forward = MethodType(_forward, attention)


def _forward(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers' own, which it calls where there are no tiles: it is the reference of the kernels' check."""
    stack, (cos_1TE, sin_1TE) = self.q_proj.stack, position_embeddings
    is_plain = not isinstance(kwargs.get("layout"), Tiles) or stack.needs_fp32(hidden_states)
    if is_plain or self.head_dim not in HEAD_SIZES or cos_1TE.shape[-1] != self.head_dim:
        plain: tuple[Tensor, None] = type(self).forward(
            self, hidden_states, position_embeddings, attention_mask, **kwargs
        )
        return plain
    from tiebreak.model.fast.rotary import rotated

    heads, kv_heads = stack.sizes[0] // self.head_dim, stack.sizes[1] // self.head_dim
    parts = rotated(stack(hidden_states).squeeze(0), cos_1TE[0], sin_1TE[0], heads, kv_heads)
    q_1HTE, k_1KTE, v_1KTE = (x.transpose(0, 1)[None] for x in parts)
    attended_1THE, _ = packed_attention(
        self,
        q_1HTE,
        k_1KTE,
        v_1KTE,
        attention_mask,
        scaling=self.scaling,
        softcap=getattr(self, "attn_logit_softcapping", None),
        sliding_window=getattr(self, "sliding_window", None),
        **kwargs,
    )
    return self.o_proj(attended_1THE.flatten(2)), None
