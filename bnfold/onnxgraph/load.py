"""Loading: a path, bytes or a ModelProto becomes one Document whose tensors stay where they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError

from bnfold.errors import FileError, ModelError, UsageError
from bnfold.onnxgraph.external import ExternalFiles
from bnfold.onnxgraph.parts import in_parts
from bnfold.onnxgraph.ranges import Range, Source, joined
from bnfold.onnxgraph.skeleton import Payload, Skeleton
from bnfold.onnxgraph.tensors import Tensors
from bnfold.onnxgraph.wire import MODEL_GRAPH, Message

LARGE = 4096
"""Tensors of at least this many bytes stay where they are and are not parsed."""

_SIGNATURES = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint or a Keras file?)",
    b"\x1f\x8b": "gzip-compressed",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
    b"version https://git-lfs": "a Git LFS pointer: fetch the real file with 'git lfs pull'",
    b"<": "a web page or XML",
    b"{": "JSON",
}


class Document:
    """One model as it was loaded: the parsed graph without large tensors, and where all bytes lie.

    Nothing in it is ever changed; what a fold writes is a list of edits beside it.

    Attributes:
        name: what messages call the model.
        source: the bytes of the model file.
        proto: the model, its large tensors left out; read them with ``tensors``.
        model, graph: where the fields of the model and of its main graph lie.
        tensors: reads tensors.
        is_derived: whether the source is not the user's file but made from it (functions inlined),
            so that its large tensors are references.
    """

    def __init__(self, source: Source, name: str, files: ExternalFiles) -> None:
        self.name = name
        self.source = source
        mark = "bnfold-" + os.urandom(12).hex()
        if len(source) == 0:
            raise ModelError(f"{name} is empty")
        try:
            skeleton = Skeleton(source, mark, LARGE)
            self.skeleton = joined(skeleton.build())
            self.proto = onnx.ModelProto.FromString(self.skeleton)
        except (ModelError, DecodeError, UnicodeDecodeError) as error:
            raise ModelError(_not_a_model(source, name, error)) from error
        if skeleton.graph is None or not self.proto.HasField("graph"):
            raise ModelError(_not_a_model(source, name, "it has no graph"))
        self.graph: Message = skeleton.graph
        self.model = Message(source, [(0, len(source))], "model")
        self.model.known[MODEL_GRAPH, 0] = self.graph
        self.tensors = Tensors(mark, skeleton.payloads, files)
        self.is_derived = False

    @property
    def opset(self) -> int:
        """Version of the standard operator set; 1 where an IR before 3 does not say, else 0."""
        found = imported_opset(self.proto)
        if found is None:
            return 1 if self.proto.ir_version < 3 else 0
        return found

    @property
    def payloads(self) -> list[Payload]:
        """The tensor data that was left out, in the order of the file."""
        return self.tensors.payloads

    @property
    def files(self) -> ExternalFiles:
        """The model's external data files."""
        return self.tensors.files

    def with_skeleton(self, skeleton: bytes, added: Sequence[Payload] = ()) -> Document:
        """A document of the same tensors around another skeleton (after inlining functions).

        Args:
            skeleton: a model whose large tensors are marks.
            added: data of further tensors; their marks go on counting where ``payloads`` ends.

        Raises:
            ModelError: a tensor was left in place because another field of it was odd.
        """
        other = Document(Source.of_bytes(skeleton), self.name, self.files)
        if other.payloads:
            raise ModelError(f"{self.name} has a tensor that cannot be moved")
        mine = self.tensors
        other.tensors = Tensors(mine.mark, [*mine.payloads, *added], mine.files) if added else mine
        other.is_derived = True
        return other

    def require_unchanged(self) -> None:
        """Refuse to go on where the model file or one of its data files was changed meanwhile.

        Raises:
            FileError: one was.
        """
        sources = {self.source, *self.files.opened.values()}
        if self.is_derived:
            sources |= {payload.data.source for payload in self.payloads}
        for source in sources:
            source.require_unchanged()

    @property
    def whole(self) -> Range:
        """All bytes of the model file."""
        return Range(self.source, 0, len(self.source))


def imported_opset(proto: onnx.ModelProto | onnx.FunctionProto) -> int | None:
    """The version of the standard operator set that a model or a function imports."""
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    return None


def _not_a_model(source: Source, name: str, detail: object) -> str:
    head = bytes(source.view[:32])
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            return f"{name} is not an ONNX model: it looks like {what}"
    return f"{name} is not an ONNX model, or is damaged: {' '.join(str(detail).split())}"


def load(model: Any, *, name: str | None = None, folder: Path | None = None) -> Document:
    """Load a model from a path, bytes, a ModelProto, or an object that has a ``model_proto``.

    Args:
        model: ``str`` or ``os.PathLike``, ``bytes``, ``onnx.ModelProto``, or torch's
            ``ONNXProgram``. It is not changed.
        name: what messages call it; the path by default.
        folder: where external data lies; the folder of the path by default.

    Raises:
        FileError: the file cannot be read.
        ModelError: it is no ONNX model, or damaged.
        UsageError: ``model`` is of another type.
    """
    if isinstance(model, (str, os.PathLike)):
        path = Path(os.fsdecode(os.fspath(model)))
        if not path.name and not path.is_dir():
            raise FileError("cannot read a model from an empty path")
        files = ExternalFiles(folder or path.parent)
        return _checked(Document(Source.of_file(path), name or str(path), files))
    files = ExternalFiles(folder)
    if isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
        return _checked(Document(Source.of_bytes(data), name or "the model", files))
    if not isinstance(model, onnx.ModelProto):
        model = getattr(model, "model_proto", None)
    if not isinstance(model, onnx.ModelProto):
        raise UsageError(
            "a model is a path, bytes, an onnx.ModelProto, or has a model_proto attribute"
        )
    try:
        data = model.SerializeToString()
    except (EncodeError, ValueError):
        data = joined(in_parts(model))
    return _checked(Document(Source.of_bytes(data), name or "the model", files))


def _checked(document: Document) -> Document:
    if not document.proto.opset_import and document.proto.ir_version >= 3:
        raise ModelError(f"{document.name} is damaged: it imports no operator set")
    texts = [entry.domain for entry in document.proto.opset_import]
    texts += [text for f in document.proto.functions for text in (f.domain, f.name)]
    require_text(texts, document.name)
    return document


def require_text(names: Iterable[Any], model: str) -> None:
    """Refuse names that are not UTF-8, which protobuf hands out as bytes.

    Raises:
        ModelError: one is.
    """
    for name in names:
        if type(name) is not str:
            raise ModelError(f"{model} is damaged: the name {name!r} is not UTF-8 text")
