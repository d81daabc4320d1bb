"""Two models in onnxruntime, run in turn: the engine of ``bnfold.benchmark``, without the rest.

What is measured is processor time: that of models on one thread is their time, but for what a busy
machine gives to others in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bnfold.errors import ModelError
from bnfold.measuring.children import Children, Model, Place
from bnfold.measuring.outcome import LEVELS, Level, Ratio
from bnfold.measuring.progress import Progress
from bnfold.measuring.samples import ratio, sides

__all__ = ["LEVELS", "Level", "Pair", "Ratio", "Timing"]

PROVIDER: Final = "CPUExecutionProvider"


@dataclass(frozen=True)
class Pair:
    """The original beside another model.

    Attributes:
        seconds: median processor time of one run of the original.
        ratio: time of the original / time of the other one; None where one of them does not run.
        failure: why there is none, or ``""``.
    """

    seconds: float = 0.0
    ratio: Ratio | None = None
    failure: str = ""


class Timing:
    """Times models that take the same inputs, each pair in a process of its own.

    Args:
        folder: an empty one, for what the processes read and write.
        feeds: an array for each input.
    """

    def __init__(self, folder: Path, feeds: Mapping[str, Any]) -> None:
        self._children = Children(folder, [PROVIDER], 1, Progress(None, 1.0))
        self._feeds = self._children.keep(feeds)

    def pair(self, original: Path, other: Path, level: Level, seconds: float) -> Pair:
        """Run two models in turn for so many seconds, at a level of onnxruntime's optimiser."""
        models = [Model("ORIGINAL", original.name, original), Model("FOLDED", other.name, other)]
        try:
            blocks = self._children.ask(
                "time", models, Place(level), feeds=self._feeds, duration=seconds, clock="processor"
            )
        except ModelError as error:
            return Pair(failure=str(error))
        return Pair(float(np.median(sides(blocks)[0])), ratio(blocks))
