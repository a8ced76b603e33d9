"""All that a machine is made of, found or made before its clock matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.image import Image, Store
from vmbackend import network, share
from vmbackend.channel import Request
from vmbackend.compiler import AGENT, compiled
from vmbackend.disk import Disk, disk
from vmbackend.distribution import packaged_parts
from vmbackend.errors import MachineSpecError
from vmbackend.initramfs import initramfs
from vmbackend.kernel import Kernel, further_modules, kernel
from vmbackend.spec import BootProfile, MachineSpec, check_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What it cost, once, to make an image startable; ``cached`` says that this was earlier.

    The kernel and the guest's first process are made at the same time if they are missing, but
    belong to no image: neither time nor bytes include them.
    """

    duration_ns: int
    disk_bytes: int
    cached: bool
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The files a machine boots from, and the image they came from."""

    image: Image
    disk: Disk
    kernel: Kernel
    initramfs: Path


def prepare(image: str, *, profile: BootProfile = "minimal") -> Prepared:
    """Make *image* (a name or digest) startable. Raises ImageError, MachineError."""
    shared = packaged_parts() if profile == "ordinary" else shared_parts()
    parts, made_now = _parts(image, shared)
    return Prepared(
        duration_ns=parts.disk.duration_ns,
        disk_bytes=parts.disk.disk_bytes,
        cached=not made_now,
        method="unpacked, then mkfs.ext4 -d; bytes allocated",
    )


def parts_of(spec: MachineSpec) -> Parts:
    """The parts of *spec*'s machine, made if they are missing. Raises ImageError, MachineError."""
    shared = packaged_parts() if spec.profile == "ordinary" else shared_parts(_modules(spec))
    return _parts(spec.image, shared)[0]


def _modules(spec: MachineSpec) -> tuple[str, ...]:
    return (
        *(network.MODULES if spec.has_network else ()),
        *(share.MODULES if spec.shares else ()),
        *(("virtio_balloon",) if spec.has_balloon else ()),
    )


def shared_parts(modules: Sequence[str] = ()) -> tuple[Kernel, Path]:
    """The kernel and the initramfs that all machines boot, made if they are missing.

    *modules* are loaded besides those of every machine. Raises MachineUnavailable if the kernel,
    its modules or a compiler cannot be had.
    """
    guest_kernel = kernel()
    loaded = (*guest_kernel.modules, *further_modules(guest_kernel, modules))
    return guest_kernel, initramfs(compiled(AGENT), loaded)


def _parts(name: str, shared: tuple[Kernel, Path]) -> tuple[Parts, bool]:
    store = Store()
    image = store.resolve(name)
    if (image.config.os, image.config.architecture) != ("linux", "amd64"):
        raise MachineSpecError(
            f"{name} is for {image.config.os}/{image.config.architecture};"
            " machines here run linux/amd64"
        )
    made, made_now = disk(store, image)
    return Parts(image=image, disk=made, kernel=shared[0], initramfs=shared[1]), made_now


def request_of(parts: Parts, spec: MachineSpec, argv: tuple[str, ...]) -> Request:
    """*argv* with the environment, directory and user that spec and image give it.

    As docker: the spec's variables over the image's; HOME from the user's entry in passwd unless
    one of them sets it. Raises ImageError for a user that the image does not know.
    """
    config = parts.image.config
    identity = parts.disk.identity(spec.user if spec.user is not None else config.user)
    env = {**dict(config.env), **spec.env}
    env.setdefault("HOME", identity.home)
    cwd = spec.cwd if spec.cwd is not None else config.cwd
    check_command(argv, env, cwd)
    return Request(
        argv=argv, env=env, cwd=cwd, uid=identity.uid, gid=identity.gid, groups=identity.groups
    )
