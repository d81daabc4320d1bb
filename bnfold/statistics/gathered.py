"""Statistics that are gathered so far: kept in files, merged, and gone on with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bnfold.errors import FileError, UsageError
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.ranges import chunks
from bnfold.onnxgraph.save import stage, staging
from bnfold.statistics.moments import Moments, merged

FORMAT: Final = "bnfold statistics"
VERSION: Final = 1


@dataclass
class Gathered:
    """The moments of what some norms normalise, and of which batches they are.

    Attributes:
        model: what it is called, for messages.
        fingerprint: of the model and all its weights.
        mode: ``batch`` or ``sequential``.
        tensors: whose statistics are gathered.
        precision: ``model`` or ``float64``.
        moments: tensor -> moments, of those that have any.
        seen: key of data -> how many of its batches are in the moments. In sequential mode only
            of those tensors that are not done.
        done: the tensors that are finished, in sequential mode.
    """

    model: str
    fingerprint: str
    mode: str
    tensors: tuple[str, ...]
    precision: str = "model"
    moments: dict[str, Moments] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def add(self, found: dict[str, Moments], key: str) -> None:
        """Take up the moments of one batch.

        Args:
            key: of the data that it is from.
        """
        both = dict(self.moments)
        for name, moments in found.items():
            before = both.get(name)
            both[name] = moments if before is None else merged(before, moments)
        seen = {**self.seen, key: self.seen.get(key, 0) + 1}
        # At once: a signal between the two would leave a batch that counts twice after a resume.
        self.moments, self.seen = both, seen

    def finish(self, tensors: Iterable[str]) -> None:
        """Some tensors are done; what comes next begins with the first batch."""
        done: set[str] = self.done | set(tensors)
        self.done, self.seen = done, {}

    @property
    def batches(self) -> int:
        """How many batches there are, of the tensor with the most."""
        return max((m.batches for m in self.moments.values()), default=0)

    def save(self, path: Path) -> None:
        """Write it, all of it or nothing.

        Raises:
            FileError: the file cannot be written.
        """
        whole = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "mode": self.mode,
            "precision": self.precision,
            "tensors": list(self.tensors),
            "seen": self.seen,
            "done": sorted(self.done),
            "moments": {name: _written(moments) for name, moments in self.moments.items()},
        }
        with staging() as staged:
            stage(staged, path, [f"{json.dumps(whole)}\n".encode()])

    def take_up(self, path: Path) -> None:
        """Merge the statistics of a file.

        Raises:
            FileError: it cannot be read, or holds no statistics.
            UsageError: they are of another model, other norms, another mode or precision, or of
                batches that are in already.
        """
        other = _read(path)
        if other.fingerprint != self.fingerprint:
            raise UsageError(f"{path} has statistics of another model ({other.model})")
        if other.mode != self.mode:
            raise UsageError(f"{path} has statistics of mode {other.mode}, not {self.mode}")
        if other.precision != self.precision:
            raise UsageError(
                f"{path} has statistics of precision {other.precision}, not {self.precision}"
            )
        if other.tensors != self.tensors:
            raise UsageError(
                f"{path} has statistics of {_listed(other.tensors)}, and this run is about "
                f"{_listed(self.tensors)}: give the same --only and --skip"
            )
        if self.mode == "sequential" and self.moments:
            raise UsageError(
                f"{path}: statistics of mode sequential cannot be merged, since what each norm "
                "gets depends on the statistics before it, and those differ; use mode batch"
            )
        both = set(self.seen) & set(other.seen)
        if both:
            raise UsageError(f"{path} has batches that another file to be merged has, too")
        self.seen |= other.seen
        self.done |= other.done
        for name, moments in other.moments.items():
            before = self.moments.get(name)
            self.moments[name] = moments if before is None else merged(before, moments)


def fingerprint(document: Document) -> str:
    """A digest of a model, all its weights included."""
    hashed = hashlib.blake2b(digest_size=16)
    for piece in chunks(document.whole):
        hashed.update(piece)
    for payload in document.payloads:
        if payload.data.source is not document.source:
            for piece in chunks(payload.data):
                hashed.update(piece)
    return hashed.hexdigest()


def _written(moments: Moments) -> dict[str, Any]:
    return {
        "count": moments.count,
        "batches": moments.batches,
        **{name: getattr(moments, name).tolist() for name in _VECTORS},
    }


_VECTORS: Final = ("mean", "m2", "mean_of_means", "mean_of_vars")


def _read(path: Path) -> Gathered:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        whole = json.loads(data)
        if not isinstance(whole, dict) or whole.get("format") != FORMAT:
            raise FileError(f"{path} has no statistics of bnfold in it")
        if whole["version"] != VERSION:
            raise FileError(f"{path} was written by another version of bnfold")
        return Gathered(
            str(whole["model"]),
            str(whole["fingerprint"]),
            str(whole["mode"]),
            tuple(map(str, whole["tensors"])),
            str(whole["precision"]),
            {str(name): _moments(entry) for name, entry in whole["moments"].items()},
            {str(key): int(count) for key, count in whole["seen"].items()},
            set(map(str, whole["done"])),
        )
    except FileError:
        raise
    except Exception as error:  # whatever the bytes lead to
        reason = " ".join(str(error).split())[:200]
        raise FileError(f"{path} is damaged, or has no statistics in it: {reason}") from error


def _moments(entry: dict[str, Any]) -> Moments:
    vectors = {name: np.array(entry[name], np.float64) for name in _VECTORS}
    sizes = {vector.shape for vector in vectors.values()}
    count, batches = int(entry["count"]), int(entry["batches"])
    is_finite = all(math.isfinite(value) for v in vectors.values() for value in v.reshape(-1))
    if len(sizes) != 1 or next(iter(sizes))[1:] != () or not is_finite:
        raise ValueError("its vectors are not of one length, or not finite")
    if batches < 1 or count < 2 * batches or (vectors["m2"] < 0).any():
        raise ValueError("its counts or its variances are impossible")
    return Moments(count, batches=batches, **vectors)


def _listed(tensors: Sequence[str]) -> str:
    shown = ", ".join(tensors[:3])
    more = len(tensors) - 3
    return f"{shown} and {more} more" if more > 0 else shown
