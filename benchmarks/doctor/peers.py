"""The other programs that run images: which are installed, by what they say of themselves."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from benchmarks.doctor.rung import Rung

PEERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "runc": (("runc",), "runc"),
    "crun": (("crun",), "crun"),
    "bwrap": (("bwrap",), "bubblewrap"),
    "nspawn": (("systemd-nspawn",), "systemd-container"),
    "podman": (("podman",), "podman"),
    "docker": (("docker", "dockerd"), "docker.io"),
    "skopeo": (("skopeo",), "skopeo"),
}
"""Peer -> the programs it consists of, Debian's package."""

_COSTS = {"skopeo": ("images from elsewhere for peers",)}
_LIMIT_S = 5.0


def peer_rungs() -> Iterator[Rung]:
    """One for each; none is needed. A program that cannot tell its version counts as broken."""
    for peer, (programs, package) in PEERS.items():
        costs = _COSTS.get(peer, (peer,))
        lacking = [program for program in programs if shutil.which(program) is None]
        if lacking:
            found = "not installed" if lacking == list(programs) else f"without {lacking[0]}"
            remedy = f"apt-get install {package}"
            yield Rung(part="peers", name=peer, ok=None, found=found, remedy=remedy, costs=costs)
            continue
        yield _tried(peer, programs[-1], costs)


def _tried(peer: str, program: str, costs: tuple[str, ...]) -> Rung:
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_LIMIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        status, said, complaint = 1, "", str(error)
    else:
        status, said, complaint = done.returncode, done.stdout, done.stderr
    if status == 0:
        found = _version_in(said)
        return Rung(part="peers", name=peer, ok=True, found=found, costs=costs)
    last = (complaint.strip() or f"status {status}").splitlines()[-1]
    return Rung(
        part="peers",
        name=peer,
        ok=False,
        found=f"installed, but '{program} --version' fails: {last}",
        remedy=f"make '{program} --version' work in this shell",
        costs=costs,
    )


def _version_in(said: str) -> str:
    first = said.partition("\n")[0].strip()
    number = re.search(r"\d+(\.\d+)+[^\s,]*", first)
    return number[0] if number else first
