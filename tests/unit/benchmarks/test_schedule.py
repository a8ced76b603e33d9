from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.schedule import schedule

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)
seeds = st.integers(-(2**40), 2**40)


@given(names, names, st.integers(0, 6), seeds)
def test_every_block_is_complete(
    labels: list[str], workloads: list[str], blocks: int, seed: int
) -> None:
    cells = schedule(labels, workloads, blocks, seed)
    for block in range(1, blocks + 1):
        mine = [cell for cell in cells if cell.block == block]
        assert Counter((cell.label, cell.workload) for cell in mine) == Counter(
            (label, workload) for label in labels for workload in workloads
        )
        assert [cell.order for cell in mine] == list(range(1, len(mine) + 1))
    assert len(cells) == blocks * len(labels) * len(workloads)


@given(names, names, st.integers(0, 5), st.integers(0, 5), seeds)
def test_more_blocks_keep_the_earlier_ones(
    labels: list[str], workloads: list[str], blocks: int, more: int, seed: int
) -> None:
    short = schedule(labels, workloads, blocks, seed)
    assert schedule(labels, workloads, blocks + more, seed)[: len(short)] == short


def test_the_labels_of_a_workload_stay_back_to_back() -> None:
    cells = schedule(["a", "b", "c"], ["x", "y", "z"], 20, 1)
    for _, block in groupby(cells, key=lambda cell: cell.block):
        assert len([key for key, _ in groupby(block, key=lambda cell: cell.workload)]) == 3


def test_every_order_comes_about_equally_often() -> None:
    cells = schedule(["a", "b", "c"], ["x"], 3000, 5)
    orders = Counter(
        "".join(cell.label for cell in block)
        for _, block in groupby(cells, key=lambda cell: cell.block)
    )
    assert len(orders) == 6
    assert min(orders.values()) > 420  # 500 expected; 80 is four standard deviations
    assert max(orders.values()) < 580


def test_the_order_is_the_same_on_every_machine() -> None:
    told = [
        (cell.label, cell.workload) for cell in schedule(["host", "vm"], ["boot", "idle"], 1, 7)
    ]
    assert told == [("host", "boot"), ("vm", "boot"), ("vm", "idle"), ("host", "idle")]


def test_another_seed_is_another_order() -> None:
    assert schedule(["a", "b", "c"], ["x"], 30, 1) != schedule(["a", "b", "c"], ["x"], 30, 2)


@pytest.mark.parametrize(
    ("labels", "workloads", "blocks"),
    [(["a", "a"], ["x"], 1), (["a"], ["x", "x"], 1), (["a"], ["x"], -1)],
)
def test_what_cannot_be_scheduled_is_refused(
    labels: list[str], workloads: list[str], blocks: int
) -> None:
    with pytest.raises(ValueError, match=r"twice|cannot have"):
        schedule(labels, workloads, blocks, 1)
