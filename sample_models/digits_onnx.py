"""A trained network as an ONNX model in inference form, its norms in place."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from sample_models.digits_network import EPS, Array, Conv, Flatten, Linear, Network, Norm, Relu

OPSET = 17
IR_VERSION = 8
INPUT, OUTPUT = "pixels", "logits"


def to_onnx(network: Network, name: str) -> onnx.ModelProto:
    """The model: ``pixels``, float32 ``(N, 1, 8, 8)`` in [0, 1], to ``logits``, ``(N, 10)``.

    A norm without scale and shift gets ones and zeros, which the operator asks for. Every number
    is rounded once, to float32.
    """
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def tensor(owner: str, part: str, value: Array) -> str:
        stored.append(numpy_helper.from_array(value.astype("float32"), f"{owner}.{part}"))
        return f"{owner}.{part}"

    data, count = INPUT, dict.fromkeys(("conv", "linear", "norm", "relu", "flatten"), 0)

    def called(kind: str) -> str:
        count[kind] += 1
        return f"{kind}_{count[kind]}"

    for layer in network.layers:
        given = layer.parameters
        attributes: dict[str, Any] = {}
        if isinstance(layer, Norm):
            node, op_type = called("norm"), "BatchNormalization"
            ones, zeros = layer.mean * 0.0 + 1.0, layer.mean * 0.0
            parameters = {
                "scale": given.get("gamma", ones),
                "shift": given.get("beta", zeros),
                "mean": layer.mean,
                "var": layer.var,
            }
            attributes = {"epsilon": EPS}
        elif isinstance(layer, Conv):
            node, op_type, parameters = called("conv"), "Conv", given
            attributes = {"kernel_shape": [3, 3]}
        elif isinstance(layer, Linear):
            node, op_type, parameters = called("linear"), "Gemm", given
            attributes = {"transB": 1}
        else:
            op_type = {Relu: "Relu", Flatten: "Flatten"}[type(layer)]
            node, parameters = called(op_type.lower()), {}
        inputs = [data, *(tensor(node, part, value) for part, value in parameters.items())]
        data = OUTPUT if layer is network.layers[-1] else f"{node}_out"
        nodes.append(helper.make_node(op_type, inputs, [data], name=node, **attributes))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [value(INPUT, TensorProto.FLOAT, ["N", 1, 8, 8])],
        [value(OUTPUT, TensorProto.FLOAT, ["N", 10])],
        stored,
    )
    model = helper.make_model(
        graph,
        producer_name="sample_models/train_digits.py",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model
