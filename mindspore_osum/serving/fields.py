"""What requests have in common: fields are read strictly, and what asks for nothing is taken.

Notable choices
- An unknown or unsupported field is refused by its name, never ignored. Null asks for nothing, whatever the
  field; so do the values in `Strict.NEUTRAL`: clients send their defaults, too.
"""

import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mindspore_osum.errors import UserError
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response
from mindspore_osum.serving.bodies import ApiError

MAX_TEMPERATURE = 2  # as in OpenAI's API
MAX_VALUES = 100_000  # of a JSON body; parsed they take far more memory than as text


class Strict(BaseModel):
    """Fields of a request; others are refused.

    Attributes
    ----------
    NEUTRAL : fields of OpenAI's API that the server does not have -> their values that ask for nothing.
    """

    model_config = ConfigDict(extra="forbid")
    NEUTRAL: ClassVar[dict[str, tuple]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None and v not in cls.NEUTRAL.get(k, ())}


def read_model(kind: type[Strict], values: Any):
    """The request, or an ApiError that names the field."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place, what = ".".join(map(str, first["loc"])), first["msg"]
        if first["type"] == "extra_forbidden" and place in kind.NEUTRAL:
            taken = " or ".join(json.dumps(value) for value in kind.NEUTRAL[place])
            what = "not supported by this server; leave it out" + (f" or give {taken}" if taken else "")
        elif first["type"] == "extra_forbidden":
            what = "not a field of this server"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ApiError(400, f"{place or 'body'}: {what}{more}", place or None) from None


def read_json(body: bytes):
    """The JSON of a body."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:  # none of them is in base64
        raise ApiError(400, f"the body is JSON of more than {MAX_VALUES} values; a chat has a few")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise ApiError(400, "the body is not JSON in UTF-8") from None


def event(data: dict | str) -> str:
    """A server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n"


def sampling(max_new_tokens: int, **settings) -> Sampling:
    """Settings of generation; an impossible one is refused by its name."""
    if settings.get("temperature", 0) > MAX_TEMPERATURE:
        raise ApiError(400, f"temperature: must be at most {MAX_TEMPERATURE}", "temperature")
    try:
        return Sampling(max_new_tokens=max_new_tokens, **settings)
    except UserError as error:
        raise ApiError(400, str(error), str(error).split()[0]) from None


def finish_reason(response: Response) -> str:
    """Why the answer ended: at its limit, or by itself."""
    return "length" if response.cut else "stop"
