"""Merge the blocks of a model: a stage of its own, before the norms that are left are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from onnx import helper

from bnfold.errors import ModelError
from bnfold.folding.branches.blocks import Block, Survey
from bnfold.folding.branches.kernel import Kernel
from bnfold.folding.branches.read import ReadBlock, ReadNorm, read_block
from bnfold.folding.branches.store import Stored, store
from bnfold.folding.branches.unfit import Unfit
from bnfold.folding.branches.write import NewConv, rewrite
from bnfold.folding.find import Selection
from bnfold.folding.outcome import Folded, MergedBlock, UnmergedBlock
from bnfold.folding.rules.reading import Context
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.types import Types

NOTE = "merged with parallel branches"
MOST_RETRIED = 256
"""Blocks of more nodes are not tried in parts where they do not merge as a whole."""


@dataclass(frozen=True, eq=False)
class Merge:
    """One block that became one Conv.

    Attributes:
        block: its nodes.
        new: the Conv.
        sizes: the spatial sizes of its origin for which alone it is exact, by axis.
        norms: what the report lists as folded.
        outcome: what the report says of the block.
    """

    block: Block
    new: NewConv
    sizes: dict[int, int]
    norms: tuple[Folded, ...]
    outcome: MergedBlock


@dataclass(frozen=True, eq=False)
class Merged:
    """A model with its blocks merged.

    Attributes:
        document: the model; the very one that was given where nothing merges.
        index, context: of the model that was given.
        merges: one for each block that merged, in the order of the data.
        unmerged: blocks that stay, and why.
    """

    document: Document
    index: Index
    context: Context
    merges: tuple[Merge, ...] = ()
    unmerged: tuple[UnmergedBlock, ...] = ()

    def exact(self, merge: Merge) -> Kernel:
        """The kernel of a block once more, before it was rounded."""
        found = read_block(merge.block, self.context)
        assert isinstance(found, ReadBlock)
        return found.kernel


def merge_branches(
    document: Document, selection: Selection, *, assume_inference: bool = False
) -> Merged:
    """Turn each sum of parallel branches that is one convolution, exactly, into one Conv.

    Linear in the number of nodes. The merged weights, rounded, are held in memory.

    Args:
        document: the model; it is not changed.
        selection: the norms that the user wants folded; a block with another one stays.
        assume_inference: whether training-mode norms are read as inference.

    Raises:
        ModelError: the graph contradicts itself.
    """
    index = Index(document)
    types = Types(index)
    context = Context(Constants(index, types), types, document.opset, assume_inference)
    with np.errstate(all="ignore"):
        merger = _Merger(Survey(index, context), selection, context)
        merger.run()
    merged = Merged(document, index, context, tuple(merger.merges), tuple(merger.unmerged))
    if not merger.merges:
        return merged
    try:
        after = rewrite(index, [merge.new for merge in merger.merges])
    except ModelError as error:
        # A tensor that cannot be moved; the model stays what it is.
        stays = [_stays(merge.block, Unfit(str(error))) for merge in merger.merges]
        return replace(merged, merges=(), unmerged=(*merged.unmerged, *stays))
    return replace(merged, document=after)


class _Merger:
    def __init__(self, survey: Survey, selection: Selection, context: Context) -> None:
        self.merges: list[Merge] = []
        self.unmerged: list[UnmergedBlock] = []
        self._survey = survey
        self._selection = selection
        self._context = context

    def run(self) -> None:
        for node, shared in self._survey.apart:
            self.unmerged.append(
                UnmergedBlock(
                    node.label,
                    node.scope.where,
                    f"{shared.name}, inside of a branch, {_why(shared)}",
                )
            )
        waiting = list(reversed(self._survey.roots))
        reported: set[Tensor] = set()
        while waiting:
            root = waiting.pop()
            block = self._survey.block(root)
            if not block.has_conv or block.branches < 2:
                continue
            found = self._merge(block)
            if isinstance(found, Merge):
                self.merges.append(found)
                continue
            inner = self._survey.inner(root)
            if root not in reported:
                self.unmerged.append(_stays(block, found))
            if len(block.roles) <= MOST_RETRIED:
                waiting += reversed(inner)
                if not block.ends_in_sum:
                    # The same block without its last norm: it needs no reason of its own.
                    reported.update(inner)

    def _merge(self, block: Block) -> Merge | Unfit:
        origin = block.origin
        if origin.initializer is not None or self._context.constants.why_not(origin) is None:
            return Unfit(f"{origin.name} is constant")
        found = read_block(block, self._context)
        if isinstance(found, Unfit):
            return found
        why = self._why_excluded(found.norms)
        if why is not None:
            return why
        data_type = found.host.weight.data_type
        stored = store(found.kernel, helper.tensor_dtype_to_np_dtype(data_type))
        if isinstance(stored, Unfit):
            return stored
        return _merge_of(found, stored)

    def _why_excluded(self, norms: Sequence[ReadNorm]) -> Unfit | None:
        only, skip = self._selection.only, self._selection.skip
        for norm in norms:
            for pattern in skip:
                if any(fnmatchcase(label, pattern) for label in norm.labels):
                    return Unfit(f"{norm.name} matches --skip {pattern}")
            if only and not any(fnmatchcase(x, pattern) for x in norm.labels for pattern in only):
                return Unfit(f"{norm.name} matches no --only pattern")
        return None


def _merge_of(found: ReadBlock, stored: Stored) -> Merge:
    block, host, kernel = found.block, found.host, found.kernel
    where, name = block.where, host.node.label
    notes: list[str] = []
    if stored.kept_subnormal:
        notes.append(
            f"{stored.kept_subnormal} subnormal float16 weights of {name} stay: zero would be "
            "another function"
        )
    norms = tuple(
        Folded(
            norm=norm.name,
            kind="batch-norm" if norm.batch_norm is not None else "constant-chain",
            nodes=norm.labels,
            graph=where,
            into=name,
            operator="Conv",
            channels=kernel.outputs,
            taken=(name,),
            assumed_inference=norm.assumed_inference,
            notes=(NOTE,),
        )
        for norm in found.norms
    )
    outcome = MergedBlock(
        into=name,
        graph=where,
        branches=kernel.names,
        kernel=kernel.window.kernel,
        norms=tuple(norm.name for norm in found.norms),
        nodes=len(block.roles),
        flushed=stored.flushed,
        notes=tuple(notes),
    )
    return Merge(block, NewConv.of(block, host, kernel, stored), found.sizes, norms, outcome)


def _stays(block: Block, why: Unfit) -> UnmergedBlock:
    assert block.root.producer is not None
    return UnmergedBlock(block.root.producer.label, block.where, why.sentence)


def _why(tensor: Tensor) -> str:
    if tensor.is_output:
        return "is also an output of the graph"
    if tensor.is_pinned:
        return "is named by a quantisation annotation or by training information"
    return "is also read elsewhere"
