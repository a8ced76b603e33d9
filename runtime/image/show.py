"""How images are shown in a terminal: aligned columns, plain sizes, nothing that steers it."""

import re
import sys
from collections.abc import Sequence

from runtime.fault import printable

_UNITS = ("kB", "MB", "GB", "TB", "PB")
_SIZE = re.compile(r"[0-9.]+ (B|[kMGTP]B)")


def path_text(path: bytes) -> str:
    """A path of an image, which may be any bytes."""
    return printable(path.decode("utf-8", "backslashreplace"))


def amount(size_bytes: int) -> str:
    """A size in three digits, with decimal units as image tools use them."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, power = size_bytes / 1000, 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[power]}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """*rows*, the first of them headings, in columns as wide as they need; numbers to the right.

    What stands in them must be printable.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(map(_is_size, column[1:])) for column in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def say(line: str) -> None:
    """Print *line*."""
    sys.stdout.write(f"{line}\n")


def tell(line: str) -> None:
    """Print *line* where it is not taken for the result."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _is_size(cell: str) -> bool:
    return cell in {"", "-"} or cell.isdigit() or _SIZE.fullmatch(cell) is not None
