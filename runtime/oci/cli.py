"""``isoscope-oci``: runc's commands, their options and their words."""

import _signal  # type: ignore[import-not-found]
import os
import sys

from runtime.errors import RuntimeFault, SpecError
from runtime.fault import Fault, printable
from runtime.oci import groups, making, resources
from runtime.oci.config import HOOKS, NAMESPACES, Config, parse_process
from runtime.oci.document import Reader, parse, render
from runtime.oci.making import Asked
from runtime.oci.state import Kept, every, find, forget, locked, now

_GLOBAL = {"--root": 1, "--log": 1, "--log-format": 1, "--debug": 0, "--systemd-cgroup": 0,
           "--rootless": 1}  # fmt: skip
_MAKING = {"--bundle": 1, "-b": 1, "--console-socket": 1, "--pid-file": 1, "--no-pivot": 0,
           "--no-new-keyring": 0, "--preserve-fds": 1}  # fmt: skip
_OPTIONS: dict[str, dict[str, int]] = {
    "create": _MAKING,
    "run": _MAKING | {"--detach": 0, "-d": 0, "--keep": 0, "--no-subreaper": 0},
    "start": {},
    "exec": {"--process": 1, "-p": 1, "--tty": 0, "-t": 0, "--console-socket": 1, "--detach": 0,
             "-d": 0, "--pid-file": 1, "--cwd": 1, "--env": 1, "-e": 1, "--user": 1, "-u": 1,
             "--additional-gids": 1, "-g": 1, "--no-new-privs": 0, "--cap": 1, "-c": 1,
             "--preserve-fds": 1, "--ignore-paused": 0, "--no-subreaper": 0},
    "state": {}, "kill": {"--all": 0, "-a": 0}, "delete": {"--force": 0, "-f": 0},
    "list": {"--format": 1, "-f": 1, "--quiet": 0, "-q": 0}, "ps": {"--format": 1, "-f": 1},
    "spec": {"--bundle": 1, "-b": 1}, "features": {}, "pause": {}, "resume": {},
    "update": {"--resources": 1, "-r": 1, "--memory": 1, "--memory-swap": 1, "--cpu-quota": 1,
               "--cpu-period": 1, "--cpu-share": 1, "--pids-limit": 1, "--cpuset-cpus": 1,
               "--cpuset-mems": 1, "--memory-reservation": 1},
    "events": {"--stats": 0, "--interval": 1},
}  # fmt: skip
"""Command -> option -> whether a value follows."""
_SHORT = {
    "-b": "--bundle", "-d": "--detach", "-t": "--tty", "-e": "--env", "-u": "--user",
    "-g": "--additional-gids", "-a": "--all", "-q": "--quiet", "-r": "--resources",
}  # fmt: skip
_FORWARDED = (1, 2, 3, 10, 12, 15)  # HUP INT QUIT USR1 USR2 TERM, signal(7)

Given = dict[str, list[str]]


def main(words: list[str]) -> int:
    """Do what the command line says; the exit status."""
    given: Given = {}
    try:
        rest = _split(words, _GLOBAL, given)
        if "--systemd-cgroup" in given:
            raise SpecError("--systemd-cgroup is not supported", remedy="use cgroupfs")
        return _command(rest, given)
    except Fault as error:
        return _complain(str(error), given)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror}{where}", given)


def _command(rest: list[str], given: Given) -> int:
    if "--version" in rest or rest[:1] == ["-v"]:
        print("isoscope-oci version 0.1.0\nspec: 1.2.0")
        return 0
    if not rest or rest[0] in {"-h", "--help", "help"}:
        print(f"isoscope-oci [--root DIR] COMMAND: {', '.join(_OPTIONS)}\n{__doc__}")
        return 0
    verb = rest[0]
    if verb not in _OPTIONS:
        raise SpecError(f"no command {verb!r}", remedy=f"known are {', '.join(_OPTIONS)}")
    left = _split(rest[1:], _OPTIONS[verb], given)
    if _one(given, "--preserve-fds", "0") != "0":
        raise SpecError("--preserve-fds is not supported", remedy="leave it out")
    if "--no-pivot" in given:
        raise SpecError(
            "--no-pivot is not supported", remedy="put the bundle outside the initial ramfs"
        )
    return _VERBS[verb](left, given)


