"""How many wrong folds ``bnfold verify`` rejects, and how many right ones it accepts.

Wrong folds are the mutants of tests/support_mutants.py; right ones come from that module, from
bnfold, and from whichever other tools can be imported. Run it as a module from the root of the
repository: ``python -m benchmarks.verify_rates``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

import bnfold
from benchmarks import machine
from tests.support_mutants import FAMILIES, MUTATIONS, case_of, feeds_of, mutants
from tests.support_mutants_layers import distance
from tests.support_mutants_tools import OWN, PEERS, Fold, folds_of

Judge = Callable[[onnx.ModelProto, onnx.ModelProto, int], bool]

# A mutant whose parameters are within 4 ulp is what a right fold in the stored dtype may be; it is
# counted apart.
BORDER: Final = 4.0


def by_verify(original: onnx.ModelProto, folded: onnx.ModelProto, seed: int) -> bool:
    """What bnfold says."""
    return bnfold.verify(original, folded, runtime=False, seed=seed).is_same


def by_allclose(original: onnx.ModelProto, folded: onnx.ModelProto, seed: int) -> bool:
    """What most scripts do: one normal feed, onnxruntime as it comes, numpy's allclose."""
    before, after = (_outputs_of_onnxruntime(model, original, seed) for model in (original, folded))
    return len(before) == len(after) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(before, after, strict=True)
    )


def _outputs_of_onnxruntime(
    model: onnx.ModelProto, original: onnx.ModelProto, seed: int
) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {}
    for name, values in feeds_of(original, seed).items():
        kind = original.graph.input[0].type.tensor_type.elem_type
        feeds[name] = values.astype(helper.tensor_dtype_to_np_dtype(kind))
    return list(session.run(None, feeds))


@dataclass
class Rates:
    """One judge's verdicts.

    Attributes:
        wrong, rejected: mutants and those rejected, by family.
        borderline: how many mutants were rejected and not that a right fold could be, see BORDER.
        right, accepted: right folds and those accepted, by tool.
        errors: exceptions in place of verdicts, by what was asked about.
        missed, alarms: mutants that were accepted and right folds that were not.
    """

    rejected: Counter[str] = field(default_factory=Counter)
    borderline: Counter[bool] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


def asked(judge: Judge, rates: Rates, name: str, *case: Any) -> bool:
    """A verdict; an exception is none, so it is not "the same"."""
    try:
        return judge(*case)
    except Exception as error:  # any failure of a judge is a verdict that is missing
        rates.errors[f"{name.split(' ')[1].split('@')[0]}: {type(error).__name__}"] += 1
        return False


def judged_mutants(
    judge: Judge, rates: Rates, family: str, seed: int, dropped: Counter[str]
) -> None:
    """Ask about every mutant of a model."""
    for name, original, mutant in mutants(family, seed, dropped):
        label = f"{family} {name} seed {seed}"
        is_rejected = not asked(judge, rates, label, original, mutant, seed)
        off = None
        if MUTATIONS[name.split("@")[0]].kind == "values":
            off = distance(original, mutant)
        if off is not None and off.most <= BORDER:
            rates.borderline[is_rejected] += 1
            continue
        rates.wrong[family] += 1
        rates.rejected[family] += is_rejected
        if not is_rejected:
            size = "" if off is None else f" ({off.weight:.3g}, {off.bias_terms:.3g} ulp)"
            rates.missed.append(label + size)


def judged_folds(judge: Judge, rates: Rates, family: str, seed: int, folds: list[Fold]) -> None:
    """Ask about every right fold of a model."""
    for fold in folds:
        if fold.is_right:
            rates.right[fold.tool] += 1
            label = f"{family} {fold.tool} seed {seed}"
            original = case_of(family, seed).original
            if asked(judge, rates, label, original, fold.folded, seed):
                rates.accepted[fold.tool] += 1
            else:
                rates.alarms.append(label)


