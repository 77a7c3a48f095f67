"""How clean images are made poor: options that ``synthesize``, ``train care`` and ``search care`` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.microscope import Level, Optics, Preparation, levels_from
from napari_cellenhance.workflows.synthesize import Synthesis

__all__ = [
    "OPTICS",
    "PREPARATION",
    "STRETCH",
    "Axes",
    "Index",
    "Levels",
    "Minimum",
    "Na",
    "Opening",
    "Photons",
    "Pixel",
    "Psf",
    "Step",
    "Stretch",
    "Volumes",
    "Wavelength",
    "synthesis_of",
]

OPTICS, PREPARATION = Optics(), Preparation()
Axes = Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in each file]")]
Volumes = Annotated[bool, typer.Option("--3d", help="Volumes (Z stacks) instead of planes.")]
Psf = Annotated[str, typer.Option(help="Blur: gaussian, airy, none, or an image file of a point.")]
Na = Annotated[float, typer.Option(help="Numerical aperture of the objective.")]
Wavelength = Annotated[float, typer.Option(help="Of the emitted light, in µm.")]
Pixel = Annotated[float, typer.Option(help="Side of a pixel in µm; 0: as in the file.")]
Step = Annotated[float, typer.Option(help="With --3d: distance of planes in µm; 0: as in the file.")]
Index = Annotated[float, typer.Option("--refractive-index", help="With --3d: of the immersion.")]
Levels = Annotated[
    Path | None, typer.Option(help="JSON list of levels with intervals. [default: mild, medium, strong]")
]
Photons = Annotated[str, typer.Option(metavar="LOW,HIGH", help="Photons at intensity 1, for all levels.")]
Minimum = Annotated[float, typer.Option(help="Radius of the minimum filter of clean images, in pixels; 0: none.")]
Opening = Annotated[bool, typer.Option("--opening", help="Follow it by a maximum filter, which keeps widths.")]
Stretch = Annotated[str, typer.Option(metavar="LOW,HIGH", help="Percentiles of clean images that become 0 and 1.")]
STRETCH = f"{PREPARATION.lo:g},{PREPARATION.hi:g}"


def synthesis_of(
    psf: str, na: float, wavelength: float, pixel: float, step: float, index: float, levels: Path | None, photons: str,
    minimum: float, opening: bool, stretch: str,
) -> Synthesis:  # fmt: skip
    """Put the options together."""
    kind: Any = psf if psf in ("gaussian", "airy", "none") else "gaussian"
    if kind != psf and not Path(psf).is_file():
        raise ParameterError(f"--psf is {psf!r}; expected gaussian, airy, none, or the image file of a point")
    lo, hi = _two("--stretch", stretch)
    chosen = Synthesis().levels if levels is None else _read_levels(levels)
    if photons:
        low, high = _two("--photons", photons)
        chosen = tuple(replace(level, photons=(low, high)) for level in chosen)
    return Synthesis(
        optics=Optics(
            kind=kind, na=na, wavelength_um=wavelength, pixel_um=pixel, step_um=step, refractive_index=index
        ),
        psf_file=None if kind == psf else psf,
        preparation=Preparation(lo=lo, hi=hi, radius_px=minimum, is_opening=opening), levels=chosen,
    )  # fmt: skip


def _read_levels(path: Path) -> tuple[Level, ...]:
    from napari_cellenhance.io.json_ready import load_json

    try:
        entries = load_json(path)
    except (OSError, ValueError) as error:
        raise ParameterError(f"the levels {path} cannot be read ({error}); expected a JSON list") from error
    if not isinstance(entries, list):
        raise ParameterError(f"the levels {path} are no JSON list; expected [{{'name': …, 'gain': [0.4, 1.0]}}, …]")
    return levels_from(entries)


def _two(option: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise ParameterError(f"{option} is {text!r}; expected two numbers, such as 20,200") from None
    return low, high
