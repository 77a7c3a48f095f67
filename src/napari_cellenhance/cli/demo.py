"""``cellenhance demo``: a bundled image before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.words import Debug, Device, Precision, ProgressLine, Quiet
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["demo"]

_ENHANCE = EnhanceRequest(image=None, axes="")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures; made if missing.")],
    strength: Annotated[float | None, typer.Option(help="How strongly. [default: that of the model]")] = None,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Enhance a bundled image, to see what it does."""
    from napari_cellenhance.workflows import demo as show

    with ProgressLine(quiet) as line:
        result = show.run(out, strength=strength, device=device, precision=precision, on_progress=line.show)
    if not quiet:
        typer.echo(f"before and after: {result.picture}")
        typer.echo(f"enhanced image:   {result.image}")
        typer.echo(f"{result.seconds:.1f} s, {result.note}")
