"""A plan as text: what ``image build --explain`` prints and golden tests compare."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.build.model import (
    BuildPlan,
    CopyStep,
    DirectoryStep,
    Download,
    FromContext,
    FromImage,
    FromStage,
    Mount,
    Paths,
    RunStep,
    Source,
    Stage,
    Step,
    Tree,
)


def render_plan(plan: BuildPlan) -> str:
    """*plan*, a stage after the other: steps with their lines, what they do, what they set."""
    lines = [f"warning: {warning}" for warning in plan.warnings]
    for stage in plan.stages:
        lines += _stage(stage, target=stage.index == plan.target)
    return "".join(f"{_printable(line)}\n" for line in lines)


def _stage(stage: Stage, *, target: bool) -> Iterator[str]:
    name = "" if stage.name is None else f" {stage.name}"
    platform = "" if stage.platform is None else f" for {stage.platform}"
    base = "nothing" if stage.base is None else _tree(stage.base)
    yield f"stage {stage.index}{name}{', the result,' if target else ''} from {base}{platform}"
    if stage.author is not None:
        yield f"    author {stage.author}"
    yield from (f"    {line}" for line in _changes({}, stage.initial))
    before = stage.initial
    for step, config in zip(stage.steps, stage.configs, strict=True):
        onbuild = "ONBUILD of the base: " if step.origin.inherited else ""
        yield f"  {step.origin.line}: {onbuild}{step.origin.text}"
        yield from (f"    {line}" for line in _step(step))
        yield from (f"    {line}" for line in _changes(before, config))
        before = config


def _step(step: Step) -> Iterator[str]:
    if isinstance(step, RunStep):
        yield from _run(step)
    elif isinstance(step, CopyStep):
        yield from _copy(step)
    elif isinstance(step, DirectoryStep):
        yield f"make {step.path} for {step.user or 'root'}"


def _run(step: RunStep) -> Iterator[str]:
    script = "" if step.script is None else " SCRIPT"
    yield f"run {shlex.join(step.argv)}{script}"
    if step.script is not None:
        yield f"script {_text(step.script)}"
    yield f"in {step.cwd} as {step.user or 'root'}, network {step.network}"
    yield from (f"env {name}={value}" for name, value in step.env.items())
    yield from (f"proxy {name}={value}" for name, value in step.proxies.items())
    yield from (f"mount {_mount(mount)}" for mount in step.mounts)


def _mount(mount: Mount) -> str:
    parts: list[str] = [mount.kind]
    if mount.kind == "bind" or (mount.kind == "cache" and mount.tree != FromContext()):
        parts.append(f"{mount.source} of {_tree(mount.tree)}")
    if mount.kind in ("cache", "secret"):
        owner = f"{mount.uid}:{mount.gid}"
        parts.append(f"{mount.id!r} mode {mount.mode or 0:04o} owner {owner}")
    if mount.kind == "cache":
        parts.append(mount.sharing)
    parts += [] if mount.target is None else [f"at {mount.target}"]
    parts += [] if mount.env is None else [f"as ${mount.env}"]
    parts += [] if mount.size_bytes is None else [f"of {mount.size_bytes} bytes"]
    parts += ["read-only"] if mount.read_only else []
    parts += ["required"] if mount.required else []
    return ", ".join(parts)


def _copy(step: CopyStep) -> Iterator[str]:
    for source in step.sources:
        yield f"copy {_source(source)} to {step.target}"
    options = {
        "owner": step.owner,
        "mode": None if step.mode is None else f"{step.mode:04o}",
        "exclude": shlex.join(step.exclude) or None,
    }
    flags = [name for name in ("link", "extract", "parents") if getattr(step, name)]
    flags += [f"{name} {value}" for name, value in options.items() if value is not None]
    if flags:
        yield ", ".join(flags)


def _source(source: Source) -> str:
    if isinstance(source, Paths):
        return f"{shlex.join(source.patterns)} of {_tree(source.tree)}"
    if isinstance(source, Download):
        return source.url if source.checksum is None else f"{source.url} ({source.checksum})"
    return f"{source.name} = {_text(source.data)}"


def _tree(tree: Tree) -> str:
    match tree:
        case FromContext():
            return "the context"
        case FromStage(index=index):
            return f"stage {index}"
        case FromImage(reference=reference):
            return f"image {reference}"


def _text(data: bytes) -> str:
    return json.dumps(data.decode("utf-8", "replace"), ensure_ascii=False)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            yield f"unset {key}"
        elif before.get(key) != after[key]:
            value = json.dumps(after[key], ensure_ascii=False, sort_keys=True)
            yield f"set {key} = {value}"


def _printable(line: str) -> str:
    """What a stranger wrote, so that it cannot act on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
