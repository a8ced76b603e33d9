"""Kernel calls that Python's standard library lacks, named as the kernel names them.

The lowest layer: ctypes and nothing else of ours but the error. Each function is one call, fails
one way (``SyscallError``) and decides nothing. Constants stand beside the call that uses them;
their values are those of the kernel's uapi headers and equal on x86-64 and aarch64 unless said.
Sources: the man page of the same name, section 2.
"""

import os
import struct
from typing import TYPE_CHECKING, Any

from runtime.errors import SyscallError

if TYPE_CHECKING:
    import ctypes
else:

    class _Later:
        """ctypes when it is first needed: whoever only decides what to call is spared it."""

        def __getattr__(self, name: str) -> Any:
            import ctypes as loaded  # noqa: PLC0415 - that is the point

            return getattr(loaded, name)

    ctypes = _Later()


class _Library:
    """libc, loaded when its first function is called; with *holds_lock* the interpreter waits."""

    def __init__(self, *, holds_lock: bool) -> None:
        self._holds_lock = holds_lock

    def __getattr__(self, name: str) -> Any:
        kind = ctypes.PyDLL if self._holds_lock else ctypes.CDLL
        library = kind(None, use_errno=True)
        library.syscall.restype = ctypes.c_long
        self.__dict__["syscall"] = library.syscall
        function = self.__dict__[name] = getattr(library, name)
        return function


_libc = _Library(holds_lock=False)
_locked = _Library(holds_lock=True)  # clone() must return twice with the interpreter lock held

_X86_64 = os.uname().machine == "x86_64"
_NR_CLONE = 56 if _X86_64 else 220
_NR_PIVOT_ROOT = 155 if _X86_64 else 41
_NR_CAPGET = 125 if _X86_64 else 90
_NR_CAPSET = 126 if _X86_64 else 91
_NR_SECCOMP = 317 if _X86_64 else 277
_NR_EXECVEAT = 322 if _X86_64 else 281
_NR_KEYCTL = 250 if _X86_64 else 219
_NR_BPF = 321 if _X86_64 else 280
_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_CLOSE_RANGE = 436
_NR_OPENAT2 = 437
_NR_FACCESSAT2 = 439
_NR_MOUNT_SETATTR = 442

WALL = 0x40000000  # wait4(2): a child of clone(2), whatever signal it ends with
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

KEYCTL_JOIN_SESSION_KEYRING = 1
SECCOMP_SET_MODE_FILTER = 1
CLOSE_RANGE_CLOEXEC = 4
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
IN_MODIFY = 0x02
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_NONBLOCK = 0o4000
IN_CLOEXEC = 0o2000000
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
_CAP_VERSION_3 = 0x20080522
_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_BPF_CGROUP_DEVICE_TYPE, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI = 15, 6, 2


def clone(flags: int) -> int:
    """Fork with *flags* (namespaces, CLONE_PARENT); 0 in the child, its pid in the parent.

    The memory is copied as by fork(2), so only the calling thread lives on in the child; no
    at-fork handlers run. Call it from a process with one thread.
    """
    sigchld = 17
    pid: int = _locked.syscall(_NR_CLONE, ctypes.c_ulong(flags | sigchld), 0, 0, 0, 0)
    if pid < 0:
        raise SyscallError(ctypes.get_errno(), "clone", f"{flags:#x}")
    return pid


def unshare(flags: int) -> None:
    """Leave the namespaces named by *flags* for new ones."""
    _check(_libc.unshare(ctypes.c_int(_signed(flags))), "unshare", f"{flags:#x}")


