import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.errors import JournalError, ResultsError
from benchmarks.journal import Journal
from benchmarks.results import (
    Arm,
    InstanceKey,
    Limits,
    Metric,
    Plan,
    Run,
    Sample,
    Workload,
    read_run,
    write_run,
)

METRICS = tuple(
    Metric(
        name=name,
        unit="ns",
        direction="lower",
        start=None,
        stop=None,
        method="m",
        title=name,
    )
    for name in ("boot.first_output", "boot.exit")
)
RUN = Run(
    run="r1",
    suite="s",
    plan=Plan(
        backends=(Arm(label="host", backend="host", accelerator=None, note=None),),
        workloads=(Workload(name="boot", argv=(), metrics=METRICS),),
        blocks=3,
        seed=7,
        order="o",
    ),
    images={},
    preparations=(),
    cache_state="warm",
    boot_profile="minimal",
    limits=Limits(cpus=None, memory_bytes=None),
    versions={},
    environment={},
    accelerators={},
    skipped=(),
    command=(),
    started_at="2026-11-23T10:00:00+00:00",
    ended_at=None,
    outcome="running",
)


def rows(block: int, *, attempt: int = 1) -> list[Sample]:
    return [
        Sample(
            run="r1",
            block=block,
            order=1,
            label="host",
            backend="host",
            accelerator=None,
            workload="boot",
            instance=f"i{block}-{attempt}",
            attempt=attempt,
            warmup=False,
            image="sha256:00",
            metric=metric.name,
            value=1,
            unit="ns",
            method="m",
            status="ok",
            error=None,
            at_ns=block,
            phases={"request": 0} if metric is METRICS[0] else None,
        )
        for metric in METRICS
    ]


def key(block: int, attempt: int = 1) -> InstanceKey:
    return InstanceKey(block, "host", "boot", attempt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path, RUN)
    return tmp_path


def journal_bytes(folder: Path) -> bytes:
    return (folder / "samples.jsonl").read_bytes()


def test_what_was_appended_is_read_and_done(folder: Path) -> None:
    with Journal(folder, "r1") as journal:
        assert journal.done() == set()
        journal.append(rows(1))
        journal.append(rows(1, attempt=2))
        assert journal.done() == {key(1), key(1, 2)}
    assert read_run(folder).samples == (*rows(1), *rows(1, attempt=2))


def test_a_resumed_journal_knows_what_is_done(folder: Path) -> None:
    with Journal(folder, "r1") as journal:
        journal.append(rows(1))
    with Journal(folder, "r1") as journal:
        assert journal.done() == {key(1)}
        journal.append(rows(2))
    assert read_run(folder).samples == (*rows(1), *rows(2))


def test_rows_of_a_failure_count_as_done(folder: Path) -> None:
    failed = [replace(row, value=None, status="failed", error="EIO") for row in rows(1)]
    with Journal(folder, "r1") as journal:
        journal.append(failed)
        assert journal.done() == {key(1)}


def test_an_instance_that_owes_a_row_is_not_done(folder: Path) -> None:
    with Journal(folder, "r1") as journal:
        journal.append(rows(1)[:1])
        assert journal.done() == set()


@pytest.mark.parametrize("cut", range(1, 500, 41))
def test_resuming_cuts_a_torn_instance_away_wherever_it_tore(folder: Path, cut: int) -> None:
    torn = b"".join(row.line() for row in rows(2))
    assert len(torn) > 500
    with Journal(folder, "r1") as journal:
        journal.append(rows(1))
    whole = journal_bytes(folder)
    (folder / "samples.jsonl").write_bytes(whole + torn[:cut])
    with Journal(folder, "r1") as journal:
        assert journal.done() == {key(1)}
        assert journal_bytes(folder) == whole
        journal.append(rows(2))
    assert read_run(folder).samples == (*rows(1), *rows(2))


def test_a_first_row_alone_is_cut_when_it_is_the_tail(folder: Path) -> None:
    (folder / "samples.jsonl").write_bytes(rows(1)[0].line())
    with Journal(folder, "r1") as journal:
        assert journal.done() == set()
    assert journal_bytes(folder) == b""


def test_resuming_refuses_a_malformed_journal_and_leaves_it(folder: Path) -> None:
    content = b"garbage\n" + rows(1)[0].line()
    (folder / "samples.jsonl").write_bytes(content)
    with pytest.raises(ResultsError, match="line 1"), Journal(folder, "r1"):
        pass
    assert journal_bytes(folder) == content


def test_the_journal_of_another_run_is_refused(folder: Path) -> None:
    with pytest.raises(JournalError, match="holds run 'r1', not 'r2'"), Journal(folder, "r2"):
        pass


def test_rows_of_two_instances_or_twice_the_same_are_refused(folder: Path) -> None:
    with Journal(folder, "r1") as journal:
        with pytest.raises(ResultsError, match="not those of one instance"):
            journal.append([*rows(1), *rows(2)])
        with pytest.raises(ResultsError, match="not those of one instance"):
            journal.append([])
        journal.append(rows(1))
        with pytest.raises(ResultsError, match="stands twice"):
            journal.append(rows(1))
    assert read_run(folder).samples == tuple(rows(1))


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Files end here for this process, as on a full disk; Python ignores SIGXFSZ already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 1, 300])
def test_a_full_disk_keeps_what_was_there_and_takes_nothing_by_halves(
    folder: Path, room_bytes: int
) -> None:
    with Journal(folder, "r1") as journal:
        journal.append(rows(1))
        before = journal_bytes(folder)
        with (
            file_size_limit(len(before) + room_bytes),
            pytest.raises(JournalError, match=r"samples\.jsonl cannot be written: .*; .*"),
        ):
            journal.append(rows(2))
        assert journal_bytes(folder) == before
        assert journal.done() == {key(1)}
        journal.append(rows(2))
    assert read_run(folder).samples == (*rows(1), *rows(2))


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.journal import Journal
from benchmarks.results import Sample

template = [Sample.parse(line) for line in sys.stdin.buffer.read().splitlines()]
with Journal(Path(sys.argv[1]), "r1") as journal:
    block = 0
    while True:
        block += 1
        journal.append([replace(row, block=block) for row in template])
        print(block, flush=True)
"""


def test_nothing_that_was_appended_is_lost_by_a_kill(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(b"".join(row.line() for row in rows(1)))
        writer.stdin.close()
        for _ in range(20):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        reported = 20 + len(writer.stdout.read().split())
    with Journal(folder, "r1") as journal:
        done = {instance.block for instance in journal.done()}
    assert done >= set(range(1, reported + 1))
    assert len(done) <= reported + 1
