"""libvirt: the driver inside this process, or a daemon of this computer; nothing is left behind.

The only module that imports libvirt, and only when a machine is started. Facts it rests on, of
libvirt 9.0: one process may open a root of the embedded driver, so each has its own, whose
``cache`` is shared, or every first machine would wait seconds for QEMU's capabilities to be
probed; the driver polls a dead QEMU until somebody reaps it, so this process becomes the reaper of
its orphans; and it cannot end a machine when its owner is killed, so a watchdog does
(``watchdog.c``). A daemon can (VIR_DOMAIN_START_AUTODESTROY), unless it was restarted meanwhile,
so the watchdog is there too. A daemon that went away is connected to again when it is next needed.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from vmbackend.accelerator import emulator_path
from vmbackend.account import emulator_account
from vmbackend.cache import vm_cache
from vmbackend.connection import EMBEDDED, Connection, check_user
from vmbackend.errors import EngineError, MachineUnavailable
from vmbackend.place import place

_CONFIGURATION = """\
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
remember_owner = 0
seccomp_sandbox = 1
"""
_ORPHANS = ("qemu-system", "watchdog-", "virtiofsd", "readonly-")
_REAP_INTERVAL_S = 0.02
_ALIVE_EVERY_S, _SILENCES = 5, 3
"""A daemon that does not answer for 20 s is given up."""
_FORGETS_WITHIN_S = 10.0


def hypervisor(connection: Connection = EMBEDDED) -> "Hypervisor":
    """This process's connection: opened by the first call, closed when the process ends.

    libvirt opens one root in the life of a process: a fork of one that has it gets
    MachineUnavailable.
    """
    place()  # raises in a fork
    return _opened(connection)


def missing(connection: Connection = EMBEDDED) -> MachineUnavailable | None:
    """Why there is no hypervisor here; None if QEMU is there and libvirt's driver opens."""
    try:
        _libvirt()
        emulator_path()
        hypervisor(connection)
    except MachineUnavailable as reason:
        return reason
    return None


class Hypervisor:
    """An open connection. ``root`` and ``instances`` are this process's own: see ``place``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.root = place().root
        self.instances = place().instances
        self._libvirt = _running_libvirt()
        self._heard = threading.Condition()
        self._ended: set[str] = set()
        self._stuck: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._line = self._connected()

    def start(self, name: str, xml: str, *, out_of_room: Callable[[], None]) -> None:
        """Start the machine *name* that *xml* describes. Raises EngineError.

        *out_of_room* is called, in another thread, when QEMU has no room to write its disk: it
        stops the guest's processors then, and would wait until there is.
        """
        self._stuck[name] = out_of_room
        flags = self._libvirt.VIR_DOMAIN_START_AUTODESTROY if self.connection.has_daemon else 0
        with _reaping():
            try:
                self._alive().createXML(xml, flags)
            except self._libvirt.libvirtError as error:
                raise EngineError(
                    f"libvirt could not start the machine: {_one_line(error)}"
                ) from None

    def balloon(self, name: str) -> dict[str, int]:
        """What the guest of the machine *name* last told by its balloon, in bytes."""
        try:
            told: dict[str, int] = self._alive().lookupByName(name).memoryStats()
        except (self._libvirt.libvirtError, EngineError):
            return {}
        if not told.get("last_update"):
            return {}
        return {field: told[field] * 1024 for field in ("unused",) if field in told}

    def stop(self, name: str) -> None:
        """End the machine *name* and let libvirt forget it, whatever became of it.

        By name: an interrupt may have come between its creation and the knowledge of it. A daemon
        is waited for until it says that the machine has ended and knows it no more; one that is
        gone knows nothing.
        """
        self._stuck.pop(name, None)
        with _reaping(), suppress(self._libvirt.libvirtError, EngineError):
            if self.connection.has_daemon:
                self._forgotten(name)
            else:  # it may have ended by itself
                self._line.lookupByName(name).destroy()
        with suppress(OSError):
            for log in self._logs().glob(f"{name}*.log"):  # of what serves its shares, too
                log.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection."""
        with suppress(self._libvirt.libvirtError):
            self._line.close()

    def _forgotten(self, name: str) -> None:
        """Raises libvirtError, EngineError if the daemon is gone."""
        deadline = time.monotonic() + _FORGETS_WITHIN_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                self._alive().lookupByName(name).destroy()
            except self._libvirt.libvirtError as error:
                if error.get_error_code() == self._libvirt.VIR_ERR_NO_DOMAIN:
                    return
            with self._heard:  # destroyed, or about to be seen as dead: the event tells
                self._heard.wait_for(partial(self._ended.__contains__, name), min(left_s, 1.0))
                self._ended.discard(name)

    def _alive(self) -> Any:
        """The connection, made again if its daemon went away. Raises EngineError."""
        with self._lock:
            if self.connection.has_daemon and not self._line.isAlive():
                self.close()
                try:
                    self._line = self._connected()
                except MachineUnavailable as gone:
                    raise EngineError(f"libvirt's daemon went away: {gone.message}") from None
            return self._line

    def _connected(self) -> Any:
        line = _connect(self._libvirt, self.connection, self.root)
        if self.connection.has_daemon:
            line.setKeepAlive(_ALIVE_EVERY_S, _SILENCES)
        for event, hear in (
            (self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hear_of_life),
            (self._libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._hear_of_disk),
        ):
            line.domainEventRegisterAny(None, event, hear, None)
        return line

    def _hear_of_life(self, _line: object, domain: Any, event: int, *_: object) -> None:
        """In the thread of libvirt's loop."""
        if event == self._libvirt.VIR_DOMAIN_EVENT_STOPPED and _is_ours(domain.name()):
            with self._heard:
                self._ended.add(domain.name())
                self._heard.notify_all()

    def _hear_of_disk(
        self, _line: object, domain: Any, _path: str, _alias: str, action: int, *_: object
    ) -> None:
        """In the same thread. QEMU stops a machine by itself only for want of room."""
        stuck = self._stuck.get(domain.name())
        if stuck is not None and action == self._libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
            stuck()

    def _logs(self) -> Path:
        """Where libvirt writes files for each machine, and never removes one."""
        match self.connection.driver:
            case "embed":
                return self.root / "log/qemu"
            case "session":
                caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
                return caches / "libvirt/qemu/log"
            case "system":
                return Path("/var/log/libvirt/qemu")


