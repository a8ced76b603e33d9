"""Flags of instructions: which there are, and a flag that is not supported refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.build.dockerfile import Instruction

_Kind = Literal["value", "values", "switch"]

_COPYING: Mapping[str, _Kind] = {
    "chown": "value",
    "chmod": "value",
    "link": "switch",
    "exclude": "values",
}
_KNOWN: Mapping[str, Mapping[str, _Kind]] = {
    "ADD": {**_COPYING, "checksum": "value", "unpack": "switch"},
    "COPY": {**_COPYING, "from": "value", "parents": "switch"},
    "FROM": {"platform": "value"},
    "HEALTHCHECK": {
        "interval": "value",
        "timeout": "value",
        "start-period": "value",
        "start-interval": "value",
        "retries": "value",
    },
    "RUN": {"mount": "values", "network": "value", "security": "value"},
}
_REMEDIES = {
    ("ADD", "keep-git-dir"): "clone in a RUN, or copy a checkout from the context",
    ("RUN", "device"): "a build has no devices",
}
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one instruction, as written."""

    values: Mapping[str, tuple[str, ...]]

    def value(self, name: str) -> str | None:
        """Its value; None if it is not there."""
        return self.values.get(name, (None,))[0]

    def all(self, name: str) -> tuple[str, ...]:
        """Its values, in order."""
        return self.values.get(name, ())

    def switch(self, name: str, *, default: bool = False) -> bool:
        """Whether it is on."""
        return self.values[name][0] == "true" if name in self.values else default


def read_flags(instruction: Instruction) -> Flags:
    """The flags of *instruction*. Raises BuildError for one that it does not have."""
    known = _KNOWN.get(instruction.name, {})
    found: dict[str, tuple[str, ...]] = {}
    for flag in instruction.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        kind = known.get(name)
        if kind is None:
            raise _unknown(instruction, name, known)
        if kind == "switch":
            value = _switch(instruction, name, value if equals else "true")
        elif not equals:
            raise instruction.wrong(f"{instruction.name} --{name} needs a value")
        if name in found and kind != "values":
            raise instruction.wrong(f"{instruction.name} --{name} is given twice")
        found[name] = (*found.get(name, ()), value)
    return Flags(found)


def _switch(instruction: Instruction, name: str, value: str) -> str:
    if value.lower() not in _TRUE + _FALSE:
        raise instruction.wrong(f"{instruction.name} --{name}={value} is neither true nor false")
    return "true" if value.lower() in _TRUE else "false"


def _unknown(instruction: Instruction, name: str, known: Mapping[str, _Kind]) -> Exception:
    shown = name if len(name) <= 40 else f"{name[:40]}..."
    remedy = _REMEDIES.get((instruction.name, name))
    if remedy is None:
        listed = ", ".join(f"--{flag}" for flag in sorted(known))
        remedy = f"use {listed}" if known else f"{instruction.name} has no flags"
    return instruction.wrong(f"{instruction.name} --{shown} is not supported", remedy=remedy)
