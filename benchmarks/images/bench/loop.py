"""A loop of integer arithmetic in the interpreter: bytecode and nothing else.

Prints the lines that gauge.h describes.
"""

from time import perf_counter_ns

ENOUGH_NS = 100_000_000


def loop(units: int) -> int:
    """A linear congruential generator, *units* steps."""
    state = 1
    for _ in range(units):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return state


def main() -> None:
    """Climb the ladder; the state after 1000 steps is the check."""
    print("read state", loop(1000))
    units = 1
    while True:
        start = perf_counter_ns()
        loop(units)
        took = perf_counter_ns() - start
        if took >= ENOUGH_NS:
            break
        units *= 4
    print("work loop", units, took)


main()
