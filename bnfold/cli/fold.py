"""``bnfold fold``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold.cli.deliver import STDOUT, delivered, form_of
from bnfold.cli.guard import guarded
from bnfold.cli.options import (
    AssumeInference,
    Duplicate,
    Json,
    MergeBranches,
    Models,
    Only,
    Quiet,
    SaveReport,
    Skip,
)

if TYPE_CHECKING:
    from bnfold.cli.inputs import Input
    from bnfold.folding.outcome import Report
    from bnfold.onnxgraph.output import Form
    from bnfold.result import FoldResult


def fold(
    models: Models,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The folded model; - is stdout."),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace each MODEL.")] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", metavar="DIR", help="Write each folded model into a folder."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Models folded at a time.")
    ] = 1,
    only: Only = None,
    skip: Skip = None,
    assume_inference: AssumeInference = False,
    merge_branches: MergeBranches = False,
    duplicate: Duplicate = False,
    external_data: Annotated[
        bool | None,
        typer.Option(
            "--external-data/--embed",
            help="Put large tensors into a data file, or all into the model; default: as it was.",
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Write without checking each fold first.")
    ] = False,
    verify_model: Annotated[
        bool,
        typer.Option("--verify-model", help="Also check the whole model, as 'verify' does."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Fold every norm that can be folded exactly, and say why each other one stays.

    One of --output, --in-place and --output-dir says where the result goes.
    """
    with guarded():
        from bnfold.cli.batch import finish, nodes_in, over_all, warn_of_unmatched
        from bnfold.cli.inputs import inputs, protect, protect_report

        _require_one_check(no_verify, verify_model, assume_inference)
        entries = inputs(models)
        targets = _targets(entries, output, in_place, output_dir)
        if not in_place:
            protect([Path(t) for t in targets.values() if t != STDOUT], entries)
        protect_report(save_report, entries, targets.values())
        task = _Task(
            targets,
            tuple(only or ()),
            tuple(skip or ()),
            assume_inference,
            merge_branches,
            duplicate,
            form_of(external_data),
            makes_folders=output_dir is not None,
            verify=not no_verify,
            verify_model=verify_model,
            reports=json or not quiet or save_report is not None or bool(only or skip),
        )
        results, errors = over_all(entries, task, jobs=jobs, quiet=quiet)
        told = [(report, target) for report, target in results if report is not None]
        warn_of_unmatched([*task.only, *task.skip], nodes_in(r for r, _ in told), "norm")
        objects, texts = _told(told, json or save_report is not None, not json and not quiet)
        finish(
            "fold",
            objects,
            texts,
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
            to_stderr=output == STDOUT,
        )


def _told(
    reports: list[tuple[Report, str]], as_json: bool, as_text: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """What is said of each model, as JSON and as text; what is not wanted is not imported."""
    objects, texts = [], []
    if as_json:
        from bnfold.report.as_json import report_json

        objects = [report_json(*one) for one in reports]
    if as_text:
        from bnfold.report.as_text import fold_text

        texts = [fold_text(*one) for one in reports]
    return objects, texts


@dataclass(frozen=True)
class _Task:
    """Fold one model and write it: what each process of a batch does."""

    targets: dict[str, str]
    only: tuple[str, ...]
    skip: tuple[str, ...]
    assume_inference: bool
    merge_branches: bool
    duplicate: bool
    form: Form
    makes_folders: bool
    verify: bool
    verify_model: bool
    reports: bool

    def __call__(self, entry: Input) -> tuple[Report | None, str]:
        from bnfold import api
        from bnfold.cli.inputs import content

        target = self.targets[entry.name]
        when_saved = self.verify and target != STDOUT
        result = api.fold(
            content(entry),
            name=entry.name,
            only=self.only,
            skip=self.skip,
            assume_inference=self.assume_inference,
            merge_branches=self.merge_branches,
            duplicate=self.duplicate,
            verify="when-saved" if when_saved else self.verify,
        )
        if self.verify_model:
            _require_same(result)
        if self.makes_folders and target != STDOUT:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        written = delivered(result, target, self.form)
        return result.report if self.reports else None, written


def _require_one_check(no_verify: bool, verify_model: bool, assume_inference: bool) -> None:
    from bnfold.errors import UsageError

    if no_verify and verify_model:
        raise UsageError("--no-verify and --verify-model contradict each other")
    if assume_inference and verify_model:
        raise UsageError(
            "--verify-model compares with the model as it is, in training mode: it cannot be "
            "used with --assume-inference"
        )


def _require_same(result: FoldResult) -> None:
    """Check the whole folded model before it is written.

    Raises:
        VerificationError: it is another function.
    """
    from bnfold.errors import VerificationError

    # Folding needs no onnxruntime, and neither does its check.
    found = result.verify(runtime=False)
    if not found.is_same:
        raise VerificationError(
            f"{found.verdict}: this is a bug of bnfold's, and nothing was written; please report it"
        )


def _targets(
    entries: list[Input], output: str | None, in_place: bool, output_dir: Path | None
) -> dict[str, str]:
    """Where each model goes.

    Raises:
        UsageError: none or several of the options that say so, or two models in one place.
    """
    from bnfold.errors import UsageError

    if (output is not None) + in_place + (output_dir is not None) != 1:
        raise UsageError("say where the result goes: one of -o OUT, --in-place, --output-dir DIR")
    if in_place:
        if any(entry.path is None for entry in entries):
            raise UsageError("standard input cannot be replaced in place: use -o OUT")
        return {entry.name: entry.name for entry in entries}
    if output is not None:
        if len(entries) > 1:
            raise UsageError(f"-o takes one model, not {len(entries)}: use --output-dir DIR")
        return {entries[0].name: output}
    assert output_dir is not None
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for entry in entries:
        target = str(output_dir / entry.relative)
        if target in taken and entry.name not in targets:
            raise UsageError(f"{taken[target]} and {entry.name} would both become {target}")
        targets[entry.name] = target
        taken[target] = entry.name
    return targets
