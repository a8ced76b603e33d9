"""What a container must not be able to do: each known way out, what stops it, and its control.

One table, from which the tests are made and ``tests/security/README.md`` is written. The attempts
are made by ``tests/security/attempt.c``. A control is the same attempt without the protection,
which shows that it tries what it says: in a container with ``--privileged``, or as a plain
process (``host``). Arguments are such that an attempt which is let through does no harm, so a
control may end with a complaint about them: what counts is that it is another one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.container.container import Completed

Run = Callable[..., Completed]
"""The fixture ``run`` of tests/security: words in a container with the attempts in it."""

Control = Literal["privileged", "host", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One word of ``attempt.c``: what it *tries*, how it *ends*, and what *stops* it.

    *ends* is ``done`` where the policy is to allow it. *passes* holds the ends of the control
    that show the way to be open.
    """

    word: str
    tries: str
    ends: str
    stops: str
    control: Control = "privileged"
    passes: frozenset[str] = frozenset({"done"})


_CAPABILITY = "capabilities"
_FILTER = "system call filter"
_NAMESPACE = "namespaces"
_MASK = "masks"
_LOCK = "read-only mounts"
_NONE = "nothing: it is allowed"


def _each(
    stops: str,
    ends: str,
    *pairs: tuple[str, str],
    control: Control = "privileged",
    passes: str = "",
) -> tuple[Attempt, ...]:
    """Attempts that are alike in all but word and meaning."""
    opened = frozenset(passes.split()) or frozenset({"done"})
    return tuple(
        Attempt(word=word, tries=tries, ends=ends, stops=stops, control=control, passes=opened)
        for word, tries in pairs
    )


