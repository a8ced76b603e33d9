"""How ``executor.c`` is compiled, and what the result is called: by all that it is made of.

Light, so that who finds the executor made need not load what makes it.
"""

from collections.abc import Mapping

SOURCE = __file__.rpartition("/")[0] + "/executor.c"
FLAGS: Mapping[str, tuple[str, ...]] = {"x86_64": ("-fcf-protection=none",), "aarch64": ()}
"""By machine, as uname(2) names it."""
ALL_FLAGS = (
    "-std=gnu11", "-O2", "-s", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
    "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,-z,noseparate-code",
)  # fmt: skip


def executor_name(machine: str) -> str:
    """The name of the executor's file for *machine*, which changes with its source and flags."""
    try:
        # The whole of hashlib takes ten times as long.
        from _sha256 import sha256  # type: ignore[import-not-found] # noqa: PLC0415
    except ImportError:  # since Python 3.12 it has another name
        from hashlib import sha256  # noqa: PLC0415

    recipe = sha256("\0".join((machine, *ALL_FLAGS, *FLAGS.get(machine, ()))).encode())
    with open(SOURCE, "rb") as source:  # noqa: PTH123 - without pathlib
        recipe.update(source.read())
    return f"executor-{recipe.hexdigest()[:32]}"
