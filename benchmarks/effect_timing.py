"""Several models in onnxruntime, in turn, in a process of its own.

``python -m benchmarks.effect_timing`` reads what to do from standard input, as JSON.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

Level = Literal["disable", "basic", "extended", "all"]
LEVELS: Final[tuple[Level, ...]] = ("disable", "basic", "extended", "all")
_NAMES: Final = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

# A sample is so long that the clock and the loop do not count.
SAMPLE: Final = 0.001
FEWEST, MOST, RESAMPLED = 5, 1000, 1000


@dataclass(frozen=True)
class Ratio:
    """Time of the original / time of another model: above 1 the other one is faster.

    Attributes:
        value: the ratio of the medians.
        low, high: a 95 % bootstrap interval of it.
    """

    value: float
    low: float
    high: float


def ratio_of(original: Sequence[float], other: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of two models whose samples were taken in turn.

    Args:
        original, other: seconds, the same number of each, of the same rounds.
    """
    before, after = np.asarray(original), np.asarray(other)
    chosen = np.random.default_rng(seed).integers(0, len(before), (RESAMPLED, len(before)))
    resampled = np.median(before[chosen], axis=1) / np.median(after[chosen], axis=1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Ratio(float(np.median(before) / np.median(after)), float(low), float(high))


def timed(
    models: Mapping[str, Path], feeds: Path, level: Level, seconds: float, *, threads: int = 1
) -> dict[str, list[float]] | str:
    """Seconds of one run of each model, of one sample a round, or why there are none.

    Args:
        models: name -> file.
        feeds: an ``.npz`` file with an array for each input.
        level: of onnxruntime's optimiser.
        seconds: about how long each model is timed.
        threads: within an operator.
    """
    paths = {name: str(path) for name, path in models.items()}
    job = {
        "models": paths,
        "feeds": str(feeds),
        "level": level,
        "seconds": seconds,
        "threads": threads,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.effect_timing"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:200] if lines else f"status {done.returncode}"
    samples: dict[str, list[float]] = json.loads(done.stdout)
    return samples


def session_of(path: str, level: str, threads: int) -> Any:
    """A session on one thread, or as many as are given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _NAMES[level])
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def in_turn(runs: Mapping[str, Any], seconds: float) -> dict[str, list[float]]:
    """Call functions in turn and note the seconds of one call of each, once a round.

    Args:
        runs: name -> what is called without arguments.
        seconds: about how long each is called in all.
    """
    for run in runs.values():
        run()
    slowest = max(_elapsed(run, 3) for run in runs.values())
    calls = max(1, round(SAMPLE / slowest))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    rounds = int(min(MOST, max(FEWEST, seconds / (calls * slowest))))
    names = list(runs)
    gc.disable()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(_elapsed(runs[name], calls))
    gc.enable()
    return samples


def _elapsed(run: Any, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def main() -> None:
    """Do one job."""
    job = json.load(sys.stdin)
    with np.load(job["feeds"]) as stored:
        feeds = {name: stored[name] for name in stored.files}
    runs = {}
    for name, path in job["models"].items():
        try:
            session = session_of(path, job["level"], job["threads"])
            session.run(None, feeds)
        except Exception as error:
            raise SystemExit(f"{name}: {' '.join(str(error).split())}") from error

        def run(session: Any = session) -> None:
            session.run(None, feeds)

        runs[name] = run
    json.dump(in_turn(runs, job["seconds"]), sys.stdout)


if __name__ == "__main__":
    main()
