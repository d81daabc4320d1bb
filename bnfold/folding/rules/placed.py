"""An affine map together with the axis of the tensor that it acts on."""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.algebra.affine import Affine


@dataclass(frozen=True, eq=False)
class Placed:
    """An affine map on one axis of a tensor.

    Attributes:
        affine: the map.
        axis: counted from the front where it is not negative, else from the back; None where one
            value serves every axis.
        least_rank: the tensor must have at least this many axes for the map to keep its shape.
        is_per_channel: whether the map can tell one channel from another.
        assumed_inference: whether a training-mode norm was read as inference.
    """

    affine: Affine
    axis: int | None
    least_rank: int
    is_per_channel: bool
    assumed_inference: bool = False

    def acts_on(self, axis: int, rank: int | None) -> bool | None:
        """Whether the map acts on ``axis`` (-1 for the last) of a tensor of ``rank`` axes.

        None where the answer depends on a rank that is not known.
        """
        if rank is not None:
            if self.least_rank > rank:
                return False
            return self.axis is None or self.axis % rank == axis % rank
        # Without the rank, only "the last axis" can be told from the others.
        if self.axis is not None and self.axis < 0 and self.axis != axis:
            return False
        if self.least_rank <= 1 and self.axis in (None, axis):
            return True
        return None
