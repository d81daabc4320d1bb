"""Reports as JSON; ``schema.json`` beside this file is the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnfold import __version__
from bnfold.folding.outcome import Folded, Kept, Report
from bnfold.folding.verdict import Verdict

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes; new fields leave it as it is."""


def document(
    command: str, models: Sequence[Mapping[str, Any]], errors: Mapping[str, str]
) -> dict[str, Any]:
    """The object that every command prints.

    Args:
        command: ``fold``, ``explain`` or ``check``.
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
    return json.dumps(value, indent=2, ensure_ascii=False)


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


def _norm(norm: Folded | Kept) -> dict[str, Any]:
    return {"outcome": "folded" if isinstance(norm, Folded) else "kept", **asdict(norm)}
