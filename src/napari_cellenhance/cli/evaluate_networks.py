"""``cellenhance evaluate aep`` and ``cellenhance evaluate paint``: segmentation networks on labelled images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.words import (
    Debug,
    Device,
    Precision,
    ProgressLine,
    Quiet,
    leave,
    parse_whole,
    parse_words,
    stoppable,
)  # fmt: skip
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.evaluate_aep import EvaluateAEPRequest
from napari_cellenhance.workflows.evaluate_n2v import EvaluateN2VRequest
from napari_cellenhance.workflows.evaluate_paint import EvaluatePaintRequest

__all__ = ["aep", "n2v", "paint"]

# The one declaration of each default is in the requests; an empty one hands them over.
_AEP = EvaluateAEPRequest()
_N2V = EvaluateN2VRequest()
_PAINT = EvaluatePaintRequest()
_TIMES = ",".join(f"{seconds:g}" for seconds in _PAINT.times_s)

_Data = Annotated[
    list[Path], typer.Argument(help="JSON list(s) of labelled images, or folders of images and labels or masks.")
]
_Out = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Results; made if missing. What is there already is not computed again.")
]
_DataRoot = Annotated[Path | None, typer.Option(help="What the paths in the JSON are relative to.")]


def aep(
    data: _Data,
    out: _Out,
    data_root: _DataRoot = None,
    model: Annotated[
        str | None, typer.Option(help="Score this segmenting model on all images instead; nothing is trained.")
    ] = None,
    max_images: Annotated[int, typer.Option(min=0, help="Images per source; 0 takes all.")] = _AEP.max_images,
    tile: Annotated[
        int, typer.Option(min=0, help="Planes with a mask are cut into tiles of this side, in pixels; 0: whole.")
    ] = _AEP.tile_px,
    border: Annotated[bool, typer.Option(help="Borders of labelled objects are a third class.")] = _AEP.has_border,
    stretch: Annotated[bool, typer.Option(help="Stretch each image between its percentiles.")] = _AEP.is_stretched,
    n_folds: Annotated[int, typer.Option("--folds", min=2, help="Parts of the cross-validation.")] = _AEP.n_folds,
    only_folds: Annotated[str, typer.Option("--only-folds", help="Some of them, from 0: 0,1. [default: all]")] = "",
    seeds: Annotated[str, typer.Option(help="Each trains again: 0,1,2.")] = "0",
    degradations: Annotated[
        str, typer.Option(help="Kinds of images: as acquired, noise, contrast, blur; between commas.")
    ] = ",".join(_AEP.degradations),
    networks: Annotated[
        str,
        typer.Option(
            help="unet, light, aep, aep-fixed, aep-auto, aep-logits, aep-softmax, aep-argmax; between commas."
        ),
    ] = ",".join(_AEP.variants),
    prefilters: Annotated[
        str, typer.Option(help="Classical filters before a U-Net, between commas, such as median 3; all takes all.")
    ] = "",
    steps: Annotated[int, typer.Option(min=1, help="Updates of each training.")] = _AEP.n_steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per update.")] = _AEP.batch_size,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop, in pixels; a multiple of 8.")] = _AEP.crop_px,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = _AEP.learning_rate,
    schedule: Annotated[Literal["constant", "cosine"], typer.Option(help="Of the learning rate.")] = _AEP.schedule,
    validate_every: Annotated[int, typer.Option(min=1, help="Updates between validations.")] = _AEP.validate_every,
    augment: Annotated[bool, typer.Option(help="Turn, flip, and change the contrast of crops.")] = _AEP.is_augmented,
    min_object: Annotated[int, typer.Option(min=0, help="Smallest object, in pixels.")] = _AEP.min_object_px,
    device: Device = _AEP.device,
    precision: Precision = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Cross-validate AEP + AWEL beside a U-Net and classical filters, as in its paper; Ctrl-C keeps what is done."""
    from napari_cellenhance.workflows.evaluate_aep import run, save, score_model, to_markdown

    request = EvaluateAEPRequest(
        data=tuple(data), out=out, data_root=data_root, max_images=max_images, tile_px=tile, has_border=border,
        is_stretched=stretch, n_folds=n_folds, folds=parse_whole(only_folds, "--only-folds"),
        seeds=parse_whole(seeds, "--seeds"), degradations=parse_words(degradations), variants=parse_words(networks),
        prefilters=_all_prefilters() if prefilters == "all" else parse_words(prefilters), n_steps=steps,
        batch_size=batch_size, crop_px=crop, learning_rate=learning_rate, schedule=schedule,
        validate_every=validate_every, is_augmented=augment, min_object_px=min_object, device=device,
        precision=precision,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        if model is None:
            result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        else:
            result = score_model(model, request, on_progress=line.show, is_cancelled=is_cancelled)
            if result.cells:
                save(result, replace(request, variants=()))
    if result.cells:
        typer.echo(to_markdown(result))
    leave(is_stopped=not result.is_complete)


def paint(
    data: _Data,
    out: _Out,
    data_root: _DataRoot = None,
    start: Annotated[str | None, typer.Option(metavar="MODEL", help="Segmenting model to fine-tune.")] = None,
    n_images: Annotated[int, typer.Option("--images", min=1, help="Painted images per source.")] = _PAINT.n_images,
    n_unseen: Annotated[int, typer.Option("--unseen", min=0, help="Others that are scored.")] = _PAINT.n_unseen,
    border: Annotated[bool, typer.Option(help="Borders of labelled objects are a third class.")] = _PAINT.has_border,
    stretch: Annotated[bool, typer.Option(help="Stretch each image between its percentiles.")] = _PAINT.is_stretched,
    amounts: Annotated[str, typer.Option(help="Of paint: few, some, many; between commas.")] = ",".join(_PAINT.amounts),
    width: Annotated[int, typer.Option(min=1, help="Of a stroke, in pixels.")] = _PAINT.width_px,
    length: Annotated[float, typer.Option(min=1, help="Of a stroke, in pixels.")] = _PAINT.length_px,
    seeds: Annotated[str, typer.Option(help="Each paints and trains again: 0,1,2.")] = "0",
    methods: Annotated[str, typer.Option(help="instant, aep-tuned, aep, unet, forest; between commas.")] = ",".join(
        _PAINT.methods
    ),
    times: Annotated[str, typer.Option(help="Seconds of training to look at, rising: 1,5,20.")] = _TIMES,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop, in pixels; a multiple of 8.")] = _PAINT.crop_px,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per update.")] = _PAINT.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = _PAINT.learning_rate,
    device: Device = _PAINT.device,
    precision: Precision = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score how good a segmentation is after how many seconds of learning from strokes; Ctrl-C keeps what is done."""
    from napari_cellenhance.workflows.evaluate_paint import open_start, run, to_markdown

    request = EvaluatePaintRequest(
        data=tuple(data), out=out, data_root=data_root, n_images=n_images, n_unseen=n_unseen, has_border=border,
        is_stretched=stretch, amounts=parse_words(amounts), width_px=width, length_px=length,
        seeds=parse_whole(seeds, "--seeds"), methods=parse_words(methods), times_s=_seconds(times), crop_px=crop,
        batch_size=batch_size, learning_rate=learning_rate, device=device, precision=precision,
    )  # fmt: skip
    module = None if start is None else open_start(start)
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, start=module, on_progress=line.show, is_cancelled=is_cancelled)
    if result.cells:
        typer.echo(to_markdown(result))
    leave(is_stopped=not result.is_complete)


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in parse_words(text))
    except ValueError:
        raise ParameterError(f"--times is {text!r}; expected seconds between commas, such as 1,5,20") from None


def _all_prefilters() -> tuple[str, ...]:
    from napari_cellenhance.core.prefilters import PREFILTERS

    return tuple(PREFILTERS)


def n2v(
    data: Annotated[Path, typer.Argument(help="JSON list of noisy and clean images, or a folder with both.")],
    out: _Out,
    data_root: _DataRoot = None,
    methods: Annotated[str, typer.Option(help="Between commas; ids of denoisers count too.")] = ",".join(_N2V.methods),
    steps: Annotated[int, typer.Option(min=1, help="Updates of each training.")] = _N2V.training.n_steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Patches per update.")] = _N2V.training.batch_size,
    patch: Annotated[int, typer.Option(min=8, help="Side of a patch, in pixels.")] = _N2V.training.patch_px,
    percent: Annotated[float, typer.Option(help="Share of blind spots, in percent.")] = _N2V.training.percent,
    depth: Annotated[int, typer.Option(min=1, help="Of the networks that start from random weights.")] = (
        _N2V.training.depth
    ),
    learning_rate: Annotated[float, typer.Option(help="Of Adam; 0: 1e-3.")] = _N2V.training.learning_rate,
    validate_every: Annotated[int, typer.Option(min=1, help="Updates between validations.")] = (
        _N2V.training.validate_every
    ),
    average: Annotated[bool, typer.Option("--average", help="Mean over eight turned and flipped versions.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = _N2V.training.seed,
    threads: Annotated[int, typer.Option(min=0, help="To train with; 0: as torch likes.")] = _N2V.training.n_threads,
    device: Device = "cpu",
    precision: Precision = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score denoisers that learn from the noisy images alone, beside classical filters; clean ones only score."""
    from napari_cellenhance.workflows.evaluate_n2v import run, save, to_markdown

    training = replace(
        _N2V.training, n_steps=steps, batch_size=batch_size, patch_px=patch, percent=percent, depth=depth,
        learning_rate=learning_rate, validate_every=validate_every, seed=seed, n_threads=threads, device=device,
        precision=precision,
    )  # fmt: skip
    request = EvaluateN2VRequest(
        data=data, out=out, data_root=data_root, methods=tuple(word.strip() for word in methods.split(",")),
        training=training, symmetries=8 if average else 1,
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
