"""The build on a terminal: what is done scrolls up, what runs stays below with its last lines."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from runtime.build.progress import Lines, Vertex

_TAIL_LINES = 6
_PER_SECOND = 8


@dataclass(slots=True)
class _Running:
    vertex: Vertex
    begun_ns: int
    lines: Lines = field(default_factory=Lines)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    @property
    def seconds(self) -> float:
        return (time.monotonic_ns() - self.begun_ns) / 1e9


class Terminal:
    """Shows a build on standard error. A context manager: afterwards only what is done is left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._running: dict[int, _Running] = {}
        # Redrawn by the events and by nobody else: this process forks, so it has one thread.
        self._live = Live(self, console=self._console, auto_refresh=False, transient=True)
        self._drawn_ns = 0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What runs, each with the end of what it wrote."""
        room = max(1, (options.max_height - 1) // max(1, len(self._running)) - 1)
        for each in self._running.values():
            yield from _drawn(each, min(room, _TAIL_LINES))

    def begun(self, vertex: Vertex) -> None:
        """Another one runs."""
        self._running[vertex.number] = _Running(vertex=vertex, begun_ns=time.monotonic_ns())
        self.tick(force=True)

    def output(self, vertex: Vertex, data: bytes) -> None:
        """Its last lines change."""
        running = self._running[vertex.number]
        running.tail.extend(running.lines.feed(data))
        self.tick()

    def cached(self, vertex: Vertex) -> None:
        """A line that says so."""
        self._console.print(_line("CACHED ", "cyan", vertex, ""))

    def done(self, vertex: Vertex) -> None:
        """A line with its time."""
        running = self._running.pop(vertex.number)
        self._console.print(_line("=> ", "green", vertex, f"{running.seconds:.1f}s"))
        self.tick(force=True)

    def failed(self, vertex: Vertex, why: str) -> None:
        """A line that says so; *why* comes with the error at the end."""
        del why
        running = self._running.pop(vertex.number)
        self._console.print(_line("FAILED ", "red", vertex, f"{running.seconds:.1f}s"))
        self.tick(force=True)

    def tick(self, *, force: bool = False) -> None:
        """Draw again, if that was not done a moment ago."""
        now_ns = time.monotonic_ns()
        if force or now_ns - self._drawn_ns > 1e9 / _PER_SECOND:
            self._drawn_ns = now_ns
            self._live.refresh()


def _drawn(running: _Running, room: int) -> Iterator[Text]:
    yield _line("=> ", "blue", running.vertex, f"{running.seconds:.1f}s")
    for line in list(running.tail)[-room:]:
        yield Text(f"   {line}", style="dim", no_wrap=True, overflow="ellipsis")


def _line(mark: str, style: str, vertex: Vertex, time_taken: str) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(mark, style=style)
    text.append(vertex.label)
    if time_taken:
        text.append(f"  {time_taken}", style="dim")
    return text
