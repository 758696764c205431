"""The API of this project's own: /v1/compare and /v1/rank."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictInt, Tag
from typing_extensions import TypedDict

from tiebreak.judge.judgements import DecidedBy, Judgements, shown
from tiebreak.serve.bodies import PAIR_EXAMPLE, Answer, ErrorBody, Pair, Text, Usage, failures
from tiebreak.serve.service import Service
from tiebreak.votes.formats.record_formats import MOST_RESPONSES


class Pairs(BaseModel):
    """Several pairs."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"pairs": [PAIR_EXAMPLE]}]})

    pairs: list[Pair] = Field(min_length=1)


def _kind(body: Any) -> str:
    return "<pairs>" if isinstance(body, Pairs) or (isinstance(body, dict) and "pairs" in body) else "<pair>"


CompareRequest = Annotated[
    Annotated[Pair, Tag("<pair>")] | Annotated[Pairs, Tag("<pairs>")], Discriminator(_kind)
]


class Probabilities(TypedDict):
    """P(A preferred), P(B preferred), P(tie)."""

    p_a: float
    p_b: float
    p_tie: float


class Order(Probabilities):
    """What the model alone says in one order, before calibration; first: the answer that is shown first."""

    first: Literal["a", "b"]


_FIRST: tuple[Literal["a", "b"], ...] = ("a", "b")


class Kept(TypedDict):
    """Tokens of a text, and how many of them the model is shown."""

    given: int
    kept: int


class Tokens(TypedDict):
    """The tokens of a pair."""

    prompt: Kept
    response_a: Kept
    response_b: Kept


class Comparison(Probabilities):
    """Calibrated probabilities of a pair.

    decided_by: what has the last word; `blend` is the model with its baseline of word counts, `rule` what votes without two
    different answers were given. truncated: not all of the texts fits; tokens says what.
    """

    index: int
    decided_by: DecidedBy
    truncated: bool
    orders: list[Order]
    tokens: Tokens


class CompareResponse(Answer):
    results: list[Comparison]


class RankRequest(BaseModel):
    """A prompt with several responses."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"prompt": "Is it raining?", "responses": ["Yes, since noon.", "Maybe.", "No."]}]
        },
    )

    prompt: Text
    responses: list[Text] = Field(min_length=1, max_length=MOST_RESPONSES)
    system: str | None = None
    pairs: StrictInt | None = Field(
        None, ge=1, description="Pairs to judge; all of up to 8 responses by default."
    )


class RankResponse(Answer):
    """The ranking: order has the responses' indices, best first, scores are log odds of mean 0, p_best the probability
    that each would be chosen among all, pairs the indices of those that were compared.
    """

    best: int
    order: list[int]
    scores: list[float]
    p_best: list[float]
    pairs: list[tuple[int, int]]


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["tiebreak"])

    @routes.post("/v1/compare", responses=failures(ErrorBody))
    async def compare(body: CompareRequest) -> CompareResponse:
        """P(A preferred), P(B preferred) and P(tie) of one pair of answers, or of several."""
        pairs = body.pairs if isinstance(body, Pairs) else [body]
        found = await service.judge([pair.model_dump(exclude_unset=True) for pair in pairs])
        return CompareResponse(model=service.name, usage=Usage.of(found.tokens), results=comparisons(found))

    @routes.post("/v1/rank", responses=failures(ErrorBody))
    async def rank(body: RankRequest) -> RankResponse:
        """The ranking of several responses to a prompt, by comparisons of pairs."""
        row = body.model_dump(exclude={"pairs"}, exclude_unset=True)
        (ranking,), tokens = await service.rank([row], body.pairs)
        return RankResponse(
            model=service.name,
            usage=Usage.of(tokens),
            best=ranking.best,
            order=ranking.order,
            scores=ranking.scores.tolist(),
            p_best=ranking.p_best.tolist(),
            pairs=list(ranking.pairs),
        )

    return routes


def comparisons(found: Judgements) -> list[Comparison]:
    """The judgements of pairs, one by one."""
    rows = zip(
        found.p_NC.tolist(),
        found.p_NOC.tolist(),
        shown(found.p_NOC).tolist(),
        found.decided_by,
        found.truncated.tolist(),
        found.given_N3.tolist(),
        found.kept_N3.tolist(),
        strict=True,
    )
    return [
        {
            "p_a": a,
            "p_b": b,
            "p_tie": tie,
            "index": n,
            "decided_by": decided_by,
            "truncated": truncated,
            "orders": _orders(p_OC, shown_O),
            "tokens": _tokens(given, kept),
        }
        for n, ((a, b, tie), p_OC, shown_O, decided_by, truncated, given, kept) in enumerate(rows)
    ]


def _orders(p_OC: list[list[float]], shown_O: list[bool]) -> list[Order]:
    return [
        {"p_a": a, "p_b": b, "p_tie": tie, "first": first}
        for first, (a, b, tie), is_shown in zip(_FIRST, p_OC, shown_O, strict=True)
        if is_shown
    ]


def _tokens(given: list[int], kept: list[int]) -> Tokens:
    prompt, a, b = given
    kept_prompt, kept_a, kept_b = kept
    return {
        "prompt": {"given": prompt, "kept": kept_prompt},
        "response_a": {"given": a, "kept": kept_a},
        "response_b": {"given": b, "kept": kept_b},
    }
