import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbackend.errors import MachineError
from vmbackend.min_memory import min_memory, smallest
from vmbackend.spec import MIB, MachineSpec


@given(st.integers(16, 4000), st.integers(0, 4000))
def test_the_smallest_that_works_is_found_in_few_tries(below: int, further: int) -> None:
    """Whatever the threshold between *below* and *enough* is."""
    enough = below + 1 + further
    threshold = below + 1 + further // 3
    asked: list[int] = []

    def works(number: int) -> bool:
        asked.append(number)
        return number >= threshold

    assert smallest(works, below=below, enough=enough) == threshold
    assert len(asked) <= (further + 1).bit_length() + 1
    assert asked[-1] == threshold  # asked once more, at last


def test_a_size_that_worked_once_by_luck_is_left_for_the_next_that_works_twice() -> None:
    lucky = {70: [True, False], 71: [True]}

    def works(number: int) -> bool:
        return lucky[number].pop(0) if number in lucky else number > 71

    assert smallest(works, below=69, enough=72) == 71


@pytest.mark.parametrize("enough", [10, 16, 17])
def test_there_may_be_nothing_between(enough: int) -> None:
    assert smallest(lambda _: True, below=16, enough=enough) == enough


def test_what_no_kernel_fits_into_is_refused_before_anything_is_made() -> None:
    spec = MachineSpec(image="sha256:" + "0" * 64, memory_bytes=16 * MIB, is_trial=True)
    with pytest.raises(MachineError, match="in 16 MiB; give --most more than 16m"):
        min_memory(spec)
