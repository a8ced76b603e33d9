"""``.dockerignore``: which files of the build context a build does not see.

No file is read here: the text comes in, the answers go out. Sources: ".dockerignore files" of
docker's build manual; moby's patternmatcher where that is silent. It is not ``.gitignore``:
patterns begin at the context's root, and the last one that matches decides.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.build.globs import Glob, GlobError, path_glob
from runtime.errors import BuildError

MAX_FILE_BYTES = 1 << 20
MAX_PATTERNS = 1000
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    glob: Glob
    segments: tuple[str, ...]
    shows: bool


class IgnoreRules:
    """The patterns of one file, in order. Paths are relative, with ``/`` between names."""

    def __init__(self, rules: Iterable[_Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._directories: dict[str, tuple[bool, ...]] = {}

    def hides(self, path: str) -> bool:
        """Whether *path* is not seen. What hides a directory hides all in it, unless shown again.

        A hidden directory must still be entered where ``may_show_below`` says so.
        """
        hidden = False
        for rule, matched in zip(self._rules, self._matched(path), strict=True):
            if matched:
                hidden = not rule.shows
        return hidden

    def may_show_below(self, directory: str) -> bool:
        """Whether a ``!`` pattern could show something in the hidden *directory*."""
        names = directory.split("/")
        return any(rule.shows and _reaches(rule.segments, names) for rule in self._rules)

    def _matched(self, path: str) -> tuple[bool, ...]:
        """Which patterns match *path* or a directory above it."""
        found = (False,) * len(self._rules)
        ends = (at for at, character in enumerate(path) if character == "/")
        for end in (*ends, len(path)):
            above, found = found, self._directories.get(path[:end], ())
            found = found or self._matched_itself(path[:end], above)
            if end < len(path):
                self._remember(path[:end], found)
        return found

    def _matched_itself(self, path: str, above: tuple[bool, ...]) -> tuple[bool, ...]:
        """The same, where *above* is what matches the directory it is in.

        A pattern that cannot change the answer so far is not asked, and counts as no match.
        """
        hidden = False
        found = []
        for rule, inherited in zip(self._rules, above, strict=True):
            matched = inherited or (rule.shows == hidden and rule.glob.matches(path))
            found.append(matched)
            if matched:
                hidden = not rule.shows
        return tuple(found)

    def _remember(self, directory: str, matched: tuple[bool, ...]) -> None:
        if len(self._directories) >= _REMEMBERED:
            self._directories.clear()
        self._directories[directory] = matched


def ignore_names(dockerfile: str) -> tuple[str, str]:
    """Where the patterns for the file *dockerfile* are: the first of these that exists.

    The first lies beside the Dockerfile, the second in the root of the context.
    """
    return f"{dockerfile}.dockerignore", ".dockerignore"


def read_ignore(text: bytes, *, name: str = ".dockerignore") -> IgnoreRules:
    """The rules in *text*. Raises BuildError with name and line."""
    if len(text) > MAX_FILE_BYTES:
        raise BuildError(f"{name}:1: the file is larger than {MAX_FILE_BYTES} bytes", line=1)
    rules = []
    lines = text.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            rules.append(_read_rule(line.strip()))
        except GlobError as error:
            raise BuildError(f"{name}:{number}: bad pattern: {error}", line=number) from None
        if len(rules) > MAX_PATTERNS:
            raise BuildError(f"{name}:{number}: more than {MAX_PATTERNS} patterns", line=number)
    return IgnoreRules(rules)


def exclusions(patterns: Iterable[str]) -> IgnoreRules:
    """The rules of ``COPY --exclude``: patterns as in an ignore file. Raises BuildError."""
    try:
        return IgnoreRules([_read_rule(pattern) for pattern in patterns])
    except GlobError as error:
        raise BuildError(f"--exclude: bad pattern: {error}") from None


def _read_rule(pattern: str) -> _Rule:
    shows = pattern.startswith("!")
    pattern = pattern[shows:].strip()
    if not pattern:
        raise GlobError("'!' alone")
    cleaned = posixpath.normpath("/" + pattern if pattern.startswith("/") else pattern)
    cleaned = cleaned.lstrip("/") or "/"
    return _Rule(glob=path_glob(cleaned), segments=tuple(cleaned.split("/")), shows=shows)


def _reaches(segments: tuple[str, ...], names: list[str]) -> bool:
    """Whether a pattern of these segments can match something below the directory *names*."""
    for segment, name in zip(segments, names, strict=False):
        if "**" in segment:
            return True
        if not set(segment) & set("*?[\\") and segment != name:
            return False
    return len(segments) > len(names)
