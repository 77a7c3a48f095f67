"""``cellenhance evaluate aep``: a cross-validation of AEP on labelled images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import DataRoot, LabelledData, ResultFolder
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
from napari_cellenhance.workflows.evaluate_aep import EvaluateAEPRequest

__all__ = ["evaluate_aep"]

_AEP = EvaluateAEPRequest()


def evaluate_aep(
    data: LabelledData,
    out: ResultFolder,
    data_root: DataRoot = None,
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
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="While training; 0.5 is published.")] = _AEP.dropout,
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
        batch_size=batch_size, crop_px=crop, learning_rate=learning_rate, dropout=dropout,
        schedule=schedule, validate_every=validate_every, is_augmented=augment, min_object_px=min_object, device=device,
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


def _all_prefilters() -> tuple[str, ...]:
    from napari_cellenhance.core.prefilters import PREFILTERS

    return tuple(PREFILTERS)
