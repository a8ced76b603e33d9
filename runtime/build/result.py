"""How a build ends: an image, or the step that failed with all that helps to mend it."""

from dataclasses import dataclass

from runtime.build.progress import harmless, one_line
from runtime.errors import BuildError

FAILED = 1
"""The exit status of a build of which a step failed, as docker's; 125 is a failure of ours."""

LAST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A RUN that ended with *status*; *image* is the digest of the state before it, if any."""

    file: str
    line: int
    text: str
    label: str
    status: int
    output: bytes
    image: str | None


class StepFailed(BuildError):  # noqa: N818 - the step failed, we did not
    """A RUN ended with another status than 0."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            f"{failure.file}:{failure.line}: {one_line(failure.text)}"
            f" ended with status {failure.status}",
            line=failure.line,
        )
        self.failure = failure

    def told(self) -> str:
        """Everything: the step, its line, the end of its output, the way into the state before."""
        failure = self.failure
        lines = failure.output.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        while lines and not lines[-1]:
            lines.pop()
        parts = [f"{failure.label} failed with exit status {failure.status}"]
        if lines:
            shown = lines[-LAST_LINES:]
            parts.append("the end of its output:")
            parts += [f"  | {harmless(line.rpartition(chr(13))[2])}" for line in shown]
        parts.append(f"{failure.file}, line {failure.line}: {one_line(failure.text)}")
        if failure.image is not None:
            digits = failure.image.removeprefix("sha256:")[:12]
            parts.append(f"the state before it is kept: isoscope run {digits} sh")
        return "\n".join(parts)
