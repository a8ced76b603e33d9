"""The stages of a Dockerfile, and what a name in FROM, COPY --from or --mount=from means."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.build.dockerfile import Dockerfile, Instruction
from runtime.build.flags import read_flags
from runtime.build.model import FromImage, FromStage
from runtime.build.mounts import mount_sources
from runtime.errors import BuildError, ImageError
from runtime.image.reference import parse_reference

_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stage as written; *start* is its FROM, *base* and *platform* are not expanded yet."""

    index: int
    name: str | None
    start: Instruction
    base: str
    platform: str | None
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """All stages of a file, in its order, and the ARGs before the first."""

    arguments: tuple[Instruction, ...]
    stages: tuple[Part, ...]

    def find_target(self, target: str | None, file: str) -> int:
        """The stage to be built: by name or number, else the last. Raises BuildError."""
        if target is None:
            return len(self.stages) - 1
        if (index := self._find(target)) is not None:
            return index
        names = ", ".join(part.name for part in self.stages if part.name) or "none has a name"
        line = self.stages[-1].start.line
        raise BuildError(
            f"{file}:{line}: no stage is called {target!r}",
            remedy=f"the stages are: {names}",
            line=line,
        )

    def find_base(self, base: str, part: Part) -> FromImage | FromStage | None:
        """What ``FROM base`` means: a stage before it, else an image; None is ``scratch``."""
        for earlier in self.stages[: part.index]:
            if earlier.name == base.lower():
                return FromStage(index=earlier.index)
        return None if base == _SCRATCH else _image(base, part.start)

    def find_source(
        self, reference: str, part: Part, instruction: Instruction
    ) -> FromImage | FromStage:
        """What ``from=reference`` means in an instruction of the stage *part*.

        Raises BuildError for a stage that is not there yet, and for variables.
        """
        if "$" in reference:
            raise instruction.wrong(
                f"{instruction.name}: variables do not count in from={reference}",
                remedy="name a stage: FROM ${…} AS name",
            )
        index = self._find(reference)
        if index is not None and index < part.index:
            return FromStage(index=index)
        if index is not None:
            which = "this stage itself" if index == part.index else "a later stage"
            raise instruction.wrong(
                f"{instruction.name}: from={reference} is {which}",
                remedy="copy only from stages that stand before",
            )
        if reference.isdecimal() or reference == _SCRATCH:
            raise instruction.wrong(f"{instruction.name}: from={reference} is no stage with files")
        return _image(reference, instruction)

    def stages_needed_by(self, part: Part, triggers: Iterable[Instruction] = ()) -> frozenset[int]:
        """The stages whose files *part* takes, in its own instructions and in *triggers*.

        Raises BuildError as ``find_source`` does.
        """
        found = set()
        for instruction in (*triggers, *part.instructions):
            for reference in _sources(instruction):
                source = self.find_source(reference, part, instruction)
                if isinstance(source, FromStage):
                    found.add(source.index)
        return frozenset(found)

    def _find(self, reference: str) -> int | None:
        if reference.isascii() and reference.isdecimal() and len(reference) < 5:
            return int(reference) if int(reference) < len(self.stages) else None
        named = (part.index for part in self.stages if part.name == reference.lower())
        return next(named, None)


def split_stages(dockerfile: Dockerfile) -> Parts:
    """The stages of *dockerfile*. Raises BuildError: no FROM, bad or repeated names."""
    starts = [n for n, i in enumerate(dockerfile.instructions) if i.name == "FROM"]
    before = dockerfile.instructions[: starts[0] if starts else None]
    for instruction in before:
        if instruction.name != "ARG" or not starts:
            raise instruction.wrong(
                f"{instruction.name} without a FROM before it", remedy="begin with FROM image"
            )
    stages = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        stages.append(_read_part(index, dockerfile.instructions[start:end]))
    _check_names(stages)
    return Parts(before, tuple(stages))


def _read_part(index: int, instructions: tuple[Instruction, ...]) -> Part:
    start = instructions[0]
    base, *rest = start.args
    if rest and (len(rest) != 2 or rest[0].upper() != "AS"):
        raise start.wrong(
            "FROM has too many words", remedy="write FROM image or FROM image AS name"
        )
    name = rest[1].lower() if rest else None
    if name is not None and (name == _SCRATCH or not _NAME.fullmatch(name)):
        raise start.wrong(
            f"FROM: {name[:40]!r} is no name for a stage",
            remedy="use a letter, then letters, digits, '_', '.' and '-'",
        )
    return Part(
        index=index,
        name=name,
        start=start,
        base=base,
        platform=read_flags(start).value("platform"),
        instructions=instructions[1:],
    )


def _check_names(stages: Iterable[Part]) -> None:
    lines: dict[str, int] = {}
    for part in stages:
        if part.name in lines:
            raise part.start.wrong(
                f"FROM: a stage called {part.name!r} is there already, in line {lines[part.name]}",
                remedy="give it another name",
            )
        if part.name is not None:
            lines[part.name] = part.start.line


def _sources(instruction: Instruction) -> Iterable[str]:
    if instruction.name == "COPY":
        source = read_flags(instruction).value("from")
        return () if source is None else (source,)
    return mount_sources(instruction) if instruction.name == "RUN" else ()


def _image(reference: str, instruction: Instruction) -> FromImage:
    try:
        parse_reference(reference)
    except ImageError as error:
        raise instruction.wrong(
            f"{instruction.name}: {error.message}", remedy=error.remedy
        ) from None
    return FromImage(reference=reference)
