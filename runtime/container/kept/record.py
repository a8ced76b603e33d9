"""What is written down of a container that can be found again: who it is, how it was asked for.

One file, ``record.json`` in the instance's directory, whole or not at all. What it says of
processes is only believed after a look at them: see ``standing``.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.container.attachments import Wishes
from runtime.container.cgroups import Hierarchy
from runtime.container.container import Options
from runtime.container.devices import Device
from runtime.container.protection import Protection
from runtime.container.spec import Limits
from runtime.container.state import RECORD, read_end, started_ticks
from runtime.container.ulimits import Ulimit
from runtime.errors import RuntimeFault
from runtime.image.durable import write_whole
from runtime.network.ports import Port
from runtime.volume.mount import MountRequest
from runtime.waiting import readable

SCHEMA = 1
KILLED = 137
"""The status of a container whose executor went without a word: what took it was a SIGKILL."""

State = Literal["created", "running", "exited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A process by its number and its start, in clock ticks since the boot *boot*."""

    pid: int
    started_ticks: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A container. *image_name* is what the user wrote, *image* the digest that it meant.

    *started_ns* is of CLOCK_REALTIME. *is_kept* says that it stays when it has ended; others go,
    those in the foreground with the command that waits for them.
    *hierarchies* are those in which its groups were made, *ports* those that it got when it was
    started last, while the options have what was asked for.
    """

    id: str
    name: str
    backend: str
    image: str
    image_name: str
    argv: tuple[str, ...]
    options: Options
    created: str
    is_kept: bool
    is_foreground: bool = False
    started_ns: int = 0
    init: Living | None = None
    executor: Living | None = None
    hierarchies: tuple[Hierarchy, ...] = ()
    ports: tuple[Port, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``record.json`` has it."""
        options = asdict(self.options)
        for name in ("stdin", "executor", "mounts", "within", "terminal"):
            del options[name]
        options["protection"] |= {
            "capabilities": sorted(self.options.protection.capabilities),
            "profile": b64encode(self.options.protection.profile).decode(),
        }
        pids = {name: asdict(each) for name, each in self._processes().items()}
        return {
            "schema": SCHEMA, "id": self.id, "name": self.name, "backend": self.backend,
            "image": self.image, "image_name": self.image_name, "argv": list(self.argv),
            "options": options, "created": self.created, "is_kept": self.is_kept,
            "is_foreground": self.is_foreground,
            "status": "running" if pids else "created", "started_ns": self.started_ns,
            "pids": pids, "hierarchies": [asdict(each) for each in self.hierarchies],
            "ports": [asdict(each) for each in self.ports],
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Record":
        """The reverse. Raises KeyError, TypeError, ValueError for what is no record of ours."""
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']}")
        pids = {name: Living(**each) for name, each in told["pids"].items()}
        return cls(
            id=told["id"], name=told["name"], backend=told["backend"], image=told["image"],
            image_name=told["image_name"], argv=tuple(told["argv"]),
            options=_options(told["options"]), created=told["created"],
            is_kept=told["is_kept"], is_foreground=told["is_foreground"],
            started_ns=told["started_ns"],
            ports=tuple(Port(**each) for each in told["ports"]),
            init=pids.get("init"), executor=pids.get("executor"),
            hierarchies=tuple(
                Hierarchy(**each | {"controllers": tuple(each["controllers"])})
                for each in told["hierarchies"]
            ),
        )  # fmt: skip

    def _processes(self) -> dict[str, Living]:
        both = {"init": self.init, "executor": self.executor}
        return {name: each for name, each in both.items() if each is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a container is: *exit_status* and *ended_ns* (CLOCK_REALTIME) are of one that exited."""

    state: State
    exit_status: int | None = None
    ended_ns: int | None = None


def write_record(directory: Path, record: Record) -> None:
    """Write *record* down. The caller holds the container, or nobody else knows it yet.

    What goes with the command that made it need not outlive a crash of the machine.
    """
    told = json.dumps(record.to_json()).encode()
    if not record.is_foreground:
        write_whole(directory / RECORD, told, mode=0o600)
        return
    fresh = directory / f".{RECORD}.new"
    fresh.write_bytes(told)
    fresh.replace(directory / RECORD)


def read_record(directory: Path) -> Record | None:
    """What is written down in *directory*; None if nothing is. Raises RuntimeFault."""
    try:
        return Record.from_json(json.loads((directory / RECORD).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RuntimeFault(
            f"{directory / RECORD} cannot be read: {type(error).__name__}: {error}",
            remedy=f"remove the container: isoscope rm -f {directory.name}",
        ) from error


def standing(directory: Path, record: Record) -> Standing:
    """How the container is now: by its processes, then by what its executor wrote down."""
    if record.executor is None:
        return Standing(state="created")
    if any(_lives(each) for each in (record.executor, record.init)):
        return Standing(state="running")
    end = read_end(directory)
    if end is None or end.ended_ns < record.started_ns:
        return Standing(state="exited", exit_status=KILLED)
    return Standing(state="exited", exit_status=end.exit_status, ended_ns=end.ended_ns)


def living(pid: int) -> Living | None:
    """The process *pid* as it is to be recorded; None if it has gone."""
    ticks = started_ticks(pid)
    return None if ticks is None else Living(pid=pid, started_ticks=ticks, boot=_boot())


@contextmanager
def opened(process: Living | None) -> Iterator[int | None]:
    """A process descriptor of *process*, not of a later one with its pid; None if it is gone."""
    fd: int | None = None
    if process is not None:
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(process.pid)
    try:
        gone = fd is None or process is None or not _lives(process)
        yield None if gone else fd
    finally:
        if fd is not None:
            os.close(fd)


def wait_for(process: Living | None, timeout_s: float | None = None) -> bool:
    """Wait until *process* has ended; False if it has not after *timeout_s*."""
    with opened(process) as fd:
        return fd is None or bool(readable(fd, timeout_s=timeout_s))


def _lives(process: Living | None) -> bool:
    return (
        process is not None
        and started_ticks(process.pid) == process.started_ticks
        and _boot() == process.boot
    )


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _options(told: Mapping[str, Any]) -> Options:
    wishes = told["attached"]
    return Options(
        env=told["env"], cwd=told["cwd"], user=told["user"], hostname=told["hostname"],
        limits=Limits(**told["limits"]), seccomp=told["seccomp"],
        host_network=told["host_network"], protection=_protection(told["protection"]),
        attached=Wishes(
            mounts=tuple(MountRequest(**each) for each in wishes["mounts"]),
            network=wishes["network"],
            ports=tuple(Port(**each) for each in wishes["ports"]),
            names=tuple(wishes["names"]),
        ),
    )  # fmt: skip


def _protection(told: Mapping[str, Any]) -> Protection:
    return Protection(
        capabilities=frozenset(told["capabilities"]), profile=b64decode(told["profile"]),
        is_privileged=told["is_privileged"], read_only=told["read_only"],
        devices=tuple(Device(**each) for each in told["devices"]),
        ulimits=tuple(Ulimit(**each) for each in told["ulimits"]),
    )  # fmt: skip
