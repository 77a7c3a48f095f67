"""``cellenhance synthesize``, ``train care``, ``search care``, ``restore``, ``evaluate care``: learned restoration."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_cellenhance.cli import large
from napari_cellenhance.cli.options import (
    ArePairs,
    Average,
    AxesInFile,
    Blocks,
    CareData,
    Channels,
    Chunk,
    DataRoot,
    Depth,
    FinerSettings,
    Install,
    KeepWeights,
    LearningRate,
    MemoryLimit,
    ModelId,
    OmeZarr,
    Overwrite,
    Patch,
    PatchesPerUpdate,
    Patience,
    PixelType,
    Report,
    Resume,
    RunFolder,
    Schedule,
    Seed,
    Sources,
    Statistics,
    Steps,
    StopAfter,
    Target,
    Tile,
    TimeLimit,
    Title,
    TrainDevice,
    ValidateEvery,
    Width,
)
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_channels,
    parse_settings,
    remind,
    stoppable,
    tell_outcome,
)
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.microscope import Level, Optics, Preparation, levels_from
from napari_cellenhance.workflows.evaluate_care import EvaluateCareRequest
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.synthesize import Synthesis, SynthesizeRequest
from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["evaluate_care", "restore", "search_care", "synthesize", "train_care"]

# The one declaration of each default is in the requests; an empty one hands them over.
_TRAIN = CareRequest(data="", out="")
_MAKE = SynthesizeRequest(data="", out="")
_RESTORE = RestoreRequest(image=None, axes="")
_EVALUATE = EvaluateCareRequest()
_OPTICS, _TARGET = Optics(), Preparation()

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

_STRETCH = f"{_TARGET.lo:g},{_TARGET.hi:g}"


def synthesize(
    data: Annotated[Path, typer.Argument(help="Clean image file, a folder of them, or a JSON list of sources.")],
    out: Annotated[Path, typer.Argument(help="Folder for noisy/, clean/ and the log; made if missing.")],
    data_root: DataRoot = None,
    axes: Axes = "",
    channels: Channels = "all",
    volumes: Volumes = False,
    psf: Psf = _OPTICS.kind,
    na: Na = _OPTICS.na,
    wavelength: Wavelength = _OPTICS.wavelength_um,
    pixel: Pixel = _OPTICS.pixel_um,
    step: Step = _OPTICS.step_um,
    index: Index = _OPTICS.refractive_index,
    levels: Levels = None,
    photons: Photons = "",
    minimum: Minimum = _TARGET.radius_px,
    opening: Opening = False,
    stretch: Stretch = _STRETCH,
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
        synthesis=_synthesis(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not quiet and result.is_complete:
        typer.echo(f"{result.n_images} clean image(s) → {result.n_pairs} pairs in {out}")
        typer.echo(f"log: {result.log}")
    leave(is_stopped=not result.is_complete)


def train_care(
    data: CareData,
    out: RunFolder,
    pairs: ArePairs = False,
    data_root: DataRoot = None,
    axes: Axes = "",
    channels: Channels = "all",
    volumes: Volumes = False,
    psf: Psf = _OPTICS.kind,
    na: Na = _OPTICS.na,
    wavelength: Wavelength = _OPTICS.wavelength_um,
    pixel: Pixel = _OPTICS.pixel_um,
    step: Step = _OPTICS.step_um,
    index: Index = _OPTICS.refractive_index,
    levels: Levels = None,
    photons: Photons = "",
    minimum: Minimum = _TARGET.radius_px,
    opening: Opening = False,
    stretch: Stretch = _STRETCH,
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
        synthesis=_synthesis(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
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
    psf: Psf = _OPTICS.kind,
    na: Na = _OPTICS.na,
    wavelength: Wavelength = _OPTICS.wavelength_um,
    pixel: Pixel = _OPTICS.pixel_um,
    step: Step = _OPTICS.step_um,
    index: Index = _OPTICS.refractive_index,
    levels: Levels = None,
    photons: Photons = "",
    minimum: Minimum = _TARGET.radius_px,
    opening: Opening = False,
    stretch: Stretch = _STRETCH,
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
        synthesis=_synthesis(psf, na, wavelength, pixel, step, index, levels, photons, minimum, opening, stretch),
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


def restore(
    sources: Sources,
    target: Target,
    model: Annotated[str, typer.Option(help="Restoration model; see 'cellenhance models list'.")],
    axes: AxesInFile = "",
    channels: Channels = "all",
    statistics: Statistics = _RESTORE.statistics,
    repeats: Annotated[
        int, typer.Option(min=1, max=3, help="Apply again to the result: sharper, but noise may become structure.")
    ] = _RESTORE.repeats,
    uncertainty: Annotated[bool, typer.Option(help="Write the uncertainty of every pixel beside the image.")] = True,
    device: Device = _RESTORE.device,
    precision: Precision = _RESTORE.precision,
    tile: Tile = None,
    dtype: PixelType = "float32",
    memory_limit: MemoryLimit = MEMORY_LIMIT_MB,
    chunk: Chunk = None,
    ome_zarr: OmeZarr = "0.5",
    blocks: Blocks = False,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    report: Report = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Restore an image file, or all images of a folder, with an uncertainty for every pixel."""
    from napari_cellenhance.workflows import restore_files
    from napari_cellenhance.workflows._file_loop import FileOutcome

    settings = RestoreRequest(
        image=None, axes=axes, model_id=model, channels=parse_channels(channels), statistics=statistics,
        repeats=repeats, device=device, precision=precision, tile_px=tile,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if report is not None:
            raise ParameterError("a report cannot go with blocks or .ome.zarr; leave it out")
        large.grey_large(
            sources, target, settings, step="restore", n_times=repeats, has_uncertainty=uncertainty, dtype=dtype,
            memory_limit_mb=memory_limit, chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet,
            cluster=cluster,
        )  # fmt: skip
        return
    request = restore_files.RestoreFilesRequest(
        source=tuple(sources), target=target, settings=settings, dtype=dtype, has_uncertainty=uncertainty,
        overwrite=overwrite,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = restore_files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)


def evaluate_care(
    data: Annotated[Path, typer.Argument(help="Folder with noisy/ and clean/, or a JSON list of pairs.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Results; made if missing.")],
    data_root: DataRoot = None,
    volumes: Volumes = False,
    methods: Annotated[
        str, typer.Option(help="Between commas; ids of models that restore or denoise, or their cards, count too.")
    ] = ",".join(_EVALUATE.methods),
    psf: Annotated[Literal["gaussian", "airy"], typer.Option(help="Of the deconvolution.")] = "gaussian",
    na: Na = _OPTICS.na,
    wavelength: Wavelength = _OPTICS.wavelength_um,
    pixel: Annotated[float, typer.Option(help="Side of a pixel in µm; 0: several widths of the blur are tried.")] = (
        _OPTICS.pixel_um
    ),
    step: Annotated[float, typer.Option(help="With --3d and --pixel: distance of planes in µm.")] = _OPTICS.step_um,
    index: Index = _OPTICS.refractive_index,
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


def _synthesis(
    psf: str, na: float, wavelength: float, pixel: float, step: float, index: float, levels: Path | None, photons: str,
    minimum: float, opening: bool, stretch: str,
) -> Synthesis:  # fmt: skip
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
