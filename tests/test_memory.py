"""The memory of a fold does not grow with the file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.onnxgraph.wire import encoded_varint, tag

MIB = 1 << 20
TOUCHED, UNTOUCHED = 192 * MIB, 1024 * MIB


def varint_field(number: int, content: bytes) -> bytes:
    return tag(number) + encoded_varint(len(content)) + content


def write(path: Path) -> None:
    """A model whose two large weights are holes in the file: zeros that take no space."""
    vectors = [np.full(1024, value, np.float32) for value in (2, 1, 0.5, 4)]
    nodes = [
        helper.make_node("MatMul", ["x", "big"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"gbmv"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for v, n in zip(vectors, "gbmv", strict=True)],
    )
    head = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    shapes = {"w": (TOUCHED, [1024, TOUCHED // 4096, 1, 1]), "big": (UNTOUCHED, [MIB, 256])}
    parts: list[tuple[bytes, int]] = []
    for name, (size, dims) in shapes.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        start = tensor.SerializeToString() + tag(9) + encoded_varint(size)
        parts.append((tag(5) + encoded_varint(len(start) + size) + start, size))
    content = graph.SerializeToString()
    length = len(content) + sum(len(start) + size for start, size in parts)
    with path.open("wb") as stream:
        stream.write(head.SerializeToString() + tag(7) + encoded_varint(length) + content)
        for start, size in parts:
            stream.write(start)
            stream.seek(size, 1)
        stream.truncate()


def peak_of(arguments: list[str]) -> tuple[int, int]:
    """Exit status of a command, and the most anonymous memory that it was seen to hold."""
    process, peak = subprocess.Popen(arguments), 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text().splitlines() if status.exists() else []
        peak = max([peak, *(int(n.split()[1]) for n in lines if n.startswith("RssAnon:"))])
        time.sleep(0.002)
    return process.returncode, peak * 1024


def test_a_fold_of_1200_mb_takes_little_memory_and_keeps_the_holes(tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    write(path)
    assert path.stat().st_size > TOUCHED + UNTOUCHED
    command = [sys.executable, "-m", "bnfold", "fold", str(path), "-o", str(out), "--quiet"]
    status, peak = peak_of(command)
    assert status == 0
    assert peak < 150 * MIB
    assert out.stat().st_size > TOUCHED + UNTOUCHED
    assert out.stat().st_blocks * 512 < TOUCHED + 64 * MIB
