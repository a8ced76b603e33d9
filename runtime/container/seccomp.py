"""The system call policy and its filter program (pure).

An allow-list: what is not known here is refused. ``REFUSED`` names what a container has no
business with, each group with its reason; it follows the default policy of Docker in spirit
(docs.docker.com, "Seccomp security profiles for Docker") and is stricter where that costs
ordinary programs nothing. Refused calls get EPERM; calls newer than our table get ENOSYS, so
that a C library falls back to older ones. The program is classic BPF over ``struct
seccomp_data``: seccomp(2), bpf(2), and Documentation/userspace-api/seccomp_filter.rst.
"""

import errno
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from runtime.container import syscall_table

REFUSED: Mapping[str, str] = {
    "mount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree "
    "mount_setattr swapon swapoff quotactl quotactl_fd": "changes file systems",
    "unshare setns": "makes or joins namespaces",
    "clone3": "its flags lie behind a pointer that a filter cannot read",
    "reboot kexec_load kexec_file_load": "stops or replaces the kernel",
    "init_module finit_module delete_module create_module query_module get_kernel_syms": (
        "loads code into the kernel"
    ),
    "bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register": (
        "large kernel interfaces that escapes were built from"
    ),
    "settimeofday clock_settime clock_adjtime adjtimex stime": "the clock is not namespaced",
    "acct syslog sysfs ustat nfsservctl vhangup lookup_dcookie": "host-wide accounting and logs",
    "add_key request_key keyctl": "keyrings are not namespaced",
    "open_by_handle_at fanotify_init": "reaches files by handle, past the root",
    "iopl ioperm": "raw hardware ports",
    "kcmp process_madvise pidfd_getfd": "reaches into other processes past ptrace's rules",
    "move_pages mbind migrate_pages set_mempolicy get_mempolicy set_mempolicy_home_node": (
        "steers memory across the machine's nodes"
    ),
    "personality": "switches protections such as address randomisation off",
    "_sysctl uselib modify_ldt afs_syscall security tuxcall vserver getpmsg putpmsg": "obsolete",
    "lsm_set_self_attr": "changes the security module's view of itself",
}

ALLOWED_WITH: Mapping[str, str] = {
    "sys_admin": (
        "mount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree "
        "mount_setattr quotactl quotactl_fd unshare setns clone3 bpf perf_event_open syslog "
        "fanotify_init lookup_dcookie"
    ),
    "bpf": "bpf",
    "dac_read_search": "open_by_handle_at",
    "perfmon": "perf_event_open",
    "sys_boot": "reboot",
    "sys_module": "init_module finit_module delete_module",
    "sys_nice": "move_pages mbind migrate_pages set_mempolicy get_mempolicy",
    "sys_pacct": "acct",
    "sys_ptrace": "kcmp process_madvise pidfd_getfd",
    "sys_rawio": "iopl ioperm",
    "sys_time": "settimeofday clock_settime clock_adjtime adjtimex",
    "sys_tty_config": "vhangup",
    "syslog": "syslog",
}
"""Capability -> the refused calls that are its very use: who was given it may make them."""

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_RET_ALLOW = 0x7FFF0000
_RET_ERRNO = 0x00050000
_RET_KILL_PROCESS = 0x80000000
_EPERM = _RET_ERRNO | errno.EPERM
_ENOSYS = _RET_ERRNO | errno.ENOSYS
_EAFNOSUPPORT = _RET_ERRNO | errno.EAFNOSUPPORT

_LOAD, _RETURN = 0x20, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_RET|BPF_K
_JEQ, _JGE, _JSET = 0x15, 0x35, 0x45  # BPF_JMP | ... | BPF_K
_AT_NUMBER, _AT_ARCH, _AT_ARG0, _AT_ARG1 = 0, 4, 16, 24  # low words of struct seccomp_data

