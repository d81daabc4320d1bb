"""What all pictures have in common: their files, and their colours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bnfold.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS: Final = (".svg", ".png")

INK, PALE, GRID, BAND = "#222222", "#666666", "#e3e3e3", "#f6f6f6"
# Of Okabe and Ito, which differ for colour-blind eyes, too.
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#5f5f5f"

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


def shortened(name: str, most: int) -> str:
    """A name in so many letters: its beginning and its end."""
    plain = " ".join(name.split())
    end = (most - 5) * 2 // 3
    return plain if len(plain) <= most else f"{plain[: most - 5 - end]} ... {plain[-end:]}"
