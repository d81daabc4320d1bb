"""Reports as text, for a terminal of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bnfold.folding.outcome import Folded, Kept, Report
from bnfold.folding.verdict import Verdict
from bnfold.report.lines import count, wrapped

MOST_NAMES = 3
"""How many norms of one reason the summary of a fold names."""
MOST_BLOCKS = 8
"""How many sums of parallel branches are listed; the JSON report lists all."""


def fold_text(report: Report, written: str | None) -> str:
    """What a fold did, in one look.

    Args:
        written: where the folded model is, or None where it is nowhere.
    """
    lines = [f"{report.model}: {_headline(report)}"]
    lines += _facts(report)
    lines += _blocks(report)
    if report.kept:
        lines += ["  stays"]
        for code, norms in _by_code(report.kept).items():
            lines += wrapped(f"{code} ({len(norms)}): {norms[0].reason}", "    ")
            if len(norms) > 1:
                names = ", ".join(norm.norm for norm in norms[1 : MOST_NAMES + 1])
                more = len(norms) - 1 - MOST_NAMES
                also = f"also {names}" + (f" and {more} more" if more > 0 else "")
                lines += wrapped(also, "      ")
            lines += wrapped(f"To do: {norms[0].remedy}", "      ")
    lines += _notes(report)
    if written is not None:
        lines.append(f"  written to {written}")
    return "\n".join(lines)


def explain_text(report: Report) -> str:
    """Each norm: its way into what takes it up, or why it stays and what to do."""
    lines = [f"{report.model}: {_headline(report, done=False)}", *_routes(report)]
    for norm in report.norms:
        place = f" in {norm.graph}" if norm.graph else ""
        chain = f" ({' + '.join(norm.nodes)})" if len(norm.nodes) > 1 else ""
        if isinstance(norm, Folded):
            lines += wrapped(norm.route, "  ")
            lines += wrapped(_manner(norm), "      ")
        else:
            lines += wrapped(f"{norm.norm}{chain}{place}: stays ({norm.code})", "  ")
            lines += wrapped(f"{norm.reason}.", "      ")
            lines += wrapped(f"To do: {norm.remedy}", "      ")
    return "\n".join([*lines, *_blocks(report, done=False), *_notes(report)])


def check_text(verdict: Verdict) -> str:
    """Yes or no, and the norms that made it a no."""
    report = verdict.report
    left = f"{count(verdict.left, 'batch norm')} left"
    if verdict.is_clean:
        return f"{report.model}: ok: nothing left to fold, {left}"
    lines = []
    if verdict.foldable:
        lines.append(f"{report.model}: no: {count(len(verdict.foldable), 'norm')} could be folded")
        for norm in verdict.foldable:
            lines += wrapped(norm.route, "  ")
    if verdict.max_left is not None and verdict.left > verdict.max_left:
        lines.append(f"{report.model}: no: {left}, at most {verdict.max_left} allowed")
        for kept in report.kept:
            if kept.kind == "batch-norm":
                lines += wrapped(f"{kept.norm}: stays ({kept.code}): {kept.reason}", "  ")
    return "\n".join(lines)


def _manner(norm: Folded) -> str:
    """What the route does not say: ``forward, with mul_2 + add_3, in if_1``; '' where nothing."""
    words = ["forward"] if norm.direction == "forward" else []
    others = [name for name in norm.nodes if name != norm.norm]
    if others:
        words.append(f"with {' + '.join(others)}")
    if norm.graph:
        words.append(f"in {norm.graph}")
    return ", ".join(words)


def _headline(report: Report, *, done: bool = True) -> str:
    chains = [norm for norm in report.norms if norm.kind == "constant-chain"]
    total = report.batch_norms_before
    if not report.norms and not total:
        return "no batch norm and no constant chain to fold"
    verb = "folded" if done else "can be folded"
    gone = total - report.batch_norms_after
    parts = []
    if total or not chains:
        parts.append(f"{gone} of {count(total, 'batch norm')} {verb}")
    if chains:
        folded = sum(isinstance(norm, Folded) for norm in chains)
        parts.append(f"{folded} of {count(len(chains), 'constant chain')} {verb}")
    return ", ".join(parts)


def _routes(report: Report) -> list[str]:
    """Which ways the norms go; nothing where none of them folds."""
    ways = Counter(norm.direction for norm in report.folded)
    if not ways:
        return []
    counted = [f"{way} {ways[way]}" for way in ("backward", "forward") if ways[way]]
    through = sum(bool(norm.through) for norm in report.folded)
    more = f"; through other operators {through}" if through else ""
    return [f"  routes     {', '.join(counted)}{more}"]


def _facts(report: Report) -> list[str]:
    into = Counter(norm.operator for norm in report.folded if norm.into)
    lines = _routes(report)
    if into:
        listed = ", ".join(f"{operator} {number}" for operator, number in into.most_common())
        lines.append(f"  into       {listed}")
    if report.copied:
        copies = count(len(report.copied), "operator")
        lines.append(f"  copied     {copies}, for norms that shared one (--duplicate)")
    lines.append(f"  nodes      {report.nodes_before:,} -> {report.nodes_after:,}")
    lines.append(f"  bytes      {report.bytes_before:,} -> {report.bytes_after:,}")
    flushed = count(report.flushed, "value")
    lines.append(f"  flushed    {flushed} below the smallest normal number became zero")
    if report.checked is None:
        lines.append("  checked    no (--no-verify)")
    elif report.checked.regions:
        folds, most = count(report.checked.regions, "fold"), report.checked.max_ulp
        lines.append(f"  checked    {folds} in float64, largest difference {most:.2f} ulp")
    if report.checked is not None and report.checked.unchecked:
        folds = count(report.checked.unchecked, "fold")
        lines.append(f"  unchecked  {folds}: no data could be made up (see --verify-model)")
    return lines


def _blocks(report: Report, *, done: bool = True) -> list[str]:
    """Sums of parallel branches: those that became one Conv, and those that stay."""
    lines: list[str] = []
    if report.merged:
        verb = "merged into one Conv each" if done else "would become one Conv each"
        text = f"branches   {count(len(report.merged), 'sum')} of parallel branches {verb}"
        lines += wrapped(f"{text}: the graph changes more than by a fold", "  ")
        for block in report.merged[:MOST_BLOCKS]:
            kernel = "x".join(str(size) for size in block.kernel)
            place = f" in {block.graph}" if block.graph else ""
            lines += wrapped(f"{block.into}{place} ({kernel}): {', '.join(block.branches)}", "    ")
        if len(report.merged) > MOST_BLOCKS:
            lines.append(f"    and {len(report.merged) - MOST_BLOCKS} more")
    if report.unmerged:
        lines += ["  branches that stay"]
        for left in report.unmerged[:MOST_BLOCKS]:
            place = f" in {left.graph}" if left.graph else ""
            lines += wrapped(f"{left.block}{place}: {left.reason}", "    ")
        if len(report.unmerged) > MOST_BLOCKS:
            lines.append(f"    and {len(report.unmerged) - MOST_BLOCKS} more")
    return lines


def _notes(report: Report) -> list[str]:
    lines: list[str] = []
    assumed = [norm.norm for norm in report.folded if norm.assumed_inference]
    if assumed:
        named = ", ".join(assumed[:MOST_NAMES]) + (" ..." if len(assumed) > MOST_NAMES else "")
        lines += wrapped(
            f"note: {count(len(assumed), 'training-mode norm')} read as inference: {named}", "  "
        )
    if report.stored_biases:
        number = len(report.stored_biases)
        biases = f"{number:,} computed bias{'' if number == 1 else 'es'}"
        lines += wrapped(f"note: {biases} of other operators stored as constants", "  ")
    if report.inlined:
        lines += wrapped(f"note: functions inlined: {', '.join(report.inlined)}", "  ")
    notes = [note for norm in report.folded for note in norm.notes]
    notes += [note for block in report.merged for note in block.notes]
    for note in dict.fromkeys(notes):
        lines += wrapped(f"note: {note}", "  ")
    return lines


def _by_code(kept: Iterable[Kept]) -> dict[str, list[Kept]]:
    groups: dict[str, list[Kept]] = {}
    for norm in kept:
        groups.setdefault(norm.code, []).append(norm)
    return groups
