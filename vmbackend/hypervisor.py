"""libvirt's embedded QEMU driver: no daemon, a private root for each process, nothing left behind.

The only module that imports libvirt, and only when a machine is started. Facts it rests on, of
libvirt 9.0: one process may open a root, so each has its own (short, because paths of sockets end
at 108 bytes) whose ``cache`` is shared, or every first machine would wait seconds for QEMU's
capabilities to be probed; the driver polls a dead QEMU until somebody reaps it, so this process
becomes the reaper of its orphans; and it cannot end a machine when its owner is killed, so a
watchdog does (``watchdog.c``).
"""

import atexit
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from vmbackend.accelerator import emulator_path
from vmbackend.account import check_passable, emulator_account, open_to_emulator
from vmbackend.cache import vm_cache
from vmbackend.compiler import WATCHDOG, compiled
from vmbackend.errors import EngineError, MachineUnavailable
from vmbackend.remains import owned
from vmbackend.syscalls import set_child_subreaper

_CONFIGURATION = """\
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
remember_owner = 0
seccomp_sandbox = 1
"""
_PASSABLE = 0o710
_ORPHANS = ("qemu-system", "watchdog-", "virtiofsd", "readonly-")
_REAP_INTERVAL_S = 0.02


def hypervisor() -> "Hypervisor":
    """This process's connection: opened by the first call, closed when the process ends.

    libvirt opens one root in the life of a process: a fork of one that has it gets
    MachineUnavailable.
    """
    owner, opened = _opened()
    if owner != os.getpid():
        raise MachineUnavailable(
            "this process is a fork of one that has libvirt open",
            remedy="start it with spawn or exec instead",
        )
    return opened


def missing() -> MachineUnavailable | None:
    """Why there is no hypervisor here; None if QEMU is there and libvirt's driver opens."""
    try:
        _libvirt()
        emulator_path()
        hypervisor()
    except MachineUnavailable as reason:
        return reason
    return None


class Hypervisor:
    """An open embedded driver. *root* holds its sockets and logs, *instances* the overlays."""

    def __init__(self, *, connection: Any, root: Path, instances: Path, undo: ExitStack) -> None:
        self.root = root
        self.instances = instances
        self._connection = connection
        self._undo = undo

    def start(self, xml: str) -> None:
        """Start the machine that *xml* describes. Raises EngineError."""
        with _reaping():
            try:
                self._connection.createXML(xml, 0)
            except _libvirt().libvirtError as error:
                raise EngineError(
                    f"libvirt could not start the machine: {_one_line(error)}"
                ) from None

    def stop(self, name: str) -> None:
        """End the machine *name* and let libvirt forget it, whatever became of it.

        By name: an interrupt may have come between its creation and the knowledge of it.
        """
        with _reaping(), suppress(_libvirt().libvirtError):  # it may have ended by itself
            self._connection.lookupByName(name).destroy()
        (self.root / "log" / "qemu" / f"{name}.log").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the driver and remove its root."""
        self._undo.close()


@cache
def _opened() -> tuple[int, Hypervisor]:
    opened = _open()
    atexit.register(_close_as, os.getpid(), opened)
    return os.getpid(), opened


def _close_as(owner: int, opened: Hypervisor) -> None:
    if os.getpid() == owner:  # a fork runs this too, and must not touch what is not its own
        opened.close()


def _open() -> Hypervisor:
    libvirt = _libvirt()
    emulator_account()  # as root there must be one
    with ExitStack() as undo:
        root = Path(_short_directory(), f"isoscope-{secrets.token_hex(4)}")
        instances = undo.enter_context(owned(root))
        undo.enter_context(_watchdog(root, instances))  # before there is anything to clean up
        for directory in (instances, root):
            directory.mkdir(mode=0o700)
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            open_to_emulator(directory, _PASSABLE)
        check_passable(instances)
        _furnish(root)
        set_child_subreaper()
        undo.enter_context(_event_loop(libvirt))
        connection = _connect(libvirt, root)
        undo.callback(connection.close)
        return Hypervisor(
            connection=connection, root=root, instances=instances, undo=undo.pop_all()
        )


def _connect(libvirt: ModuleType, root: Path) -> Any:
    """Open the driver. An ordinary user's keeps some state in the home directory: not ours."""
    try:
        with _reaping(), _environment(XDG_CACHE_HOME=str(root / "home")):
            return libvirt.open(f"qemu:///embed?root={root}")
    except libvirt.libvirtError as error:
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


def _short_directory() -> str:
    """Of the user, if its name is short; libvirt adds some 60 bytes to it."""
    candidate = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = candidate.startswith("/") and len(candidate) <= 24 and os.access(candidate, os.W_OK)
    return candidate if usable else "/tmp"  # noqa: S108 - mkdtemp makes a 0700 directory in it


def _furnish(root: Path) -> None:
    account = emulator_account()
    own = "" if account is None else f'user = "+{account.uid}"\ngroup = "+{account.started_as}"\n'
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(_CONFIGURATION + own)
    capabilities = vm_cache("libvirt")
    capabilities.mkdir(exist_ok=True)
    (root / "cache").symlink_to(capabilities)
    (root / "s").mkdir(mode=0o700)
    open_to_emulator(root / "s", _PASSABLE)


@contextmanager
def _watchdog(*directories: Path) -> Iterator[None]:
    """A process that cleans up if this one is killed; see ``watchdog.c``."""
    program = compiled(WATCHDOG)
    pid = os.posix_spawn(
        program,
        [program.name, str(os.getpid()), *map(str, directories)],
        {},
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)],
        setsid=True,
    )
    process = os.pidfd_open(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # someone else ended or reaped it
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(process)


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
