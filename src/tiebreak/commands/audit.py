"""Audit of a judge by people's votes, as by `tiebreak audit`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap

if TYPE_CHECKING:
    from tiebreak.evaluate.audit.audit import Judged
    from tiebreak.stats.metrics import Bootstrap
    from tiebreak.votes.annotations import Annotations

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to audit. judge: a model, as for `outputs.locate_model`, or a file of predictions of the votes.

    annotator: the column that names who voted. family: words in the names of the judge's own models; by its architecture if none.
    """

    judge: Path
    votes: Sequence[Path]
    annotator: str | None = None
    family: Sequence[str] = ()
    mapping: ColumnMap = NO_MAP
    device: str | None = None
    precision: str = "auto"
    overrides: Sequence[str] = ()


def audit(request: Request, bootstrap: "Bootstrap") -> dict[str, Any]:
    """The audit's figures, ready for JSON.

    Raises TiebreakError for votes that cannot be read, and, before any judging, for a judge that is missing.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands.seen_votes import seen_votes
    from tiebreak.evaluate.audit import audit as audits
    from tiebreak.evaluate.audit.self_preference import family_of
    from tiebreak.evaluate.compare_predictions import is_model
    from tiebreak.votes import annotations

    recipe = outputs.recipe_at(request.judge)
    folder = (
        outputs.model_folder(request.judge, request.overrides) if recipe or is_model(request.judge) else None
    )
    voted = annotations.read(request.votes, request.mapping, request.annotator)
    log.info("%d votes on %d pairs of answers", len(voted), len(voted.pairs))
    seen = shift = None
    if folder is None:
        judged = _from_file(request, voted)
    else:
        seen = int(seen_votes(folder, voted.pairs)[voted.pair_N].sum())
        judged = _from_model(request, folder, voted)
        shift = _shift(folder, judged, bootstrap)
    family = request.family or (family_of(folder) if folder else ())
    about = {
        "judge": outputs.judge_name(request.judge, request.overrides),
        "votes_from": [path.name for path in request.votes],
    }
    return about | audits.audit(judged, bootstrap, family, shift, seen)


def write(found: dict[str, Any], path: Path) -> None:
    """Write the page of an audit (.html) or its disagreements (.csv)."""
    from tiebreak.evaluate.audit import files, page

    if path.suffix == ".html":
        page.write(found, path)
    else:
        files.write_csv(found["disagreements"], path)


def _from_file(request: Request, voted: "Annotations") -> "Judged":
    from tiebreak.evaluate.audit.audit import Judged
    from tiebreak.evaluate.compare_predictions import aligned_predictions, normalised

    p_IC = aligned_predictions(request.judge, voted.pairs["id"].to_pylist(), request.mapping)
    return Judged(voted, normalised(p_IC))


def _from_model(request: Request, folder: Path, voted: "Annotations") -> "Judged":
    """Judge every pair in both orders."""
    from tempfile import TemporaryDirectory

    from tiebreak.commands.row_progress import Progress
    from tiebreak.evaluate.audit.audit import Judged
    from tiebreak.judge.judge import load_judge
    from tiebreak.judge.postprocessing import require_probabilities

    judge = load_judge(folder, request.device, precision=request.precision)
    pairs = len(voted.pairs)
    with TemporaryDirectory() as place, Progress("audit", Path(place), pairs) as progress:
        z_IOC = judge.logits(
            voted.pairs, True, lambda _, done, total, __: progress.within(0, pairs, done / total)
        )
    p_IC = require_probabilities(judge.postprocessing.to_probabilities(voted.pairs, z_IOC))
    return Judged(voted, p_IC, z_IOC, symmetric=judge.package.tta.both_orders)


def _shift(folder: Path, judged: "Judged", bootstrap: "Bootstrap") -> dict[str, Any] | None:
    """How usual the pairs look beside the training votes; None where the model keeps no summary of these."""
    from tiebreak.baseline import training_features
    from tiebreak.evaluate.audit.shift import shift

    features = training_features.read(folder)
    if features is None:
        return None
    rank_I = training_features.ranks_of(features, judged.annotations.pairs)
    return shift(rank_I[judged.annotations.pair_N], judged.probabilities, judged.truth, bootstrap)
