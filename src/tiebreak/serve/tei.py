"""The API of text-embeddings-inference for classifiers: /predict.

There an input is a string or a list of two; here it is a list of three, [prompt, response_a, response_b], or a pair as an
object, or that object as JSON in a string. As there, one input is answered by a list of labels with scores, highest first,
and a batch by a list of those. A `truncate` of false refuses a pair that does not fit; otherwise it is cut as in training.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, Tag

from tiebreak.judge.judgements import Judgements
from tiebreak.serve.bodies import NO_INPUT, PAIR_EXAMPLE, Pair, failures, input_kind, pair_in
from tiebreak.serve.errors import ApiError
from tiebreak.serve.service import Service
from tiebreak.votes.schema import LABELS

Single = Annotated[
    list[str], Field(min_length=1, max_length=1, description="A pair as JSON in a string."), Tag("<single>")
]
Triple = Annotated[
    list[str],
    Field(min_length=3, max_length=3, description="Prompt, response_a and response_b."),
    Tag("<triple>"),
]


def _item_kind(value: Any) -> str | None:
    if isinstance(value, list):
        return "<single>" if len(value) == 1 else "<triple>"
    return "<pair>" if isinstance(value, dict | Pair) else None


def _kind(value: Any) -> str | None:
    if isinstance(value, list):
        return "<triple>" if any(isinstance(item, str) for item in value) else "<batch>"
    return input_kind(value)


Item = Annotated[Annotated[Pair, Tag("<pair>")] | Single | Triple, Discriminator(_item_kind, **NO_INPUT)]
Inputs = Annotated[
    Annotated[Pair, Tag("<pair>")]
    | Annotated[str, Tag("<json>")]
    | Triple
    | Annotated[list[Item], Field(min_length=1), Tag("<batch>")],
    Discriminator(_kind, **NO_INPUT),
]


class PredictRequest(BaseModel):
    """One input, or a batch of them."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"inputs": list(PAIR_EXAMPLE.values())},
                {"inputs": [list(PAIR_EXAMPLE.values()), PAIR_EXAMPLE]},
            ]
        },
    )

    inputs: Inputs
    raw_scores: Literal[False] = Field(False, description="Probabilities are always given.")
    truncate: StrictBool | None = None

    @property
    def is_batch(self) -> bool:
        return isinstance(self.inputs, list) and not all(isinstance(item, str) for item in self.inputs)

    def pairs(self) -> list[Pair]:
        """The inputs as pairs. Raises ApiError."""
        items = self.inputs if self.is_batch else [self.inputs]
        return [_pair(item, f"inputs[{n}]") for n, item in enumerate(items)]  # type: ignore[arg-type]


class Prediction(BaseModel):
    score: float
    label: Literal["a", "b", "tie"]


class TeiError(BaseModel):
    """An error, as text-embeddings-inference tells it."""

    error: str
    error_type: Literal["unhealthy", "backend", "overloaded", "validation", "tokenizer", "empty"]


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["text-embeddings-inference"])

    @routes.post("/predict", responses=failures(TeiError))
    async def predict(body: PredictRequest) -> list[Prediction] | list[list[Prediction]]:
        """The labels of each input with their probabilities, highest first."""
        pairs = body.pairs()
        found = await service.judge([pair.model_dump(exclude_unset=True) for pair in pairs])
        if body.truncate is False:
            _require_whole(found, service.max_tokens)
        return predictions(found) if body.is_batch else predictions(found)[0]

    return routes


def predictions(found: Judgements) -> list[list[Prediction]]:
    """The labels and probabilities of pairs, one by one."""
    return [
        sorted(
            (Prediction(score=p, label=label) for p, label in zip(p_C, LABELS, strict=True)),
            key=lambda prediction: -prediction.score,
        )
        for p_C in found.p_NC.tolist()
    ]


def _pair(item: Pair | str | Sequence[str], where: str) -> Pair:
    if isinstance(item, Pair):
        return item
    if isinstance(item, str):
        return pair_in(item, where)
    if len(item) == 1:
        return pair_in(item[0], where)
    prompt, a, b = item
    return Pair(prompt=prompt, response_a=a, response_b=b)


def _require_whole(found: Judgements, max_tokens: int) -> None:
    if found.truncated.any():
        tokens = int(found.given_N3.sum(axis=1).max()) + found.frame_tokens
        raise ApiError(413, f"inputs must have at most {max_tokens} tokens; given: {tokens}")
