"""The same model with its nodes in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.fuzz.protos import copied


def reordered(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The model with the nodes of its main graph in any order in which they can run."""
    copy = copied(model)
    waiting = list(model.graph.node)
    unmade = {name for node in waiting for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if not unmade & set(reads(node))]
        node = ready[int(rng.integers(len(ready)))]
        waiting.remove(node)
        unmade -= set(node.output)
        ordered.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(ordered)
    return copy


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node or a graph inside of it reads, its own ones included."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from (value.name for value in attribute.g.output)
            for inner in attribute.g.node:
                yield from reads(inner)
