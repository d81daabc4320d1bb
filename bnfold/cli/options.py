"""The parameters that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL", help="ONNX files; a folder is searched for *.onnx; - is stdin."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="GLOB", help="Only norms with a node name like this; repeatable."
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="GLOB", help="No norm with a node name like this; repeatable."),
]
AssumeInference = Annotated[
    bool,
    typer.Option(
        "--assume-inference", help="Read training-mode norms as inference; the report says so."
    ),
]
MergeBranches = Annotated[
    bool,
    typer.Option(
        "--merge-branches",
        help="First merge sums of parallel branches into one Conv each (RepVGG, MobileOne).",
    ),
]
Duplicate = Annotated[
    bool,
    typer.Option(
        "--duplicate",
        help="Copy a cheap operator for a norm that stays only because others read it, too.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no report.")]
SaveReport = Annotated[
    Path | None,
    typer.Option("--save-report", metavar="FILE", help="Write the report as JSON to a file."),
]