ATTEMPTS: Mapping[str, tuple[Attempt, ...]] = {
    "Files by which the kernel is steered": (
        *_each(
            _LOCK, "EROFS",
            ("write=/proc/sys/kernel/core_pattern", "name a program that runs at a crash"),
            ("write=/proc/sys/kernel/modprobe", "name a program that loads modules"),
            ("write=/proc/sys/vm/overcommit_memory", "change how the machine hands out memory"),
            ("write=/proc/sysrq-trigger", "stop the machine by a magic key"),
            ("write=/proc/irq/default_smp_affinity", "move interrupts"),
            ("write=/sys/kernel/mm/transparent_hugepage/enabled", "change the memory of all"),
        ),
        *_each(
            _MASK, "ENODATA",
            ("read=/proc/keys", "read the keys of the machine"),
            ("read=/proc/timer_list", "read the timers of the machine"),
            ("read=/proc/interrupts", "read the interrupts of the machine"),
        ),
        *_each(
            _MASK, "ENODATA", ("read=/proc/kcore", "read the memory of the machine"),
            passes="done EPERM EIO",
        ),
        *_each(
            _MASK, "ENODATA", ("look=/sys/firmware", "read the tables of the firmware"),
        ),
    ),
    "Mounts": (
        *_each(
            _FILTER, "EPERM",
            ("mount=/tmp", "mount a file system"),
            ("mount-parent=/tmp", "show what lies above the root"),
            ("remount=/sys", "make /sys writable"),
            ("unmount=/dev/mqueue", "take away what is mounted"),
            ("fsopen=tmpfs", "make a file system without mounting it"),
            ("open-tree=/", "copy a tree of mounts"),
        ),
        *_each(
            _FILTER, "EPERM",
            ("mount-cgroup=memory", "mount control groups, for their release agent"),
            passes="done EBUSY EINVAL ENODEV",
        ),
        *_each(
            _FILTER, "EPERM",
            ("move-mount=/tmp", "move a mount by its descriptor"),
            ("mount-setattr=/sys", "unlock a mount by its descriptor"),
            passes="ENOENT EINVAL done",
        ),
        *_each(_FILTER, "EPERM", ("pivot-root=/tmp", "change the root")),
        Attempt(
            word="climb=/tmp/room", tries="leave the root by a second chroot", ends="EXDEV",
            stops="pivot_root: there is nothing above the root", control="host",
        ),
    ),
    "Devices": (
        *_each(
            _CAPABILITY, "EPERM",
            ("make-disk=/tmp/disk", "make a file for a disk of the host"),
            ("make-null=/tmp/null", "make a file for any device"),
        ),
        *_each(
            "its own /dev", "ENOENT", ("read=/dev/mem", "read the memory of the machine"),
            ("read=/dev/kmsg", "read what the kernel says"),
            passes="done EPERM EIO EAGAIN EFAULT EINVAL",
        ),
        *_each(_FILTER, "EPERM", ("iopl", "reach the ports of the hardware"),
               passes="done ENOSYS"),
        *_each(_FILTER, "EPERM", ("tiocsti", "type into a terminal"), passes="done EIO"),
    ),
    "Namespaces": (
        *_each(
            _FILTER, "EPERM",
            ("unshare=0x10000000", "become root of a new user namespace"),
            ("unshare=0x20000", "make a mount namespace"),
            ("unshare=0x40000000", "make a network namespace"),
            ("clone=0x10000000", "fork into a new user namespace"),
            ("clone=0x20000000", "fork into a new process namespace"),
        ),
        *_each(_FILTER, "ENOSYS", ("clone3=0x10000000", "the same by a newer call")),
        *_each(
            _FILTER, "EPERM", ("setns=/proc/1/ns/uts", "enter a namespace"),
        ),
    ),
    "Large interfaces of the kernel": (
        *_each(
            _FILTER, "EPERM",
            ("bpf", "load a program into the kernel"),
            ("perf", "watch the machine by its counters"),
            ("io-uring", "make calls behind the filter's back"),
            passes="EFAULT EINVAL E2BIG done",
        ),
        *_each(_FILTER, "EPERM", ("userfaultfd", "halt the kernel in the midst of a copy")),
        *_each(_FILTER, "EPERM", ("fanotify", "watch files of the whole machine")),
        *_each(_FILTER, "EPERM", ("keyring", "reach the keyring of a user of the host"),
               ("add-key", "fill the keyrings of the machine")),
        *_each(
            _FILTER, "EPERM",
            ("handles=/", "open a file by its number, past the root"),
            passes="ESTALE EOPNOTSUPP done EINVAL",
        ),
        *_each(
            _FILTER, "EAFNOSUPPORT",
            ("socket=40", "talk to the machine below this one (vsock)"),
            ("socket=38", "use the kernel's ciphers"),
            passes="done",
        ),
        *_each(_NONE, "done", ("socket=2", "raw sockets in a network of its own"),
               ("socket=17", "packet sockets in a network of its own"), control=""),
        *_each(_FILTER, "EPERM", ("personality", "switch random addresses off")),
    ),
    "The machine": (
        *_each(_FILTER, "EPERM", ("reboot", "stop the machine"), ("clock", "set the clock"),
               passes="EINVAL"),
        *_each(_FILTER, "EPERM", ("adjust", "bend the clock"), passes="EINVAL"),
        *_each(_FILTER, "EPERM", ("kexec", "start another kernel"), passes="EINVAL ENOSYS"),
        *_each(
            _FILTER, "EPERM",
            ("load", "load a module"), ("load-file", "load a module from a file"),
            ("unload", "unload a module"), passes="ENOSYS EFAULT EBADF ENOENT ENOEXEC",
        ),
        *_each(_FILTER, "EPERM", ("swap", "swap to a file"), ("acct", "write an account of all"),
               passes="ENOENT ENOSYS"),
        *_each(_FILTER, "EPERM", ("dmesg", "read what the kernel says")),
        *_each(_CAPABILITY, "EPERM", ("hostname", "rename the container")),
        *_each(_CAPABILITY, "EACCES", ("hurry", "take the time of others")),
    ),
    "Other processes": (
        Attempt(word="signal=HOST", tries="signal a process of the host", ends="ESRCH",
                stops=_NAMESPACE, control="host"),
        Attempt(word="ptrace=HOST", tries="trace a process of the host", ends="ESRCH",
                stops=_NAMESPACE, control="host"),
        Attempt(word="read-memory=HOST", tries="read the memory of a process of the host",
                ends="ESRCH", stops=_NAMESPACE, control="host", passes=frozenset({"EFAULT"})),
        Attempt(word="abstract=SOCKET", tries="call an abstract socket of the host",
                ends="ECONNREFUSED", stops=_NAMESPACE, control="host"),
        Attempt(word="set-uid=/tmp/set-uid", tries="become root by a set-user-ID program",
                ends="EACCES", stops="no_new_privs"),
    ),
}  # fmt: skip


def every() -> Iterator[Attempt]:
    """All of them, in the order of the table."""
    for group in ATTEMPTS.values():
        yield from group


def rendered(more: Mapping[str, str]) -> str:
    """The page that tells of all attempts; *more* are tests of their own, name and meaning."""
    lines = [
        "# What a container cannot do", "",
        "Each line is tried from inside of a default container by a test in this folder, as root",
        "of the container, and ends as it says here. *Control* is the same attempt without the",
        "protection: how it ends there shows that the test tries what it says. This page is",
        "written from the tests (`ISOSCOPE_UPDATE_GOLDEN=1`); a test compares it with them.",
    ]  # fmt: skip
    for title, attempts in ATTEMPTS.items():
        lines += ["", f"## {title}", "", "| attempt | ends with | stopped by | control |"]
        lines.append("|---|---|---|---|")
        for each in attempts:
            passes = " or ".join(sorted(each.passes))
            control = f"`{each.control}`: {passes}" if each.control else ""
            cells = (f"{each.tries} (`{each.word}`)", each.ends, each.stops, control)
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Tried by tests of their own", ""]
    lines += [f"- {meaning} (`{name}`)" for name, meaning in more.items()]
    return "\n".join(lines) + "\n"
