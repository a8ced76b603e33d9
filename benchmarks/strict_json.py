"""JSON that means what it says: strictly read into dataclasses, written the same every time.

JSON becomes dataclasses by their annotations, with nothing guessed and nothing lost: every field
must be there (unless it has a default), none may be unknown, no type is coerced; duplicate keys,
NaN, Infinity, integers beyond 64 bits and text that is not Unicode are refused. Source: RFC 7493.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from benchmarks.errors import ResultsError

T = TypeVar("T")

INT_LIMIT = 2**63
"""Integers are smaller than this, either way: what every reader of JSON can hold exactly."""

_NAMES = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


class NotJson(ResultsError):  # noqa: N818 - named by what is the case
    """The text is not JSON at all: cut short or never JSON. A torn write looks like this."""


def loads(raw: bytes) -> object:
    """The value that *raw* says. Raises NotJson, or ResultsError for what JSON forbids."""
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise NotJson("the text is not UTF-8") from None
    except json.JSONDecodeError as wrong:
        raise NotJson(f"this is not JSON: {wrong.msg} at column {wrong.colno}") from None
    except RecursionError:
        raise ResultsError("the JSON is nested too deeply") from None
    except ValueError:  # int() refuses more than 4300 digits
        raise ResultsError("a number has too many digits") from None


def as_json(value: object, *, indent: int | None = None) -> bytes:
    """*value* (a dataclass, or plain JSON) as UTF-8, the same bytes for the same value."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(
            _plain(value),
            ensure_ascii=False,
            allow_nan=False,
            indent=indent,
            separators=separators,
        )
        return text.encode()
    except (ValueError, TypeError) as wrong:  # NaN, lone surrogates, objects
        raise ResultsError(f"a value cannot be written as JSON: {wrong}") from None


def decode(kind: type[T], value: object, path: str = "") -> T:
    """*value* as a *kind*, which must be a dataclass. Raises ResultsError naming the field."""
    if not isinstance(value, dict):
        _refuse(path, "an object", value)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", kind))}
    if unknown := sorted(value.keys() - fields.keys()):
        raise ResultsError(f"unknown field {_shown(_join(path, unknown[0]))}")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise ResultsError(f"field {_shown(_join(path, name))} is missing")
    hints = _hints(cast("Any", kind))
    return kind(
        **{name: _convert(hints[name], item, _join(path, name)) for name, item in value.items()}
    )


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _convert(kind: Any, value: object, path: str) -> Any:
    if kind is Any:
        return _anything(value, path)
    if dataclasses.is_dataclass(kind):
        return decode(cast("type[object]", kind), value, path)
    origin = get_origin(kind)
    if origin is None:
        return _scalar(kind, value, path)
    return _composite(origin, get_args(kind), value, path)


def _composite(origin: Any, args: tuple[Any, ...], value: object, path: str) -> Any:
    if origin is Literal:
        return _one_of(args, value, path)
    if origin in (Union, UnionType):
        return _either(args, value, path)
    if origin is tuple:
        if not isinstance(value, list):
            _refuse(path, "a list", value)
        return tuple(_convert(args[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        _refuse(path, "an object", value)
    return {_text(key, path): _convert(args[1], value[key], _join(path, key)) for key in value}


def _one_of(choices: tuple[Any, ...], value: object, path: str) -> object:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    return _refuse(path, " or ".join(repr(choice) for choice in choices), value)


def _either(kinds: tuple[Any, ...], value: object, path: str) -> Any:
    """None, or whichever of *kinds* fits; scalars are told apart by type, never coerced."""
    if value is None and NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not NoneType]
    if len(rest) == 1:
        return _convert(rest[0], value, path)
    for kind in rest:
        if type(value) is kind:
            return _scalar(kind, value, path)
    return _refuse(path, " or ".join(_NAMES[kind] for kind in kinds), value)


def _scalar(kind: Any, value: object, path: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:  # exact: True is no integer here
        _refuse(path, _NAMES[kind], value)
    return _anything(value, path)


def _anything(value: object, path: str) -> object:
    """*value* as it is, once every text and number in it can be written and computed with."""
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultsError(f"field {_shown(path)} is too large for a number")
    if type(value) is int and not -INT_LIMIT < value < INT_LIMIT:
        raise ResultsError(f"field {_shown(path)} does not fit in 64 bits")
    if isinstance(value, list):
        return [_anything(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {_text(key, path): _anything(value[key], _join(path, key)) for key in value}
    return value


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ResultsError(f"field {_shown(path)} holds text that is not Unicode") from None
    return value


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ResultsError("an object names the same field twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ResultsError(f"{name} is not a JSON number")


def _refuse(path: str, wanted: str, value: object) -> NoReturn:
    subject = f"field {_shown(path)}" if path else "the whole"
    raise ResultsError(f"{subject} should be {wanted}, not {_shown(value)}")


def _shown(value: object) -> str:
    """A hostile value for an error message: escaped by repr and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
