"""What holds at one place of a Dockerfile: variables, arguments, the image's config so far."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.build.dockerfile import Instruction
from runtime.build.expansion import Allowance, ExpansionError, expand_word, expand_words
from runtime.errors import ImageError
from runtime.image.document import Node

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_ENTRY_COST = 64  # characters of the allowance, for one member of a list that is copied


@dataclass(slots=True, kw_only=True)
class Build:
    """What all stages share. *arguments* are those before the first FROM, and of the platform.

    *used* are the build arguments that something asked for; *warnings* grows.
    """

    build_args: Mapping[str, str]
    escape: str = "\\"
    arguments: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    allowance: Allowance = field(default_factory=Allowance)

    @property
    def proxies(self) -> dict[str, str]:
        """The proxies among the build arguments, which every RUN gets undeclared."""
        return {k: v for k, v in self.build_args.items() if k.upper() in _PROXIES}

    def expand(self, instruction: Instruction, word: str, variables: Mapping[str, str]) -> str:
        """*word* with *variables* in it. Raises BuildError at *instruction*."""
        try:
            return expand_word(word, variables, escape=self.escape, allowance=self.allowance)
        except ExpansionError as error:
            raise _cannot_expand(instruction, word, error) from None

    def argument(
        self, instruction: Instruction, name: str, default: str | None, known: Mapping[str, str]
    ) -> str | None:
        """The value that ``ARG name=default`` declares: as given, else the default, else None."""
        if name in self.build_args:
            self.used.add(name)
            return self.build_args[name]
        return None if default is None else self.expand(instruction, default, known)

    def spend(self, instruction: Instruction, members: int) -> None:
        """Draws what it costs to keep *members* once more."""
        try:
            self.allowance.spend(members * _ENTRY_COST)
        except ExpansionError as error:
            raise instruction.wrong(f"{instruction.name}: {error}") from None

    def warn(self, instruction: Instruction, sentence: str) -> None:
        """Adds *sentence* with the line of *instruction*."""
        self.warnings.append(instruction.told(sentence))


class Scope:
    """A stage while its instructions are worked through.

    *config* is replaced, never changed: those who have it keep it as it is. The value of a
    variable is that of the last ENV or ARG, as BuildKit has it.
    """

    def __init__(self, build: Build, config: Mapping[str, Any]) -> None:
        self.build = build
        self.config = dict(config)
        self._entries = {entry.partition("=")[0]: entry for entry in config.get("Env", ())}
        self._entries.setdefault("PATH", f"PATH={DEFAULT_PATH}")
        self.config["Env"] = list(self._entries.values())
        self.variables = {name: entry.partition("=")[2] for name, entry in self._entries.items()}
        self.author: str | None = None
        self.has_cmd = False

    def child(self) -> "Scope":
        """The state in which a stage begins that is FROM this one."""
        config = {key: value for key, value in self.config.items() if key != "OnBuild"}
        child = Scope(self.build, config)
        child.variables = dict(self.variables)
        child.author = self.author
        return child

    @property
    def shell(self) -> tuple[str, ...]:
        """What a shell form is handed to."""
        return tuple(self.config.get("Shell", ())) or DEFAULT_SHELL

    @property
    def user(self) -> str | None:
        return self.config.get("User") or None

    @property
    def cwd(self) -> str:
        return self.config.get("WorkingDir") or "/"

    def absolute(self, path: str) -> str:
        """*path* from the working directory, without ``.``, ``..`` and a slash at the end."""
        return "/" + posixpath.normpath(posixpath.join("/", self.cwd, path)).lstrip("/")

    def expand(self, instruction: Instruction, word: str) -> str:
        """*word* with the variables of this place. Raises BuildError."""
        return self.build.expand(instruction, word, self.variables)

    def expand_words(self, instruction: Instruction, word: str) -> tuple[str, ...]:
        """The words that *word* becomes. Raises BuildError."""
        build = self.build
        try:
            return expand_words(
                word, self.variables, escape=build.escape, allowance=build.allowance
            )
        except ExpansionError as error:
            raise _cannot_expand(instruction, word, error) from None

    def expand_data(self, instruction: Instruction, data: str) -> str:
        """The data of a here-document: quotes are characters like others, a backslash escapes."""
        try:
            return expand_word(data, self.variables, allowance=self.build.allowance, quotes=False)
        except ExpansionError as error:
            raise _cannot_expand(instruction, data, error) from None

    def set(self, key: str, value: Any) -> None:
        """Gives the config a member; None takes it away."""
        self.config = {k: v for k, v in self.config.items() if k != key}
        if value is not None:
            self.config[key] = value

    def set_env(self, instruction: Instruction, pairs: Sequence[tuple[str, str]]) -> None:
        """ENV: variables of this place and of the image."""
        for name, value in pairs:
            self._entries[name] = f"{name}={value}"
            self.variables[name] = value
        self.build.spend(instruction, len(self._entries))
        self.set("Env", list(self._entries.values()))

    def add(self, instruction: Instruction, key: str, members: Mapping[str, Any]) -> None:
        """Adds *members* to an object of the config."""
        merged = {**self.config.get(key, {}), **members}
        self.build.spend(instruction, len(merged))
        self.set(key, merged)


def read_config(raw: Mapping[str, Any], instruction: Instruction) -> dict[str, Any]:
    """An image's config as a stage can begin with it. Raises BuildError: it is a stranger's."""
    config = {key: value for key, value in raw.items() if value is not None}
    node = Node(config, "the config of the base image")
    try:
        for key in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"):
            if key in config:
                config[key] = list(node[key].texts())
        for key in ("User", "WorkingDir", "StopSignal"):
            node[key].text_or("")
        if "Labels" in config:
            config["Labels"] = node["Labels"].mapping()
        for key in ("ExposedPorts", "Volumes"):
            if key in config and not isinstance(config[key], Mapping):
                raise node[key].wrong("an object")
    except ImageError as error:
        raise instruction.wrong(f"FROM: {error.message}", remedy="use another image") from None
    return config


def _cannot_expand(instruction: Instruction, word: str, error: ExpansionError) -> Exception:
    shown = word if len(word) <= 40 else f"{word[:40]}..."
    return instruction.wrong(f"{instruction.name}: {shown!r} cannot be expanded: {error}")
