"""Why branches are not merged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unfit:
    """A block of branches that stays: one sentence in the model's own names."""

    sentence: str
