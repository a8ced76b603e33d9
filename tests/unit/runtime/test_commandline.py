"""How every command line of ours reads its options, and how it complains."""

import argparse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.cli
import isoscope
import runtime.cli
import vmbackend.cli
from benchmarks.backends import PEERS
from benchmarks.errors import BenchmarkError
from runtime.commandline import Parser, environment, size, whole
from runtime.errors import ImageError
from runtime.fault import Fault, printable
from vmbackend.errors import GuestError

Capture = pytest.CaptureFixture[str]
RUN_PARSERS: dict[str, Callable[[], Parser]] = {
    "container": runtime.cli.run_parser,
    "vm": vmbackend.cli.run_parser,
    **{
        name: lambda name=name: benchmarks.cli.run_parser(name)  # type: ignore[misc]
        for name in ("host", *PEERS)
    },
}
LIMITED = tuple(name for name in RUN_PARSERS if name != "host")
every_backend = pytest.mark.parametrize("on", RUN_PARSERS)


def complaint(parser: Parser, argv: list[str], capsys: Capture) -> str:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(argv)
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert (caught.value.code, said.out) == (2, "")
    assert line.endswith(f"; try '{parser.prog} --help'")
    return line


@every_backend
@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], ": IMAGE is missing;"),
        (["-e", "A=b"], ": IMAGE is missing;"),
        (["-e", "=x", "busybox"], "'=x' names no variable"),
        (["-e", "", "busybox"], "'' names no variable"),
        (["--timeout", "0", "busybox"], "'0' is not a time in seconds"),
        (["--timeout", "nan", "busybox"], "'nan' is not a time in seconds"),
        (["--env", "busybox"], ": IMAGE is missing;"),
        (["--time", "3", "busybox"], "unrecognized arguments: --time"),
        (["--\x1b[31mred", "busybox"], r"--\x1b[31mred"),
    ],
)
def test_wrong_usage_is_the_same_line_on_every_backend(
    on: str, argv: list[str], says: str, capsys: Capture
) -> None:
    assert says in complaint(RUN_PARSERS[on](), argv, capsys)


@every_backend
def test_variables_are_dockers(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "a=b")
    monkeypatch.delenv("ABSENT", raising=False)
    argv = ["-e", "HERE", "-e", "ABSENT", "-e", "EMPTY=", "-e", "X=1=2", "busybox", "-e", "=x"]
    parsed = RUN_PARSERS[on]().parse_args(argv)
    assert environment(parsed.env) == {"HERE": "a=b", "EMPTY": "", "X": "1=2"}
    assert parsed.command == ["-e", "=x"]


@pytest.mark.parametrize("on", LIMITED)
@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("128m", 128 << 20), ("128mb", 128 << 20), ("128MiB", 128 << 20), ("1.5g", 3 << 29),
        ("1t", 1 << 40), ("262144k", 256 << 20), ("1073741824", 1 << 30), ("1073741824b", 1 << 30),
        ("64 GB", 64 << 30),
    ],
)  # fmt: skip
def test_sizes_are_dockers(on: str, text: str, size_bytes: int) -> None:
    assert RUN_PARSERS[on]().parse_args(["-m", text, "busybox"]).memory == size_bytes


@pytest.mark.parametrize("on", LIMITED)
@pytest.mark.parametrize("text", ["", "lots", "-1m", "1.m", "64bb", "64i", "1e3", "9999999999t"])
def test_no_sizes_are_refused(on: str, text: str, capsys: Capture) -> None:
    assert "--memory: " in complaint(RUN_PARSERS[on](), [f"--memory={text}", "busybox"], capsys)


@pytest.mark.parametrize("option", ["-m", "--cpus", "--pids-limit", "--explain"])
def test_what_the_host_cannot_do_is_refused_by_name(option: str, capsys: Capture) -> None:
    argv = [option, *(["1"] if option != "--explain" else []), "busybox"]
    assert "is not for this backend" in complaint(RUN_PARSERS["host"](), argv, capsys)


def test_the_front_door_knows_which_options_take_a_value() -> None:
    takes = {
        name
        for make in RUN_PARSERS.values()
        for action in make().actions()
        for name in action.option_strings
        if action.nargs != 0
    }
    assert takes - {"--on"} == isoscope._TAKES_VALUE


@given(st.integers(0, 1 << 62))
def test_bytes_are_exact(number: int) -> None:
    assert size(str(number)) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "1_0", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_a_whole_number_is_digits(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        whole(text)


@pytest.mark.parametrize("kind", [Fault, BenchmarkError, GuestError, ImageError])
@given(message=st.text(), remedy=st.none() | st.text())
def test_a_fault_is_one_line_that_steers_nothing(
    kind: type[Fault], message: str, remedy: str | None
) -> None:
    said = str(kind(message, remedy=remedy))
    assert said.isprintable()
    assert printable(said) == said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"), ("a\nb\t", r"a\nb\t"), ("\ud800", r"\ud800"),
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"), ("\N{RIGHT-TO-LEFT OVERRIDE}", r"\u202e"),
    ],
)  # fmt: skip
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
