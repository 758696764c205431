"""The attention kernel beside flex_attention and torch's sdpa, and how it is best cut on this card.

    python benchmarks/attention.py [--tune] [--small]

One row of packed documents, as long as arena votes, with the heads of Gemma-2-9B and Llama-3-70B; forward, and
forward and backward. TFLOP/s count the products of queries and keys that see each other: 4 E operations for each pair
and head forward, 14 E with the backward. --tune tries other cuts of each kernel and says which are faster than
`tiebreak.model.fast.flash_attention.KERNEL_CONFIGS`. Times are the kernels' own: one launch after the other, the host is slower than they are.
Prints tables, then one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from clock import busy
from sizes import LONGEST, PROMPT_SHARE, votes_of
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from tiebreak.judge.scoring import both_orders
from tiebreak.model.attention import packed_attention
from tiebreak.model.fast import flash_attention
from tiebreak.tokens.packing import Packed, batches


@dataclass(frozen=True)
class Heads:
    queries: int
    keys: int
    size: int
    softcap: float


FAMILIES = {
    "gemma2": Heads(16, 8, 256, 50.0),
    "llama": Heads(64, 8, 128, 0.0),
    "smollm2": Heads(9, 3, 64, 0.0),
}
CUTS = [
    (own, step, warps, stages)
    for own in (64, 128)
    for step in (32, 64, 128)
    for warps in (4, 8)
    for stages in (1, 2, 3, 4)
]
KERNELS = ("forward", "gradient of queries", "gradient of keys and values")


def packed_row(tokens: int, fixed: bool, device: str) -> Packed:
    votes = votes_of(200, 1000, PROMPT_SHARE, min(LONGEST, tokens // 2))
    documents = [votes.row(vote, order, LONGEST) for vote, order in both_orders(np.arange(200)).tolist()]
    first = next(packed for _, packed in batches(documents, tokens, True) if len(packed.ids_T) == tokens)
    whole = [document.numpy().astype(np.int32) for document in first.documents()]
    (_, packed), *rest = batches(whole, 2 * tokens, False) if not fixed else [(None, first)]
    assert not rest
    return packed.to(device)


def ways(heads: Heads, tokens: int, device: str) -> Iterator[tuple[str, int, Callable[..., Tensor]]]:
    """Name, tokens of the row, and attention of queries, keys and values (1, H, T, E)."""
    scaling = heads.size**-0.5
    for name, fixed in (("kernel", True), ("sdpa", False)):
        packed = packed_row(tokens, fixed, device)

        def ours(q: Tensor, k: Tensor, v: Tensor, layout: Any = packed.layout) -> Tensor:
            options = {"scaling": scaling, "softcap": heads.softcap or None}
            return packed_attention(None, q, k, v, None, layout=layout, **options)[0]  # type: ignore[arg-type]

        yield name, len(packed.ids_T), ours
    if device == "cuda":
        yield "flex_attention", tokens, flex(heads, tokens, device)


def flex(heads: Heads, tokens: int, device: str) -> Callable[..., Tensor]:
    """As the probe had it: documents apart, no prompt shared."""
    spans = packed_row(tokens, True, device).spans
    lengths = torch.tensor([len(span) for span in spans])
    document_T = torch.repeat_interleave(torch.arange(len(spans)), lengths)[:tokens].to(device)
    document_T = torch.nn.functional.pad(document_T, (0, tokens - len(document_T)), value=len(spans))
    mask = create_block_mask(
        lambda b, h, q, k: (q >= k) & (document_T[q] == document_T[k]),
        None,
        None,
        tokens,
        tokens,
        device=device,
    )
    cap = heads.softcap

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: compiled(
        q, k, v, score_mod=capped if cap else None, block_mask=mask, scale=heads.size**-0.5, enable_gqa=True
    )


def measure(
    heads: Heads, attend: Callable[..., Tensor], tokens: int, device: str, repeats: int
) -> tuple[float, float]:
    """Seconds that a forward, and a forward and backward, keep the card busy."""
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    q, k, v = (
        torch.randn(1, count, tokens, heads.size, device=device, dtype=kind, requires_grad=True)
        for count in (heads.queries, heads.keys, heads.keys)
    )

    def forward() -> None:
        with torch.no_grad():
            attend(q, k, v)

    def both() -> None:
        attend(q, k, v).sum().backward()

    seconds = []
    for work in (forward, both):
        work()
        seconds.append(busy(lambda work=work: [work() for _ in range(repeats)]) / repeats)
    return seconds[0], seconds[1]


def operations(heads: Heads, tokens: int, device: str) -> float:
    """4 E for each pair of query and key that see each other, over all heads."""
    spans = packed_row(tokens, True, device).spans
    own = sum((len(s) * (len(s) + 1) - (n := s.shared_stop - s.shared_start) * (n + 1)) / 2 for s in spans)
    return 4.0 * heads.size * heads.queries * own


def tune(heads: Heads, tokens: int, device: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Every cut of one kernel at a time, the others as they are."""
    (_, tokens, attend), *_ = ways(heads, tokens, device)
    usual = flash_attention.KERNEL_CONFIGS[heads.size]
    for number, kernel in enumerate(KERNELS):
        for cut in CUTS:
            shapes = list(usual)
            shapes[number] = flash_attention.KernelConfig(*cut)
            flash_attention.KERNEL_CONFIGS[heads.size] = tuple(shapes)  # type: ignore[assignment]
            try:
                seconds = measure(heads, attend, tokens, device, repeats)
            except Exception as error:  # most do not fit the card's shared memory
                print(f"{kernel} {cut}: {type(error).__name__}", file=sys.stderr)
            else:
                yield {"kernel": kernel, "cut": cut, "ms": round(1e3 * seconds[number > 0], 3)}
            finally:
                flash_attention.KERNEL_CONFIGS[heads.size] = usual


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--small", action="store_true", help="tiny, in Triton's interpreter on a CPU")
    chosen = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens, repeats = (256, 1) if chosen.small else (8192, 20)
    rows, tuned = [], []
    for family, heads in ({"small": Heads(2, 1, 64, 50.0)} if chosen.small else FAMILIES).items():
        count = operations(heads, tokens, device)
        for name, length, attend in ways(heads, tokens, device):
            forward, both = measure(heads, attend, length, device, repeats)
            rows.append(
                {
                    "family": family,
                    "way": name,
                    "forward_ms": round(1e3 * forward, 3),
                    "both_ms": round(1e3 * both, 3),
                    "forward_tflops": round(count / forward / 1e12, 3),
                    "both_tflops": round(3.5 * count / both / 1e12, 3),
                }
            )
            print(" | ".join(str(value) for value in rows[-1].values()), flush=True)
        if chosen.tune:
            found = sorted(tune(heads, tokens, device, repeats), key=lambda row: row["ms"])
            for kernel, shape in zip(KERNELS, flash_attention.KERNEL_CONFIGS[heads.size], strict=True):
                best = [row for row in found if row["kernel"] == kernel][:3]
                tuned.append({"family": family, "kernel": kernel, "now": astuple(shape), "best": best})
                print(json.dumps(tuned[-1]), flush=True)
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(json.dumps({"benchmark": "attention", "card": card, "rows": rows, "tuned": tuned}))


if __name__ == "__main__":
    main()
