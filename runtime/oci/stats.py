"""What a container's control groups count, under the names of runc's events."""

import os


def stats(places: list[str]) -> dict[str, object]:
    """Memory, cpu and processes; what no file tells is left out."""
    memory = {
        "usage": _number(places, "memory.usage_in_bytes", "memory.current"),
        "max": _number(places, "memory.max_usage_in_bytes", "memory.peak"),
        "limit": _number(places, "memory.limit_in_bytes", "memory.max"),
    }
    used_us = _v2_cpu(places)
    used_ns = _number(places, "cpuacct.usage") if used_us is None else used_us * 1000
    return {
        "memory": {"usage": {k: v for k, v in memory.items() if v is not None}},
        "cpu": {"usage": {} if used_ns is None else {"total": used_ns}},
        "pids": {"current": _number(places, "pids.current")},
    }


def _v2_cpu(places: list[str]) -> int | None:
    for place in places:
        if os.path.exists(f"{place}/cgroup.controllers"):
            with open(f"{place}/cpu.stat", encoding="ascii") as file:
                return next((int(w.split()[1]) for w in file if w.startswith("usage_usec")), None)
    return None


def _number(places: list[str], *files: str) -> int | None:
    for place in places:
        for name in files:
            try:
                with open(f"{place}/{name}", encoding="ascii") as file:
                    word = file.read().strip()
            except OSError:
                continue
            return int(word) if word.isdecimal() else None
    return None
