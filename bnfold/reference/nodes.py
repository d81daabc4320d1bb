"""What nodes are called by and read: domains, functions, and tensors around inner graphs."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto

FunctionKey = tuple[str, str, str]


def standard_domain(domain: str) -> str:
    """The domain with "" for the standard one, which has two names."""
    return "" if domain == "ai.onnx" else domain


def function_key(node: onnx.NodeProto) -> FunctionKey:
    """Under which domain, name and overload a function would stand for this node."""
    return standard_domain(node.domain), node.op_type, node.overload


def versions_of(holder: onnx.ModelProto | FunctionProto) -> dict[str, int]:
    """The operator sets that a model or function imports, "" for the standard one."""
    return {standard_domain(entry.domain): entry.version for entry in holder.opset_import}


def captures_of(node: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors that the graphs of a node read from around it."""
    if not any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
        return ()
    free: dict[str, None] = {}
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            free |= dict.fromkeys(_free_names(graph))
    return tuple(free)


def _free_names(graph: GraphProto) -> list[str]:
    local = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    local |= {t.values.name for t in graph.sparse_initializer}
    local |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in (*node.input, *captures_of(node))]
    return [n for n in (*read, *(v.name for v in graph.output)) if n and n not in local]
