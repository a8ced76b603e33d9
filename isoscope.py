"""The front door: one verb leads to one package's command line, which is imported only then."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.commandline import Parser

USAGE, OURS = 2, 125

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR}
_ROOM = "make room there, or set ISOSCOPE_HOME to a directory of yours with room in it"

_HELP = """\
isoscope: one OCI image as a plain process, a container and a virtual machine, measured.

  isoscope doctor                   what this machine can do, and how to get the rest
  isoscope bench [SUITE]            measure here; the report is written beside the results
  isoscope report RUN               the report of a run again: html, md, json or csv
  isoscope compare RUN RUN          what changed between two runs
  isoscope results ls|show|export|import
                                    the runs there are; their samples for other programs
  isoscope run [--on BACKEND] IMAGE [CMD…]
                                    run a command, isolated as BACKEND does: container, vm, host
  isoscope ps [-a]                  the containers that run; run -d starts one that outlives us
  isoscope exec CONTAINER CMD       one more command inside; -it for a shell
  isoscope logs CONTAINER           what it has said; -f goes on until it ends
  isoscope stop CONTAINER           ask it to end, then kill it
  isoscope start CONTAINER          start it again, with all it wrote
  isoscope restart CONTAINER        both of them
  isoscope kill CONTAINER           send it a signal
  isoscope wait CONTAINER           wait for its end; print its status
  isoscope rm CONTAINER             remove it with all it wrote
  isoscope rename CONTAINER NAME    call it otherwise
  isoscope inspect CONTAINER        all that is known of it, as JSON
  isoscope stats [CONTAINER]        what running ones use, every second
  isoscope top CONTAINER            its processes
  isoscope cp FROM TO               copy files into CONTAINER:PATH or out of it
  isoscope diff CONTAINER           what it changed of its image
  isoscope commit CONTAINER NAME    make an image of it
  isoscope update CONTAINER         change its limits
  isoscope image ls|inspect|bootstrap|rm|pull|push|copy|tags|login|logout
                                    the images of this machine, and those of registries
  isoscope image build CONTEXT      an image from a Dockerfile, in our own containers
  isoscope network ls|create|inspect|rm
                                    the networks that containers meet on
  isoscope volume ls|create|inspect|rm|prune
                                    directories that outlive containers
  isoscope registry serve           be a registry over the images of this machine
  isoscope vm min-memory IMAGE      how little memory a machine of the image can do with
  isoscope lab                      the lessons, in JupyterLab, on copies of your own
  isoscope gc                       remove what killed runs left behind
  isoscope completion bash|zsh|fish
                                    a script that lets a shell complete these words
  isoscope setup                    install what is missing; every verb does so on first use
  isoscope test                     check this checkout: format, types, layers, tests

'isoscope VERB --help' tells more about a verb.
"""

_TAKES_VALUE = {
    "-e", "--env", "-w", "--workdir", "-u", "--user", "-m", "--memory", "--cpus", "--pids-limit",
    "--timeout", "--accel", "--profile", "-v", "--volume", "--mount", "--tmpfs", "--network",
    "-p", "--publish", "--name", "--connect", "--cap-add", "--cap-drop",
    "--security-opt", "--ulimit", "--device",
}  # fmt: skip
"""The options of ``run`` that are followed by a value: what comes next is not the image.

