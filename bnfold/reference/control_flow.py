"""If, Loop, Scan and SequenceMap: operators that run a graph of their own.

Source: ONNX, the operators of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from bnfold.reference.call import Array, Call

Outputs = list[Any]
# Runs the graph that an attribute of the node holds, on the values of that graph's inputs.
Bodies = Mapping[str, Callable[[list[Any]], Outputs]]
Graphs = Mapping[str, onnx.GraphProto]


def if_(call: Call, graphs: Graphs, run: Bodies, condition: Array) -> Outputs:
    """The outputs of one of two graphs.

    Raises:
        ValueError: the condition is not one element.
    """
    if np.size(condition) != 1:
        raise ValueError(f"the condition has shape {np.shape(condition)}, one element is needed")
    return run["then_branch" if np.asarray(condition).item() else "else_branch"]([])


def loop(
    call: Call,
    graphs: Graphs,
    run: Bodies,
    trips: Array | None = None,
    condition: Array | None = None,
    *initial: Any,
) -> Outputs:
    """Runs the body while the condition holds, ``trips`` times at most.

    Returns:
        The loop-carried values at the end, then the scan outputs, stacked on a new axis 0.
    """
    carried = list(initial)
    body = graphs["body"]
    stacks: list[list[Any]] = [[] for _ in body.output[1 + len(carried) :]]
    limit = None if trips is None else int(np.asarray(trips).item())
    goes_on = condition is None or bool(np.asarray(condition).item())
    number = 0
    while goes_on and (limit is None or number < limit):
        given = [np.asarray(number, dtype=np.int64), np.asarray(True), *carried]
        results = run["body"](given[: len(body.input)])
        goes_on = bool(np.asarray(results[0]).item())
        carried = results[1 : 1 + len(carried)]
        for stack, value in zip(stacks, results[1 + len(carried) :], strict=True):
            stack.append(value)
        number += 1
    infos = body.output[1 + len(carried) :]
    return carried + [_stacked(s, i, 0) for s, i in zip(stacks, infos, strict=True)]


def _stacked(values: list[Any], info: onnx.ValueInfoProto, axis: int) -> Any:
    if values:
        return np.stack(values, axis=axis)
    tensor = info.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else float
    return np.zeros((0, *(d.dim_value for d in tensor.shape.dim)), dtype=dtype)


def scan(call: Call, graphs: Graphs, run: Bodies, *inputs: Any) -> Outputs:
    """Runs the body once for each slice of the scan inputs.

    Before opset 9 the first input is the lengths of the sequences, and axis 0 is the batch.

    Returns:
        The states at the end, then the scan outputs.
    """
    body, count = graphs["body"], call["num_scan_inputs"]
    if call.version >= 9:
        return _scan(call, body, run, list(inputs), count)
    lengths, states_and_scans = inputs[0], inputs[1:]
    batch = np.shape(states_and_scans[-1])[0]
    longest = np.shape(states_and_scans[-1])[1]
    each = []
    for sample in range(batch):
        length = longest if lengths is None else int(lengths[sample])
        values = [value[sample] for value in states_and_scans]
        cut = len(values) - count
        results = _scan(call, body, run, values[:cut] + [v[:length] for v in values[cut:]], count)
        each.append([*results[:cut], *(_lengthened(r, longest) for r in results[cut:])])
    return [np.stack(values) for values in zip(*each, strict=True)]


def _lengthened(values: Array, length: int) -> Array:
    return np.pad(values, [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)])


def _scan(call: Call, body: onnx.GraphProto, run: Bodies, inputs: list[Any], count: int) -> Outputs:
    states, scans = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    outputs = body.output[len(states) :]
    backwards = call.get("scan_input_directions", call.get("directions")) or [0] * count
    axes = call.get("scan_input_axes") or [0] * count
    slices = [
        np.moveaxis(value, axis, 0)[:: -1 if backward else 1]
        for value, axis, backward in zip(scans, axes, backwards, strict=True)
    ]
    stacks: list[list[Any]] = [[] for _ in outputs]
    for number in range(len(slices[0])):
        results = run["body"]([*states, *(part[number] for part in slices)])
        states = results[: len(states)]
        for stack, value in zip(stacks, results[len(states) :], strict=True):
            stack.append(value)
    reversed_ = call.get("scan_output_directions") or [0] * len(outputs)
    axes = call.get("scan_output_axes") or [0] * len(outputs)
    stacked = [
        _stacked(stack[:: -1 if backward else 1], info, axis)
        for stack, info, axis, backward in zip(stacks, outputs, axes, reversed_, strict=True)
    ]
    return [*states, *stacked]


def sequence_map(call: Call, graphs: Graphs, run: Bodies, *inputs: Any) -> Outputs:
    """Runs the body for each element of the first sequence, and of the other sequences with it.

    Returns:
        One sequence for each output of the body.
    """
    results = [
        run["body"]([v[number] if isinstance(v, list) else v for v in inputs])
        for number in range(len(inputs[0]))
    ]
    return [[r[i] for r in results] for i in range(len(graphs["body"].output))]
