"""How a build is shown: labels, lines, and that no output acts on a terminal."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runtime.build.model import BuildPlan, ConfigStep, DirectoryStep, Origin, Stage
from runtime.build.progress import Lines, Plain, Vertex, harmless, one_line, vertices
from runtime.build.result import Failure, StepFailed
from runtime.build.terminal import Terminal


def stage(index: int, name: str | None, *texts: str) -> Stage:
    steps = tuple(
        DirectoryStep(origin=Origin(line=n, text=text), path="/x", user=None)
        if text.startswith("WORKDIR")
        else ConfigStep(origin=Origin(line=n, text=text))
        for n, text in enumerate(texts)
    )
    return Stage(
        index=index, name=name, origin=Origin(line=1, text="FROM scratch"), base=None,
        platform=None, steps=steps, configs=({},) * len(steps),
    )  # fmt: skip


def test_labels_count_what_is_shown() -> None:
    one = BuildPlan(stages=(stage(0, None, "WORKDIR /a", "ENV a=b", "WORKDIR\n  /b"),), target=0)
    assert [v.label for v in vertices(one).values()] == [
        "[1/3] FROM scratch", "[2/3] WORKDIR /a", "[3/3] WORKDIR /b",
    ]  # fmt: skip
    two = BuildPlan(stages=(stage(0, "build"), stage(1, None)), target=1)
    assert [(v.number, v.label) for v in vertices(two).values()] == [
        (1, "[build 1/1] FROM scratch"), (2, "[stage-1 1/1] FROM scratch"),
    ]  # fmt: skip


@given(st.binary(max_size=300), st.integers(1, 50))
def test_lines_are_whole_and_harmless_however_they_arrive(data: bytes, size: int) -> None:
    lines = Lines()
    said = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    said += lines.end()
    whole = Lines()
    assert said == [*whole.feed(data), *whole.end()]
    assert all(character.isprintable() or character == "\t" for line in said for character in line)


def test_a_line_without_end_is_cut_and_a_bar_shows_its_last_state() -> None:
    lines = Lines()
    assert len(list(lines.feed(b"x" * 200_000))) == 1
    assert list(Lines().feed(b"10%\r50%\r100%\r\n")) == ["100%"]


def test_what_a_dockerfile_says_cannot_act_on_a_terminal() -> None:
    assert one_line("RUN \x1b]0;title\x07 \\\n  x") == "RUN \\x1b]0;title\\x07 \\ x"
    assert harmless("\u202e") == "\\u202e"
    assert len(one_line("x" * 1000)) == 200


def test_plain_says_everything_by_number() -> None:
    stream = io.StringIO()
    plain, vertex = Plain(stream), Vertex(number=3, label="[2/2] RUN x")
    plain.begun(vertex)
    plain.output(vertex, b"one\ntw")
    plain.output(vertex, b"o")
    plain.failed(vertex, "because\x1b")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "#3 [2/2] RUN x"
    assert [line.split()[-1] for line in lines[1:]] == ["one", "two", "because\\x1b"]


def test_a_terminal_shows_the_tail_and_leaves_what_is_done() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60, height=20, color_system=None)
    vertex, other = Vertex(number=1, label="[1/2] RUN a"), Vertex(number=2, label="[2/2] RUN b")
    with Terminal(console) as terminal:
        terminal.begun(vertex)
        terminal.output(vertex, b"".join(b"line %d \x1b[2J[bold]\n" % n for n in range(50)))
        terminal.tick(force=True)
        shown = stream.getvalue()
        assert "line 49 \\x1b[2J[bold]" in shown
        assert "line 43 " not in shown
        terminal.done(vertex)
        terminal.cached(other)
    assert "=> [1/2] RUN a  0.0s" in stream.getvalue()
    assert "CACHED [2/2] RUN b" in stream.getvalue()


def test_a_failure_tells_its_last_twenty_lines() -> None:
    failure = Failure(
        file="Dockerfile", line=4, text="RUN x", label="[2/2] RUN x", status=3,
        output=b"".join(b"%d\r\n" % n for n in range(30)) + b"\xff\n\n", image=None,
    )  # fmt: skip
    told = StepFailed(failure).told().splitlines()
    assert told[0] == "[2/2] RUN x failed with exit status 3"
    assert told[2:-1] == [f"  | {n}" for n in range(11, 30)] + ["  | \ufffd"]
    assert told[-1] == "Dockerfile, line 4: RUN x"