def _is_ours(name: str) -> bool:
    """A daemon tells of everybody's machines; ``vmm`` names ours."""
    return name.startswith(f"isoscope-{os.getpid()}-")


@cache
def _opened(connection: Connection) -> Hypervisor:
    opened = Hypervisor(connection)
    _at_exit(opened.close)
    return opened


def _at_exit(call: Callable[[], object]) -> None:
    """What ends first was begun last. A fork runs this too, and must not touch what is not its."""
    owner = os.getpid()
    atexit.register(lambda: call() if os.getpid() == owner else None)


@cache
def _running_libvirt() -> ModuleType:
    """libvirt, with the thread that runs its loop until the process ends."""
    libvirt = _libvirt()
    with ExitStack() as undo:
        undo.enter_context(_event_loop(libvirt))
        _at_exit(undo.pop_all().close)
    return libvirt


def _connect(libvirt: ModuleType, connection: Connection, root: Path) -> Any:
    """Open it. The embedded driver of an ordinary user keeps some state in the home: not ours."""
    check_user(connection, is_root=os.geteuid() == 0)
    try:
        if connection.has_daemon:
            return libvirt.open(connection.uri)
        _furnish(root)
        with _reaping(), _environment(XDG_CACHE_HOME=str(root / "home")):
            return libvirt.open(f"{connection.uri}?root={root}")
    except libvirt.libvirtError as error:
        if connection.has_daemon:
            raise MachineUnavailable(
                f"{connection.uri} does not open: {_one_line(error)}",
                remedy="apt-get install libvirt-daemon-system and start libvirtd, or use"
                " qemu:///embed",
            ) from None
        raise MachineUnavailable(
            f"libvirt's embedded QEMU driver does not open: {_one_line(error)}",
            remedy="apt-get install libvirt-daemon-driver-qemu",
        ) from None


def _libvirt() -> ModuleType:
    """The module, its log kept off our standard error: what fails is raised."""
    try:
        log = os.environ.get("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
        with _environment(LIBVIRT_LOG_OUTPUTS=log):  # read while it is imported
            import libvirt  # noqa: PLC0415 - only machines need it, and not every computer has it
    except ImportError:
        raise MachineUnavailable(
            "the Python module libvirt is missing",
            remedy="apt-get install libvirt-daemon-driver-qemu libvirt-dev"
            " and pip install 'isoscope[vm]'",
        ) from None
    return libvirt  # type: ignore[no-any-return]  # it ships no types


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set *variables* until the end of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _furnish(root: Path) -> None:
    account = emulator_account()
    own = "" if account is None else f'user = "+{account.uid}"\ngroup = "+{account.started_as}"\n'
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(_CONFIGURATION + own)
    capabilities = vm_cache("libvirt")
    capabilities.mkdir(exist_ok=True)
    (root / "cache").symlink_to(capabilities)


@contextmanager
def _event_loop(libvirt: ModuleType) -> Iterator[None]:
    """Run libvirt's loop in a thread: it hears QEMU's monitor only while this turns."""
    libvirt.registerErrorHandler(_silent, None)  # errors are raised; printing them too is noise
    libvirt.virEventRegisterDefaultImpl()
    stopping = threading.Event()
    thread = threading.Thread(
        target=_run_events, args=(libvirt, stopping), name="libvirt-events", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        libvirt.virEventAddTimeout(0, _silent, None)  # wakes the loop
        thread.join()


def _run_events(libvirt: ModuleType, stopping: threading.Event) -> None:
    while not stopping.is_set():
        libvirt.virEventRunDefaultImpl()


def _silent(*_: object) -> None:
    pass


@contextmanager
def _reaping() -> Iterator[None]:
    """Reap the QEMUs that die during a call of libvirt, which otherwise polls them for seconds."""
    done = threading.Event()
    thread = threading.Thread(target=_reap_until, args=(done,), name="reaper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reap_until(done: threading.Event) -> None:
    while not done.wait(_REAP_INTERVAL_S):
        _reap()
    _reap()  # those that died since


def _reap() -> None:
    for pid in _children():
        if _is_dead_orphan(pid):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            yield from map(int, (task / "children").read_text().split())


def _is_dead_orphan(pid: int) -> bool:
    """Only QEMU and watchdogs in a session of their own: other children are for who started them.

    libvirt waits itself for those it has not sent to the background.
    """
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    state, _, _, session = rest.split()[:4]
    ours = name.partition("(")[2].startswith(_ORPHANS)
    return state == "Z" and ours and int(session) != os.getsid(0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
