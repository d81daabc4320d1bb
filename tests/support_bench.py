"""Short benchmarks of tiny models, and what they must not leave behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx

import bnfold
from bnfold.measuring.outcome import BenchReport
from tests.support_models import filled, norm_parameters, parsed

SHORT = 0.02
"""Seconds of a cell."""

AFTER_RELU = """agraph (float[N,16,9,9] x) => (float[N,16,7,7] y)
    <float[16,16,3,3] w, float[16,16,1,1] k, PARAMETERS> {
    [conv0] c = Conv <pads=[1,1,1,1]> (x, w)
    [act] r = Relu (c)
    [bn] n = BatchNormalization (r, g, b, m, v)
    [conv1] y = Conv (n, w)
}""".replace("PARAMETERS", norm_parameters(16))
"""onnxruntime folds only into the operator before a norm; bnfold folds this one forward."""


def benched(original: Any, folded: Any = None, **options: Any) -> BenchReport:
    """A benchmark at one level that takes no longer than it has to."""
    return bnfold.benchmark(
        original, folded, **{"duration": SHORT, "levels": ["disable"], **options}
    )


def after_relu(dtype: str = "float") -> onnx.ModelProto:
    """A norm behind a Relu, in front of a Conv without padding."""
    text = AFTER_RELU.replace(" float[16,16,1,1] k,", "")
    return filled(parsed(text, dtype=dtype))


def children() -> set[str]:
    """The numbers of the processes that this one started and that are not gone."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.exists():
        return set()
    return {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
