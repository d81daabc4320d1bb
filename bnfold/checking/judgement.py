"""What was found out about one tensor that both models share."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.checking.measure import Worst


@dataclass(eq=False)
class Judgement:
    """What was found out about one shared tensor.

    Attributes:
        tensor: its name.
        units: the largest difference over all feeds, as a multiple of what rounding moves.
        worst: where that was; ``feed`` is the data.
        is_same: whether it passed on every feed.
        why: what is wrong, where units cannot say it.
        through: shared tensors inside of its cones that are not taken as given.
        depth: how many failed tensors in a row lead to it.
        may_be_detour: whether it can be no error but another way to the same values: what a name
            was given to, or a channel's scale and shift, is another, plainly.
        is_confirmed: whether FOLDED was seen to need the other values.
        is_excused: whether it differs only because the models go different ways and meet again.
    """

    tensor: str
    units: float = 0.0
    worst: Worst | None = None
    feed: str = ""
    is_same: bool = True
    why: str = ""
    through: set[str] = field(default_factory=set)
    depth: int = 0
    may_be_detour: bool = True
    is_confirmed: bool = False
    is_excused: bool = False