def setns(fd: int, flags: int) -> None:
    """Join namespaces: *fd* is a pidfd (kernel 5.8) or an open /proc/PID/ns file."""
    _check(_libc.setns(fd, ctypes.c_int(_signed(flags))), "setns", f"{flags:#x}")


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """Mount *source* on *target*; empty *fstype* and *data* are passed as null."""
    code = _libc.mount(
        os.fsencode(source) or None,
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(code, "mount", target)


def syncfs(fd: int) -> None:
    """Write the file system that the open file *fd* lies on to its device."""
    _check(_libc.syncfs(fd), "syncfs", f"descriptor {fd}")


def umount2(target: str, flags: int) -> None:
    """Unmount *target*."""
    _check(_libc.umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new: str, old: str) -> None:
    """Make *new* the root of this mount namespace and put the old one on *old*."""
    code = _libc.syscall(_NR_PIVOT_ROOT, os.fsencode(new), os.fsencode(old))
    _check(code, "pivot_root", new)


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname", name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of this UTS namespace."""
    raw = name.encode()
    _check(_libc.setdomainname(raw, len(raw)), "setdomainname", name)


def faccessat2(fd: int, mode: int) -> None:
    """Whether our user may read, write, execute (*mode*, access(2)) what *fd* refers to."""
    code = _libc.syscall(_NR_FACCESSAT2, fd, b"", mode, AT_EMPTY_PATH)
    _check(code, "faccessat2", f"descriptor {fd}")


def prctl(option: int, value: int = 0, value3: int = 0) -> int:
    """Operate on this process; the unused arguments are zero."""
    unsigned = ctypes.c_ulong
    code: int = _libc.prctl(option, unsigned(value), unsigned(value3), unsigned(0), unsigned(0))
    return _check(code, "prctl", f"{option}, {value}")


def capset(permitted: int, effective: int, inheritable: int) -> None:
    """Set the three capability sets of this thread (bit n is capability n)."""
    header, sets = capability_sets(permitted, effective, inheritable)
    _check(_libc.syscall(_NR_CAPSET, header, sets), "capset", f"{permitted:#x}")


def capability_sets(permitted: int, effective: int, inheritable: int) -> tuple[bytes, bytes]:
    """The two structures that capset(2) is given."""
    header = struct.pack("=Ii", _CAP_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low = struct.pack("=III", *(s & 0xFFFFFFFF for s in sets))
    high = struct.pack("=III", *(s >> 32 for s in sets))
    return header, low + high


def seccomp(program: bytes) -> None:
    """Install the BPF *program* (8-byte instructions) as this thread's system call filter."""
    filters = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(filters))
    code = _libc.syscall(_NR_SECCOMP, SECCOMP_SET_MODE_FILTER, 0, fprog)
    _check(code, "seccomp", f"{len(program) // 8} instructions")


def keyctl(operation: int, argument: int) -> None:
    """Operate on keyrings: KEYCTL_JOIN_SESSION_KEYRING with 0 leaves ours for a new one."""
    words = (ctypes.c_ulong(each) for each in (operation, argument))
    _check(_libc.syscall(_NR_KEYCTL, *words), "keyctl", str(operation))


def bpf_prog_load(program: bytes) -> int:
    """Load *program* (8-byte instructions), which decides on devices; its descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    places = ctypes.addressof(code), ctypes.addressof(licence)
    asked = struct.pack(
        "=IIQQIIQII", _BPF_CGROUP_DEVICE_TYPE, len(program) // 8, *places, *[0] * 5
    )
    result: int = _libc.syscall(_NR_BPF, _BPF_PROG_LOAD, asked, len(asked))
    return _check(result, "bpf", f"a program of {len(program) // 8} instructions")


def bpf_prog_attach(group: int, program: int) -> None:
    """Let *program* decide on devices for the open cgroup *group*, beside those above it."""
    asked = struct.pack("=IIII", group, program, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
    code = _libc.syscall(_NR_BPF, _BPF_PROG_ATTACH, asked, len(asked))
    _check(code, "bpf", f"descriptor {group}")


def close_range(first: int, last: int, flags: int) -> None:
    """Close descriptors *first* to *last*, or mark them close-on-exec (CLOSE_RANGE_CLOEXEC)."""
    unsigned = ctypes.c_uint
    code = _libc.syscall(_NR_CLOSE_RANGE, unsigned(first), unsigned(last), unsigned(flags))
    _check(code, "close_range", f"{first}-")


def openat2(dirfd: int, path: str, flags: int, resolve: int) -> int:
    """Open *path* under the constraints of *resolve* (RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT)."""
    how = struct.pack("=QQQ", flags, 0, resolve)
    return _check(
        _libc.syscall(_NR_OPENAT2, dirfd, os.fsencode(path), how, len(how)), "openat2", path
    )


def inotify_init1(flags: int) -> int:
    """A descriptor on which is told what happens to watched files (inotify(7))."""
    return _check(_libc.inotify_init1(flags), "inotify_init1", f"{flags:#x}")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Have *fd* tell of the events *mask* (IN_MODIFY, …) in *path*; the number of the watch."""
    code = _libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint(mask))
    return _check(code, "inotify_add_watch", path)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """Open the tree of mounts at *path*; with OPEN_TREE_CLONE a copy that is mounted nowhere."""
    flags_ = ctypes.c_uint(flags)
    code: int = _libc.syscall(_NR_OPEN_TREE, dirfd, os.fsencode(path), flags_)
    return _check(code, "open_tree", path)


def move_mount(tree: int, place: int) -> None:
    """Attach the tree of mounts *tree* at what the descriptor *place* refers to."""
    flags = ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    code = _libc.syscall(_NR_MOVE_MOUNT, tree, b"", place, b"", flags)
    _check(code, "move_mount", f"descriptor {tree}")


def mount_setattr(
    tree: int, attributes: int, cleared: int = 0, propagation: int = 0, below: int = AT_RECURSIVE
) -> None:
    """Set *attributes* (MOUNT_ATTR_RDONLY, ...), clear others, of *tree* (kernel 5.12).

    *propagation* is one of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0 for as it is.
    All mounts below are meant too unless *below* is 0.
    """
    raw = struct.pack("=QQQQ", attributes, cleared, propagation, 0)
    flags = ctypes.c_uint(AT_EMPTY_PATH | below)
    code = _libc.syscall(_NR_MOUNT_SETATTR, tree, b"", flags, raw, len(raw))
    _check(code, "mount_setattr", f"descriptor {tree}")


def execveat(fd: int, argv: tuple[str, ...], env: tuple[str, ...]) -> None:
    """Become the program that *fd* refers to. Returns only by raising."""
    code = _libc.syscall(_NR_EXECVEAT, fd, b"", _vector(argv), _vector(env), AT_EMPTY_PATH)
    _check(code, "execveat", argv[0])


def _vector(strings: tuple[str, ...]) -> "ctypes.Array[ctypes.c_char_p]":
    return (ctypes.c_char_p * (len(strings) + 1))(*(os.fsencode(s) for s in strings), None)


def _signed(flags: int) -> int:
    return flags - (1 << 32) if flags & (1 << 31) else flags


def _check(code: int, call: str, subject: str) -> int:
    if code < 0:
        raise SyscallError(ctypes.get_errno(), call, subject)
    return code
