"""Whether containers can run here: the smallest one is made, and the first refusal says why."""

import os
from pathlib import Path

from runtime import rootless, syscalls
from runtime.container import programs
from runtime.container.launch.process import start
from runtime.container.plan import NAMESPACES
from runtime.container.rungs.attempt import refusal
from runtime.container.rungs.place import new_name, trial_directory
from runtime.container.state import instances_dir
from runtime.container.steps import Plan, Slot, Step
from runtime.errors import RuntimeFault, Unsupported
from runtime.user_namespace import owned_ids

_LAYERS = ("lower", "upper", "work", "root")


def obstacle() -> RuntimeFault | None:
    """None if a process in namespaces of its own starts here and overlays mount, else why not.

    For an ordinary user: whether it does for the root of a user namespace. The process must have
    a single thread.
    """
    if os.geteuid() != 0:
        why = refusal(_try_as_root_of_our_own)
        if why is None:
            return None
        return Unsupported(why, remedy="run isoscope as root, or use --on vm")
    try:
        with trial_directory(new_name()) as directory:
            for name in _LAYERS:
                (directory / name).mkdir()
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


def _try_as_root_of_our_own() -> None:
    rootless.enter()
    if (why := obstacle()) is not None:
        raise why


def _smallest(directory: Path) -> Plan:
    lower, upper, work, root = (directory / name for name in _LAYERS)
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    layers += "" if owned_ids() is None else ",userxattr"
    private = syscalls.MS_REC | syscalls.MS_PRIVATE
    return Plan(
        clone_flags=NAMESPACES,
        inside=(
            Step("unshare", (syscalls.CLONE_NEWCGROUP,), "a cgroup namespace"),
            Step("mount", ("", "/", "", private, ""), "a mount namespace"),
            Step("mount", ("overlay", str(root), "overlay", 0, layers), "an overlay"),
            Step("memfd_create", ("idle", 1), "a file in memory", opens="idle"),
            Step("write", (Slot("idle"), programs.idle(os.uname().machine)), "a program"),
            Step("execveat", (Slot("idle"), ("idle",), ()), "run it"),
        ),
    )
