"""One node, ready to run: its attributes, and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto

from bnfold.errors import ModelError
from bnfold.reference.call import (
    FLOAT64,
    Call,
    attribute_value,
    bound_attributes,
    default_attributes,
    schema_of,
    widened,
)
from bnfold.reference.kernels import CONTROL, DEFINED, IN_PLACE, KERNELS, NEW, SAMPLERS
from bnfold.reference.nodes import (
    FunctionKey,
    captures_of,
    function_key,
    standard_domain,
    versions_of,
)
from bnfold.reference.run import Constant, Run
from bnfold.reference.sampling import generator
from bnfold.reference.stock import stock_class, stock_operator

Bindings = Mapping[str, AttributeProto]
# Inputs, values of the tensors around, the run, and the input that may be overwritten or -1.
Compute = Callable[[list[Any], Mapping[str, Any], Run, int], Any]


class Runnable(Protocol):
    """A graph or function body that can be run."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, given: Mapping[str, Any], wanted: Sequence[str], run: Run) -> list[Any]:
        """The wanted tensors."""


class Library:
    """What all graphs of one model share.

    Args:
        functions: of the model, by domain, name and overload.
        make_body: makes a `Runnable` of a graph or function.
    """

    def __init__(
        self,
        functions: Mapping[FunctionKey, FunctionProto],
        make_body: Callable[..., Runnable],
    ) -> None:
        self.functions = functions
        self.make_body = make_body
        self.made: dict[int, tuple[AttributeProto, Constant]] = {}


