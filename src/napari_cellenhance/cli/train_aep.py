"""``cellenhance train aep``: segmenting networks with learned filters in front."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_cellenhance.cli.options import (
    Average,
    CropsPerUpdate,
    DataRoot,
    FinerSettings,
    Install,
    KeepWeights,
    ModelId,
    OwnDropout,
    Patience,
    Resume,
    RunFolder,
    Seed,
    Steps,
    StopAfter,
    TimeLimit,
    Title,
    TrainDevice,
    ValidateEvery,
)
from napari_cellenhance.cli.words import Debug, Precision, ProgressLine, Quiet, leave, parse_settings, stoppable
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.train_aep import AEPRequest, AEPResult

__all__ = ["train_aep"]

_TRAIN = AEPRequest(data="", out="")


def train_aep(
    data: Annotated[
        Path, typer.Argument(help="JSON list of labelled sources, or a folder of images with labels beside them.")
    ],
    out: RunFolder,
    data_root: DataRoot = None,
    model_id: ModelId = _TRAIN.model_id,
    title: Title = _TRAIN.title,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="VALUE=NAME", help="Name of a class, such as 2=nucleus. Can be given again."),
    ] = None,
    init_from: Annotated[str | None, typer.Option(help="Segmenting model to start from.")] = _TRAIN.init_from,
    network: Annotated[
        Literal["aep", "light", "unet"], typer.Option(help="AEP, its second network alone, or a plain U-Net.")
    ] = _TRAIN.network,
    ensemble: Annotated[
        Literal["none", "fixed", "auto"], typer.Option(help="Weights of the ensemble; auto learns them (AWEL).")
    ] = _TRAIN.ensemble,
    source: Annotated[
        Literal["penultimate", "logits", "softmax", "argmax"], typer.Option(help="Maps that serve as filters.")
    ] = _TRAIN.source,
    translation: Annotated[
        Literal["code", "paper"], typer.Option(help="How a filter acts: as in the authors' code, or in the formula.")
    ] = _TRAIN.translation,
    filters_per_class: Annotated[int, typer.Option(min=0, max=5)] = _TRAIN.filters_per_class,
    dropout: OwnDropout = _TRAIN.dropout,
    steps: Steps = _TRAIN.n_steps,
    time: TimeLimit = (_TRAIN.time_limit_s),
    batch_size: CropsPerUpdate = _TRAIN.batch_size,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop, in pixels; a multiple of 8.")] = _TRAIN.crop_px,
    learning_rate: Annotated[float, typer.Option(help="Of Adam; 0: 1e-3, from a model 1e-4.")] = _TRAIN.learning_rate,
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
    """Train AEP + AWEL on labels or strokes; Ctrl-C stops and keeps the best weights so far."""
    from napari_cellenhance.workflows.train_aep import run

    request = AEPRequest(
        data=data, out=out, data_root=data_root, model_id=model_id, title=title, class_names=_parse_classes(class_),
        init_from=init_from, network=network, ensemble=ensemble, source=source, translation=translation,
        filters_per_class=filters_per_class, dropout=dropout, n_steps=steps, time_limit_s=time, batch_size=batch_size,
        crop_px=crop, learning_rate=learning_rate, validate_every=validate_every, patience=patience, average=average,
        keep=keep, seed=seed, device=device, precision=precision, stop_after=stop_after, resume=resume, install=install,
        recipe_options=parse_settings(more or []),
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if not quiet:
        for sentence in _told(result, install):
            typer.echo(sentence)
    leave(is_stopped=is_stopped)


def _parse_classes(words: list[str] | None) -> dict[int, str]:
    """Read ``VALUE=NAME``.

    >>> _parse_classes(["1=ground", "2=nucleus"])
    {1: 'ground', 2: 'nucleus'}
    """
    names: dict[int, str] = {}
    for word in words or []:
        value, _, name = word.partition("=")
        if not (value.isdigit() and int(value) > 0 and name.strip()):
            raise ParameterError(f"--class is {word!r}; expected VALUE=NAME, for example 2=nucleus")
        names[int(value)] = name.strip()
    return names


def _told(result: AEPResult, is_installed: bool) -> tuple[str, ...]:
    kept = {
        "images": "on images that were kept aside", "blocks": "on paint that was kept aside",
        "none": "on the paint it learned from: too little to keep some aside",
    }  # fmt: skip
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in result.weights_of_branches.items())
    return (
        f"model:   {result.model_id}{'' if is_installed else ' (not installed)'}",
        f"weights: {result.weights}",
        f"card:    {result.card}",
        f"curves:  {result.history}",
        f"mean IoU {result.mean_iou:.3f} {kept[result.held_out]}, at update {result.best_step}; {result.stopped}",
        f"weights of the ensemble: {weights}",
    )
