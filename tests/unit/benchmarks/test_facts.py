import hashlib

import pytest

from benchmarks.workloads import Facts, WorkloadFailed, between
from benchmarks.workloads.cpu_sha256 import CpuSha256
from benchmarks.workloads.facts import cpus, memory_bytes, of_kernel

NOTHING = dict.fromkeys(
    ("cpu_max", "quota_us", "period_us", "limit_v1", "limit_v2", "memory_kib", "nproc"), ""
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"nproc": "4"}, 4),
        ({"nproc": "4", "cpu_max": "max 100000"}, 4),
        ({"nproc": "4", "cpu_max": "150000 100000"}, 1.5),
        ({"nproc": "1", "cpu_max": "150000 100000"}, 1),
        ({"nproc": "4", "quota_us": "-1", "period_us": "100000"}, 4),
        ({"nproc": "4", "quota_us": "50000", "period_us": "100000"}, 0.5),
    ],
)
def test_cpus_are_what_may_be_used(said: dict[str, str], expected: float) -> None:
    assert cpus(NOTHING | said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, 1024000),
        ({"limit_v1": "9223372036854771712"}, 1024000),
        ({"limit_v1": "1000"}, 1000),
        ({"limit_v2": "max"}, 1024000),
        ({"limit_v2": "2000"}, 2000),
    ],
)
def test_memory_is_what_may_be_used(said: dict[str, str], expected: int) -> None:
    total = {"memory_kib": "MemTotal:        1000 kB"}
    assert memory_bytes(NOTHING | total | said) == expected


def test_another_meminfo_is_a_failure() -> None:
    with pytest.raises(WorkloadFailed, match="MemTotal is gone"):
        memory_bytes(NOTHING | {"memory_kib": "MemTotal is gone"})


def test_the_kernel_is_told_by_two_lines() -> None:
    facts: Facts = {}
    of_kernel(b"6.1.0\n01234567-89ab-cdef-0123-456789abcdef\nmore\n", facts)
    assert facts == {
        "kernel_release": "6.1.0", "boot_id": "01234567-89ab-cdef-0123-456789abcdef",
    }  # fmt: skip


@pytest.mark.parametrize("output", [b"", b"6.1.0\n", b"cat: no such file\nelse\n"])
def test_other_output_is_a_failure(output: bytes) -> None:
    with pytest.raises(WorkloadFailed):
        of_kernel(output, {})


def test_a_phase_that_was_not_seen_gives_no_value() -> None:
    assert between({"request": 0, "exit": 5}, "request", "exit").value == 5
    missing = between({"request": 0}, "request", "output")
    assert missing.value is None
    assert "output" in (missing.error or "")


def test_the_expected_digest_is_that_of_the_bytes() -> None:
    from benchmarks.workloads import cpu_sha256

    count = cpu_sha256._BYTES
    assert str(count) in CpuSha256.record.argv[-1]
    assert hashlib.sha256(bytes(count)).hexdigest() == cpu_sha256._SHA256
