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
OneModel = Annotated[str, typer.Argument(metavar="MODEL", help="The ONNX file; - is stdin.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="OUT", help="The new model; - is stdout."),
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Replace MODEL.")]
ExternalData = Annotated[
    bool | None,
    typer.Option(
        "--external-data/--embed",
        help="Put large tensors into a data file, or all into the model; default: as it was.",
    ),
]

Estimator = Annotated[str, typer.Option("--estimator", metavar="KIND", help="paper or population.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", min=1, help="Samples in a batch.")
]
Batches = Annotated[
    int | None, typer.Option("--batches", metavar="N", min=1, help="At most so many batches.")
]
Shuffle = Annotated[bool, typer.Option("--shuffle", help="Take the samples in a random order.")]
OrderSeed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of that order.")]
DropLast = Annotated[
    bool, typer.Option("--drop-last", help="Leave out a last batch that is smaller.")
]
Threads = Annotated[
    int,
    typer.Option("--threads", metavar="N", min=0, help="Threads within an operator; 0 is all."),
]
DATA = typer.Option(
    "--data",
    metavar="DATA",
    help="A .npy or .npz file, a folder of them, or module:function that gives batches.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no report.")]
SaveReport = Annotated[
    Path | None,
    typer.Option("--save-report", metavar="FILE", help="Write the report as JSON to a file."),
]
