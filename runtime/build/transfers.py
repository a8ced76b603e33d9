"""COPY and ADD: which files, texts and downloads go where."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtime.build.dockerfile import Heredoc, Instruction, heredoc_name
from runtime.build.flags import Flags, read_flags
from runtime.build.globs import GlobError, path_glob
from runtime.build.model import CopyStep, Download, FromContext, Origin, Paths, Source, Text, Tree
from runtime.build.quantities import file_mode
from runtime.build.scope import Scope
from runtime.image.reference import is_digest

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_GIT = re.compile(r"(?:git|ssh)://|git@|https?://[^?#]*\.git(?:[?#]|$)", re.IGNORECASE)
_OWNER = re.compile(r"[^:\s]+(?::[^:\s]+)?")


def plan_transfer(
    scope: Scope, instruction: Instruction, origin: Origin, find_source: Callable[[str], Tree]
) -> CopyStep:
    """The step that a COPY or ADD is; *find_source* says what a name in ``--from`` means.

    Raises BuildError.
    """
    flags = read_flags(instruction)
    place = flags.value("from")
    parents = flags.switch("parents")
    sources = _Sources(
        scope=scope,
        instruction=instruction,
        tree=FromContext() if place is None else find_source(place),
        parents=parents,
        checksum=_checksum(scope, instruction, flags),
    ).read()
    return CopyStep(
        origin=origin,
        sources=sources,
        target=_target(scope, instruction, sources),
        owner=_owner(scope, instruction, flags),
        mode=_mode(scope, instruction, flags),
        link=flags.switch("link"),
        extract=flags.switch("unpack", default=instruction.name == "ADD"),
        parents=parents,
        exclude=tuple(_excluded(scope, instruction, flags)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """The reader of the sources of one instruction."""

    scope: Scope
    instruction: Instruction
    tree: Tree
    parents: bool
    checksum: str | None

    def read(self) -> tuple[Source, ...]:
        instruction = self.instruction
        documents = {heredoc.name: heredoc for heredoc in instruction.heredocs}
        sources: list[Source] = []
        patterns: list[str] = []
        for word in instruction.args[:-1]:
            heredoc = documents.get(heredoc_name(word) or "")
            source = self._path_or_download(word) if heredoc is None else self._text(heredoc)
            if isinstance(source, str):
                patterns.append(source)
                continue
            sources += [*self._paths(patterns), source]
            patterns = []
        sources += self._paths(patterns)
        if self.checksum is not None and [type(source) for source in sources] != [Download]:
            raise instruction.wrong("ADD --checksum needs one source, and that a download")
        return tuple(sources)

    def _paths(self, patterns: list[str]) -> Iterator[Paths]:
        if patterns:
            yield Paths(tree=self.tree, patterns=tuple(patterns))

    def _text(self, heredoc: Heredoc) -> Text:
        if "/" in heredoc.name or heredoc.name in (".", ".."):
            raise self._wrong(f"the here-document {heredoc.name!r} is no name of a file")
        data = heredoc.chomped
        if heredoc.expand:
            data = self.scope.expand_data(self.instruction, data)
        return Text(name=heredoc.name, data=data.encode())

    def _path_or_download(self, word: str) -> str | Download:
        source = self.scope.expand(self.instruction, word)
        if _GIT.match(source):
            raise self._wrong("sources in git are not supported", "clone in a RUN")
        if not _SCHEME.match(source):
            return self._pattern(source)
        if not source.lower().startswith(("http://", "https://")):
            raise self._wrong(f"{source[:80]!r} is no http or https address")
        if self.instruction.name == "COPY":
            raise self._wrong(f"{source[:80]!r} is no path", "use ADD for downloads")
        if read_flags(self.instruction).switch("unpack"):
            raise self._wrong("--unpack of a download is not supported", "unpack it in a RUN")
        return Download(url=source, checksum=self.checksum)

    def _pattern(self, source: str) -> str:
        """*source* from the root of its tree, clean; the ``/./`` of ``--parents`` stays."""
        parts = source.split("/./", maxsplit=1) if self.parents else [source]
        cleaned = [posixpath.normpath(part.lstrip("/") or ".") for part in parts]
        if any(part.split("/")[0] == ".." for part in cleaned):
            raise self._wrong(f"{source[:80]!r} lies outside of what can be copied")
        return "/./".join(cleaned)

    def _wrong(self, what: str, remedy: str | None = None) -> Exception:
        return self.instruction.wrong(f"{self.instruction.name}: {what}", remedy=remedy)


def _target(scope: Scope, instruction: Instruction, sources: tuple[Source, ...]) -> str:
    word = instruction.args[-1]
    if heredoc_name(word) in {heredoc.name for heredoc in instruction.heredocs}:
        raise instruction.wrong(f"{instruction.name}: a here-document cannot be the target")
    target = scope.expand(instruction, word)
    directory = target.endswith(("/", "/.")) or target in ("", ".")
    count = sum(len(source.patterns) if isinstance(source, Paths) else 1 for source in sources)
    if count > 1 and not directory:
        raise instruction.wrong(
            f"{instruction.name} of several sources into {target[:80]!r}, which is no directory",
            remedy="let the target end with /",
        )
    path = scope.absolute(target)
    return f"{path}/" if directory and path != "/" else path


def _owner(scope: Scope, instruction: Instruction, flags: Flags) -> str | None:
    owner = scope.expand(instruction, flags.value("chown") or "")
    if owner and not _OWNER.fullmatch(owner):
        raise instruction.wrong(
            f"{instruction.name} --chown={owner[:40]!r} is no owner", remedy="write user[:group]"
        )
    return owner or None


def _mode(scope: Scope, instruction: Instruction, flags: Flags) -> int | None:
    mode = scope.expand(instruction, flags.value("chmod") or "")
    try:
        return file_mode(mode) if mode else None
    except ValueError as error:
        raise instruction.wrong(
            f"{instruction.name} --chmod: {error}", remedy="write octal digits, as 755"
        ) from None


def _checksum(scope: Scope, instruction: Instruction, flags: Flags) -> str | None:
    checksum = scope.expand(instruction, flags.value("checksum") or "")
    if checksum and not is_digest(checksum):
        raise instruction.wrong(
            f"ADD --checksum={checksum[:80]!r} is no digest", remedy="write sha256:HEX"
        )
    return checksum or None


def _excluded(scope: Scope, instruction: Instruction, flags: Flags) -> Iterator[str]:
    for pattern in flags.all("exclude"):
        expanded = scope.expand(instruction, pattern)
        try:
            path_glob(expanded)
        except GlobError as error:
            raise instruction.wrong(f"{instruction.name} --exclude: {error}") from None
        yield expanded
