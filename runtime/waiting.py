"""Waits for descriptors by poll(2): select(2) takes none above 1023, of which many are had."""

import math
import select


def readable(*descriptors: int, timeout_s: float | None = None) -> frozenset[int]:
    """Those of *descriptors* that can be read or have ended; none if *timeout_s* passes first."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    limit_ms = None if timeout_s is None else math.ceil(max(timeout_s, 0) * 1000)
    return frozenset(descriptor for descriptor, _ in poller.poll(limit_ms))
