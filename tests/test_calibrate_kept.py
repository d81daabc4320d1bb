"""Statistics that are kept, merged and gone on with; and what happens where a run fails."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bnfold
from bnfold.errors import FileError, ModelError, UsageError
from tests.support_calibrate import Array, assert_close, cut, model, samples, statistics_of

BATCHES = cut(samples(), 8)


class Broken:
    """Batches that end with an exception."""

    def __init__(self, batches: list[Any], error: BaseException) -> None:
        self._batches, self._error = batches, error

    def __iter__(self) -> Iterator[Any]:
        yield from self._batches
        raise self._error


def estimated(data: Any = None, **options: Any) -> dict[str, tuple[Array, Array]]:
    return statistics_of(bnfold.calibrate(model(), data, **options).model)


@functools.cache
def uninterrupted(mode: str) -> dict[str, tuple[Array, Array]]:
    """What ``BATCHES`` give in one run."""
    return estimated(BATCHES, mode=mode)


WHOLE = {e: estimated(samples(), batch_size=8, estimator=e) for e in ("paper", "population")}


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    assigned=st.lists(st.integers(0, 2), min_size=len(BATCHES), max_size=len(BATCHES)),
    order=st.permutations(range(3)),
)
def test_any_shards_give_the_same_numbers(
    tmp_path: Path, assigned: list[int], order: list[int]
) -> None:
    files = []
    for shard in order:
        mine = [batch for batch, at in zip(BATCHES, assigned, strict=True) if at == shard]
        if mine:
            file = tmp_path / f"{shard}.json"
            bnfold.calibrate(model(), mine, save_stats=file)
            files.append(file)
    for estimator, wanted in WHOLE.items():
        found = estimated(merge_stats=files, estimator=estimator)
        assert_close(found, wanted, 2e-7)  # the rounding to float32


def test_one_rank_may_run_and_merge_the_others(tmp_path: Path) -> None:
    bnfold.calibrate(model(), BATCHES[:3], save_stats=tmp_path / "a.json")
    result = bnfold.calibrate(
        model(), BATCHES[3:], merge_stats=[tmp_path / "a.json"], save_stats=tmp_path / "b.json"
    )
    assert_close(statistics_of(result.model), WHOLE["paper"], 2e-7)
    assert (result.report.batches, result.report.merged_batches) == (7, 3)
    # What it saved is all of it.
    assert_close(estimated(merge_stats=[tmp_path / "b.json"]), WHOLE["paper"], 2e-7)


FAULTS: dict[str, tuple[Any, type[BaseException], str]] = {
    "NaN": (
        [*BATCHES[:3], np.full_like(BATCHES[3], np.nan)],
        UsageError,
        "batch 4 of the data: 720 of the values of input 'x' are NaN",
    ),
    "shape": ([*BATCHES[:3], BATCHES[3][:, :2]], UsageError, "batch 4 of the data: input 'x' has"),
    "an exception": (
        Broken(BATCHES[:3], OSError("gone")),
        UsageError,
        "batch 4 of the data cannot be read: OSError: gone",
    ),
    "too large for float32": (
        [*BATCHES[:3], np.full_like(BATCHES[3], 3e38)],
        ModelError,
        r"batch 4: channel 2 of c has mean inf and variance nan; b1 normalises it \(the stat",
    ),
}


@pytest.mark.parametrize(
    ("case", "mode"), [*((case, "batch") for case in FAULTS), ("an exception", "sequential")]
)
def test_a_bad_batch_is_named_and_nothing_is_lost(tmp_path: Path, case: str, mode: str) -> None:
    data, kind, message = FAULTS[case]
    file = tmp_path / "s.json"
    with pytest.raises(kind, match=message) as caught:
        bnfold.calibrate(model(), data, save_stats=file, mode=mode)
    assert f"the statistics of 3 batches are in {file}" in str(caught.value)
    # The run goes on with sound data, and ends as one that was never interrupted.
    again = bnfold.calibrate(model(), BATCHES, merge_stats=[file], mode=mode)
    assert again.report.merged_batches == 3
    assert again.report.batches == 7
    assert_close(statistics_of(again.model), uninterrupted(mode), 2e-7)


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "s.json"
    wanted = estimated(samples(), batch_size=8, mode=mode, shuffle=True)
    told: list[str] = []

    def interrupt(done: float, what: str) -> None:
        told.append(what)
        if len(told) == 5:
            raise KeyboardInterrupt

    common: dict[str, Any] = {"batch_size": 8, "shuffle": True, "mode": mode}
    with pytest.raises(KeyboardInterrupt):
        bnfold.calibrate(model(), samples(), save_stats=file, progress=interrupt, **common)
    assert json.loads(file.read_text())["seen"]
    again: list[str] = []
    result = bnfold.calibrate(
        model(),
        samples(),
        merge_stats=[file],
        save_stats=file,
        progress=lambda done, what: again.append(what),
        **common,
    )
    assert again[0].startswith("batch 6 of 7")
    assert len(again) == (2 if mode == "batch" else 2 + 7)
    assert_close(statistics_of(result.model), wanted, 2e-7)
    # Once more there is nothing left to run.
    third = bnfold.calibrate(model(), samples(), merge_stats=[file], **common)
    assert third.report.passes == 0
    assert_close(statistics_of(third.model), wanted, 2e-7)


def test_a_sequence_that_was_interrupted_in_its_second_norm(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    told: list[str] = []

    def interrupt(done: float, what: str) -> None:
        told.append(what)
        if len(told) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnfold.calibrate(model(), BATCHES, mode="sequential", save_stats=file, progress=interrupt)
    assert json.loads(file.read_text())["done"] == ["c"]
    with pytest.raises(UsageError, match="saved statistics are not complete: d is not done"):
        bnfold.calibrate(model(), mode="sequential", merge_stats=[file])
    result = bnfold.calibrate(model(), BATCHES, mode="sequential", merge_stats=[file])
    assert result.report.passes == 1
    assert_close(statistics_of(result.model), uninterrupted("sequential"), 2e-7)


def test_more_batches_of_the_same_data_go_on_too(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    bnfold.calibrate(model(), samples(), batch_size=8, batches=3, save_stats=file)
    found = estimated(samples(), batch_size=8, merge_stats=[file])
    assert_close(found, WHOLE["paper"], 2e-7)


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_one_value_for_each_channel_is_an_error_that_says_so(mode: str) -> None:
    body = "y = BatchNormalization(x, g, g, g, g)"
    proto = model(
        body, {"g": np.ones(2, np.float32)}, inputs="float[N,2] x", outputs="float[N,2] y"
    )
    data = np.random.default_rng(0).standard_normal((9, 2)).astype(np.float32)
    with pytest.raises(
        ModelError, match=r"batch 3: x has shape \[1, 2\], so m = N \* H \* W = 1 .*; y norm"
    ):
        bnfold.calibrate(proto, data, batch_size=4, mode=mode)
    assert bnfold.calibrate(proto, data, batch_size=4, drop_last=True).report.batches == 2
    # A single image is many values.
    assert bnfold.calibrate(model(), samples(1)).report.norms[0].values == 30


def test_data_that_can_be_read_once(tmp_path: Path) -> None:
    found = bnfold.calibrate(model(), iter(BATCHES))
    assert_close(statistics_of(found.model), WHOLE["paper"], 2e-7)
    with pytest.raises(UsageError, match="can be read only once, and mode sequential reads it 2"):
        bnfold.calibrate(model(), iter(BATCHES), mode="sequential")
    only = bnfold.calibrate(model(), iter(BATCHES), mode="sequential", only=["b1"])
    assert only.report.passes == 1


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_no_batches(mode: str) -> None:
    with pytest.raises(UsageError, match="the data has no batches"):
        bnfold.calibrate(model(), [], mode=mode)
    with pytest.raises(UsageError, match="no data, and no saved statistics"):
        bnfold.calibrate(model(), mode=mode)


def test_a_single_batch_gets_a_note() -> None:
    found = bnfold.calibrate(model(), BATCHES[:1])
    assert found.report.notes == (
        "one batch says little about a population: give more data, or smaller batches",
    )
    assert bnfold.calibrate(model(), BATCHES[:2]).report.notes == ()


def other_weights() -> Any:
    proto = model()
    proto.graph.initializer[0].raw_data = b"\0" * len(proto.graph.initializer[0].raw_data)
    return proto


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model": other_weights()}, "has statistics of another model"),
    "another mode": ({"mode": "sequential"}, "has statistics of mode batch, not sequential"),
    "other norms": ({"only": ["b1"]}, "has statistics of c, d, and this run is about c"),
    "twice": ({"times": 2}, "has batches that another file to be merged has, too"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_statistics_that_do_not_belong_are_refused(tmp_path: Path, case: str) -> None:
    file = tmp_path / "s.json"
    bnfold.calibrate(model(), BATCHES[:2], save_stats=file)
    changes, message = REFUSED[case]
    options = dict(changes)
    proto = options.pop("model", model())
    files = [file] * options.pop("times", 1)
    with pytest.raises(UsageError, match=message):
        bnfold.calibrate(proto, BATCHES[2:], merge_stats=files, **options)


def test_a_sequence_cannot_be_merged_from_shards(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, mine in zip(files, (BATCHES[:3], BATCHES[3:]), strict=True):
        bnfold.calibrate(model(), mine, save_stats=file, mode="sequential")
    with pytest.raises(UsageError, match="statistics of mode sequential cannot be merged"):
        bnfold.calibrate(model(), merge_stats=files, mode="sequential")


DAMAGED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "is damaged, or has no statistics"),
    "another file": ({"a": 1}, "has no statistics of bnfold in it"),
    "a newer version": ({"version": 2}, "was written by another version of bnfold"),
    "a lost part": ({"moments": None}, "is damaged"),
    "an impossible count": ({"count": 3}, "counts or its variances are impossible"),
    "a short vector": ({"mean": [1.0]}, "are not of one length, or not finite"),
    "NaN": ({"mean_of_means": [float("nan")] * 5}, "are not of one length, or not finite"),
    "a negative variance": ({"m2": [-1.0] * 5}, "counts or its variances are impossible"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_statistics_are_refused(tmp_path: Path, case: str) -> None:
    file = tmp_path / "s.json"
    bnfold.calibrate(model(), BATCHES[:2], save_stats=file)
    whole = json.loads(file.read_text())
    change, message = DAMAGED[case]
    if isinstance(change, str):
        file.write_text(change)
    elif "a" in change:
        file.write_text(json.dumps(change))
    else:
        for key, value in change.items():
            (whole if key in whole else whole["moments"]["c"])[key] = value
        file.write_text(json.dumps(whole))
    with pytest.raises(FileError, match=message):
        bnfold.calibrate(model(), BATCHES[2:], merge_stats=[file])


def test_a_file_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    never = Broken([], AssertionError("it was read"))
    with pytest.raises(FileError, match=r"cannot write .*absent"):
        bnfold.calibrate(model(), never, save_stats=tmp_path / "absent" / "s.json")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "estimator": ({"estimator": "mean"}, "estimator 'mean': it has to be one of paper, population"),
    "mode": ({"mode": "all"}, "mode 'all': it has to be one of batch, sequential"),
    "tolerance": ({"tolerance": 0.0}, "tolerance 0: it has to be a finite number above 0"),
    "NaN": ({"tolerance": float("nan")}, "tolerance nan"),
    "threads": ({"threads": -1}, "threads -1"),
    "only": ({"only": "b1"}, "only and skip are lists"),
    "merge": ({"merge_stats": "s.json"}, "merge_stats is a list of files"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str) -> None:
    options, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        bnfold.calibrate(model(), BATCHES, **options)
