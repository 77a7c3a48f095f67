"""``cellenhance train care``: a restoration, from clean images alone or from real pairs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    ArePairs,
    Average,
    CareData,
    Channels,
    DataRoot,
    Depth,
    FinerSettings,
    Install,
    KeepWeights,
    LearningRate,
    ModelId,
    Patch,
    PatchesPerUpdate,
    Patience,
    Resume,
    RunFolder,
    Schedule,
    Seed,
    Steps,
    StopAfter,
    TimeLimit,
    Title,
    TrainDevice,
    ValidateEvery,
    Width,
)
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
from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["train_care"]

_TRAIN = CareRequest(data="", out="")


def train_care(
    data: CareData,
    out: RunFolder,
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
    model_id: ModelId = _TRAIN.model_id,
    title: Title = _TRAIN.title,
    init_from: Annotated[str | None, typer.Option(help="Restoration model to start from.")] = _TRAIN.init_from,
    loss: Annotated[
        Literal["laplace", "mae", "mse"], typer.Option(help="laplace learns an uncertainty for every pixel, too.")
    ] = _TRAIN.loss,
    depth: Depth = _TRAIN.depth,
    width: Width = _TRAIN.width,
    kernel: Annotated[int, typer.Option(min=0, help="Side of a kernel, odd; 0: 5, or 3 with --3d.")] = _TRAIN.kernel_px,
    patch: Patch = _TRAIN.patch_px,
    patches: Annotated[int, typer.Option(min=0, help="Places in each image; 0: new ones each time.")] = (
        _TRAIN.n_patches
    ),
    threshold: Annotated[
        float, typer.Option(help="Patches need something brighter than this share of the brightest; 0: any.")
    ] = _TRAIN.threshold,
    percentiles: Annotated[
        Literal["drawn", "fixed"], typer.Option(help="Normalise each patch by drawn ranks, or always the same.")
    ] = _TRAIN.percentiles,
    clean_scale: Annotated[
        Literal["poor", "own"],
        typer.Option(help="Bring clean images to the grey values of the poor ones, or normalise each by itself."),
    ] = _TRAIN.clean_scale,
    lo: Annotated[float, typer.Option(help="Lower percentile of images that are restored.")] = _TRAIN.lo,
    hi: Annotated[float, typer.Option(help="Upper percentile of images that are restored.")] = _TRAIN.hi,
    aside: Annotated[float, typer.Option(help="Share of the images that is kept aside.")] = _TRAIN.validation_fraction,
    steps: Steps = _TRAIN.n_steps,
    time: TimeLimit = (_TRAIN.time_limit_s),
    batch_size: PatchesPerUpdate = _TRAIN.batch_size,
    learning_rate: LearningRate = _TRAIN.learning_rate,
    schedule: Schedule = _TRAIN.schedule,
    validate_every: ValidateEvery = _TRAIN.validate_every,
    patience: Patience = (_TRAIN.patience),
    average: Average = (_TRAIN.average),
    keep: KeepWeights = _TRAIN.keep,
    seed: Seed = _TRAIN.seed,
    device: TrainDevice = _TRAIN.device,
    precision: Precision = "auto",
    stop_after: StopAfter = (_TRAIN.stop_after),
    resume: Resume = _TRAIN.resume,
    install: Install = _TRAIN.install,
    more: FinerSettings = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a restoration on clean images alone, or on real pairs; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train_care import run

    request = CareRequest(
        data=data, out=out, is_paired=pairs, data_root=data_root, axes=axes, channels=parse_channels(channels),
        synthesis=synthesis_of(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
        model_id=model_id, title=title, init_from=init_from, n_dims=3 if volumes else 2, depth=depth, width=width,
        kernel_px=kernel, loss=loss, patch_px=patch, n_patches=patches, threshold=threshold, percentiles=percentiles,
        lo=lo, hi=hi, clean_scale=clean_scale, validation_fraction=aside, n_steps=steps, time_limit_s=time,
        batch_size=batch_size, learning_rate=learning_rate, schedule=schedule, validate_every=validate_every,
        patience=patience, average=average, keep=keep, seed=seed, device=device, precision=precision,
        stop_after=stop_after, resume=resume, install=install, recipe_options=parse_settings(more or []),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        typer.echo(f"model:   {result.model_id}{'' if install else ' (not installed)'}")
        typer.echo(f"weights: {result.weights}")
        typer.echo(f"card:    {result.card}")
        typer.echo(f"curves:  {result.history}")
        if result.exposures is not None:
            typer.echo(f"drawn:   {result.exposures}")
        if result.left_out:
            names = ", ".join(result.left_out[:5]) + (", …" if len(result.left_out) > 5 else "")
            typer.echo(f"left out, as poor and clean image have nothing in common: {names}")
        scores = result.scores
        typer.echo(
            f"mean absolute error on images that were kept aside: {scores['mae']:.4f} (poor images: "
            f"{scores['mae_of_input']:.4f}), loss {result.best_total:.4f} at update {result.best_step}; "
            f"{result.stopped}"
        )
        if "factor" in scores:
            typer.echo(
                f"uncertainty: {100 * scores['within_half_before']:.0f} % of the pixels lay within σ·ln 2 (expected: "
                f"50 %), so σ is multiplied by {scores['factor']:.2f}"
            )
    leave(is_stopped=is_stopped)
