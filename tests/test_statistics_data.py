"""Where mini-batches come from, and what is said of data that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from bnfold.errors import FileError, UsageError
from bnfold.statistics.data import Batches, batches_of
from bnfold.statistics.inputs import InputInfo
from tests.support_calibrate import Array

X = InputInfo("x", TensorProto.FLOAT, (None, 2))
Z = InputInfo("z", TensorProto.INT64, (None,))
DATA = np.arange(20, dtype=np.float32).reshape(10, 2)


def read(batches: Batches, name: str = "x") -> list[Any]:
    return [feed[name].tolist() for feed in batches]


def rows(*numbers: int) -> list[list[float]]:
    return [[2.0 * n, 2.0 * n + 1] for n in numbers]


def write(folder: Path, form: str) -> Path:
    """The same ten samples in each form of a file."""
    if form == "npy":
        np.save(folder / "d.npy", DATA)
        return folder / "d.npy"
    if form == "npz":
        np.savez(folder / "d.npz", x=DATA, labels=np.arange(10))
        return folder / "d.npz"
    if form == "compressed":
        np.savez_compressed(folder / "d.npz", x=DATA)
        return folder / "d.npz"
    if form == "another name":
        np.savez(folder / "d.npz", images=DATA)
        return folder / "d.npz"
    inside = folder / "inside"
    inside.mkdir()
    np.save(inside / "0.npy", DATA[:3])
    np.savez(inside / "1.npz", x=DATA[3:4])
    np.savez_compressed(inside / "2.npz", x=DATA[4:])
    (inside / "notes.txt").write_text("no data")
    return inside


FORMS = ["npy", "npz", "compressed", "another name", "folder"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_gives_the_same_batches(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    found = batches_of(path, inputs=[X], batch_size=4)
    wanted = [rows(0, 1, 2, 3), rows(4, 5, 6, 7), rows(8, 9)]
    assert read(found) == read(found) == wanted
    assert found.total == 3
    assert read(batches_of(str(path), inputs=[X], batch_size=4, drop_last=True)) == wanted[:2]
    assert read(batches_of(path, inputs=[X], batch_size=4, batches=1)) == wanted[:1]
    assert [feed["x"].tolist() for feed in found.after(2)] == wanted[2:]


@pytest.mark.parametrize("form", FORMS)
def test_shuffled_batches_are_the_same_for_one_seed(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    one, again, other = (
        read(batches_of(path, inputs=[X], batch_size=4, shuffle=True, seed=seed))
        for seed in (1, 1, 2)
    )
    assert one == again != other
    for order in (one, other):
        assert sorted(row for batch in order for row in batch) == DATA.tolist()


def test_a_mapping_has_an_array_for_each_input() -> None:
    found = batches_of(
        {"x": DATA, "z": np.arange(10), "labels": np.arange(3)}, inputs=[X, Z], batch_size=8
    )
    assert read(found, "z") == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]


def test_an_array_without_axes_belongs_to_every_batch() -> None:
    flag = InputInfo("flag", TensorProto.BOOL, ())
    found = batches_of({"x": DATA, "flag": np.array(True)}, inputs=[X, flag], batch_size=5)
    assert read(found, "flag") == [True, True]


def test_the_model_may_say_the_size_of_a_batch() -> None:
    fixed = InputInfo("x", TensorProto.FLOAT, (5, 2))
    assert batches_of(DATA, inputs=[fixed]).total == 2
    assert batches_of(np.zeros((70, 2)), inputs=[X]).total == 3  # 32, 32, 6


def test_the_key_is_that_of_the_content(tmp_path: Path) -> None:
    def key(data: Any, **options: Any) -> str:
        return batches_of(data, inputs=[X], batch_size=4, **options).key

    npy = write(tmp_path, "npy")
    assert key(npy) == key({"x": DATA}) == key(DATA.copy()) == key(npy, batches=2)
    others = {key(DATA + 1), key(DATA, shuffle=True), key(DATA, shuffle=True, seed=1), key(DATA)}
    assert len(others) == 4


class Torch:
    """What torch's tensors have that NumPy's arrays have not."""

    def __init__(self, array: Array, *, is_narrow: bool = False) -> None:
        self._array, self._is_narrow = array, is_narrow

    def detach(self) -> Torch:
        return self

    def cpu(self) -> Torch:
        return self

    def float(self) -> Torch:
        return Torch(self._array)

    def numpy(self) -> Array:
        if self._is_narrow:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._array


@pytest.mark.parametrize(
    "make",
    [
        lambda part: part,
        lambda part: {"x": part},
        lambda part: {"x": part, "label": "cat"},
        lambda part: (part, np.arange(len(part))),
        lambda part: [part, "labels"],
        lambda part: Torch(part),
        lambda part: [Torch(part, is_narrow=True), Torch(np.arange(len(part)))],
        lambda part: part.tolist(),
        lambda part: part.astype(np.float64),
        lambda part: part.astype(ml_dtypes.bfloat16),
    ],
)
def test_batches_of_any_kind_are_taken_as_they_are(make: Callable[[Array], Any]) -> None:
    found = batches_of([make(DATA[:3]), make(DATA[3:])], inputs=[X])
    assert read(found) == read(found) == [rows(0, 1, 2), rows(3, 4, 5, 6, 7, 8, 9)]
    assert (found.total, found.can_repeat) == (2, True)
    once = batches_of(iter([make(DATA[:3])]), inputs=[X])
    assert (once.total, once.can_repeat) == (None, False)


def test_module_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bnfold_test_feeds.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    for n in range(3):\n"
        "        yield {'x': np.full((2, 2), n)}\n"
        "number = 3\n"
        "def nothing(): return 3\n"
        "def broken():\n"
        "    yield {'x': np.zeros((2, 2))}\n"
        "    raise OSError('the disk is gone')\n"
    )
    monkeypatch.chdir(tmp_path)
    real = InputInfo("x", TensorProto.INT64, None)
    found = batches_of("bnfold_test_feeds:batches", inputs=[real], batches=2)
    assert read(found) == read(found) == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    for name, message in {
        "bnfold_test_feeds:number": "is int, and cannot be called",
        "bnfold_test_feeds:absent": "cannot be imported: AttributeError",
        "bnfold_test_absent:f": "cannot be imported: ModuleNotFoundError",
    }.items():
        with pytest.raises(UsageError, match=message):
            batches_of(name, inputs=[real])
    with pytest.raises(UsageError, match="gave int, which yields no batches"):
        read(batches_of("bnfold_test_feeds:nothing", inputs=[real]))
    with pytest.raises(UsageError, match=r"batch 2 of .* cannot be read: OSError: the disk"):
        read(batches_of("bnfold_test_feeds:broken", inputs=[X]))


BAD = np.array([[1, np.nan]], np.float32)
WRONG: dict[str, tuple[Any, str]] = {
    "shape": (
        [DATA, DATA[:, :1]],
        r"batch 2 of the data: input 'x' has shape \[\?, 2\], and the "
        r"data \[10, 1\]",
    ),
    "rank": (DATA.reshape(-1), r"batch 1 of the data: input 'x' has shape \[\?, 2\], and the data"),
    "whole numbers": (DATA.astype(np.uint8), "'x' is float, and the data uint8: scale whole"),
    "NaN": ([DATA, BAD], "batch 2 of the data: 1 of the values of input 'x' are NaN"),
    "infinite": ([DATA, BAD * np.inf], "batch 2 of the data: 2 of the values"),
    "infinite in the middle": (
        np.where(np.arange(20).reshape(10, 2) == 13, np.inf, DATA),
        "batch 2 of the data: 1 of the values of input 'x' are infinite",
    ),
    "no array": ([["a", "b"]], "batch 1 of the data: input 'x'"),
    "object": ([{"x": None}], "input 'x' is NoneType, no array"),
    "other name": ([{"y": DATA}], r"has no values for input 'x' \(it has: y\)"),
    "other name in samples": ({"y": DATA, "q": DATA}, r"has no array for input 'x' \(it has: y, q"),
    "empty": (DATA[:0], "the data is empty"),
    "empty batch": ([DATA[:0]], "batch 1 of the data is empty"),
    "nothing": ([()], "batch 1 of the data has 0 arrays for the 1 inputs"),
    "a number": (3, "data is a path, 'module:function', a mapping"),
    "uneven": ({"x": np.array(3.0)}, "has no array with samples in it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_data_that_does_not_fit_is_named(case: str) -> None:
    data, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        read(batches_of(data, inputs=[X], batch_size=5 if isinstance(data, np.ndarray) else None))


def test_arrays_of_different_lengths() -> None:
    with pytest.raises(UsageError, match="as many samples as the others: x has 10, z has 9"):
        batches_of({"x": DATA, "z": np.arange(9)}, inputs=[X, Z])


FILES: dict[str, tuple[dict[str, bytes], str]] = {
    "absent": ({}, "cannot read .*d.npy: No such file"),
    "text": ({"d.npy": b"1, 2, 3"}, "d.npy is no .npy or .npz file"),
    "no header": ({"d.npy": b"\x93NUMPY"}, "d.npy is damaged"),
    "damaged archive": ({"d.npy": b"PK\x03\x04abc"}, "d.npy is damaged"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, case: str) -> None:
    files, message = FILES[case]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=message):
        batches_of(tmp_path / "d.npy", inputs=[X])


def test_a_damaged_file_in_the_middle_of_a_folder_is_named(tmp_path: Path) -> None:
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", DATA)
    whole = (tmp_path / "2.npy").read_bytes()
    (tmp_path / "2.npy").write_bytes(whole[:-9])
    with pytest.raises(FileError, match=r"2\.npy is damaged"):
        batches_of(tmp_path, inputs=[X])
    np.save(tmp_path / "2.npy", DATA[:, :1])
    with pytest.raises(UsageError, match=r"2\.npy has arrays x of float32 \[n, 1\], and .*0\.npy"):
        batches_of(tmp_path, inputs=[X])
    np.save(tmp_path / "2.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(FileError, match=r"2\.npy holds Python objects, which are never loaded"):
        batches_of(tmp_path, inputs=[X])


def test_a_batch_with_nan_names_its_file(tmp_path: Path) -> None:
    for number in range(3):
        np.save(
            tmp_path / f"{number}.npy", DATA if number != 1 else np.where(DATA == 3, np.nan, DATA)
        )
    with pytest.raises(
        UsageError, match=r"batch 3 of .*1\.npy: 1 of the values of input 'x' are N"
    ):
        read(batches_of(tmp_path, inputs=[X], batch_size=5))


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"has no .npy or .npz file in it"):
        batches_of(tmp_path, inputs=[X])


@pytest.mark.parametrize("option", [{"batch_size": 2}, {"shuffle": True}, {"drop_last": True}])
def test_batches_as_they_are_take_no_options_of_samples(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} would need single samples"):
        batches_of([DATA], inputs=[X], **option)


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"batches": 0}, {"seed": -1}])
def test_numbers_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} is "):
        batches_of(DATA, inputs=[X], **option)


def test_dropping_the_only_batch_is_an_error() -> None:
    with pytest.raises(UsageError, match="10 samples, which is less than one batch of 16"):
        batches_of(DATA, inputs=[X], batch_size=16, drop_last=True)


def test_only_one_batch_is_read_at_a_time() -> None:
    taken: list[int] = []

    def feeds() -> Iterator[dict[str, Array]]:
        for number in range(5):
            taken.append(number)
            yield {"x": DATA}

    iterator = iter(batches_of(feeds(), inputs=[X]))
    next(iterator)
    assert taken == [0]
