"""How little memory a machine can do with: found by trying, between what is too little and enough.

The answer is the smallest size, in whole MiB, with which a machine of the image boots and the
command ends with 0, twice in a row; every smaller size that was tried failed. Size is what the
machine is given (QEMU's ``-m``): the guest's kernel, our program and the command all live in it.
A size is taken to fail when the guest gives up, or has not ended in a multiple of the time that
the largest size took: a kernel without memory often says nothing any more.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vmbackend.errors import DeadlineError, EngineError, GuestError, MachineError
from vmbackend.machine import machine
from vmbackend.parts import parts_of
from vmbackend.spec import MIB, MachineSpec

DEFINITION = (
    "the smallest memory of the machine, in MiB, with which it boots and the command ends with 0,"
    " twice in a row"
)
SMALLEST_TRIED_MIB = 16
"""Of which no cloud kernel would find room for itself."""

_SLOWER = 3
_AT_LEAST_S = 5.0
_FIRST_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """A machine with so much memory, and what became of it: ``failure`` is "" if it worked."""

    memory_mib: int
    failure: str
    duration_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer, in the order of the tries that led to it."""

    memory_mib: int
    tries: tuple[Try, ...]
    accelerator: str
    kernel_release: str


def min_memory(spec: MachineSpec, *, told: Callable[[Try], None] = lambda _: None) -> Found:
    """The least memory that *spec* can do with, its own size being what surely suffices.

    *told* is given each try when it is over. Raises MachineError if that size does not suffice,
    and as ``machine`` does for what memory has nothing to do with.
    """
    most_mib = spec.memory_bytes // MIB
    if most_mib <= SMALLEST_TRIED_MIB:
        raise MachineError(
            f"no kernel finds room for itself in {most_mib} MiB",
            remedy=f"give --most more than {SMALLEST_TRIED_MIB}m",
        )
    tries: list[Try] = []
    seen = {"accelerator": "", "kernel": parts_of(spec).kernel.release}

    def works(memory_mib: int) -> bool:
        limit_s = _limit_s(tries)
        done, accelerator = _tried(spec, memory_mib, limit_s)
        seen["accelerator"] = accelerator or seen["accelerator"]
        tries.append(done)
        told(done)
        return not done.failure

    if not works(most_mib):
        raise MachineError(
            f"it does not even run with {most_mib} MiB: {tries[0].failure}",
            remedy="give it more with --most, or another command",
        )
    least_mib = smallest(works, below=SMALLEST_TRIED_MIB, enough=most_mib)
    return Found(
        memory_mib=least_mib,
        tries=tuple(tries),
        accelerator=seen["accelerator"],
        kernel_release=seen["kernel"],
    )


def smallest(works: Callable[[int], bool], *, below: int, enough: int) -> int:
    """The smallest number that *works*, asked twice, above *below*; *enough* is known to.

    By bisection, then upwards while the second answer is another than the first. Pure but for
    what *works* does.
    """
    while enough - below > 1:
        middle = (below + enough) // 2
        if works(middle):
            enough = middle
        else:
            below = middle
    return next(number for number in _upwards(enough) if works(number))


def _upwards(number: int) -> Iterator[int]:
    while True:
        yield number
        number += 1


def _limit_s(tries: list[Try]) -> float:
    """For boot and command together: more than what sufficed with the most memory."""
    if not tries:
        return _FIRST_LIMIT_S
    return max(_AT_LEAST_S, _SLOWER * tries[0].duration_ns / 1e9)


def _tried(spec: MachineSpec, memory_mib: int, limit_s: float) -> tuple[Try, str | None]:
    start_ns = time.monotonic_ns()
    accelerator = None
    try:
        asked = replace(spec, memory_bytes=memory_mib * MIB, is_trial=True)
        with machine(asked, boot_limit_s=limit_s) as guest:
            accelerator = guest.accelerator.name
            left_s = limit_s - (time.monotonic_ns() - start_ns) / 1e9
            status = guest.wait(timeout_s=max(left_s, 1.0)).exit_status
        failure = f"the command ended with {status}" if status else ""
    except (DeadlineError, EngineError, GuestError) as error:
        failure = error.message
    duration_ns = time.monotonic_ns() - start_ns
    return Try(memory_mib=memory_mib, failure=failure, duration_ns=duration_ns), accelerator
