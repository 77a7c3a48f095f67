"""``cellenhance search care``: good settings for such a training."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cellenhance.cli.options import ArePairs, CareData, Channels, DataRoot, TrainDevice
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
from napari_cellenhance.cli.words import (
    Debug,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_settings,
    stoppable,
)
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["search_care"]

_TRAIN = CareRequest(data="", out="")


def search_care(
    data: CareData,
    out: Annotated[Path, typer.Option(help="Folder for the trainings and the table; made if missing.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,VALUE",
            help="A setting and values to try; again for more. [default: patch_px=16,32,64 learning_rate=2e-4,4e-4]",
        ),
    ] = None,
    pairs: ArePairs = False,
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
    steps: Annotated[int, typer.Option(min=0, help="Updates of each; 0: as many as fit into --time.")] = _TRAIN.n_steps,
    time: Annotated[float, typer.Option(min=0, help="With --steps 0: seconds that each training may take.")] = (
        _TRAIN.time_limit_s
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers; the same images are kept aside.")] = (
        _TRAIN.seed
    ),
    device: TrainDevice = _TRAIN.device,
    precision: Precision = "auto",
    more: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting that all trainings share.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train with every combination of some settings and put the errors in a table; what is done is not done again."""
    from napari_cellenhance.workflows.search_care import SearchCareRequest, run, to_markdown

    base = CareRequest(
        data=data, out=out, is_paired=pairs, data_root=data_root, axes=axes, channels=parse_channels(channels),
        synthesis=synthesis_of(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
        n_dims=3 if volumes else 2, n_steps=steps, time_limit_s=time, seed=seed, device=device, precision=precision,
        recipe_options={}, **_known_settings(parse_settings(more or [])),
    )  # fmt: skip
    request = SearchCareRequest(base=base, grid=_grid(grid)) if grid else SearchCareRequest(base=base)
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not quiet and result.rows:
        typer.echo(to_markdown(result))
        typer.echo(f"table: {result.table}")
        if result.best is not None:
            typer.echo(f"best:  {Path(out) / result.best['folder']}")
    leave(is_stopped=not result.is_complete, is_failed=any(row["problem"] for row in result.rows))


def _known_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are fields of the request."""
    unknown = sorted(set(settings) - {one.name for one in fields(CareRequest)})
    if unknown:
        raise ParameterError(f"--set does not know {', '.join(unknown)}; expected fields such as batch_size or width")
    return settings


def _grid(words: list[str]) -> dict[str, tuple[Any, ...]]:
    """``["patch_px=16,32"]`` → ``{"patch_px": (16, 32)}``."""
    found: dict[str, tuple[Any, ...]] = {}
    for word in words:
        name, _, values = word.partition("=")
        if not values:
            raise ParameterError(f"--grid is {word!r}; expected a name and values, such as patch_px=16,32,64")
        found[name] = tuple(parse_settings([f"{name}={value}"])[name] for value in values.split(","))
    return found
