"""``isoscope image build``: an image from a Dockerfile.

Exit status: 0 built, 1 a RUN ended with another status than 0, 2 wrong usage, 125 a failure of
ours or of what was asked for, 130 after Ctrl-C.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.build.bases import Bases
from runtime.build.builder import Request, build
from runtime.build.contexts import Context, build_context
from runtime.build.dockerfile import read_dockerfile
from runtime.build.ignore import MAX_FILE_BYTES, IgnoreRules, ignore_names, read_ignore
from runtime.build.model import BuildPlan
from runtime.build.plan import plan_build
from runtime.build.platforms import parse_platform
from runtime.build.progress import Prelude, Quiet, watcher
from runtime.build.result import FAILED, StepFailed
from runtime.build.state import EARLIEST_S
from runtime.commandline import Parser, ended_by, environment, variable
from runtime.errors import BuildError, RuntimeFault, Unsupported
from runtime.fault import printable
from runtime.image import Image, Store, parse_reference

INTERRUPTED = 130
MAX_DOCKERFILE_BYTES = 4 << 20
MAX_SECRET_BYTES = 512 << 10

_DESCRIPTION = """\
Build an image from a Dockerfile. Every RUN is a container of ours on the layers before it; its
changes are one layer. Steps are cached by the content of what they take, never by its times.
"""

_EPILOG = """\
network: RUN uses the network of this machine unless --network none (or RUN --network=none) says
  otherwise; containers have no network of their own kind yet.
times: files of a build get the time of SOURCE_DATE_EPOCH (variable or build argument), else
  1980-01-01, and RUN sees the same SOURCE_DATE_EPOCH: the same context and base give the same
  digest, as far as the commands themselves do.
status: 0 built; 1 a RUN failed; 2 wrong usage; 125 a failure of ours or of what was asked for.

examples:
  isoscope image build -t web .
  isoscope image build -f Dockerfile.test --target test --build-arg LEVEL=2 .
  isoscope image build --secret id=token,src=token.txt -t web .
  isoscope image build --pull=always -t web https://example.org/web.git#v2:server
  tar -c . | isoscope image build -
  isoscope image build --explain .        what would be done; pulls and builds nothing
