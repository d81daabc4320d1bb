"""Many small regions as one: convolutions side by side are one convolution of more groups.

A model of thousands of small layers has thousands of regions, and comparing arrays of a few
numbers costs as much as comparing long ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from bnfold.checking.probes import BLOCK, Probe
from bnfold.checking.region import Bias, Region, spread_out
from bnfold.checking.steps import Step
from bnfold.checking.written import Written
from bnfold.onnxgraph.rewrite import NewTensor

Array = npt.NDArray[Any]


def kind_of(region: Region) -> Hashable | None:
    """What regions have in common that can be joined, or None for one that stays alone.

    Those are small convolutions with nothing but BatchNormalizations behind them, all of which go.
    """
    probe, weight = region.probe, region.weight
    if probe.op_type != "Conv" or region.after or 2 * weight.size > BLOCK:
        return None
    if any(step.op_type != "BatchNormalization" for step in region.before):
        return None
    shapes = tuple(c.shape for step in region.before for c in step.constants)
    if any(shape != (probe.channels,) for shape in shapes):
        return None
    return weight.shape, weight.dtype, probe.group, tuple(step.eps for step in region.before)


class Joined:
    """Both sides of many regions of one kind, in the form of one; see ``Region``."""

    after: Sequence[Step] = ()
    units: Sequence[Array] = ()

    def __init__(self, regions: Sequence[Region], written: Written) -> None:
        one = regions[0]
        self.weight = np.concatenate([region.weight for region in regions])
        self.new = np.concatenate(
            [
                written.array(r.new) if isinstance(r.new, NewTensor) else r.new  # as it is read
                for r in regions
            ]
        )
        self.before = [
            Step(
                step.op_type,
                tuple(
                    np.concatenate([region.before[at].constants[number] for region in regions])
                    for number in range(len(step.constants))
                ),
                eps=step.eps,
            )
            for at, step in enumerate(one.before)
        ]
        group = one.probe.group * len(regions)
        conv = helper.make_node("Conv", [], [], group=group)
        self.probe = Probe(conv, self.weight.shape, len(self.weight.shape))
        channels = np.ones(one.probe.channels)
        values = [region.bias_values() for region in regions]
        sides = (
            np.concatenate([value[side].reshape(-1) * channels for value in values])
            for side in range(len(Bias._fields))
        )
        self._bias = spread_out(Bias(*sides), self.probe)

    def bias(self) -> Bias:
        """What the operators add."""
        return self._bias
