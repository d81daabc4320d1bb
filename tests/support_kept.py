"""Models whose norms stay: one table row for each way in which a norm can be no part of a fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

import bnfold
from bnfold.folding.reasons import REASONS
from tests.support_models import (
    filled,
    list_initializers_as_inputs,
    norm_parameters,
    parsed,
    with_values,
)

BN = "BatchNormalization"
PARAMETERS = norm_parameters(4)
NAN, INF = float("nan"), float("inf")
Change = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Row:
    """A model of which nothing folds.

    Attributes:
        code: why the norm stays.
        names: what the sentence has to say.
        text: the graph; see ``filled`` for its parameters.
        norm: what the report calls the norm.
        change: what is done to the model.
        only, skip: patterns.
    """

    code: str
    names: tuple[str, ...]
    text: str
    norm: str = "y"
    opset: int = 17
    ir: int = 8
    dtype: str = "float"
    imports: str = ""
    change: Change | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def model(self) -> onnx.ModelProto:
        """The model, with random parameters."""
        text = parsed(
            self.text, opset=self.opset, ir=self.ir, dtype=self.dtype, imports=self.imports
        )
        model = filled(text)
        return self.change(model) if self.change else model


def graph(
    body: str,
    *,
    x: str = "float[2,3,6,5] x",
    y: str = "float[a,b,c,d] y",
    w: str = "float[4,3,3,3] w, ",
    more: str = "",
) -> str:
    """A graph around ``body``, with a weight w and the parameters of a norm."""
    return f"agraph ({x}) => ({y}) <{w}{PARAMETERS}{more}> {{ {body} }}"


def matrix(body: str, *, x: str = "float[2,3] x", w: str = "float[3,4] w", more: str = "") -> str:
    """A graph with a matrix w, data of two axes, and the parameters of a norm."""
    axes = ",".join("abcde"[: len(x.split(","))])
    return graph(body, x=x, y=f"float[{axes}] y", w=f"{w}, ", more=more)


def without(text: str, *declared: str) -> str:
    """The text without some declarations."""
    for declaration in declared:
        assert declaration in text
        text = text.replace(declaration, "", 1)
    return text


def values(**given: object) -> Change:
    return lambda model: with_values(model, **given)


def listed(name: str) -> Change:
    """List one initializer among the graph inputs."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        inputs = list_initializers_as_inputs(model).graph.input
        model.graph.input.extend(value for value in inputs if value.name == name)
        return model

    return change


def annotated(name: str) -> Change:
    """Name a tensor as a parameter of a quantisation annotation."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        annotation = model.graph.quantization_annotation.add(tensor_name="x")
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=name)
        return model

    return change


def attribute(node: int, name: str, value: object) -> Change:
    """Give a node another attribute."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        made = onnx.helper.make_attribute(name, value)
        model.graph.node[node].attribute.append(made)
        return model

    return change


NORM = f"y = {BN} (c, g, b, m, v)"
PLAIN = graph(f"c = Conv (x, w)  {NORM}")
OLD = graph(f"c = Conv (x, w)  y = {BN} ATTRIBUTES (c, g, b, m, v)")
ALSO = "float[a,b,c,d] y, float[e,f,i,j] "


def check_kept(row: Row) -> None:
    """Check that the one norm of a row stays for its reason, and that nothing else changes."""
    model = row.model()
    before = model.SerializeToString()
    result = bnfold.fold(model, only=row.only, skip=row.skip)
    (kept,) = result.report.norms
    assert isinstance(kept, bnfold.Kept)
    assert kept.code == row.code, kept.reason
    for name in row.names:
        assert name in kept.reason
    assert kept.norm == row.norm
    assert row.norm in kept.nodes
    assert kept.remedy == REASONS[row.code].remedy
    assert len(kept.remedy) > 10
    assert result.report.nodes_before == result.report.nodes_after
    assert result.report.batch_norms_before == result.report.batch_norms_after
    assert result.report.bytes_before == result.report.bytes_after == len(before)
    assert result.model.SerializeToString() == before
    assert model.SerializeToString() == before
    assert bnfold.explain(model, only=row.only, skip=row.skip) == result.report
