"""``cellenhance evaluate n2v``: denoisers beside classical filters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_cellenhance.cli.options import DataRoot, ResultFolder
from napari_cellenhance.cli.words import Debug, Device, Precision, ProgressLine, Quiet, leave, stoppable
from napari_cellenhance.workflows.evaluate_n2v import EvaluateN2VRequest

__all__ = ["evaluate_n2v"]

_N2V = EvaluateN2VRequest()


def evaluate_n2v(
    data: Annotated[Path, typer.Argument(help="JSON list of noisy and clean images, or a folder with both.")],
    out: ResultFolder,
    data_root: DataRoot = None,
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
