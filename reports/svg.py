"""From a matplotlib figure to an svg element of a page. The only place that renders.

The same input gives the same bytes: no dates, ids from a fixed salt, numbers cut to a hundredth
of a point. Text stays text. What is drawn in INK takes the colour of the page's text, what is
drawn in a slot's colour that of the subject, so that a figure follows the page's theme.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn with this, an element takes the colour of the text around the figure."""
WIDTH_PT = 302.0
"""A phone's width in points: what fits there needs no second drawing for a desk."""
_SLOT = "#0a00{:02x}"
_POINTS_PER_INCH = 72
_NEEDLESS = r"<!--.*?-->|<defs>\s*<style[^>]*>.*?</style>\s*</defs>"

_RC: Any = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "isoscope",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "path.simplify": False,
    "text.parse_math": False,  # labels are a stranger's text, not formulas
}


def slot_colour(slot: int) -> str:
    """What to draw with so that the page's style sheet colours it: its variable ``--sN``."""
    return _SLOT.format(slot)


@contextmanager
def drawing(height_pt: float) -> Iterator["Figure"]:
    """A figure outside of pyplot: no global state, no display, nothing to close."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only a report should pay
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change a report's bytes
        mpl.rcParams.update(_RC)
        yield Figure(figsize=(WIDTH_PT / _POINTS_PER_INCH, height_pt / _POINTS_PER_INCH))


def as_svg(figure: "Figure", name: str, title: str) -> str:
    """The figure's svg element: no prologue, no network names, ids of its own, text as text."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font draws the text
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\sxmlns(?::xlink)?="[^"]*"', "", svg)
    svg = _lighter(svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"#0a00([0-9a-f]{2})", lambda found: f"var(--s{int(found[1], 16)})", svg)
    svg = svg.replace(INK, "currentColor")
    label = f'<svg role="img" aria-labelledby="{name}-title"'
    return svg.replace("<svg", label, 1).replace(
        ">", f'><title id="{name}-title">{html.escape(title)}</title>', 1
    )


def _lighter(svg: str) -> str:
    """Without what no browser needs: groups' ids, long decimals, xlink, empty space, defaults."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r'\sid="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = svg.replace("xlink:href", "href").replace("; stroke-linecap: butt", "")
    svg = re.sub(_NEEDLESS, "", svg, flags=re.DOTALL)
    svg = re.sub(r"(?<==\")[^\"<>]*\d\.\d{3,}[^\"<>]*(?=\")", _rounded, svg)
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r"\n(?=[LMCz] |[LMCz]\n)", "", svg)
    return re.sub(r"<g>\n</g>\n", "", svg)


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(
        r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."),
        attribute[0],
    )  # fmt: skip
