"""``cellenhance evaluate paint``: how good after how many seconds of learning from strokes."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_cellenhance.cli.options import DataRoot, LabelledData, OwnDropout, ResultFolder
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
from napari_cellenhance.workflows.evaluate_paint import EvaluatePaintRequest

__all__ = ["evaluate_paint"]

_PAINT = EvaluatePaintRequest()
_TIMES = ",".join(f"{seconds:g}" for seconds in _PAINT.times_s)


def evaluate_paint(
    data: LabelledData,
    out: ResultFolder,
    data_root: DataRoot = None,
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
    dropout: OwnDropout = _PAINT.dropout,
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
        batch_size=batch_size, learning_rate=learning_rate, dropout=dropout, device=device, precision=precision,
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