def _split(words: list[str], known: dict[str, int], given: Given) -> list[str]:
    """What follows the options of *known*, which go to *given*; ``--x v`` and ``--x=v``."""
    words = list(words)
    while words and words[0].startswith("-") and words[0] != "-":
        if words[0] in {"--version", "-v", "--help", "-h"} and words[0] not in known:
            break
        word = words.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name not in known:
            raise SpecError(f"no option {name}", remedy=f"known are {', '.join(known) or 'none'}")
        if known[name] and not equals:
            if not words:
                raise SpecError(f"option {name} wants a value", remedy="give one")
            value = words.pop(0)
        given.setdefault(_SHORT.get(name, name), []).append(value)
    return words


def _one(given: Given, name: str, default: str = "") -> str:
    return given.get(name, [default])[-1]


def _root(given: Given) -> str:
    return os.path.abspath(_one(given, "--root", "/run/isoscope-oci"))


def _name(left: list[str]) -> str:
    if not left:
        raise SpecError("the container's id is missing", remedy="give it")
    return left[0]


def _config(kept: Kept) -> Config:
    return making.read_config(kept.directory, bundle=kept.bundle)[0]


def _asked(given: Given, *, foreground: bool) -> Asked:
    return Asked(
        console_socket=_one(given, "--console-socket"),
        pid_file=_one(given, "--pid-file"),
        foreground=foreground,
        keyring="--no-new-keyring" not in given,
    )


def _create(left: list[str], given: Given) -> int:
    bundle = _one(given, "--bundle", ".")
    making.create(_root(given), _name(left), bundle, _asked(given, foreground=False))
    return 0


def _start(left: list[str], given: Given) -> int:
    with locked(_root(given), _name(left)) as kept:
        _open_gate(kept, _config(kept))
    return 0


def _open_gate(kept: Kept, config: Config) -> None:
    if (status := kept.status()) != "created":
        raise RuntimeFault(f"cannot start a container in the {status} state")
    if config.hooks["startContainer"] or config.hooks["poststart"]:
        from runtime.oci.hooks import run_hooks  # noqa: PLC0415 - few bundles have any

        state = render(making.state_of(kept, config, "created"))
        run_hooks(
            config.hooks["startContainer"], state, kind="startContainer",
            within=kept.pid, flags=sum(config.namespaces),
        )  # fmt: skip
        _write_gate(kept)
        state = render(making.state_of(kept, config, "running"))
        run_hooks(config.hooks["poststart"], state, kind="poststart")
    else:
        _write_gate(kept)


