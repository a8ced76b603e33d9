"""Decides a build: a pure function from a Dockerfile and what is known to stages of steps.

Nothing is run or fetched here. What cannot be honoured is refused by name and line, what is
wrong in any stage before, and what depends on variables in the stages that the target needs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.build.dockerfile import Dockerfile, Instruction, heredoc_name, read_trigger
from runtime.build.flags import read_flags
from runtime.build.model import (
    BuildPlan,
    ConfigStep,
    DirectoryStep,
    FromImage,
    FromStage,
    Network,
    Origin,
    RunStep,
    Stage,
    Step,
    Tree,
)
from runtime.build.mounts import check_mounts, read_mount
from runtime.build.platforms import host_platform, parse_platform, platform_arguments
from runtime.build.scope import Build, Scope, read_config
from runtime.build.settings import apply_setting, arguments, command, healthcheck
from runtime.build.stages import Part, Parts, split_stages
from runtime.build.transfers import plan_transfer
from runtime.errors import BuildError, ImageError

ConfigOf = Callable[[str, str | None], Mapping[str, Any] | None]

MAX_TRIGGERS = 100
_NETWORKS: Mapping[str, Network] = {"default": "default", "none": "none", "host": "host"}
_NEEDS = {
    "ADD": (2, "a source and a target"),
    "ARG": (1, "a name"),
    "CMD": (1, "a command; CMD [] takes it back"),
    "COPY": (2, "a source and a target"),
    "ENTRYPOINT": (1, "a command; ENTRYPOINT [] takes it back"),
    "ENV": (1, "a name and a value"),
    "EXPOSE": (1, "a port"),
    "FROM": (1, "an image"),
    "HEALTHCHECK": (1, "a command, or NONE"),
    "LABEL": (1, "a name and a value"),
    "MAINTAINER": (1, "a name"),
    "ONBUILD": (0, "an instruction"),
    "RUN": (1, "a command"),
    "SHELL": (1, "a JSON array of strings"),
    "STOPSIGNAL": (1, "a signal"),
    "USER": (1, "a user"),
    "VOLUME": (1, "a path"),
    "WORKDIR": (1, "a path"),
}


def plan_build(
    dockerfile: Dockerfile,
    *,
    config_of: ConfigOf,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    labels: Mapping[str, str] | None = None,
    platform: str | None = None,
) -> BuildPlan:
    """The plan for the stage *target* (a name or a number; the last stage if None).

    *config_of* gives the config of an image by reference and platform, None if there is no such
    image, or raises ImageError; it is asked for the bases of the stages that are needed. *labels*
    are added to the result. *platform* is what is built for, this machine's if None.
    Raises BuildError.
    """
    for instruction in dockerfile.instructions:
        _check(instruction)
    parts = split_stages(dockerfile)
    for part in parts.stages:
        parts.stages_needed_by(part)
    build = Build(build_args=dict(build_args or {}), escape=dockerfile.escape)
    _declare_arguments(build, dockerfile, parts, platform)
    wanted = parts.find_target(target, dockerfile.name)
    planner = _Planner(parts, build, config_of)
    stages = planner.plan(wanted, labels or {})
    known = {*build.used, *build.proxies, "SOURCE_DATE_EPOCH"}
    for name in sorted(build.build_args.keys() - known):
        build.warnings.append(f"{dockerfile.name}: no ARG asks for the build argument {name!r}")
    warnings = (*dockerfile.warnings, *build.warnings)
    return BuildPlan(stages=stages, target=len(stages) - 1, warnings=warnings)


def _check(instruction: Instruction) -> None:
    """Refuses what is wrong whatever the variables are."""
    read_flags(instruction)
    least, what = _NEEDS[instruction.name]
    empty = instruction.name == "RUN" and not "".join(instruction.args)
    may_be_empty = instruction.json and instruction.name in ("CMD", "ENTRYPOINT")
    if (len(instruction.args) < least and not may_be_empty) or empty:
        raise instruction.wrong(f"{instruction.name} needs {what}")
    if instruction.name == "SHELL" and not instruction.json:
        raise instruction.wrong(f"SHELL needs {what}", remedy='write SHELL ["/bin/sh", "-c"]')
    if instruction.name == "HEALTHCHECK":
        healthcheck(instruction)
    if instruction.name == "RUN":
        check_mounts(instruction)
        _network(instruction)
    if instruction.trigger is not None:
        _check(instruction.trigger)


def _network(instruction: Instruction) -> Network:
    flags = read_flags(instruction)
    security = flags.value("security")
    if security not in (None, "sandbox"):
        raise instruction.wrong(
            f"RUN --security={security} is not supported", remedy="a build has no such rights"
        )
    name = flags.value("network") or "default"
    if name not in _NETWORKS:
        raise instruction.wrong(
            f"RUN --network={name} is not supported", remedy=f"use {', '.join(_NETWORKS)}"
        )
    return _NETWORKS[name]


def _declare_arguments(
    build: Build, dockerfile: Dockerfile, parts: Parts, platform: str | None
) -> None:
    """The scope before the first FROM: the platforms, then its ARGs."""
    host = host_platform()
    try:
        wanted = host if platform is None else parse_platform(platform)
    except ValueError as error:
        raise BuildError(f"{dockerfile.name}: {error}") from None
    build.arguments.update(platform_arguments(host, wanted))
    for instruction in parts.arguments:
        for name, default in arguments(instruction):
            value = build.argument(instruction, name, default, build.arguments)
            if value is not None:
                build.arguments[name] = value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """A FROM, resolved: what it begins with, and the triggers that come with that."""

    tree: FromImage | FromStage | None
    platform: str | None
    config: Mapping[str, Any]
    triggers: tuple[Instruction, ...]


class _Planner:
    """Plans the stages that are needed, in the order of the file."""

    def __init__(self, parts: Parts, build: Build, config_of: ConfigOf) -> None:
        self._parts = parts
        self._build = build
        self._config_of = config_of
        self._positions: dict[int, int] = {}

    def plan(self, wanted: int, labels: Mapping[str, str]) -> tuple[Stage, ...]:
        bases = self._resolve(wanted)
        self._positions = {index: position for position, index in enumerate(sorted(bases))}
        stages: list[Stage] = []
        scopes: list[Scope] = []
        for index in sorted(bases):
            base = bases[index]
            if isinstance(base.tree, FromStage):
                scope = scopes[self._positions[base.tree.index]].child()
            else:
                scope = Scope(self._build, base.config)
            scopes.append(scope)
            mine = labels if index == wanted else {}
            stages.append(self._plan_stage(self._parts.stages[index], base, scope, mine))
        return tuple(stages)

    def _resolve(self, wanted: int) -> dict[int, _Base]:
        """The stages that *wanted* needs: names only reach back, so one pass from it will do."""
        needed = {wanted}
        bases: dict[int, _Base] = {}
        for part in reversed(self._parts.stages[: wanted + 1]):
            if part.index not in needed:
                continue
            base = bases[part.index] = self._resolve_base(part)
            if isinstance(base.tree, FromStage):
                needed.add(base.tree.index)
            needed |= self._parts.stages_needed_by(part, base.triggers)
        return bases

    def _resolve_base(self, part: Part) -> _Base:
        build, start = self._build, part.start
        name = build.expand(start, part.base, build.arguments)
        if not name:
            raise start.wrong(
                f"FROM {part.base}: the name of the image is empty",
                remedy="give the ARG a default before the first FROM",
            )
        platform = self._platform(part)
        tree = self._parts.find_base(name, part)
        config: dict[str, Any] = {}
        triggers: tuple[Instruction, ...] = ()
        if isinstance(tree, FromStage):
            base = self._parts.stages[tree.index]
            triggers = tuple(i.trigger for i in base.instructions if i.trigger is not None)
        elif tree is not None:
            config, triggers = self._read_image(tree, platform, start)
        triggers = tuple(replace(trigger, line=start.line) for trigger in triggers)
        return _Base(tree=tree, platform=platform, config=config, triggers=triggers)

    def _platform(self, part: Part) -> str | None:
        if part.platform is None:
            return None
        try:
            return parse_platform(
                self._build.expand(part.start, part.platform, self._build.arguments)
            )
        except ValueError as error:
            raise part.start.wrong(f"FROM --platform: {error}") from None

    def _read_image(
        self, image: FromImage, platform: str | None, start: Instruction
    ) -> tuple[dict[str, Any], tuple[Instruction, ...]]:
        try:
            found = self._config_of(image.reference, platform)
        except ImageError as error:
            raise start.wrong(f"FROM: {error.message}", remedy=error.remedy) from None
        if found is None:
            raise start.wrong(
                f"FROM: there is no image {image.reference!r}", remedy="pull it, or build it first"
            )
        config = read_config(found, start)
        texts = config.pop("OnBuild", [])
        if len(texts) > MAX_TRIGGERS:
            raise start.wrong(f"FROM: the image has more than {MAX_TRIGGERS} ONBUILD instructions")
        triggers = tuple(read_trigger(text, file=start.file, line=start.line) for text in texts)
        for trigger in triggers:
            _check(trigger)
        return config, triggers

    def _plan_stage(
        self, part: Part, base: _Base, scope: Scope, labels: Mapping[str, str]
    ) -> Stage:
        origin = Origin(line=part.start.line, text=part.start.text.strip())
        initial = scope.config
        steps: list[Step] = []
        configs: list[Mapping[str, Any]] = []
        for instruction, inherited in _all_instructions(base.triggers, part.instructions):
            steps.append(self._plan_step(part, scope, instruction, inherited=inherited))
            configs.append(scope.config)
        if labels:
            scope.add(part.start, "Labels", labels)
            steps.append(ConfigStep(origin=Origin(line=origin.line, text=_label_text(labels))))
            configs.append(scope.config)
        return Stage(
            index=self._positions[part.index],
            name=part.name,
            origin=origin,
            base=None if base.tree is None else self._placed(base.tree),
            platform=base.platform,
            steps=tuple(steps),
            configs=tuple(configs),
            config=scope.config,
            initial=initial,
            author=scope.author,
        )

    def _plan_step(
        self, part: Part, scope: Scope, instruction: Instruction, *, inherited: bool
    ) -> Step:
        origin = Origin(line=instruction.line, text=instruction.text.strip(), inherited=inherited)

        def find_source(reference: str) -> Tree:
            return self._placed(self._parts.find_source(reference, part, instruction))

        if instruction.name in ("ADD", "COPY"):
            return plan_transfer(scope, instruction, origin, find_source)
        if instruction.name == "RUN":
            return _plan_run(scope, instruction, origin, find_source)
        if instruction.name == "WORKDIR":
            return _plan_workdir(scope, instruction, origin)
        apply_setting(scope, instruction)
        return ConfigStep(origin=origin)

    def _placed(self, tree: FromImage | FromStage) -> FromImage | FromStage:
        """*tree* with the position that a stage has in the plan."""
        if isinstance(tree, FromImage):
            return tree
        return FromStage(index=self._positions[tree.index])


def _plan_run(
    scope: Scope, instruction: Instruction, origin: Origin, find_source: Callable[[str], Tree]
) -> RunStep:
    argv = command(scope, instruction)
    script: bytes | None = None
    heredocs = instruction.heredocs
    if heredocs and heredoc_name(instruction.args[0]) == heredocs[0].name:
        data = heredocs[0].chomped
        argv[-1:] = [] if data.startswith("#!") else [data]
        script = data.encode() if data.startswith("#!") else None
    elif heredocs:
        argv[-1] += "".join(f"\n{heredoc.data}{heredoc.name}" for heredoc in heredocs)
    scope.build.spend(instruction, len(scope.variables))
    mounts = (
        read_mount(
            instruction,
            text,
            cwd=scope.cwd,
            expand=lambda word: scope.expand(instruction, word),
            find_source=find_source,
        )
        for text in read_flags(instruction).all("mount")
    )
    return RunStep(
        origin=origin,
        argv=tuple(argv),
        env=dict(scope.variables),
        cwd=scope.cwd,
        user=scope.user,
        script=script,
        mounts=tuple(mounts),
        network=_network(instruction),
        proxies=scope.build.proxies,
    )


def _plan_workdir(scope: Scope, instruction: Instruction, origin: Origin) -> Step:
    path = scope.expand(instruction, instruction.args[0])
    if not path:
        raise instruction.wrong(f"WORKDIR {instruction.args[0][:40]!r} is empty")
    path = scope.absolute(path)
    scope.set("WorkingDir", path)
    if path == "/":
        return ConfigStep(origin=origin)
    return DirectoryStep(origin=origin, path=path, user=scope.user)


def _all_instructions(
    triggers: Iterable[Instruction], own: Iterable[Instruction]
) -> Iterable[tuple[Instruction, bool]]:
    yield from ((trigger, True) for trigger in triggers)
    yield from ((instruction, False) for instruction in own)


def _label_text(labels: Mapping[str, str]) -> str:
    return "LABEL " + " ".join(f"{name}={value}" for name, value in labels.items())
