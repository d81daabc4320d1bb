"""What a caller sees of a model: inputs, outputs, and the initializers that may be replaced."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from bnfold.checking.side import Side
from bnfold.onnxgraph.tensors import type_name


def interface_differences(original: Side, folded: Side) -> tuple[list[str], list[str]]:
    """Differences that break a caller, and those that are only worth a note, in words."""
    broken: list[str] = []
    notes: list[str] = []
    ours, theirs = original.document.proto, folded.document.proto
    for kind in ("input", "output"):
        mine = _values(original, kind)
        other = _values(folded, kind)
        broken += _names(kind, [v.name for v in mine], [v.name for v in other])
        found = {value.name: value for value in other}
        for value in mine:
            if value.name in found:
                label = f"{kind} {value.name!r}"
                _compare(label, value, found[value.name], kind == "input", broken, notes)
    lost = [name for name in original.overridable if name not in folded.overridable]
    new = [name for name in folded.overridable if name not in original.overridable]
    broken += [f"initializer {name!r} can no longer be overridden by a caller" for name in lost]
    # IR version 3 lists every initializer as an input, and has no other way.
    listed = {value.name for value in ours.graph.input}
    for name in new:
        words = f"initializer {name!r} can be overridden only in FOLDED"
        (notes if name in listed else broken).append(words)
    for name in set(original.overridable) & set(folded.overridable):
        mine_, other_ = _stored(ours, name), _stored(theirs, name)
        if (mine_.data_type, list(mine_.dims)) != (other_.data_type, list(other_.dims)):
            broken.append(
                f"overridable initializer {name!r} is {_tensor(other_)} instead of {_tensor(mine_)}"
            )
    notes += _headers(ours, theirs)
    return broken, notes


def _values(side: Side, kind: str) -> list[onnx.ValueInfoProto]:
    graph = side.document.proto.graph
    if kind == "output":
        return list(graph.output)
    return [v for v in graph.input if v.name in side.input_names]


def _names(kind: str, ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    if list(ours) == list(theirs):
        return []
    lost = [name for name in ours if name not in theirs]
    new = [name for name in theirs if name not in ours]
    words = [f"{kind} {name!r} is missing" for name in lost]
    words += [f"{kind} {name!r} is new" for name in new]
    return words or [f"the {kind}s are in another order: {', '.join(theirs)}"]


def _compare(
    label: str,
    ours: onnx.ValueInfoProto,
    theirs: onnx.ValueInfoProto,
    is_input: bool,
    broken: list[str],
    notes: list[str],
) -> None:
    kind, other = ours.type.WhichOneof("value"), theirs.type.WhichOneof("value")
    if kind != other:
        if kind is not None and other is not None:
            broken.append(f"{label} is a {other} instead of a {kind}")
        return
    if kind != "tensor_type":
        if ours.type != theirs.type:
            notes.append(f"{label} is described differently")
        return
    mine, found = ours.type.tensor_type, theirs.type.tensor_type
    if mine.elem_type != found.elem_type and (mine.elem_type and found.elem_type):
        broken.append(
            f"{label} is {type_name(found.elem_type)} instead of {type_name(mine.elem_type)}"
        )
    if not mine.HasField("shape") or not found.HasField("shape"):
        if mine.HasField("shape") != found.HasField("shape"):
            words = f"{label} has shape {_shape(found)} instead of {_shape(mine)}"
            (broken if is_input else notes).append(words)
        return
    dims = list(zip(mine.shape.dim, found.shape.dim, strict=False))
    if len(mine.shape.dim) != len(found.shape.dim):
        broken.append(f"{label} has rank {len(found.shape.dim)} instead of {len(mine.shape.dim)}")
    elif any(_size(a) != _size(b) for a, b in dims):
        words = f"{label} has shape {_shape(found)} instead of {_shape(mine)}"
        # A shape of an output is a statement about what is computed: it may say more or less.
        contradicts = any(
            None not in (_size(a), _size(b)) and _size(a) != _size(b) for a, b in dims
        )
        (broken if is_input or contradicts else notes).append(words)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return int(dim.dim_value) if dim.dim_value > 0 else None


def _shape(kind: onnx.TypeProto.Tensor) -> str:
    if not kind.HasField("shape"):
        return "unknown"
    dims = [str(_size(d)) if _size(d) is not None else d.dim_param or "?" for d in kind.shape.dim]
    return f"[{', '.join(dims)}]"


def _stored(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = {t.name: t for t in proto.graph.initializer}[name]
    return found


def _tensor(tensor: onnx.TensorProto) -> str:
    return f"{type_name(tensor.data_type)} {list(tensor.dims)}"


def _headers(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> list[str]:
    """Differences that a caller does not see."""
    notes = []
    mine, other = _imports(ours), _imports(theirs)
    for domain in sorted(set(mine) & set(other)):
        if mine[domain] != other[domain]:
            notes.append(
                f"operator set {domain}: {mine[domain]} in ORIGINAL, {other[domain]} in FOLDED"
            )
    for domains, where in (
        (set(mine) - set(other), "ORIGINAL"),
        (set(other) - set(mine), "FOLDED"),
    ):
        if domains:
            notes.append(f"operator sets that only {where} imports: {', '.join(sorted(domains))}")
    if ours.ir_version != theirs.ir_version:
        notes.append(f"IR version: {ours.ir_version} in ORIGINAL, {theirs.ir_version} in FOLDED")
    if ours.producer_name != theirs.producer_name:
        notes.append(
            f"producer: {ours.producer_name!r} of ORIGINAL, {theirs.producer_name!r} of FOLDED"
        )
    return notes


def _imports(proto: onnx.ModelProto) -> dict[str, int]:
    return {
        "ai.onnx" if entry.domain == "" else entry.domain: int(entry.version)
        for entry in proto.opset_import
    }
