"""One node, or a model of ONNX text, for the tests of the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, parser

from bnfold.reference import evaluate

Array = npt.NDArray[Any]


def compute(
    op_type: str, *inputs: Array | None, opset: int = 18, outputs: int = 1, **attributes: Any
) -> list[Array]:
    """The outputs of one node; an input that is None is left out."""
    names = ["" if value is None else f"i{n}" for n, value in enumerate(inputs)]
    made = [f"o{n}" for n in range(outputs)]
    node = helper.make_node(op_type, names, made, **attributes)
    dtypes = {np.dtype(np.float64): TensorProto.DOUBLE, np.dtype(np.int64): TensorProto.INT64}
    value = helper.make_tensor_value_info
    fed = {n: v for n, v in zip(names, inputs, strict=True) if v is not None}
    graph = helper.make_graph(
        [node],
        "g",
        [value(n, dtypes[v.dtype], v.shape) for n, v in fed.items()],
        [value(n, TensorProto.DOUBLE, None) for n in made],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return evaluate(model, fed)


def text_model(body: str, *, opset: int = 17, more: str = "", imports: str = "") -> onnx.ModelProto:
    """A model of ONNX text: the head of the graph and its nodes, then its functions."""
    head = f'<ir_version: 10, opset_import: ["": {opset}{imports}]>'
    return parser.parse_model(f"{head}\n{body}\n{more}")
