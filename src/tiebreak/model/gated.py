"""The gated MLP of a decoder as one module: down(act(gate x) * up x)."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tiebreak.model.operators import gated
from tiebreak.model.passes import activate
from tiebreak.model.stack import Member, Stack

KNOWN = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "Gemma2MLP", "Gemma3MLP"}
"""transformers' modules that compute just this; another one may bear the same names of layers."""
IS_GELU = {"silu": False, "gelu_pytorch_tanh": True}
"""The activations, by their names in a configuration."""


class GatedMlp(nn.Module):
    """Stands where a decoder's MLP stood. up: the stack of gate and up."""

    def __init__(self, up: Stack, down: Stack, gelu: bool) -> None:
        super().__init__()
        self.up, self.down, self.gelu = up, down, gelu

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., I). Exact where x is wider than the compute type."""
        if self.up.computes_exactly(x):
            gate, up = self.up(x).chunk(2, -1)
            exact: Tensor = self.down(activate(gate, self.gelu) * up)
            return exact
        outputs, scale = self.down.sizes[0], self.up.scale
        rows_TI = x.reshape(-1, self.up.inputs)
        y: Tensor = gated(rows_TI, *self.up.held, *self.down.held, outputs, scale, self.gelu)[0]
        return y.view(*x.shape[:-1], outputs)


def fuse_mlps(model: PreTrainedModel) -> None:
    """Put a GatedMlp where a decoder whose layers are stacks has an MLP that is known, in place."""
    config = model.config.get_text_config()
    name = str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None))
    for layer in model.model.layers if name in IS_GELU else ():
        mlp: Any = getattr(layer, "mlp", None)
        if type(mlp).__name__ in KNOWN and isinstance(mlp.down_proj, Member):
            up, down = mlp.gate_proj.stack, mlp.down_proj.stack
            if len(up.sizes) == 2 and up.bias is None and down.bias is None:
                layer.mlp = GatedMlp(up, down, IS_GELU[name])
