"""What a figure of matplotlib shows."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    """Those that are not empty."""
    found = figure.findobj(Text)
    return [text for text in found if isinstance(text, Text) and text.get_text()]


def assert_nothing_is_cut_off_or_lies_on_another_text(figure: Figure) -> None:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in texts(figure)
        if text.get_visible()
    ]
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
    for number, (text, box) in enumerate(boxes):
        for other, beside in boxes[number + 1 :]:
            shared = (
                min(box.x1, beside.x1) - max(box.x0, beside.x0),
                min(box.y1, beside.y1) - max(box.y0, beside.y0),
            )
            assert min(shared) < 2, (text, other)
