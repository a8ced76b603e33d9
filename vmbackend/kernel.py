"""The guest's kernel: the distribution's cloud kernel, taken from its package into our cache.

The package is downloaded and unpacked, never installed: the boot loader of this computer does not
learn of it. Only three things of it are kept: the kernel (as ELF file for PVH if it can be
extracted), the modules the guest needs, and the build configuration, for the reader.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vmbackend.cache import made_once, vm_cache
from vmbackend.errors import MachineUnavailable
from vmbackend.pvh import NotExtractable, extract

META_PACKAGE = "linux-image-cloud-amd64"
WANTED_MODULES = ("virtio_pci", "virtio_blk", "virtio_console")
"""What every guest loads."""

FURTHER_MODULES = ("virtio_net", "virtiofs", "overlay", "autofs4", "virtio_balloon")
"""What a guest may load besides, kept beside them."""

_FURTHER = f"further-{len(FURTHER_MODULES)}"
"""The directory of all of them: another one when they become more."""

_REMEDY = "it needs apt on Debian, with package lists (apt-get update) and a reachable mirror"
_PACKAGE = re.compile(r"linux-image-(?P<version>\d[A-Za-z0-9.+~-]*-cloud-amd64)")
_DOWNLOAD_LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel in the cache: its release, the file a VMM enters, the modules in load order."""

    release: str
    image: Path
    method: str
    modules: tuple[Path, ...]


def kernel() -> Kernel:
    """The newest cached or downloadable cloud kernel, made ready.

    A cached one is used without asking the network. Raises MachineUnavailable if there is none
    and none can be had.
    """
    cached = cached_kernel()
    if cached is not None:
        return cached
    package = newest_package(_apt_cache("depends", META_PACKAGE))
    directory = vm_cache("kernel", _version(package))
    made_once(directory, partial(_make, package))
    return _load(directory)


def cached_kernel() -> Kernel | None:
    """The newest kernel in the cache, or None."""
    directories = list(vm_cache("kernel").glob("[0-9]*"))
    return _load(max(directories, key=_numbers)) if directories else None


def further_modules(of: Kernel, wanted: Sequence[str]) -> tuple[Path, ...]:
    """Those of FURTHER_MODULES that are *wanted*, with what they need, in the order of loading.

    A kernel that was cached without them is given them from its package. Raises
    MachineUnavailable if that cannot be had.
    """
    if not wanted:
        return ()
    directory = of.image.parent / _FURTHER
    made_once(directory, partial(_make_further, f"linux-image-{of.release}"))
    contents = {path.stem: path.read_bytes() for path in directory.glob("*.ko")}
    loaded = {path.stem.partition("-")[2] for path in of.modules}
    order = [name for name in load_order(contents, wanted) if name not in loaded]
    return tuple(directory / f"{name}.ko" for name in order)


def downloadable() -> bool:
    """Whether apt knows a cloud kernel, from its lists, without the network."""
    try:
        newest_package(_apt_cache("depends", META_PACKAGE))
    except MachineUnavailable:
        return False
    return True


def newest_package(depends: str) -> str:
    """The kernel package that *depends*, the output of apt-cache(8), names. Pure."""
    names = [match[0] for match in _PACKAGE.finditer(depends)]
    if not names:
        raise MachineUnavailable(f"apt knows no kernel behind {META_PACKAGE}", remedy=_REMEDY)
    return max(names, key=_numbers)


def load_order(modules: Mapping[str, bytes], wanted: Iterable[str]) -> tuple[str, ...]:
    """The names of *wanted* and of all they depend on, each after its dependencies. Pure.

    *modules* maps names to file contents; what it lacks is taken to be built into the kernel.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order or name not in modules or name in above:
            return
        for dependency in dependencies(modules[name]):
            visit(dependency, (*above, name))
        order.append(name)

    for name in wanted:
        visit(name, ())
    return tuple(order)


def dependencies(module: bytes) -> tuple[str, ...]:
    """What a module's ``depends=`` says (modinfo(8)); a kernel package has no modules.dep yet."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return tuple(name.decode() for name in found[1].split(b",") if name) if found else ()


