"""``cellenhance evaluate voidseg``: its schemes on noisy images with few labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    CropsPerUpdate,
    DataRoot,
    Patience,
    ResultFolder,
    Schedule,
    StepsOfEach,
    ValidateEvery,
)
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
from napari_cellenhance.workflows.evaluate_voidseg import EvaluateVoidSegRequest

__all__ = ["evaluate_voidseg"]

_EVALUATE = EvaluateVoidSegRequest()
_SIGMAS = ",".join(f"{sigma:g}" for sigma in _EVALUATE.sigmas)


def evaluate_voidseg(
    data: Annotated[Path, typer.Argument(help="JSON list with a source of images to learn from and one to test.")],
    out: ResultFolder,
    data_root: DataRoot = None,
    test_source: Annotated[str, typer.Option(help="Name of the source to test on.")] = _EVALUATE.test_source,
    max_train: Annotated[int, typer.Option(min=0, help="Images to cut patches from; 0: all.")] = _EVALUATE.max_train,
    max_test: Annotated[int, typer.Option(min=0, help="Images to test on; 0: all.")] = _EVALUATE.max_test,
    patch: Annotated[int, typer.Option(min=16, help="Side of a patch that is labelled or not, in pixels.")] = (
        _EVALUATE.patch_px
    ),
    noise: Annotated[str, typer.Option(help="Standard deviations in grey values of 0…255: 10,20,40.")] = _SIGMAS,
    labelled: Annotated[str, typer.Option(help="Labelled patches, rising: 2,8,32.")] = ",".join(
        map(str, _EVALUATE.n_labelled)
    ),
    methods: Annotated[
        str,
        typer.Option(
            help="baseline, sequential, finetune, finetune-sequential, stardist, stardist-sequential; between commas."
        ),
    ] = ",".join(_EVALUATE.methods),
    seeds: Annotated[str, typer.Option(help="Each draws other patches and weights: 0,1,2.")] = ",".join(
        map(str, _EVALUATE.seeds)
    ),
    normalization: Annotated[
        Literal["paper", "image"],
        typer.Option(help="U-Nets see all images on one scale, as in the paper, or each between its own percentiles."),
    ] = _EVALUATE.normalization,
    steps: StepsOfEach = _EVALUATE.n_steps,
    denoiser_steps: Annotated[int, typer.Option(min=1, help="Updates of each denoiser.")] = _EVALUATE.denoiser_steps,
    depth: Annotated[int, typer.Option(min=1, help="How often the U-Nets halve the resolution.")] = _EVALUATE.depth,
    width: Annotated[int, typer.Option(min=1, help="Maps of the U-Nets at full resolution.")] = _EVALUATE.width,
    crop: Annotated[int, typer.Option(min=16, help="Side of a crop of a patch, in pixels.")] = _EVALUATE.crop_px,
    batch_size: CropsPerUpdate = _EVALUATE.batch_size,
    schedule: Schedule = _EVALUATE.schedule,
    validate_every: ValidateEvery = (_EVALUATE.validate_every),
    patience: Patience = (_EVALUATE.patience),
    device: Device = _EVALUATE.device,
    precision: Precision = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score the schemes of VoidSeg on noisy images with few labels, as in its paper; Ctrl-C keeps what is done."""
    from napari_cellenhance.workflows.evaluate_voidseg import run, to_markdown

    request = EvaluateVoidSegRequest(
        data=data, out=out, data_root=data_root, test_source=test_source, max_train=max_train, max_test=max_test,
        patch_px=patch, sigmas=_numbers(noise, "--noise"), n_labelled=parse_whole(labelled, "--labelled"),
        methods=parse_words(methods), seeds=parse_whole(seeds, "--seeds"),
        normalization=normalization, n_steps=steps, denoiser_steps=denoiser_steps,
        depth=depth, width=width, crop_px=crop, batch_size=batch_size,
        schedule=schedule, validate_every=validate_every, patience=patience, device=device, precision=precision,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if result.cells:
        typer.echo(to_markdown(result))
    leave(is_stopped=not result.is_complete)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    """Read numbers between commas.

    >>> _numbers("10, 20", "--noise")
    (10.0, 20.0)
    """
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ParameterError(f"{option} is {text!r}; expected numbers between commas, such as 10,20") from None
