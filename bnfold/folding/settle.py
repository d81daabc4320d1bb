"""Biases that the graph computes though they are constant: stored, where a model folds anyway.

Some exporters write the zero bias of a convolution as an expression over the type of its data. A
runtime that meets a bias which is no stored constant keeps the convolution out of its fast kernels.
The operators that take up a norm lose such a bias by it; the others should not be slower for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.folding.surgery import Surgery
from bnfold.folding.survey import Survey
from bnfold.onnxgraph.graph import Node, Scope, Tensor

MOST = 1 << 16
"""Biases of more values than this stay as they are."""


def computed_biases(survey: Survey, nodes: list[Node]) -> Iterator[Linear]:
    """The operators among ``nodes`` whose bias is constant, and no file holds it as it is."""
    for node in nodes:
        bias = node.input(2)
        maker = bias.producer if bias is not None else None
        if maker is None or maker.op_type == "Constant" or not survey.is_linear(node):
            continue
        linear = survey.linear(node)
        if isinstance(linear, Refused) or linear.shift != "input" or linear.bias_at != 2:
            continue
        known = linear.bias
        if known is None or isinstance(known, Dequantised) or known.tensor is not bias:
            continue
        if known.stored is None and known.array.size <= MOST:
            yield linear


def store_biases(
    linears: list[Linear], surgery: Surgery, proto: Callable[[Node], onnx.NodeProto]
) -> None:
    """Store these biases, each once, with the very values that they have.

    Args:
        linears: as ``computed_biases`` finds them.
        proto: gives a node as it will be written, to be changed.
    """
    names: dict[tuple[Tensor, Scope], str] = {}
    for linear in linears:
        known, node = linear.bias, linear.node
        assert known is not None
        key = known.tensor, node.scope
        if key not in names:
            wish = f"{known.tensor.name}_stored"
            names[key] = surgery.store_array(None, [], known.array, node.scope, wish)
        proto(node).input[linear.bias_at] = names[key]
        surgery.unread_once(known.tensor)
