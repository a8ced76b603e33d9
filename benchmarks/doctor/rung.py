"""A rung of the whole ladder: an engine's, with the part of the ladder that it stands in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What was tried, what came of it, how to have it, and what is lost without it.

    ``ok`` is None for what was not tried, because an earlier rung failed or because nothing
    needs it; ``found`` says which. ``costs`` names backends, verbs and options. The rung that is
    named like its part is a backend as a whole.
    """

    part: str
    name: str
    ok: bool | None
    found: str
    remedy: str | None = None
    costs: tuple[str, ...] = ()
