"""Reports as JSON; ``schema.json`` beside this file is the contract."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bnfold import __version__
from bnfold.folding.outcome import Folded, Kept, Report

if TYPE_CHECKING:
    from bnfold.checking.outcome import VerifyReport
    from bnfold.folding.verdict import Verdict
    from bnfold.measuring.outcome import BenchReport
    from bnfold.statistics.inserted import InsertReport
    from bnfold.statistics.outcome import CalibrateReport

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields leave it as it is."""


def document(
    command: str, models: Sequence[Mapping[str, Any]], errors: Mapping[str, str]
) -> dict[str, Any]:
    """The object that every command prints.

    Args:
        command: ``fold``, ``explain``, ``check``, ``verify``, ``bench``, ``calibrate``,
            ``insert``.
        models: one entry for each model that was read.
        errors: model -> message, for those that could not be.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "bnfold": __version__,
        "command": command,
        "models": list(models),
        "errors": [{"model": model, "message": message} for model, message in errors.items()],
    }


def dumps(value: Any) -> str:
    """One object, indented, with keys in a fixed order."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def report_json(report: Report, written: str | None = None) -> dict[str, Any]:
    """One model of ``fold`` or ``explain``."""
    return {
        "model": report.model,
        "output": written,
        "batch_norms": {"before": report.batch_norms_before, "after": report.batch_norms_after},
        "nodes": {"before": report.nodes_before, "after": report.nodes_after},
        "bytes": {"before": report.bytes_before, "after": report.bytes_after},
        "flushed": report.flushed,
        "inlined": list(report.inlined),
        "stored_biases": list(report.stored_biases),
        "checked": None if report.checked is None else asdict(report.checked),
        "merged": [asdict(block) for block in report.merged],
        "unmerged": [asdict(block) for block in report.unmerged],
        "copied": [asdict(operator) for operator in report.copied],
        "norms": [_norm(norm) for norm in report.norms],
    }


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """One model of ``check``."""
    return {
        **report_json(verdict.report),
        "verdict": {
            "ok": verdict.is_clean,
            "foldable": [norm.norm for norm in verdict.foldable],
            "left": verdict.left,
            "max_left": verdict.max_left,
        },
    }


def verify_json(report: VerifyReport) -> dict[str, Any]:
    """The one model of ``verify``: FOLDED, and what it was compared with.

    Numbers that JSON does not have become the strings ``inf``, ``-inf`` and ``nan``.
    """
    fields: dict[str, Any] = _numbers(asdict(report))
    verdict = {"ok": fields.pop("is_same"), "summary": fields.pop("verdict")}
    return {
        "model": fields.pop("folded"),
        "original": fields.pop("original"),
        "verdict": verdict,
        **fields,
    }


def bench_json(report: BenchReport) -> dict[str, Any]:
    """The one model of ``bench``: FOLDED, what it was compared with, and what that means."""
    from bnfold.report.bench_words import meaning, summary

    fields: dict[str, Any] = _numbers(asdict(report))
    verdict = {"ok": fields.pop("is_same"), "summary": fields.pop("verdict")}
    return {
        "model": fields.pop("folded"),
        "original": fields.pop("original"),
        "verdict": verdict,
        "summary": summary(report),
        "meaning": meaning(report),
        **{
            thing: {"before": fields.pop(f"{thing}_before"), "after": fields.pop(f"{thing}_after")}
            for thing in ("norms", "nodes", "bytes", "subnormal")
        },
        **fields,
    }


def calibrate_json(report: CalibrateReport, written: str | None = None) -> dict[str, Any]:
    """The one model of ``calibrate``.

    Args:
        written: where the calibrated model is, or None where it is nowhere.
    """
    fields: dict[str, Any] = _numbers(asdict(report))
    norms = [
        {
            **{key: norm[key] for key in ("norm", "data", "channels", "batches", "values")},
            **{
                thing: {"before": norm[f"{thing}_before"], "after": norm[f"{thing}_after"]}
                for thing in ("mean", "var")
            },
            **{key: norm[key] for key in ("mean_drift", "std_drift", "worst", "was_training")},
        }
        for norm in fields.pop("norms")
    ]
    return {
        "model": fields.pop("model"),
        "output": written,
        "drift": _numbers(report.drift),
        **fields,
        "norms": norms,
    }


def insert_json(report: InsertReport, written: str | None = None) -> dict[str, Any]:
    """The one model of ``insert``."""
    fields: dict[str, Any] = _numbers(asdict(report))
    changes = {
        thing: {"before": fields.pop(f"{thing}_before"), "after": fields.pop(f"{thing}_after")}
        for thing in ("nodes", "bytes")
    }
    return {"model": fields.pop("model"), "output": written, **changes, **fields}


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def _norm(norm: Folded | Kept) -> dict[str, Any]:
    if isinstance(norm, Kept):
        return {"outcome": "kept", **asdict(norm)}
    return {"outcome": "folded", **asdict(norm), "route": norm.route}