def _make(package: str, directory: Path) -> None:
    """Works in the scratch directory that *directory* is in; what is not kept goes with it."""
    tree = unpacked_package(package, directory.parent)
    release = _version(package)
    directory.mkdir()
    _keep_kernel((tree / f"boot/vmlinuz-{release}").read_bytes(), directory)
    _keep_modules(tree / "lib/modules" / release, directory)
    _keep_further(tree / "lib/modules" / release, directory / _FURTHER)
    shutil.copyfile(tree / f"boot/config-{release}", directory / "config")


def unpacked_package(package: str, scratch: Path) -> Path:
    """Download and unpack. apt notes that its sandbox user cannot write here, and goes on."""
    _run(["apt-get", "-qq", "download", package], cwd=scratch, limit_s=_DOWNLOAD_LIMIT_S)
    archives = list(scratch.glob("*.deb"))
    if len(archives) != 1:
        raise MachineUnavailable(f"apt-get downloaded no {package}", remedy=_REMEDY)
    tree = scratch / "tree"
    _run(["dpkg-deb", "--extract", str(archives[0]), str(tree)], cwd=scratch)
    return tree


def _keep_kernel(bzimage: bytes, directory: Path) -> None:
    try:
        (directory / "vmlinux").write_bytes(extract(bzimage))
    except NotExtractable as reason:
        (directory / "bzImage").write_bytes(bzimage)
        (directory / "no-pvh").write_text(f"{reason}\n")


def _keep_modules(source: Path, directory: Path) -> None:
    files = {path.stem.replace("-", "_"): path for path in source.rglob("virtio*.ko")}
    contents = {name: path.read_bytes() for name, path in files.items()}
    (directory / "modules").mkdir()
    for index, name in enumerate(load_order(contents, WANTED_MODULES)):
        (directory / "modules" / f"{index:02d}-{name}.ko").write_bytes(contents[name])


def _make_further(package: str, directory: Path) -> None:
    tree = unpacked_package(package, directory.parent)
    _keep_further(tree / "lib/modules" / _version(package), directory)


def _keep_further(source: Path, directory: Path) -> None:
    files = {path.stem.replace("-", "_"): path for path in source.rglob("*.ko")}
    contents: dict[str, bytes] = {}
    for wanted in FURTHER_MODULES:
        _read_with_needs(wanted, files, contents)
    directory.mkdir()
    for name, content in contents.items():
        (directory / f"{name}.ko").write_bytes(content)


def _read_with_needs(name: str, files: Mapping[str, Path], contents: dict[str, bytes]) -> None:
    """Read the module *name* and all it depends on into *contents*, if they are modules."""
    if name in files and name not in contents:
        contents[name] = files[name].read_bytes()
        for needed in dependencies(contents[name]):
            _read_with_needs(needed, files, contents)


def _load(directory: Path) -> Kernel:
    elf = directory / "vmlinux"
    direct = elf.exists()
    return Kernel(
        release=directory.name,
        image=elf if direct else directory / "bzImage",
        method="PVH" if direct else "bzImage",
        modules=tuple(sorted((directory / "modules").glob("*.ko"))),
    )


def _apt_cache(*words: str) -> str:
    return _run(["apt-cache", *words], cwd=Path("/"))


def _run(argv: list[str], *, cwd: Path, limit_s: float = 60) -> str:
    try:
        done = subprocess.run(
            argv, cwd=cwd, check=True, capture_output=True, text=True, timeout=limit_s
        )
    except FileNotFoundError:
        raise MachineUnavailable(
            f"no kernel for the guest: {argv[0]} is missing", remedy=_REMEDY
        ) from None
    except subprocess.TimeoutExpired:
        raise MachineUnavailable(
            f"no kernel for the guest: {argv[0]} took more than {limit_s:g} s", remedy=_REMEDY
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no message").splitlines()[-1]
        raise MachineUnavailable(f"no kernel for the guest: {last}", remedy=_REMEDY) from error
    return done.stdout


def _version(package: str) -> str:
    return package.removeprefix("linux-image-")


def _numbers(name: str | Path) -> tuple[int, ...]:
    """Orders kernel versions: 6.1.0-9 before 6.1.0-56."""
    return tuple(int(number) for number in re.findall(r"\d+", Path(name).name))
