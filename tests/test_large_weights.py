"""Several large weights in one model: compared and written side by side, with the same outcome."""

from __future__ import annotations

import errno
import io
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from benchmarks.fold_speed_files import Chain
from bnfold.checking import large
from bnfold.folding.store import StoredWeight
from bnfold.onnxgraph.ranges import CHUNK

SIZE = 1024
LAYERS = 3
assert SIZE * SIZE * 4 >= CHUNK


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conv, BatchNormalization and Relu three times, each weight of 4 MiB."""
    path = tmp_path_factory.mktemp("large") / "in.onnx"
    Chain(LAYERS, SIZE, 1).write(path)
    return path


@pytest.fixture(scope="module")
def expected(model: Path) -> bytes:
    """What a fold writes to a stream, which takes everything in its order."""
    stream = io.BytesIO()
    bnfold.fold(model).write(stream)
    return stream.getvalue()


def test_the_file_has_the_bytes_of_the_stream(model: Path, expected: bytes, tmp_path: Path) -> None:
    bnfold.fold(model).save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == expected


def test_the_data_file_has_the_values_of_the_stream(
    model: Path, expected: bytes, tmp_path: Path
) -> None:
    bnfold.fold(model).save(tmp_path / "out.onnx", form="external")
    written = onnx.load(tmp_path / "out.onnx"), onnx.ModelProto.FromString(expected)
    found, right = (
        {t.name: numpy_helper.to_array(t) for t in each.graph.initializer} for each in written
    )
    assert found.keys() == right.keys()
    assert all((found[name] == right[name]).all() for name in right)


def test_places_in_a_file_cannot_be_written(
    model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pwrite", raising=False)
    bnfold.fold(model).save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == expected


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="not on this system")
class TestPlaces:
    def test_short_writes_are_continued(
        self, model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.pwrite
        threads: set[int] = set()

        def short(handle: int, data: memoryview, at: int) -> int:
            threads.add(threading.get_ident())
            return write(handle, data[:99_991], at)

        monkeypatch.setattr(os, "pwrite", short)
        bnfold.fold(model).save(tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == expected
        assert threading.get_ident() not in threads
        assert threads

    @pytest.mark.parametrize("at", [0, 1, 6])
    def test_a_full_disk_leaves_nothing(
        self, at: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, calls = os.pwrite, iter(range(1000))

        def full(handle: int, data: memoryview, place: int) -> int:
            if next(calls) >= at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(handle, data, place)

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(bnfold.FileError, match=r"out\.onnx: No space left on device"):
            bnfold.fold(model).save(tmp_path / "out.onnx")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
class TestCores:
    def test_a_right_fold_passes(
        self, cores: int, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(large, "cores", lambda: cores)
        checked = bnfold.fold(model).report.checked
        assert checked is not None
        assert checked.regions == LAYERS
        assert 0.4 < checked.max_ulp <= 0.5

    @pytest.mark.parametrize("layer", range(LAYERS))
    def test_one_wrong_number_is_found(
        self, cores: int, layer: int, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = StoredWeight.chunks

        def wrong(self: StoredWeight) -> Any:
            for number, chunk in enumerate(right(self)):
                if number == 3 and self._linear.node.label == f"conv{layer}":
                    values = np.frombuffer(chunk, np.float32).copy()
                    values[77_777] = np.nextafter(values[77_777], np.float32(np.inf))
                    chunk = values.view(np.uint8).data
                yield chunk

        monkeypatch.setattr(large, "cores", lambda: cores)
        monkeypatch.setattr(StoredWeight, "chunks", wrong)
        with pytest.raises(bnfold.VerificationError, match=f"bn{layer} into conv{layer} failed"):
            bnfold.fold(model)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries free otherwise")
def test_freed_blocks_are_used_again() -> None:
    code = (
        "import resource, numpy as np\n"
        "from bnfold.cli.batch import _keep_freed_memory\n"
        "_keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def use(): [np.ones(3 << 20, np.uint8) for _ in range(5)]\n"
        "use()\n"
        "before = faults()\n"
        "for _ in range(20): use()\n"
        "print((faults() - before) * resource.getpagesize() / (3 << 20))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert float(done.stdout) < 5  # blocks; about 100 if they were given back