"""


def main(argv: Sequence[str]) -> int:
    """Build what the words after ``isoscope image build`` say; the exit status."""
    parser = build_parser()
    # As docker's, --pull may stand alone; the word after it is not its own.
    arguments = parser.parse_args(["--pull=always" if w == "--pull" else w for w in argv])
    if arguments.context is None and not arguments.prune:
        parser.error("CONTEXT is missing")
    try:
        return _prune() if arguments.prune else _build(arguments)
    except StepFailed as error:
        print(f"isoscope: {error.told()}", file=sys.stderr)
        return FAILED
    except RuntimeFault as error:
        return ended_by(error, debug=arguments.debug)
    except KeyboardInterrupt:
        print("isoscope: interrupted; what was finished is cached", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> Parser:
    """The options of ``isoscope image build``."""
    parser = Parser(prog="isoscope image build", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("context", metavar="CONTEXT", nargs="?",
        help="what COPY and ADD take from: a directory, a tar, - (a tar on standard input)"
        " or REPOSITORY.git#REF:FOLDER")  # fmt: skip
    add("-t", "--tag", metavar="REF", action="append", default=[], help="call the image so")
    add("-f", "--file", metavar="FILE", help="the Dockerfile, not CONTEXT/Dockerfile; - is stdin")
    add("--target", metavar="STAGE", help="build this stage, not the last")
    add("--build-arg", metavar="K=V", action="append", default=[], type=variable,
        help="a value for an ARG; K alone passes on ours")  # fmt: skip
    add("--label", metavar="K=V", action="append", default=[], help="add a label")
    add("--platform", metavar="OS/ARCH", help="what is built for, if not this machine")
    add("--pull", choices=["never", "missing", "always"], default="missing",
        help="which images that it names are pulled; --pull alone is always")  # fmt: skip
    add("--no-cache", action="store_true", help="do every step, whatever is cached")
    add("--network", choices=["default", "host", "none"], default="default",
        help="what a RUN gets that does not say; default is host")  # fmt: skip
    add("--secret", metavar="id=ID,src=FILE", action="append", default=[],
        help="a secret for RUN --mount=type=secret; also id=ID,env=NAME")  # fmt: skip
    add("--progress", choices=["auto", "plain", "tty", "quiet", "json"], default="auto",
        help="how the work is shown, on standard error")  # fmt: skip
    add("-q", "--quiet", action="store_const", const="quiet", dest="progress",
        help="as --progress quiet")  # fmt: skip
    add("--iidfile", metavar="FILE", type=Path, help="write the image's digest here")
    add("--explain", action="store_true", help="print the plan; build nothing")
    add("--json", action="store_true", help="print the result as JSON, not as a digest")
    add("--prune", action="store_true", help="instead of building, empty the build cache")
    add("--debug", action="store_true", help="show a traceback when isoscope itself fails")
    return parser


def _build(arguments: argparse.Namespace) -> int:
    for tag in arguments.tag:
        if parse_reference(tag).digest is not None:
            raise BuildError(f"-t {tag} has a digest", remedy="a build finds its digest out")
    if arguments.context == arguments.file == "-":
        raise BuildError(
            "the context and the Dockerfile cannot both be standard input",
            remedy="put the Dockerfile into the archive",
        )
    if arguments.explain:
        return _explain(arguments)
    if os.geteuid() != 0:
        raise Unsupported(
            "builds need root, or a user namespace in which we are root",
            remedy="run isoscope as root",
        )
    _end_on_termination()
    store = Store()
    with watcher(arguments.progress, sys.stderr) as watch:
        prelude = Prelude(watch)
        with build_context(arguments.context, prelude) as context:
            request = _request(arguments, context, store, prelude)
            image = build(request, store=store, watch=watch)
    _tell(image, arguments)
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    """Print the plan. Nothing is pulled for it."""
    from runtime.build.rendering import render_plan  # noqa: PLC0415

    prelude = Prelude(Quiet())
    with build_context(arguments.context, prelude) as context:
        bases = Bases(store=Store(), prelude=prelude, when="never", platform=arguments.platform)
        plan, _, _ = _plan(arguments, context, bases)
    _warn(plan)
    print(render_plan(plan), end="")
    return 0


def _warn(plan: BuildPlan) -> None:
    for warning in plan.warnings:
        print(f"isoscope: {printable(warning)}", file=sys.stderr)


def _request(
    arguments: argparse.Namespace, context: Context, store: Store, prelude: Prelude
) -> Request:
    """What is to be built; the images that it is built on are here then."""
    bases = Bases(store=store, prelude=prelude, when=arguments.pull, platform=arguments.platform)
    plan, name, dockerfile = _plan(arguments, context, bases)
    _warn(plan)
    bases.find_others(plan, name)
    return Request(
        plan=plan,
        file=name,
        context=context.root,
        hiding=_ignore_rules(context, dockerfile),
        epoch_s=_epoch(arguments),
        tags=tuple(arguments.tag),
        secrets=_secrets(arguments.secret),
        no_cache=arguments.no_cache,
        own_network=arguments.network == "none",
        platform=arguments.platform and parse_platform(arguments.platform),
        shown=prelude.count,
    )


def _tell(image: Image, arguments: argparse.Namespace) -> None:
    if arguments.iidfile is not None:
        _write(arguments.iidfile, image.digest)
    if arguments.json:
        result = {
            "digest": image.digest,
            "references": list(image.references),
            "size_bytes": image.size_bytes,
            "layers": [layer.digest for layer in image.manifest.layers],
        }
        print(json.dumps(result))
    else:
        print(image.digest)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        raise BuildError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _plan(
    arguments: argparse.Namespace, context: Context, bases: Bases
) -> tuple[BuildPlan, str, Path | None]:
    """The plan, what the file is called in errors, and where it is (None: standard input)."""
    path: Path | None = None
    if arguments.file == "-":
        name, text = "standard input", sys.stdin.buffer.read(MAX_DOCKERFILE_BYTES + 1)
    else:
        path = _dockerfile(context, arguments.file)
        name, text = path.name, _read(path, MAX_DOCKERFILE_BYTES + 1, "Dockerfile")
    if len(text) > MAX_DOCKERFILE_BYTES:
        raise BuildError(f"{name} is larger than {MAX_DOCKERFILE_BYTES} bytes")

    plan = plan_build(
        read_dockerfile(text, name=name),
        config_of=bases.config,
        build_args=environment(arguments.build_arg),
        target=arguments.target,
        labels=_labels(arguments.label),
        platform=arguments.platform,
    )
    return plan, name, path


def _dockerfile(context: Context, told: str | None) -> Path:
    """Where the Dockerfile is: *told* means a file in a stranger's context, else one of ours."""
    if not context.is_foreign:
        return context.root / "Dockerfile" if told is None else Path(told)
    name = told or "Dockerfile"
    path = context.file(name)
    if path is None:
        raise BuildError(f"the context has no {name!r}", remedy="name a file in it with -f")
    return path


