"""What this machine's apt knows: its Debian sources as last updated, and what it would install.

Nothing is downloaded and nothing is written: the lists are those that ``apt-get update`` left.
Sources: apt-get(8) ``indextargets``, apt-patterns(7), Debian wiki ``DebianRepository/Format``.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from runtime.errors import ImageError, Unsupported

_ORIGIN = "Debian"
_PULL = "get one with 'isoscope image pull docker.io/library/debian'"
_FIELDS = ("ORIGIN", "REPO_URI", "RELEASE", "COMPONENT", "ARCHITECTURE", "CODENAME", "METAKEY",
           "FILENAME")  # fmt: skip
_INSTALL = re.compile(r"Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\S+)\]\)")
_PROXY = re.compile(r"Acquire::[\w:.-]*Proxy[\w:.-]* \"[^\"]+\";", re.IGNORECASE)
_NOTHING_INSTALLED = {
    "Dir::State::status": os.devnull,
    "Dir::Etc::sourceparts": "-",
    "Dir::Etc::preferences": "-",
    "Dir::Etc::preferencesparts": "-",
    "Dir::Cache::pkgcache": "",  # the machine's own cache is not to be made for this
    "Dir::Cache::srcpkgcache": "",
}
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The Debian archives among this machine's sources.

    ``lines`` are in sources.list(5)'s one-line form, ``lists`` the files that apt has fetched of
    them. ``epoch_s`` is the date of the oldest release among them: it moves with a new release of
    the distribution, not with every update. ``architecture`` is Debian's word.
    """

    lines: tuple[str, ...]
    lists: tuple[Path, ...]
    codename: str
    architecture: str
    epoch_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package as apt would install it."""

    name: str
    version: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}:{self.architecture}"


def read_sources() -> Sources:
    """This machine's own Debian sources. Raises Unsupported, ImageError."""
    form = "\t".join(f"$({field})" for field in _FIELDS)
    listed = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    rows = [dict(zip(_FIELDS, line.split("\t"), strict=True)) for line in listed.splitlines()]
    if not rows:
        raise ImageError("apt has no package lists here", remedy="apt-get update")
    native = _run(["dpkg", "--print-architecture"]).strip()
    chosen = [
        row for row in rows if row["ORIGIN"] == _ORIGIN and row["ARCHITECTURE"] in {native, "all"}
    ]
    if not chosen:
        others = ", ".join(sorted({row["ORIGIN"] for row in rows}))
        raise Unsupported(f"the apt sources here are not Debian's but {others}", remedy=_PULL)
    releases = {_release(row) for row in chosen}
    dates = {path: _date(path) for path in releases}
    oldest = min(dates, key=lambda path: (dates[path], str(path)))
    return Sources(
        lines=tuple(sorted({_line(row, native) for row in chosen})),
        lists=tuple(sorted({Path(row["FILENAME"]) for row in chosen} | releases)),
        codename=min(row["CODENAME"] for row in chosen if _release(row) == oldest),
        architecture=native,
        epoch_s=int(dates[oldest].timestamp()),
    )


def packages(sources: Sources, wanted: Sequence[str]) -> tuple[Package, ...]:
    """What installing *wanted* (names and patterns) on nothing would install, sorted.

    Raises ImageError if apt does not know one of them or cannot have them together.
    """
    listed = os.memfd_create("sources")
    try:
        os.write(listed, "".join(f"{line}\n" for line in sources.lines).encode())
        settings = {**_NOTHING_INSTALLED, "Dir::Etc::sourcelist": f"/proc/self/fd/{listed}"}
        options = [f"-o{name}={value}" for name, value in settings.items()]
        simulate = ["apt-get", "--simulate", "--no-install-recommends", *options, "install"]
        said = _run([*simulate, *wanted], descriptor=listed)
    finally:
        os.close(listed)
    found = {
        Package(name=match[1], version=match[2], architecture=match[3])
        for match in map(_INSTALL.match, said.splitlines())
        if match is not None
    }
    return tuple(sorted(found, key=str))


def access_options() -> tuple[str, ...]:
    """How this machine's apt reaches its archives: proxies and logins, as lines of apt.conf(5)."""
    said = _run(["apt-config", "dump", "Acquire"])
    proxies = [line for line in said.splitlines() if _PROXY.fullmatch(line)]
    logins = [
        'Dir::Etc::netrc "/etc/apt/auth.conf";',
        'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
    ]
    return (*proxies, *logins)


def copying(sources: Sources) -> str:
    """The shell line that copies the lists of *sources* into the tree ``$1``."""
    files = shlex.join(str(path) for path in sources.lists)
    return f'mkdir -p "$1"/var/lib/apt/lists && cp -- {files} "$1"/var/lib/apt/lists/'


def _run(argv: Sequence[str], *, descriptor: int | None = None) -> str:
    """What the program prints, in English. Raises Unsupported if it is missing, ImageError."""
    try:
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            pass_fds=() if descriptor is None else (descriptor,),
        )
    except FileNotFoundError:
        raise Unsupported(f"this machine has no {argv[0]}", remedy=_PULL) from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"no answer from {argv[0]} in {_TIMEOUT_S} s") from None
    if ended.returncode:
        complaints = [line for line in ended.stderr.splitlines() if line.startswith("E: ")]
        why = complaints[0].removeprefix("E: ") if complaints else f"status {ended.returncode}"
        raise ImageError(f"{argv[0]} refuses: {why}", remedy="apt-get update may help")
    return ended.stdout


def _line(row: Mapping[str, str], native: str) -> str:
    return f"deb [arch={native}] {row['REPO_URI']} {row['RELEASE']} {row['COMPONENT']}"


def _release(row: Mapping[str, str]) -> Path:
    """The signed release file that the list of *row* belongs to."""
    stem, found, _ = row["FILENAME"].partition(f"_dists_{row['RELEASE'].replace('/', '_')}_")
    for name in ("InRelease", "Release"):
        path = Path(f"{stem}{found}{name}")
        if found and path.exists():
            return path
    raise ImageError("apt's package lists are incomplete", remedy="apt-get update")


def _date(release: Path) -> datetime:
    with release.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name == "Date":
                return parsedate_to_datetime(value.strip())
    raise ImageError(f"{release} has no date", remedy="apt-get update")
