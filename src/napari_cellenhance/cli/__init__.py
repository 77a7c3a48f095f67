"""The terminal door: ``cellenhance …``. Translates words to requests, and results to lines and exit codes.

Exit codes: 0 all fine, 1 something failed, 2 wrong usage, 130 stopped with Ctrl-C.
Results go to the standard output; progress, notes and errors (one line each) to the standard error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cellenhance.cli import batch as batching
from napari_cellenhance.cli import check as checking
from napari_cellenhance.cli import compare as comparing
from napari_cellenhance.cli import crops as cropping
from napari_cellenhance.cli import denoise as denoising
from napari_cellenhance.cli import evaluate_networks, large, teach, voidseg
from napari_cellenhance.cli import measure as measuring
from napari_cellenhance.cli import profile as profiling
from napari_cellenhance.cli import restore as restoring
from napari_cellenhance.cli import run as running
from napari_cellenhance.cli import semantic as separating
from napari_cellenhance.cli.options import Blocks, Chunk, OmeZarr
from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Door,
    Json,
    Precision,
    ProgressLine,
    Quiet,
    complain,
    leave,
    parse_channels,
    parse_segment,
    parse_settings,
    parse_strength,
    print_json,
    remind,
    stoppable,
    tell_outcome,
)  # fmt: skip
from napari_cellenhance.cli.workers import Scheduler, Workers, cluster_of
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.memory import keep_memory
from napari_cellenhance.workflows.evaluate import EvaluateRequest
from napari_cellenhance.workflows.requests import BlobOptions, EnhanceRequest, SegmentOptions
from napari_cellenhance.workflows.train import TrainRequest

if TYPE_CHECKING:
    from napari_cellenhance.workflows._file_loop import FileOutcome

__all__ = ["app", "main"]


# The one declaration of each default is in the requests; an empty one hands them over.
_ENHANCE = EnhanceRequest(image=None, axes="")
_SEGMENT = SegmentOptions()
_BLOBS = BlobOptions()
_TRAIN = TrainRequest(data="", out="")
_EVALUATE = EvaluateRequest()


_SETTINGS: dict[str, Any] = {"rich_markup_mode": None, "no_args_is_help": True}
app = typer.Typer(
    name="cellenhance", cls=Door, pretty_exceptions_enable=False, add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]}, **_SETTINGS,
)  # fmt: skip
models = typer.Typer(help="List, show and fetch the filters.", **_SETTINGS)
train = typer.Typer(help="Train a network on your own images.", **_SETTINGS)
app.add_typer(models, name="models")
app.add_typer(train, name="train")
app.command("batch")(batching.batch)
app.command("run")(running.run)
app.command("segment")(teach.segment)
app.command("denoise")(denoising.denoise)
app.command("restore")(restoring.restore)
app.command("separate")(separating.separate)
app.command("synthesize")(restoring.synthesize)
app.command("measure")(measuring.measure)
app.command("objects")(large.objects)
app.command("profile")(profiling.profile)
app.command("crops")(cropping.crops)
app.command("compare")(measuring.compare)
app.command("check")(checking.check)
app.command("figure")(comparing.figure)
app.command("resolution")(comparing.resolution)
train.command("aep")(teach.train_aep)
train.command("voidseg")(voidseg.train_voidseg)
train.command("n2v")(denoising.train_n2v)
train.command("care")(restoring.train_care)
train.command("semantic")(separating.train_semantic)
search = typer.Typer(help="Find good settings for a training.", **_SETTINGS)
search.command("care")(restoring.search_care)
app.add_typer(search, name="search")
evaluate = typer.Typer(help="Score filters on labelled images.", **_SETTINGS)
evaluate.command("aep")(evaluate_networks.aep)
evaluate.command("paint")(evaluate_networks.paint)
evaluate.command("n2v")(evaluate_networks.n2v)
evaluate.command("care")(restoring.evaluate_care)
evaluate.command("voidseg")(voidseg.evaluate_voidseg)
evaluate.command("semantic")(separating.evaluate_semantic)
app.add_typer(evaluate, name="evaluate")


def main() -> None:
    """Entry point of the command ``cellenhance``."""
    app()


# --- words that several commands share ------------------------------------------------------


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from napari_cellenhance import __version__

        typer.echo(f"cellenhance {__version__}")
        raise typer.Exit


@app.callback()
def _cellenhance(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Enhance microscopy images: objects bright, ground dark, with a strength to choose."""
    # It logs what is odd in a damaged file, which would stand beside our one line on it; --debug shows it.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    keep_memory()


