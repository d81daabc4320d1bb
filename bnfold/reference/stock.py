"""Operators without a kernel here: the classes of onnx.reference, one node at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto
from onnx.reference import ReferenceEvaluator

from bnfold.reference.call import default_attributes

_MODULES = {
    "": "onnx.reference.ops",
    "ai.onnx.ml": "onnx.reference.ops.aionnxml",
    "ai.onnx.preview": "onnx.reference.ops.aionnx_preview",
    "ai.onnx.preview.training": "onnx.reference.ops.aionnx_preview_training",
    "experimental": "onnx.reference.ops.experimental",
}
# Operators that were renamed: an older name, and the one that computes the same.
_RENAMED = {"Scatter": "ScatterElements"}


@cache
def stock_class(domain: str, op_type: str, version: int) -> Any:
    """The class that computes an operator of this version, or None if there is none."""
    if domain not in _MODULES:
        return None
    try:
        load = import_module(_MODULES[domain]).load_op
        found = load(domain, _RENAMED.get(op_type, op_type), version)
    except Exception:
        return None
    return found if isinstance(found, type) else None


def stock_operator(
    node: onnx.NodeProto,
    attributes: Mapping[str, AttributeProto],
    versions: Mapping[str, int],
) -> Callable[..., tuple[Any, ...]] | None:
    """A function of the node's inputs that returns its outputs, or None if there is no class.

    Args:
        node: its attributes are ignored.
        attributes: those that it has, without references to a function's attributes.
        versions: of the operator sets, by domain, "" for the standard one.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = versions.get(domain, 1)
    found = stock_class(domain, node.op_type, version)
    if found is None:
        return None
    copy = onnx.NodeProto()
    copy.op_type, copy.domain, copy.name = node.op_type, domain, node.name
    copy.op_type = _RENAMED.get(node.op_type, node.op_type)
    copy.input.extend(node.input)
    copy.output.extend(node.output)
    # A class without a version in its name takes the defaults of the newest version.
    for name, value in {**default_attributes(domain, node.op_type, version), **attributes}.items():
        attribute = copy.attribute.add()
        attribute.CopyFrom(value)
        attribute.name = name
    parameters = {
        "log": lambda pattern, *args: None,
        "opsets": dict(versions) | {domain: version},
        "verbose": 0,
        "new_ops": None,
        "existing_functions": {},
        "evaluator_cls": ReferenceEvaluator,
    }
    made = found(copy, parameters)
    for name in made.attributes_names_:
        # A NumPy float32 and a Python float make a float32; two Python floats do not.
        setattr(made, name, _widened_numbers(getattr(made, name, None)))
    operator: Callable[..., tuple[Any, ...]] = made.run
    return operator


def _widened_numbers(value: Any) -> Any:
    if isinstance(value, np.float32):
        return float(value)
    if isinstance(value, list):
        return [_widened_numbers(item) for item in value]
    return value
