"""Makes containers and processes in them: where what was decided is done."""

import _signal  # type: ignore[import-not-found]
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime import syscalls
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, SpecError, StepError
from runtime.oci import console, groups, resources
from runtime.oci.config import Config, Process, parse_config
from runtime.oci.document import MOST_BYTES, parse, render
from runtime.oci.groups import Hierarchy
from runtime.oci.launching import Started, launch, not_runnable
from runtime.oci.plan import FOUND, Here, plan_container, plan_process
from runtime.oci.seccomp import compile_filter
from runtime.oci.state import Kept, begin, forget, now, started_ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a container or process is to be started, beside what documents say."""

    console_socket: str = ""
    pid_file: str = ""
    foreground: bool = False
    keyring: bool = True


def read_config(directory: str, *, bundle: str) -> tuple[Config, bytes]:
    """The ``config.json`` in *directory*, of the bundle *bundle*. Raises SpecError."""
    path = f"{directory}/config.json"
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", remedy="give --bundle") from None
    return parse_config(parse(raw, path), bundle=bundle), raw


def state_of(kept: Kept, config: Config, status: str | None = None) -> dict[str, object]:
    """The state that the specification defines (runtime.md), with runc's additions."""
    now_is = status or kept.status()
    if now_is == "running" and groups.is_frozen(kept.groups):
        now_is = "paused"
    return {
        "ociVersion": "1.0.2", "id": kept.name, "pid": 0 if now_is == "stopped" else kept.pid,
        "status": now_is, "bundle": kept.bundle, "rootfs": config.root, "created": kept.created,
        "owner": "", "annotations": dict(config.annotations),
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A container that waits to be started; *master* is its terminal's, or -1."""

    kept: Kept
    config: Config
    started: Started
    master: int


def create(root: str, name: str, bundle: str, asked: Asked) -> Created:
    """Make a container.

    Raises SpecError before anything is made, RuntimeFault afterwards; then nothing is left.
    """
    bundle = os.path.abspath(bundle)
    config, raw = read_config(bundle, bundle=bundle)
    if config.process is None:
        raise SpecError("config.json has no process", remedy="add one")
    if not os.path.isdir(config.root):
        raise SpecError(f"root.path {config.root} is no directory", remedy="unpack an image there")
    found = groups.hierarchies()
    path = groups.checked_path(config.cgroups_path, name)
    process, config = config.process, _with(config, path)
    resources.check(found, config.resources)
    places = [groups.own_place(h, path) for h in found]
    plan = decided(config, process, found, keyring=asked.keyring)
    kept = begin(root, name, {"bundle": bundle, "created": now(), "groups": places, "pid": 0})
    try:
        with open(f"{kept.directory}/config.json", "wb") as copy:
            copy.write(raw)
        _refuse_used(places)
        groups.make(found, path)
        resources.write(found, path, config.resources)
        resources.list_devices(found, path, config.resources)
        started, master = _launched(kept, config, plan, asked)
    except BaseException:
        settle(places)
        forget(kept)
        raise
    return Created(kept=kept, config=config, started=started, master=master)


def execute(kept: Kept, config: Config, process: Process, asked: Asked) -> tuple[Started, int]:
    """One more process in the running container *kept*. Raises RuntimeFault."""
    found = groups.hierarchies()
    config = _with(config, groups.checked_path(config.cgroups_path, kept.name))
    plan = decided(config, process, found, joins=True, keyring=asked.keyring)
    init = os.pidfd_open(kept.pid)
    if not kept.lives():
        raise RuntimeFault("cannot exec in a stopped container")
    line, ours = _line(process, asked)
    read, write = os.pipe2(os.O_CLOEXEC)
    gate = os.open(f"/proc/self/fd/{read}", os.O_RDWR | os.O_CLOEXEC)
    started = _found(process, lambda: launch(plan, init=init, gate=gate, console=line))
    master = console.received(ours) if ours >= 0 else -1
    write_pid(asked.pid_file, started.pid)
    if not asked.foreground:
        started.leave()
    os.write(write, b"S")
    return started, master


def _found(process: Process, start: Callable[[], Started]) -> Started:
    try:
        return start()
    except StepError as error:
        if error.reason == FOUND:
            raise not_runnable(process.args[0], error.errno) from None
        raise


def decided(
    config: Config,
    process: Process,
    found: tuple[Hierarchy, ...],
    *,
    joins: bool = False,
    keyring: bool = True,
) -> Plan:
    """The plan on this machine, of a container or of a process that *joins* one."""
    machine = os.uname().machine
    status = groups.read_file("/proc/self/status")
    held = int(status.partition("CapBnd:")[2].split(None, 1)[0], 16)
    own_score = int(groups.read_file("/proc/self/oom_score_adj"))
    if process.oom_score_adj == own_score:  # to lower it to what it is may be forbidden
        process = _replaced(process, oom_score_adj=None)
    make = plan_process if joins else plan_container
    here = Here(
        machine=machine,
        held=held,
        last_capability=int(groups.read_file("/proc/sys/kernel/cap_last_cap")),
        hierarchies=found,
        streams=tuple(n for n in range(3) if not _is_null(n)),
        own_keyring=keyring,
    )
    seccomp = None if config.seccomp is None else compile_filter(config.seccomp, machine)
    return make(config, process, here, seccomp=seccomp)


def _launched(kept: Kept, config: Config, plan: Plan, asked: Asked) -> tuple[Started, int]:
    process = config.process
    assert process is not None  # noqa: S101 - create has looked
    line, ours = _line(process, asked)
    gate = os.open(kept.gate, os.O_RDWR | os.O_CLOEXEC)

    def at_hooks(pid: int) -> None:
        _hook(kept, config, pid)

    try:
        started = _found(process, lambda: launch(plan, gate=gate, console=line, at=at_hooks))
    finally:
        os.close(gate)
    try:
        master = console.received(ours) if ours >= 0 else -1
        kept.save(pid=started.pid, started_ticks=started_ticks(started.pid))
        write_pid(asked.pid_file, started.pid)
    except BaseException:
        started.kill()
        raise
    if not asked.foreground:
        started.leave()
    return started, master


def _line(process: Process, asked: Asked) -> tuple[int, int]:
    """The socket for the terminal, and our end of it where we take the master ourselves."""
    if process.terminal is None:
        if asked.console_socket:
            raise SpecError(
                "--console-socket is for a process with a terminal", remedy="set process.terminal"
            )
        return -1, -1
    if asked.console_socket:
        return console.connect(asked.console_socket), -1
    if not asked.foreground:
        raise SpecError(
            "a terminal needs a console socket when nobody stays", remedy="give --console-socket"
        )
    ours, theirs = console.pair()
    return theirs, ours


def _hook(kept: Kept, config: Config, pid: int) -> None:
    from runtime.oci.hooks import run_hooks  # noqa: PLC0415 - few bundles have any

    kept.pid = pid
    state = render(state_of(kept, config, "creating"))
    for kind in ("prestart", "createRuntime"):
        run_hooks(config.hooks[kind], state, kind=kind)
    flags = sum(config.namespaces) & ~syscalls.CLONE_NEWCGROUP
    run_hooks(
        config.hooks["createContainer"], state, kind="createContainer", within=pid, flags=flags
    )
    kept.pid = 0


def _refuse_used(places: list[str]) -> None:
    if groups.members(places):
        raise RuntimeFault(
            f"the control group {places[0]} holds processes", remedy="use another cgroupsPath"
        )


def settle(places: list[str]) -> None:
    """Remove the groups; what runs in them is killed. Raises RuntimeFault if it does not end."""
    for _ in range(1000):
        try:
            groups.remove(places)
        except OSError:
            groups.kill_all(places)
            if groups.is_frozen(places):  # which keeps the signal from them
                groups.freeze(places, frozen=False)
            time.sleep(0.002)  # no event tells of a v1 group that became empty
        else:
            return
    raise RuntimeFault(f"processes in {places[0]} do not end", remedy="see what they wait for")


def write_pid(path: str, pid: int) -> None:
    """Write *pid* to the file *path*, whole or not at all."""
    if path:
        head, _, name = path.rpartition("/")
        fresh = f"{head}/.{name}" if head else f".{name}"
        with open(fresh, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.rename(fresh, path)


def signal_process(kept: Kept, number: int) -> None:
    """Signal its init, which cannot be another process meanwhile. Raises RuntimeFault."""
    try:
        pidfd = os.pidfd_open(kept.pid) if kept.pid else -1
    except ProcessLookupError:
        pidfd = -1
    if pidfd < 0 or not kept.lives():
        raise RuntimeFault("container not running")
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise RuntimeFault("container not running") from None
    finally:
        os.close(pidfd)


def _with(config: Config, path: str) -> Config:
    changed: Config = _replaced(config, cgroups_path=path)
    return changed


def _replaced(value: Any, **changes: object) -> Any:
    """*value* with *changes*; ``dataclasses.replace`` is not loaded on this way."""
    names = type(value).__match_args__
    return type(value)(**{n: getattr(value, n) for n in names} | changes)


def _is_null(number: int) -> bool:
    try:
        return os.fstat(number).st_rdev == os.makedev(1, 3)
    except OSError:
        return True
