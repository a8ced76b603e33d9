"""The computer's side of one machine: its sockets, its overlay disk and its QEMU."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from vmbackend.accelerator import Accelerator, accelerator, emulator_path
from vmbackend.account import check_readable, emulator_account
from vmbackend.compiler import READONLY, compiled
from vmbackend.disk import instance_overlay
from vmbackend.domain import Domain, Served, domain_xml
from vmbackend.errors import EngineError
from vmbackend.hypervisor import Hypervisor, hypervisor
from vmbackend.link import Link
from vmbackend.network import check_free
from vmbackend.ordinary import ordinary_xml
from vmbackend.parts import Parts
from vmbackend.place import Place, place
from vmbackend.share import Share, check_sources, tag_of, virtiofsd
from vmbackend.spec import MachineSpec


class Vmm:
    """Everything of a machine that is not the guest. ``vmm()`` makes one and ends it."""

    def __init__(
        self, *, domain: Domain, accelerator: Accelerator, line: Link, engine: Hypervisor
    ) -> None:
        self.domain = domain
        self.accelerator = accelerator
        self.link = line
        self.marks_ns: dict[str, int] = {}
        self._engine = engine

    def mark(self, phase: str) -> None:
        """Note that *phase* is reached now."""
        self.marks_ns[phase] = time.monotonic_ns()

    def start(self) -> None:
        """Let libvirt create the machine; its processors run. Raises EngineError."""
        try:
            self._engine.start(
                self.domain.name, description(self.domain), out_of_room=self._end_for_want_of_room
            )
        except EngineError as error:
            reached = "engine" if "engine" in self.link.marks_ns else "prepared"
            raise EngineError(
                error.message, last_phase=reached, console_tail=self.link.console_tail()
            ) from None
        self.mark("engine.created")

    def _end_for_want_of_room(self) -> None:
        folder = self.domain.overlay.parent.parent
        self.link.fail(
            EngineError(
                f"the machine was stopped: there is no room left in {folder} for what it writes",
                remedy="make room there, or set ISOSCOPE_HOME to a directory with room in it",
            )
        )

    def balloon(self) -> Mapping[str, int]:
        """What the guest last told by its balloon, in bytes; nothing if that is nothing."""
        return self._engine.balloon(self.domain.name) if self.domain.has_balloon else {}

    def kill(self) -> None:
        """End it, whatever state it is in; when this returns, QEMU is dead and reaped."""
        if self.link.emulator_pid is not None:
            self.link.kill_emulator()
        else:  # it never got as far as its console; libvirt knows it, if it exists
            self._engine.stop(self.domain.name)


@contextmanager
def vmm(spec: MachineSpec, parts: Parts, *, start_ns: int) -> Iterator[Vmm]:
    """What *spec* needs here, ready for ``start``; nothing of it is left after the block.

    Its marks tell when: ``request`` (*start_ns*), ``prepared``, ``engine.created``, ``gone`` and
    ``gone.forgotten``: libvirt has closed its books, too.
    """
    chosen = accelerator(spec.accelerator)
    engine = hypervisor(spec.connection)
    check_readable(parts.kernel.image, parts.initramfs, parts.disk.path)
    check_free(spec.ports)
    check_sources(spec.shares)
    name = f"isoscope-{os.getpid()}-{secrets.token_hex(4)}"
    domain = domain_of(spec, parts, chosen, name=name, own=place())
    with ExitStack() as undo:
        line = Link(domain.console_socket, domain.port_socket)
        made = Vmm(domain=domain, accelerator=chosen, line=line, engine=engine)
        made.marks_ns["request"] = start_ns
        undo.callback(made.mark, "gone.forgotten")
        undo.callback(engine.stop, name)
        undo.callback(made.mark, "gone")
        undo.enter_context(line)
        undo.enter_context(instance_overlay(parts.disk, domain.overlay))
        made.mark("prepared")
        undo.callback(made.kill)
        yield made


def domain_of(
    spec: MachineSpec, parts: Parts, chosen: Accelerator, *, name: str, own: Place
) -> Domain:
    """The domain for *spec*, with all that belongs to the instance in our *own* place."""
    account = emulator_account() if spec.connection.driver == "system" else None
    return Domain(
        name=name,
        accelerator=chosen.name,
        cpus=spec.cpus,
        memory_bytes=spec.memory_bytes,
        emulator=emulator_path(),
        kernel=parts.kernel.image,
        initramfs=parts.initramfs,
        disk=parts.disk.path,
        overlay=own.instances / f"{name}.qcow2",
        console_socket=own.sockets / f"{name}.console",
        port_socket=own.sockets / f"{name}.port",
        network=spec.network,
        ports=spec.ports,
        shares=served(spec.shares),
        profile=spec.profile,
        image=parts.image.digest,
        has_balloon=spec.has_balloon,
        runs_as=None if account is None else (account.uid, account.started_as),
    )


def description(domain: Domain) -> str:
    """What libvirt is given for *domain*. Pure."""
    return ordinary_xml(domain) if domain.profile == "ordinary" else domain_xml(domain)


def served(shares: Sequence[Share]) -> tuple[Served, ...]:
    """What libvirt is told of *shares*. Raises MachineUnavailable."""
    return tuple(
        Served(
            source=share.source.resolve(),
            tag=tag_of(index),
            server=compiled(READONLY) if share.is_readonly else virtiofsd(),
        )
        for index, share in enumerate(shares)
    )
