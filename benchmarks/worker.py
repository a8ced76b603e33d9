"""The process that launches instances: light, one engine, warmed before any clock starts.

``python -m benchmarks.worker BACKEND FD`` serves one harness over the socket FD. It is born
apart, in a session of its own; when the harness dies it unwinds what it has started, and ends.
Its control groups are laid out so that "the group of the instance" means the same for all::

    isoscope-<name>/worker                 the worker while it warms up
    isoscope-<name>/instance/engine        the worker from launch on, and every engine it starts
    isoscope-<name>/instance/<id>          a container, with its limits

What is charged below ``instance`` is the engine and the instance, not the interpreter's start.
"""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmarks import meters, wire
from benchmarks.backend import Backend, Instance, InstanceTimeout, Reading, Usage
from benchmarks.backends import opened
from runtime import rootless, syscalls
from runtime.container.cgroups import place, plan_groups
from runtime.container.facts import host_facts
from runtime.container.launch.interpreter import run_steps
from runtime.container.spec import Limits
from runtime.container.state import instances_dir, new_directory, record_owner, remove_instance
from runtime.errors import RuntimeFault, Unsupported

_UNWIND_LIMIT_S = 20


class Groups:
    """The worker's control groups, if it may have some; see the module's picture.

    Held open: a backend may enter a mount namespace in which their paths are others.
    """

    def __init__(self, name: str, tops: tuple[Path, ...]) -> None:
        self.within = f"{name}/instance"
        held = (os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for top in tops)
        self._tops = tuple(Path(f"/proc/self/fd/{descriptor}") for descriptor in held)

    def enter(self, where: str) -> None:
        """Move this process into *where* (``worker`` or ``instance/engine``) of each hierarchy."""
        for top in self._tops:
            (top / where / "cgroup.procs").write_text("0")

    def usage(self) -> Reading | None:
        """What is charged to engine and instance."""
        readings = (meters.group_usage(top / "instance") for top in self._tops)
        return next((reading for reading in readings if reading is not None), None)


@contextmanager
def groups() -> Iterator[Groups | None]:
    """Control groups for this worker, removed at the end; None where we may not make any."""
    name = f"w-{secrets.token_hex(5)}"
    directory = instances_dir() / name
    facts = host_facts()
    places = place(facts.hierarchies, name, None)
    if os.geteuid() != 0 or not places:
        yield None
        return
    tops = tuple(Path(group.path) for group in places)
    with ExitStack() as undo:
        new_directory(name)
        undo.callback(remove_instance, directory)
        record_owner(directory, tops)
        for step_name in (name, f"{name}/worker", f"{name}/instance", f"{name}/instance/engine"):
            run_steps(tuple(plan_groups(place(facts.hierarchies, step_name, None), Limits())))
        undo.callback(_leave, tops)
        yield Groups(name, tops)


def _leave(tops: tuple[Path, ...]) -> None:
    """Go back to where we were born, so that our groups are empty and can be removed."""
    for top in tops:
        (top.parent / "cgroup.procs").write_text("0")


