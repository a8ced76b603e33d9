"""``config.json`` as values: what a bundle asks for, complete and checked (pure).

Source: runtime-spec 1.0.2 to 1.2, config.md and config-linux.md. Each known member is honoured or
refused by name; members that the specification does not know are ignored, as it demands.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from runtime import syscalls
from runtime.container.capabilities import CAPABILITIES
from runtime.container.terminal import Terminal
from runtime.errors import SpecError
from runtime.oci.document import Reader, wrong

NAMESPACES = {
    "mount": syscalls.CLONE_NEWNS, "pid": syscalls.CLONE_NEWPID,
    "network": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
}  # fmt: skip
RLIMITS = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS",
    "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
)  # fmt: skip
"""In the order of their numbers (asm-generic/resource.h)."""
HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A program to run. Capabilities are bits; a resource limit is number, soft and hard."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int
    capabilities: Mapping[str, int]
    rlimits: tuple[tuple[int, int, int], ...]
    no_new_privileges: bool
    oom_score_adj: int | None
    terminal: Terminal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One entry of ``mounts``, its options not yet read."""

    destination: str
    kind: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device file to make: *mode* has its type."""

    path: str
    mode: int
    number: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program that is run beside the container."""

    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    timeout_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole document. *namespaces* are bit -> path, empty for a new one."""

    version: str
    process: Process | None
    root: str
    read_only: bool
    hostname: str
    domainname: str
    mounts: tuple[Mount, ...]
    namespaces: Mapping[int, str]
    devices: tuple[Device, ...]
    cgroups_path: str
    resources: Mapping[str, object]
    seccomp: Mapping[str, object] | None
    sysctl: Mapping[str, str]
    masked: tuple[str, ...]
    read_only_paths: tuple[str, ...]
    propagation: str
    hooks: Mapping[str, tuple[Hook, ...]]
    annotations: Mapping[str, str]

    @property
    def new_namespaces(self) -> int:
        """The namespaces to be made, as flags."""
        return sum(flag for flag, path in self.namespaces.items() if not path)


def parse_config(document: object, *, bundle: str) -> Config:
    """*document*, which stood in *bundle*. Raises SpecError."""
    top = Reader(document, "")
    version = top.text("ociVersion")
    if version.split(".")[0] != "1":
        raise SpecError(f"ociVersion {version!r} is not 1.x", remedy="write a bundle of 1.x")
    top.refuse("windows", "solaris", "vm", "zos")
    root, linux = top.inner("root"), top.inner("linux")
    linux.refuse("intelRdt", "mountLabel", "personality", "timeOffsets", "memoryPolicy")
    namespaces = _namespaces(linux)
    linux.refuse("uidMappings", "gidMappings", remedy="user namespaces are not supported")
    hostname, domainname = top.text("hostname", ""), top.text("domainname", "")
    if (hostname or domainname) and syscalls.CLONE_NEWUTS not in namespaces:
        raise SpecError("hostname wants a uts namespace", remedy="list it in linux.namespaces")
    if syscalls.CLONE_NEWNS not in namespaces:
        raise SpecError("a mount namespace is needed", remedy="list it in linux.namespaces")
    return Config(
        version=version,
        process=parse_process(top.inner("process")) if top.has("process") else None,
        root=os.path.join(bundle, root.text("path")),
        read_only=root.flag("readonly"),
        hostname=hostname,
        domainname=domainname,
        mounts=tuple(map(_mount, top.objects("mounts"))),
        namespaces=namespaces,
        devices=tuple(map(_device, linux.objects("devices"))),
        cgroups_path=linux.text("cgroupsPath", ""),
        resources=linux.inner("resources").value,
        seccomp=linux.inner("seccomp").value if linux.has("seccomp") else None,
        sysctl=_sysctl(linux, namespaces),
        masked=linux.texts("maskedPaths"),
        read_only_paths=linux.texts("readonlyPaths"),
        propagation=linux.text("rootfsPropagation", ""),
        hooks={kind: tuple(map(_hook, top.inner("hooks").objects(kind))) for kind in HOOKS},
        annotations=top.mapping("annotations"),
    )


def parse_process(reader: Reader) -> Process:
    """The object ``process``. Raises SpecError."""
    for name in ("apparmorProfile", "selinuxLabel"):
        reader.refuse(name, remedy="this runtime sets no labels: leave it out")
    reader.refuse("scheduler", "ioPriority", "execCPUAffinity", "commandLine")
    user = reader.inner("user")
    cwd = reader.text("cwd", "/")
    args = reader.texts("args")
    if not cwd.startswith("/"):
        raise wrong(reader.where("cwd"), "an absolute path")
    if not args or not args[0]:
        raise wrong(reader.where("args"), "a list that begins with a program")
    size = reader.inner("consoleSize")
    terminal = Terminal(
        rows=size.number("height", 0, high=65535) or 0,
        columns=size.number("width", 0, high=65535) or 0,
    )
    most = (1 << 32) - 2
    umask = user.number("umask", 0o022, high=0o777)
    return Process(
        args=args,
        env=reader.texts("env"),
        cwd=cwd,
        uid=user.number("uid", 0, high=most) or 0,
        gid=user.number("gid", 0, high=most) or 0,
        groups=user.numbers("additionalGids"),
        umask=0o022 if umask is None else umask,
        capabilities=_capabilities(reader.inner("capabilities")),
        rlimits=tuple(_rlimit(each) for each in reader.objects("rlimits")),
        no_new_privileges=reader.flag("noNewPrivileges"),
        oom_score_adj=reader.number("oomScoreAdj", None, low=-1000, high=1000),
        terminal=terminal if reader.flag("terminal") else None,
    )


def _capabilities(reader: Reader) -> Mapping[str, int]:
    found = {}
    for kind in _SETS:
        bits = 0
        for name in reader.texts(kind):
            known = name.removeprefix("CAP_").lower()
            if known in CAPABILITIES:  # one that the kernel lacks is passed over, as runc does
                bits |= 1 << CAPABILITIES.index(known)
        found[kind] = bits
    return found


def _rlimit(reader: Reader) -> tuple[int, int, int]:
    name = reader.text("type").removeprefix("RLIMIT_")
    if name not in RLIMITS:
        raise wrong(reader.where("type"), "the name of a resource limit")
    most = (1 << 64) - 1
    soft, hard = reader.number("soft", high=most), reader.number("hard", high=most)
    if soft is None or hard is None or soft > hard:
        raise wrong(reader.place, "a limit with soft and hard, soft not above hard")
    return RLIMITS.index(name), soft, hard


def _namespaces(linux: Reader) -> dict[int, str]:
    found: dict[int, str] = {}
    for each in linux.objects("namespaces"):
        kind, path = each.text("type"), each.text("path", "")
        if kind not in NAMESPACES:
            raise SpecError(
                f"{each.where('type')}: namespaces of type {kind!r} are not supported",
                remedy=f"known are {', '.join(NAMESPACES)}",
            )
        if NAMESPACES[kind] in found:
            raise wrong(each.place, f"the only namespace of type {kind}")
        if path and not path.startswith("/"):
            raise wrong(each.where("path"), "an absolute path")
        found[NAMESPACES[kind]] = path
    return found


def _mount(reader: Reader) -> Mount:
    reader.refuse("uidMappings", "gidMappings")
    return Mount(
        destination="/" + reader.text("destination").lstrip("/"),
        kind=reader.text("type", ""),
        source=reader.text("source", ""),
        options=reader.texts("options"),
    )


def _device(reader: Reader) -> Device:
    kinds = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
    kind, path = reader.text("type"), reader.text("path")
    if kind not in kinds or not path.startswith("/"):
        raise wrong(reader.place, "a device: an absolute path and a type of c, u, b or p")
    major, minor = (reader.number(n, 0, high=(1 << 20) - 1) or 0 for n in ("major", "minor"))
    return Device(
        path=path,
        mode=kinds[kind] | (reader.number("fileMode", 0o666, high=0o177777) or 0) & 0o7777,
        number=os.makedev(major, minor),
        uid=reader.number("uid", 0, high=(1 << 32) - 2) or 0,
        gid=reader.number("gid", 0, high=(1 << 32) - 2) or 0,
    )


def _hook(reader: Reader) -> Hook:
    path = reader.text("path")
    if not path.startswith("/"):
        raise wrong(reader.where("path"), "an absolute path")
    return Hook(
        path=path,
        args=reader.texts("args") or (path,),
        env=reader.texts("env"),
        timeout_s=reader.number("timeout", None, low=1, high=1 << 31),
    )


def _sysctl(linux: Reader, namespaces: Mapping[int, str]) -> dict[str, str]:
    """Only what belongs to a namespace of the container's: the others would be the host's."""
    found = linux.mapping("sysctl")
    for key in found:
        parts = key.replace("/", ".").split(".")
        ipc = parts[:2] == ["fs", "mqueue"] or (
            parts[0] == "kernel" and parts[1:2] and parts[1].startswith(("msg", "sem", "shm"))
        )
        needed = {True: syscalls.CLONE_NEWIPC}.get(bool(ipc))
        needed = syscalls.CLONE_NEWNET if parts[0] == "net" else needed
        if needed is None or needed not in namespaces or ".." in key or "" in parts:
            raise SpecError(
                f"linux.sysctl: {key!r} is not of a namespace of this container",
                remedy="leave it out, or list its network or ipc namespace",
            )
    return found
