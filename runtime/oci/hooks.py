"""Hooks: programs of the bundle's author beside the container's life, in order, within their time.

Source: config.md, POSIX-platform hooks. Each gets the container's state on its standard input.
Each is started by a plan, in the container's namespaces or in ours, so it dies if we are killed.
"""

import os
import select

from runtime.errors import RuntimeFault
from runtime.oci.config import Hook
from runtime.oci.launching import Started, launch
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


def _start(hook: Hook, stdin: int, within: int, flags: int) -> Started:
    init = os.pidfd_open(within) if within else -1
    plan = plan_hook(hook.path, hook.args, hook.env, os.uname().machine, flags if within else 0)
    try:
        return launch(plan, streams=(stdin, 1, 2), init=init)
    except RuntimeFault as error:
        raise RuntimeFault(f"hook {hook.path} cannot be run: {error}") from None
    finally:
        if within:
            os.close(init)


def _end(started: Started, timeout_s: int | None) -> int | None:
    """The exit status of a hook; None if it had to be killed, with all that it started."""
    in_time = bool(select.select([started.pidfd], [], [], timeout_s)[0])
    os.close(started.pidfd)
    if not in_time:
        try:
            os.killpg(started.pid, _SIGKILL)
        except ProcessLookupError:  # it ended this very moment
            in_time = True
    status = started.wait()
    return status if in_time else None