class Server:
    """Answers one harness: first what the backend is, then one instance at a time."""

    def __init__(self, backend: Backend, own: Groups | None, line: wire.Line) -> None:
        self._backend = backend
        self._groups = own
        self._line = line
        self._instance: Instance | None = None
        self._leave: Callable[[], None] = _nothing

    def serve(self) -> None:
        """Answer until the harness hangs up; then end what still runs."""
        try:
            while (request := self._line.receive()) is not None:
                self._line.send(self._answer(request))
        finally:
            self._leave()

    def _answer(self, request: wire.Message) -> wire.Message:
        operation = request.pop("op")
        try:
            return {"ok": getattr(self, f"_do_{operation}")(**request)}
        except InstanceTimeout as passed:
            return {"error": wire.pack_timeout(passed), "kind": "timeout"}
        except RuntimeFault as error:
            return {"error": str(error), "kind": "failed"}
        except Exception as error:  # noqa: BLE001 - the harness records whatever it was
            return {"error": f"{type(error).__name__}: {error}", "kind": "failed"}

    def _do_probe(self) -> Any:
        why = self._backend.probe()
        return None if why is None else {"reason": why.reason, "remedy": why.remedy}

    def _do_features(self) -> Any:
        features = self._backend.features
        values = {name: getattr(features, name) for name in features.__slots__}
        sets = {"enforces": sorted(features.enforces), "networks": sorted(features.networks)}
        return values | sets

    def _do_prepare(self, image: str) -> Any:
        made = self._backend.prepare(image)
        return {name: getattr(made, name) for name in made.__slots__}

    def _do_launch(self, spec: wire.Message, exit_within_s: float) -> Any:
        if self._groups is not None:
            self._groups.enter("instance/engine")
        manager = self._backend.launch(wire.unpack_spec(spec))
        instance = manager.__enter__()
        self._instance = instance

        def leave() -> None:
            self._leave = _nothing
            manager.__exit__(None, None, None)

        self._leave = leave
        ended = _waited(instance, exit_within_s) if exit_within_s > 0 else None
        return {"phases": dict(instance.phases), "ended": ended}

    def _do_until_output(self, timeout_s: float) -> Any:
        return self._launched().until_output(timeout_s=timeout_s)

    def _do_wait(self, timeout_s: float) -> Any:
        return wire.pack_result(self._launched().wait(timeout_s=timeout_s))

    def _do_run(self, argv: Sequence[str], stdin: str, timeout_s: float) -> Any:
        given = wire.unpack_bytes(stdin)
        result = self._launched().run(argv, stdin=given, timeout_s=timeout_s)
        return wire.pack_result(result)

    def _do_usage(self) -> Any:
        usage = self._launched().usage()
        readings, absent = dict(usage.readings), dict(usage.absent)
        charged = None if self._groups is None else self._groups.usage()
        if charged is not None:
            readings["cgroup"] = charged
        else:
            absent["cgroup"] = "no control group of our own could be made"
        if (own := meters.rollup(os.getpid())) is not None:
            readings["instrument"] = Reading(
                value_bytes=own.pss_bytes, method="Pss of the worker that launched the instance"
            )
        return wire.pack_usage(Usage(readings=readings, absent=absent))

    def _do_phases(self) -> Any:
        return dict(self._launched().phases)

    def _do_leave(self) -> Any:
        instance = self._launched()
        leaving_ns = time.monotonic_ns()
        self._leave()
        self._instance = None
        phases = dict(instance.phases)
        gone_ns = instance.requested_ns + phases["gone"] if "gone" in phases else None
        teardown_ns = None if gone_ns is None else gone_ns - leaving_ns
        return {"phases": phases, "teardown_ns": teardown_ns}

    def _launched(self) -> Instance:
        if self._instance is None:
            raise RuntimeFault("no instance has been launched")
        return self._instance


def main(argv: Sequence[str]) -> int:
    """Serve the harness at the socket *argv[1]* with the backend *argv[0]*; 0 when it hangs up."""
    name, descriptor, harness = argv[0], int(argv[1]), int(argv[2])
    if name == "container":
        with suppress(Unsupported):  # then its probe says what it lacks
            rootless.enter()
    signal.signal(signal.SIGTERM, _end_orderly)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != harness:
        return 1  # it died before we could ask to die with it
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    os.set_inheritable(descriptor, False)  # or what we start would keep the line open after us
    line = wire.Line(socket.socket(fileno=descriptor))
    with groups() as own:
        if own is not None:
            own.enter("worker")
        with opened(name, within=None if own is None else own.within) as backend:
            line.send({"ok": name})
            Server(backend, own, line).serve()
    return 0


def _waited(instance: Instance, timeout_s: float) -> wire.Message:
    """The end of the instance's command, or that it did not come in time."""
    try:
        return {"result": wire.pack_result(instance.wait(timeout_s=timeout_s))}
    except InstanceTimeout as passed:
        return {"timeout": wire.pack_timeout(passed)}


def _end_orderly(number: int, _: FrameType | None) -> NoReturn:
    """The harness has died, or wants us gone: unwind what is open, once, and within a limit.

    What still stands after the limit is killed with us by the kernel or left to ``isoscope gc``.
    """
    signal.signal(number, _already)
    signal.alarm(_UNWIND_LIMIT_S)
    sys.exit(128 + number)


def _already(number: int, frame: FrameType | None) -> None:
    """A handler, since what is ignored would stay so in the engines that unwinding starts."""


def _nothing() -> None:
    """What leaving means when nothing is running."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
