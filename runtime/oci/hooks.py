"""Hooks: programs of the bundle's author beside the container's life, in order, within their time.

Source: config.md, POSIX-platform hooks. Each gets the container's state on its standard input.
Those of the container's namespaces enter them by a plan, the others are plain children.
"""

import os
import select

from runtime.errors import RuntimeFault
from runtime.oci.config import Hook
from runtime.oci.launching import launch
from runtime.oci.plan import plan_hook

_SIGKILL = 9


def run_hooks(
    hooks: tuple[Hook, ...], state: str, *, kind: str, within: int = 0, flags: int = 0
) -> None:
    """Run *hooks* of *kind* with *state*; in the namespaces *flags* of the process *within*.

    Raises RuntimeFault for the first that fails or outlasts its timeout, which is killed.
    """
    for hook in hooks:
        told = os.memfd_create("state", os.MFD_CLOEXEC)  # a hook need not read it
        try:
            os.write(told, state.encode())
            os.lseek(told, 0, os.SEEK_SET)
            status = _end(_start(hook, told, within, flags), hook.timeout_s)
        finally:
            os.close(told)
        if status != 0:
            why = "outlasted its timeout" if status is None else f"ended with status {status}"
            raise RuntimeFault(f"hook {kind} {hook.path} {why}", remedy="see what it printed")


def _start(hook: Hook, stdin: int, within: int, flags: int) -> int:
    if within:
        return _start_inside(hook, stdin, within, flags)
    env = dict(entry.split("=", 1) for entry in hook.env if "=" in entry)
    try:
        return os.posix_spawn(
            hook.path, hook.args, env, setsid=False, setpgroup=0,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)], setsigmask=(), setsigdef=(13,),
        )  # fmt: skip
    except OSError as error:
        raise RuntimeFault(f"hook {hook.path} cannot be run: {error.strerror}") from None


def _start_inside(hook: Hook, stdin: int, within: int, flags: int) -> int:
    """A child of ours that waits for the hook, so that both kinds end alike."""
    init = os.pidfd_open(within)
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            plan = plan_hook(hook.path, hook.args, hook.env, os.uname().machine, flags)
            os._exit(launch(plan, streams=(stdin, 1, 2), init=init).wait())
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
            os._exit(127)
    os.close(init)
    return pid


def _end(pid: int, timeout_s: int | None) -> int | None:
    """The exit status of the child *pid*; None if it had to be killed."""
    pidfd = os.pidfd_open(pid)
    try:
        in_time = select.select([pidfd], [], [], timeout_s)[0]
        if not in_time:
            os.killpg(pid, _SIGKILL)
        _, raw = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(raw) if in_time else None
