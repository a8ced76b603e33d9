"""A build context to write into, and builds of it."""

import io
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.build.builder import Request, build
from runtime.build.dockerfile import read_dockerfile
from runtime.build.ignore import read_ignore
from runtime.build.plan import plan_build
from runtime.build.progress import Plain
from runtime.build.state import EARLIEST_S
from runtime.image import Image, Store, find_image, unpacked
from runtime.image.document import parse_document

ROOT = Path(__file__).parents[3]
MARK = f"left-over-{os.getpid()}"
"""In the command lines of what could be left running, and in nobody else's."""


@dataclass(slots=True)
class Workplace:
    """A context to write into, and what building it said."""

    context: Path
    store: Store = field(default_factory=Store)
    said: str = ""

    def write(self, name: str, data: str | bytes = "", *, mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return path

    def build(
        self,
        dockerfile: str,
        *,
        build_args: Mapping[str, str] | None = None,
        target: str | None = None,
        ignore: str | None = None,
        **fields: Any,
    ) -> Image:
        def config_of(reference: str, _: str | None) -> Mapping[str, Any]:
            raw = self.store.read_blob(find_image(self.store, reference).manifest.config)
            config: Mapping[str, Any] = parse_document(raw, reference)["config"].value or {}
            return config

        plan = plan_build(
            read_dockerfile(dockerfile.encode(), name="Dockerfile"),
            config_of=config_of,
            build_args=build_args,
            target=target,
        )
        request = Request(plan=plan, file="Dockerfile", context=self.context, epoch_s=EARLIEST_S)
        if ignore is not None:
            request = replace(request, hiding=read_ignore(ignore.encode()))
        stream = io.StringIO()
        try:
            return build(replace(request, **fields), store=self.store, watch=Plain(stream))
        finally:
            self.said = stream.getvalue()

    def tree(self, image: Image) -> Path:
        return unpacked(self.store, image, purpose="test").path

    def built(self, dockerfile: str, **options: Any) -> Path:
        """The tree of what *dockerfile* builds."""
        return self.tree(self.build(dockerfile, **options))

    def cached(self) -> list[str]:
        """The labels of the steps that were found, without their numbers."""
        lines = [line for line in self.said.splitlines() if line.endswith("  CACHED")]
        return [line.partition("] ")[2].removesuffix("  CACHED") for line in lines]

    def run_steps(self) -> list[str]:
        """The labels of the steps that were done."""
        lines = [line.partition(" ")[2] for line in self.said.splitlines()]
        labels = [line for line in lines if line.startswith("[") and not line.endswith("CACHED")]
        return [label.partition("] ")[2] for label in labels if "] FROM" not in label]


def isoscope(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "isoscope.py"), *words]


def processes(mark: str) -> list[str]:
    """The command lines that hold *mark*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if mark in line]
