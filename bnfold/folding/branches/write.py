"""Write merged blocks: a new skeleton of the model, beside the tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from bnfold.folding.branches.blocks import Block
from bnfold.folding.branches.convs import ReadConv
from bnfold.folding.branches.kernel import Kernel
from bnfold.folding.branches.store import Stored
from bnfold.folding.branches.window import Window
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import LARGE, Document
from bnfold.onnxgraph.ranges import Piece, Range, Source, joined
from bnfold.onnxgraph.rewrite import NewTensor, embedded, model_pieces, place
from bnfold.onnxgraph.skeleton import Payload
from bnfold.onnxgraph.wire import TENSOR_RAW


@dataclass(eq=False)
class NewConv:
    """The Conv in the place of a block.

    Attributes:
        block: the nodes that go.
        host: the Conv whose name, and whatever else its node says, it keeps.
        window, group: its attributes.
        stored: its weight and bias.
        weight_name: of the new weight, once it is written.
    """

    block: Block
    host: ReadConv
    window: Window
    group: int
    stored: Stored
    weight_name: str = field(default="", init=False)

    @classmethod
    def of(cls, block: Block, host: ReadConv, kernel: Kernel, stored: Stored) -> NewConv:
        """The Conv of a kernel."""
        return cls(block, host, kernel.window, kernel.group, stored)


def rewrite(index: Index, convs: Sequence[NewConv]) -> Document:
    """The model with each block replaced by its Conv, where the block's last node stood.

    What only the blocks read is gone. Tensors keep their names: the Conv makes the one that the
    block made. In IR version 3 and older the new constants are Constant nodes.

    Args:
        convs: their ``weight_name`` is filled in.

    Raises:
        ModelError: the document has a tensor that cannot be moved.
    """
    surgery = Surgery(index)
    for conv in convs:
        _replace(surgery, conv)
    rewrite = surgery.finish()
    document = index.document
    payloads: list[Payload] = []
    for tensor in rewrite.tensors:
        place(rewrite.edits, tensor, _content(document, tensor, payloads))
    skeleton = document.with_skeleton(document.skeleton)
    return document.with_skeleton(joined(model_pieces(skeleton, rewrite.edits)), payloads)


def _replace(surgery: Surgery, conv: NewConv) -> None:
    block, host = conv.block, conv.host
    assert block.root.producer is not None
    last, scope = block.root.producer, host.node.scope
    weight, bias = host.weight.tensor.name, f"{host.node.label}_bias"
    if host.bias is not None:
        bias = f"{host.bias.tensor.name}_merged"
    conv.weight_name = surgery.store_array(None, [], conv.stored.weight, scope, f"{weight}_merged")
    proto = onnx.NodeProto()
    proto.CopyFrom(host.node.proto)
    del proto.input[:], proto.output[:], proto.attribute[:]
    proto.input.extend([block.origin.name, conv.weight_name])
    if conv.stored.bias is not None:
        proto.input.append(surgery.store_array(None, [], conv.stored.bias, scope, bias))
    proto.output.append(block.root.name)
    proto.attribute.extend(_attributes(conv.window, conv.group))
    if block.origin.producer is not None:
        # For a while nothing reads what it makes.
        surgery.kept.add(block.origin.producer)
    for role in block.roles:
        if role.node is last:
            continue
        surgery.delete(role.node)
        for output in role.node.outputs:
            if output is not None:
                surgery.vanish(output)
    for tensor in last.inputs:
        if tensor is not None:
            surgery.unread_once(tensor)
    for output in last.outputs[1:]:
        if output is not None:
            surgery.vanish(output)
    surgery.kept.add(last)
    surgery.replace(last, proto)


def _attributes(window: Window, group: int) -> list[onnx.AttributeProto]:
    values: dict[str, object] = {
        "dilations": list(window.dilations),
        "group": group,
        "kernel_shape": list(window.kernel),
        "pads": [*window.begins, *window.ends],
        "strides": list(window.strides),
    }
    if window.auto:
        del values["pads"]
        values["auto_pad"] = window.auto
    return [helper.make_attribute(name, value) for name, value in sorted(values.items())]


def _content(document: Document, tensor: NewTensor, payloads: list[Payload]) -> list[Piece]:
    """A new tensor as it stands in the skeleton: with its data, or with a mark that leads there."""
    data = joined(tensor.data)
    if len(data) < LARGE // 2:
        return [joined(embedded(tensor.proto, [data], TENSOR_RAW))]
    proto = onnx.TensorProto()
    proto.CopyFrom(tensor.proto)
    number = len(document.payloads) + len(payloads)
    proto.external_data.add(key=document.tensors.mark, value=str(number))
    payloads.append(Payload(TENSOR_RAW, Range(Source.of_bytes(data), 0, len(data))))
    return [proto.SerializeToString()]
