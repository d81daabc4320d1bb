"""Names after a fold: a name that stays means what it meant before.

A tensor that goes leaves its place to the one that has its values from now on. A tensor that
carries other values than before gets another name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from bnfold.folding.find import Step
from bnfold.folding.route import Route
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.expressions import is_read_by_value
from bnfold.onnxgraph.graph import Node, Tensor


class Names:
    """The names of the tensors that some folds touch.

    Args:
        hosts: operators without a bias -> the step that stays behind them as an Add.
        same: those of them whose own output keeps its values.
    """

    def __init__(
        self,
        folds: Sequence[Route],
        hosts: Mapping[Node, Step],
        same: Collection[Node],
        surgery: Surgery,
    ) -> None:
        self._surgery = surgery
        self._instead: dict[Tensor, Tensor] = {}
        self._names: dict[Tensor, str] = {}
        self._touched: dict[Tensor, None] = {}
        self._gone: set[Node] = set()
        for fold in folds:
            self._instead.update(fold.instead)
            self._gone.update(fold.gone)
        self._gone.difference_update(step.node for step in hosts.values())
        self._hosts = {node.outputs[0]: step for node, step in hosts.items()}
        for node in hosts:
            # The operator and its host are two nodes, so the tensor between them stays.
            made = node.outputs[0]
            assert made is not None
            self._instead.pop(made, None)
            self._touched[made] = None
            if node not in same:
                self._names[made] = surgery.fresh(f"{made.name}_unbiased")
        for fold in folds:
            self._touched.update(dict.fromkeys((*fold.instead, *fold.changed)))
            for tensor in fold.changed:
                if tensor not in self._instead and tensor not in self._names:
                    self._names[tensor] = surgery.fresh(f"{tensor.name}_folded")
        for step in hosts.values():
            if step.output is not None:
                self._touched[step.output] = None

    def of(self, tensor: Tensor) -> str:
        """The name of what has a tensor's values, or stands in its place, from now on."""
        last = self._last(tensor)
        return self._names.get(last, last.name)

    def _last(self, tensor: Tensor) -> Tensor:
        while tensor in self._instead:
            tensor = self._instead[tensor]
        return tensor

    def _behind(self, tensor: Tensor) -> Tensor:
        """What readers of a tensor read from now on: what its host makes, if it has one.

        The host itself gets its inputs with the bias.
        """
        host = self._hosts.get(tensor)
        return self._last(tensor if host is None or host.output is None else host.output)

    def _read_by(
        self, node: Node, tensor: Tensor, ahead: Mapping[Tensor, tuple[Tensor, Node]]
    ) -> str:
        """The name that a reader of a tensor reads from now on.

        One that needs no values and stands before the host reads what the operator makes, which
        is there already.

        Args:
            ahead: for what a host makes, what its operator makes, and the host.
        """
        behind = self._behind(tensor)
        if behind in ahead and not is_read_by_value(tensor, node):
            made, host = ahead[behind]
            if _is_before(node, host):
                return self.of(made)
        return self._names.get(behind, behind.name)

    def changed(self) -> Iterator[tuple[Node, onnx.NodeProto]]:
        """Every node that stays and names another tensor than before."""
        nodes: dict[Node, onnx.NodeProto] = {}
        ahead = {
            self._last(step.output): (made, step.node)
            for made, step in self._hosts.items()
            if made is not None and step.output is not None
        }
        for tensor in self._touched:
            name, behind = self.of(tensor), self._behind(tensor)
            if name == self._names.get(behind, behind.name) == tensor.name:
                continue
            if name != tensor.name:
                is_new = name == self._names.get(tensor)
                self._surgery.vanish(tensor, renamed=name if is_new else "")
            around = [tensor.producer] if tensor.producer is not None else []
            for node in (*around, *tensor.readers):
                if node in self._gone:
                    continue
                if node not in nodes:
                    nodes[node] = onnx.NodeProto()
                    nodes[node].CopyFrom(node.proto)
                for at, read in enumerate(node.inputs):
                    if read is tensor:
                        nodes[node].input[at] = self._read_by(node, tensor, ahead)
                for at, made in enumerate(node.outputs):
                    if made is tensor:
                        nodes[node].output[at] = name
        yield from nodes.items()


def _is_before(node: Node, other: Node) -> bool:
    """Whether a node, or the node that it is inside of, stands before another one."""
    depth = len(other.scope.path)
    return node.path[:depth] == other.scope.path and node.path[depth] < other.path[depth]
