"""``cellenhance synthesize``: pairs of poor and clean images out of clean ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.options import Channels, DataRoot, Seed
from napari_cellenhance.cli.synthesis import (
    OPTICS,
    PREPARATION,
    STRETCH,
    Axes,
    Index,
    Levels,
    Minimum,
    Na,
    Opening,
    Photons,
    Pixel,
    Psf,
    Step,
    Stretch,
    Volumes,
    Wavelength,
    synthesis_of,
)
from napari_cellenhance.cli.words import Debug, ProgressLine, Quiet, leave, parse_channels, stoppable
from napari_cellenhance.workflows.synthesize import SynthesizeRequest

__all__ = ["synthesize"]

_MAKE = SynthesizeRequest(data="", out="")


def synthesize(
    data: Annotated[Path, typer.Argument(help="Clean image file, a folder of them, or a JSON list of sources.")],
    out: Annotated[Path, typer.Argument(help="Folder for noisy/, clean/ and the log; made if missing.")],
    data_root: DataRoot = None,
    axes: Axes = "",
    channels: Channels = "all",
    volumes: Volumes = False,
    psf: Psf = OPTICS.kind,
    na: Na = OPTICS.na,
    wavelength: Wavelength = OPTICS.wavelength_um,
    pixel: Pixel = OPTICS.pixel_um,
    step: Step = OPTICS.step_um,
    index: Index = OPTICS.refractive_index,
    levels: Levels = None,
    photons: Photons = "",
    minimum: Minimum = PREPARATION.radius_px,
    opening: Opening = False,
    stretch: Stretch = STRETCH,
    patches: Annotated[int, typer.Option(min=0, help="Also write so many patches of each pair as .npz.")] = 0,
    patch: Annotated[int, typer.Option(min=8, help="Their side, in pixels.")] = _MAKE.patch_px,
    seed: Seed = _MAKE.seed,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the pairs of an earlier run.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make pairs of poor and clean images from clean ones; every drawn value is logged."""
    from napari_cellenhance.workflows.synthesize import run

    request = SynthesizeRequest(
        data=data, out=out, data_root=data_root, axes=axes, channels=parse_channels(channels),
        n_dims=3 if volumes else 2, seed=seed, n_patches=patches, patch_px=patch, overwrite=overwrite,
        synthesis=synthesis_of(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not quiet and result.is_complete:
        typer.echo(f"{result.n_images} clean image(s) → {result.n_pairs} pairs in {out}")
        typer.echo(f"log: {result.log}")
    leave(is_stopped=not result.is_complete)