def _write_gate(kept: Kept) -> None:
    gate = os.open(kept.gate, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.unlink(kept.gate)
    os.write(gate, b"S")
    os.close(gate)


def _run(left: list[str], given: Given) -> int:
    root, name = _root(given), _name(left)
    foreground = "--detach" not in given
    bundle = _one(given, "--bundle", ".")
    made = making.create(root, name, bundle, _asked(given, foreground=foreground))
    kept = made.kept
    try:
        if foreground:
            _forward(kept)
        _open_gate(kept, made.config)
        if not foreground:
            return 0
        if made.master >= 0:
            from runtime.oci import console  # noqa: PLC0415

            console.relay(made.master, made.started.pidfd)
        status = made.started.wait()
    except BaseException:
        _delete_one(kept, made.config, force=True)
        raise
    if "--keep" not in given:
        _delete_one(kept, made.config, force=True)
    return status


def _forward(kept: Kept) -> None:
    """What ends us, or asks for something, is the container's to answer."""

    def pass_on(number: int, _: object) -> None:
        try:
            making.signal_process(kept, number)
        except RuntimeFault:
            return

    for number in _FORWARDED:
        _signal.signal(number, pass_on)


def _exec(left: list[str], given: Given) -> int:
    kept = find(_root(given), _name(left))
    status = kept.status()
    if status not in {"created", "running"}:
        raise RuntimeFault(f"cannot exec in a {status} container")
    if groups.is_frozen(kept.groups):
        raise RuntimeFault("cannot exec in a paused container")
    config = _config(kept)
    foreground = "--detach" not in given
    process = parse_process(_process(left[1:], given, kept))
    try:
        asked = _asked(given, foreground=foreground)
        started, master = making.execute(kept, config, process, asked)
    except Fault as error:
        _complain(f"exec failed: {error}", given)
        return 255
    if not foreground:
        return 0
    if master >= 0:
        from runtime.oci import console  # noqa: PLC0415

        console.relay(master, started.pidfd)
    return started.wait()


def _process(args: list[str], given: Given, kept: Kept) -> Reader:
    """The process of ``exec``: a document, or the container's own with what was asked."""
    if path := _one(given, "--process", _one(given, "-p")):
        with open(path, "rb") as file:
            value = Reader(parse(file.read(1 << 22), path), "").value
    else:
        with open(f"{kept.directory}/config.json", "rb") as file:
            own = Reader(parse(file.read(1 << 22), "config.json"), "").inner("process").value
        value = own | {"args": args, "terminal": False}
        value["env"] = [*Reader(own, "process").texts("env"), *given.get("--env", [])]
        if cwd := _one(given, "--cwd"):
            value["cwd"] = cwd
        if user := _one(given, "--user"):
            uid, _, gid = user.partition(":")
            if not uid.isdecimal() or (gid and not gid.isdecimal()):
                raise SpecError(f"--user {user!r} is not UID[:GID]", remedy="give numbers")
            value["user"] = {"uid": int(uid), "gid": int(gid or 0),
                             "additionalGids": [int(g) for g in given.get("--additional-gids", [])
                                                if g.isdecimal()]}  # fmt: skip
        if "--no-new-privs" in given:
            value["noNewPrivileges"] = True
        if caps := [*given.get("--cap", []), *given.get("-c", [])]:
            value["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), caps)
    if "--tty" in given:
        value = value | {"terminal": True}
    return Reader(value, "process")


def _state(left: list[str], given: Given) -> int:
    kept = find(_root(given), _name(left))
    print(render(making.state_of(kept, _config(kept))))
    return 0


def _kill(left: list[str], given: Given) -> int:
    kept = find(_root(given), _name(left))
    number = _number(left[1] if len(left) > 1 else "TERM")
    if "--all" in given:
        groups.kill_all(kept.groups, number)
    elif number == 9 and NAMESPACES["pid"] not in _config(kept).namespaces:
        making.signal_process(kept, number)
        groups.kill_all(kept.groups, number)
    else:
        making.signal_process(kept, number)
    if number == 9 and groups.is_frozen(kept.groups):
        groups.freeze(kept.groups, frozen=False)
    return 0


def _number(word: str) -> int:
    if word.isdecimal() and 0 < int(word) <= 64:
        return int(word)
    number = getattr(_signal, "SIG" + word.upper().removeprefix("SIG"), None)
    if not isinstance(number, int) or not word.isalnum():
        raise SpecError(f"no signal {word!r}", remedy="give a name or a number")
    return number


def _delete(left: list[str], given: Given) -> int:
    force = "--force" in given
    try:
        with locked(_root(given), _name(left)) as kept:
            _delete_one(kept, _config(kept), force=force)
    except RuntimeFault as error:
        if force and "does not exist" in error.message:
            return 0
        raise
    return 0


def _delete_one(kept: Kept, config: Config, *, force: bool) -> None:
    status = kept.status()
    if status in {"running", "creating"} and not force:
        raise RuntimeFault(f"cannot delete container {kept.name} that is not stopped: {status}")
    if kept.lives():
        making.signal_process(kept, 9)
    making.settle(kept.groups)
    forget(kept)
    if config.hooks["poststop"]:
        state = render(making.state_of(kept, config, "stopped"))
        from runtime.oci.hooks import run_hooks  # noqa: PLC0415 - few bundles have any

        run_hooks(config.hooks["poststop"], state, kind="poststop")


def _list(_: list[str], given: Given) -> int:
    states = [making.state_of(kept, _config(kept)) for kept in every(_root(given))]
    if "--quiet" in given:
        for state in states:
            print(state["id"])
    elif _one(given, "--format", _one(given, "-f")) == "json":
        print(render(states))
    else:
        print(f"{'ID':24} {'PID':>8} {'STATUS':10} BUNDLE")
        for state in states:
            line = f"{state['id']:24} {state['pid']:>8} {state['status']:10} {state['bundle']}"
            print(printable(line))
    return 0


def _ps(left: list[str], given: Given) -> int:
    pids = groups.members(find(_root(given), _name(left)).groups)
    if _one(given, "--format", _one(given, "-f")) == "json":
        print(render(pids))
    elif pids:
        os.execvp("ps", ["ps", *(left[1:] or ["-f"]), "-p", ",".join(map(str, pids))])  # noqa: S606
    return 0


def _spec(_: list[str], given: Given) -> int:
    from runtime.oci.example import example  # noqa: PLC0415

    path = f"{_one(given, '--bundle', '.')}/config.json"
    with open(path, "x", encoding="utf-8") as file:
        file.write(render(example()) + "\n")
    return 0


def _features(_: list[str], __: Given) -> int:
    from runtime.oci.mounts import known_options  # noqa: PLC0415
    from runtime.oci.seccomp import features  # noqa: PLC0415

    value = {
        "ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "hooks": list(HOOKS),
        "mountOptions": known_options(),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": features(), "apparmor": {"enabled": False}, "selinux": {"enabled": False},
        },
    }  # fmt: skip
    print(render(value))
    return 0


def _pause(left: list[str], given: Given) -> int:
    with locked(_root(given), _name(left)) as kept:
        if kept.status() not in {"running", "created"}:
            raise RuntimeFault("container not running")
        groups.freeze(kept.groups, frozen=True)
    return 0


def _resume(left: list[str], given: Given) -> int:
    with locked(_root(given), _name(left)) as kept:
        if not groups.is_frozen(kept.groups):
            raise RuntimeFault("container not paused")
        groups.freeze(kept.groups, frozen=False)
    return 0


def _update(left: list[str], given: Given) -> int:
    with locked(_root(given), _name(left)) as kept:
        if path := _one(given, "--resources"):
            raw = sys.stdin.buffer.read(1 << 22) if path == "-" else _bytes(path)
            value = Reader(parse(raw, path), "resources").value
        else:
            value = _resources(given)
        value.pop("devices", None)
        found = groups.hierarchies()
        config = _config(kept)
        resources.check(found, value)
        resources.write(found, groups.checked_path(config.cgroups_path, kept.name), value)
    return 0


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 22)


