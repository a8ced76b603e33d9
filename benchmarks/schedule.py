"""Who is measured when: randomised complete blocks. Pure.

A block is one pass in which every workload meets every label once. Inside a block the workloads
come in random order, and under each workload the labels do, back to back: what is compared stays
close in time, and no label is always first. Each block draws from a stream of its own, so a longer
schedule begins with the shorter one and a resumed run continues the order it was planned with.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One instance to measure. ``order``, the place inside the block, counts from 1.

    ``block`` does so, too; 0 is the warm-up.
    """

    block: int
    order: int
    label: str
    workload: str


def schedule(
    labels: Sequence[str], workloads: Sequence[str], blocks: int, seed: int
) -> tuple[Cell, ...]:
    """Every cell in the order of measuring; the same arguments give the same order anywhere.

    Raises ValueError if a name stands twice or *blocks* is negative.
    """
    if len(set(labels)) != len(labels) or len(set(workloads)) != len(workloads):
        raise ValueError("a label or a workload stands twice in the schedule")
    if blocks < 0:
        raise ValueError(f"a schedule cannot have {blocks} blocks")
    return tuple(
        cell for block in range(1, blocks + 1) for cell in _block(labels, workloads, block, seed)
    )


def warm_up(labels: Sequence[str], workloads: Sequence[str], seed: int) -> tuple[Cell, ...]:
    """Block 0: every workload meets every label once, and nothing of it counts."""
    return _block(labels, workloads, 0, seed)


def _block(
    labels: Sequence[str], workloads: Sequence[str], block: int, seed: int
) -> tuple[Cell, ...]:
    # Seeding with text goes through SHA-512: neighbouring blocks get unrelated streams.
    stream = random.Random(f"{seed}/{block}")  # noqa: S311 - an order to reproduce, not a secret
    pairs = [
        (label, workload)
        for workload in stream.sample(workloads, len(workloads))
        for label in stream.sample(labels, len(labels))
    ]
    return tuple(
        Cell(block=block, order=order, label=label, workload=workload)
        for order, (label, workload) in enumerate(pairs, start=1)
    )