class Step:
    """One node.

    Args:
        node: of any operator.
        library: what all graphs of the model share.
        versions: of the operator sets that its graph imports.
        bindings: values of the attributes of the function that it is in.
    """

    __slots__ = (
        "_bindings",
        "_compute",
        "_library",
        "_node",
        "_versions",
        "captures",
        "domain",
        "inputs",
        "is_new",
        "label",
        "outputs",
        "overwrites",
        "reads",
    )

    def __init__(
        self,
        node: onnx.NodeProto,
        library: Library,
        versions: Mapping[str, int],
        bindings: Bindings | None,
    ) -> None:
        self._node, self._library, self._versions = node, library, versions
        self._bindings = bindings
        self._compute: Compute | None = None
        self.domain = standard_domain(node.domain)
        self.inputs = tuple(node.input)
        self.outputs = tuple(node.output)
        self.label = node.name or next(filter(None, self.outputs), node.op_type)
        self.captures = captures_of(node)
        self.reads = tuple(dict.fromkeys([*filter(None, self.inputs), *self.captures]))
        is_ours = self.domain == "" and function_key(node) not in library.functions
        # A result that no one else holds; and a kernel that can write over such an operand.
        self.is_new = is_ours and (node.op_type in NEW or node.op_type in IN_PLACE)
        self.overwrites = is_ours and node.op_type in IN_PLACE

    def run(self, values: dict[str, Any], run: Run, donor: int = -1) -> None:
        """Compute the node on ``values`` and put its outputs there.

        Raises:
            ModelError: the operator is unknown, or cannot be computed on these values.
        """
        inputs = [values[name] if name else None for name in self.inputs]
        try:
            if self._compute is None:
                self._compute = self._bound()
            results = self._compute(inputs, values, run, donor)
        except ModelError as error:
            if self._is_simple():
                raise
            raise ModelError(f"in {self.label}: {error}") from error
        except Exception as error:
            raise self._failure(inputs, error) from error
        if not isinstance(results, tuple):
            results = (results,)
        if len(results) < len(self.outputs) and any(self.outputs[len(results) :]):
            count = f"{len(results)} of {len(self.outputs)} outputs are defined"
            raise self._failure(inputs, ValueError(count))
        for name, value in zip(self.outputs, results, strict=False):
            if name:
                is_wide = type(value) is np.ndarray and value.dtype is FLOAT64
                values[name] = value if is_wide else widened(value)

    def _failure(self, inputs: list[Any], error: Exception) -> ModelError:
        shapes = ", ".join("-" if v is None else str(np.shape(v)) for v in map(_sized, inputs))
        cause = " ".join(str(_first(error)).split()) or type(error).__name__
        return ModelError(f"{self.label} ({self._node.op_type}) on shapes [{shapes}]: {cause}")

    def _is_simple(self) -> bool:
        return (
            self._node.op_type not in CONTROL
            and function_key(self._node) not in self._library.functions
        )

    def _bound(self) -> Compute:
        """The function that computes this node."""
        node, op_type = self._node, self._node.op_type
        given = bound_attributes(node.attribute, self._bindings)
        version = self._versions.get(self.domain, 1)
        function = self._library.functions.get(function_key(node))
        if function is not None:
            return self._function(function, given)
        protos = {**default_attributes(self.domain, op_type, version), **given}
        call = Call(
            op_type, version, {n: attribute_value(a) for n, a in protos.items()}, self.outputs
        )
        if self.domain == "":
            if op_type in CONTROL:
                return self._control(call)
            if op_type in SAMPLERS:
                sampler = SAMPLERS[op_type]
                first = next(filter(None, self.outputs), "")
                return lambda inputs, values, run, donor: sampler(
                    call, generator(run.seed, first), *inputs
                )
            if op_type in IN_PLACE:
                return _in_place(IN_PLACE[op_type], call)
            if op_type in KERNELS:
                kernel = KERNELS[op_type]
                return lambda inputs, values, run, donor: kernel(call, *inputs)
        schema = schema_of(self.domain, op_type, version)
        operator = None
        if op_type not in DEFINED or schema is None:
            operator = stock_operator(node, given, self._versions)
        if operator is not None:
            return lambda inputs, values, run, donor: operator(*inputs)
        if schema is not None and schema.has_function:
            return self._function(schema.function_body, protos)
        if schema is not None and schema.has_context_dependent_function:
            return self._defined_by_types(schema, given, protos)
        raise ModelError(
            f"{self.label} is a {node.domain or 'ai.onnx'}::{op_type} (version {version}), "
            "an operator that is not known here"
        )

    def _control(self, call: Call) -> Compute:
        graphs = {n: v for n, v in call.attributes.items() if isinstance(v, GraphProto)}
        bodies = {
            n: self._body(graph, self._versions, self._bindings) for n, graph in graphs.items()
        }
        kernel = CONTROL[call.op_type]

        def compute(inputs: list[Any], values: Mapping[str, Any], run: Run, donor: int) -> Any:
            around = {name: values[name] for name in self.captures}

            def runner(body: Runnable) -> Callable[[list[Any]], list[Any]]:
                def run_body(given: list[Any]) -> list[Any]:
                    pairs = zip(body.inputs, map(widened, given), strict=True)
                    return body.run({**around, **dict(pairs)}, body.outputs, run)

                return run_body

            runners = {name: runner(body) for name, body in bodies.items()}
            return tuple(kernel(call, graphs, runners, *inputs))

        return compute

    def _body(
        self,
        holder: GraphProto | FunctionProto,
        versions: Mapping[str, int],
        bindings: Bindings | None,
    ) -> Runnable:
        return self._library.make_body(holder, self._library, versions, bindings)

    def _function(self, function: FunctionProto, given: Bindings) -> Compute:
        versions = dict(self._versions) | versions_of(function)
        defaults = {a.name: a for a in function.attribute_proto}
        body = self._body(function, versions, {**defaults, **given})

        def compute(inputs: list[Any], values: Mapping[str, Any], run: Run, donor: int) -> Any:
            if len(inputs) > len(body.inputs):
                raise ValueError(f"{len(inputs)} inputs for {len(body.inputs)} of the function")
            filled = [*inputs, *[None] * (len(body.inputs) - len(inputs))]
            wanted = [body.outputs[i] for i, name in enumerate(self.outputs) if name]
            made = iter(body.run(dict(zip(body.inputs, filled, strict=True)), wanted, run))
            return tuple(next(made) if name else None for name in self.outputs)

        return compute

    def _defined_by_types(self, schema: Any, given: Bindings, protos: Bindings) -> Compute:
        """A function that the specification makes for the dtypes and ranks of the inputs."""
        node = onnx.NodeProto()
        node.CopyFrom(self._node)
        del node.attribute[:]
        for name, value in given.items():
            attribute = node.attribute.add()
            attribute.CopyFrom(value)
            attribute.name = name
        made: dict[Any, Compute] = {}

        def compute(inputs: list[Any], values: Mapping[str, Any], run: Run, donor: int) -> Any:
            kinds = tuple((v.dtype, v.shape) if v is not None else None for v in inputs)
            if kinds not in made:
                types = [_type(kind).SerializeToString() for kind in kinds]
                data = schema.get_context_dependent_function(node.SerializeToString(), types)
                made[kinds] = self._function(FunctionProto.FromString(data), protos)
            return made[kinds](inputs, values, run, donor)

        return compute


def _in_place(kernel: Callable[..., Any], call: Call) -> Compute:
    def compute(inputs: list[Any], values: Mapping[str, Any], run: Run, donor: int) -> Any:
        if donor < 0:
            return kernel(call, *inputs)
        return kernel(call, *inputs, out=inputs[donor])

    return compute


def _type(kind: Any) -> onnx.TypeProto:
    if kind is None:
        return onnx.TypeProto()
    dtype, shape = kind
    data_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_type_proto(data_type, shape)


def _sized(value: Any) -> Any:
    return np.empty(len(value)) if isinstance(value, list) else value


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_known(node: onnx.NodeProto, versions: Mapping[str, int]) -> bool:
    """Whether a node that no function of the model stands for can be computed."""
    domain, op_type = standard_domain(node.domain), node.op_type
    if domain == "" and (op_type in KERNELS or op_type in SAMPLERS or op_type in CONTROL):
        return True
    if domain == "" and op_type == "Constant":
        return True
    version = versions.get(domain, 1)
    if stock_class(domain, op_type, version) is not None:
        return True
    schema = schema_of(domain, op_type, version)
    if schema is None:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)
