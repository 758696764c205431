"""The classification and scoring APIs of vLLM and SGLang, and the rerank APIs of Jina and Cohere as vLLM has them.

Requests and responses have vLLM's fields; unknown ones are ignored, as there. What a judge of pairs cannot do, such as
leaving out its activation, is refused. Errors of a body are 400, as there.

A judge has no score for one answer alone. So the score of an answer is the probability that it would be chosen among all
answers to its prompt in the request (`p_best` of a ranking): the larger the better, and 1 in all.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag, model_validator

from tiebreak.judge.judgements import Judgements
from tiebreak.serve.bodies import (
    NO_INPUT,
    PAIR_EXAMPLE,
    Answer,
    ErrorBody,
    FlatError,
    Pair,
    Usage,
    failures,
    input_kind,
    pair_in,
)
from tiebreak.serve.errors import ApiError
from tiebreak.serve.service import Service
from tiebreak.votes.formats.dialog import clean
from tiebreak.votes.schema import LABELS

PATHS = frozenset(
    {
        *("/classify", "/v1/classify", "/score", "/v1/score"),
        *("/rerank", "/v1/rerank", "/v2/rerank"),
    }
)


class Request(BaseModel):
    """What all requests have."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: Literal[-1] | None = Field(
        None, description="Texts are always cut to the model's tokens, as in training."
    )
    use_activation: Literal[True] | None = Field(None, description="Probabilities are always given.")


One = Annotated[
    Annotated[Pair, Tag("<pair>")] | Annotated[str, Tag("<json>")],
    Discriminator(input_kind, **NO_INPUT),
]


def _kind(value: Any) -> str | None:
    return "<list>" if isinstance(value, list) else input_kind(value)


class ClassifyRequest(Request):
    """Pairs, each an object or, for clients that send strings, that object as JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": [PAIR_EXAMPLE]}]})

    input: Annotated[
        Annotated[Pair, Tag("<pair>")]
        | Annotated[str, Tag("<json>")]
        | Annotated[list[One], Field(min_length=1), Tag("<list>")],
        Discriminator(_kind, **NO_INPUT),
    ]


class Classification(BaseModel):
    index: int
    label: Literal["a", "b", "tie"]
    probs: list[float] = Field(description="Of a, b and tie, calibrated, from both orders.")
    num_classes: int = 3


class ClassifyResponse(Answer):
    data: list[Classification]


class Part(BaseModel):
    """A part of a document, as of a chat message; only text can be judged."""

    type: Literal["text"]
    text: str


class Document(BaseModel):
    """A document as an object."""

    text: str | None = None
    content: list[Part] | None = None

    @model_validator(mode="after")
    def _require_text(self) -> Self:
        if self.text is None and self.content is None:
            raise ValueError("a document has text, or content with parts of text")
        return self

    def __str__(self) -> str:
        return self.text or "\n".join(part.text for part in self.content or ())


AnyDocument = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[Document, Tag("<object>")],
    Discriminator(lambda value: "<text>" if isinstance(value, str) else "<object>"),
]
Texts = str | list[str]


class ScoreRequest(Request):
    """Prompts and answers, under any of the names that vLLM takes: one prompt with many answers, or as many of each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text_1": "Is it raining?", "text_2": ["Yes, since noon.", "Maybe."]}]
        }
    )

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None

    def prompts_and_answers(self) -> tuple[list[str], list[str]]:
        """As many of each. Raises ApiError."""
        sides = (
            (self.queries, self.documents),
            (self.queries, self.items),
            (self.data_1, self.data_2),
            (self.text_1, self.text_2),
        )
        given = next(((one, two) for one, two in sides if one is not None and two is not None), None)
        if given is None:
            raise ApiError(400, "text_1 and text_2 are needed: prompts, and answers to them", "text_1")
        one, two = ([side] if isinstance(side, str) else side for side in given)
        prompts = one * len(two) if len(one) == 1 else one
        if len(prompts) != len(two) or not two:
            raise ApiError(
                400, f"{len(one)} prompts and {len(two)} answers: needed are one prompt, or as many", "text_1"
            )
        return prompts, two


class Score(BaseModel):
    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(Answer):
    data: list[Score]


