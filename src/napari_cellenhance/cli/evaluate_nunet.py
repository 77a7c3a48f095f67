"""``cellenhance evaluate nunet``: filters beside the raw image, as in the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.words import Debug, Device, Precision, ProgressLine, Quiet, complain, leave, stoppable
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.evaluate import EvaluateRequest

__all__ = ["evaluate_nunet"]

_EVALUATE = EvaluateRequest()


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
