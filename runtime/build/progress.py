"""What a build tells while it works, in the forms that people know: plain lines, JSON, nothing.

The form for a terminal is in ``runtime.build.terminal``. Bytes of a step's output are somebody
else's: they are shown with every control character made harmless.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TextIO

from runtime.build.model import BuildPlan, ConfigStep, Stage
from runtime.errors import RuntimeFault

Form = Literal["auto", "plain", "tty", "quiet", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """One thing that is done and shown: a FROM, or a step. *number* counts from 1 in the build."""

    number: int
    label: str


class Watcher(Protocol):
    """Who is told. ``begun`` comes first; then output; then one of the others."""

    def begun(self, vertex: Vertex) -> None:
        """It is being worked on."""

    def output(self, vertex: Vertex, data: bytes) -> None:
        """The step wrote this."""

    def cached(self, vertex: Vertex) -> None:
        """Nothing had to be done."""

    def done(self, vertex: Vertex) -> None:
        """It has ended well."""

    def failed(self, vertex: Vertex, why: str) -> None:
        """It has not."""

    def tick(self) -> None:
        """Time has passed and nothing happened."""


@dataclass(slots=True)
class Prelude:
    """What is done, and shown, before the build's own steps: ``count`` things until now."""

    watch: Watcher
    count: int = 0

    @contextmanager
    def step(self, label: str) -> Iterator[Vertex]:
        """Show the block as one thing that is done, or has failed."""
        self.count += 1
        vertex = Vertex(number=self.count, label=one_line(label))
        self.watch.begun(vertex)
        try:
            yield vertex
        except RuntimeFault as error:
            self.watch.failed(vertex, str(error))
            raise
        self.watch.done(vertex)


def vertices(plan: BuildPlan, *, after: int = 0) -> dict[tuple[int, int], Vertex]:
    """Everything that is shown, by stage index and step (-1 is the FROM), in the file's order.

    *after* things were shown before.
    """
    found: dict[tuple[int, int], Vertex] = {}
    for stage in plan.stages:
        shown = [-1, *(n for n, s in enumerate(stage.steps) if not isinstance(s, ConfigStep))]
        for place, step in enumerate(shown, start=1):
            text = stage.origin.text if step < 0 else stage.steps[step].origin.text
            label = f"[{_stage_name(plan, stage)}{place}/{len(shown)}] {one_line(text)}"
            found[stage.index, step] = Vertex(number=after + len(found) + 1, label=label)
    return found


def one_line(text: str, *, most: int = 200) -> str:
    """*text* on one line that cannot act on a terminal, cut where it gets long."""
    flat = harmless(" ".join(text.split()))
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def harmless(text: str) -> str:
    """*text* with what could steer a terminal escaped; tabs stay."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


@dataclass(slots=True)
class Lines:
    """Cuts a stream of bytes into lines to show; a bar that redraws itself with CR is one line."""

    _rest: bytes = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that *data* completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 1 << 16:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            yield _shown(line)

    def end(self) -> Iterator[str]:
        """What was left without its newline."""
        if self._rest:
            yield _shown(self._rest)
        self._rest = b""


class Quiet:
    """Says nothing; the error at the end tells what has to be known."""

    def begun(self, vertex: Vertex) -> None:
        """Nothing."""

    def output(self, vertex: Vertex, data: bytes) -> None:
        """Nothing."""

    def cached(self, vertex: Vertex) -> None:
        """Nothing."""

    def done(self, vertex: Vertex) -> None:
        """Nothing."""

    def failed(self, vertex: Vertex, why: str) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class Plain:
    """One line for everything that happens, numbered by vertex: for logs and pipes."""

    stream: TextIO
    _begun_ns: dict[int, int] = field(default_factory=dict, init=False)
    _lines: dict[int, Lines] = field(default_factory=dict, init=False)

    def begun(self, vertex: Vertex) -> None:
        """The label, and from now on the time."""
        self._begun_ns[vertex.number] = time.monotonic_ns()
        self._lines[vertex.number] = Lines()
        self._say(vertex, vertex.label)

    def output(self, vertex: Vertex, data: bytes) -> None:
        """Each line with the seconds since the beginning."""
        for line in self._lines[vertex.number].feed(data):
            self._say(vertex, f"{self._seconds(vertex):.3f} {line}")

    def cached(self, vertex: Vertex) -> None:
        """The label with CACHED."""
        self._say(vertex, f"{vertex.label}  CACHED")

    def done(self, vertex: Vertex) -> None:
        """DONE and how long it took."""
        self._end(vertex, f"DONE {self._seconds(vertex):.1f}s")

    def failed(self, vertex: Vertex, why: str) -> None:
        """FAILED and why."""
        self._end(vertex, f"FAILED: {harmless(why)}")

    def tick(self) -> None:
        """Nothing: a log is not redrawn."""

    def _end(self, vertex: Vertex, text: str) -> None:
        for line in self._lines[vertex.number].end():
            self._say(vertex, f"{self._seconds(vertex):.3f} {line}")
        self._say(vertex, text)

    def _seconds(self, vertex: Vertex) -> float:
        return (time.monotonic_ns() - self._begun_ns[vertex.number]) / 1e9

    def _say(self, vertex: Vertex, text: str) -> None:
        self.stream.write(f"#{vertex.number} {text}\n")
        self.stream.flush()


@dataclass(slots=True)
class Json:
    """One JSON object a line: ``event``, ``vertex``, ``at_ns`` since the first, and what more."""

    stream: TextIO
    _first_ns: int | None = None

    def begun(self, vertex: Vertex) -> None:
        """With the label."""
        self._say("begun", vertex, label=vertex.label)

    def output(self, vertex: Vertex, data: bytes) -> None:
        """With the text; bytes that are no UTF-8 are replaced."""
        self._say("output", vertex, text=data.decode("utf-8", "replace"))

    def cached(self, vertex: Vertex) -> None:
        """With the label."""
        self._say("cached", vertex, label=vertex.label)

    def done(self, vertex: Vertex) -> None:
        """Nothing more."""
        self._say("done", vertex)

    def failed(self, vertex: Vertex, why: str) -> None:
        """With the reason."""
        self._say("failed", vertex, why=why)

    def tick(self) -> None:
        """Nothing: a log is not redrawn."""

    def _say(self, event: str, vertex: Vertex, **more: str) -> None:
        now_ns = time.monotonic_ns()
        if self._first_ns is None:
            self._first_ns = now_ns
        said = {"event": event, "vertex": vertex.number, "at_ns": now_ns - self._first_ns, **more}
        self.stream.write(json.dumps(said) + "\n")
        self.stream.flush()


@contextmanager
def watcher(form: Form, stream: TextIO) -> Iterator[Watcher]:
    """Who shows the build on *stream* in this *form*; ``auto`` asks whether it is a terminal."""
    if form == "tty" or (form == "auto" and stream.isatty()):
        from runtime.build.terminal import Terminal  # noqa: PLC0415 - rich

        with Terminal() as terminal:
            yield terminal
    elif form == "quiet":
        yield Quiet()
    elif form == "json":
        yield Json(stream)
    else:
        yield Plain(stream)


def _stage_name(plan: BuildPlan, stage: Stage) -> str:
    if len(plan.stages) == 1 and stage.name is None:
        return ""
    return f"{stage.name or f'stage-{stage.index}'} "


def _shown(line: bytes) -> str:
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    return harmless(last[:4096].decode("utf-8", "replace"))
