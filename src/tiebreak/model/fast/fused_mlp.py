"""Fused gated MLP of a decoder: down(act(gate x) * up x)."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tiebreak.model.fast.autograd_ops import gated
from tiebreak.model.fast.elementwise import activate
from tiebreak.model.fast.fused_linears import FusedLinear, Member

KNOWN = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "Gemma2MLP", "Gemma3MLP"}
"""The modules of transformers that compute this; others may have layers of the same names."""
IS_GELU = {"silu": False, "gelu_pytorch_tanh": True}
"""Supported activations by their names in a configuration: true for GELU."""


class GatedMlp(nn.Module):
    """A replacement of a decoder's MLP. up: the fused layer of gate and up."""

    def __init__(self, up: FusedLinear, down: FusedLinear, gelu: bool) -> None:
        super().__init__()
        self.up, self.down, self.gelu = up, down, gelu

    def forward(self, x: Tensor) -> Tensor:
        """The output of the MLP, (..., I) -> (..., I). In fp32 if x is wider than the compute type."""
        if self.up.needs_fp32(x):
            gate, up = self.up(x).chunk(2, -1)
            exact: Tensor = self.down(activate(gate, self.gelu) * up)
            return exact
        outputs, scale = self.down.sizes[0], self.up.scale
        rows_TI = x.reshape(-1, self.up.inputs)
        y: Tensor = gated(rows_TI, *self.up.operands, *self.down.operands, outputs, scale, self.gelu)[0]
        return y.view(*x.shape[:-1], outputs)


def fuse_mlps(model: PreTrainedModel) -> None:
    """Replace the known MLPs of a decoder with fused layers by GatedMlp, in place."""
    config = model.config.get_text_config()
    name = str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None))
    for layer in model.model.layers if name in IS_GELU else ():
        mlp: Any = getattr(layer, "mlp", None)
        if type(mlp).__name__ in KNOWN and isinstance(mlp.down_proj, Member):
            up, down = mlp.gate_proj.stack, mlp.down_proj.stack
            if len(up.sizes) == 2 and up.bias is None and down.bias is None:
                layer.mlp = GatedMlp(up, down, IS_GELU[name])
