"""Reading a record that somebody else wrote: exactly its fields, exactly their types, within their bounds."""

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from fedrlvr.protocol.refused import Refused

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
MAX_REASON = 500  # characters

M = TypeVar("M", bound=BaseModel)


def as_json(data: object) -> bytes:
    """Plain data, or records in it, as JSON bytes that depend on nothing but the content."""
    return json.dumps(to_jsonable_python(data), ensure_ascii=False, sort_keys=True).encode()


class Strict(BaseModel):
    """Neither true nor 1.0 is 1; an unknown field is an error."""

    model_config = ConfigDict(**STRICT, frozen=True)


def parsed(model: type[M], data: object, what: str) -> M:
    """`data`, which must be JSON, as a `model`. Raises Refused, naming the field and what was expected. It quotes no
    value, and of keys at most 80 characters."""
    try:
        return model.model_validate_json(data if isinstance(data, str | bytes) else json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:80] for part in first["loc"] if part != "[key]")
        reason = first["msg"].removeprefix("Value error, ")
        raise Refused(f"{what}{', ' if field else ''}{field}: {reason}"[:MAX_REASON]) from None
    except (TypeError, ValueError, RecursionError):
        raise Refused(f"{what}: not JSON") from None
