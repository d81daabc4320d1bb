"""The levels of onnxruntime's optimiser, apart from all that needs the outcomes of a benchmark."""

from __future__ import annotations

from typing import Final, Literal

Level = Literal["disable", "basic", "extended", "all"]
LEVELS: Final[tuple[Level, ...]] = ("disable", "basic", "extended", "all")
"""``ORT_DISABLE_ALL``, ``ORT_ENABLE_BASIC``, ``ORT_ENABLE_EXTENDED``, ``ORT_ENABLE_ALL``."""
