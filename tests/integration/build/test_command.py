"""``isoscope image build`` as users type it: words, files, statuses, signals."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.build.workplace import MARK, Workplace, isoscope, processes

from runtime.image import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_names_files_and_json(workplace: Workplace, command: Command, tmp_path: Path) -> None:
    workplace.write("Dockerfile", "FROM busybox\nLABEL a=b\n")
    iid = tmp_path / "iid"
    done = command(
        "-t", "cmd/one", "-t", "cmd/two:3", "--label", "c=d", "--iidfile", str(iid), "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["references"] == ["cmd/one:latest", "cmd/two:3"]
    assert iid.read_text() == said["digest"]
    image = Store().resolve("cmd/two:3")
    assert image.digest == said["digest"]
    assert image.config.labels == {"a": "b", "c": "d"}


def test_the_file_comes_from_elsewhere_or_from_standard_input(
    workplace: Workplace, command: Command
) -> None:
    workplace.write("sub/Other", "FROM busybox\nCOPY . /all\n")
    workplace.write("sub/Other.dockerignore", "sub\nhidden\n!hidden/shown\n")
    workplace.write(".dockerignore", "*\n")
    workplace.write("hidden/secret")
    workplace.write("hidden/shown")
    done = command("-t", "other", "-q", "-f", str(workplace.context / "sub/Other"))
    assert (done.returncode, done.stderr) == (0, "")
    tree = workplace.tree(Store().resolve("other"))
    assert sorted(str(p.relative_to(tree / "all")) for p in (tree / "all").rglob("*")) == [
        ".dockerignore", "hidden", "hidden/shown",
    ]  # fmt: skip
    done = command("-q", "-f", "-", stdin="FROM busybox\nCOPY .dockerignore /x\n")
    assert done.returncode == 125
    assert (
        "standard input:2: '.dockerignore' is not in the build context: .dockerignore hides it"
        in done.stderr
    )


def test_explain_builds_nothing(workplace: Workplace, command: Command) -> None:
    workplace.write("Dockerfile", "FROM busybox\nRUN exit 1\n")
    done = command("--explain")
    assert done.returncode == 0
    assert "RUN exit 1" in done.stdout


def test_a_failed_run_has_a_status_of_its_own(workplace: Workplace, command: Command) -> None:
    workplace.write("Dockerfile", "FROM busybox\nRUN echo said; exit 3\n")
    done = command("--progress", "quiet", "-t", "never-made")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "[2/2] RUN echo said; exit 3 failed with exit status 3" in done.stderr
    assert "  | said\n" in done.stderr
    enter = next(line for line in done.stderr.splitlines() if "isoscope run" in line)
    words = enter.partition("isoscope ")[2].split()
    inside = subprocess.run(
        isoscope(*words, "-c", "echo inside"), capture_output=True, text=True, check=False
    )
    assert inside.stdout == "inside\n"
    assert "never-made" not in {name for i in Store().images() for name in i.references}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--secret", "src=x"], "has no id"),
        (["--secret", "id=a,src=/no/such"], "cannot read the secret 'a' in '/no/such'"),
        (["--label", "=x"], "has no name"),
        (["-t", "a@sha256:" + "0" * 64], "has a digest"),
        (["--iidfile", "/no/such/folder"], "cannot write '/no/such/folder'"),
        (["-t", "UPPER"], "is no image reference"),
        (["--target", "none"], "no stage|none"),
        (["-f", "/no/such"], "cannot read the Dockerfile '/no/such'"),
        (["--build-arg", "SOURCE_DATE_EPOCH=soon"], "SOURCE_DATE_EPOCH 'soon' is no time"),
        (["--platform", "linux/s390x"], "is for linux/.*, not for linux/s390x"),
    ],
)
def test_wrong_words_are_one_line(
    workplace: Workplace, command: Command, words: list[str], why: str
) -> None:
    workplace.write("Dockerfile", "FROM busybox\n")
    done = command(*words)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 125, done.stderr
    assert re.search(why, last), last


@pytest.mark.parametrize("words", [["--build-arg", "=x", "."], ["--nonsense", "."], []])
def test_wrong_usage_is_one_line_too(words: list[str]) -> None:
    done = subprocess.run(
        isoscope("image", "build", *words), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "try 'isoscope image build --help'" in done.stderr


def test_progress_as_json_and_plain(workplace: Workplace, command: Command) -> None:
    workplace.write("Dockerfile", "FROM busybox\nRUN printf 'a\\033[1mb\\nc'\n")
    events = [json.loads(line) for line in command("--progress", "json").stderr.splitlines()]
    assert [event["event"] for event in events if event["vertex"] == 2] in (
        ["begun", "output", "done"], ["begun", "output", "output", "done"],
    )  # fmt: skip
    plain = command("--progress", "plain", "--no-cache").stderr
    lines = [line.split(maxsplit=2)[-1] for line in plain.splitlines() if line.startswith("#2 0")]
    assert lines == ["a\\x1b[1mb", "c"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_a_cache_and_nothing_else(
    workplace: Workplace, number: signal.Signals
) -> None:
    first = f"RUN echo finished-{number} > /first"
    workplace.write(
        "Dockerfile",
        f"FROM busybox\n{first}\nRUN --mount=type=tmpfs,target=/t "
        f"echo waiting; sleep 1000 # {MARK}\n",
    )
    process = subprocess.Popen(
        isoscope("image", "build", "--progress", "plain", str(workplace.context)),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(" waiting\n"):
            break
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in {130, 143, -signal.SIGKILL}
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    left = list(Store().root.parent.glob("instances/*"))
    while left and time.monotonic() < deadline:  # the worker of a killed build cleans up after it
        time.sleep(0.02)
        left = list(Store().root.parent.glob("instances/*"))
    assert not left
    assert not processes(MARK)
    workplace.write("Dockerfile", f"FROM busybox\n{first}\n")
    again = subprocess.run(
        isoscope("image", "build", "--progress", "plain", str(workplace.context)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{first}  CACHED" in again.stderr


def test_a_killed_worker_is_told_and_leaves_nothing(workplace: Workplace) -> None:
    workplace.write("Dockerfile", f"FROM busybox\nRUN echo waiting; sleep 1000 # {MARK}\n")
    process = subprocess.Popen(
        isoscope("image", "build", "--progress", "plain", str(workplace.context)),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(" waiting\n"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 125
    assert "was ended from outside" in said
    subprocess.run(isoscope("run", "busybox", "true"), check=True)  # which sweeps
