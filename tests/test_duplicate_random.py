"""Random models with --duplicate: copies take up norms, and nothing changes but rounding."""

from __future__ import annotations

import random

import onnx
import pytest

import bnfold
from tests.support_branches import bn, norm, require_close
from tests.support_duplicate import fold, shared
from tests.support_models import feeds_for, filled, parsed

DECLARED = ", ".join(
    (
        "float[4,1,3,3] w0, float[4,1,3,3] w1, float[4,4,1,1] u, float[4,4,3,3] t, float[4] h",
        "float[4,1,1] k, float[4,1,1] l",
        *(norm(str(number)) for number in range(3)),
    )
)


def random_model(seed: int) -> onnx.ModelProto:
    """A dozen nodes, most of them norms, that read each other's outputs; all ends are outputs."""
    draw = random.Random(seed)
    body: list[str] = []
    made = ["x"]
    read: set[str] = set()
    for at in range(draw.randint(4, 12)):
        data, name = draw.choice(made[-4:]), f"t{at}"
        read.add(data)
        forms = [
            f"{name} = Conv <pads=[1,1,1,1], group=4> ({data}, w{draw.randint(0, 1)})",
            f"{name} = Conv ({data}, u, h)",
            f"{name} = Conv <pads=[1,1,1,1]> ({data}, t)",
            f"{name} = Identity ({data})",
            f"{name} = Dropout ({data})",
            f"{name} = Relu ({data})",
            f"{name} = Mul ({data}, k)",
            f"{name} = Add ({data}, l)",
        ]
        norms = [bn(name, data, str(draw.randint(0, 2))), bn(name, data, "0")]
        body.append(draw.choice(forms + 2 * norms))
        made.append(name)
    outputs = [name for name in made[1:] if name not in read or draw.random() < 0.1]
    model = filled(parsed(shared(" ".join(body), DECLARED, ", ".join(outputs))), seed)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    return model


@pytest.mark.parametrize("seed", range(40))
def test_random_models(seed: int) -> None:
    model = random_model(seed)
    result = fold(model)
    report = result.report
    assert {copied.copy for copied in report.copied} <= {norm.into for norm in report.folded}
    assert len(report.folded) >= len(bnfold.explain(model).folded)
    onnx.checker.check_model(result.model, full_check=True)
    require_close(model, result.model, feeds_for(model, seed))
    graph = result.model.graph
    needed = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    assert all(set(node.output) & needed for node in graph.node)


def test_some_of_them_have_copies() -> None:
    copied = [bnfold.explain(random_model(seed), duplicate=True).copied for seed in range(40)]
    assert sum(map(bool, copied)) >= 5
