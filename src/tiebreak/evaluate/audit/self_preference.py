"""Self-preference: whether a judge prefers models of its base's family more than people do.

Dimension letters: N votes, C classes (a, b, tie).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.bias import lead, lead_gaps
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.metrics import Array, Bootstrap


def family_of(folder: Path) -> tuple[str, ...]:
    """The word that names of a judge's own family hold: its architecture without the version, such as qwen of qwen3_moe.

    Empty for a folder whose config.json says nothing. An architecture is shared by other makers' models too.
    """
    try:
        name = json_files.read_object(folder / "config.json", "fetch it again").get("model_type")
    except TiebreakError:
        return ()
    found = re.match(r"[a-z]+", name.lower()) if isinstance(name, str) else None
    return (found[0],) if found else ()


def self_preference(
    votes: pa.Table, p_NC: Array, truth: LabelledVotes, family: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The lead of the family's models over others as the judge sees it and as people do, and the gap, which is the excess.

    Over votes (votes.schema.SCHEMA) with such a model on one side. family: words of their names, in any case. `lead` is None where
    fewer than MIN_GROUPS prompts have such votes.
    """
    words = [word.lower() for word in family]
    names_2N = [[name or "" for name in votes[f"model_{side}"].to_pylist()] for side in "ab"]
    own_2N = np.array([[any(word in name.lower() for word in words) for name in side] for side in names_2N])
    models = sorted({name for side in names_2N for name in side if any(w in name.lower() for w in words)})
    one_side_N = (own_2N[0] != own_2N[1]) & np.array([bool(a and b) for a, b in zip(*names_2N, strict=True)])
    sign_N = np.where(own_2N[0], 1.0, -1.0)
    found = lead_gaps(
        np.where(one_side_N, "own", ""),
        sign_N * lead(p_NC),
        sign_N * lead(truth.y_NC),
        truth.groups_N,
        bootstrap,
    )
    return {
        "family": list(family),
        "models": models,
        "rows": int(one_side_N.sum()),
        "lead": next(found, None),
    }
