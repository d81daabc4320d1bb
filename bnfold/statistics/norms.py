"""The BatchNormalizations whose statistics can be estimated, and why others are left alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from bnfold.errors import ModelError, UsageError
from bnfold.folding.find import Norm, Selection, Step, unmatched
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.batch_norm import DEFAULT_EPSILON, is_training, used_statistics
from bnfold.folding.rules.reading import Context, as_float64, read_constant, read_version
from bnfold.folding.rules.tables import BATCH_NORM, LINEAR
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.types import Types
from bnfold.statistics.moments import Float64s
from bnfold.statistics.outcome import Skipped


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """A BatchNormalization whose statistics are estimated.

    Attributes:
        node: it.
        data: the tensor that it normalises, ``(N, C, *spatial)``.
        element_type: of that tensor, an ONNX data type.
        epsilon: added to the variance before the root.
        mean, var: its statistics, constant in value; shape ``(C,)`` each.
        training: why it normalises by its own batch as the file has it, or ``""``.
    """

    node: Node
    data: Tensor
    element_type: int
    epsilon: float
    mean: Known
    var: Known
    training: str

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.node.label

    def before(self) -> tuple[Float64s, Float64s]:
        """Mean and variance as the file has them, in float64; shape ``(C,)`` each."""
        return as_float64(self.mean), as_float64(self.var)


@dataclass(frozen=True, eq=False)
class Found:
    """The BatchNormalizations of a model.

    Attributes:
        chosen: those whose statistics are estimated, in topological order.
        skipped: the others.
    """

    chosen: tuple[BatchNorm, ...]
    skipped: tuple[Skipped, ...]

    @property
    def tensors(self) -> list[str]:
        """What the chosen ones normalise, each tensor once."""
        return list(dict.fromkeys(norm.data.name for norm in self.chosen))


def context_of(index: Index) -> Context:
    """What may be asked about a model."""
    types = Types(index)
    return Context(Constants(index, types), types, index.document.opset)


def find_batch_norms(index: Index, context: Context, selection: Selection) -> Found:
    """The BatchNormalizations of a model, chosen or not.

    Raises:
        ModelError: there is none, or none whose statistics can be estimated.
        UsageError: the patterns leave none.
    """
    chosen: list[BatchNorm] = []
    skipped: list[Skipped] = []
    nodes = [node for node in index.nodes if node.op_type == BATCH_NORM and node.outputs]
    for node in nodes:
        read = _read(node, context, selection)
        if isinstance(read, BatchNorm):
            chosen.append(read)
        else:
            skipped.append(read)
    for function in index.document.proto.functions:
        for proto in function.node:
            if proto.op_type == BATCH_NORM:
                label = proto.name or proto.output[0]
                sentence = f"{label} is inside of the function {function.domain}::{function.name}"
                skipped.append(Skipped(label, "function-body", sentence))
    if not chosen:
        _say_why_none(index, skipped, selection)
    return Found(tuple(chosen), tuple(skipped))


def _read(node: Node, context: Context, selection: Selection) -> BatchNorm | Skipped:
    data = node.input(0)
    if data is None or node.outputs[0] is None:
        return Skipped(node.label, "malformed-node", f"{node.label} has no data, or no output")
    why = selection.why_excluded(Norm([Step(node, data)]))
    if why is not None:
        return Skipped(node.label, "excluded", why)
    if node.scope.parent is not None:
        return Skipped(
            node.label, "subgraph", f"{node.label} is inside of the body of {node.scope.where}"
        )
    version = read_version(node, context)
    if isinstance(version, Refused):
        return Skipped(node.label, version.code, version.sentence)
    if version < 7:
        sentence = (
            f"{node.label} is of opset {context.opset}: convert the model to opset 7 or newer"
        )
        return Skipped(node.label, "old-opset", sentence)
    if version < 9 and node.integer("spatial", 1) != 1:
        return Skipped(
            node.label, "spatial-zero", f"{node.label} has spatial=0: one set for each activation"
        )
    training, used = is_training(node, version), used_statistics(node)
    if used:
        sentence = f"{used[0].name}, a statistic of the batch that {node.label} gives, is used"
        return Skipped(node.label, "training-mode", sentence)
    values: list[Known] = []
    for position, what in ((3, "mean"), (4, "variance")):
        known = read_constant(node.input(position), node, what, context, "statistics-not-constant")
        if isinstance(known, Refused):
            return Skipped(node.label, known.code, known.sentence)
        values.append(known)
    mean, var = values
    if len(mean.shape) != 1 or mean.shape != var.shape:
        sentence = f"{node.label} has a mean {list(mean.shape)} and a variance {list(var.shape)}"
        return Skipped(node.label, "malformed-node", sentence)
    element_type = context.types.element_type(data)
    if not element_type:
        gamma = node.input(1)
        found = context.types.element_type(gamma) if gamma is not None else 0
        element_type = found or TensorProto.FLOAT
    epsilon = node.real("epsilon", DEFAULT_EPSILON)
    return BatchNorm(node, data, element_type, epsilon, mean, var, training or "")


def _say_why_none(index: Index, skipped: list[Skipped], selection: Selection) -> None:
    name = index.document.name
    if not skipped:
        folded = _folded_before(index)
        if folded is not None:
            maker, tensor = folded
            raise ModelError(
                f"{name} has no BatchNormalization, and what {maker} makes has the name of one "
                f"({tensor}), so its norms seem to be folded already: calibrate the model as it "
                "was before the fold"
            )
        raise ModelError(
            f"{name} has no BatchNormalization: 'bnfold insert' adds some without changing what "
            "the model computes"
        )
    others = [skip for skip in skipped if skip.code != "excluded"]
    if not others:
        lost = unmatched(selection.only, [skip.norm for skip in skipped])
        words = (
            f"the pattern {lost[0]!r} matches none of"
            if lost
            else "--only and --skip leave none of"
        )
        raise UsageError(f"{words} the {len(skipped)} BatchNormalizations of {name}")
    raise ModelError(
        f"{name} has no BatchNormalization whose statistics can be estimated: {others[0].reason}"
    )


_NAMED_AFTER_ONE = re.compile(r"batch_?norm|(^|[/._])bn_?\d*([/._]|$)", re.IGNORECASE)


def _folded_before(index: Index) -> tuple[str, str] | None:
    """A linear operator whose output is named after a BatchNormalization, and that name.

    A fold leaves the norm's output name to the operator that takes it up.
    """
    for node in index.nodes:
        made = node.outputs[0] if node.outputs else None
        if made is not None and node.op_type in LINEAR and _NAMED_AFTER_ONE.search(made.name):
            return node.label, made.name
    return None


def training_dropouts(nodes: Iterable[Node], context: Context) -> list[Node]:
    """The Dropouts that drop values, since a constant says so."""
    found = []
    for node in nodes:
        if node.op_type == "Dropout" and node.domain == "":
            mode = node.input(2)
            known = context.constants.value(mode) if mode is not None else None
            if isinstance(known, Known) and bool(known.array.all()):
                found.append(node)
    return found


def as_inference(node: onnx.NodeProto, opset: int) -> None:
    """Turn a BatchNormalization or Dropout of training into one of inference, in place.

    The number of outputs is the mode of a BatchNormalization of opset 7 to 13, an attribute that
    of newer ones; a Dropout has it as its third input from opset 12 on.
    """
    for at in reversed(range(len(node.attribute))):
        if node.attribute[at].name == "training_mode":
            del node.attribute[at]
    if node.op_type == BATCH_NORM:
        del node.output[1:]
    elif opset >= 12:
        del node.input[2:]
