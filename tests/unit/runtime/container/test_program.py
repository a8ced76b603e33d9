import struct
from pathlib import Path

import pytest

from runtime.container.launch import interpreter, program
from runtime.container.launch.program import assemble, read_report
from runtime.container.steps import Plan, Slot, Step
from runtime.errors import SpecError, StepError


def made(*steps: Step, join: tuple[Step, ...] = ()) -> program.Program:
    return assemble(Plan(clone_flags=0, inside=steps, join=join), "x86_64")


def records(made_of: program.Program) -> list[tuple[int, ...]]:
    """Each record: number, step, six arguments, six slots, opens, skip, three errnos, …"""
    _, _, joins, insides, *_ = struct.unpack_from("=8s7Q", made_of.image)
    at, size = program._HEADER.size, program._RECORD.size
    return [
        program._RECORD.unpack_from(made_of.image, at + size * i) for i in range(joins + insides)
    ]


def test_both_executors_know_the_same_calls() -> None:
    assert set(program._CALLS) == set(interpreter._CALLS)


def test_a_file_that_may_be_missing_is_passed_over_whole() -> None:
    made_of = made(Step("write", ("/x", "1"), "a", allow=frozenset({2})), Step("setsid", (), "b"))
    opening, writing, closing, after = records(made_of)
    assert [r[1] for r in (opening, writing, closing, after)] == [0, 0, 0, 1]
    assert opening[15] == 2
    assert writing[15] == closing[15] == 0
    assert 2 in opening[16:19]


def test_more_errnos_than_a_record_holds_are_refused() -> None:
    with pytest.raises(struct.error):
        made(Step("setsid", (), "a", allow=frozenset({1, 2, 3, 4})))


def test_a_descriptor_that_nothing_opened_is_refused() -> None:
    with pytest.raises(KeyError):
        made(Step("close", (Slot("nothing"),), "a"))


def test_what_was_opened_before_a_failure_is_closed() -> None:
    opened: list[int] = []
    steps = (
        Step("openat2", (-100, "/", 0, 0), "a", opens="one"),
        Step("openat2", (-100, "/", 0, 0), "b", opens="two"),
        Step("close", (Slot("one"),), "c"),
        Step("chdir", ("/no-such-directory",), "d"),
    )
    before = _descriptors()
    with pytest.raises(StepError, match="step 3"):
        interpreter.run_steps(steps, returned=lambda _: opened.append(_descriptors()))
    assert [count - before for count in opened] == [1, 2, 1]
    assert _descriptors() == before


def _descriptors() -> int:
    """How many are open, the one by which they are counted included."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError):
        assemble(Plan(clone_flags=0, inside=()), "riscv64")


def test_room_to_read_into_is_shared_with_no_string() -> None:
    made_of = made(
        Step("chdir", ("",), "an empty string"), Step("read", (Slot("gate"), 1), "one byte")
    )
    (empty, reading) = records(made_of)
    assert empty[2] != reading[3]


def test_only_what_was_told_is_reported() -> None:
    made_of = made(Step("setsid", (), "a", phase="init"), Step("umask", (0,), "b"))
    untouched = read_report(made_of, made_of.image)
    assert (untouched.failure, untouched.marks_ns) == (None, {})
    told = bytearray(made_of.image)
    struct.pack_into("=3q", told, program._REPORT_AT, program.INSIDE, 1, 13)
    struct.pack_into("=Q", told, made_of.phases_at["init"], 77)
    report = read_report(made_of, bytes(told))
    assert (report.failure, report.marks_ns) == ((program.INSIDE, 1, 13), {"init": 77})


def test_more_descriptors_than_there_are_places_are_refused() -> None:
    opening = [Step("memfd_create", ("x", 1), "a", opens=f"s{number}") for number in range(256)]
    assert len(records(made(*opening[:255]))) == 255
    with pytest.raises(SpecError, match="255"):
        made(*opening)
