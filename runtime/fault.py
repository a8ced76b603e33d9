"""The one shape of every failure that people are shown, whichever package raises it.

Only a ``cli.main`` turns one into a line and an exit status (``runtime.commandline.ended_by``).
"""


class Fault(Exception):  # noqa: N818 - the base names a fault; its subclasses are the errors
    """A failure with one sentence for the user and, where there is one, the next thing to do."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """One line for a terminal: what a guest, an image or a file put into it cannot act."""
        return printable(self.message if self.remedy is None else f"{self.message}; {self.remedy}")

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the sentence alone."""
        return [f"isoscope: {self}"]


def printable(text: str) -> str:
    """*text* on one line without anything that could steer a terminal: escaped, not dropped.

    Twice gives the same as once. Unicode's controls, separators, formats (such as a change of the
    direction of writing) and lone surrogates are what is escaped.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
