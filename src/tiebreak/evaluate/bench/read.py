"""Reading benchmarks: each file of a folder, or a data set of the hub, is told by its columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.evaluate.bench import judgebench, llmbar, ppe, rewardbench, rewardbench2
from tiebreak.evaluate.bench.suite import Question, Suite
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.candidates import Candidates
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.hub_datasets import parse_location

Record = Mapping[str, Any]

ENDINGS = (".parquet", ".json", ".jsonl", ".json.gz", ".jsonl.gz", ".jsonl.zst")
"""Files of other names, such as README.md, are no data."""

_BROKEN = (LookupError, TypeError, ValueError)
"""What a record of another shape raises; RowError is among them."""


@dataclass(frozen=True)
class Kind:
    """A benchmark: how its rows are told, and the questions in one, by its path and number."""

    suite: Callable[[Sequence[Question]], Suite]
    is_record: Callable[[Record, Path], bool]
    questions: Callable[[Record, Path, int], list[Question]]


KINDS = (
    Kind(judgebench.JudgeBench, judgebench.is_record, judgebench.questions),
    Kind(llmbar.LlmBar, llmbar.is_record, llmbar.questions),
    Kind(ppe.PpeCorrectness, ppe.is_correctness, ppe.correctness_questions),
    Kind(ppe.PpePreference, ppe.is_preference, ppe.preference_questions),
    Kind(rewardbench.RewardBench, rewardbench.is_record, rewardbench.questions),
)
NAMES = "RewardBench, RewardBench 2, JudgeBench, PPE, LLMBar"


@dataclass
class _Found:
    """The questions of all files by kind, and the items of RewardBench 2, which are lists."""

    by_kind: dict[int, list[Question]] = field(default_factory=dict)
    items: list[rewardbench2.Item] = field(default_factory=list)
    lists: list[Candidates] = field(default_factory=list)

    def suites(self) -> Iterator[Suite]:
        if self.items:
            yield rewardbench2.RewardBench2((), self.lists, self.items)
        for number, questions in sorted(self.by_kind.items()):
            if questions:
                yield KINDS[number].suite(questions)


def read(paths: Sequence[Path]) -> list[Suite]:
    """Read the benchmarks in folders, files or data sets of the hub (hub:OWNER/NAME:SPLIT).

    Files of other data are passed over. Raises TiebreakError where none is of a known benchmark, and for a row that cannot be read: a
    score over a part of a benchmark is no score.
    """
    files = [path for path in containers.expand(paths) if _is_data(path)]
    if any(
        "filtered" in path.name for path in files
    ):  # RewardBench's other split is the same before it was filtered
        files = [path for path in files if not path.name.startswith("raw")]
    found = _Found()
    passed = [path for path in files if not _read_file(path, found)]
    if not rewardbench2.are_whole(found.items):
        raise TiebreakError(
            "RewardBench 2's Ties are scored by pairs of questions, ref:N and tied:N, of which there are none; fetch the benchmark again"
        )
    suites = list(found.suites())
    if not suites:
        looked = ", ".join(map(str, passed or paths))
        raise TiebreakError(
            f"no file of {NAMES} in {looked:.500}; they are read as they are published, see docs/bench.md"
        )
    return suites


def _is_data(path: Path) -> bool:
    return parse_location(path) is not None or path.name.endswith(ENDINGS)


def _read_file(path: Path, found: _Found) -> bool:
    """Add the questions of a file; False if it is of no known benchmark."""
    rows = containers.records(path)
    first = next((record for _, record in rows), None)
    if not isinstance(first, dict):
        return False
    is_second = rewardbench2.is_record(first, path)
    kind = next((n for n, kind in enumerate(KINDS) if kind.is_record(first, path)), None)
    if kind is None and not is_second:
        return False
    questions = [] if is_second else found.by_kind.setdefault(kind or 0, [])
    for row, record in containers.records(path):
        try:
            if isinstance(record, RowError):
                raise record
            if is_second:
                item, responses = rewardbench2.item(record)
                found.items.append(item)
                found.lists.append(responses)
            else:
                questions += KINDS[kind or 0].questions(record, path, len(questions))
        except _BROKEN as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise TiebreakError(f"{path}, row {row}: {what}; fetch the benchmark again") from None
    return True