_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWTIME (0x80), NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_FAMILIES = (1, 2, 10, 16, 17)
"""The socket families that programs live on: AF_UNIX, INET, INET6, NETLINK, PACKET. There are
forty more, AF_ALG and AF_VSOCK among them, whose code is met by few but attackers."""
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


@cache
def default_filter(machine: str, capabilities: frozenset[str] = frozenset()) -> bytes:
    """The default policy as a BPF program for *machine* (as uname(2) names it).

    *capabilities* are those that the container keeps. Raises KeyError for an architecture
    without a table.
    """
    return assemble(tuple(_instructions(machine, capabilities)))


def allowed(machine: str, capabilities: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names that the default policy lets pass, some of them only with harmless arguments."""
    refused = {name for group in REFUSED for name in group.split()}
    for capability in capabilities:
        refused -= set(ALLOWED_WITH.get(capability, "").split())
    return frozenset(syscall_table.numbers(machine)) - refused


def assemble(program: tuple[Instruction, ...]) -> bytes:
    """``struct sock_filter`` after ``struct sock_filter``, 8 bytes each, native byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def preamble(machine: str) -> Iterator[Instruction]:
    """What every filter begins with: only *machine*'s own calls, whose number is then loaded."""
    yield (_LOAD, 0, 0, _AT_ARCH)
    yield (_JEQ, 1, 0, _AUDIT_ARCH[machine])
    yield (_RETURN, 0, 0, _RET_KILL_PROCESS)
    yield (_LOAD, 0, 0, _AT_NUMBER)
    yield from _when(_JGE, _X32_BIT, _ENOSYS)


def ranges(verdicts: Sequence[int]) -> Iterator[Instruction]:
    """What is decided of call n is ``verdicts[n]``; a number beyond falls through.

    One test a boundary: all numbers up to the next one share a verdict.
    """
    start = 0
    for verdict, run in itertools.groupby(verdicts):
        start += sum(1 for _ in run)
        yield (_JGE, 1, 0, start)
        yield (_RETURN, 0, 0, verdict)


def _instructions(machine: str, capabilities: frozenset[str]) -> Iterator[Instruction]:
    numbers = syscall_table.numbers(machine)
    passing = {numbers[name] for name in allowed(machine, capabilities)}
    yield from preamble(machine)
    if numbers["clone3"] not in passing:
        yield from _when(_JEQ, numbers["clone3"], _ENOSYS)
    yield from _argument_rules(numbers, may_make_namespaces="sys_admin" in capabilities)
    count = syscall_table.NEWEST + 1
    yield from ranges([_RET_ALLOW if n in passing else _EPERM for n in range(count)])
    yield (_RETURN, 0, 0, _ENOSYS)


def _argument_rules(
    numbers: Mapping[str, int], *, may_make_namespaces: bool
) -> Iterator[Instruction]:
    """Calls that are allowed unless an argument makes them something else."""
    if not may_make_namespaces:
        no_namespaces = tuple(_when(_JSET, _NEW_NAMESPACES, _EPERM))
        yield from _inspect(numbers["clone"], _AT_ARG0, no_namespaces)
    families = tuple(i for family in _FAMILIES for i in _when(_JEQ, family, _RET_ALLOW))
    yield from _inspect(numbers["socket"], _AT_ARG0, families, otherwise=_EAFNOSUPPORT)
    no_injection = (*_when(_JEQ, _TIOCSTI, _EPERM), *_when(_JEQ, _TIOCLINUX, _EPERM))
    yield from _inspect(numbers["ioctl"], _AT_ARG1, no_injection)


def _inspect(
    number: int, at: int, rules: tuple[Instruction, ...], *, otherwise: int = _RET_ALLOW
) -> Iterator[Instruction]:
    yield (_JEQ, 0, len(rules) + 2, number)
    yield (_LOAD, 0, 0, at)
    yield from rules
    yield (_RETURN, 0, 0, otherwise)


def _when(test: int, operand: int, verdict: int) -> Iterator[Instruction]:
    yield (test, 0, 1, operand)
    yield (_RETURN, 0, 0, verdict)
