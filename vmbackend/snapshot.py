"""A machine that was stopped when it was ready, and machines that go on from there.

A snapshot is what a guest had in memory, with its overlay disk, at the moment when its first
process was idle and no command had begun. Each machine that is restored has an overlay and a QEMU
of its own; before it runs anything it is told the time and given randomness of its own. What else
it remembers is the same in all: where the kernel put itself (KASLR), the disk's cached blocks.
A restored machine has not booted: its figures are never those of a cold start.

QEMU does both, by migration to and from a file that it is handed open (it needs no right to it).
Not libvirt: that restores a state under the UUID it was saved with, so one process could not run
two machines of one snapshot.

Snapshots are kept by the digest of all that they depend on: QEMU, kernel, initramfs, disk, sizes
and devices. The least recently used go when all together are larger than a limit.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vmbackend.accelerator import accelerator
from vmbackend.cache import locked, made_once, vm_cache
from vmbackend.command import OutputSink
from vmbackend.disk import allocated_bytes, empty_overlay
from vmbackend.emulator import Emulator, emulator, emulator_words
from vmbackend.errors import BootTimeout, EngineError, GuestError, MachineSpecError
from vmbackend.machine import BOOT_LIMIT_S, Machine
from vmbackend.monitor import Monitor, accepted, listening
from vmbackend.parts import Parts, parts_of
from vmbackend.place import Place
from vmbackend.spec import MachineSpec
from vmbackend.vmm import domain_of

LIMIT_BYTES = 2 << 30
"""What all snapshots together may occupy; those used within the last minute stay in any case."""

_SAVE_LIMIT_S = 60.0
_POLL_S = 0.005
_IN_USE_NS = 60 * 10**9
_UNLIMITED = 1 << 40
_NOWHERE = Place(root=Path("/"), instances=Path("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A stopped machine in the cache. ``disk_bytes`` is what it occupies."""

    directory: Path
    duration_ns: int
    disk_bytes: int

    @property
    def state(self) -> Path:
        """The stream of QEMU's migration: devices and memory."""
        return self.directory / "state"

    @property
    def overlay(self) -> Path:
        """What the guest had written to its disk."""
        return self.directory / "overlay.qcow2"


def snapshot(spec: MachineSpec) -> tuple[Snapshot, bool]:
    """The snapshot of a machine like *spec*, and whether it had to be made now.

    What is to run in it, as whom and where does not matter: that comes after. Raises as
    ``machine`` does, and MachineSpecError for one with a network or shares.
    """
    if spec.connection.has_daemon:
        raise MachineSpecError(
            "QEMU itself restores machines, and no libvirt", remedy="leave out the connection"
        )
    if spec.has_network or spec.shares or spec.has_balloon or spec.profile != "minimal":
        raise MachineSpecError(
            "a machine with a network, shares, a balloon or an init of its own is not restored",
            remedy="boot it",
        )
    idle = MachineSpec(
        image=spec.image, cpus=spec.cpus, memory_bytes=spec.memory_bytes,
        accelerator=spec.accelerator,
    )  # fmt: skip
    parts = parts_of(idle)
    directory = vm_cache("snapshots", _digest(idle, parts))
    made_now = made_once(directory, partial(_make, idle, parts))
    found = _load(directory)
    os.utime(directory)  # it is in use: others go before it
    if made_now:
        _evict(directory.parent, now_ns=directory.stat().st_mtime_ns)
    return found, made_now


@contextmanager
def restored(
    spec: MachineSpec,
    *,
    limit_s: float = BOOT_LIMIT_S,
    feeding: bool = False,
    sink: OutputSink | None = None,
) -> Iterator[Machine]:
    """As ``machine``, but it goes on from its snapshot, which is made first if there is none.

    The request, from which phases count, comes after that.
    """
    parts = parts_of(spec)
    found, _ = snapshot(spec)
    start_ns = time.monotonic_ns()
    with found.state.open("rb") as state:
        overlay = found.overlay.read_bytes()
        with emulator(spec, parts, start_ns=start_ns, overlay=overlay, resumed=True) as engine:
            guest = Machine(spec=spec, parts=parts, engine=engine)
            guest.start_main(feeding=feeding, sink=sink)
            incoming = ("-incoming", f"fd:{state.fileno()}")
            engine.start((*emulator_words(engine.domain), *incoming), [state.fileno()])
            _await(guest, limit_s, found)
            yield guest


