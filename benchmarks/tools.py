"""bnfold and the other tools that fold norms, each as a command that turns a file into another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Final

Command = list[str]

_ONNXRUNTIME: Final = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.optimized_model_filepath = sys.argv[2]
options.log_severity_level = 3
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""

_OTHER: Final = """
import sys
import onnx
{imports}
model = onnx.load(sys.argv[1])
onnx.save({call}, sys.argv[2])
"""

BNFOLD: Final = "bnfold"

# Each peer with the script that does its work; the two paths are its arguments.
PEERS: Final = {
    "onnxruntime": _ONNXRUNTIME,
    "onnxsim": _OTHER.format(imports="import onnxsim", call="onnxsim.simplify(model)[0]"),
    "onnxslim": _OTHER.format(imports="import onnxslim", call="onnxslim.slim(model)"),
    "onnxscript": _OTHER.format(
        imports="from onnxscript import optimizer, rewriter",
        call="rewriter.rewrite(optimizer.optimize(model))",
    ),
    "onnxoptimizer": _OTHER.format(
        imports="import onnxoptimizer",
        call='onnxoptimizer.optimize(model, ["fuse_bn_into_conv"])',
    ),
}


def _by_bnfold(source: str, target: str, *options: str) -> Command:
    return [sys.executable, "-m", "bnfold", "fold", source, "-o", target, "-q", *options]


def _peer(script: str) -> Callable[[str, str], Command]:
    return lambda source, target: [sys.executable, "-c", script, source, target]


TOOLS: Final[dict[str, Callable[[str, str], Command]]] = {
    BNFOLD: _by_bnfold,
    f"{BNFOLD} --no-verify": lambda source, target: _by_bnfold(source, target, "--no-verify"),
    **{name: _peer(script) for name, script in PEERS.items()},
}


def installed(names: Sequence[str]) -> Iterator[str]:
    """Those of the tools that can be imported; imports none."""
    for name in names:
        if find_spec(name.split()[0]) is not None:
            yield name
