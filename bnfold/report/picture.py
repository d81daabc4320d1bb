"""What all pictures have in common: their files, their page, and their colours."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bnfold.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS: Final = (".svg", ".png")

INK, PALE, GRID, BAND = "#222222", "#666666", "#e3e3e3", "#f6f6f6"
# Of Okabe and Ito, which differ for colour-blind eyes, too.
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#5f5f5f"

# Sizes in inches.
WIDTH: Final = 9.0
"""Of a page."""
EDGE: Final = 0.3
"""Of a page, on which nothing is."""
_TITLE, _LINE, _SMALL_LINE, _AXIS = 0.34, 0.21, 0.165, 0.62

_DPI = 200


def require_plot(path: Path) -> None:
    """Refuse a picture that could not be drawn; better said before the work than after it.

    Raises:
        UsageError: the name ends otherwise than in ``.svg`` or ``.png``, or there is no
            matplotlib.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: the name has to end in .svg or .png")
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'bnfold[plot]'") from error


def drawn(figure: Callable[[], Figure], ending: str, title: str) -> bytes:
    """A figure as a file; the same bytes of SVG for the same figure and matplotlib.

    Args:
        figure: makes it, under the settings that it is drawn with.
        ending: ``.svg`` or ``.png``.
        title: in the metadata.
    """
    import matplotlib

    file = io.BytesIO()
    metadata: dict[str, Any] = {"Title": title}
    metadata |= {"Date": None} if ending == ".svg" else {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        matplotlib.rcdefaults()
        matplotlib.rc("font", family="DejaVu Sans")
        matplotlib.rc("svg", fonttype="path", hashsalt="bnfold")
        figure().savefig(file, format=ending[1:], dpi=_DPI, metadata=metadata)
    return file.getvalue()


class Page:
    """A page: a title, what is to be said first, room for panels, and how it came about below.

    Args:
        title: one line.
        said: is broken into lines.
        caption: paragraphs in small letters, each broken into lines.
        head: inches between what is said and the panels, for the heads of columns.
        inner: the height of the panels in inches.

    Attributes:
        figure: the page.
    """

    def __init__(
        self, title: str, said: str, caption: Iterable[str], *, head: float, inner: float
    ) -> None:
        from matplotlib.figure import Figure

        lines = textwrap.wrap(said, 108)
        small = [line for text in caption for line in textwrap.wrap(text, 134)]
        self._inner = inner
        self._bottom = EDGE + _TITLE + len(lines) * _LINE + head + inner
        self._height = self._bottom + _AXIS + len(small) * _SMALL_LINE + EDGE
        self.figure: Figure = Figure(figsize=(WIDTH, self._height), facecolor="white")
        self._write(EDGE, title, size=13, weight="bold", color=INK)
        for number, line in enumerate(lines):
            self._write(EDGE + _TITLE + number * _LINE, line, size=10, color=INK)
        for number, line in enumerate(small):
            at = self._bottom + _AXIS + number * _SMALL_LINE
            self._write(at, line, size=7.5, color=PALE)

    def panel(self, left: float, width: float) -> Axes:
        """A panel over the whole room for them.

        Args:
            left: from the left edge of the page to that of the panel, in inches.
            width: of the panel, in inches.
        """
        bottom = 1 - self._bottom / self._height
        box = (left / WIDTH, bottom, width / WIDTH, self._inner / self._height)
        return self.figure.add_axes(box)

    def _write(self, at: float, text: str, **look: Any) -> None:
        """Put a line so many inches below the upper edge."""
        x, y = EDGE / WIDTH, 1 - at / self._height
        self.figure.text(x, y, text, va="top", ha="left", parse_math=False, **look)


def shortened(name: str, most: int) -> str:
    """A name in so many letters: its beginning and its end."""
    plain = " ".join(name.split())
    end = (most - 5) * 2 // 3
    return plain if len(plain) <= most else f"{plain[: most - 5 - end]} ... {plain[-end:]}"
