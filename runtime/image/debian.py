"""A Debian image from this machine's own apt sources, with nothing of this machine in it.

mmdebstrap installs the packages into a directory; what it packs becomes layers that are the same
wherever and whenever the same versions are to be had: the base, and over it what was asked for
besides. The lists are those of the last ``apt-get update``, so the outcome is known beforehand:
an image that would come out the same is not made again. Sources: mmdebstrap(1), and
https://reproducible-builds.org/specs/source-date-epoch/.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from runtime.errors import ImageError, Unsupported
from runtime.image import apt
from runtime.image.contents import contents
from runtime.image.document import render_document
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE, Image
from runtime.image.packing import Packed, write_layer_of
from runtime.image.reference import parse_reference
from runtime.image.store import Store
from runtime.image.workplace import workplace

Variant = Literal["minbase", "extract"]

RECIPE = "org.isoscope.bootstrap"
"""The annotation of a manifest that tells what it was made from; builds do not inherit it."""

_VERSION = "1"  # of what is done with the packages: a change gives other images
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PULL = "get one with 'isoscope image pull docker.io/library/debian'"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_GO_NAMES = {"armhf": "arm", "i386": "386", "ppc64el": "ppc64le"}
_ALL_OF = {"minbase": ("?essential", "?priority(required)", "apt"), "extract": ()}
_CLOUD_KERNELS = frozenset({"amd64", "arm64"})
_SYSTEMD = ("systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "zstd")
_DPKG = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
    "force-unsafe-io",  # a half-made tree is thrown away, so nothing has to reach the disk
)
_STEPS = {
    "downloading packages with apt": "downloading packages",
    "extracting archives": "unpacking them",
    "installing essential packages": "installing the essential ones",
    "installing remaining packages inside the chroot": "installing the others",
    "creating tarball": "packing the tree",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianRecipe:
    """What is in the image besides the base: packages, and an init that a machine can boot.

    The variant ``extract`` is no base at all: the named packages, unpacked and not configured.
    """

    include: tuple[str, ...] = ()
    init: Literal["systemd"] | None = None
    variant: Variant = "minbase"

    def __post_init__(self) -> None:
        for name in self.include:
            if not _PACKAGE.fullmatch(name):
                raise ImageError(f"{name!r} is no package's name", remedy="see apt-cache search")
        if self.variant == "extract" and (self.init or not self.include):
            raise ImageError("packages to unpack must be named, and cannot boot by themselves")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """The image, how many packages are in it, and whether it was there already."""

    image: Image
    packages: int
    cached: bool


def bootstrap_debian(
    store: Store, reference: str, recipe: DebianRecipe, *, say: Callable[[str], None]
) -> Bootstrapped:
    """The image that *recipe* makes of this machine's sources, named *reference*.

    With packages besides the base it has two layers, the lower one that of the base alone. *say*
    is told what is being done. Raises Unsupported, ImageError.
    """
    name = str(parse_reference(reference))
    sources = apt.read_sources()
    _check_able()
    with workplace(say) as scratch:
        base = None
        if recipe.variant == "minbase" and (recipe.include or recipe.init):
            bare = _Making(store, sources, DebianRecipe(), None, scratch, say).image()
            base = store.tag(bare.image.digest, f"debian:{sources.codename}")
        made = _Making(store, sources, recipe, base, scratch, say).image()
        image = store.tag(made.image.digest, name)
    return replace(made, image=image)


def _included(recipe: DebianRecipe, sources: apt.Sources) -> tuple[str, ...]:
    """The packages besides the base: those asked for, and what the init consists of."""
    if recipe.init is None:
        return tuple(sorted(set(recipe.include)))
    cloud = "cloud-" if sources.architecture in _CLOUD_KERNELS else ""
    kernel = f"linux-image-{cloud}{sources.architecture}"
    return tuple(sorted({*recipe.include, *_SYSTEMD, kernel}))


@dataclass(frozen=True, slots=True)
class _Making:
    """One image: *recipe* applied to *sources*, over *base* where there is one."""

    store: Store
    sources: apt.Sources
    recipe: DebianRecipe
    base: Image | None
    scratch: Path
    say: Callable[[str], None]

    def image(self) -> Bootstrapped:
        """The image, from the store if it is there. It may have no name yet."""
        packages = apt.packages(
            self.sources,
            [*_ALL_OF[self.recipe.variant], *_included(self.recipe, self.sources)],
        )
        key = self._key(packages)
        for image in self.store.images():
            if image.manifest.annotations.get(RECIPE) == key:
                return Bootstrapped(image=image, packages=len(packages), cached=True)
        packed = self.scratch / "tree.tar"
        try:
            _install(self.sources, self.recipe, packed, self.say)
            with self.store.writing():
                layer = write_layer_of(
                    self.store,
                    packed,
                    self.scratch,
                    epoch_s=self.sources.epoch_s,
                    below=contents(self.store, self.base) if self.base else {},
                )
                image = self.store.keep(self._write(layer, key))
        except OSError as error:
            raise ImageError(
                f"cannot make the image: {error.filename or packed}: {error.strerror}",
                remedy="is the disk full?",
            ) from error
        finally:
            packed.unlink(missing_ok=True)
        return Bootstrapped(image=image, packages=len(packages), cached=False)

    def _key(self, packages: Sequence[apt.Package]) -> str:
        facts = (
            _VERSION, self.recipe.variant, str(self.recipe.init), str(self.sources.epoch_s),
            self.base.digest if self.base else "", *map(str, packages),
        )  # fmt: skip
        return f"sha256:{hashlib.sha256(chr(10).join(facts).encode()).hexdigest()}"

    def _write(self, packed: Packed, key: str) -> str:
        """Configuration and manifest; the digest of the manifest."""
        created = datetime.fromtimestamp(self.sources.epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        base = self.base
        words = ["isoscope image bootstrap debian"]
        words += [f"--init {self.recipe.init}"] if self.recipe.init else []
        words += [f"--include {','.join(self.recipe.include)}"] if self.recipe.include else []
        history = [{"created": created, "created_by": words[0]}] if base else []
        history += [{"created": created, "created_by": " ".join(words)}]
        configuration = {
            "architecture": _GO_NAMES.get(self.sources.architecture, self.sources.architecture),
            "os": "linux",
            "created": created,
            "config": _starts(self.recipe),
            "rootfs": {
                "type": "layers",
                "diff_ids": [*(base.config.diff_ids if base else ()), packed.diff_id],
            },
            "history": history,
        }
        config = self.store.write_blob(render_document(configuration), CONFIG_TYPE)
        layers = [*(base.manifest.layers if base else ()), packed.layer]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
            "annotations": {RECIPE: key},
        }
        return self.store.write_blob(render_document(manifest), MANIFEST_TYPE).digest


def _starts(recipe: DebianRecipe) -> dict[str, object]:
    environment = [f"PATH={_SEARCH_PATH}"]
    if recipe.init == "systemd":  # it ends in order at this signal, systemd(1)
        return {"Env": environment, "Cmd": ["/sbin/init"], "StopSignal": "SIGRTMIN+3"}
    return {"Env": environment, "Cmd": ["bash"] if recipe.variant == "minbase" else []}


def _check_able() -> None:
    if os.geteuid() != 0:
        raise Unsupported("installing packages into a directory needs root", remedy=_PULL)
    for program in ("mmdebstrap", "setpriv", "unshare"):
        if shutil.which(program) is None:
            raise Unsupported(
                f"this machine has no {program}", remedy="apt-get install mmdebstrap util-linux"
            )


def _install(
    sources: apt.Sources, recipe: DebianRecipe, target: Path, say: Callable[[str], None]
) -> None:
    """Let mmdebstrap make the tar *target*. Raises ImageError with its first complaint."""
    lines = target.with_name("sources.list")
    lines.write_text("".join(f"{line}\n" for line in sources.lines))
    complaints: list[str] = []

    def listen(line: str) -> None:
        level, _, text = line.partition(": ")
        if level == "E":
            complaints.append(text.strip())
        elif level == "I" and (step := _STEPS.get(text.strip(" .\n"))):
            say(step)

    status = _run(_argv(sources, recipe, target, lines), sources, target.parent, listen)
    if status:
        why = complaints[0] if complaints else f"status {status}"
        raise ImageError(f"mmdebstrap failed: {why}", remedy="apt-get update may help")


def _argv(
    sources: apt.Sources, recipe: DebianRecipe, target: Path, lines: Path
) -> tuple[str, ...]:
    """The words that run mmdebstrap as first process of a pid namespace, which ends with us.

    Its mounts are in a namespace of their own too, so nothing outlives a kill but files in the
    scratch directory, which the next making removes.
    """
    included = _included(recipe, sources)
    return (
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
        "mmdebstrap",
        "--mode=root",
        "--format=tar",
        f"--variant={recipe.variant}",
        f"--architectures={sources.architecture}",
        *([f"--include={','.join(included)}"] if included else []),
        "--skip=update",
        f"--setup-hook={apt.copying(sources)}",
        '--aptopt=APT::Sandbox::User "root"',  # another could not reach the scratch directory
        *(f"--aptopt={option}" for option in apt.access_options()),
        *(f"--dpkgopt={option}" for option in _DPKG),
        "", str(target), str(lines),
    )  # fmt: skip


def _run(
    argv: Sequence[str], sources: apt.Sources, scratch: Path, listen: Callable[[str], None]
) -> int:
    """Run *argv*, give what it prints to *listen*; its status. It does not outlive the call.

    It has a session of its own: a Ctrl-C reaches us only, and we end it.
    """
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(sources, scratch),
        start_new_session=True,
    ) as process:
        output: Iterator[str] = iter(process.stdout or ())
        try:
            for line in output:
                listen(line)
            return process.wait()
        finally:
            process.send_signal(signal.SIGKILL)  # nothing happens to one that has ended
            for _ in output:
                pass  # its end says that the last process that could print is gone


def _environment(sources: apt.Sources, scratch: Path) -> Mapping[str, str]:
    proxies = {name: value for name, value in os.environ.items() if name.endswith("_proxy")}
    return {
        "PATH": _SEARCH_PATH,
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(scratch),
        "SOURCE_DATE_EPOCH": str(sources.epoch_s),
        **proxies,
    }