def print_folds(family: str, folds: list[Fold]) -> None:
    """A row of the table of tools: the worst over the seeds."""
    for tool in dict.fromkeys(fold.tool for fold in folds):
        mine = [fold for fold in folds if fold.tool == tool]
        same = [fold.ulps for fold in mine if fold.ulps is not None]
        worst = [f"{max(u[i] for u in same):.3g}" if same else "-" for i in range(3)]
        done = [fold for fold in mine if not fold.failure]
        units = f"{max(fold.units for fold in done):.3g}" if done else "-"
        failures = sorted({fold.failure for fold in mine if fold.failure})
        print(
            f"| {family} | {tool} | {sum(f.norms for f in mine)} | {sum(f.left for f in done)} | "
            f"{' | '.join(worst)} | {units} | {sum(f.is_right for f in mine)} of {len(mine)} | "
            f"{'; '.join(failures)} |",
            flush=True,
        )


def print_rates(name: str, rates: Rates, names: int) -> None:
    """The rates, and what was missed and falsely rejected."""
    print(f"\n{name}: {_share(rates.rejected, rates.wrong)} wrong folds rejected, ", end="")
    print(f"{_share(rates.accepted, rates.right)} right folds accepted")
    for family, wrong in rates.wrong.items():
        print(f"  {family}: {rates.rejected[family]} of {wrong} rejected")
    for tool, right in rates.right.items():
        print(f"  {tool}: {rates.accepted[tool]} of {right} accepted")
    for title, lines in (("missed", rates.missed), ("false alarm", rates.alarms)):
        for line in lines[:names]:
            print(f"  {title}: {line}")
        if len(lines) > names:
            print(f"  {title}: and {len(lines) - names} more")
    border = rates.borderline
    print(f"  within {BORDER:g} ulp: {border[True]} of {border.total()} rejected")
    for error, count in rates.errors.most_common():
        print(f"  no verdict: {error}, {count} times")


def _share(part: Counter[str], whole: Counter[str]) -> str:
    return f"{part.total()} of {whole.total()} ({part.total() / max(1, whole.total()):.2%})"


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="models of each family")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--judges", nargs="+", default=["verify", "allclose"])
    parser.add_argument("--no-mutants", action="store_true", help="only the right folds")
    parser.add_argument("--names", type=int, default=100, help="misses and alarms to list")
    arguments = parser.parse_args()
    judges = {name: judge_of(name) for name in arguments.judges}
    rates = {name: Rates() for name in judges}
    seconds: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    print(f"{machine.described()}; {arguments.seeds} seeds\n")
    print(
        "| family | tool | norms | left | weight ulp | bias ulp | of terms | output units |", end=""
    )
    print(" right | failures |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for family in arguments.families:
        every: list[Fold] = []
        for seed in range(arguments.seeds):
            folds = [*folds_of(family, seed, {**OWN, **PEERS})]
            every += folds
            for name, judge in judges.items():
                judged_folds(judge, rates[name], family, seed, folds)
        print_folds(family, every)
    for name, judge in judges.items():
        started = time.perf_counter()
        for family in [] if arguments.no_mutants else arguments.families:
            for seed in range(arguments.seeds):
                judged_mutants(judge, rates[name], family, seed, dropped)
        seconds[name] = round(time.perf_counter() - started)
        print_rates(f"{name} ({seconds[name]} s for the mutants)", rates[name], arguments.names)
    each = dropped.total() // max(1, len(judges))
    print(f"\ndropped: {each} mutations that change nothing beyond the rounding of a right fold")


def judge_of(name: str) -> Judge:
    """``verify``, ``allclose``, or ``module:function``."""
    if ":" in name:
        module, function = name.split(":")
        judge: Judge = getattr(import_module(module), function)
        return judge
    return {"verify": by_verify, "allclose": by_allclose}[name]


if __name__ == "__main__":
    main()
