"""The neighbourhood of each norm, before and after the fold, as text for Graphviz."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from bnfold.folding.course import Courses
from bnfold.folding.decided import Decision, FoldPlan
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import route_line
from bnfold.onnxgraph.edits import Edits
from bnfold.onnxgraph.graph import Node, Scope, Tensor
from bnfold.onnxgraph.ranges import joined
from bnfold.onnxgraph.rewrite import MAIN, Rewrite
from bnfold.onnxgraph.wire import GRAPH_NODE

REMOVED = 'color="red", fontcolor="red", style="dashed"'
CHANGED = 'color="darkgreen", fontcolor="darkgreen", style="bold"'
CROSSED = 'color="blue"'
STAYS = 'color="darkorange", style="bold"'
BESIDE = 'color="gray50", fontcolor="gray40"'

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def as_dot(analysis: Analysis, rewrite: Rewrite) -> str:
    """One cluster for each fold, and one for each norm that stays.

    A cluster holds the operators of the route and one neighbour on each side: as they are on the
    left and, for a fold, as they will be on the right. Red and dashed is what goes, green what
    takes up the norm, blue what is crossed, orange a norm that stays, gray a neighbour.

    Args:
        analysis: the model with its plan.
        rewrite: what carries the plan out.

    Returns:
        A graph in the DOT language, the same for the same model.
    """
    return "\n".join(_Drawing(analysis, rewrite).lines()) + "\n"


@dataclass
class _Picture:
    """Operators that are drawn beside each other.

    Attributes:
        lines: those of the cluster.
        roots: ids of nodes that nothing in the picture comes before.
        last: id of the last node.
    """

    lines: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    last: str = ""


@dataclass(frozen=True)
class _Box:
    """One operator, or an input or output of the graph, in a picture.

    Attributes:
        label: its lines.
        look: attributes of Graphviz.
        inputs, outputs: the tensors that it reads and makes.
    """

    label: tuple[str, ...]
    look: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class _Drawing:
    def __init__(self, analysis: Analysis, rewrite: Rewrite) -> None:
        self._analysis = analysis
        self._written = _Written(rewrite)
        self._gone = {node for node in analysis.index.nodes if not self._written.protos(node)}

    def lines(self) -> Iterator[str]:
        """The whole text, line by line."""
        yield f"digraph {quoted(self._analysis.document.name)} {{"
        yield '  graph [compound="true", rankdir="TB", fontname="Helvetica", labeljust="l"];'
        yield '  node [shape="box", fontname="Helvetica", fontsize="10"];'
        yield '  edge [fontname="Helvetica", fontsize="8", fontcolor="gray40"];'
        above = ""
        for at, (title, sides) in enumerate(self._clusters()):
            yield f"  subgraph {quoted(f'cluster_{at}')} {{"
            yield f"    label={quoted(title)};"
            pictures = [
                _picture(f"{at}.{name}", name if len(sides) > 1 else "", boxes)
                for name, boxes in sides.items()
            ]
            for picture in pictures:
                yield from (f"    {line}" for line in picture.lines)
            if len(pictures) > 1 and all(picture.roots for picture in pictures):
                left, right = (quoted(picture.roots[0]) for picture in pictures)
                yield f'    {left} -> {right} [style="invis", constraint="false"];'
            yield "  }"
            # One cluster below the other: side by side they would be wider than any page.
            roots = [root for picture in pictures for root in picture.roots] if above else []
            for root in roots:
                yield f'  {quoted(above)} -> {quoted(root)} [style="invis"];'
            above = pictures[0].last
        yield "}"

    def _clusters(self) -> Iterator[tuple[str, dict[str, list[_Box]]]]:
        """The title of each cluster and its one or two sides, in the order of the data."""
        of_fold: dict[FoldPlan, list[Decision]] = {}
        for decision in self._analysis.plan.decisions:
            if decision.fold is not None:
                of_fold.setdefault(decision.fold, []).append(decision)
        drawn: set[FoldPlan] = set()
        for decision in self._analysis.plan.decisions:
            fold = decision.fold
            if fold is None:
                yield self._kept(decision)
            elif fold not in drawn:
                drawn.add(fold)
                yield self._fold(fold, of_fold[fold])
        for _, name in self._analysis.in_functions:
            box = _Box((name, "BatchNormalization", "stays: function-body"), STAYS)
            yield f"{name} stays: function-body", {"before": [box]}

    def _kept(self, decision: Decision) -> tuple[str, dict[str, list[_Box]]]:
        norm, refused = decision.norm, decision.refused
        assert refused is not None
        nodes = [step.node for step in norm.steps]
        looks = dict.fromkeys(nodes, STAYS)
        title = f"{norm.name} stays: {refused.code}"
        return title, {"before": self._before(nodes, looks, refused.code)}

    def _fold(
        self, fold: FoldPlan, decisions: Sequence[Decision]
    ) -> tuple[str, dict[str, list[_Box]]]:
        courses = Courses(fold)
        routes = []
        for decision in decisions:
            course = courses.of(decision.norm)
            through = [node.label for node in course.through]
            routes.append(route_line(decision.norm.name, through, course.taken))
        looks = dict.fromkeys(fold.crossed, CROSSED)
        looks |= dict.fromkeys((operand.node for operand in fold.operands), CHANGED)
        looks |= dict.fromkeys((sink.linear.node for sink in fold.sinks), CHANGED)
        backs = [sink.back.node for sink in fold.sinks if sink.back is not None]
        nodes = list(dict.fromkeys((*looks, *fold.gone, *backs)))
        before, after = self._before(nodes, looks), self._after(nodes, looks)
        return "\n".join(routes), {"before": before, "after": after}

    def _before(self, nodes: Sequence[Node], looks: dict[Node, str], code: str = "") -> list[_Box]:
        boxes: list[_Box] = []
        around = self._around(nodes)
        for node in around:
            # A norm can stay as the Add behind an operator that has no bias of its own.
            look = looks.get(node, CHANGED if node in nodes else BESIDE)
            look = REMOVED if node in self._gone else look
            kept = (f"stays: {code}",) if code and node in nodes else ()
            inputs = tuple(t.name for t in node.inputs if t is not None)
            outputs = tuple(t.name for t in node.outputs if t is not None)
            label = (node.label, node.op_type, *kept)
            boxes.append(_Box(label, look, inputs, outputs))
        return self._with_ends(nodes, boxes)

    def _after(self, nodes: Sequence[Node], looks: dict[Node, str]) -> list[_Box]:
        boxes: list[_Box] = []
        for node in self._around(nodes):
            look = looks.get(node, CHANGED if node in nodes else BESIDE)
            for proto in self._written.protos(node):
                label = (proto.name or (proto.output or ["?"])[0], proto.op_type)
                boxes.append(_Box(label, look, tuple(proto.input), tuple(proto.output)))
        return self._with_ends(nodes, boxes)

    def _around(self, nodes: Sequence[Node]) -> list[Node]:
        """Some nodes and one neighbour on each side of them that stays, in the order of the data.

        Operators that make constants are left out, as constants are.
        """
        found = dict.fromkeys(nodes)
        for towards in (self._makers, self._readers):
            waiting = list(nodes)
            while waiting:
                for node in towards(waiting.pop()):
                    if node not in found:
                        found[node] = None
                        waiting += [node] if node in self._gone else []
        return sorted(found, key=lambda node: node.path)

    @staticmethod
    def _makers(node: Node) -> list[Node]:
        makers = (t.producer for t in node.inputs if t is not None)
        return [maker for maker in makers if maker is not None and any(maker.inputs)]

    @staticmethod
    def _readers(node: Node) -> list[Node]:
        return [reader for t in node.outputs if t is not None for reader in t.readers]

    def _with_ends(self, nodes: Sequence[Node], boxes: list[_Box]) -> list[_Box]:
        """Some boxes, and the inputs and outputs of the graph that belong to them."""
        read = {name for box in boxes for name in box.inputs}
        made = {name for box in boxes for name in box.outputs}
        scopes = dict.fromkeys(node.scope for node in nodes)
        first = [
            _Box((t.name, "input"), 'shape="ellipse"', (), (t.name,))
            for t in _ends(scopes, read)
            if t.is_input and t.initializer is None
        ]
        last = [
            _Box((t.name, "output"), 'shape="ellipse"', (t.name,))
            for t in _ends(scopes, made)
            if t.is_output
        ]
        return [*first, *boxes, *last]


class _Written:
    """The nodes that will stand in the place of each node."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._edits = rewrite.edits
        self._graphs: dict[Scope, Edits | None] = {}

    def protos(self, node: Node) -> Sequence[onnx.NodeProto]:
        scope = node.scope
        if scope not in self._graphs:
            self._graphs[scope] = self._edits.find((*MAIN, *scope.path))
        edits = self._graphs[scope]
        pieces = edits.replaced.get((GRAPH_NODE, node.position)) if edits is not None else None
        if pieces is None:
            return [node.proto]
        # The fields of nodes by themselves are a graph that has nothing else.
        return list(onnx.GraphProto.FromString(joined(pieces)).node)


