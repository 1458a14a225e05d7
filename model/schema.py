"""JSON to frozen dataclasses and back, strictly, with pydantic: a field's annotation says which values it may have.

Fields that a dataclass lacks are ignored, so that readers in the field can read what newer writers wrote.
"""

import functools
import json
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
"""`__pydantic_config__` of the dataclasses: no text for a number, no NaN."""


class Invalid(ValueError):
    """A value is not what its type says; the message goes on after the name of the file: "has ...", "lacks ..."."""


def _plain(value: Any) -> Any:
    parts = value if isinstance(value, list) else [value]
    if len(parts) > 100 or not all(map(_is_short, parts)):
        raise ValueError("a number, a short text, a truth value, null or a list of up to 100 of them is allowed")
    return value


def _is_short(value: Any) -> bool:
    if isinstance(value, int | float):  # a truth value, too
        return abs(value) <= 1e12  # never NaN
    return value is None or (isinstance(value, str) and len(value) <= 1000)


Plain = Annotated[Any, AfterValidator(_plain)]
"""A number, text, truth value, null, or a list of them."""

_adapter = functools.cache(TypeAdapter)


def parse(kind: type[T], text: str | bytes) -> T:
    """A JSON text as a `kind`. Raises Invalid, which names the first field that is wrong."""
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    where = _shown(".".join(map(str, first["loc"]))).strip('"')
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        raise Invalid(f"is not valid JSON ({reason.removeprefix('Invalid JSON: ')})")
    if first["type"] == "missing":
        raise Invalid(f"lacks {where}")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # its fields contradict each other
        raise Invalid(f"has a wrong {where}: {reason}" if where else f"is wrong: {reason}")
    raise Invalid(f"has {where} {_shown(first['input'])}: {reason}" if where else f"is no JSON object: {reason}")


def to_json(value: Any) -> Any:
    """What `json.dumps` takes of a dataclass. A field that is None because it may be absent is left out."""
    return json.loads(json.dumps(value, default=_present))


def _present(section: Any) -> dict[str, Any]:
    values = {field: getattr(section, field.name) for field in fields(section)}
    return {field.name: value for field, value in values.items() if value is not None or field.default is not None}


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]  # on one line, in ASCII
