"""Reads values of a JSON document strictly: each by its place, kind and bounds (pure).

The scanner is the one in C that ``json`` wraps; the wrapping costs more than the reading.
"""

import _json
from collections.abc import Iterator

from runtime.errors import SpecError

MOST_BYTES = 4 << 20
_MOST_TEXT = 1 << 20
_MOST_ITEMS = 10_000


class _Context:
    """What the scanner asks for."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own

    @staticmethod
    def parse_constant(name: str) -> object:
        """JSON has no NaN."""
        raise ValueError(f"{name} is no JSON")

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        """An object whose keys differ."""
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice")
        return found


def parse(raw: bytes, what: str) -> object:
    """The JSON value *raw*. Raises SpecError that names *what*."""
    if len(raw) > MOST_BYTES:
        raise SpecError(f"{what} is larger than {MOST_BYTES >> 20} MiB", remedy="shorten it")
    try:
        text = raw.decode().strip(" \t\r\n")
        value, end = _json.make_scanner(_Context())(text, 0)  # type: ignore[arg-type]
    except (ValueError, StopIteration, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it ends or nests unexpectedly"
        raise SpecError(f"{what} is no JSON document: {why}", remedy="correct it") from None
    if end != len(text):
        raise SpecError(f"{what}: more follows its JSON document", remedy="correct it")
    return value


def render(value: object) -> str:
    """*value* as JSON, on one line."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case int():
            return str(value)
        case str():
            return str(_json.encode_basestring_ascii(value))
        case dict():
            inside = (f"{render(str(k))}: {render(v)}" for k, v in value.items())
            return "{" + ", ".join(inside) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(render, value)) + "]"
        case _:
            raise TypeError(type(value))


class Reader:
    """One object of a document; *place* is where it stands, as errors name it."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise wrong(place, "an object")
        self.value: dict[str, object] = value
        self.place = place

    def where(self, name: str) -> str:
        """The place of the member *name*."""
        return f"{self.place}.{name}" if self.place else name

    def has(self, name: str) -> bool:
        """Whether *name* is there and not null."""
        return self.value.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A string without NUL."""
        value = self.value.get(name)
        if value is None and default is not None:
            return default
        return as_text(value, self.where(name))

    def number(
        self, name: str, default: int | None = None, *, low: int = 0, high: int = 1 << 63
    ) -> int | None:
        """A whole number within bounds, or *default*."""
        value = self.value.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(self.where(name), f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.value.get(name, default)
        if not isinstance(value, bool):
            raise wrong(self.where(name), "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; none if it is not there."""
        return tuple(as_text(v, at) for at, v in self.items(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of ids."""
        values = tuple(v for _, v in self.items(name))
        if not all(type(v) is int and 0 <= v < 1 << 32 for v in values):
            raise wrong(self.where(name), "a list of numbers below 2^32")
        return values  # type: ignore[return-value]

    def items(self, name: str) -> Iterator[tuple[str, object]]:
        """Place and value of each item of a list."""
        value = self.value.get(name)
        value = [] if value is None else value
        if not isinstance(value, list) or len(value) > _MOST_ITEMS:
            raise wrong(self.where(name), f"a list of at most {_MOST_ITEMS} items")
        for index, item in enumerate(value):
            yield f"{self.where(name)}[{index}]", item

    def objects(self, name: str) -> Iterator["Reader"]:
        """Each object of a list."""
        for place, item in self.items(name):
            yield Reader(item, place)

    def inner(self, name: str) -> "Reader":
        """The object *name*; an empty one if it is not there."""
        value = self.value.get(name)
        return Reader({} if value is None else value, self.where(name))

    def mapping(self, name: str) -> dict[str, str]:
        """An object of strings."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in inner.value}

    def refuse(self, *names: str, remedy: str = "leave it out") -> None:
        """Raise SpecError if one of *names*, which are not done, is there and not empty."""
        for name in names:
            if self.value.get(name) not in (None, {}, [], "", False):
                raise SpecError(f"{self.where(name)} is not supported", remedy=remedy)


def as_text(value: object, place: str) -> str:
    """*value*, a string that a kernel call can carry. Raises SpecError."""
    if not isinstance(value, str) or "\0" in value or len(value) > _MOST_TEXT:
        raise wrong(place, "a string without NUL characters")
    return value


def wrong(place: str, expected: str) -> SpecError:
    """The error that *place* does not hold what is *expected*."""
    return SpecError(f"{place or 'the document'} must be {expected}", remedy="correct it")
