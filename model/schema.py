"""JSON to frozen dataclasses and back, strictly: the annotation of a field says which values it may have.

Understood are int, float, str, Literal, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, Plain, other
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


def between(low: float, high: float, words: str) -> Check:
    return Check(lambda value: low <= value <= high, words)


Plain = Annotated[Any, Check(lambda value: _is_plain(value), "a plain value")]
"""A number, text, truth value, null, or a list of them."""


def parse(kind: type[T], value: Any) -> T:
    """`value`, as `json.loads` gives it, as a `kind`. Raises Invalid, which names the first field that is wrong."""
    return _parse(kind, value, "", "an object")


def to_json(value: Any) -> Any:
    """What `json.dumps` takes of a dataclass. A field that is None because it may be absent is left out."""
    if is_dataclass(value):
        found = {field.name: (getattr(value, field.name), field.default) for field in fields(value)}
        return {name: to_json(value) for name, (value, default) in found.items() if not value is default is None}
    if isinstance(value, dict):
        return {name: to_json(part) for name, part in value.items()}
    return [to_json(part) for part in value] if isinstance(value, tuple | list) else value


def _parse(kind: Any, value: Any, where: str, words: str = "") -> Any:
    """`where`: path of the value, such as "test.calibration"; `words`: what is allowed there."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = _parse(args[0], value, where, args[1].words)
        _require(args[1].allowed(found), value, where, args[1].words)
        return found
    if origin in (Union, UnionType):  # X | None
        return None if value is None else _parse(args[0], value, where, words)
    if origin is Literal:
        _require(any(value == each and type(value) is type(each) for each in args), value, where, _listed(args))
        return value
    if origin is tuple:
        count = None if args[-1] is ... else len(args)
        words = words or ("a list" if count is None else f"a list of {count}")
        _require(isinstance(value, list) and len(value) <= MAX_LENGTH, value, where, words)
        _require(count in (None, len(value)), value, where, words)
        kinds = args[:1] * len(value) if count is None else args
        return tuple(_parse(*each, f"{where}[{i}]") for i, each in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        _require(isinstance(value, dict) and len(value) <= MAX_LENGTH, value, where, words or "an object")
        _require(all(map(_is_text, value)), value, where, words or "an object")
        return {name: _parse(args[1], part, f"{where}[{_shown(name)}]") for name, part in value.items()}
    if is_dataclass(kind):
        return _parse_object(kind, value, where)
    if kind is float:
        _require(_is_number(value), value, where, words or "a finite number")
        return float(value)
    if kind is int:
        _require(isinstance(value, int) and not isinstance(value, bool), value, where, words or "a whole number")
    elif kind is str:
        _require(_is_text(value), value, where, words or "a text")
    return value


def _parse_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise Invalid(f"has {where} {_shown(value)} where an object is allowed" if where else "is not a JSON object")
    hints, found, prefix = get_type_hints(kind, include_extras=True), {}, f"{where}." if where else ""
    for field in fields(kind):
        if field.name in value:
            hint = hints[field.name]
            if field.default is None:  # may be absent, but not null
                hint = get_args(hint)[0]
            found[field.name] = _parse(hint, value[field.name], prefix + field.name)
        elif field.default is MISSING:
            raise Invalid(f"lacks {prefix}{field.name}")
    try:
        return kind(**found)
    except ValueError as error:  # its fields contradict each other
        raise Invalid(f"has a wrong {where}: {error}" if where else f"is wrong: {error}") from None


def _require(allowed: bool, value: Any, where: str, words: str) -> None:
    if not allowed:
        raise Invalid(f"has {where} {_shown(value)} where {words} is allowed")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9  # never NaN


def _is_text(value: Any) -> bool:
    """Half of a surrogate pair, which JSON can hold, is no text: it has no encoding."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 100 and all(not isinstance(part, list) and _is_plain(part) for part in value)
    if isinstance(value, str):
        return len(value) <= 1000 and _is_text(value)
    if isinstance(value, int):  # a truth value, too
        return -(10**12) <= value <= 10**12
    return value is None or _is_number(value)


def _listed(values: tuple[Any, ...]) -> str:
    return " or ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]  # on one line, in ASCII
