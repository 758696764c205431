"""The judge: a trained model that predicts calibrated probabilities for pairs of answers."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError, nearest
from tiebreak.judge import committee, int8, package, ranking
from tiebreak.judge.decisions import Decisions, certain_from, likely_from
from tiebreak.judge.inputs import Pairs, as_list, as_table
from tiebreak.judge.judgements import Judgements, shown
from tiebreak.judge.logits import softmax
from tiebreak.judge.postprocessing import Postprocessing, require_probabilities
from tiebreak.judge.ranking import Ranking
from tiebreak.judge.scoring import both_orders, score
from tiebreak.judge.telling import telling
from tiebreak.judge.tta import first_order, is_certain
from tiebreak.model import hub
from tiebreak.model.classifier import Classifier, load
from tiebreak.model.fast.compile import device_context
from tiebreak.model.precision import widened
from tiebreak.pages import notebook
from tiebreak.runtime import Event
from tiebreak.stats.acquisition import disagreement, priority
from tiebreak.stats.guarantees import decisions, prediction_sets
from tiebreak.tokens.prompt import TokenizedVotes, tokenize
from tiebreak.votes.formats import candidates
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.schema import LABELS, swap_answers

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp8")


class PairJudge(ABC):
    """P(A preferred), P(B preferred), P(tie) for pairs of answers, from logits that a subclass gets from its model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, shipped: package.Package, folder: Path) -> None:
        self.tokenizer = tokenizer
        self.package = shipped
        self.folder = folder
        self.postprocessing = Postprocessing.from_package(shipped, folder)

    def _repr_html_(self) -> str:
        """What it is, for a notebook."""
        rows = [
            ("folder", self.folder),
            ("tokens of a pair", self.package.tta.max_tokens),
            ("orders", "both" if self.package.tta.both_orders else "as stored"),
            ("calibration", ", ".join(self.package.calibration)),
            ("blended with its baseline", "no" if self.package.blend is None else "yes"),
        ]
        return notebook.fragment("A judge: P(A), P(B), P(tie) of two answers", [notebook.Table((), rows)])

    @checked
    def predict(
        self,
        pairs: Pairs,
        both: bool | None = None,
        progress: Callable[[Event], None] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> NDArray[np.float64]:
        """Calibrated probabilities (n, 3) of a, b and tie, one row a pair, in the order given.

        pairs: dicts with prompt, response_a and response_b (each a string, or a list of turns or messages), or one; a
        table with these columns, of pyarrow, pandas or polars; or a file. Of chosen and rejected answers, those stand for a
        and b. both: show each pair in both orders and take the mean, or in the stored order only; None for the package's
        setting, which may be both orders for uncertain pairs only. columns: those of other names, as
        {"prompt": "question", "response_a": "texts.0"}. progress: called about twice a second with an event of the rows
        scored, as that of `tiebreak.train`; `tiebreak.pages.notebook.Bar()` makes a bar of them. Raises TiebreakError for
        pairs that cannot be read.
        """
        table, swapped_N = as_table(pairs, columns)
        return swap_answers(self.predict_table(table, both, telling(progress)), swapped_N)

    @checked
    def rank(self, prompt: Any, responses: Iterable[Any], pairs: int | None = None) -> Ranking:
        """Rank 1 to 64 responses to a prompt by comparisons of pairs: `.best`, `.order`, `.scores`, `.p_best`, `.pairs`.

        prompt: a string, or a list of turns or messages; a response: a string, or a list of turns or messages. pairs: how many
        to judge, at least one less than the responses; all by default up to 8 responses, beyond that some a response. Equal
        responses are judged as one; an empty response is judged as a missing answer.
        Raises TiebreakError for a prompt or responses that cannot be read.
        """
        if not isinstance(responses, Iterable) or isinstance(responses, str | bytes | Mapping | Set):
            raise TiebreakError(f"cannot rank: responses are a list, not {responses!r:.40}")
        texts = {"prompt": as_list(prompt), "responses": [as_list(response) for response in responses]}
        found = candidates.read_record(texts)
        if found.error is not None:
            raise TiebreakError(f"cannot rank: {found.error}")
        return ranking.rank([found], lambda votes, _: self.predict_table(votes_table(votes)), pairs)[0]

    @checked
    def decide(
        self, pairs: Pairs, max_error: float = 0.2, columns: Mapping[str, str] | None = None
    ) -> Decisions:
        """Decide a, b or tie for each pair, or abstain, so that the share of errors among the decided is below max_error.

        With 95 % confidence over the unseen votes that the threshold was fitted on, for the error expected of pairs of their
        kind, and for a max_error that was chosen beforehand; an error is that a voter on such a pair says otherwise
        (stats.guarantees). Raises TiebreakError for a model without counts of
        unseen votes, and where these are too few for max_error, with the smallest that they show.
        """
        threshold = certain_from(self.package, self.folder, max_error)
        choices = decisions(self.predict(pairs, columns=columns), threshold)
        return Decisions([None if choice is None else LABELS[choice] for choice in choices], threshold)

    @checked
    def prediction_sets(
        self, pairs: Pairs, coverage: float = 0.9, columns: Mapping[str, str] | None = None
    ) -> list[set[str]]:
        """The answers, of a, b and tie, that together hold a voter's with probability `coverage` or more, for each pair.

        On average over pairs and over the unseen votes that the threshold was fitted on (stats.guarantees). Raises
        TiebreakError for a model without counts of unseen votes.
        """
        threshold = likely_from(self.package, self.folder, coverage)
        within_NC = prediction_sets(self.predict(pairs, columns=columns), threshold)
        return [
            {label for label, within in zip(LABELS, row, strict=True) if within} for row in within_NC.tolist()
        ]

    @checked
    def next_pairs(
        self,
        pairs: Pairs,
        count: int | None = None,
        seed: int = 0,
        columns: Mapping[str, str] | None = None,
    ) -> list[int]:
        """The numbers of the pairs to vote on next, `count` of them or all: those drawn first by how much the judge's orders,
        and its baseline where one ships, disagree on them (stats.acquisition). Raises TiebreakError for pairs that cannot be read.
        """
        table, _ = as_table(pairs, columns)
        if not len(table):
            return []
        told_N = disagreement(committee.predictions(self, table))
        order_N = np.argsort(-priority(told_N, np.random.default_rng(seed)))
        return [int(n) for n in order_N[:count]]

    @checked
    def predict_table(
        self, table: pa.Table, both: bool | None = None, report: Callable[..., None] = lambda *_, **__: None
    ) -> NDArray[np.float64]:
        """Calibrated probabilities as by `predict`, for a table in votes.schema.SCHEMA."""
        if len(table) == 0:
            return np.empty((0, 3))
        return self._postprocess(table, self._probabilities(table, self._tokens(table), both, report))

    @checked
    def judgements(self, table: pa.Table) -> Judgements:
        """Calibrated probabilities of pairs as by `predict_table`, with both orders' and what was cut."""
        votes, max_tokens = self._tokens(table), self.package.tta.max_tokens
        p_NOC = self._probabilities(table, votes, None, lambda *_, **__: None)
        return Judgements(
            self._postprocess(table, p_NOC),
            p_NOC,
            self.postprocessing.decided_by(table),
            votes.lengths,
            votes.kept_lengths(max_tokens),
            votes.frame_tokens,
        )

    @checked
    def logits(
        self, table: pa.Table, both: bool, report: Callable[..., None] = lambda *_, **__: None
    ) -> NDArray[np.float64]:
        """Raw logits (n, orders, 3) of a, b and tie, the swap undone."""
        votes, orders = self._tokens(table), 1 + both
        z_RC = self._score(votes, both_orders(np.arange(len(table)))[:: 3 - orders], report)
        return z_RC.reshape(len(table), orders, 3)

    def _probabilities(
        self, table: pa.Table, votes: TokenizedVotes, both: bool | None, report: Callable[..., None]
    ) -> NDArray[np.float64]:
        """The model's own probabilities (n, 2, 3) in both orders, the swap undone; 0 in an order that is not shown."""
        p_NOC = np.zeros((len(votes), 2, 3))

        def predict(rows_R2: NDArray[np.int64]) -> None:
            if len(rows_R2):
                p_NOC[rows_R2[:, 0], rows_R2[:, 1]] = softmax(self._score(votes, rows_R2, report))

        tta, certain_from = self.package.tta, self.package.certain_from
        if both is None and tta.both_orders and certain_from is not None:
            first_N, differ_N = first_order(table)
            predict(np.stack([np.arange(len(votes)), first_N], axis=1))
            first_NC = p_NOC[np.arange(len(votes)), first_N]
            uncertain = np.flatnonzero(~is_certain(first_NC, differ_N, certain_from))
            predict(np.stack([uncertain, 1 - first_N[uncertain]], axis=1))
        else:
            one_order = not (tta.both_orders if both is None else both)
            predict(both_orders(np.arange(len(votes)))[:: 1 + one_order])
        return p_NOC

    def _postprocess(self, table: pa.Table, p_NOC: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities (n, 3) from the model's own in the orders that were shown."""
        p_NC = require_probabilities(p_NOC.sum(axis=1) / shown(p_NOC).sum(axis=1)[:, None])
        return require_probabilities(self.postprocessing.postprocess(table, p_NC))

    def _tokens(self, table: pa.Table) -> TokenizedVotes:
        votes, most = (
            tokenize(table, self.tokenizer, self.package.prompt),
            self.package.tta.max_tokens,
        )
        if alike := votes.alike_when_cut(most):
            log.warning(
                "%d of %d pairs have answers that differ only after the cut at %d tokens",
                alike,
                len(votes),
                most,
            )
        return votes

    @abstractmethod
    def _score(
        self, votes: TokenizedVotes, rows_R2: NDArray[np.int64], report: Callable[..., None]
    ) -> NDArray[np.float64]:
        """Logits (rows, 3) of rows (vote, order), the swap undone."""


class Judge(PairJudge):
    """A judge in this process. Made by `tiebreak.load`."""

    def __init__(
        self, classifier: Classifier, shipped: package.Package, folder: Path, score_tokens: int = 16384
    ) -> None:
        super().__init__(classifier.tokenizer, shipped, folder)
        self.classifier = classifier
        self.score_tokens = score_tokens

    def _score(
        self, votes: TokenizedVotes, rows_R2: NDArray[np.int64], report: Callable[..., None]
    ) -> NDArray[np.float64]:
        with device_context(self.classifier.device):
            z_RC = self._raw_logits(votes, rows_R2, report)
            overflown_R = ~np.isfinite(z_RC).all(axis=1)
            if overflown_R.any() and self.classifier.is_plain_fp16:
                log.info(
                    "%d of %d rows exceed fp16 and are scored again in fp32", overflown_R.sum(), len(z_RC)
                )
                with widened(self.classifier.model):
                    z_RC[overflown_R] = self._raw_logits(votes, rows_R2[overflown_R], report)
        return swap_answers(z_RC, rows_R2[:, 1] == 1).astype(np.float64)

    def _raw_logits(
        self, votes: TokenizedVotes, rows_R2: NDArray[np.int64], report: Callable[..., None]
    ) -> NDArray[np.float32]:
        max_tokens = self.package.tta.max_tokens
        return score(self.classifier, votes, rows_R2, max_tokens, self.score_tokens, report)


def load_judge(
    folder: Path, device: str | None = None, score_tokens: int = 16384, precision: str = "auto"
) -> Judge:
    """Load a judge, see `tiebreak.load`."""
    if precision not in PRECISIONS:
        raise TiebreakError(f"unknown precision {precision!r}: {nearest(precision, PRECISIONS)}")
    if score_tokens < 1:
        raise TiebreakError(f"score_tokens, the tokens of one forward, are 1 or more, not {score_tokens}")
    shipped = package.read(folder)
    device = _choose_device(device)
    try:
        missing = hub.missing_file(folder)
        if problem := f"it has no {missing}" if missing else package.damage(shipped, folder):
            raise TiebreakError(
                f"the model in {folder} is damaged or not whole: {problem}; {package.again(folder)}"
            )
        load_folder = int8.load_classifier if int8.is_quantized(folder) else load
        with device_context(device):
            return Judge(load_folder(folder, precision, device), shipped, folder, score_tokens)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise TiebreakError(
            f"the model in {folder} is damaged or not whole: {error}; {package.again(folder)}"
        ) from None


def _choose_device(device: str | None) -> str:
    """The given device, or else the GPU if there is one. Raises TiebreakError if it is not here."""
    count = torch.cuda.device_count()
    valid = ["cpu", *(["cuda"] if count else []), *(f"cuda:{n}" for n in range(count))]
    device = device or valid[min(count, 1)]
    if device not in valid:
        raise TiebreakError(f"no device {device!r} here: torch sees {count} GPUs; {nearest(device, valid)}")
    return device
