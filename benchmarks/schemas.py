"""JSON Schema of what a run writes, made from the records themselves so that they cannot differ.

``benchmarks/schema/`` holds the two documents for other programs; a test compares them with what
this makes, and validates real output by them. Written by ``python -m benchmarks.schemas``.
Source: JSON Schema 2020-12.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from benchmarks.results import Run, Sample

DIRECTORY = Path(__file__).parent / "schema"
RECORDS: Mapping[str, type] = {"run": Run, "sample": Sample}
_TITLES = {
    "run": "isoscope results, schema 1: results/RUN/run.json",
    "sample": "isoscope results, schema 1: one line of results/RUN/samples.jsonl",
}
_SCALARS: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null",
}  # fmt: skip


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of the record called *name*, a key of RECORDS."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": _TITLES[name]}
    return head | _object(RECORDS[name])


def document(name: str) -> str:
    """The schema of *name* as its file holds it."""
    return json.dumps(schema_of(name), indent=2) + "\n"


def _object(kind: type) -> dict[str, Any]:
    """No field may be unknown; those without a default must be there."""
    hints = get_type_hints(kind)
    fields = dataclasses.fields(cast("Any", kind))
    return {
        "type": "object",
        "description": (kind.__doc__ or "").partition("\n")[0],
        "properties": {field.name: _schema(hints[field.name]) for field in fields},
        "required": [each.name for each in fields if each.default is dataclasses.MISSING],
        "additionalProperties": False,
    }


def _schema(kind: Any) -> dict[str, Any]:
    if kind is Any:
        return {}
    if dataclasses.is_dataclass(kind):
        return _object(cast("type", kind))
    if (origin := get_origin(kind)) is None:
        return {"type": _SCALARS[kind]}
    return _composite(origin, get_args(kind))


def _composite(origin: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return _either(arguments)
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    return {"type": "object", "additionalProperties": _schema(arguments[1])}


def _either(kinds: tuple[Any, ...]) -> dict[str, Any]:
    """Scalars share one list of types, which reads better than alternatives."""
    if all(kind in _SCALARS for kind in kinds):
        return {"type": [_SCALARS[kind] for kind in kinds]}
    return {"anyOf": [_schema(kind) for kind in kinds]}


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for each in RECORDS:
        (DIRECTORY / f"{each}.schema.json").write_text(document(each))
