"""Options that several commands share, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

ColumnsOption = Annotated[str | None, typer.Option("--columns", metavar="NAME,NAME", help="Names for the columns of CSV and TSV files without a header, like image,caption.")]  # fmt: skip
FormatOption = Annotated[str | None, typer.Option("--format", help="jsonl, coco, evjvqa, karpathy, json, flickr, csv, parquet or webdataset; by default the one that the content shows.")]  # fmt: skip
