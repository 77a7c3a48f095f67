"""``cellenhance compare``: two conditions by a column of their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.words import Debug, Json, Quiet, print_json

__all__ = ["compare"]


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Table of one condition, one line for each image.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Table of the other condition.")],
    column: Annotated[str, typer.Option(help="Name of the column to compare, such as n_found.")],
    csv: Annotated[Path | None, typer.Option(help="Write the result as CSV, and a JSON beside it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table that is there already.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell two conditions apart: means, Z-factor, and p-values by Mann-Whitney and by Welch's t-test.

    Tables are those of 'cellenhance measure --csv', or any CSV; lines of means are passed over.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows.conditions import ConditionsRequest, run, to_text

    result = run(ConditionsRequest(first=first, second=second, column=column))
    if csv is not None:
        from napari_cellenhance.io.tables import write_table

        write_table(csv, result.rows, result.record, overwrite=overwrite)
    if as_json:
        print_json(json_ready(result.record))
    else:
        typer.echo(to_text(result))
    for note in () if quiet or as_json else result.notes:
        typer.echo(f"note: {note}", err=True)