def _ends(scopes: Iterable[Scope], names: Collection[str]) -> list[Tensor]:
    found = (scope.tensors.get(name) for scope in scopes for name in sorted(names))
    return [tensor for tensor in found if tensor is not None]


def _picture(at: str, title: str, boxes: Sequence[_Box]) -> _Picture:
    """The boxes of one side, with an edge for each tensor from its maker to its readers."""
    picture = _Picture()
    makers: dict[str, int] = {}
    for number, box in enumerate(boxes):
        makers |= {name: number for name in box.outputs if name}
    edges = {
        (makers[name], number, name): None
        for number, box in enumerate(boxes)
        for name in box.inputs
        if name in makers
    }
    indent = ""
    if title:
        picture.lines += [f"subgraph {quoted(f'cluster_{at}')} {{", f"  label={quoted(title)};"]
        indent = "  "
    ids = [f"{at}.{number}" for number in range(len(boxes))]
    for name, box in zip(ids, boxes, strict=True):
        label = quoted("\n".join(box.label))
        picture.lines.append(f"{indent}{quoted(name)} [label={label}, {box.look}];")
    for maker, reader, tensor in edges:
        ends = f"{quoted(ids[maker])} -> {quoted(ids[reader])}"
        picture.lines.append(f"{indent}{ends} [label={quoted(tensor)}];")
    if title:
        picture.lines.append("}")
    reached = {reader for _, reader, _ in edges}
    picture.roots = [name for number, name in enumerate(ids) if number not in reached]
    picture.last = ids[-1] if ids else ""
    return picture


def quoted(text: str) -> str:
    """A text as a string of the DOT language that shows as it is, whatever is in it.

    Line breaks stay line breaks. Other control characters, which no label can hold, become
    escapes that can be read, such as ``\\x1b``.
    """
    shown = _CONTROL.sub(
        lambda found: found[0] if found[0] == "\n" else ascii(found[0])[1:-1], text
    )
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("&", "&amp;"), ("\n", "\\n")):
        shown = shown.replace(plain, escaped)
    return f'"{shown}"'
