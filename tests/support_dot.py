"""A reader of the part of the DOT language that ``bnfold explain --dot`` writes, by its grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|->|[{}\[\]=;,]|[a-z]+)', re.S)


@dataclass
class Drawn:
    """A graph or a cluster as a reader of DOT sees it.

    Attributes:
        label: as it shows.
        nodes: id -> attributes, of this cluster alone.
        edges: ends -> attributes, of this cluster alone.
        inner: the clusters in it.
    """

    label: str = ""
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: list[tuple[tuple[str, str], dict[str, str]]] = field(default_factory=list)
    inner: list[Drawn] = field(default_factory=list)

    def named(self, title: str) -> Drawn:
        """The cluster in it with a label."""
        (found,) = [cluster for cluster in self.inner if cluster.label == title]
        return found

    def names(self, color: str | None = None) -> list[str]:
        """The first line of each box, of all boxes or of those of a color."""
        boxes = [box for box in self.nodes.values() if box.get("shape") != "ellipse"]
        boxes = [box for box in boxes if color is None or box.get("color") == color]
        return [box["label"].split("\n")[0] for box in boxes]

    def links(self) -> set[tuple[str, str, str]]:
        """First line of both ends, and the tensor."""
        names = {at: box["label"].split("\n")[0] for at, box in self.nodes.items()}
        return {
            (names[one], names[other], look["label"])
            for (one, other), look in self.edges
            if look.get("style") != "invis"
        }


def shown(token: str) -> str:
    """A quoted string as Graphviz shows it."""
    assert token.startswith('"'), f"{token} is not quoted"
    plain = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), token[1:-1])
    return plain.replace("&amp;", "&")


class Reader:
    """Reads the part of the DOT language that ``as_dot`` writes, and nothing else."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found is not None, f"no token at {text[at : at + 40]!r}"
            self.tokens.append(found[1])
            at = found.end()
        self.tokens.reverse()

    def take(self, *wanted: str) -> str:
        token = self.tokens.pop()
        assert not wanted or token in wanted, f"{token} in place of {wanted}"
        return token

    def graph(self) -> Drawn:
        self.take("digraph")
        shown(self.take())
        drawn = self.block()
        assert not self.tokens
        return drawn

    def block(self) -> Drawn:
        drawn = Drawn()
        self.take("{")
        while (first := self.take()) != "}":
            if first == "subgraph":
                assert shown(self.take()).startswith("cluster_")
                drawn.inner.append(self.block())
            elif first == "label":
                self.take("=")
                drawn.label = shown(self.take())
                self.take(";")
            elif first in ("graph", "node", "edge"):
                self.attributes()
            elif self.tokens[-1] == "->":
                self.take("->")
                ends = shown(first), shown(self.take())
                drawn.edges.append((ends, self.attributes()))
            else:
                name = shown(first)
                assert name not in drawn.nodes
                drawn.nodes[name] = self.attributes()
        return drawn

    def attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self.take("[")
        while True:
            name = self.take()
            assert re.fullmatch("[a-z]+", name)
            assert name not in found
            self.take("=")
            found[name] = shown(self.take())
            if self.take(",", "]") == "]":
                self.take(";")
                return found


def clusters(drawn: Drawn) -> Iterator[Drawn]:
    """A graph and all clusters in it."""
    yield drawn
    for cluster in drawn.inner:
        yield from clusters(cluster)