def _await(guest: Machine, limit_s: float, source: Snapshot) -> None:
    """A machine that ends before it speaks could not read its state."""
    try:
        guest.await_boot(limit_s)
    except GuestError as error:
        raise EngineError(
            f"the snapshot {source.directory} cannot be gone on from: {error.message}",
            remedy="remove that directory",
        ) from error


def _digest(spec: MachineSpec, parts: Parts) -> str:
    """Of all that must be the same for a state to be one that this machine can go on from."""
    chosen = accelerator(spec.accelerator)
    domain = domain_of(spec, parts, chosen, name="", own=_NOWHERE)
    files = [path.stat() for path in (domain.emulator, domain.kernel, domain.disk)]
    seen = [
        *emulator_words(domain),
        *(f"{file.st_ino} {file.st_size} {file.st_mtime_ns}" for file in files),
        parts.image.digest,
    ]
    if chosen.name == "kvm":  # the processor is the computer's own, and may be another tomorrow
        seen.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    return hashlib.sha256("\0".join(seen).encode()).hexdigest()[:32]


def _make(spec: MachineSpec, parts: Parts, directory: Path) -> None:
    start_ns = time.monotonic_ns()
    directory.mkdir(mode=0o700)
    made = Snapshot(directory=directory, duration_ns=0, disk_bytes=0)
    with emulator(spec, parts, start_ns=start_ns, overlay=empty_overlay(parts.disk)) as engine:
        _boot_and_save(engine, made)
        shutil.copyfile(engine.domain.overlay, made.overlay)
    values = {
        "duration_ns": time.monotonic_ns() - start_ns,
        "disk_bytes": allocated_bytes(made.state) + allocated_bytes(made.overlay),
    }
    (directory / "meta.json").write_text(json.dumps(values))


def _boot_and_save(engine: Emulator, target: Snapshot) -> None:
    path = engine.domain.port_socket.with_suffix(".monitor")
    with listening(path) as listener, target.state.open("wb") as state:
        speaks = ("-chardev", f"socket,id=monitor,path={path}", "-mon", "monitor,mode=control")
        engine.start((*emulator_words(engine.domain), *speaks))
        with accepted(listener, timeout_s=_SAVE_LIMIT_S) as monitor:
            if not engine.link.ready.wait(BOOT_LIMIT_S):
                raise BootTimeout("the machine to be saved did not boot in time")
            if engine.link.failure is not None:
                raise EngineError(f"the machine to be saved failed: {engine.link.failure}")
            _save(monitor, state.fileno())


def _save(monitor: Monitor, descriptor: int) -> None:
    """Write the state; QEMU stops the processors for the end of it, and tells when it is asked.

    They are not stopped before: a machine that was paused would be paused when it is restored.
    """
    monitor.execute("migrate-set-parameters", **{"max-bandwidth": _UNLIMITED})
    monitor.give(descriptor, "state")
    monitor.execute("migrate", uri="fd:state")
    deadline = time.monotonic() + _SAVE_LIMIT_S
    while (status := monitor.execute("query-migrate").get("status")) != "completed":
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise EngineError(f"QEMU could not save the machine: {status}")
        time.sleep(_POLL_S)


def _load(directory: Path) -> Snapshot:
    try:
        values = json.loads((directory / "meta.json").read_bytes())
        return Snapshot(directory=directory, **values)
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"the snapshot {directory} is damaged: {error}", remedy="remove that directory"
        ) from error


def _evict(snapshots: Path, *, now_ns: int) -> None:
    """Remove the least recently used until the rest fits. An open one lives on until closed."""
    with locked(snapshots / "all"):
        found = []
        for directory in snapshots.iterdir():
            with suppress(OSError):
                used_ns = directory.stat().st_mtime_ns
                found.append((used_ns, allocated_bytes(directory / "state"), directory))
        left = sum(size for _, size, _ in found)
        for used_ns, size, directory in sorted(found):
            if left > LIMIT_BYTES and used_ns < now_ns - _IN_USE_NS:
                shutil.rmtree(directory, ignore_errors=True)
                left -= size
