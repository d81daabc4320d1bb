"""Sizes that constant expressions compute: shape inference reads only some of them by itself."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper

from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known, stored_tensor
from bnfold.onnxgraph.types import Types

_READ = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""The inputs that say which shape an operator makes."""
_NUMBERS = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64)
_MOST = 64


def computed_sizes(index: Index, types: Types) -> Iterator[onnx.TensorProto]:
    """What constant expressions give where it says a shape that is not known yet.

    Before opset 14, inference reads the shape of a Reshape only where it is stored, and it never
    reads what a Div, a Where or a Range computes. Only tensors of the main graph are told.
    """
    # Fresh ones: what these find as long as shapes are missing does not count later.
    constants = Constants(index, types)
    seen = set()
    for node in index.main.nodes:
        if node.op_type not in _READ or node.domain != "" or not node.outputs:
            continue
        made = node.outputs[0]
        if made is None or types.dims(made, slice(None)) is not None:
            continue
        for tensor in map(node.input, _READ[node.op_type]):
            if tensor is None or tensor in seen or tensor.scope is not index.main:
                continue
            seen.add(tensor)
            if stored_tensor(tensor) is None:
                value = constants.value(tensor)
                if isinstance(value, Known) and _says_sizes(value):
                    yield numpy_helper.from_array(value.array, tensor.name)


def _says_sizes(value: Known) -> bool:
    return value.data_type in _NUMBERS and value.array.size <= _MOST
