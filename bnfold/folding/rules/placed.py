"""An affine map together with the axis of the tensor that it acts on."""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.algebra.affine import Affine
from bnfold.algebra.spread import Spread


@dataclass(frozen=True, eq=False, slots=True)
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

    @property
    def needs_rank(self) -> bool:
        """Whether its place depends on the rank of the tensor."""
        return self.axis is not None and self.axis >= 0

    def spread(self, rank: int | None) -> Spread | None:
        """The same map, broadcast from the last axis.

        Args:
            rank: number of axes of the tensor, or None where it is not known.

        Returns:
            None where the place depends on a rank that is not known, or is beyond it.
        """
        if self.axis is None:
            shape = [1] * self.least_rank
        else:
            if self.axis >= 0 and (rank is None or rank <= self.axis):
                return None
            back = self.axis - (rank or 0) if self.axis >= 0 else self.axis
            ahead = rank if rank is not None and self.axis >= 0 else -back
            shape = [1] * max(self.least_rank, ahead)
            shape[back] = self.affine.channels
        return Spread(self.affine.scale.reshape(shape), self.affine.shift.reshape(shape))
