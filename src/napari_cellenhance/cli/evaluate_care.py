"""``cellenhance evaluate care``: restorations beside classical ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    DataRoot,
)
from napari_cellenhance.cli.synthesis import OPTICS, Index, Na, Volumes, Wavelength
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    stoppable,
)
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.workflows.evaluate_care import EvaluateCareRequest

__all__ = ["evaluate_care"]

_EVALUATE = EvaluateCareRequest()


def evaluate_care(
    data: Annotated[Path, typer.Argument(help="Folder with noisy/ and clean/, or a JSON list of pairs.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Results; made if missing.")],
    data_root: DataRoot = None,
    volumes: Volumes = False,
    methods: Annotated[
        str, typer.Option(help="Between commas; ids of models that restore or denoise, or their cards, count too.")
    ] = ",".join(_EVALUATE.methods),
    psf: Annotated[Literal["gaussian", "airy"], typer.Option(help="Of the deconvolution.")] = "gaussian",
    na: Na = OPTICS.na,
    wavelength: Wavelength = OPTICS.wavelength_um,
    pixel: Annotated[float, typer.Option(help="Side of a pixel in µm; 0: several widths of the blur are tried.")] = (
        OPTICS.pixel_um
    ),
    step: Annotated[float, typer.Option(help="With --3d and --pixel: distance of planes in µm.")] = OPTICS.step_um,
    index: Index = OPTICS.refractive_index,
    repeats: Annotated[int, typer.Option(min=1, max=3, help="Applications of models that restore.")] = (
        _EVALUATE.repeats
    ),
    device: Device = _EVALUATE.device,
    precision: Precision = _EVALUATE.precision,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score restorations on pairs, beside classical filters, deconvolution and denoisers; nothing learns here."""
    from napari_cellenhance.workflows.evaluate_care import run, save, to_markdown

    request = EvaluateCareRequest(
        data=data, out=out, data_root=data_root, methods=tuple(word.strip() for word in methods.split(",")),
        n_dims=3 if volumes else 2,
        optics=Optics(
            kind=psf, na=na, wavelength_um=wavelength, pixel_um=pixel, step_um=step, refractive_index=index
        ),
        repeats=repeats, device=device, precision=precision,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result.rows:
        for path in save(result, request):
            if not quiet:
                typer.echo(path)
        if not quiet:
            typer.echo(to_markdown(result))
    leave(is_stopped=not result.is_complete)
