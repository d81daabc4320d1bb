"""What --dim, --input and --feeds take, and what they refuse in one line that names the thing."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnfold.cli.data import arrays_of, dims_of, feed_of, files_of
from bnfold.errors import BnfoldError, FileError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of data, good and bad."""
    monkeypatch.chdir(tmp_path)
    x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    np.save("x.npy", x)
    np.save("text.npy", np.array(["größe"]))
    named: dict[str, Any] = {"x": x, "images/y:0": x.astype(np.int8)}
    np.savez("feed.npz", **named)
    np.savez_compressed("small.npz", x=x)
    np.savez("none.npz")
    np.save("object.npy", np.array([{}], object), allow_pickle=True)
    np.savez("object.npz", allow_pickle=True, x=np.array([{}], object))
    np.save("date.npy", np.array(["2015-02-11"], "datetime64[D]"))
    np.save("record.npy", np.zeros(2, [("a", "f4"), ("b", "i4")]))
    whole = Path("x.npy").read_bytes()
    Path("short.npy").write_bytes(whole[:-8])
    Path("head.npy").write_bytes(whole[:20])
    Path("brackets.npy").write_bytes(whole[:10] + b"(" * 60 + whole[70:])
    Path("vast.npy").write_bytes(whole.replace(b"(1, 2, 4, 4), }      ", b"(1, 999999999999), } "))
    Path("short.npz").write_bytes(Path("feed.npz").read_bytes()[:-30])
    Path("empty.npy").touch()
    Path("pickle.npy").write_bytes(pickle.dumps([1]))
    Path("dir").mkdir()
    with zipfile.ZipFile("notes.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    damaged = bytearray(Path("small.npz").read_bytes())
    damaged[60:70] = bytes(10)
    Path("flipped.npz").write_bytes(damaged)


def test_arrays() -> None:
    arrays = arrays_of(["x=x.npy", "b=text.npy", "y:0=x.npy"])
    assert set(arrays) == {"x", "b", "y:0"}
    assert arrays["x"].shape == (1, 2, 4, 4)
    assert arrays["b"].tolist() == ["größe"]


@pytest.mark.parametrize(("file", "names"), [("feed", {"x", "images/y:0"}), ("small", {"x"})])
def test_feeds(file: str, names: set[str]) -> None:
    feed = feed_of(Path(f"{file}.npz"))
    assert set(feed) == names
    np.testing.assert_array_equal(feed["x"].ravel(), np.arange(32))


def test_dims() -> None:
    assert dims_of(["N=4", "a=b=1", "batch size=2147483647"]) == {
        "N": 4,
        "a=b": 1,
        "batch size": 2147483647,
    }


def test_the_files_that_are_read() -> None:
    named = files_of(["x=a.npy", "broken", "y="], [Path("f.npz")])
    assert named == [Path("a.npy"), Path("f.npz")]


DIMS: dict[str, tuple[str, str]] = {
    "no name": ("4", "--dim 4: it has to be NAME=SIZE"),
    "the empty name": ("=4", "--dim =4: it has to be NAME=SIZE"),
    "no number": ("N=x", "--dim N=x: a size is a whole number from 1"),
    "no size": ("N=", "--dim N=: a size is"),
    "zero": ("N=0", "--dim N=0: a size is"),
    "negative": ("N=-1", "--dim N=-1: a size is"),
    "a fraction": ("N=1.5", "--dim N=1.5: a size is"),
    "spaces": ("N= 1", "--dim N= 1: a size is"),
    "other digits": ("N=\u0664", "a size is"),
    "enormous": ("N=2147483648", "from 1 to 2147483647"),
    "of many digits": (f"N={'9' * 5000}", "from 1 to 2147483647"),
}


@pytest.mark.parametrize("case", DIMS)
def test_no_dimension(case: str) -> None:
    argument, words = DIMS[case]
    with pytest.raises(UsageError) as raised:
        dims_of([argument])
    assert words in str(raised.value)


ARRAYS: dict[str, tuple[str, type[BnfoldError], str]] = {
    "no name": ("x.npy", UsageError, "--input x.npy: it has to be NAME=FILE.npy"),
    "no file": ("x=", UsageError, "--input x=: it has to be NAME=FILE.npy"),
    "feeds": ("x=feed.npz", UsageError, "feed.npz is an .npz file: use --feeds feed.npz"),
    "missing": ("x=no.npy", FileError, "cannot read no.npy: No such file or directory"),
    "a null byte": ("x=a\0b", FileError, "null byte"),
    "a folder": ("x=dir", FileError, "cannot read dir: Is a directory"),
    "empty": ("x=empty.npy", FileError, "empty.npy is no .npy or .npz file"),
    "a pickle": ("x=pickle.npy", FileError, "pickle.npy is no .npy or .npz file"),
    "objects": ("x=object.npy", FileError, "object.npy holds Python objects"),
    "dates": ("x=date.npy", FileError, "date.npy holds datetime64[D], which are no numbers"),
    "records": ("x=record.npy", FileError, "record.npy holds [('a', '<f4'), ('b', '<i4')]"),
    "half": ("x=short.npy", FileError, "short.npy is damaged: "),
    "half a header": ("x=head.npy", FileError, "head.npy is damaged: "),
    "no header": ("x=brackets.npy", FileError, "brackets.npy is damaged: "),
    "more than there is": ("x=vast.npy", FileError, "vast.npy"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_no_array(case: str) -> None:
    argument, error, words = ARRAYS[case]
    with pytest.raises(error) as raised:
        arrays_of([argument])
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


FEEDS: dict[str, tuple[str, type[BnfoldError], str]] = {
    "missing": ("no.npz", FileError, "cannot read no.npz: No such file or directory"),
    "one array": ("x.npy", UsageError, "--feeds x.npy: it is an .npy file: use --input NAME=x.npy"),
    "no arrays": ("none.npz", FileError, "none.npz has no arrays"),
    "an entry that is none": ("notes.npz", FileError, "notes.npz has an entry that is no array"),
    "objects": ("object.npz", FileError, "object.npz holds Python objects"),
    "half an archive": ("short.npz", FileError, "short.npz is damaged: "),
    "other bytes": ("flipped.npz", FileError, "flipped.npz is damaged: "),
}


@pytest.mark.parametrize("case", FEEDS)
def test_no_feed(case: str) -> None:
    file, error, words = FEEDS[case]
    with pytest.raises(error) as raised:
        feed_of(Path(file))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
