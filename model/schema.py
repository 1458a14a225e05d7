"""JSON to frozen dataclasses and back, strictly: the annotation of a field says which values it may have.

Understood are int, float, str, Literal, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, Any, other
dataclasses, and Annotated with a `Check`. Fields that a dataclass lacks are ignored, so that readers in the field can
read what newer writers wrote.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_LENGTH = 1000
"""Of a list, and of an object whose names are open."""


class Invalid(ValueError):
    """A value is not what its type says; the message goes on after the name of the file: "has ...", "lacks ..."."""


@dataclass(frozen=True)
class Check:
    """What a value has to be beyond its type: `allowed` tells, `words` say it."""

    allowed: Callable[[Any], bool]
    words: str


def between(low: float, high: float) -> Check:
    return Check(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def length(low: int, high: int) -> Check:
    return Check(lambda value: low <= len(value) <= high, f"a length from {low} to {high}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 100 and all(not isinstance(part, list) and _is_plain(part) for part in value)
    if isinstance(value, int | float):  # a truth value, too
        return abs(value) <= 1e12  # never NaN
    return value is None or (isinstance(value, str) and len(value) <= 1000)


Plain = Annotated[Any, Check(_is_plain, "a number, a short text, a truth value, null or a short list of them")]

_BASES = {
    int: Check(lambda value: type(value) is int, "a whole number"),
    float: Check(lambda value: type(value) in (int, float) and abs(value) <= 1e9, "a finite number"),  # never NaN
    str: Check(lambda value: type(value) is str, "a text"),
    Any: Check(lambda value: True, "anything"),
}


def parse(kind: Any, value: Any, where: str = "") -> Any:
    """`value`, as `json.loads` gives it, as a `kind`. Raises Invalid, which names the first field that is wrong by its
    path, such as "test.calibration.bins_after.0.n"."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = parse(args[0], value, where)
        _require(args[1].allowed(found), value, where, args[1].words)
        return found
    if origin in (Union, UnionType):  # X | None
        return None if value is None else parse(args[0], value, where)
    if origin is Literal:
        allowed = any(value == each and type(value) is type(each) for each in args)
        _require(allowed, value, where, " or ".join(map(json.dumps, args)))
        return value
    if origin is tuple:
        count = None if args[-1] is ... else len(args)
        _require(isinstance(value, list) and len(value) <= MAX_LENGTH, value, where, "a list")
        _require(count in (None, len(value)), value, where, f"a list of {count}")
        kinds = args[:1] * len(value) if count is None else args
        return tuple(parse(*each, f"{where}.{i}") for i, each in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        _require(isinstance(value, dict) and len(value) <= MAX_LENGTH, value, where, "an object")
        return {name: parse(args[1], part, f"{where}.{name}") for name, part in value.items()}
    if is_dataclass(kind):
        return _parse_object(kind, value, where)
    _require(_BASES[kind].allowed(value), value, where, _BASES[kind].words)
    return float(value) if kind is float else value


def _parse_object(kind: type[T], value: Any, where: str) -> T:
    _require(isinstance(value, dict), value, where, "an object")
    hints, found, prefix = get_type_hints(kind, include_extras=True), {}, f"{where}." if where else ""
    for field in fields(kind):
        if field.name in value:
            hint = hints[field.name]
            if field.default is None:  # may be absent, but not null
                hint = get_args(hint)[0]
            found[field.name] = parse(hint, value[field.name], prefix + field.name)
        elif field.default is MISSING:
            raise Invalid(f"lacks {prefix}{field.name}")
    try:
        return kind(**found)
    except ValueError as error:  # its fields contradict each other
        raise Invalid(f"has a wrong {where}: {error}" if where else f"is wrong: {error}") from None


def _require(allowed: bool, value: Any, where: str, words: str) -> None:
    if not allowed:  # on one line, in ASCII
        place, shown = json.dumps(where)[1:-1][-100:], json.dumps(value)[:80]
        raise Invalid(f"has {place} {shown} where {words} is allowed" if where else f"is {shown}, not {words}")


def to_json(value: Any) -> Any:
    """What `json.dumps` takes of a dataclass. A field that is None because it may be absent is left out."""
    return json.loads(json.dumps(value, default=_present))


def _present(section: Any) -> dict[str, Any]:
    values = {field: getattr(section, field.name) for field in fields(section)}
    return {field.name: value for field, value in values.items() if value is not None or field.default is not None}
