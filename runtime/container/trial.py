"""Whether containers can run here: the smallest one is made, and the first refusal says why."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime import syscalls
from runtime.container import idle
from runtime.container.launch.process import start
from runtime.container.plan import NAMESPACES
from runtime.container.state import instances_dir, record_owner, remove_instance
from runtime.container.steps import Plan, Slot, Step
from runtime.errors import RuntimeFault, Unsupported

_LAYERS = ("lower", "upper", "work", "root")


def obstacle() -> RuntimeFault | None:
    """None if a process in namespaces of its own starts here and overlays mount, else why not."""
    if os.geteuid() != 0:
        return Unsupported(
            "containers need root (rootless ones are not made yet)",
            remedy="run isoscope as root, or use --on vm",
        )
    try:
        with _directory() as directory:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                start(_smallest(directory), stdin=null, stdout=null, stderr=null).close()
            finally:
                os.close(null)
    except RuntimeFault as error:
        return error
    except OSError as error:
        return Unsupported(f"{instances_dir()} cannot be used: {error.strerror}")
    return None


def _smallest(directory: Path) -> Plan:
    lower, upper, work, root = (directory / name for name in _LAYERS)
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    private = syscalls.MS_REC | syscalls.MS_PRIVATE
    return Plan(
        clone_flags=NAMESPACES,
        inside=(
            Step("unshare", (syscalls.CLONE_NEWCGROUP,), "a cgroup namespace"),
            Step("mount", ("", "/", "", private, ""), "a mount namespace"),
            Step("mount", ("overlay", str(root), "overlay", 0, layers), "an overlay"),
            Step("memfd_create", ("idle", 1), "a file in memory", opens="idle"),
            Step("write", (Slot("idle"), idle.program(os.uname().machine)), "a program"),
            Step("execveat", (Slot("idle"), ("idle",), ()), "run it"),
        ),
    )


@contextmanager
def _directory() -> Iterator[Path]:
    directory = instances_dir() / f"t-{secrets.token_hex(5)}"
    with ExitStack() as undo:
        directory.mkdir(parents=True)
        record_owner(directory, ())
        undo.callback(remove_instance, directory)
        for name in _LAYERS:
            (directory / name).mkdir()
        yield directory