# --- enhance --------------------------------------------------------------------------------


@app.command()
def enhance(
    sources: Annotated[
        list[str], typer.Argument(metavar="IN", help="TIFF, PNG or OME-Zarr file(s), a folder, or a pattern in quotes.")
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="File (.ome.tif, .tif, .png), a folder, or .ome.zarr for a large image."),
    ],
    model: Annotated[str, typer.Option(help="Model or classical filter; see 'cellenhance models list'.")] = (
        _ENHANCE.filter_id
    ),
    strength: Annotated[
        str | None,
        typer.Option(help="How strongly; 0 returns the input, auto asks the image. [default: that of the model]"),
    ] = None,
    strength_map: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Image of strengths by region, or of labels; a folder for many images."),
    ] = None,
    label_strength: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=STRENGTH", help="The map holds labels; strength of one. Can be given again."),
    ] = None,
    soft_edges: Annotated[int, typer.Option(min=0, help="Width over which regions fade, in pixels.")] = 0,
    axes: Annotated[
        str, typer.Option(help="Letters of TCZYX, S for colour, e.g. ZYX. [default: as in the file]")
    ] = _ENHANCE.axes,
    channels: Annotated[str, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")] = "all",
    dark: Annotated[
        bool | None, typer.Option("--dark/--bright", help="Objects are darker than the ground. [default: bright]")
    ] = None,
    statistics: Annotated[
        Literal["plane", "stack"], typer.Option(help="Normalise each plane, or the whole stack alike (no flicker).")
    ] = _ENHANCE.statistics,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile, in pixels. [default: what fits the memory]")
    ] = _ENHANCE.tile_px,
    memory_limit: Annotated[
        int, typer.Option(min=100, metavar="MB", help="Memory to keep to; of the whole program for .ome.zarr.")
    ] = _ENHANCE.memory_limit_mb,
    chunk: Chunk = None,
    ome_zarr: OmeZarr = "0.5",
    blocks: Blocks = False,
    scheduler: Scheduler = "",
    workers: Workers = 0,
    dtype: Annotated[
        Literal["float32", "uint8", "uint16"] | None,
        typer.Option(help="Pixel type; integers hold 0…1 as 0…maximum. [default: float32, in PNG uint8]"),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Segment too; OME-TIFF of labels, a folder, or .ome.zarr.")] = None,
    points: Annotated[str | None, typer.Option(help="Find blobs too; CSV of pixel coordinates, or a folder.")] = None,
    threshold: Annotated[
        str, typer.Option(help="For the labels: otsu, li, or a number from 0 to 1.")
    ] = _SEGMENT.method,
    split: Annotated[bool, typer.Option(help="For the labels: split touching objects.")] = _SEGMENT.split_touching,
    min_size: Annotated[int, typer.Option(help="For the labels: smallest object, in pixels.")] = _SEGMENT.min_size_px,
    radius: Annotated[
        tuple[float, float], typer.Option(help="For the points: smallest and largest radius, in pixels.")
    ] = (_BLOBS.min_radius_px, _BLOBS.max_radius_px),
    report: Annotated[Path | None, typer.Option(help="Write what became of each file to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Enhance an image file, or all images of a folder."""
    from napari_cellenhance.workflows import files

    settings = EnhanceRequest(
        image=None, axes=axes, filter_id=model, strength=parse_strength(strength), channels=parse_channels(channels),
        objects_are_dark=_ENHANCE.objects_are_dark if dark is None else dark, statistics=statistics, device=device,
        precision=precision, tile_px=tile, memory_limit_mb=memory_limit,
        segment=parse_segment(threshold, split, min_size) if labels is not None else None,
        blobs=BlobOptions(min_radius_px=radius[0], max_radius_px=radius[1]) if points is not None else None,
    )  # fmt: skip
    cluster = cluster_of(scheduler, workers)
    if blocks or cluster is not None or large.is_large(sources, target):
        if strength_map is not None or report is not None:
            raise ParameterError("a strength map or a report cannot go with blocks or .ome.zarr; leave them out")
        large.enhance_large(
            sources, target, settings, dtype=dtype, chunk_px=chunk, version=ome_zarr, overwrite=overwrite, quiet=quiet,
            cluster=cluster, labels=labels,
        )  # fmt: skip
        return
    request = files.FilesRequest(
        source=tuple(sources), target=target, settings=settings, dtype=dtype, labels=labels, points=points,
        strength_map=strength_map, label_strengths=_parse_label_strengths(label_strength), strength_edge_px=soft_edges,
        overwrite=overwrite, suggest_contrast=dark is None,
    )  # fmt: skip
    line = ProgressLine(quiet)

    def tell(outcome: FileOutcome) -> None:
        line.clear()
        tell_outcome(outcome, quiet)

    with line, stoppable() as is_cancelled:
        result = files.run(request, on_progress=line.show, on_outcome=tell, is_cancelled=is_cancelled)
    remind(result.outcomes, quiet)
    if report is not None:
        from napari_cellenhance.io.reports import write_json

        write_json(report, [outcome.to_dict() for outcome in result.outcomes])
    if len(result.outcomes) > 1 and not quiet:
        typer.echo(f"{len(result.outcomes) - result.n_failed} of {len(result.outcomes)} files enhanced")
    leave(is_stopped=not result.is_complete, is_failed=result.n_failed > 0)


def _parse_label_strengths(words: list[str] | None) -> dict[int, float] | None:
    """Read ``LABEL=STRENGTH``.

    >>> _parse_label_strengths(["1=8", "2=0"])
    {1: 8.0, 2: 0.0}
    """
    if not words:
        return None
    table: dict[int, float] = {}
    for word in words:
        label, _, strength = word.partition("=")
        try:
            table[int(label)] = float(strength)
        except ValueError:
            raise ParameterError(f"--label-strength is {word!r}; expected LABEL=STRENGTH, for example 1=8") from None
    return table


@app.command()
def persistence(
    source: Annotated[Path, typer.Argument(metavar="IN", help="TIFF, OME-TIFF or PNG file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Persistence map to write (.ome.tif).")],
    model: Annotated[str, typer.Option(help="Model or classical filter to sweep.")] = _ENHANCE.filter_id,
    weakest: Annotated[float | None, typer.Option(help="Begin of the sweep. [default: a tenth of the slider]")] = None,
    strongest: Annotated[float | None, typer.Option(help="End of the sweep. [default: end of the slider]")] = None,
    n_strengths: Annotated[int, typer.Option("--steps", min=2, help="Strengths of the sweep.")] = 16,
    axes: Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in the file]")] = "",
    channels: Annotated[str, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")] = "all",
    dark: Annotated[bool, typer.Option("--dark/--bright", help="Objects are darker than the ground.")] = False,
    labels: Annotated[Path | None, typer.Option(help="Write the objects too; OME-TIFF of labels.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write one row per object too; CSV.")] = None,
    threshold: Annotated[str, typer.Option(help="otsu, li, or a number from 0 to 1.")] = _SEGMENT.method,
    split: Annotated[bool, typer.Option(help="Split touching objects.")] = _SEGMENT.split_touching,
    min_size: Annotated[int, typer.Option(help="Smallest object, in pixels.")] = _SEGMENT.min_size_px,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show how long each object lasts while the strength rises, to tell faint cells from noise."""
    from napari_cellenhance.workflows import persistence_files

    request = persistence_files.PersistenceFileRequest(
        source=source, target=target, labels=labels, table=table, overwrite=overwrite, weakest=weakest,
        strongest=strongest, n_strengths=n_strengths,
        settings=EnhanceRequest(
            image=None, axes=axes, filter_id=model, channels=parse_channels(channels), objects_are_dark=dark,
            segment=parse_segment(threshold, split, min_size), device=device, precision=precision,
        ),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = persistence_files.run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result.is_complete and not quiet:
        typer.echo(result.sentence())
    leave(is_stopped=not result.is_complete)


# --- models ---------------------------------------------------------------------------------


@models.command("list")
def models_list(as_json: Json = False) -> None:
    """List all filters: trained networks and classical ones."""
    from napari_cellenhance.workflows import models as shelf

    shelf_cards = shelf.list_all()
    if as_json:
        print_json([card.summary() for card in shelf_cards])
        return
    for card in shelf_cards:
        info = card.info
        reach = f"{info.strength.minimum:g}…{info.strength.maximum:g}"
        typer.echo(f"{info.id:<20} {info.group:<10} {reach:>9}  {card.state:<14} {info.title}")


@models.command("show")
def models_show(model_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show all that is known about one filter."""
    from napari_cellenhance.workflows import models as shelf

    details = shelf.find(model_id).details()
    if as_json:
        print_json(details)
        return
    for key, value in _flat(details):
        typer.echo(f"{key + ':':<28} {value}")


def _flat(details: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of every entry that is not empty; nested names are joined by dots.

    >>> list(_flat({"a": {"b": 1.5, "c": ""}, "d": [1, 2]}))
    [('a.b', '1.5'), ('d', '[1, 2]')]
    """
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in ("", None, []):
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@models.command("fetch")
def models_fetch(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download the weights of a model, unless they are here already, and verify them."""
    from napari_cellenhance.workflows import models as shelf

    line = ProgressLine(quiet)
    with line, stoppable() as is_cancelled:
        path = shelf.fetch(model_id, on_progress=line.show, is_cancelled=is_cancelled)
    if path is None:
        leave(is_stopped=True)
    elif as_json:
        print_json({"id": model_id, "path": str(path)})
    elif not quiet:
        typer.echo(f"{model_id} is ready: {path}")


@models.command("rename")
def models_rename(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    title: Annotated[str, typer.Argument(help="Name of the model as people read it; its id stays.")],
    debug: Debug = False,
) -> None:
    """Give a model of your own another name."""
    from napari_cellenhance.workflows import own_models

    card = own_models.rename(model_id, title)
    typer.echo(f"{card.id} is now called “{card.title}”")


@models.command("export")
def models_export(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    folder: Annotated[Path, typer.Argument(help="Folder that the files are written to.")],
    bioimageio: Annotated[
        bool, typer.Option("--bioimageio", help="Write a package of the BioImage Model Zoo instead; of any model.")
    ] = False,
    strength: Annotated[float | None, typer.Option(help="Of a package: where the slider stands for good.")] = None,
    debug: Debug = False,
) -> None:
    """Copy a model of your own, or write any model as a package that other programs can run."""
    if bioimageio:
        from napari_cellenhance.workflows.bioimageio import export_bioimageio

        typer.echo(str(export_bioimageio(model_id, folder, strength=strength)))
        return
    from napari_cellenhance.workflows import own_models

    for path in own_models.export(model_id, folder):
        typer.echo(str(path))


@models.command("delete")
def models_delete(model_id: Annotated[str, typer.Argument(metavar="ID")], debug: Debug = False) -> None:
    """Remove a model of your own, and the folder of its training."""
    from napari_cellenhance.workflows import own_models

    own_models.delete(model_id)
    typer.echo(f"{model_id} is deleted")


@models.command("import")
def models_import(
    archive: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Archive of the authors of NU-Net, package of the BioImage Model Zoo, or card of an exported model.",
        ),
    ],
    model_id: Annotated[str | None, typer.Option("--id", help="Name of the model in files and commands.")] = None,
    channel: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of a package: which channel of its result is shown; all of one that gives as many as it takes.",
        ),
    ] = None,
    trust_torchscript: Annotated[
        bool,
        typer.Option(
            "--trust-torchscript",
            help="Of a package: its weights may be a program, which can read and write files as you can.",
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Import models: those that the authors of NU-Net publish, packages of the BioImage Model Zoo, exported ones."""
    from napari_cellenhance.workflows import models as shelf
    from napari_cellenhance.zoo.bioimageio_import import TrustError

    try:
        imported = shelf.import_file(archive, model_id=model_id, channel=channel, trust_torchscript=trust_torchscript)
    except TrustError as error:
        raise TrustError(f"{error} Then add --trust-torchscript.") from error
    if as_json:
        print_json([card.summary() for card in imported])
        return
    for card in imported:
        knots = ", ".join(f"{knot:g}" for knot in card.info.strength.knots)
        told = f", trained for the strengths {knots}" if len(card.info.strength.knots) > 1 else ""
        typer.echo(f"{card.info.id} is ready: {card.info.title}{told}")


# --- doctor and demo ------------------------------------------------------------------------


@app.command()
def doctor(
    as_json: Json = False,
    device: Device = _ENHANCE.device,
    precision: Precision = _ENHANCE.precision,
    debug: Debug = False,
) -> None:
    """Check this computer, and enhance a test image."""
    from napari_cellenhance.workflows import doctor as surgery

    with ProgressLine(as_json) as line:
        found = surgery.run(device=device, precision=precision, on_progress=line.show)
    if as_json:
        print_json(found.to_dict())
    else:
        topic = ""
        for finding in found.findings:
            if finding.topic != topic:
                topic = finding.topic
                typer.echo(topic)
            mark = "!!" if finding.is_problem else "  "
            typer.echo(f"{mark} {finding.name:<20} {finding.value}")
            if finding.advice:
                typer.echo(f"   {'':<20} → {finding.advice}")
        n = len(found.problems)
        typer.echo("All is well." if not n else f"{n} problem{'s' if n > 1 else ''}, marked with !!")
    leave(is_failed=not found.is_healthy)


@app.command()
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


# --- train ----------------------------------------------------------------------------------


@train.command("nunet")
def train_nunet(
    data: Annotated[Path, typer.Argument(help="JSON list of image sources, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, card and curves; made if missing.")],
    perception: Annotated[
        str,
        typer.Option(
            help="Perceptual network: squeezenet or torchvision (its VGG-19), both fetched by torchvision; a file of "
            "either, or of a distilled VGG-19 (.safetensors); random (tests); none learns from labels alone."
        ),
    ] = _TRAIN.perception,
    teach: Annotated[
        Literal["images", "labels", "both"],
        typer.Option(help="What to learn from: images alone, their labels, or both."),
    ] = _TRAIN.teach,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of label images that show another morphology. [default: labels, or blobs]"),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="What the paths in the JSON are relative to.")] = None,
    object_diameter: Annotated[float | None, typer.Option(help="For a folder: size of an object, in pixels.")] = None,
    dark: Annotated[bool, typer.Option("--dark/--bright", help="For a folder: objects are dark.")] = (
        _TRAIN.objects_are_dark
    ),
    model_id: Annotated[str, typer.Option("--id", help="Name of the model in files and commands.")] = _TRAIN.model_id,
    title: Annotated[str, typer.Option(help="Name of the model as people read it.")] = _TRAIN.title,
    init_from: Annotated[str | None, typer.Option(help="Model to fine-tune.")] = _TRAIN.init_from,
    norm: Annotated[
        Literal["frozen", "instance"],
        typer.Option(help="Norms of a new network: statistics of the training data, or (published) of each image."),
    ] = _TRAIN.norm,
    strength: Annotated[
        float | None, typer.Option(help="Train one fixed strength. [default: one network for all]")
    ] = _TRAIN.strength,
    style_groups: Annotated[int, typer.Option(min=1, help="Groups of mask shapes.")] = _TRAIN.style_groups,
    n_masks: Annotated[int, typer.Option(min=1, help="Masks in the style bank.")] = _TRAIN.n_masks,
    validation_fraction: Annotated[float, typer.Option(help="Share of images kept for validation.")] = (
        _TRAIN.validation_fraction
    ),
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = _TRAIN.n_steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per update.")] = _TRAIN.batch_size,
    crop: Annotated[int, typer.Option(min=1, help="Side of a crop, in pixels.")] = _TRAIN.crop_px,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = _TRAIN.learning_rate,
    validate_every: Annotated[int, typer.Option(min=1, help="Updates between validations.")] = _TRAIN.validate_every,
    patience: Annotated[int, typer.Option(min=0, help="Stop after so many validations without gain; 0: never.")] = (
        _TRAIN.patience
    ),
    average: Annotated[float, typer.Option(help="Decay of the running average of the weights; 0: none.")] = (
        _TRAIN.average
    ),
    keep: Annotated[Literal["best", "last"], typer.Option(help="Weights to keep, by validation.")] = _TRAIN.keep,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = _TRAIN.seed,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda or auto.")] = _TRAIN.device,
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Arithmetic.")] = "auto",
    stop_after: Annotated[int, typer.Option(min=0, help="End early, at this update of the schedule; 0: never.")] = (
        _TRAIN.stop_after
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = _TRAIN.resume,
    install: Annotated[bool, typer.Option(help="List the model with the others when it is done.")] = _TRAIN.install,
    more: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A finer setting.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a NU-Net; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train import run

    request = TrainRequest(
        data=data, out=out, perception=perception, teach=teach, masks=masks, data_root=data_root,
        object_diameter_px=object_diameter, objects_are_dark=dark, model_id=model_id, title=title,
        init_from=init_from, norm=norm, strength=strength, style_groups=style_groups, n_masks=n_masks,
        validation_fraction=validation_fraction, n_steps=steps, batch_size=batch_size, crop_px=crop,
        learning_rate=learning_rate, validate_every=validate_every, patience=patience, average=average, keep=keep,
        stop_after=stop_after, seed=seed, device=device, precision=precision, resume=resume, install=install,
        recipe_options=parse_settings(more or []),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        typer.echo(f"model:   {result.model_id}{'' if install else ' (not installed)'}")
        typer.echo(f"weights: {result.weights}")
        typer.echo(f"card:    {result.card}")
        typer.echo(f"curves:  {result.history}")
        typer.echo(f"best at step {result.best_step} (validation loss {result.best_total:.4g}); {result.stopped}")
    leave(is_stopped=is_stopped)


# --- evaluate -------------------------------------------------------------------------------


@evaluate.command("nunet")
def evaluate_nunet(
    data: Annotated[
        list[Path], typer.Argument(help="JSON list(s) of labelled, held-out images, or folders of images and labels.")
    ],
    data_root: Annotated[Path | None, typer.Option(help="What the paths in the JSON are relative to.")] = None,
    tune: Annotated[
        list[Path] | None,
        typer.Option(help="Where thresholds are chosen, like DATA. [default: on the other images of the set]"),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="ID=STRENGTH",
            help="A filter to score; can be given again. dog=size follows the objects. [default: those of the paper]",
        ),
    ] = None,
    max_images: Annotated[int, typer.Option(min=0, help="Images per source; 0 takes all.")] = _EVALUATE.max_images,
    max_tune_images: Annotated[int, typer.Option(min=0, help="To choose on, per source.")] = _EVALUATE.max_tune_images,
    noise: Annotated[bool, typer.Option(help="Score the images with three levels of noise as well.")] = True,
    quick: Annotated[bool, typer.Option(help="Few images and one level of noise, for a first look.")] = False,
    dark: Annotated[bool, typer.Option(help="For folders: objects are dark on bright ground.")] = False,
    diameter: Annotated[float | None, typer.Option(help="For folders with points: object diameter in px.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images chosen, and of the noise.")] = _EVALUATE.seed,
    device: Device = _EVALUATE.device,
    precision: Precision = "auto",
    gate: Annotated[bool, typer.Option(help="Exit with 1 where a model is below the raw image.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write tables (JSON, CSV) and text.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Contrast, detection and segmentation with each filter beside the raw image, as in the NU-Net paper."""
    from napari_cellenhance.workflows.evaluate import as_quick, run, save, to_markdown, worse_than_raw

    request = EvaluateRequest(
        data=tuple(data), tune=tuple(tune or ()), data_root=data_root,
        filters=tuple(_parse_filter(word) for word in filters) if filters else _EVALUATE.filters,
        noise=_EVALUATE.noise if noise else (), max_images=max_images, max_tune_images=max_tune_images, seed=seed,
        objects_are_dark=dark, object_diameter_px=diameter, device=device, precision=precision,
    )  # fmt: skip
    if quick:
        request = as_quick(request)
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result.rows:
        typer.echo(to_markdown(result))
        if out is not None:
            save(result, request, out)
    worse = worse_than_raw(result)
    for sentence in worse if gate else ():
        complain(sentence)
    leave(is_stopped=not result.is_complete, is_failed=gate and bool(worse))


def _parse_filter(word: str) -> tuple[str, float | None]:
    """Read ``ID=STRENGTH``; ``size`` stands for a strength that follows the size of the objects.

    >>> _parse_filter("nunet=5"), _parse_filter("dog=size")
    (('nunet', 5.0), ('dog', None))
    """
    name, is_given, value = word.partition("=")
    if name and value == "size":
        return name, None
    try:
        strength = float(value)
    except ValueError:
        is_given = ""
        strength = 0.0
    if not (name and is_given):
        raise ParameterError(f"--filter is {word!r}; expected ID=STRENGTH, for example nunet=5")
    return name, strength