Stands here so that nothing need be imported to find ``--on``; a test compares it with the parsers.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_HELP, end="")
        return 0 if words else USAGE
    if words[0] == "--version":
        project = Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8")
        line = next(line for line in project.splitlines() if line.startswith("version"))
        print(f"isoscope {line.split(chr(34))[1]}")
        return 0
    _hold_standard_descriptors()
    try:
        status = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("isoscope: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more
        return 128 + signal.SIGPIPE
    except Exception as error:
        if _debugs(words):
            raise
        print(f"isoscope: {_unforeseen(error)}", file=sys.stderr)
        return OURS
    return status


def _debugs(words: Sequence[str]) -> bool:
    """Whether ``--debug`` is ours: after an image it is a word of the command's."""
    verb, *rest = words
    if verb != "run":
        return "--debug" in rest
    left = iter(rest)
    for word in left:
        if word == "--debug":
            return True
        if word == "--on" or word in _TAKES_VALUE:
            next(left, None)
        elif not word.startswith("-") or word == "--":
            return False
    return False


def _unforeseen(error: Exception) -> str:
    """What to say of an error that no verb has turned into a sentence of its own."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
        return f"{ascii(f'cannot write{where}: {error.strerror}')[1:-1]}; {_ROOM}"
    what = ascii(f"{type(error).__name__}: {error}")[1:-1]
    return f"an error of ours: {what}; --debug shows where"


def _hold_standard_descriptors() -> None:
    """Open what of 0, 1 and 2 is closed, or the next file we open would become one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _dispatch(words: list[str]) -> int:
    is_asked = words[0] == "__knows" and len(words) > 1
    verb, *rest = words[is_asked:]
    if verb not in _VERBS:
        print(f"isoscope: no verb {verb!r}; see 'isoscope --help'", file=sys.stderr)
        return USAGE
    if is_asked:  # what the script asks before it sets anything up
        return 0
    if os.geteuid() != 0 and _is_for_root(verb, rest):
        _become_root_of_our_own()
    return _VERBS[verb](rest)


def _is_for_root(verb: str, rest: list[str]) -> bool:
    """Whether *verb* handles layers or containers, which takes a root."""
    return verb in _ROOTS or (verb == "run" and _split_backend(rest)[0] == "container")


def _become_root_of_our_own() -> None:
    """An ordinary user gets a user namespace; where there is none the verb says what it lacks."""
    from contextlib import suppress

    from runtime.errors import Unsupported
    from runtime.rootless import enter

    with suppress(Unsupported):
        enter()


def _bench(rest: list[str]) -> int:
    from benchmarks import cli

    return cli.main(["bench", *rest], publish=_publish, document=_document)


def _compare(rest: list[str]) -> int:
    from reports import cli
    from runtime.container.interrupts import end_on_termination

    end_on_termination()  # or a page that is being written would leave its draft
    return cli.compare_main(rest)


def _doctor(rest: list[str]) -> int:
    from benchmarks import doctor_cli

    try:
        return doctor_cli.main(rest)
    finally:  # what is left is tidying up at exit, and it ends by itself
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _gc(rest: list[str]) -> int:
    from benchmarks import cli

    return cli.main(["gc", *rest], publish=_publish, document=_document)


def _image(rest: list[str]) -> int:
    if rest[:1] == ["build"]:
        from runtime.build import cli as build_cli

        return build_cli.main(rest[1:])
    from runtime import image_verbs

    return image_verbs.image(rest)


def _lab(rest: list[str]) -> int:
    from notebooks.course.cli import lab_main

    return lab_main(rest)


def _network(rest: list[str]) -> int:
    from runtime import cli

    return cli.main(["network", *rest])


def _registry(rest: list[str]) -> int:
    from runtime import image_verbs

    return image_verbs.registry(rest)


def _kept(verb: str) -> Callable[[list[str]], int]:
    def do(rest: list[str]) -> int:
        from runtime import cli

        return cli.main([verb, *rest])

    return do


def _volume(rest: list[str]) -> int:
    from runtime import cli

    return cli.main(["volume", *rest])


def _vm(rest: list[str]) -> int:
    from vmbackend import vm_cli

    return vm_cli.main(rest)


def _report(rest: list[str]) -> int:
    from reports import cli
    from runtime.container.interrupts import end_on_termination

    end_on_termination()  # or a page that is being written would leave its draft
    return cli.main(rest)


def _results(rest: list[str]) -> int:
    from reports import results_cli
    from runtime.container.interrupts import end_on_termination

    end_on_termination()
    return results_cli.main(rest)


def _run(rest: list[str]) -> int:
    backend, words = _split_backend(rest)
    match backend:
        case "container":
            from runtime import cli as runtime_cli

            return runtime_cli.main(["run", *words])
        case "vm":
            from vmbackend import cli as vm_cli

            return vm_cli.main(words)
        case "host" | "runc" | "crun" | "bwrap" | "nspawn" | "podman" | "docker" | "qemu":
            from benchmarks import cli as benchmarks_cli

            words = ["run", "--on", backend, *words]
            return benchmarks_cli.main(words, publish=_publish, document=_document)
        case "":
            print(
                "isoscope run: --on names no backend; try 'isoscope run --help'", file=sys.stderr
            )
            return USAGE
        case _:
            known = (
                "container, vm, host or a peer (runc, crun, bwrap, nspawn, podman, docker, qemu)"
            )
            print(f"isoscope: unknown backend {backend!r}; use {known}", file=sys.stderr)
            return USAGE


def _completion(rest: list[str]) -> int:
    from benchmarks.completion import cli

    return cli.main(rest)


def _complete(rest: list[str]) -> int:
    from benchmarks.completion import cli

    return cli.complete_main(rest, verbs=_told_verbs(), parser_of=_parser_of)


_KEPT = (
    "commit", "cp", "diff", "exec", "inspect", "kill", "logs", "ps", "rename", "restart", "rm",
    "start", "stats", "stop", "top", "update", "wait",
)  # fmt: skip
"""What is done with containers that are there already."""

_VERBS = {
    **{verb: _kept(verb) for verb in _KEPT},
    "__complete": _complete,
    "bench": _bench,
    "compare": _compare,
    "completion": _completion,
    "doctor": _doctor,
    "gc": _gc,
    "image": _image,
    "lab": _lab,
    "network": _network,
    "registry": _registry,
    "report": _report,
    "results": _results,
    "run": _run,
    "vm": _vm,
    "volume": _volume,
}


_ROOTS = {"gc", "image", "network", "volume", *_KEPT}


def _split_backend(words: list[str]) -> tuple[str, list[str]]:
    """The value of ``--on``, which may stand anywhere before the image, and the other words."""
    backend, rest = "container", []
    left = iter(words)
    for word in left:
        if word == "--on":
            backend = next(left, "")
        elif word.startswith("--on="):
            backend = word.removeprefix("--on=")
        elif word in _TAKES_VALUE:
            rest += [word, *[value for value in [next(left, None)] if value is not None]]
        elif word.startswith("-") and word != "--":
            rest.append(word)
        else:
            return backend, [*rest, word, *left]
    return backend, rest


def _told_verbs() -> dict[str, str]:
    """Verb -> what the help says of it."""
    import re

    return dict(re.findall(r"^  isoscope (\w+)(?: \S+)*\s{2,}(\S.*)$", _HELP, re.MULTILINE))


def _parser_of(words: Sequence[str]) -> "tuple[Parser, Sequence[str]] | None":
    """The parser that reads what comes after a verb, and what of that is there; None without."""
    import importlib

    verb, *rest = words
    module, _, maker = _PARSERS.get(verb, "").partition(":")
    if verb == "commit":
        from runtime.build.commit_cli import commit_parser

        return commit_parser(), rest
    if verb in _KEPT:
        from runtime.container.kept.cli import parser_of

        return parser_of(verb), rest
    if verb == "run":
        return _run_parser(_split_backend(rest)[0]), rest
    if words[:2] == ["image", "build"]:
        from runtime.build.cli import build_parser

        return build_parser(), rest[1:]
    return (getattr(importlib.import_module(module), maker)(), rest) if maker else None


def _run_parser(backend: str) -> "Parser":
    match backend:
        case "vm":
            from vmbackend import cli as vm_cli

            return vm_cli.run_parser()
        case "host" | "runc" | "crun" | "bwrap" | "nspawn" | "podman" | "docker" | "qemu":
            from benchmarks import cli as benchmarks_cli

            return benchmarks_cli.run_parser(backend)
        case _:
            from runtime import cli as runtime_cli

            return runtime_cli.run_parser()


_PARSERS = {
    "bench": "benchmarks.cli:bench_parser",
    "compare": "reports.cli:compare_parser",
    "completion": "benchmarks.completion.cli:completion_parser",
    "doctor": "benchmarks.doctor_cli:doctor_parser",
    "gc": "benchmarks.cli:gc_parser",
    "image": "runtime.image.cli:image_parser",
    "lab": "notebooks.course.cli:lab_parser",
    "network": "runtime.network.cli:network_parser",
    "registry": "runtime.image.registry.cli:registry_parser",
    "report": "reports.cli:report_parser",
    "results": "reports.results_cli:results_parser",
    "vm": "vmbackend.vm_cli:vm_parser",
    "volume": "runtime.volume.cli:volume_parser",
}
"""Where the parser of a verb is made; ``run`` has one for each backend."""


def _publish(directory: Path) -> None:
    """The page first, since it lasts; then the table in the terminal, and where the page is."""
    import reports

    page = reports.publish(directory)
    reports.print_summary(directory)
    print(f"\nresults: {directory}\nreport:  {page}")


def _document(directory: Path) -> dict[str, object]:
    """The page, and what it says as plain JSON."""
    import json

    import reports
    from reports import export

    page = reports.publish(directory)
    said: dict[str, object] = json.loads(export.as_json_line(*reports.summary_of(directory)))
    return {"schema": said["schema"], "results": str(directory), "report": str(page)} | said


if __name__ == "__main__":
    sys.exit(main())
