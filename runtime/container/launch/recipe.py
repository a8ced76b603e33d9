"""How a C program of ours is compiled, and what it is called then: by all that it is made of.

Light, so that who finds the executor made need not load what makes it.
"""

from collections.abc import Mapping

EXECUTOR = __file__.rpartition("/")[0] + "/executor.c"
FLAGS: Mapping[str, tuple[str, ...]] = {"x86_64": ("-fcf-protection=none",), "aarch64": ()}
"""By machine, as uname(2) names it."""
ALL_FLAGS = (
    "-std=gnu11", "-O2", "-s", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
    "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,-z,noseparate-code",
)  # fmt: skip


def program_name(source: str, machine: str) -> str:
    """What *source* is called when compiled for *machine*: it changes with source and flags."""
    try:
        # The whole of hashlib takes ten times as long.
        from _sha256 import sha256  # type: ignore[import-not-found] # noqa: PLC0415
    except ImportError:  # since Python 3.12 it has another name
        from hashlib import sha256  # noqa: PLC0415

    recipe = sha256("\0".join((machine, *ALL_FLAGS, *FLAGS.get(machine, ()))).encode())
    with open(source, "rb") as file:  # noqa: PTH123 - without pathlib
        recipe.update(file.read())
    stem = source.rpartition("/")[2].removesuffix(".c")
    return f"{stem}-{recipe.hexdigest()[:32]}"