def _read(path: Path, most_bytes: int, what: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
            return file.read(most_bytes)
    except OSError as error:
        raise BuildError(
            f"cannot read the {what} {str(path)!r}: {error.strerror}",
            remedy="name it with -f" if what == "Dockerfile" else None,
        ) from error


def _ignore_rules(context: Context, dockerfile: Path | None) -> IgnoreRules | None:
    beside, inside = ignore_names("" if dockerfile is None else dockerfile.name)
    candidates = [context.file(inside)]
    if dockerfile is not None and not context.is_foreign:
        candidates.insert(0, dockerfile.with_name(beside))
    elif dockerfile is not None:
        above = dockerfile.parent.relative_to(context.root)
        candidates.insert(0, context.file(str(above / beside)))
    for path in candidates:
        if path is not None and path.is_file():
            return read_ignore(_read(path, MAX_FILE_BYTES + 1, "ignore file"), name=path.name)
    return None


def _labels(entries: Sequence[str]) -> dict[str, str]:
    pairs = [entry.partition("=")[::2] for entry in entries]
    if any(not name for name, _ in pairs):
        raise BuildError("a --label has no name", remedy="write NAME=VALUE")
    return dict(pairs)


def _epoch(arguments: argparse.Namespace) -> int:
    """SOURCE_DATE_EPOCH, as a build argument or in our environment, else a constant."""
    given = environment(arguments.build_arg)
    text = given.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH"))
    if text is None:
        return EARLIEST_S
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise BuildError(
            f"SOURCE_DATE_EPOCH {text[:40]!r} is no time", remedy="give seconds since 1970"
        )
    return int(text)


def _secrets(entries: Sequence[str]) -> dict[str, bytes]:
    """``id=ID[,src=FILE|,env=NAME]``; without either, the variable called as the id."""
    secrets = {}
    for entry in entries:
        fields = dict(part.partition("=")[::2] for part in entry.split(","))
        if fields.pop("type", "file") not in {"file", "env"} or "id" not in fields:
            raise BuildError(f"--secret {entry!r} has no id", remedy="write id=ID,src=FILE")
        name = fields.pop("id")
        source = fields.pop("src", None) or fields.pop("source", None)
        variable = fields.pop("env", None)
        if fields or (source and variable):
            raise BuildError(
                f"--secret {entry!r} cannot be understood", remedy="write id=ID,src=FILE"
            )
        secrets[name] = _secret(name, source, variable or name)
    return secrets


def _secret(name: str, source: str | None, variable: str) -> bytes:
    if source is not None:
        value = _read(Path(source), MAX_SECRET_BYTES + 1, f"secret {name!r} in")
    elif variable in os.environ:
        value = os.fsencode(os.environ[variable])
    else:
        raise BuildError(
            f"the secret {name!r} has no file, and there is no variable {variable}",
            remedy=f"write id={name},src=FILE",
        )
    if len(value) > MAX_SECRET_BYTES:
        raise BuildError(f"the secret {name!r} is larger than {MAX_SECRET_BYTES} bytes")
    return value


def _prune() -> int:
    from runtime.build.cache import prune  # noqa: PLC0415
    from runtime.image.show import amount  # noqa: PLC0415

    print(f"{amount(prune(Store()))} freed")
    return 0


def _end_on_termination() -> None:
    """SIGTERM and SIGHUP unwind what is open, as Ctrl-C does."""
    import signal  # noqa: PLC0415

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
