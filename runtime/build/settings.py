"""The instructions that change the image's config and no file."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runtime.build.dockerfile import Instruction
from runtime.build.flags import read_flags
from runtime.build.quantities import check_signal, duration_ns, exposed_ports
from runtime.build.scope import Scope

_MAX_RETRIES = (1 << 31) - 1
_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def command(scope: Scope, instruction: Instruction) -> list[str]:
    """The argv of RUN, CMD and ENTRYPOINT: the JSON form as it is, the shell form to the shell.

    Variables are not replaced: in the shell form that is the shell's to do.
    """
    if instruction.json:
        return list(instruction.args)
    if instruction.args[0].startswith("["):
        scope.build.warn(
            instruction, f"{instruction.name} begins with '[' but is no JSON, so a shell gets it"
        )
    return [*scope.shell, instruction.args[0]]


def healthcheck(instruction: Instruction) -> dict[str, Any]:
    """The ``Healthcheck`` that the instruction sets; durations in ns. Raises BuildError."""
    flags = read_flags(instruction)
    kind, *args = instruction.args
    if kind.upper() == "NONE":
        if args or instruction.flags:
            raise instruction.wrong("HEALTHCHECK NONE takes neither flags nor arguments")
        return {"Test": ["NONE"]}
    if kind.upper() != "CMD" or not args:
        raise instruction.wrong(
            "HEALTHCHECK needs a command", remedy="write HEALTHCHECK CMD command, or NONE"
        )
    found: dict[str, Any] = {"Test": ["CMD" if instruction.json else "CMD-SHELL", *args]}
    for flag, key in _DURATIONS.items():
        if value := flags.value(flag):
            try:
                found[key] = duration_ns(value)
            except ValueError as error:
                raise instruction.wrong(f"HEALTHCHECK --{flag}: {error}") from None
    if retries := flags.value("retries"):
        if not (retries.isascii() and retries.isdigit() and int(retries[:11]) <= _MAX_RETRIES):
            raise instruction.wrong(f"HEALTHCHECK --retries: {retries[:20]!r} is no number")
        found["Retries"] = int(retries)
    return {key: value for key, value in found.items() if value != 0}


def apply_setting(scope: Scope, instruction: Instruction) -> None:
    """Makes *scope* what it is after *instruction*. Raises BuildError."""
    _SETTINGS[instruction.name](scope, instruction)


def _arg(scope: Scope, instruction: Instruction) -> None:
    build = scope.build
    for name, default in arguments(instruction):
        value = build.argument(instruction, name, default, scope.variables)
        value = build.arguments.get(name) if value is None else value
        if value is not None:
            scope.variables[name] = value


def arguments(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
    """Names and defaults of an ARG. Raises BuildError."""
    for arg in instruction.args:
        name, equals, default = arg.partition("=")
        if not name:
            raise instruction.wrong(f"ARG {arg[:40]!r} has no name", remedy="write ARG name=value")
        yield name, default if equals else None


def _cmd(scope: Scope, instruction: Instruction) -> None:
    scope.set("Cmd", command(scope, instruction))
    scope.has_cmd = True


def _entrypoint(scope: Scope, instruction: Instruction) -> None:
    """An ENTRYPOINT takes back the Cmd of the base, which was meant for another one."""
    scope.set("Entrypoint", command(scope, instruction) or None)
    if not scope.has_cmd:
        scope.set("Cmd", None)


def _env(scope: Scope, instruction: Instruction) -> None:
    scope.set_env(instruction, list(_pairs(scope, instruction)))


def _label(scope: Scope, instruction: Instruction) -> None:
    scope.add(instruction, "Labels", dict(_pairs(scope, instruction)))


def _pairs(scope: Scope, instruction: Instruction) -> Iterator[tuple[str, str]]:
    """Names and values, all expanded with what held before the instruction."""
    expanded = [scope.expand(instruction, arg) for arg in instruction.args]
    for name, value in zip(expanded[::2], expanded[1::2], strict=True):
        if not name or (instruction.name == "ENV" and "=" in name):
            raise instruction.wrong(f"{instruction.name} {name[:40]!r} is no name")
        yield name, value


def _expose(scope: Scope, instruction: Instruction) -> None:
    ports: dict[str, dict[str, Any]] = {}
    for arg in instruction.args:
        for word in scope.expand_words(instruction, arg):
            try:
                found = list(exposed_ports(word))
            except ValueError as error:
                raise instruction.wrong(f"EXPOSE {error}", remedy="write port/tcp") from None
            scope.build.spend(instruction, len(found))
            ports |= {port: {} for port in found}
            if ":" in word:
                scope.build.warn(instruction, f"EXPOSE {word}: what stands before ':' is ignored")
    scope.add(instruction, "ExposedPorts", ports)


def _healthcheck(scope: Scope, instruction: Instruction) -> None:
    scope.set("Healthcheck", healthcheck(instruction))


def _maintainer(scope: Scope, instruction: Instruction) -> None:
    scope.author = instruction.args[0]
    scope.build.warn(instruction, "MAINTAINER is deprecated; use LABEL maintainer=…")


def _onbuild(scope: Scope, instruction: Instruction) -> None:
    trigger = instruction.trigger
    assert trigger is not None  # noqa: S101 - the reader gives every ONBUILD one
    triggers = [*scope.config.get("OnBuild", ()), trigger.source]
    scope.build.spend(instruction, len(triggers))
    scope.set("OnBuild", triggers)


def _shell(scope: Scope, instruction: Instruction) -> None:
    scope.set("Shell", list(instruction.args))


def _stopsignal(scope: Scope, instruction: Instruction) -> None:
    name = scope.expand(instruction, instruction.args[0])
    try:
        check_signal(name)
    except ValueError as error:
        raise instruction.wrong(f"STOPSIGNAL {error}") from None
    scope.set("StopSignal", name)


def _user(scope: Scope, instruction: Instruction) -> None:
    user = scope.expand(instruction, instruction.args[0])
    if not user.partition(":")[0]:
        raise instruction.wrong(f"USER {user!r} names nobody", remedy="write USER user[:group]")
    scope.set("User", user)


def _volume(scope: Scope, instruction: Instruction) -> None:
    volumes = [scope.expand(instruction, arg).strip() for arg in instruction.args]
    if not all(volumes):
        raise instruction.wrong("VOLUME with an empty path")
    scope.add(instruction, "Volumes", {volume: {} for volume in volumes})


_SETTINGS: Mapping[str, Callable[[Scope, Instruction], None]] = {
    "ARG": _arg,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
}
