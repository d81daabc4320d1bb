"""How long a fold takes and how much memory, for bnfold and for the other tools on the same files.

Each time is that of a whole process: interpreter start, imports, reading, folding, writing. The
programs run in turn, so that a busy machine is unfair to none.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.fold_speed_files import FILES, norms_in, size_of
from benchmarks.processes import Ended, run
from benchmarks.tools import BNFOLD, TOOLS, Command, installed

HELP: Final = "help"
SLOW: Final = 10.0
HEADER: Final = (
    "| file | MB | norms | program | runs | median s | fastest s | slowest s | CPU s | "
    "times bnfold | peak anonymous MB | norms left |\n"
    "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class Measured:
    """The runs of one program on one file.

    Attributes:
        runs: those that were timed.
        memory: the most that one run held that was watched, in MB.
        norms_left: BatchNormalization nodes in the output, or None where there is none.
    """

    runs: list[Ended] = field(default_factory=list)
    norms_left: int | None = None
    memory: float = 0.0

    @property
    def failure(self) -> str:
        return next((each.failure for each in self.runs if each.failure), "")

    @property
    def wall(self) -> float:
        """The median time, in seconds."""
        return statistics.median(each.wall for each in self.runs)

    @property
    def is_enough(self) -> bool:
        """Whether another run would cost more than it tells."""
        return any(each.failure or each.processor > SLOW for each in self.runs)


def row(file: Sequence[str], name: str, mine: Measured, own: Measured) -> str:
    """A row of the table.

    Args:
        file: its name, MB, and norms.
        name: the program's.
        mine: its runs, at least one.
        own: those of bnfold, or without any where bnfold does not take part.
    """
    times = [each.wall for each in mine.runs]
    cells = [*file, name, f"{len(times)}"]
    if mine.failure:
        cells += [mine.failure, "", ""]
    else:
        cells += [f"{mine.wall:.2f}", f"{min(times):.2f}", f"{max(times):.2f}"]
    cells.append(f"{statistics.median(each.processor for each in mine.runs):.2f}")
    is_comparable = own.runs and not own.failure and not mine.failure
    cells.append(f"{mine.wall / own.wall:.1f}" if is_comparable else "")
    cells.append(f"{max([mine.memory, *(each.memory for each in mine.runs)]):.0f}")
    cells.append("" if mine.norms_left is None else f"{mine.norms_left}")
    return f"| {' | '.join(cells)} |"


def measured(
    commands: dict[str, Command], runs: int, timeout: float, output: Path | None
) -> dict[str, Measured]:
    """Run programs in turn, first once with a watch on their memory, which is not timed.

    Args:
        commands: program -> its command, which writes ``output``.
        runs: of each program; only the first one where that fails or is slow.
        timeout: seconds for each run.
        output: a file in a folder of its own, or None where nothing is written.
    """
    results = {name: Measured() for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            mine = results[name]
            if mine.is_enough:
                continue
            if output is not None:
                shutil.rmtree(output.parent, ignore_errors=True)
                output.parent.mkdir()
            ended = run(command, timeout, watch=turn == 0)
            mine.memory = max(mine.memory, ended.memory)
            mine.runs.append(ended)
            if output is not None and not mine.failure and mine.norms_left is None:
                mine.norms_left = norms_in(output)
            if turn == 0 and not mine.is_enough:
                mine.runs.clear()
    return results


def rows_of(
    name: str, tools: Sequence[str], runs: int, timeout: float, folder: Path
) -> Iterator[str]:
    """The rows of one file, which is made and removed."""
    if name == HELP:
        command = [sys.executable, "-m", "bnfold", "--help"]
        mine = measured({"bnfold --help": command}, runs, timeout, None)["bnfold --help"]
        yield row([HELP, "", ""], "bnfold --help", mine, Measured())
        return
    file, home, output = FILES[name], folder / "in", folder / "out" / "out.onnx"
    home.mkdir()
    source = home / f"{name}.onnx"
    file.write(source)
    chosen = [tool for tool in tools if file.is_for_all or tool.split()[0] == BNFOLD]
    commands = {tool: TOOLS[tool](str(source), str(output)) for tool in chosen}
    results = measured(commands, runs, timeout, output)
    about = [name, f"{size_of(source) / 1e6:.1f}", f"{norms_in(source)}"]
    for tool, mine in results.items():
        yield row(about, tool, mine, results.get(BNFOLD, Measured()))
    shutil.rmtree(home)
    shutil.rmtree(output.parent)


def main() -> None:
    """Measure every file, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="+", choices=[HELP, *FILES], help="these instead")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--runs", type=int, default=5, help="of each program (default 5)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a run (300)")
    given = parser.parse_args()
    if given.runs < 1 or given.timeout <= 0:
        parser.error("--runs and --timeout must be more than 0")
    tools = list(installed(given.tools))
    names = given.files or [HELP, *(name for name, file in FILES.items() if file.by_default)]
    print(f"{machine.described()}; {given.runs} runs of each, one where it takes", end=" ")
    print(f"more than {SLOW:g} s of the processor or fails, at most {given.timeout:g} s\n")
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory(prefix="fold_speed_") as folder:
        for name in names:
            for line in rows_of(name, tools, given.runs, given.timeout, Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
