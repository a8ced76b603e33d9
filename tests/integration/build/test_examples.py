"""The examples, built as their comments say, run in a container and in a machine."""

import re
import subprocess
from pathlib import Path

import pytest
from integration.build.workplace import ROOT, Workplace, isoscope

from vmbackend.probe import probe

EXAMPLES = {
    "multi-stage": "primes: 2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 \n",
    "here-documents": "hello, reader: 1 2 3 \n",
    "cache-mount": "alpha 6006ed2637fbef1f\nbeta 82a61610c8822f98\n",
}
EVERYTHING = """
FROM busybox
COPY --from=primes / /multi-stage
COPY --from=greeting / /here-documents
COPY --from=digests / /cache-mount
"""


def _commands(name: str) -> list[list[str]]:
    """What the comment at the top of an example says to type."""
    text = (ROOT / "examples" / name / "Dockerfile").read_text()
    return [line.split() for line in re.findall(r"^#   isoscope (.*)$", text, re.MULTILINE)]


def _said(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        isoscope(*words), capture_output=True, text=True, check=False, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_says_in_a_container_what_it_should(workplace: Workplace) -> None:
    assert {path.name for path in (ROOT / "examples").iterdir()} == {*EXAMPLES}
    for name, output in EXAMPLES.items():
        build, run, *_ = _commands(name)
        assert build[:3] == ["image", "build", "-t"]
        _said(*build)
        assert _said(*run) == output
    changed = workplace.context / "cache-mount"
    changed.mkdir()
    for path in (ROOT / "examples/cache-mount").iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    (changed / "wanted.txt").write_text("beta\ngamma\n")
    built = subprocess.run(
        isoscope("image", "build", str(changed)), capture_output=True, text=True, check=True
    )
    assert re.findall(r"making (\w+)", built.stderr) == ["gamma"]


@pytest.mark.slow
def test_all_say_the_same_in_a_machine(workplace: Workplace) -> None:
    if (why := probe()) is not None:
        pytest.skip("; ".join(why))
    for name in EXAMPLES:
        _said(*_commands(name)[0])
    workplace.write("Dockerfile", EVERYTHING)
    _said("image", "build", "-t", "everything", str(workplace.context))
    script = "; ".join(
        f"chroot /{name} sh -c '{command}'"
        for name, command in [
            ("multi-stage", "show"), ("here-documents", "greet"),
            ("cache-mount", "cat /digests/all.txt"),
        ]
    )  # fmt: skip
    expected = "".join(EXAMPLES.values())
    assert _said("run", "everything", "sh", "-c", script) == expected
    assert _said("run", "--on", "vm", "everything", "sh", "-c", script) == expected