def _resources(given: Given) -> dict[str, object]:
    places = {
        "--memory": ("memory", "limit"), "--memory-swap": ("memory", "swap"),
        "--memory-reservation": ("memory", "reservation"), "--cpu-quota": ("cpu", "quota"),
        "--cpu-period": ("cpu", "period"), "--cpu-share": ("cpu", "shares"),
        "--pids-limit": ("pids", "limit"), "--cpuset-cpus": ("cpu", "cpus"),
        "--cpuset-mems": ("cpu", "mems"),
    }  # fmt: skip
    value: dict[str, dict[str, object]] = {}
    for option, (group, name) in places.items():
        if option in given:
            word = given[option][-1]
            is_number = not option.startswith("--cpuset")
            if is_number and not word.lstrip("-").isdecimal():
                raise SpecError(f"{option} {word!r} is no number", remedy="give bytes or counts")
            value.setdefault(group, {})[name] = int(word) if is_number else word
    return dict(value)


def _events(left: list[str], given: Given) -> int:
    if "--stats" not in given:
        raise SpecError("events without --stats is not supported", remedy="add --stats")
    from runtime.oci.stats import stats  # noqa: PLC0415

    kept = find(_root(given), _name(left))
    print(render({"type": "stats", "id": kept.name, "data": stats(kept.groups)}))
    return 0


_VERBS = {
    "create": _create, "start": _start, "run": _run, "exec": _exec, "state": _state,
    "kill": _kill, "delete": _delete, "list": _list, "ps": _ps, "spec": _spec,
    "features": _features, "pause": _pause, "resume": _resume, "update": _update,
    "events": _events,
}  # fmt: skip


def _complain(message: str, given: Given) -> int:
    """Say it on standard error, and in the log that was asked for."""
    if path := _one(given, "--log"):
        entry = {"level": "error", "msg": message, "time": now()}
        json = _one(given, "--log-format") == "json"
        line = render(entry) if json else f'time="{now()}" level=error msg={render(message)}'
        try:
            with open(path, "a", encoding="utf-8") as log:
                log.write(line + "\n")
        except OSError as error:
            message += f" (and the log {path} cannot be written: {error.strerror})"
    print(f"isoscope-oci: {printable(message)}", file=sys.stderr)
    return 1
