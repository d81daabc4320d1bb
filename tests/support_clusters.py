"""Random small models whose norms go through other operators, back and forward."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from tests.support_models import norm_parameters

CHANNELS = 4


class Writer:
    """The text of a graph, line by line; every tensor is ``(2, 4, H, W)``."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.declared: list[str] = []
        self._count = 0

    def fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def constant(self, shape: str) -> str:
        name = self.fresh("k")
        self.declared.append(f"float[{shape}] {name}")
        return name

    def line(self, text: str) -> str:
        """Add ``{} = ...`` with a new name."""
        name = self.fresh("t")
        self.lines.append(f"{name} = {text}")
        return name

    def conv(self, data: str, *, padded: bool = True) -> str:
        group = self.draw(st.sampled_from([1, 1, 2, 4]))
        kernel = self.draw(st.sampled_from([1, 3])) if padded else 1
        weight = self.constant(f"{CHANNELS},{CHANNELS // group},{kernel},{kernel}")
        pads = ",".join([str(kernel // 2)] * 4)
        operands = [data, weight]
        if self.draw(st.booleans()):
            operands.append(self.constant(f"{CHANNELS}"))
        return self.line(f"Conv <group={group}, pads=[{pads}]> ({', '.join(operands)})")

    def norm(self, data: str) -> str:
        at = self.fresh("")
        self.declared.append(norm_parameters(CHANNELS, at))
        return self.line(f"BatchNormalization ({data}, g{at}, b{at}, m{at}, v{at})")

    def affine(self, data: str, shape: str = f"{CHANNELS},1,1") -> str:
        for op_type in self.draw(st.sampled_from([["Mul", "Add"], ["Mul"], ["Sub"], ["Div"]])):
            operands = [data, self.constant(shape)]
            if op_type != "Div" and self.draw(st.booleans()):
                operands.reverse()
            data = self.line(f"{op_type} ({', '.join(operands)})")
        return data

    def either(self, data: str) -> str:
        return self.norm(data) if self.draw(st.booleans()) else self.affine(data)


def behind_transpose(w: Writer, x: str) -> str:
    turned = w.line(f"Transpose <perm=[0,2,3,1]> ({w.conv(x)})")
    return w.line(f"Transpose <perm=[0,3,1,2]> ({w.affine(turned, str(CHANNELS))})")


def behind_sum(w: Writer, x: str) -> str:
    op_type = w.draw(st.sampled_from(["Add", "Sub", "Sum"]))
    return w.either(w.line(f"{op_type} ({w.conv(x)}, {w.conv(x)})"))


def behind_concat(w: Writer, x: str) -> str:
    axis = w.draw(st.sampled_from([2, 3]))
    return w.either(w.line(f"Concat <axis={axis}> ({w.conv(x)}, {w.conv(x)})"))


def behind_pool(w: Writer, x: str) -> str:
    kind = w.draw(st.sampled_from(["AveragePool", "MaxPool"]))
    pads = w.draw(st.sampled_from(["", ", pads=[1,1,1,1]"]))
    return w.either(w.line(f"{kind} <kernel_shape=[2,2]{pads}> ({w.conv(x)})"))


def behind_relu(w: Writer, x: str) -> str:
    return w.either(w.line(f"Relu ({w.conv(x)})"))


def ahead(w: Writer, x: str) -> str:
    return w.conv(w.either(x), padded=w.draw(st.booleans()))


def ahead_of_both(w: Writer, x: str) -> str:
    normal = w.either(x)
    return w.line(f"Add ({w.conv(normal, padded=False)}, {w.conv(normal, padded=False)})")


def sandwich(w: Writer, x: str) -> str:
    return w.either(w.conv(w.either(x), padded=False))


def ahead_through(w: Writer, x: str) -> str:
    turned = w.line(f"Transpose <perm=[0,3,2,1]> ({w.either(x)})")
    return w.conv(w.line(f"Transpose <perm=[0,3,2,1]> ({turned})"), padded=False)


def product(w: Writer, x: str) -> str:
    """A MatMul over the channels, in the middle of a way forward and back."""
    turned = w.line(f"Transpose <perm=[0,2,3,1]> ({w.either(x)})")
    made = w.line(f"MatMul ({turned}, {w.constant(f'{CHANNELS},{CHANNELS}')})")
    if w.draw(st.booleans()):
        made = w.affine(made, str(CHANNELS))
    return w.line(f"Transpose <perm=[0,3,1,2]> ({made})")


def twice(w: Writer, x: str) -> str:
    made = w.conv(x)
    at = w.fresh("")
    w.declared.append(norm_parameters(CHANNELS, at))
    parts = [w.line(f"BatchNormalization ({made}, g{at}, b{at}, m{at}, v{at})") for _ in "12"]
    return w.line(f"Add ({w.conv(parts[0])}, {w.line(f'Relu ({parts[1]})')})")


def opaque(w: Writer, x: str) -> str:
    return w.line(f"Relu ({x})")


BLOCKS: list[Callable[[Writer, str], str]] = [
    behind_transpose,
    behind_sum,
    behind_concat,
    behind_pool,
    behind_relu,
    ahead,
    ahead_of_both,
    sandwich,
    ahead_through,
    product,
    twice,
    opaque,
]


@st.composite
def models(draw: st.DrawFn) -> str:
    """The text of a graph."""
    w = Writer(draw)
    data, outputs = "x", []
    for block in draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4)):
        data = block(w, data)
        if draw(st.integers(0, 5)) == 0:
            outputs.append(data)
    if draw(st.integers(0, 5)) == 0:
        # Somebody else reads a tensor on the way.
        other = draw(st.sampled_from(w.lines)).split(" ")[0]
        outputs.append(w.line(f"Abs ({other})"))
    outputs = [*dict.fromkeys([*outputs, data])]
    listed = ", ".join(
        f"float[{','.join(f'{name}_{at}' for at in range(4))}] {name}" for name in outputs
    )
    height, width = draw(st.sampled_from([("6", "7"), ("H", "W")]))
    return (
        f"agraph (float[2,{CHANNELS},{height},{width}] x) => ({listed}) "
        f"<{', '.join(w.declared)}> {{ {'  '.join(w.lines)} }}"
    )