class RerankRequest(Request):
    """A prompt (`query`) and answers to it (`documents`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "Is it raining?", "documents": ["Yes, since noon.", "Maybe."], "top_n": 1}]
        }
    )

    query: str
    documents: list[AnyDocument] = Field(min_length=1)
    top_n: StrictInt | None = Field(
        None, ge=0, description="How many of the best to return; all by default, or for 0."
    )
    return_documents: StrictBool = True


class RerankDocument(BaseModel):
    text: str


class RerankResult(BaseModel):
    index: int
    document: RerankDocument | None = None
    relevance_score: float


class RerankResponse(Answer):
    results: list[RerankResult]


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["vLLM, SGLang, Jina, Cohere"])
    errors = _failures(ErrorBody)

    @routes.post("/v1/classify", responses=_failures(FlatError))
    @routes.post("/classify", responses=errors)
    async def classify(body: ClassifyRequest) -> ClassifyResponse:
        """The label and probabilities of each pair."""
        _require_model(body, service)
        given = body.input if isinstance(body.input, list) else [body.input]
        pairs = [
            pair if isinstance(pair, Pair) else pair_in(pair, f"input[{n}]") for n, pair in enumerate(given)
        ]
        found = await service.judge([pair.model_dump(exclude_unset=True) for pair in pairs])
        return ClassifyResponse(model=service.name, usage=Usage.of(found.tokens), data=classifications(found))

    @routes.post("/v1/score", responses=errors)
    @routes.post("/score", responses=errors)
    async def score(body: ScoreRequest) -> ScoreResponse:
        """The probability of each answer to be chosen among those to its prompt."""
        _require_model(body, service)
        prompts, answers = body.prompts_and_answers()
        scores, tokens = await _scores(service, prompts, answers)
        data = [Score(index=n, score=score) for n, score in enumerate(scores)]
        return ScoreResponse(model=service.name, usage=Usage.of(tokens), data=data)

    @routes.post("/v2/rerank", responses=errors, response_model_exclude_none=True)
    @routes.post("/v1/rerank", responses=errors, response_model_exclude_none=True)
    @routes.post("/rerank", responses=errors, response_model_exclude_none=True)
    async def rerank(body: RerankRequest) -> RerankResponse:
        """The answers to a prompt, best first."""
        _require_model(body, service)
        texts = [clean(str(document)) for document in body.documents]
        (ranking,), tokens = await service.rank([{"prompt": body.query, "responses": texts}])
        results = [
            RerankResult(
                index=n,
                document=RerankDocument(text=texts[n]) if body.return_documents else None,
                relevance_score=float(ranking.p_best[n]),
            )
            for n in ranking.order[: body.top_n or len(texts)]
        ]
        return RerankResponse(model=service.name, usage=Usage.of(tokens), results=results)

    return routes


def _failures(body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return failures(body, invalid=400) | {404: {"model": body, "description": "No such model"}}


def classifications(found: Judgements) -> list[Classification]:
    """The label and probabilities of pairs, one by one."""
    return [
        Classification(index=n, label=LABELS[p_C.argmax()], probs=p_C.tolist())
        for n, p_C in enumerate(found.p_NC)
    ]


async def _scores(
    service: Service, prompts: Sequence[str], answers: Sequence[str]
) -> tuple[list[float], int]:
    """The score of each answer among those to its prompt, and the tokens read. Raises ApiError."""
    members: dict[str, list[int]] = {}
    for n, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(n)
    if alone := [rows[0] for rows in members.values() if len(rows) == 1]:
        raise ApiError(
            400,
            f"answer {alone[0]} is the only one to its prompt. A judge scores an answer against others to the same prompt: "
            "give two or more",
            "text_2",
        )
    rows = [{"prompt": prompt, "responses": [answers[n] for n in rows]} for prompt, rows in members.items()]
    rankings, tokens = await service.rank(rows)
    scores = [0.0] * len(answers)
    for ranking, places in zip(rankings, members.values(), strict=True):
        for n, p in zip(places, ranking.p_best.tolist(), strict=True):
            scores[n] = p
    return scores, tokens


def _require_model(body: Request, service: Service) -> None:
    if body.model not in (None, "", "default", service.name):
        raise ApiError(404, f"the model {body.model!r} does not exist; served is {service.name!r}", "model")
