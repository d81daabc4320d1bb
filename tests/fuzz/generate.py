"""A model of a seed: which nodes a graph has, and what of it a caller sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.families import crossing, linear
from tests.fuzz.nesting import NESTINGS
from tests.fuzz.norms import norm
from tests.fuzz.sketch import MICROSOFT, Sketch, Unfit
from tests.support_models import DTYPES, Array, Feeds

Shapes = Mapping[str, tuple[int, ...]]
ATTEMPTS = 50


@dataclass(frozen=True)
class Drawn:
    """A model that a seed gives.

    Attributes:
        seed, dtype: what gives it.
        model: valid for ``onnx.checker``.
        shapes: of its inputs, one or more choices; all but the first give open dims other sizes,
            with which it may fail.
        is_wild: whether its parameters may be huge, NaN or infinite.
        nesting: ``if``, ``scan``, ..., or ``""`` where all nodes are in the main graph.
    """

    seed: int
    dtype: str
    model: onnx.ModelProto
    shapes: tuple[Shapes, ...]
    is_wild: bool
    nesting: str = ""

    def feeds(self, at: int = 0) -> Feeds:
        """Data of size 30, of the given choice of shapes; a condition is true or false."""
        rng = np.random.default_rng([self.seed, at, 30])
        feeds: dict[str, Array] = {}
        for value in self.model.graph.input:
            if value.name not in self.shapes[at]:
                continue
            shape = self.shapes[at][value.name]
            if value.type.tensor_type.elem_type == TensorProto.BOOL:
                feeds[value.name] = np.asarray(rng.random(shape) < 0.5)
            else:
                feeds[value.name] = 30 * rng.normal(size=shape)
        return feeds


def drawn(seed: int, dtype: str | None = None) -> Drawn:
    """The model of a seed; its dtype follows from the seed where none is given.

    Raises:
        Unfit: no attempt gave a valid model.
    """
    dtype = dtype or [*DTYPES][seed % len(DTYPES)]
    for attempt in range(ATTEMPTS):
        try:
            with np.errstate(all="ignore"):
                return _attempted(seed, attempt, dtype)
        except Unfit:
            continue
    raise Unfit(f"seed {seed} gives no valid model")


def _attempted(seed: int, attempt: int, dtype: str) -> Drawn:
    sketch = Sketch([seed, attempt, [*DTYPES].index(dtype)], dtype)
    _grow(sketch)
    model, shapes = _assembled(sketch)
    found = Drawn(seed, dtype, model, shapes, sketch.is_wild)
    if sketch.chance(0.3):
        nesting = sketch.pick([*NESTINGS])
        nested, wider = NESTINGS[nesting](model, [dict(s) for s in shapes], sketch.rng)
        found = replace(found, model=nested, shapes=tuple(wider), nesting=nesting)
    try:
        onnx.checker.check_model(found.model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Unfit(str(error)) from error
    return found


def _grow(sketch: Sketch) -> None:
    """Nodes: chains of linear operators, crossings and norms, or anything on anything."""
    sketch.input(_first_shape(sketch))
    for build in _recipe(sketch):
        for _ in range(12):
            try:
                build(sketch)
                break
            except Unfit:
                continue


def _first_shape(sketch: Sketch) -> list[int]:
    """One to five axes; a batch and channels of one, and channels equal to other axes, too."""
    rank = sketch.pick([1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 5])
    shape = [sketch.whole(1, 2), sketch.pick([1, 2, 3, 4, 4, 6, 8])]
    shape += [sketch.whole(1, 5) for _ in range(rank - 2)]
    if rank == 1:
        return shape[1:]
    if rank == 4 and sketch.chance(0.4):
        shape[2:] = [sketch.pick([2, 4, 6])] * 2
    if sketch.chance(0.2):
        shape[0] = 1
    elif sketch.chance(0.1):
        shape[0] = shape[-1] = min(shape[1], 4)
    return shape


def _recipe(sketch: Sketch) -> list[Callable[[Sketch], str]]:
    def norm_of(sketch: Sketch) -> str:
        return norm(sketch, sketch.tensor())

    if not sketch.follows:
        drawn_at = sketch.rng.random(sketch.whole(2, 20))
        return [linear if p < 0.25 else norm_of if p < 0.58 else crossing for p in drawn_at]
    found: list[Callable[[Sketch], str]] = []
    for _ in range(sketch.whole(1, 4)):
        norms, crossings = [norm_of] * sketch.whole(1, 2), [crossing] * sketch.whole(0, 4)
        found += sketch.pick(
            [
                [linear, *crossings, *norms],
                [*norms, *crossings, linear],
                [linear, *crossings[:2], norm_of, *crossings[2:], norm_of],
            ]
        )
    return found


def _assembled(sketch: Sketch) -> tuple[onnx.ModelProto, tuple[Shapes, ...]]:
    """The model of a sketch, and shapes of its inputs."""
    read = {name for node in sketch.nodes for name in node.input}
    made = [name for name in sketch.data if name not in sketch.inputs]
    outputs = [name for name in made if name not in read]
    outputs = outputs[:1] + [name for name in outputs[1:] if sketch.chance(0.8)]
    outputs += [name for name in made if name in read and sketch.chance(0.02)]
    outputs += sketch.shapes_read
    if not outputs:
        raise Unfit("no outputs")
    symbols: dict[str, int] = {}
    declared = {name: _declared(sketch, name, symbols) for name in sketch.inputs}
    inputs = [helper.make_tensor_value_info(n, sketch.code, declared[n]) for n in sketch.inputs]
    for name in sketch.overridable:
        values = sketch.initializers[name]
        code = helper.np_dtype_to_tensor_dtype(values.dtype)
        inputs.append(helper.make_tensor_value_info(name, code, values.shape))
    kept = [name for name in sketch.initializers if name in read or name in sketch.overridable]
    tensors = [numpy_helper.from_array(sketch.initializers[name], name) for name in kept]
    results = [_result(sketch, name, None) for name in outputs]
    graph = helper.make_graph(sketch.nodes, "graph", inputs, results, tensors)
    imports = [helper.make_opsetid("", sketch.opset)]
    if any(node.domain == MICROSOFT for node in sketch.nodes):
        imports.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(graph, opset_imports=imports, ir_version=sketch.ir)
    return _typed(sketch, model, outputs), _choices(sketch, declared, symbols)


def _typed(sketch: Sketch, model: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    """The model with shapes of outputs and of tensors in between, as far as chance has it."""
    try:
        inferred = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=sketch.chance(0.5)
        )
    except onnx.shape_inference.InferenceError as error:
        raise Unfit(str(error)) from error
    known = {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}
    del model.graph.output[:]
    share = sketch.pick([1.0, 1.0, 0.5])
    for name in outputs:
        has_shape = name in known and known[name].type.tensor_type.HasField("shape")
        is_told = has_shape and sketch.chance(share)
        rank = [None] * sketch.rank(name)
        model.graph.output.append(known[name] if is_told else _result(sketch, name, rank))
    told = sketch.pick([0.0, 0.0, 0.5, 1.0, 1.0])
    model.graph.value_info.extend(v for v in inferred.graph.value_info if sketch.chance(told))
    return model


def _result(sketch: Sketch, name: str, shape: list[None] | None) -> onnx.ValueInfoProto:
    is_float = sketch.values[name].dtype.kind == "f"
    return helper.make_tensor_value_info(
        name, sketch.code if is_float else TensorProto.INT64, shape
    )


def _declared(sketch: Sketch, name: str, symbols: dict[str, int]) -> list[str | int | None]:
    """The dims of an input: numbers, names and unknown ones; equal sizes may share a name."""
    if sketch.chance(0.45):
        return [*sketch.shape(name)]
    if sketch.chance(0.04):
        return [None] * sketch.rank(name)
    dims: list[str | int | None] = []
    for axis, size in enumerate(sketch.shape(name)):
        if not sketch.chance({0: 0.8, 1: 0.12}.get(axis, 0.4)):
            dims.append(size)
            continue
        same = [symbol for symbol, known in symbols.items() if known == size]
        symbol = sketch.pick(same) if same and sketch.chance(0.8) else f"S{len(symbols)}"
        symbols[symbol] = size
        dims.append(symbol if sketch.chance(0.9) else None)
    return dims


def _choices(
    sketch: Sketch, declared: Mapping[str, list[str | int | None]], symbols: Mapping[str, int]
) -> tuple[Shapes, ...]:
    """The shapes that were drawn, and two more where dims have names."""
    choices: list[Shapes] = [{name: sketch.shape(name) for name in declared}]
    for _ in range(2 if symbols else 0):
        sizes = {name: sketch.pick([1, 1, 2, 3, 5, size]) for name, size in symbols.items()}
        choices.append(
            {
                name: tuple(
                    sizes[dim] if isinstance(dim, str) else size
                    for dim, size in zip(dims, sketch.shape(name), strict=True)
                )
                for name, dims in declared.items()
            }
        )
    return tuple(choices)
