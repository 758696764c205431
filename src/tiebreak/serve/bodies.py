"""What the bodies of several APIs have in common."""

import json
import time
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, ValidationError

from tiebreak.serve.errors import ApiError

TAG = "<"
"""With this begins the tag of a union's choice, which errors leave out of a field's place."""


def _text_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    return "<messages>" if any(isinstance(turn, dict) for turn in value) else "<turns>"


Text = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str | None], Tag("<turns>")]
    | Annotated[list[dict[str, Any]], Field(min_length=1), Tag("<messages>")],
    Discriminator(
        _text_kind,
        custom_error_type="text",
        custom_error_message="Input should be a string, a list of turns, or a list of chat messages",
    ),
    Field(
        description="A string, a list of turns, or chat messages with role and content. A prompt of several turns has "
        "as many answers in each response."
    ),
]
PAIR_EXAMPLE: dict[str, JsonValue] = {
    "prompt": "Is it raining?",
    "response_a": "Yes, since noon.",
    "response_b": "Maybe.",
}


class Pair(BaseModel):
    """A prompt with two answers; an answer that was never given is null."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [PAIR_EXAMPLE]})

    prompt: Text
    response_a: Text | None
    response_b: Text | None
    system: str | None = None


def pair_in(text: str, where: str) -> Pair:
    """The pair that a string holds as JSON. Raises ApiError."""
    try:
        return Pair.model_validate_json(text)
    except ValidationError:
        raise ApiError(
            422,
            f"{where} is a text that is no JSON object of a pair. A judge compares two answers: give an object with prompt, "
            f"response_a and response_b, or the same as JSON in a string, such as {json.dumps(PAIR_EXAMPLE)}",
            where.partition("[")[0],
        ) from None


def input_kind(value: Any) -> str | None:
    """The tag of a pair: an object, or JSON in a string."""
    return "<pair>" if isinstance(value, dict | Pair) else "<json>" if isinstance(value, str) else None


NO_INPUT = {
    "custom_error_type": "input",
    "custom_error_message": "Input should be a pair: an object with prompt, response_a and response_b",
}


class Usage(BaseModel):
    """The tokens that the judge has read: those of each pair in every order shown."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = 0

    @classmethod
    def of(cls, tokens: int) -> "Usage":
        return cls(prompt_tokens=tokens, total_tokens=tokens)


class Answer(BaseModel):
    """The head of a response."""

    id: str = Field(default_factory=lambda: uuid4().hex)
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    usage: Usage


class ErrorInfo(BaseModel):
    message: str
    type: str
    param: str | None
    code: int


class FlatError(ErrorInfo):
    """An error, as SGLang tells it."""

    object: Literal["error"]


class ErrorBody(BaseModel):
    """An error, as OpenAI and vLLM tell it."""

    error: ErrorInfo


def failures(body: type[BaseModel], invalid: int = 422) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for OpenAPI. invalid: the status for a body that is not understood."""
    texts: dict[int | str, str] = {
        invalid: "The body is not understood",
        401: "No key, or an unknown one",
        408: "The body did not come in time",
        413: "Too large: the body, a text, or the number of pairs",
        429: "Too many pairs are waiting; Retry-After says when to come again",
        504: "Not judged in time",
        "default": "Any other error",
    }
    return {status: {"model": body, "description": text} for status, text in texts.items()}
